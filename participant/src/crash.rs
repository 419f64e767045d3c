//! Named crash points: with the feature `crash-points`, and the point's name in `VOTUM_CRASH_POINT` (see
//! [`votum_proto::crash`]), the process kills itself there as `kill -9` would, or stands still. Without the
//! feature nothing of this is compiled in.

votum_proto::crash_points! {
    /// Every point at which a test may kill the agent.
    pub enum CrashPoint {
        /// A session stands; its transaction has not been opened.
        BeforeBegin = "before-begin",
        /// BEGIN was sent, with the first statement; what the database answers is not heard.
        DuringBegin = "during-begin",
        /// The transaction was opened and its first statement has run; nobody has been told.
        AfterBegin = "after-begin",
        /// A statement was received; the database has not been asked.
        BeforeStatement = "before-statement",
        /// A statement after the first was sent; what the database answers is not heard.
        DuringStatement = "during-statement",
        /// A statement has run; its reply has not been ended.
        StatementRun = "statement-run",
        /// A Prepare was received; the database has not been asked.
        BeforePrepare = "before-prepare",
        /// PREPARE TRANSACTION was sent; what the database answers is not heard.
        DuringPrepare = "during-prepare",
        /// All the work of a branch, from BEGIN to PREPARE TRANSACTION, was sent; what the database answers is not
        /// heard.
        DuringWork = "during-work",
        /// The database has prepared; no vote was given.
        AfterPrepare = "after-prepare",
        /// The database was asked about attached branches; no vote was given.
        AttachedVerified = "attached-verified",
        /// The vote has been handed to the exchange.
        VoteSent = "vote-sent",
        /// An order to commit, in one phase or in two, was received; the database has not been asked.
        BeforeCommitPrepared = "before-commit-prepared",
        /// COMMIT PREPARED was sent; what the database answers is not heard.
        DuringCommitPrepared = "during-commit-prepared",
        /// The database has committed; nobody has been told.
        AfterCommitPrepared = "after-commit-prepared",
        /// COMMIT of a transaction's only branch was sent; what the database answers is not heard.
        DuringCommitOnePhase = "during-commit-one-phase",
        /// The database has committed it; nobody has been told.
        AfterCommitOnePhase = "after-commit-one-phase",
        /// How such a branch ended has been settled by a tombstone, or its marker read; nobody has been told.
        BranchSettled = "branch-settled",
        /// An order to roll back a prepared branch was received; the database has not been asked.
        BeforeRollbackPrepared = "before-rollback-prepared",
        /// ROLLBACK PREPARED was sent; what the database answers is not heard.
        DuringRollbackPrepared = "during-rollback-prepared",
        /// The database has rolled back; nobody has been told.
        AfterRollbackPrepared = "after-rollback-prepared",
        /// How a prepared branch ended has been handed to the exchange.
        AcknowledgementSent = "acknowledgement-sent",
        /// A participant was listed; the coordinator has not been told.
        Listed = "participant-listed",
    }
}

votum_proto::crash_strikes!(CrashPoint);

/// Does `work`; if `point` was chosen and this is its time, strikes while the work is under way. A process that
/// is to die there hears no answer any more, however quickly it comes.
#[cfg(feature = "crash-points")]
pub async fn during<T>(point: CrashPoint, work: impl Future<Output = T>) -> T {
    use votum_proto::crash::Blow;
    let Some(blow) = votum_proto::crash::chosen().pass(point.name()) else { return work.await };
    std::thread::spawn(move || {
        #[allow(clippy::disallowed_methods)]
        // not a wait for an event: the work's time to reach the database
        std::thread::sleep(std::time::Duration::from_millis(10));
        strike(blow);
    });
    let done = work.await;
    match blow {
        Blow::Kill => std::future::pending().await,
        Blow::Stop | Blow::Pause => done,
    }
}

/// Does `work`.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn during<F: Future>(point: CrashPoint, work: F) -> F {
    let _ = point;
    work
}
