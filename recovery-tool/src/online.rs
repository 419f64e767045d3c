//! A running coordinator, over gRPC.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use votum_proto::address::Address;
use votum_proto::v1;
use votum_proto::v1::operator_client::OperatorClient;

use crate::failure::{Failure, innermost};

/// How long an answer may take beyond what the coordinator itself waits for agents.
const ANSWER: Duration = Duration::from_secs(10);

/// A running coordinator's operator service.
#[derive(Clone)]
pub(crate) struct Operator {
    address: Address,
    client: OperatorClient<Channel>,
}

impl Operator {
    /// One that connects when it is first asked, and again whenever it has to. The coordinator may keep an
    /// answer back for `wait`, because it asks agents first.
    pub(crate) fn new(address: &Address, wait: Duration) -> Result<Self, Failure> {
        Ok(Self::over(address, endpoint(address, wait)?.connect_lazy()))
    }

    fn over(address: &Address, channel: Channel) -> Self {
        // A list of many transactions is more than the library's default of 4 MiB.
        let client = OperatorClient::new(channel).max_decoding_message_size(usize::MAX);
        Self { address: address.clone(), client }
    }

    fn answered<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Failure> {
        answer.map(Response::into_inner).map_err(|status| Failure::answered(&self.address, &status))
    }

    pub(crate) async fn status(&mut self) -> Result<v1::GetStatusResponse, Failure> {
        let answer = self.client.get_status(v1::GetStatusRequest {}).await;
        self.answered(answer)
    }

    pub(crate) async fn list(
        &mut self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, Failure> {
        let answer = self.client.list_transactions(request).await;
        self.answered(answer)
    }

    pub(crate) async fn show(&mut self, gtid: String) -> Result<v1::ShowTransactionResponse, Failure> {
        let answer = self.client.show_transaction(v1::ShowTransactionRequest { gtid }).await;
        self.answered(answer)
    }

    pub(crate) async fn in_doubt(
        &mut self,
        request: v1::ListInDoubtRequest,
    ) -> Result<v1::ListInDoubtResponse, Failure> {
        let answer = self.client.list_in_doubt(request).await;
        self.answered(answer)
    }

    pub(crate) async fn resolve(
        &mut self,
        request: v1::ResolveRequest,
    ) -> Result<v1::ResolveResponse, Failure> {
        let answer = self.client.resolve(request).await;
        self.answered(answer)
    }

    async fn acknowledge(
        &mut self,
        request: v1::AcknowledgeRequest,
    ) -> Result<v1::AcknowledgeResponse, Failure> {
        let answer = self.client.acknowledge(request).await;
        self.answered(answer)
    }

    async fn acknowledge_unproven(
        &mut self,
        request: v1::AcknowledgeUnprovenRequest,
    ) -> Result<v1::AcknowledgeUnprovenResponse, Failure> {
        let answer = self.client.acknowledge_unproven(request).await;
        self.answered(answer)
    }

    async fn write_off(&mut self, request: v1::WriteOffRequest) -> Result<v1::WriteOffResponse, Failure> {
        let answer = self.client.write_off(request).await;
        self.answered(answer)
    }
}

fn endpoint(address: &Address, wait: Duration) -> Result<Endpoint, Failure> {
    let endpoint = address.endpoint().map_err(|error| Failure::unreachable(address, &innermost(&error)))?;
    Ok(endpoint.timeout(wait + ANSWER))
}

/// A connection to a running coordinator. Each call waits for its answer.
pub(crate) struct Coordinator {
    runtime: Runtime,
    operator: Operator,
}

impl Coordinator {
    /// Connects. The coordinator may keep an answer back for `wait`, because it asks agents first.
    pub(crate) fn connect(address: &Address, wait: Duration) -> Result<Self, Failure> {
        let unreachable =
            |error: &(dyn std::error::Error + 'static)| Failure::unreachable(address, &innermost(error));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| unreachable(&e))?;
        let endpoint = endpoint(address, wait)?;
        let channel = runtime.block_on(endpoint.connect()).map_err(|e| unreachable(&e))?;
        Ok(Self { runtime, operator: Operator::over(address, channel) })
    }

    pub(crate) fn status(&mut self) -> Result<v1::GetStatusResponse, Failure> {
        self.runtime.block_on(self.operator.status())
    }

    pub(crate) fn list(
        &mut self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, Failure> {
        self.runtime.block_on(self.operator.list(request))
    }

    pub(crate) fn show(&mut self, gtid: String) -> Result<v1::ShowTransactionResponse, Failure> {
        self.runtime.block_on(self.operator.show(gtid))
    }

    pub(crate) fn in_doubt(
        &mut self,
        request: v1::ListInDoubtRequest,
    ) -> Result<v1::ListInDoubtResponse, Failure> {
        self.runtime.block_on(self.operator.in_doubt(request))
    }

    pub(crate) fn resolve(&mut self, request: v1::ResolveRequest) -> Result<v1::ResolveResponse, Failure> {
        self.runtime.block_on(self.operator.resolve(request))
    }

    pub(crate) fn acknowledge(
        &mut self,
        request: v1::AcknowledgeRequest,
    ) -> Result<v1::AcknowledgeResponse, Failure> {
        self.runtime.block_on(self.operator.acknowledge(request))
    }

    pub(crate) fn acknowledge_unproven(
        &mut self,
        request: v1::AcknowledgeUnprovenRequest,
    ) -> Result<v1::AcknowledgeUnprovenResponse, Failure> {
        self.runtime.block_on(self.operator.acknowledge_unproven(request))
    }

    pub(crate) fn write_off(
        &mut self,
        request: v1::WriteOffRequest,
    ) -> Result<v1::WriteOffResponse, Failure> {
        self.runtime.block_on(self.operator.write_off(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_at_the_address_is_told_with_what_the_system_said_and_a_way_on() {
        let failure = Coordinator::connect(&"unix:/nowhere/votum.sock".parse().unwrap(), Duration::ZERO)
            .err()
            .expect("somebody answered");
        assert_eq!(failure.exit.code(), 3);
        assert!(
            failure.message.contains("unix:/nowhere/votum.sock does not answer: No such file"),
            "{failure}"
        );
        assert!(failure.message.contains("--directory"), "{failure}");
    }
}
