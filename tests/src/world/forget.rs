//! A log that remembers as little as a log can, and is brought to forget.

use votum_proto::v1;
use votum_proto::v1::coordinator_client::CoordinatorClient;
use votum_proto::v1::operator_client::OperatorClient;

use super::{Builder, World};
use crate::eventually::{Found, eventually};

/// How many transactions are begun and rolled back between two looks.
const AT_ONCE: u64 = 64;

impl Builder {
    /// Has the log remember as few bytes as is accepted.
    pub fn short_memory(self) -> Self {
        self.log_setting("retention_bytes", "1048576")
    }
}

impl World {
    /// Begins and rolls back, with all the words that fit into a log's records, until the log has dropped those of
    /// `gtid`, which has ended: some 1,500 times in a world with [`Builder::short_memory`].
    ///
    /// What ended last is in the coordinator's memory too: until it starts again it answers from there what became
    /// of `gtid`. To wait until that memory is full would take ten times as long.
    ///
    /// # Errors
    /// As the coordinator answers; or when the log goes on remembering.
    pub async fn until_forgotten(&self, gtid: &str) -> anyhow::Result<()> {
        let channel = self.address().channel()?;
        let words = |bytes| "w".repeat(bytes);
        let one = async |number: u64| {
            let mut coordinator = CoordinatorClient::new(channel.clone());
            let begin = v1::BeginRequest {
                label: words(64),
                client_name: words(64),
                idempotency_key: format!("{number:0>128}"),
                ..v1::BeginRequest::default()
            };
            let v1::BeginResponse { gtid, secret, .. } = coordinator.begin(begin).await?.into_inner();
            coordinator.rollback(v1::RollbackRequest { gtid, secret, reason: words(256) }).await?;
            anyhow::Ok(())
        };
        let mut numbers = 0;
        eventually(&format!("the log has dropped {gtid}"), async || {
            futures::future::try_join_all((numbers..numbers + AT_ONCE).map(one)).await?;
            numbers += AT_ONCE;
            let request = v1::ShowTransactionRequest { gtid: gtid.to_owned() };
            let shown = OperatorClient::new(channel.clone()).show_transaction(request).await?.into_inner();
            let left = shown.records.len();
            Ok(match left {
                0 => Found::Yes(()),
                _ => Found::NotYet(format!("{left} records of it after {numbers} others")),
            })
        })
        .await
    }
}
