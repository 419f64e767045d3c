//! The decision log: what is said here is on disk before anyone hears of it.
//!
//! The driver appends [`Entry`]s and is told by [`LogEvent::Durable`] how far they are on disk; it never
//! waits. One thread writes. A journal of two halves is what is forced; a store holds the history that
//! outlives the journal. See `docs/log.md` for the format on disk and what each file is trusted with.

pub mod archive;
pub mod backup;
mod batch;
pub mod codec;
pub mod config;
pub mod count;
mod desk;
pub mod discipline;
pub mod disk;
mod files;
pub mod forgetful;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod half;
pub mod history;
pub mod image;
mod journal;
pub mod judge;
pub mod memory;
pub mod offline;
pub mod refusal;
mod retention;
pub mod salvage;
mod shelves;
mod sled_store;
mod start;
pub mod store;
pub mod task;
mod timed;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use crate::protocol::history::TransactionHistory;

pub use self::backup::Restored;
pub use self::config::{LogConfig, OnFailure};
pub use self::refusal::{Refusal, RefusalKind};
pub use self::start::{initialize, open};

use votum_proto::names::{Epoch, Gtid, Life, ParticipantName};

use crate::protocol::record::{Compared, EpochBegun, Heuristic, Identity, KeyRecord, Record};

/// A place in the log; grows by one with each record, over all lives.
pub type LogPosition = u64;

/// Names an appended entry until it is durable; chosen by the driver, strictly growing.
pub type Token = u64;

/// One record on its way to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Chosen by the driver, strictly growing.
    pub token: Token,
    /// The record.
    pub record: Record,
    /// True: somebody waits, force at once. False: ride with the next forced write; on disk within a second.
    pub forced: bool,
}

/// What the driver asks of the log, in order. None of these waits.
pub trait DecisionLog: Send + Sync {
    /// Queues entries. After a doubtful write they are dropped: the driver has been told
    /// [`LogEvent::Doubtful`] and appends nothing more.
    fn append(&self, entries: Vec<Entry>);
    /// Notes that `participant` has given a complete listing now: what ended before it may be dropped once
    /// retention is over. `unsettled` is the oldest transaction that may be, or may yet come to be, prepared
    /// there without a decision on disk; `None` where there is none, now or later, among those begun so far.
    fn listed(&self, participant: ParticipantName, unsettled: Option<Gtid>);
    /// Notes that the commits of `participant` that are remembered were verified on its server's present
    /// timeline. What is lost of such notes is verified again.
    fn verified(&self, participant: ParticipantName, on: VerifiedOn);
    /// Drains the queue, forces a sealing batch, closes the files; then [`LogEvent::Closed`] is sent.
    fn close(&self);
}

/// What the log tells the driver, in order.
#[derive(Clone)]
pub enum LogEvent {
    /// Every entry up to and with `through` is on disk, as far as `position`.
    Durable {
        /// The newest durable entry.
        through: Token,
        /// The log's newest position on disk: what a witness may say.
        position: LogPosition,
    },
    /// The store was opened and counted gapless: from now on absence means something.
    Counted {
        /// Where to read what the journal no longer holds.
        history: Arc<dyn History>,
        /// Every life that the log has seen, oldest first, this one last.
        lives: Vec<KnownLife>,
    },
    /// The store cannot be read. What the journal owes is served; absence means nothing; nothing is begun.
    Unreadable {
        /// File, position, remedy.
        why: String,
    },
    /// A write failed, or hung: nobody knows whether the entries after the last durable one are on disk.
    /// Nothing more is written in this life.
    Doubtful {
        /// What failed, for people.
        why: String,
    },
    /// The answer to `close`.
    Closed,
}

/// A read failed: the store is damaged in the place that was asked about.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log's store cannot be read: {0}")]
pub struct HistoryError(pub String);

