//! When to act without being asked. Timers only choose when to give up or to ask again; no decision rests
//! on them.

use std::collections::BTreeSet;

use votum_proto::names::BranchNumber;
use votum_proto::runtime::Monotonic;

use super::LocalId;

/// What is to be done at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A transaction's time is over.
    Deadline(LocalId),
    /// A transaction has lasted long enough to be noted in the log before it is decided.
    NoteBegun(LocalId),
    /// Clients that wait for its completion have waited long enough.
    CompletedWait(LocalId),
    /// Ask again how a branch ended.
    AskAgain(LocalId, BranchNumber),
    /// A request for what is in doubt is answered with what has come.
    InDoubt(u64),
    /// Look again at commits of earlier timelines.
    Verify,
    /// An agent that was asked to let go of a branch has not answered in time.
    Held(u64),
    /// Somebody has not answered in time what commit markers it holds.
    Inquired(u64),
    /// Nobody has made room for a whole transaction in its time.
    NoRoom(u64),
    /// The grace of a drain is over.
    Drain,
}

/// Timers, earliest first.
#[derive(Default)]
pub(super) struct Timers(BTreeSet<(Monotonic, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Monotonic, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn cancel(&mut self, at: Monotonic, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(super) fn next(&self) -> Option<Monotonic> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Monotonic) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
