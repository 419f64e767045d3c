//! Canaries: small deliberate mistakes in production code, each of which the proofs must catch. They exist
//! only in builds with the feature `canaries`, which no program is built with; there one at a time is switched
//! on, for the whole process. Without the feature [`sings`] is `false` at compile time, and nothing is left of
//! them.

/// A mistake that somebody could make, and what it would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Canary {
    /// COMMIT PREPARED goes out before the decision is forced (I3).
    CommitBeforeForced,
    /// The client hears COMMITTED before the decision is forced (I3, I13).
    AnswerBeforeForced,
    /// A decision is taken when one vote is still missing (I2).
    DecideWithoutLastVote,
    /// The timeout still aborts when the decision is on its way to the disk (I4, I5).
    TimeoutWhileDeciding,
    /// Absence is taken for an abort although the log is stale (R8).
    PresumeAbortWhenStale,
    /// Absence is taken for an abort before the store has been counted (R8).
    PresumeAbortUncounted,
    /// Absence is taken for an abort although an agent has not been heard since the start (R8).
    PresumeAbortUnheard,
    /// What a database prepared is not looked for: no listing is asked for, none is acted on (I6).
    DropSweep,
    /// A listing that failed counts as an empty one (R11).
    FailedListingIsEmpty,
    /// "No such prepared transaction" counts as committed without a look at the transaction id (R3).
    AcknowledgeBlindly,
    /// A branch that is prepared again after its acknowledgement is committed without comparing xids (R9, R1x).
    CommitWithoutComparing,
    /// A transaction that has ended is forgotten with its last acknowledgement (I7, R9).
    ForgetEnded,
    /// Retention deletes without waiting for its time, and without a mark (I7, R10).
    DeleteBeforeRetention,
    /// Retention raises a mark past what may be prepared without a decision (R10).
    MarksPassTheUnsettled,
    /// What is still owed is not carried to the next half of the journal (I7).
    ForgetToCarry,
    /// A new life takes the epoch of the one before it (I12).
    ReuseEpoch,
    /// An agent obeys an older epoch (I12).
    SkipFence,
    /// An agent's hello is acted on while parts of it have not been judged (R8).
    ActOnUnjudgedHello,
    /// The witness names a position before its sync (R8, I11).
    WitnessBeforeSync,
    /// After a failed write the log goes on (I11).
    GoOnAfterDoubt,
    /// A session whose connection was lost is opened again in silence (I15).
    ReopenLostSession,
    /// A statement that is repeated runs again (I15).
    RunRepeatedStatement,
    /// A branch votes yes whatever number of statements Commit names (I15).
    IgnoreLastOrdinal,
    /// Prepare is sent again to an agent that has restarted since (I15).
    PrepareAfterRestart,
    /// What a server remembers of a transaction id is believed although its timeline is another one than at the
    /// vote (R3, R15).
    IgnoreTimeline,
    /// A witness that saw more than the log holds does not make it stale (R8).
    IgnoreWitness,
    /// An operator's order is carried out although it contradicts a known decision (I1).
    ResolveAgainstDecision,
    /// Retention forgets a departure that nobody has acknowledged (I7).
    ForgetHeuristic,
    /// Absence is taken for an abort in an epoch of which something was written off (R10).
    PresumeAbortWrittenOff,
    /// A departure from a decision is recorded and ordered while the agent still has the decided order (I1).
    DepartWithoutHold,
    /// The order to commit in one phase goes out before the delegation is forced (I3).
    DelegateBeforeForced,
    /// A commit in one phase whose answer was lost counts as refused (R13).
    GuessLostAnswer,
    /// Where a branch decides for its siblings, they are ordered to commit before its commit is known (I3).
    SiblingsGoFirst,
    /// Absence of a decision is taken for an abort although it was handed to a branch (R13s).
    PresumeAbortDelegated,
    /// A person's word about a branch counts although a sibling's commit marker contradicts it (I1).
    ResolveUnasked,
}

impl Canary {
    /// All of them, in the order in which the table prints them.
    pub const ALL: [Self; 35] = [
        Self::CommitBeforeForced,
        Self::AnswerBeforeForced,
        Self::DecideWithoutLastVote,
        Self::TimeoutWhileDeciding,
        Self::PresumeAbortWhenStale,
        Self::PresumeAbortUncounted,
        Self::PresumeAbortUnheard,
        Self::DropSweep,
        Self::FailedListingIsEmpty,
        Self::AcknowledgeBlindly,
        Self::CommitWithoutComparing,
        Self::ForgetEnded,
        Self::DeleteBeforeRetention,
        Self::MarksPassTheUnsettled,
        Self::ForgetToCarry,
        Self::ReuseEpoch,
        Self::SkipFence,
        Self::ActOnUnjudgedHello,
        Self::WitnessBeforeSync,
        Self::GoOnAfterDoubt,
        Self::ReopenLostSession,
        Self::RunRepeatedStatement,
        Self::IgnoreLastOrdinal,
        Self::PrepareAfterRestart,
        Self::IgnoreTimeline,
        Self::IgnoreWitness,
        Self::ResolveAgainstDecision,
        Self::ForgetHeuristic,
        Self::PresumeAbortWrittenOff,
        Self::DepartWithoutHold,
        Self::DelegateBeforeForced,
        Self::GuessLostAnswer,
        Self::SiblingsGoFirst,
        Self::PresumeAbortDelegated,
        Self::ResolveUnasked,
    ];
}

#[cfg(feature = "canaries")]
mod switch {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Canary;

    /// The place of the chosen canary in [`Canary::ALL`], counted from 1; 0 for none.
    static CHOSEN: AtomicUsize = AtomicUsize::new(0);

    /// Switches one on for the whole process, or all off.
    pub fn choose(canary: Option<Canary>) {
        let place = canary.and_then(|canary| Canary::ALL.iter().position(|other| *other == canary));
        CHOSEN.store(place.map_or(0, |place| place + 1), Ordering::SeqCst);
    }

    /// Whether this one is switched on.
    pub fn sings(canary: Canary) -> bool {
        let place = CHOSEN.load(Ordering::Relaxed);
        place.checked_sub(1).and_then(|place| Canary::ALL.get(place)) == Some(&canary)
    }
}

#[cfg(feature = "canaries")]
pub use switch::{choose, sings};

/// Whether this one is switched on: never, in this build.
#[cfg(not(feature = "canaries"))]
pub const fn sings(_canary: Canary) -> bool {
    false
}
