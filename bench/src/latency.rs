//! Latencies, counted in a histogram that can be added to others.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// Counted in microseconds, up to a minute, with three digits.
const LONGEST: u64 = 60_000_000;
const DIGITS: u8 = 3;

/// Many latencies.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

/// What is read off them, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    /// Never: the bounds are constants that are in order.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, DIGITS)?))
    }

    /// Counts one. What took longer than a minute counts as a minute.
    pub(crate) fn note(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST));
    }

    /// Counts those of `other` too.
    ///
    /// # Errors
    /// Never: all have the same bounds.
    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The latency in milliseconds that the part `quantile` of them does not exceed.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// `None` of nothing.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        (self.len() > 0).then(|| Percentiles {
            p50: self.at(0.5),
            p90: self.at(0.9),
            p95: self.at(0.95),
            p99: self.at(0.99),
            p99_9: self.at(0.999),
            max: self.0.max() as f64 / 1e3,
        })
    }
}

/// As pairs of microseconds and how many, so that whoever reads them can add runs up.
impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counted = self.0.iter_recorded();
        serializer.collect_seq(counted.map(|at| (at.value_iterated_to(), at.count_at_value())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(milliseconds: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new().unwrap();
        milliseconds.into_iter().for_each(|one| latencies.note(Duration::from_millis(one)));
        latencies
    }

    #[test]
    fn percentiles_of_a_sum_are_those_of_all_its_latencies_and_not_of_percentiles() {
        let mut sum = of(1..=900);
        sum.add(&of(901..=1_000)).unwrap();
        let Percentiles { p50, p90, p95, p99, p99_9, max } = sum.percentiles().unwrap();
        for (found, meant) in
            [p50, p90, p95, p99, p99_9, max].into_iter().zip([500, 900, 950, 990, 999, 1_000])
        {
            assert!((found / f64::from(meant) - 1.0).abs() < 0.002, "{found} for {meant}");
        }
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(of([]).percentiles(), None);
    }

    #[test]
    fn what_took_longer_than_a_minute_is_not_left_out() {
        assert_eq!(of([3, 90_000]).len(), 2);
    }

    #[test]
    fn a_document_has_each_latency_with_its_count() {
        assert_eq!(serde_json::to_string(&of([1, 1, 2])).unwrap(), "[[1000,2],[2000,1]]");
    }
}
