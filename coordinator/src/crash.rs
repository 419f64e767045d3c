//! Named crash points: with the feature `crash-points`, and the point's name in `VOTUM_CRASH_POINT` (see
//! [`votum_proto::crash`]), the process kills itself there as `kill -9` would, or stands still. Without the
//! feature nothing of this is compiled in.

use crate::protocol::recovery::Row;

votum_proto::crash_points! {
    /// Every point at which a test may kill the coordinator.
    pub enum CrashPoint {
        /// A transaction was begun, its gtid not yet told.
        Begun = "transaction-begun",
        /// Commit was asked for; no Prepare has been sent.
        BeforeFirstPrepare = "before-first-prepare",
        /// The first Prepare has been sent, the others not.
        BetweenPrepares = "between-prepares",
        /// Every Prepare has been sent, no vote received.
        AfterLastPrepare = "after-last-prepare",
        /// Every vote is in; the decision has not been given to the log.
        VotesIn = "votes-in",
        /// The decision, or that it is the branch's own, is in the journal's file, not forced.
        DecisionAppended = "decision-appended",
        /// That is forced; nobody has been told.
        DecisionForced = "decision-forced",
        /// The client has been told; no participant has.
        ClientTold = "client-told",
        /// The first participant has been told, the others not.
        FirstParticipantTold = "first-participant-told",
        /// The branch has been told to commit in one phase.
        HandedOver = "commit-handed-over",
        /// It has answered; nothing was recorded, and nobody told.
        OnePhaseAnswered = "one-phase-answered",
        /// Every branch has acknowledged; `Ended` has not been given to the log.
        AllAcknowledged = "all-acknowledged",
        /// `Ended` is on disk.
        Ended = "ended-on-disk",
        /// An agent has let go of a branch that a person departs with; nothing is recorded.
        BranchHeld = "branch-held",
        /// What that person said is on disk; nothing was ordered.
        DepartureRecorded = "departure-recorded",
        /// A start has forced its epoch and its first lease; nothing was said to anyone.
        LifeBegun = "life-begun",
        /// The history is counted; nobody was asked for a listing.
        LogCounted = "log-counted",
        /// A batch of any kind is in the journal's file, not forced.
        BatchWritten = "batch-written",
        /// A batch is forced; nobody knows yet.
        BatchForced = "batch-forced",
        /// The journal changes halves: the store is durable, the other half as it was.
        HalfStored = "journal-half-stored",
        /// The other half begins with what is owed, forced; the half that was left has not been closed.
        HalfCarried = "journal-half-carried",
        /// The half that was left is closed.
        HalfClosed = "journal-half-closed",
        /// Retention: marks and gaps are on disk, every record is still there.
        RetentionMarked = "retention-marked",
        /// Some of the records that retention drops are gone.
        RetentionDropping = "retention-dropping",
        /// All of them are gone.
        RetentionDropped = "retention-dropped",
        /// No complete answer came from a participant; nothing was concluded.
        JudgedR11 = "judged-r11",
        /// A gid that is not ours was listed; nothing was done.
        JudgedR12 = "judged-r12",
        /// A branch with a recorded departure or resolution is prepared again; nothing was done.
        JudgedR16 = "judged-r16",
        /// A branch of a decided commit is prepared; nothing was done.
        JudgedR1 = "judged-r1",
        /// Other work is prepared under the name of a decided commit; nothing was done.
        JudgedR1x = "judged-r1x",
        /// A branch of a decided abort is prepared; nothing was done.
        JudgedR14 = "judged-r14",
        /// A branch of a decided commit is gone (R2 where it had been acknowledged); nothing was concluded.
        JudgedR3 = "judged-r3",
        /// A branch of a decided abort is gone, not by us; nothing was concluded.
        JudgedR15 = "judged-r15",
        /// How a commit in one phase ended was settled by its marker; nothing was concluded.
        JudgedR13 = "judged-r13",
        /// A session of a transaction that is not live is open; nothing was done.
        JudgedR0 = "judged-r0",
        /// A branch of a live, undecided transaction is prepared; nothing was done.
        JudgedR6 = "judged-r6",
        /// A branch is prepared of which absence proves nothing; nothing was done.
        JudgedR8 = "judged-r8",
        /// A branch is prepared which may be older than the log's memory; nothing was done.
        JudgedR10 = "judged-r10",
        /// A branch is prepared of which there was never a decision; nothing was done.
        JudgedR5 = "judged-r5",
    }
}

votum_proto::crash_strikes!(CrashPoint);

/// [`here`] at a row of the recovery table that applies. R13s cannot be met while only transactions of one branch
/// are committed in one phase.
#[inline]
pub fn judged(row: Row) {
    match row {
        Row::R11 => here(CrashPoint::JudgedR11),
        Row::R12 => here(CrashPoint::JudgedR12),
        Row::R16 => here(CrashPoint::JudgedR16),
        Row::R1 => here(CrashPoint::JudgedR1),
        Row::R1x => here(CrashPoint::JudgedR1x),
        Row::R14 => here(CrashPoint::JudgedR14),
        Row::R13 => here(CrashPoint::JudgedR13),
        Row::R13s => {}
        Row::R2 | Row::R3 => here(CrashPoint::JudgedR3),
        Row::R15 => here(CrashPoint::JudgedR15),
        Row::R0 => here(CrashPoint::JudgedR0),
        Row::R6 => here(CrashPoint::JudgedR6),
        Row::R8 => here(CrashPoint::JudgedR8),
        Row::R10 => here(CrashPoint::JudgedR10),
        Row::R5 => here(CrashPoint::JudgedR5),
    }
}

/// For points that lie after a message, which has to leave first: if `point` was chosen and this is its time,
/// strikes a moment from now, from a thread of its own, and says so. The caller then does nothing more. A
/// process that is to go on again stands still at once, and its message leaves when it does.
#[inline]
pub fn soon(point: CrashPoint) -> bool {
    #[cfg(feature = "crash-points")]
    {
        let Some(blow) = votum_proto::crash::chosen().pass(point.name()) else { return false };
        if blow == votum_proto::crash::Blow::Pause {
            strike(blow);
            return false;
        }
        std::thread::spawn(move || {
            #[allow(clippy::disallowed_methods)] // not a wait for an event: the message's time to leave
            std::thread::sleep(std::time::Duration::from_millis(100));
            strike(blow);
        });
        true
    }
    #[cfg(not(feature = "crash-points"))]
    {
        let _ = point;
        false
    }
}
