//! What clients did and were told, and what people did by hand: against which the end is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use votum_coordinator::driver::request::Outcome;
use votum_proto::names::{Gid, Gtid};

/// One attempt at a piece of work: one transaction.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    /// Which piece of work.
    pub work: usize,
    /// The transaction, once the client was told.
    pub gtid: Option<Gtid>,
    /// Its idempotency key.
    pub key: Option<u64>,
    /// By participant: the ordinals of the changes whose replies the client saw.
    pub done: BTreeMap<usize, BTreeSet<u64>>,
    /// By participant: the last ordinal, as Commit named it; none where Commit was never sent.
    pub claimed: Option<BTreeMap<usize, u64>>,
    /// What the client was told of its outcome, in order.
    pub told: Vec<(Duration, Told)>,
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Committed; the participants that departed from it.
    Committed(Vec<String>),
    /// Committed, nothing written.
    ReadOnly,
    /// Aborted; the participants that departed from it.
    Aborted(Vec<String>),
    /// Nothing that lasts.
    Nothing(String),
    /// Forgotten.
    Expired,
    /// Never begun.
    NotFound,
}

impl Told {
    /// As the coordinator said it.
    pub fn of(outcome: &Outcome) -> Self {
        let names = |heuristics: &[votum_coordinator::protocol::record::Heuristic]| {
            heuristics.iter().map(|heuristic| heuristic.participant.to_string()).collect()
        };
        match outcome {
            Outcome::Committed { heuristics, .. } => Self::Committed(names(heuristics)),
            Outcome::ReadOnly => Self::ReadOnly,
            Outcome::Aborted { heuristics, .. } => Self::Aborted(names(heuristics)),
            Outcome::InProgress(state) => Self::Nothing((*state).to_owned()),
            Outcome::Unknown(why) => Self::Nothing(why.clone()),
            Outcome::Expired => Self::Expired,
        }
    }
}

/// Who had a hand in a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interference {
    /// A failover lost its PREPARE.
    LostPrepare,
    /// A failover lost its end: it may be prepared again.
    LostEnd,
    /// A failover lost its commit in one phase, with its marker.
    LostOnePhase,
    /// A person committed it.
    HandCommits,
    /// A person rolled it back.
    HandRollsBack,
    /// An operator had the coordinator asked to end it otherwise than decided.
    Departs,
    /// Somebody prepared other work under its name, after it had ended.
    Impostor,
    /// An operator had it committed, where the log left that to a person.
    ResolvedCommit,
    /// An operator had it rolled back, where the log left that to a person.
    ResolvedRollback,
}

/// Everything written down.
#[derive(Debug, Default)]
pub struct Pages {
    /// Attempts, in the order of their beginning.
    pub attempts: Vec<Attempt>,
    /// gids that a person, or a failover, interfered with: by participant.
    pub interfered: BTreeMap<(usize, String), BTreeSet<Interference>>,
    /// gids that are not ours: by participant. They must stay.
    pub strangers: BTreeSet<(usize, String)>,
    /// Branches that an operator has ordered to commit: by participant, by gid.
    pub ordered: BTreeSet<(usize, String)>,
    /// Departures that somebody was told of: by gtid, by participant.
    pub departures: BTreeSet<(String, String)>,
    /// Those of them that an operator may have acknowledged.
    pub acknowledged: BTreeSet<(String, String)>,
    /// The newest epoch of which a person has written off what was lacking.
    pub written_off: Option<u64>,
    /// Invariants that were seen broken, in order.
    pub broken: Vec<String>,
}

/// The book.
#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

impl Book {
    /// Opens it.
    pub fn open(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An invariant is broken.
    pub fn broken(&self, what: String) {
        let mut pages = self.open();
        if pages.broken.len() < 8 && !pages.broken.contains(&what) {
            pages.broken.push(what);
        }
    }

    /// Somebody had a hand in a branch.
    pub fn interfered(&self, participant: usize, gid: &str, how: Interference) {
        self.open().interfered.entry((participant, gid.to_owned())).or_default().insert(how);
    }

    /// It turned out that nobody had.
    pub fn did_not_interfere(&self, participant: usize, gid: &str, how: Interference) {
        if let Some(hands) = self.open().interfered.get_mut(&(participant, gid.to_owned())) {
            hands.remove(&how);
        }
    }

    /// Whether anybody had a hand in a branch.
    pub fn is_touched(&self, participant: usize, gid: &str) -> bool {
        let key = (participant, gid.to_owned());
        self.open().interfered.get(&key).is_some_and(|hands| !hands.is_empty())
    }

    /// Whether a failover took a commit in one phase of this transaction's.
    pub fn has_lost(&self, gtid: &Gtid) -> bool {
        self.open().interfered.iter().any(|((_, gid), hands)| {
            hands.contains(&Interference::LostOnePhase)
                && gid.parse::<Gid>().is_ok_and(|gid| gid.gtid == *gtid)
        })
    }

    /// Whether what is lacking of this transaction's epoch was written off.
    pub fn is_written_off(&self, gtid: &Gtid) -> bool {
        self.open().written_off.is_some_and(|through| gtid.life.epoch.0 <= through)
    }

    /// A new attempt; its number.
    pub fn begin(&self, work: usize, key: Option<u64>) -> usize {
        let mut pages = self.open();
        pages.attempts.push(Attempt { work, key, ..Attempt::default() });
        pages.attempts.len() - 1
    }

    /// Writes in an attempt's lines.
    pub fn write<T>(&self, attempt: usize, write: impl FnOnce(&mut Attempt) -> T) -> Option<T> {
        self.open().attempts.get_mut(attempt).map(write)
    }
}
