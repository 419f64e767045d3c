//! What is asked for again and again.

use std::time::Duration;

use votum_proto::runtime::Monotonic;

use crate::failure::Failure;

/// However long nobody answers, it is tried again after this long.
const LONGEST: Duration = Duration::from_secs(30);

/// The last answer to a question, and when to ask next.
#[derive(Debug)]
pub(in crate::watch) struct Feed<T> {
    last: Option<(Monotonic, T)>,
    failure: Option<Failure>,
    /// An answer is on its way.
    asked: bool,
    due: Monotonic,
    /// It is to be asked at once, also while everything else pauses.
    hurried: bool,
    /// How many times in a row there was none.
    failures: u32,
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Self {
            last: None,
            failure: None,
            asked: false,
            due: Monotonic::default(),
            hurried: true,
            failures: 0,
        }
    }
}

impl<T> Feed<T> {
    /// The last answer that there was.
    pub(in crate::watch) fn last(&self) -> Option<&T> {
        self.last.as_ref().map(|(_, answer)| answer)
    }

    /// How old that is.
    pub(in crate::watch) fn age(&self, now: Monotonic) -> Option<Duration> {
        self.last.as_ref().map(|(at, _)| now.since(*at))
    }

    /// Why there is no newer one, while there is none.
    pub(in crate::watch) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// How long until it is asked again; `None` while an answer is awaited.
    pub(in crate::watch) fn next_in(&self, now: Monotonic) -> Option<Duration> {
        (!self.asked).then(|| self.due.since(now))
    }

    /// Whether to ask now; then it counts as asked. While `paused` only what is hurried is asked.
    pub(super) fn ask(&mut self, now: Monotonic, paused: bool) -> bool {
        let ask = !self.asked && (self.hurried || (!paused && now >= self.due));
        if ask {
            (self.asked, self.hurried) = (true, false);
        }
        ask
    }

    /// Asks as soon as nothing is awaited.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// An answer came, or none will: it is asked again after `interval`, after failures ever later.
    pub(super) fn answered(&mut self, now: Monotonic, interval: Duration, answer: Result<T, Failure>) {
        self.asked = false;
        match answer {
            Ok(answer) => {
                self.last = Some((now, answer));
                self.failure = None;
                self.failures = 0;
                self.due = now.after(interval);
            }
            Err(failure) => {
                let wait = interval.saturating_mul(2_u32.saturating_pow(self.failures));
                self.failures = self.failures.saturating_add(1);
                self.failure = Some(failure);
                self.due = now.after(wait.min(LONGEST.max(interval)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn nothing_is_asked_twice_before_the_answer_and_again_after_the_interval() {
        let mut feed = Feed::default();
        assert!(feed.ask(at(0), false));
        assert!(!feed.ask(at(9), false), "the answer is on its way");
        feed.answered(at(9), INTERVAL, Ok(1));
        assert!(!feed.ask(at(10), false) && feed.ask(at(11), false));
        assert_eq!((feed.last(), feed.age(at(12))), (Some(&1), Some(Duration::from_secs(3))));
    }

    #[test]
    fn while_it_pauses_only_what_was_never_asked_or_is_wanted_now_is_asked() {
        let mut feed = Feed::default();
        assert!(feed.ask(at(0), true));
        feed.answered(at(0), INTERVAL, Ok(1));
        assert!(!feed.ask(at(9), true));
        feed.hurry();
        assert!(feed.ask(at(9), true) && !feed.ask(at(9), true));
    }

    #[test]
    fn without_an_answer_the_last_one_stays_and_it_is_asked_ever_later_and_never_given_up() {
        let mut feed = Feed::default();
        feed.answered(at(0), INTERVAL, Ok(1));
        let mut now = at(2);
        for wait in [2, 4, 8, 16, 30, 30] {
            assert!(feed.ask(now, false));
            feed.answered(now, INTERVAL, Err(Failure::usage("gone")));
            assert_eq!((feed.last(), feed.next_in(now)), (Some(&1), Some(Duration::from_secs(wait))));
            assert!(feed.failure().is_some());
            now = now.after(Duration::from_secs(wait));
        }
        assert!(feed.ask(now, false));
        feed.answered(now, INTERVAL, Ok(2));
        assert!(feed.failure().is_none());
        assert_eq!(feed.next_in(now), Some(INTERVAL), "after an answer it is as at the beginning");
    }
}
