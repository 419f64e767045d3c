//! How long forced writes take.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::SECONDS;

/// The journal's forced writes: one fdatasync each. Clones count together.
#[derive(Debug, Clone)]
pub struct ForcedWrites {
    all: Histogram,
    /// The histogram's count and sum, which cannot be read from it.
    number: Counter,
    microseconds: Counter,
    last: Gauge<f64, AtomicU64>,
}

impl Default for ForcedWrites {
    fn default() -> Self {
        Self {
            all: Histogram::new(SECONDS),
            number: Counter::default(),
            microseconds: Counter::default(),
            last: Gauge::default(),
        }
    }
}

impl ForcedWrites {
    /// Notes one that succeeded.
    pub fn took(&self, duration: Duration) {
        self.all.observe(duration.as_secs_f64());
        self.microseconds.inc_by(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        self.number.inc();
        self.last.set(duration.as_secs_f64());
    }

    /// How many there were, and how many microseconds they took together.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.number.get(), self.microseconds.get())
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "log_forced_write",
            "How long the journal's forced writes took",
            Unit::Seconds,
            self.all.clone(),
        );
        registry.register_with_unit(
            "log_last_forced_write",
            "How long the last forced write took",
            Unit::Seconds,
            self.last.clone(),
        );
    }
}
