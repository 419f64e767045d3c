//! What every contender is to the load: a way on which work is carried out.

use std::time::Duration;

use async_trait::async_trait;
use votum_proto::runtime::Seams;

use crate::ended::Ended;
use crate::installation::BankAddress;
use crate::work::Work;

/// What a way needs to know of the installation.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) seams: Seams,
    /// The coordinator's address.
    pub(crate) coordinator: String,
    /// The banks, in the order of a transfer's legs.
    pub(crate) banks: Vec<BankAddress>,
    /// How long the client asks again, where that is not left to it.
    pub(crate) patience: Option<Duration>,
}

/// One way to carry out work, opened once for a whole run: what its workers share is here.
#[async_trait]
pub(crate) trait Way: Send + Sync {
    /// Who carries out the work of worker `worker` in one measurement. What it opens for that worker alone
    /// is closed when it is dropped.
    ///
    /// # Errors
    /// When something cannot be reached.
    async fn carrier(&self, worker: u32) -> anyhow::Result<Box<dyn Carrier>>;
}

/// One worker's hands: one transaction after another.
#[async_trait]
pub(crate) trait Carrier: Send {
    /// Carries out one transaction, to its end: what did not commit leaves nothing open.
    async fn carry_out(&mut self, work: &Work) -> Ended;
}
