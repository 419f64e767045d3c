//! How fast a queue moves, as long as it is long enough to tell; and by that, how long whoever comes would wait.

use std::time::Duration;

use crate::runtime::Monotonic;

/// Over how long it is measured at least.
const WINDOW: Duration = Duration::from_millis(100);

/// A queue, counted. A short one says nothing of what could be served: it is not measured.
#[derive(Debug, Clone)]
pub struct Pace {
    /// From how many on it is measured.
    long: usize,
    waiting: usize,
    measuring: Option<Window>,
    /// From one that is served to the next, as it was measured last.
    between: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Monotonic,
    served: u32,
}

impl Pace {
    /// Of a queue that is empty, and long from `long` on.
    pub fn new(long: usize) -> Self {
        Self { long: long.max(1), waiting: 0, measuring: None, between: Duration::ZERO }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How long whoever came now would wait by the present pace; nothing where the queue is short.
    pub fn expected(&self, now: Monotonic) -> Duration {
        let Some(Window { since, .. }) = self.measuring else { return Duration::ZERO };
        let waiting = u32::try_from(self.waiting).unwrap_or(u32::MAX);
        let moving = self.between.saturating_mul(waiting);
        // Of one that stands still nothing more is known than for how long.
        let standing = Some(now.since(since)).filter(|still| *still >= WINDOW);
        moving.max(standing.unwrap_or_default())
    }

    /// One more waits.
    pub fn enters(&mut self, now: Monotonic) {
        self.waiting = self.waiting.saturating_add(1);
        if self.waiting >= self.long && self.measuring.is_none() {
            self.measuring = Some(Window { since: now, served: 0 });
        }
    }

    /// One waits no longer: `served`, or it has given up.
    pub fn leaves(&mut self, now: Monotonic, served: bool) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting < self.long {
            self.measuring = None;
            self.between = Duration::ZERO;
            return;
        }
        let Some(window) = self.measuring.as_mut().filter(|_| served) else { return };
        window.served = window.served.saturating_add(1);
        let took = now.since(window.since);
        if took >= WINDOW {
            self.between = took / window.served;
            self.measuring = Some(Window { since: now, served: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic(Duration::from_millis(milliseconds))
    }

    fn queue(long: usize, waiting: usize) -> Pace {
        let mut pace = Pace::new(long);
        (0..waiting).for_each(|_| pace.enters(at(0)));
        pace
    }

    #[test]
    fn whoever_comes_waits_for_those_before_him_at_the_pace_at_which_they_are_served() {
        let mut pace = queue(10, 100);
        assert_eq!(pace.expected(at(99)), Duration::ZERO, "nothing is measured yet");
        for number in 1..=50 {
            pace.leaves(at(number * 2), true);
        }
        assert_eq!(pace.expected(at(100)), Duration::from_millis(2 * 50));
    }

    #[test]
    fn a_short_queue_says_nothing_and_one_that_was_long_is_measured_anew() {
        let mut pace = queue(10, 9);
        pace.leaves(at(5_000), true);
        assert_eq!(pace.expected(at(9_000)), Duration::ZERO);
        let mut pace = queue(10, 10);
        assert_eq!(pace.expected(at(500)), Duration::from_millis(500));
        pace.leaves(at(600), true);
        assert_eq!(pace.expected(at(9_000)), Duration::ZERO, "it is short now");
        pace.enters(at(9_000));
        assert_eq!(pace.expected(at(9_050)), Duration::ZERO, "what was measured before does not count");
    }

    #[test]
    fn one_that_stands_still_is_expected_to_for_as_long_again() {
        let mut pace = queue(2, 4);
        pace.leaves(at(100), true);
        assert_eq!(pace.expected(at(150)), Duration::from_millis(300));
        assert_eq!(pace.expected(at(1_100)), Duration::from_millis(1_000));
    }

    #[test]
    fn who_gives_up_was_not_served() {
        let mut pace = queue(2, 10);
        (0..4).for_each(|_| pace.leaves(at(50), false));
        pace.leaves(at(200), true);
        assert_eq!((pace.waiting(), pace.expected(at(200))), (5, Duration::from_millis(1_000)));
    }
}
