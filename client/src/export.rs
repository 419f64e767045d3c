//! Handing a transaction to another process.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use votum_proto::names::SessionName;

/// All that another process needs to go on with a transaction: its gtid, its secret and its branches. Made by
/// [`Transaction::export`](crate::Transaction::export), taken by [`Votum::import`](crate::Votum::import), in
/// between in any form that serde knows. It holds the transaction's secret: send it only where you trust.
///
/// Only one process may go on with it: a statement run by one of them is a branch that the other knows
/// nothing of, and then the transaction cannot commit.
///
/// ```no_run
/// # async fn example(tx: votum_client::Transaction, votum: votum_client::Votum) -> anyhow::Result<()> {
/// let text = serde_json::to_string(&tx.export()?)?;
/// // … in another process
/// let tx = votum.import(serde_json::from_str(&text)?)?;
/// tx.commit().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Export {
    pub(crate) gtid: String,
    pub(crate) secret: Vec<u8>,
    pub(crate) isolation: i32,
    pub(crate) read_only: bool,
    pub(crate) timeout_left_ms: u64,
    /// The addresses of the agents, by participant.
    pub(crate) participants: BTreeMap<String, String>,
    pub(crate) branches: Vec<ExportedBranch>,
    /// The names of attached branches, by participant.
    #[serde(default)]
    pub(crate) attached: BTreeMap<String, String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ExportedBranch {
    pub(crate) participant: String,
    pub(crate) session: SessionName,
    pub(crate) last_ordinal: u64,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let branches: Vec<&str> = self.branches.iter().map(|branch| branch.participant.as_str()).collect();
        f.debug_struct("Export")
            .field("gtid", &self.gtid)
            .field("branches", &branches)
            .finish_non_exhaustive()
    }
}
