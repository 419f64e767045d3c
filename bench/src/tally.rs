//! What one worker saw, and the sum of it.

use std::collections::BTreeMap;
use std::time::Duration;

use votum_proto::runtime::Monotonic;

use crate::ended::Ended;
use crate::latency::Latencies;
use crate::work::Work;

/// When transactions count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Monotonic,
    pub(crate) until: Monotonic,
    /// An open loop: those count that should have begun inside the window, however late they ended. If those
    /// counted that ended inside it, the slowest would be left out.
    pub(crate) open: bool,
}

/// When a transaction should have begun, did, and ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) meant: Monotonic,
    pub(crate) begun: Monotonic,
    pub(crate) ended: Monotonic,
}

impl Window {
    fn holds(&self, times: &Times) -> bool {
        let moment = if self.open { times.meant } else { times.ended };
        self.from <= moment && moment < self.until
    }
}

/// Transactions, counted.
pub(crate) struct Tally {
    /// Latencies of committed transfers.
    pub(crate) transfers: Latencies,
    /// Latencies of transactions that only read.
    pub(crate) reads: Latencies,
    /// By how much transactions began later than they should have.
    pub(crate) late: Latencies,
    /// Committed and ended inside the window: what throughput is made of.
    pub(crate) done: u64,
    /// Begun inside the window, and still under way at its end.
    pub(crate) unfinished: u64,
    /// Transactions that were not committed, or whose outcome is unknown, by kind.
    pub(crate) errors: BTreeMap<String, u64>,
    /// What was said of the first of them.
    pub(crate) complaint: Option<String>,
    /// Transfers that were committed, warm-up included.
    pub(crate) all_committed: i64,
    /// Transfers of unknown outcome, warm-up included.
    pub(crate) all_unknown: i64,
}

impl Tally {
    /// Nothing yet.
    ///
    /// # Errors
    /// As [`Latencies::new`].
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            transfers: Latencies::new()?,
            reads: Latencies::new()?,
            late: Latencies::new()?,
            done: 0,
            unfinished: 0,
            errors: BTreeMap::new(),
            complaint: None,
            all_committed: 0,
            all_unknown: 0,
        })
    }

    /// Counts one transaction.
    pub(crate) fn note(&mut self, work: &Work, ended: Ended, times: &Times, window: &Window) {
        let holds = window.holds(times);
        let begun_inside = window.from <= times.begun && times.begun < window.until;
        self.unfinished += u64::from(begun_inside && times.ended >= window.until);
        if holds {
            self.late.note(times.begun.since(times.meant));
        }
        let (latencies, transfers) = match work {
            Work::Transfer { .. } => (&mut self.transfers, 1),
            Work::Read { .. } => (&mut self.reads, 0),
        };
        let failure = match ended {
            Ended::Committed => {
                self.all_committed += transfers;
                self.done += u64::from(window.from <= times.ended && times.ended < window.until);
                if holds {
                    latencies.note(latency(times));
                }
                return;
            }
            Ended::NotCommitted(failure) => failure,
            Ended::Unknown(failure) => {
                self.all_unknown += transfers;
                failure
            }
        };
        self.complaint.get_or_insert_with(|| failure.to_string());
        if holds {
            *self.errors.entry(failure.kind).or_default() += 1;
        }
    }

    /// Counts what another worker saw too.
    ///
    /// # Errors
    /// As [`Latencies::add`].
    pub(crate) fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.transfers.add(&other.transfers)?;
        self.reads.add(&other.reads)?;
        self.late.add(&other.late)?;
        self.done += other.done;
        self.unfinished += other.unfinished;
        for (kind, times) in other.errors {
            *self.errors.entry(kind).or_default() += times;
        }
        self.complaint = self.complaint.take().or(other.complaint);
        self.all_committed += other.all_committed;
        self.all_unknown += other.all_unknown;
        Ok(())
    }
}

/// From when it should have begun: in a closed loop that is when it did.
fn latency(times: &Times) -> Duration {
    times.ended.since(times.meant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ended::Failure;

    const READ: Work = Work::Read { accounts: Vec::new() };

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic(Duration::from_millis(milliseconds))
    }

    fn window(open: bool) -> Window {
        Window { from: at(1_000), until: at(2_000), open }
    }

    fn times(meant: u64, begun: u64, ended: u64) -> Times {
        Times { meant: at(meant), begun: at(begun), ended: at(ended) }
    }

    fn transfer() -> Work {
        Work::Transfer { legs: Vec::new(), order: crate::work::Order::AtOnce }
    }

    fn failure(kind: &str) -> Failure {
        Failure::new(kind, "because")
    }

    #[test]
    fn in_a_closed_loop_only_what_ended_inside_the_window_is_measured_and_all_of_it_is_accounted_for() {
        let (window, mut tally) = (window(false), Tally::new().unwrap());
        tally.note(&transfer(), Ended::Committed, &times(999, 999, 1_004), &window);
        tally.note(&READ, Ended::Committed, &times(1_004, 1_004, 1_006), &window);
        tally.note(&transfer(), Ended::Committed, &times(1_900, 1_900, 2_100), &window);
        tally.note(&transfer(), Ended::NotCommitted(failure("a")), &times(1_500, 1_500, 1_501), &window);
        tally.note(&transfer(), Ended::Unknown(failure("b")), &times(1, 1, 2), &window);
        let (mut sum, mut other) = (Tally::new().unwrap(), Tally::new().unwrap());
        other.note(&transfer(), Ended::NotCommitted(failure("a")), &times(1_500, 1_500, 1_501), &window);
        sum.add(tally).unwrap();
        sum.add(other).unwrap();
        assert_eq!((sum.transfers.len(), sum.reads.len(), sum.done, sum.unfinished), (1, 1, 2, 1));
        assert_eq!((sum.all_committed, sum.all_unknown), (2, 1), "reads move no money");
        assert_eq!(sum.errors, [("a".to_owned(), 2)].into());
        assert_eq!(sum.complaint.as_deref(), Some("a: because"));
        assert!((sum.transfers.at(1.0) - 5.0).abs() < 0.01);
    }

    #[test]
    fn in_an_open_loop_latency_counts_from_when_it_should_have_begun_and_the_slowest_are_not_left_out() {
        let (window, mut tally) = (window(true), Tally::new().unwrap());
        tally.note(&transfer(), Ended::Committed, &times(990, 1_010, 1_020), &window);
        tally.note(&transfer(), Ended::Committed, &times(1_900, 1_950, 2_300), &window);
        assert_eq!((tally.transfers.len(), tally.done, tally.unfinished), (1, 1, 1));
        assert!((tally.transfers.at(1.0) - 400.0).abs() < 0.5);
        assert!((tally.late.at(1.0) - 50.0).abs() < 0.05);
    }
}
