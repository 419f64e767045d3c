//! Named crash points: with the feature `crash-points`, and the point's name in `VOTUM_CRASH_POINT`, the
//! process kills itself there as `kill -9` would. At points that lie before a message, `NAME@N` spares it
//! until the Nth time it comes by. Without the feature nothing of this is compiled in.

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

/// Whether this point was chosen, for the first time it is passed; never, without the feature.
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

/// Kills this process with SIGKILL if `point` was chosen; with `NAME@N`, when it is passed for the Nth time.
#[inline]
pub fn here(point: CrashPoint) {
    if chosen(point) || is_time(point) {
        kill();
    }
}

/// Whether `NAME@N` was chosen and this is the Nth time.
#[inline]
fn is_time(point: CrashPoint) -> bool {
    #[cfg(feature = "crash-points")]
    {
        use std::sync::atomic::{AtomicU64, Ordering};
        // Only one point can be chosen, so one count is enough.
        static PASSED: AtomicU64 = AtomicU64::new(0);
        let Ok(wish) = std::env::var("VOTUM_CRASH_POINT") else { return false };
        let Some((name, time)) = wish.split_once('@') else { return false };
        name == point.name() && Ok(PASSED.fetch_add(1, Ordering::Relaxed) + 1) == time.parse()
    }
    #[cfg(not(feature = "crash-points"))]
    {
        let _ = point;
        false
    }
}

/// Kills this process a moment from now, from a thread of its own: for points that lie after a message,
/// which has to leave first. The caller does nothing more.
pub fn soon(point: CrashPoint) {
    #[cfg(feature = "crash-points")]
    if chosen(point) {
        std::thread::spawn(|| {
            #[allow(clippy::disallowed_methods)] // not a wait for an event: the message's time to leave
            std::thread::sleep(std::time::Duration::from_millis(250));
            kill();
        });
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}

/// SIGKILL to this process.
fn kill() {
    #[cfg(feature = "crash-points")]
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}
