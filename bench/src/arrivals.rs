//! The arrivals of an open loop: handed to whichever worker is free, in order, never before their time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::sync::Semaphore;
use votum_proto::runtime::{Clock, Monotonic};

use crate::schedule::Schedule;

/// Arrivals that are due and have not begun wait here. There is no bound to how many wait.
pub(crate) struct Arrivals {
    schedule: Schedule,
    /// One permit for each that waits.
    waiting: Arc<Semaphore>,
    begun: AtomicU64,
}

impl Arrivals {
    /// Begins to let them arrive.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn begin(schedule: Schedule, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<Self>> {
        let waiting = Arc::new(Semaphore::new(0));
        let (clock, permits) = (clock.clone(), waiting.clone());
        // A thread, because tokio's timers wake at whole milliseconds: as much as many a transaction takes.
        let thread = std::thread::Builder::new().name("arrivals".into());
        thread.spawn(move || pace(&schedule, &*clock, &permits)).context("starting a thread")?;
        Ok(Arc::new(Self { schedule, waiting, begun: AtomicU64::new(0) }))
    }

    /// Waits for the next one; when it should have begun. `None` when it is over.
    pub(crate) async fn next(&self) -> Option<Monotonic> {
        self.waiting.acquire().await.ok()?.forget();
        Some(self.schedule.at(self.begun.fetch_add(1, Ordering::Relaxed)))
    }

    /// Nobody begins any more. How many of those that should have begun at `from` or later never did.
    pub(crate) fn end(&self, from: Monotonic) -> u64 {
        self.waiting.close();
        let begun = self.begun.load(Ordering::Relaxed).max(self.schedule.before(from));
        self.schedule.total() - begun.min(self.schedule.total())
    }
}

fn pace(schedule: &Schedule, clock: &dyn Clock, waiting: &Semaphore) {
    let mut arrived = 0;
    while arrived < schedule.total() && !waiting.is_closed() {
        let due = schedule.due(clock.now());
        if due > arrived {
            waiting.add_permits(usize::try_from(due - arrived).unwrap_or(0));
            arrived = due;
        } else {
            std::thread::park_timeout(schedule.at(arrived).since(clock.now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use votum_proto::runtime::Seams;

    use super::*;

    #[tokio::test]
    async fn whoever_comes_late_is_given_the_moment_that_was_meant_and_the_rest_never_begins() {
        let clock = Seams::production().clock;
        let from = clock.now();
        let schedule = Schedule::new(from, from.after(Duration::from_millis(50)), 100);
        let arrivals = Arrivals::begin(schedule, &clock).unwrap();
        assert_eq!(arrivals.next().await, Some(schedule.at(0)));
        clock.sleep(Duration::from_millis(60)).await;
        assert_eq!(arrivals.next().await, Some(schedule.at(1)));
        assert_eq!(arrivals.end(from), 3);
        assert_eq!(arrivals.next().await, None);
        assert_eq!(arrivals.end(schedule.at(4)), 1, "the others were meant for the warm-up");
    }

    #[tokio::test]
    async fn nothing_begins_before_its_time() {
        let clock = Seams::production().clock;
        let from = clock.now();
        let schedule = Schedule::new(from, from.after(Duration::from_millis(40)), 200);
        let arrivals = Arrivals::begin(schedule, &clock).unwrap();
        for number in 0..8 {
            let meant = arrivals.next().await.unwrap();
            assert_eq!(meant, schedule.at(number));
            assert!(clock.now() >= meant);
        }
        assert_eq!(arrivals.end(from), 0);
    }
}
