//! How a log is configured, and the names of its files.

use core::time::Duration;
use std::path::PathBuf;

use crate::metrics::ForcedWrites;

/// The lock that keeps a second process out.
pub const LOCK_FILE: &str = "lock";
/// Present while `initialize` is at work: what stands beside it is nobody's log yet.
pub const INITIALIZING_FILE: &str = "initializing";
/// Present in a backup, and where one was put in place until what it lacks was written off.
pub const RESTORED_FILE: &str = "restored";
/// The folder of the store.
pub const STORE_FOLDER: &str = "store";

/// What happens when a write fails or hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The process ends with code 70: a restart reads the disk and knows.
    ExitProcess,
    /// For a log within somebody else's process: it is shut for good, every later entry is dropped, and
    /// nothing is ever acknowledged again until it is opened anew, which begins a new life.
    Latch,
}

/// The exit code of a server whose log failed.
const EXIT_LOG_FAILED: i32 = 70;

impl OnFailure {
    /// Once the driver was told of the failure.
    pub(super) fn act(self) {
        match self {
            Self::ExitProcess => std::process::exit(EXIT_LOG_FAILED),
            Self::Latch => {}
        }
    }
}

/// Where a log is, how large it may grow, and how patient it is.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The directory that holds the journal, the store and the lock.
    pub directory: PathBuf,
    /// The size of each half of the journal, in bytes. A half grows beyond it only when what is still owed
    /// does not fit, or while the store is not there to take over.
    pub half_bytes: u64,
    /// How long an ended transaction is remembered, in running time.
    pub retention: Duration,
    /// How many bytes of records are remembered; beyond, the oldest ended transactions go before their
    /// retention is over.
    pub retention_bytes: u64,
    /// How many seqs the first lease of a life grants.
    pub lease: u64,
    /// How long a write or a sync may take before the log counts as failed.
    pub watchdog: Duration,
    /// The store's page cache, in bytes.
    pub cache_bytes: u64,
    /// What happens when a write fails or hangs.
    pub on_failure: OnFailure,
    /// Where it is counted how long forced writes take.
    pub forced_writes: ForcedWrites,
}

impl LogConfig {
    /// The defaults, in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            half_bytes: 16 << 20,
            retention: Duration::from_secs(24 * 60 * 60),
            retention_bytes: 1 << 30,
            lease: 8192,
            watchdog: Duration::from_secs(20),
            cache_bytes: 16 << 20,
            on_failure: OnFailure::ExitProcess,
            forced_writes: ForcedWrites::default(),
        }
    }

    /// The limits that the discipline needs.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            half_bytes: self.half_bytes.max(MIN_HALF),
            retention_ms: u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX),
            retention_bytes: self.retention_bytes,
            ..Limits::default()
        }
    }
}

/// The smallest half that makes sense: some batches of the largest records.
pub const MIN_HALF: u64 = 64 << 10;

/// The numbers that the discipline works with. Times are in milliseconds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// As in [`LogConfig`].
    pub half_bytes: u64,
    /// As in [`LogConfig`].
    pub retention_ms: u64,
    /// As in [`LogConfig`].
    pub retention_bytes: u64,
    /// The most bytes of records in one batch.
    pub batch_bytes: usize,
    /// How long a buffered entry waits for company before it is forced.
    pub buffered_ms: u64,
    /// How long after the last batch the empty sealing batch follows.
    pub seal_ms: u64,
    /// How many halves' worth of bytes one half may grow to while the store cannot take over.
    pub growth: u64,
    /// How many records one slice of retention looks at.
    pub slice: usize,
    /// How many records of the backlog are given to the store between two batches.
    pub catch_up: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            half_bytes: 16 << 20,
            retention_ms: 24 * 60 * 60 * 1000,
            retention_bytes: 1 << 30,
            batch_bytes: 1 << 20,
            buffered_ms: 400,
            seal_ms: 400,
            growth: 16,
            slice: 1024,
            catch_up: 4096,
        }
    }
}
