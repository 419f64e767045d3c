//! What applications ask for.

use tonic::{Request, Response, Status, async_trait};
use votum_proto::names::Gtid;
use votum_proto::v1;
use votum_proto::v1::coordinator_server::Coordinator;
use votum_proto::v1::get_transaction_request::By;

use super::outcome::outcome;
use super::{errors, translate};
use crate::config::{Config, Limits, in_ms};
use crate::driver::request::{self as driver, DriverHandle, RequestError};

/// Service `votum.v1.Coordinator`. Everything is done by the driver: a handler only translates and waits, so
/// that one which is dropped (the client hung up, its deadline passed) stops nothing.
pub struct CoordinatorService {
    driver: DriverHandle,
    limits: Limits,
    participants: Vec<v1::ParticipantAddress>,
}

impl CoordinatorService {
    /// A service that asks `driver`, within the bounds of `config`.
    pub fn new(driver: DriverHandle, config: &Config) -> Self {
        let address = |participant: &crate::config::ParticipantConfig| v1::ParticipantAddress {
            participant: participant.name.to_string(),
            address: participant.agent.to_string(),
        };
        Self {
            driver,
            limits: config.limits.clone(),
            participants: config.participants.iter().map(address).collect(),
        }
    }

    async fn outcome_of(&self, by: Option<By>) -> Result<(Gtid, driver::Outcome), RequestError> {
        match by {
            Some(By::Gtid(text)) => {
                let gtid: Gtid = translate::name(&text)?;
                let outcome = self.driver.ask(|answer| driver::Request::Get(gtid.clone(), answer)).await?;
                Ok((gtid, outcome))
            }
            Some(By::Key(v1::IdempotencyKey { client_name: client, key })) => {
                self.driver.ask(|answer| driver::Request::GetByKey { client, key, answer }).await
            }
            None => Err(RequestError::Invalid("name a transaction by its gtid or by its key".into())),
        }
    }
}

#[async_trait]
impl Coordinator for CoordinatorService {
    async fn begin(&self, request: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        let refused = |error| errors::status(&error, "");
        let begin = translate::begin(request.into_inner(), &self.limits).map_err(refused)?;
        let timeout = begin.timeout;
        let begun = self.driver.ask(|answer| driver::Request::Begin(begin, answer)).await.map_err(refused)?;
        Ok(Response::new(v1::BeginResponse {
            gtid: begun.gtid.to_string(),
            secret: begun.secret,
            participants: self.participants.clone(),
            timeout_ms: in_ms(timeout),
            attached: Vec::new(),
        }))
    }

    async fn commit(
        &self,
        request: Request<v1::CommitRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let request = request.into_inner();
        let gtid = request.gtid.clone();
        let refused = |error| errors::status(&error, &gtid);
        let commit = translate::commit(request).map_err(refused)?;
        let decided =
            self.driver.ask(|answer| driver::Request::Commit(commit, answer)).await.map_err(refused)?;
        Ok(Response::new(v1::CommitResponse { outcome: Some(outcome(decided)) }))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        let v1::RollbackRequest { gtid: text, secret, reason } = request.into_inner();
        let refused = |error| errors::status(&error, &text);
        let gtid: Gtid = translate::name(&text).map_err(refused)?;
        let reason = translate::reason(&reason);
        let rollback = |answer| driver::Request::Rollback { gtid, secret, reason, answer };
        let ended = self.driver.ask(rollback).await.map_err(refused)?;
        Ok(Response::new(v1::RollbackResponse { outcome: Some(outcome(ended)) }))
    }

    async fn get_transaction(
        &self,
        request: Request<v1::GetTransactionRequest>,
    ) -> Result<Response<v1::GetTransactionResponse>, Status> {
        let by = request.into_inner().by;
        let about = match &by {
            Some(By::Gtid(gtid)) => gtid.clone(),
            Some(By::Key(_)) | None => String::new(),
        };
        let (gtid, found) = self.outcome_of(by).await.map_err(|error| errors::status(&error, &about))?;
        Ok(Response::new(v1::GetTransactionResponse {
            gtid: gtid.to_string(),
            outcome: Some(outcome(found)),
        }))
    }
}
