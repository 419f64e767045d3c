//! What operators ask for. The driver answers in the wire's own words: they are for people's eyes.

use tonic::{Request, Response, Status, async_trait};
use votum_proto::names::Gtid;
use votum_proto::v1;
use votum_proto::v1::operator_server::Operator;

use super::outcome::{departures, outcome};
use super::{errors, translate};
use crate::driver::request::{self as driver, Answer, DriverHandle, RequestError};

/// Service `votum.v1.Operator`.
pub struct OperatorService {
    driver: DriverHandle,
}

impl OperatorService {
    /// A service that asks `driver`.
    pub fn new(driver: DriverHandle) -> Self {
        Self { driver }
    }

    /// Asks the driver; `about` is the gtid that the operator named, if any.
    async fn ask<T>(
        &self,
        about: &str,
        make: impl FnOnce(Answer<T>) -> driver::Request,
    ) -> Result<Response<T>, Status> {
        let answered = self.driver.ask(make).await;
        answered.map(Response::new).map_err(|error| errors::status(&error, about))
    }
}

fn refused(error: &RequestError) -> Status {
    errors::status(error, "")
}

#[async_trait]
impl Operator for OperatorService {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        self.ask("", driver::Request::Status).await
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Result<Response<v1::ListTransactionsResponse>, Status> {
        let request = request.into_inner();
        self.ask("", |answer| driver::Request::List(request, answer)).await
    }

    async fn show_transaction(
        &self,
        request: Request<v1::ShowTransactionRequest>,
    ) -> Result<Response<v1::ShowTransactionResponse>, Status> {
        let text = request.into_inner().gtid;
        let gtid: Gtid = translate::name(&text).map_err(|error| refused(&error))?;
        let shown = self.driver.ask(|answer| driver::Request::Show(gtid, answer)).await;
        let (shown, ended) = shown.map_err(|error| errors::status(&error, &text))?;
        Ok(Response::new(v1::ShowTransactionResponse { outcome: Some(outcome(ended)), ..shown }))
    }

    async fn list_in_doubt(
        &self,
        request: Request<v1::ListInDoubtRequest>,
    ) -> Result<Response<v1::ListInDoubtResponse>, Status> {
        let (participant, wait) = translate::in_doubt(request.get_ref()).map_err(|error| refused(&error))?;
        self.ask("", |answer| driver::Request::InDoubt { participant, wait, answer }).await
    }

    async fn resolve(
        &self,
        request: Request<v1::ResolveRequest>,
    ) -> Result<Response<v1::ResolveResponse>, Status> {
        let resolve = translate::resolve(request.into_inner()).map_err(|error| refused(&error))?;
        let gtid = resolve.gid.gtid.to_string();
        self.ask(&gtid, |answer| driver::Request::Resolve(resolve, answer)).await
    }

    async fn acknowledge(
        &self,
        request: Request<v1::AcknowledgeRequest>,
    ) -> Result<Response<v1::AcknowledgeResponse>, Status> {
        let acknowledge = translate::acknowledge(request.into_inner()).map_err(|error| refused(&error))?;
        let (gtid, applied) = (acknowledge.gtid.to_string(), acknowledge.apply);
        let listed = self.driver.ask(|answer| driver::Request::Acknowledge(acknowledge, answer)).await;
        let departures = departures(&listed.map_err(|error| errors::status(&error, &gtid))?);
        Ok(Response::new(v1::AcknowledgeResponse { departures, applied }))
    }

    async fn acknowledge_unproven(
        &self,
        request: Request<v1::AcknowledgeUnprovenRequest>,
    ) -> Result<Response<v1::AcknowledgeUnprovenResponse>, Status> {
        let order = translate::acknowledge_unproven(request.into_inner()).map_err(|error| refused(&error))?;
        self.ask("", |answer| driver::Request::AcknowledgeUnproven(order, answer)).await
    }

    async fn write_off(
        &self,
        request: Request<v1::WriteOffRequest>,
    ) -> Result<Response<v1::WriteOffResponse>, Status> {
        let write_off = translate::write_off(request.into_inner()).map_err(|error| refused(&error))?;
        self.ask("", |answer| driver::Request::WriteOff(write_off, answer)).await
    }
}
