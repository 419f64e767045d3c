//! What applications ask for, each call on its own or many over one stream.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use votum_proto::calls::{Answer, Handler};
use votum_proto::names::{Gid, Gtid, ParticipantName};
use votum_proto::v1;
use votum_proto::v1::coordinator_server::Coordinator;
use votum_proto::v1::get_transaction_request::By;
use votum_proto::v1::{call, reply};

use super::outcome::outcome;
use super::{errors, translate};
use crate::config::{Config, Limits, in_ms};
use crate::driver::request::{self as driver, DriverHandle, RequestError};

/// Services `votum.v1.Coordinator` and `votum.v1.Calls`. Everything is done by the driver: a handler only translates and waits, so
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

    async fn open(&self, request: v1::BeginRequest) -> Result<v1::BeginResponse, Status> {
        let refused = |error| errors::status(&error, "");
        let begin = translate::begin(request, &self.limits).map_err(refused)?;
        let timeout = begin.timeout;
        let begun = self.driver.ask(|answer| driver::Request::Begin(begin, answer)).await.map_err(refused)?;
        Ok(v1::BeginResponse {
            gtid: begun.gtid.to_string(),
            secret: begun.secret,
            participants: self.participants.clone(),
            timeout_ms: in_ms(timeout),
            attached: begun.attached.into_iter().map(attached).collect(),
        })
    }

    async fn decide(&self, mut request: v1::CommitRequest) -> Result<v1::CommitResponse, Status> {
        let (gtid, next) = (request.gtid.clone(), request.next.take());
        let refused = |error| errors::status(&error, &gtid);
        let commit = translate::commit(request).map_err(refused)?;
        let decided =
            self.driver.ask(|answer| driver::Request::Commit(commit, answer)).await.map_err(refused)?;
        let next = match next {
            // Why it cannot be begun is told to a Begin.
            Some(next) => self.open(next).await.ok(),
            None => None,
        };
        Ok(v1::CommitResponse { outcome: Some(outcome(decided)), next })
    }

    async fn transact_whole(&self, request: v1::TransactRequest) -> Result<v1::TransactResponse, Status> {
        let refused = |error| errors::status(&error, "");
        let transact = translate::transact(request, &self.limits).map_err(refused)?;
        let done = self.driver.ask(|answer| driver::Request::Transact(transact, answer)).await;
        let driver::Transacted { gtid, outcome: ended, results, failed, decided_by } =
            done.map_err(refused)?;
        let decided_by = decided_by.map(|participant| participant.to_string()).unwrap_or_default();
        let (gtid, outcome) = (gtid.to_string(), Some(outcome(ended)));
        Ok(v1::TransactResponse { gtid, outcome, results, failed, decided_by })
    }

    async fn end(&self, request: v1::RollbackRequest) -> Result<v1::RollbackResponse, Status> {
        let v1::RollbackRequest { gtid: text, secret, reason } = request;
        let refused = |error| errors::status(&error, &text);
        let gtid: Gtid = translate::name(&text).map_err(refused)?;
        let reason = translate::reason(&reason);
        let rollback = |answer| driver::Request::Rollback { gtid, secret, reason, answer };
        let ended = self.driver.ask(rollback).await.map_err(refused)?;
        Ok(v1::RollbackResponse { outcome: Some(outcome(ended)) })
    }

    async fn find(&self, request: v1::GetTransactionRequest) -> Result<v1::GetTransactionResponse, Status> {
        let by = request.by;
        let about = match &by {
            Some(By::Gtid(gtid)) => gtid.clone(),
            Some(By::Key(_)) | None => String::new(),
        };
        let (gtid, found) = self.outcome_of(by).await.map_err(|error| errors::status(&error, &about))?;
        Ok(v1::GetTransactionResponse { gtid: gtid.to_string(), outcome: Some(outcome(found)) })
    }
}

fn attached((participant, gid): (ParticipantName, Gid)) -> v1::AttachedBranch {
    v1::AttachedBranch { participant: participant.to_string(), gid: gid.to_string() }
}

#[async_trait]
impl Coordinator for CoordinatorService {
    async fn begin(&self, request: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        self.open(request.into_inner()).await.map(Response::new)
    }

    async fn commit(
        &self,
        request: Request<v1::CommitRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        self.decide(request.into_inner()).await.map(Response::new)
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        self.end(request.into_inner()).await.map(Response::new)
    }

    async fn transact(
        &self,
        request: Request<v1::TransactRequest>,
    ) -> Result<Response<v1::TransactResponse>, Status> {
        self.transact_whole(request.into_inner()).await.map(Response::new)
    }

    async fn get_transaction(
        &self,
        request: Request<v1::GetTransactionRequest>,
    ) -> Result<Response<v1::GetTransactionResponse>, Status> {
        self.find(request.into_inner()).await.map(Response::new)
    }
}

impl Handler for CoordinatorService {
    fn call(self: &Arc<Self>, request: call::Request) -> Answer {
        let service = Arc::clone(self);
        Answer::One(match request {
            call::Request::Begin(request) => {
                Box::pin(async move { service.open(request).await.map(reply::Kind::Begin) })
            }
            call::Request::Commit(request) => {
                Box::pin(async move { service.decide(request).await.map(reply::Kind::Commit) })
            }
            call::Request::Rollback(request) => {
                Box::pin(async move { service.end(request).await.map(reply::Kind::Rollback) })
            }
            call::Request::GetTransaction(request) => {
                Box::pin(async move { service.find(request).await.map(reply::Kind::GetTransaction) })
            }
            call::Request::Transact(request) => {
                Box::pin(async move { service.transact_whole(request).await.map(reply::Kind::Transact) })
            }
            call::Request::Execute(_) => return Answer::not_served("by the participant's agent"),
        })
    }
}