/// The history that outlives the journal. Reads see every record that was reported durable.
pub trait History: Send + Sync {
    /// All records of one transaction; empty when there are none.
    ///
    /// # Errors
    /// When the store cannot be read there.
    fn transaction(&self, gtid: &Gtid) -> Result<TransactionHistory, HistoryError>;
    /// The commit that bears this key of this client, with its hash.
    ///
    /// # Errors
    /// When the store cannot be read there.
    fn by_key(&self, client: &str, key: &str) -> Result<Option<(Gtid, KeyRecord)>, HistoryError>;
    /// The newest transactions that have a record, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn newest(&self, limit: usize) -> Result<Vec<Gtid>, HistoryError>;
    /// As `newest`, of those below `before`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn newest_before(&self, before: Option<&Gtid>, limit: usize) -> Result<Vec<Gtid>, HistoryError>;
    /// The oldest transaction that has a record.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn oldest(&self) -> Result<Option<Gtid>, HistoryError>;
    /// On which timeline the commits of `participant` were verified last.
    ///
    /// # Errors
    /// When the store cannot be read there.
    fn verified(&self, participant: &ParticipantName) -> Result<Option<VerifiedOn>, HistoryError>;
    /// What a person said who has compared `participant` after a change of timeline, the newest; with the
    /// record's position and running time.
    ///
    /// # Errors
    /// When the store cannot be read there.
    fn compared(&self, participant: &ParticipantName) -> Result<Option<ComparedAt>, HistoryError>;
    /// The highest gtid dropped by retention that named `participant`.
    ///
    /// # Errors
    /// When the store cannot be read there.
    fn mark(&self, participant: &ParticipantName) -> Result<Option<Gtid>, HistoryError>;
    /// The highest gtid dropped by retention at all.
    ///
    /// # Errors
    /// When the store cannot be read there.
    fn horizon(&self) -> Result<Option<Gtid>, HistoryError>;
    /// Heuristics that no one has acknowledged.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn heuristics(&self) -> Result<Vec<Heuristic>, HistoryError>;
    /// How far back it remembers, in milliseconds of running time.
    fn reach_ms(&self) -> u64;
}

/// A server's timeline on which the commits of earlier ones were verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedOn {
    /// The server's own name.
    pub system_identifier: u64,
    /// The timeline.
    pub timeline: u32,
    /// Of how many, among those that are still remembered, nobody can prove that they are there.
    pub unproven: u64,
}

/// A person's word that a participant was compared, and where it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedAt {
    /// The record's position.
    pub position: LogPosition,
    /// The running time at which it was written, in milliseconds.
    pub running_ms: u64,
    /// What was said.
    pub compared: Compared,
}

/// One life that the log has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLife {
    /// Which.
    pub begun: EpochBegun,
    /// The highest seq that was leased in it.
    pub leased_until: u64,
    /// The last position written in it.
    pub last_position: LogPosition,
}

/// What an opened log starts the driver with: all of it from the journal alone.
pub struct Opened {
    /// Whose log it is.
    pub identity: Identity,
    /// The life that begins with this opening. It and its first lease are on disk.
    pub life: Life,
    /// The highest seq that may be handed out without another lease.
    pub leased_until: u64,
    /// The lives that the journal alone knows, oldest first, this one last. The whole list comes with
    /// [`LogEvent::Counted`].
    pub lives: Vec<KnownLife>,
    /// The newest epoch of which a person has written off what is lacking.
    pub written_off: Option<Epoch>,
    /// It was put here from a backup, and nobody has written off what that lacks.
    pub restored: Option<Restored>,
    /// Commits (and delegated decisions) that are still owed: every record of each such transaction.
    pub owed: Vec<TransactionHistory>,
    /// The newest position on disk.
    pub position: LogPosition,
    /// Where the driver appends.
    pub log: Arc<dyn DecisionLog>,
    /// What the log says, in order.
    pub events: tokio::sync::mpsc::UnboundedReceiver<LogEvent>,
}
