//! Rates, from what was counted between two answers.

use std::time::Duration;

use crate::document::Status;

/// What happened in each second between two answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::watch) struct Rates {
    pub(in crate::watch) committed: f64,
    pub(in crate::watch) read_only: f64,
    pub(in crate::watch) aborted: f64,
    /// Forced writes of the log.
    pub(in crate::watch) forced_writes: f64,
    /// How long one of them took, in milliseconds; `None` where there was none.
    pub(in crate::watch) forced_write_ms: Option<f64>,
}

impl Rates {
    /// Between two answers of one life; `None` where the coordinator was restarted in between, or does not
    /// count.
    pub(super) fn between(before: &Status, after: &Status) -> Option<Self> {
        if (before.epoch, &before.incarnation) != (after.epoch, &after.incarnation) {
            return None;
        }
        let (from, to) = (before.counts?, after.counts?);
        let seconds = Duration::from_millis(after.up_ms.checked_sub(before.up_ms)?).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        let writes = to.forced_writes.saturating_sub(from.forced_writes);
        let took = to.forced_writes_us.saturating_sub(from.forced_writes_us);
        Some(Self {
            committed: rate(from.committed, to.committed),
            read_only: rate(from.read_only, to.read_only),
            aborted: rate(from.aborted, to.aborted),
            forced_writes: rate(from.forced_writes, to.forced_writes),
            forced_write_ms: (writes > 0).then(|| took as f64 / writes as f64 / 1_000.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::fixed::healthy;

    fn pair() -> (Status, Status) {
        let before = Status::new(healthy(), 60_000);
        let mut answer = healthy();
        answer.up_ms += 2_000;
        let counts = answer.counts.as_mut().unwrap();
        counts.committed += 24;
        counts.aborted += 1;
        counts.forced_writes += 20;
        counts.forced_writes_us += 5_000;
        (before, Status::new(answer, 60_000))
    }

    #[test]
    fn rates_are_by_the_coordinators_own_clock_and_a_forced_write_is_the_mean_of_the_new_ones() {
        let (before, after) = pair();
        let expected = Rates {
            committed: 12.0,
            read_only: 0.0,
            aborted: 0.5,
            forced_writes: 10.0,
            forced_write_ms: Some(0.25),
        };
        assert_eq!(Rates::between(&before, &after), Some(expected));
    }

    #[test]
    fn a_restart_or_one_that_does_not_count_makes_no_rate() {
        let (before, after) = pair();
        let reborn = Status { epoch: after.epoch + 1, ..after.clone() };
        let silent = Status { counts: None, ..after.clone() };
        for (one, other) in [(&before, &reborn), (&before, &silent), (&silent, &after), (&after, &before)] {
            assert_eq!(Rates::between(one, other), None);
        }
        assert_eq!(Rates::between(&before, &before), None, "no time has passed");
    }
}
