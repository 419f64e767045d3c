//! What can happen to a transaction, and what it asks for in return.

use votum_proto::names::{BranchNumber, Gid, ParticipantName, SessionName};

use super::gone::Gone;
use super::record::{AbortReason, Heuristic, Record, Resolved};

/// One branch of a Commit, as the client saw it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BranchClaim {
    /// Where it is.
    pub participant: ParticipantName,
    /// As the reply to its first Execute named it.
    pub session: SessionName,
    /// The last ordinal whose reply the client saw.
    pub last_ordinal: u64,
}

/// Something that happened to one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// An agent reports a session that was opened for the transaction.
    Enlisted {
        /// Where.
        participant: ParticipantName,
        /// Which.
        session: SessionName,
    },
    /// The client asks for the decision. The first such event's list stands.
    CommitRequested {
        /// Every hosted branch.
        claims: Vec<BranchClaim>,
    },
    /// The client, or the coordinator, wants it aborted.
    RollbackRequested(AbortReason),
    /// The transaction's time is over.
    TimedOut,
    /// An agent's vote. The same vote may arrive again.
    Voted {
        /// Where.
        participant: ParticipantName,
        /// For which branch.
        branch: BranchNumber,
        /// What.
        vote: Vote,
    },
    /// A session ended before it was prepared.
    SessionLost {
        /// Where.
        participant: ParticipantName,
        /// Which.
        session: SessionName,
        /// Why.
        reason: AbortReason,
    },
    /// A stream to the participant's agent stands (again), after its hello was judged.
    AgentSeen {
        /// The participant.
        participant: ParticipantName,
        /// The life of the agent.
        instance: u64,
    },
    /// A record that this transaction asked to persist is on disk.
    Durable(Record),
    /// An agent answers an order to commit or to roll back.
    BranchEnded {
        /// Which branch.
        branch: BranchNumber,
        /// Whether the order was to commit.
        was_commit: bool,
        /// The answer.
        report: Report,
    },
    /// Time to ask again how a branch ended.
    AskAgain {
        /// Which branch.
        branch: BranchNumber,
    },
    /// A person wants a branch ended otherwise than decided, and `Transaction::may_depart` says that it may be:
    /// nothing is ordered of it until the agent has let go of what was.
    Hold {
        /// Which branch.
        branch: BranchNumber,
    },
    /// Nothing comes of that: the branch is ended as decided.
    Release {
        /// Which branch.
        branch: BranchNumber,
    },
    /// The agent has let go of every order about a branch that is held, and it is prepared: it is ended as this
    /// person says.
    Overrule(Resolved),
}

/// An agent's vote on one branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Vote {
    /// Prepared.
    Yes(Prepared),
    /// Wrote nothing, and has been committed.
    ReadOnly,
    /// Not prepared, and can be committed in one phase: an offer, which its session's end takes back.
    Ready(Prepared),
    /// Refused.
    No(AbortReason),
}

/// What a yes vote says of the prepared branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prepared {
    /// The full transaction id.
    pub xid8: u64,
    /// The server's own name.
    pub system_identifier: u64,
    /// The server's timeline.
    pub timeline: u32,
    /// Whether it carries a commit marker.
    pub marker: bool,
}

/// How an agent answers an order to end a branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Report {
    /// Carried out, by this agent.
    Done,
    /// Nothing of the branch was prepared.
    NeverPrepared,
    /// Not prepared any more, and not by this agent's doing as far as it knows.
    Gone(Gone),
    /// The gid is prepared with another xid.
    OtherXid(u32),
    /// The database refused to commit it in one phase.
    Refused(AbortReason),
}

/// What a transaction asks of the driver. Carried out in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Give the record to the log; `Event::Durable` returns it. Forced: nothing may be told before.
    Persist {
        /// The record.
        record: Record,
        /// Whether somebody waits for it.
        forced: bool,
    },
    /// Order a prepare.
    SendPrepare {
        /// Where.
        participant: ParticipantName,
        /// Under which name.
        gid: Gid,
        /// Which session.
        session: SessionName,
        /// How many statements it must have run.
        last_ordinal: u64,
        /// It is the only branch: the agent may offer to commit it in one phase.
        one_phase: bool,
    },
    /// Have an attached branch looked up, and voted on.
    SendVerifyAttached {
        /// Where.
        participant: ParticipantName,
        /// Under which name it is to be prepared.
        gid: Gid,
    },
    /// Order a commit. Only ever an effect of a durable decision (I3).
    SendCommit {
        /// Where.
        participant: ParticipantName,
        /// Which branch.
        gid: Gid,
        /// What must be found under that name.
        xid8: u64,
        /// Whether the agent looks before it acts: always, except at the first order.
        compare_first: bool,
    },
    /// Order a commit in one phase, or to settle how that ended. Only ever an effect of a durable delegation (I3).
    SendCommitOnePhase {
        /// Where.
        participant: ParticipantName,
        /// Which branch.
        gid: Gid,
        /// It is the first: the last of several branches is given its work with this one, and with no other.
        first: bool,
    },
    /// Order a rollback, or the end of a session that was not prepared.
    SendRollback {
        /// Where.
        participant: ParticipantName,
        /// Which branch; `None` where Prepare was never sent.
        gid: Option<Gid>,
        /// What must be found under that name; 0: not known.
        xid8: u64,
        /// Or its low half, from a listing; 0: not known.
        listed_xid: u32,
    },
    /// Have the agent let go of every order about a branch.
    SendHold {
        /// Where.
        participant: ParticipantName,
        /// Which branch.
        gid: Gid,
    },
    /// End a session that is no branch of this transaction.
    EndSession {
        /// Where.
        participant: ParticipantName,
    },
    /// The outcome stands: whoever waits for the decision may be told (I3, I4, I5).
    TellDecided,
    /// Every branch has ended: whoever waits for completion may be told.
    TellCompleted,
    /// Refuse the request that was being handled; nothing has changed.
    Refuse(String),
    /// Send `Event::AskAgain` after a back-off.
    AskAgainLater {
        /// Which branch.
        branch: BranchNumber,
    },
    /// A person has to know.
    Alarm {
        /// A stable code.
        code: &'static str,
        /// About this branch, until a listing shows that it is over; `None`: about the transaction, until it
        /// has ended.
        gid: Option<Gid>,
        /// Where.
        participant: ParticipantName,
        /// What was seen.
        detail: String,
    },
    /// A branch departed from the decision. Follows the record's `Persist`.
    NoteHeuristic(Heuristic),
    /// Nothing is left to do: the transaction may leave memory.
    Retire,
}
