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

/// What is counted while a coordinator runs, apart from how it is shown. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// Counted by the driver.
    pub transactions: Transactions,
    /// Measured by the log.
    pub forced_writes: ForcedWrites,
}

impl Counted {
    /// What `Operator.GetStatus` says of it.
    pub(crate) fn to_wire(&self) -> v1::Counts {
        let (forced_writes, forced_writes_us) = self.forced_writes.totals();
        v1::Counts {
            begun: self.transactions.number_begun(),
            committed: self.transactions.number_committed(),
            read_only: self.transactions.number_read_only(),
            aborted: self.transactions.number_aborted(),
            forced_writes,
            forced_writes_us,
        }
    }
}

/// Seconds, from half a millisecond to a minute: what a disk, a round trip, a person's patience takes.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// All metrics of one coordinator.
pub struct Metrics {
    counted: Counted,
    gauges: Gauges,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("votum");
        let counted = Counted::default();
        counted.transactions.register(&mut registry);
        counted.forced_writes.register(&mut registry);
        let gauges = Gauges::default();
        gauges.register(&mut registry);
        Self { counted, gauges, registry }
    }
}

impl Metrics {
    /// Where what it shows is counted.
    pub fn counted(&self) -> Counted {
        self.counted.clone()
    }

    /// The page for one scrape, of a coordinator that stands so. One at a time: the gauges are shared.
    fn page(&self, status: &v1::GetStatusResponse) -> Result<String, String> {
        self.gauges.show(status);
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(|error| format!("the page cannot be written: {error}"))?;
        Ok(text)
    }
}
