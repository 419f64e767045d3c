//! One measurement, as it is shown and kept.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::contender::Contender;
use crate::cpu::Group;
use crate::latency::{Latencies, Percentiles};
use crate::load::Measured;
use crate::point::Point;

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) contender: Contender,
    #[serde(flatten)]
    pub(crate) point: Point,
    pub(crate) round: u32,
    /// Committed inside the window.
    pub(crate) transactions: u64,
    pub(crate) transactions_per_second: f64,
    /// Of transfers.
    pub(crate) latency_ms: Option<Percentiles>,
    /// Of transactions that only read.
    pub(crate) read_latency_ms: Option<Percentiles>,
    /// By how much transactions began later than they should have; open loops only.
    pub(crate) late_ms: Option<Percentiles>,
    /// Begun inside the window, and under way at its end.
    pub(crate) unfinished: u64,
    /// Should have begun inside the window, and never did.
    pub(crate) never_begun: u64,
    /// How many transactions were not committed, by kind.
    pub(crate) errors: BTreeMap<String, u64>,
    /// What was said of the first of them.
    pub(crate) complaint: Option<String>,
    /// From the end of the load until nothing was prepared any more; `None` if something stayed.
    pub(crate) settled_ms: Option<f64>,
    /// Processor time for each committed transaction, in microseconds.
    pub(crate) cpu_us: BTreeMap<Group, f64>,
    /// All latencies of transfers, as pairs of microseconds and how often.
    pub(crate) histogram_us: Latencies,
    /// The same of transactions that only read.
    pub(crate) read_histogram_us: Latencies,
}

impl Round {
    /// What `measured` comes to.
    pub(crate) fn new(
        contender: Contender,
        point: Point,
        round: u32,
        measured: Measured,
        settled: Option<Duration>,
    ) -> Self {
        let Measured { window, tally, never_begun, used } = measured;
        let each = |used: &Duration| used.as_secs_f64() * 1e6 / tally.done.max(1) as f64;
        Self {
            contender,
            point,
            round,
            transactions: tally.done,
            transactions_per_second: tally.done as f64 / window.as_secs_f64(),
            latency_ms: tally.transfers.percentiles(),
            read_latency_ms: tally.reads.percentiles(),
            late_ms: tally.late.percentiles().filter(|_| point.is_open()),
            unfinished: tally.unfinished,
            never_begun,
            cpu_us: used.iter().map(|(group, used)| (*group, each(used))).collect(),
            errors: tally.errors,
            complaint: tally.complaint,
            settled_ms: settled.map(|took| took.as_secs_f64() * 1e3),
            histogram_us: tally.transfers,
            read_histogram_us: tally.reads,
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (point, contender) = (self.point.to_string(), self.contender.to_string());
        write!(f, "{point:>12}, round {}: {contender:<16} ", self.round)?;
        write!(f, "{:>6.0} tx/s", self.transactions_per_second)?;
        for (whose, latency) in [("", self.latency_ms), ("reads ", self.read_latency_ms)] {
            if let Some(Percentiles { p50, p99, .. }) = latency {
                write!(f, ", {whose}p50 {p50:.2} ms, p99 {p99:.2} ms")?;
            }
        }
        let errors: u64 = self.errors.values().sum();
        write!(f, ", {errors} errors")?;
        if self.never_begun > 0 {
            write!(f, ", {} never begun", self.never_begun)?;
        }
        f.write_str("; CPU per transaction")?;
        for (group, us) in &self.cpu_us {
            write!(f, " {group} {us:.0} µs")?;
        }
        if let Some(complaint) = &self.complaint {
            write!(f, "\n    the first error: {complaint}")?;
        }
        Ok(())
    }
}
