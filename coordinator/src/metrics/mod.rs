//! What Prometheus is shown of a coordinator. Counters and histograms are kept where things happen
//! ([`Transactions`] in the driver, [`ForcedWrites`] around the journal's files); gauges are taken at each
//! scrape from what the driver answers to `Operator.GetStatus`. docs/metrics.md names all of them.
//!
//! Nothing reads a metric to decide anything, and the registry belongs to its coordinator: two in one process
//! count apart.

mod forced;
mod gauges;
mod page;
#[cfg(test)]
mod tests;
mod transactions;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use votum_proto::v1;

pub use self::forced::ForcedWrites;
use self::gauges::Gauges;
pub use self::page::page;
pub use self::transactions::Transactions;

/// Seconds, from half a millisecond to a minute: what a disk, a round trip, a person's patience takes.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// All metrics of one coordinator.
pub struct Metrics {
    /// Counted by the driver.
    pub transactions: Transactions,
    /// Measured by the log.
    pub forced_writes: ForcedWrites,
    gauges: Gauges,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("votum");
        let transactions = Transactions::default();
        transactions.register(&mut registry);
        let forced_writes = ForcedWrites::default();
        forced_writes.register(&mut registry);
        let gauges = Gauges::default();
        gauges.register(&mut registry);
        Self { transactions, forced_writes, gauges, registry }
    }
}

impl Metrics {
    /// The page for one scrape, of a coordinator that stands so. One at a time: the gauges are shared.
    fn page(&self, status: &v1::GetStatusResponse) -> Result<String, String> {
        self.gauges.show(status);
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(|error| format!("the page cannot be written: {error}"))?;
        Ok(text)
    }
}
