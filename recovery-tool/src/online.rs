//! A running coordinator, over gRPC.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;
use tonic::{Response, Status};
use votum_proto::address::Address;
use votum_proto::v1;
use votum_proto::v1::operator_client::OperatorClient;

use crate::failure::Failure;

/// How long an answer may take beyond what the coordinator itself waits for agents.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection to a running coordinator. Each call waits for its answer.
pub(crate) struct Coordinator {
    address: Address,
    runtime: Runtime,
    client: OperatorClient<Channel>,
}

impl Coordinator {
    /// Connects. The coordinator may keep an answer back for `wait`, because it asks agents first.
    pub(crate) fn connect(address: &Address, wait: Duration) -> Result<Self, Failure> {
        let unreachable = |error: &dyn std::error::Error| Failure::unreachable(address, &innermost(error));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| unreachable(&e))?;
        let endpoint = address.endpoint().map_err(|e| unreachable(&e))?.timeout(wait + ANSWER);
        let channel = runtime.block_on(endpoint.connect()).map_err(|e| unreachable(&e))?;
        // A list of many transactions is more than the library's default of 4 MiB.
        let client = OperatorClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Self { address: address.clone(), runtime, client })
    }

    fn answered<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Failure> {
        answer.map(Response::into_inner).map_err(|status| Failure::answered(&self.address, &status))
    }

    pub(crate) fn status(&mut self) -> Result<v1::GetStatusResponse, Failure> {
        let answer = self.runtime.block_on(self.client.get_status(v1::GetStatusRequest {}));
        self.answered(answer)
    }

    pub(crate) fn list(
        &mut self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, Failure> {
        let answer = self.runtime.block_on(self.client.list_transactions(request));
        self.answered(answer)
    }

    pub(crate) fn show(&mut self, gtid: String) -> Result<v1::ShowTransactionResponse, Failure> {
        let request = v1::ShowTransactionRequest { gtid };
        let answer = self.runtime.block_on(self.client.show_transaction(request));
        self.answered(answer)
    }

    pub(crate) fn in_doubt(
        &mut self,
        request: v1::ListInDoubtRequest,
    ) -> Result<v1::ListInDoubtResponse, Failure> {
        let answer = self.runtime.block_on(self.client.list_in_doubt(request));
        self.answered(answer)
    }

    pub(crate) fn resolve(&mut self, request: v1::ResolveRequest) -> Result<v1::ResolveResponse, Failure> {
        let answer = self.runtime.block_on(self.client.resolve(request));
        self.answered(answer)
    }

    pub(crate) fn acknowledge(
        &mut self,
        request: v1::AcknowledgeRequest,
    ) -> Result<v1::AcknowledgeResponse, Failure> {
        let answer = self.runtime.block_on(self.client.acknowledge(request));
        self.answered(answer)
    }

    pub(crate) fn write_off(
        &mut self,
        request: v1::WriteOffRequest,
    ) -> Result<v1::WriteOffResponse, Failure> {
        let answer = self.runtime.block_on(self.client.write_off(request));
        self.answered(answer)
    }
}

/// What the operating system said, below the layers that pass it on.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(below) = deepest.source() {
        deepest = below;
    }
    deepest.to_string()
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
