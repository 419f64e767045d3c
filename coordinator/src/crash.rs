//! Named crash points: with the feature `crash-points`, and the point's name in `VOTUM_CRASH_POINT`, the
//! process kills itself there as `kill -9` would. Without the feature nothing of this is compiled in.

/// Every point at which a test may kill the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// A transaction was begun, its gtid not yet told.
    Begun,
    /// Commit was asked for; no Prepare has been sent.
    BeforeFirstPrepare,
    /// The first Prepare has been sent, the others not.
    BetweenPrepares,
    /// Every Prepare has been sent, no vote received.
    AfterLastPrepare,
    /// Every vote is in; the decision has not been given to the log.
    VotesIn,
    /// The decision is in the journal's file, not forced.
    DecisionAppended,
    /// The decision is forced; nobody has been told.
    DecisionForced,
    /// The client has been told; no participant has.
    ClientTold,
    /// The first participant has been told, the others not.
    FirstParticipantTold,
    /// Every branch has acknowledged; `Ended` has not been given to the log.
    AllAcknowledged,
    /// `Ended` is on disk.
    Ended,
}

impl CrashPoint {
    /// All of them, in the order in which a commit meets them.
    pub const ALL: [Self; 11] = [
        Self::Begun,
        Self::BeforeFirstPrepare,
        Self::BetweenPrepares,
        Self::AfterLastPrepare,
        Self::VotesIn,
        Self::DecisionAppended,
        Self::DecisionForced,
        Self::ClientTold,
        Self::FirstParticipantTold,
        Self::AllAcknowledged,
        Self::Ended,
    ];
}

#[cfg(feature = "crash-points")]
impl CrashPoint {
    /// The name by which the environment chooses it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::BeforeFirstPrepare => "before-first-prepare",
            Self::BetweenPrepares => "between-prepares",
            Self::AfterLastPrepare => "after-last-prepare",
            Self::VotesIn => "votes-in",
            Self::DecisionAppended => "decision-appended",
            Self::DecisionForced => "decision-forced",
            Self::ClientTold => "client-told",
            Self::FirstParticipantTold => "first-participant-told",
            Self::AllAcknowledged => "all-acknowledged",
            Self::Ended => "ended-on-disk",
        }
    }
}

/// Whether this point was chosen; never, without the feature.
#[inline]
pub fn chosen(point: CrashPoint) -> bool {
    #[cfg(feature = "crash-points")]
    {
        std::env::var("VOTUM_CRASH_POINT").is_ok_and(|name| name == point.name())
    }
    #[cfg(not(feature = "crash-points"))]
    {
        let _ = point;
        false
    }
}

/// Kills this process with SIGKILL if `point` was chosen.
#[inline]
pub fn here(point: CrashPoint) {
    if chosen(point) {
        kill();
    }
}

/// SIGKILL to this process.
fn kill() {
    #[cfg(feature = "crash-points")]
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}
