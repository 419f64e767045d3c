//! Named crash points: with the feature `crash-points`, and the point's name in `VOTUM_CRASH_POINT`, the
//! process kills itself there as `kill -9` would. Without the feature nothing of this is compiled in.

/// Every point at which a test may kill the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// A session stands; its transaction has not been opened.
    BeforeBegin,
    /// The transaction was opened and its first statement has run; nobody has been told.
    AfterBegin,
    /// A statement has run; its reply has not been ended.
    StatementRun,
    /// A Prepare was received; the database has not been asked.
    BeforePrepare,
    /// The database has prepared; no vote was given.
    AfterPrepare,
    /// The vote has been handed to the exchange.
    VoteSent,
    /// An order to commit was received; the database has not been asked.
    BeforeCommitPrepared,
    /// The database has committed; nobody has been told.
    AfterCommitPrepared,
    /// An order to roll back a prepared branch was received; the database has not been asked.
    BeforeRollbackPrepared,
    /// The database has rolled back; nobody has been told.
    AfterRollbackPrepared,
}

impl CrashPoint {
    /// All of them, in the order in which a branch meets them.
    pub const ALL: [Self; 10] = [
        Self::BeforeBegin,
        Self::AfterBegin,
        Self::StatementRun,
        Self::BeforePrepare,
        Self::AfterPrepare,
        Self::VoteSent,
        Self::BeforeCommitPrepared,
        Self::AfterCommitPrepared,
        Self::BeforeRollbackPrepared,
        Self::AfterRollbackPrepared,
    ];
}

#[cfg(feature = "crash-points")]
impl CrashPoint {
    /// The name by which the environment chooses it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeBegin => "before-begin",
            Self::AfterBegin => "after-begin",
            Self::StatementRun => "statement-run",
            Self::BeforePrepare => "before-prepare",
            Self::AfterPrepare => "after-prepare",
            Self::VoteSent => "vote-sent",
            Self::BeforeCommitPrepared => "before-commit-prepared",
            Self::AfterCommitPrepared => "after-commit-prepared",
            Self::BeforeRollbackPrepared => "before-rollback-prepared",
            Self::AfterRollbackPrepared => "after-rollback-prepared",
        }
    }
}

/// Kills this process with SIGKILL if `point` was chosen: by its name the first time that the process comes
/// by, as `NAME@N` the Nth time. Nothing, without the feature.
#[inline]
pub fn here(point: CrashPoint) {
    #[cfg(feature = "crash-points")]
    if chosen(point) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}

#[cfg(feature = "crash-points")]
fn chosen(point: CrashPoint) -> bool {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Ok(choice) = std::env::var("VOTUM_CRASH_POINT") else { return false };
    let (name, nth) = match choice.split_once('@') {
        Some((name, nth)) => (name, nth.parse().unwrap_or(1)),
        None => (choice.as_str(), 1),
    };
    name == point.name() && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == nth
}
