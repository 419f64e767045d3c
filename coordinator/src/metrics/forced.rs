//! How long forced writes take.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::SECONDS;

/// The journal's forced writes: one fdatasync each. Clones count together.
#[derive(Debug, Clone)]
pub struct ForcedWrites {
    all: Histogram,
    last: Gauge<f64, AtomicU64>,
}

impl Default for ForcedWrites {
    fn default() -> Self {
        Self { all: Histogram::new(SECONDS), last: Gauge::default() }
    }
}

impl ForcedWrites {
    /// Notes one that succeeded.
    pub fn took(&self, duration: Duration) {
        self.all.observe(duration.as_secs_f64());
        self.last.set(duration.as_secs_f64());
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
