//! When the transactions of an open loop should begin.

use std::time::Duration;

use votum_proto::runtime::Monotonic;

const SECOND: u128 = 1_000_000_000;

/// Arrivals at a constant rate: number 0 at the beginning, and each of the others one interval after the one
/// before. Whole nanoseconds are taken of products, not summed up, so that it never drifts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    begin: Monotonic,
    rate: u128,
    total: u64,
}

impl Schedule {
    /// `rate` arrivals a second from `begin` until just before `end`.
    pub(crate) fn new(begin: Monotonic, end: Monotonic, rate: u32) -> Self {
        let unbounded = Self { begin, rate: u128::from(rate.max(1)), total: u64::MAX };
        Self { total: unbounded.before(end), ..unbounded }
    }

    /// How many arrivals there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// When arrival `number` should begin.
    pub(crate) fn at(&self, number: u64) -> Monotonic {
        let nanoseconds = u128::from(number) * SECOND / self.rate;
        self.begin.after(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }

    /// How many arrivals should have begun before `moment`.
    pub(crate) fn before(&self, moment: Monotonic) -> u64 {
        // Number n is before it if n / rate, rounded down to nanoseconds, is: if n < nanoseconds * rate.
        let elapsed = moment.since(self.begin).as_nanos();
        let arrivals = (elapsed * self.rate).div_ceil(SECOND);
        u64::try_from(arrivals).unwrap_or(u64::MAX).min(self.total)
    }

    /// How many arrivals should have begun by now.
    pub(crate) fn due(&self, now: Monotonic) -> u64 {
        self.before(now.after(Duration::from_nanos(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic(Duration::from_millis(milliseconds))
    }

    #[test]
    fn arrivals_are_evenly_spaced_from_the_beginning_until_before_the_end() {
        let schedule = Schedule::new(at(1_000), at(2_000), 4);
        assert_eq!(schedule.total(), 4);
        let moments: Vec<Monotonic> = (0..4).map(|number| schedule.at(number)).collect();
        assert_eq!(moments, [at(1_000), at(1_250), at(1_500), at(1_750)]);
    }

    #[test]
    fn an_arrival_is_due_at_its_own_moment_and_not_before_it() {
        let schedule = Schedule::new(at(1_000), at(2_000), 4);
        assert_eq!([0, 1_000, 1_249, 1_250, 9_999].map(|ms| schedule.due(at(ms))), [0, 1, 1, 2, 4]);
        assert_eq!([1_000, 1_250, 1_251].map(|ms| schedule.before(at(ms))), [0, 1, 2]);
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let schedule = Schedule::new(at(0), at(3_600_000), 333);
        assert_eq!(schedule.total(), 333 * 3_600);
        assert_eq!(schedule.at(333 * 3_599), at(3_599_000));
        for number in [1, 2, 3, 100, 333, 1_000_003] {
            let moment = schedule.at(number);
            assert_eq!(schedule.before(moment), number, "those before {number}");
            assert_eq!(schedule.due(moment), number + 1, "{number} itself");
        }
    }
}
