//! What the log remembers: one enum, folded by the same `apply` in the live path and in recovery.
//!
//! A record is plain data. Its binary form, and the rule that it stays under 4 KiB, belong to the log.

use serde::{Deserialize, Serialize};
use votum_proto::names::{BranchNumber, CoordinatorId, Epoch, Gid, Gtid, Life, ParticipantName};

/// The longest idempotency key, in bytes.
pub const MAX_KEY: usize = 128;
/// The longest label or client name, in bytes.
pub const MAX_LABEL: usize = 64;
/// The longest reason, message or note that is kept, in bytes. Longer ones are cut.
pub const MAX_TEXT: usize = 256;
/// The most branches that one transaction may have, so that its decision fits in one record.
pub const MAX_BRANCHES: usize = 32;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// Whose log this is. The first record, once.
    Identity(Identity),
    /// A life began. The list of all lives is kept for ever.
    Epoch(EpochBegun),
    /// Seqs up to `until` may be handed out in `life`.
    Lease {
        /// The life that holds the lease.
        life: Life,
        /// The highest seq that may be handed out.
        until: u64,
    },
    /// A transaction was begun. For people: nothing rests on it.
    Begun(Begun),
    /// The decision. With `Decision::Commit`, this record is the transaction.
    Decided(Decided),
    /// The decision was handed to one branch, whose commit it is ([`Decided::deciding`]).
    Delegated(Decided),
    /// Every branch has acknowledged.
    Ended {
        /// The transaction.
        gtid: Gtid,
    },
    /// A branch ended otherwise than decided, or nobody can say how.
    Heuristic(Heuristic),
    /// A person settled a branch.
    Resolved(Resolved),
    /// A record of the earlier half of the journal that is still owed, appended again.
    Carried(Box<Carried>),
    /// A person has seen how a branch departed from the decision, and dealt with it.
    Acknowledged(Acknowledged),
    /// A person has given up what this log lacks of its epochs.
    WrittenOff(WrittenOff),
    /// A person has compared the databases after a change of timeline, where nobody could prove what is there.
    Compared(Compared),
}

/// Whose log this is.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// A configuration with another id does not open this log.
    pub coordinator_id: CoordinatorId,
    /// What secrets are derived from. Never printed.
    pub key: [u8; 32],
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("coordinator_id", &self.coordinator_id).finish_non_exhaustive()
    }
}

/// A life began.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpochBegun {
    /// Which.
    pub life: Life,
    /// The position of this record when it was first written.
    pub first_position: u64,
}

/// A transaction was begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Begun {
    /// Its name.
    pub gtid: Gtid,
    /// The application's own words for it; empty when it gave none.
    pub label: String,
    /// Who began it; empty when it did not say.
    pub client: String,
    /// Its timeout.
    pub timeout_ms: u64,
}

/// Commit or abort.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Decision {
    /// All branches commit.
    Commit,
    /// No branch commits.
    Abort(AbortReason),
}

/// A decision and all that phase 2, recovery and a retrying client need of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decided {
    /// The transaction.
    pub gtid: Gtid,
    /// What was decided.
    pub decision: Decision,
    /// How many branches Commit named, read-only ones included: part of every gid. 0 where some were attached.
    pub branches_named: BranchNumber,
    /// The branches that voted yes. For an abort: those that had voted yes until then. Where a branch decided that
    /// was never prepared, it is the last of them, and has no transaction id.
    pub branches: Vec<PreparedBranch>,
    /// The idempotency key, where the client gave one.
    pub key: Option<KeyRecord>,
    /// As in `Begun`.
    pub label: String,
}

impl Decided {
    /// The gid of one of its branches.
    pub fn gid(&self, branch: BranchNumber) -> Gid {
        Gid { gtid: self.gtid.clone(), branch, branches: self.branches_named }
    }

    /// Of a delegation: the branch to which the decision is handed. The only one, or the one without an id.
    pub fn deciding(&self) -> Option<&PreparedBranch> {
        match self.branches.as_slice() {
            [only] => Some(only),
            branches => branches.iter().find(|branch| branch.was_never_prepared()),
        }
    }
}

/// A branch that voted yes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PreparedBranch {
    /// Its place in Commit's list.
    pub number: BranchNumber,
    /// Where it is.
    pub participant: ParticipantName,
    /// The transaction id that its server gave it; 0 where its own commit decided for its siblings, before which it
    /// had none.
    pub xid8: u64,
    /// The server's own name, from `pg_control_system()`.
    pub system_identifier: u64,
    /// The server's timeline when it prepared.
    pub timeline: u32,
    /// Whether it carries a commit marker.
    pub marker: bool,
}

impl PreparedBranch {
    /// Whether it decided for its siblings, which alone were prepared: its commit marker says how it ended.
    pub fn was_never_prepared(&self) -> bool {
        self.xid8 == 0
    }
}

/// An idempotency key and the hash of the request that it stands for. Key and outcome are one record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The client's name: keys of different clients do not meet.
    pub client: String,
    /// The key.
    pub key: String,
    /// SHA-256 over the request's parameters and the client's digest.
    pub request_hash: [u8; 32],
}

/// Why a transaction was aborted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AbortReason {
    /// What kind of cause.
    pub kind: AbortKind,
    /// The participant whose branch was the cause, when there is one.
    pub participant: Option<ParticipantName>,
    /// The SQLSTATE, when a database's answer was the cause; else empty.
    pub sqlstate: String,
    /// For people; at most [`MAX_TEXT`] bytes.
    pub message: String,
}

/// What kind of cause aborted a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AbortKind {
    /// The client asked for it.
    RolledBack,
    /// The timeout passed before every vote was in.
    Timeout,
    /// A participant refused to prepare.
    VotedNo,
    /// A session, connection or agent ended before its branch was prepared.
    BranchLost,
    /// The coordinator ended it.
    Coordinator,
}

/// A branch that ended otherwise than decided, or of which nobody can say how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heuristic {
    /// The branch.
    pub gid: Gid,
    /// Where it is.
    pub participant: ParticipantName,
    /// The transaction id that the vote reported.
    pub xid8: u64,
    /// In which way.
    pub kind: HeuristicKind,
    /// What was seen, for people; at most [`MAX_TEXT`] bytes.
    pub detail: String,
}

impl Heuristic {
    /// Those of one transaction's that are known to have departed from the decision, in the order in which they
    /// were recorded: of each branch the newest word counts. A branch that was mended has not departed.
    pub fn departures(all: &[Self]) -> impl Iterator<Item = &Self> {
        let newest = |at: usize, gid: &Gid| !all.iter().skip(at + 1).any(|later| later.gid == *gid);
        let standing = all.iter().enumerate().filter(move |(at, heuristic)| newest(*at, &heuristic.gid));
        standing.map(|(_, heuristic)| heuristic).filter(|h| h.kind != HeuristicKind::Mended)
    }
}

/// In which way a branch departed from the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HeuristicKind {
    /// Decided commit, rolled back.
    Rollback,
    /// Decided abort, committed.
    Commit,
    /// Nobody can say.
    Hazard,
    /// It ended as decided after all: prepared again after a hazard or an acknowledgement, or ended before a
    /// person's departure from the decision was carried out.
    Mended,
}

/// A person settled a branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resolved {
    /// The branch.
    pub gid: Gid,
    /// Where it is.
    pub participant: ParticipantName,
    /// The low 32 bits of the prepared transaction's id: the judgement holds for this one only.
    pub xid: u32,
    /// True: committed. False: rolled back.
    pub commit: bool,
    /// Who did it; at most [`MAX_LABEL`] bytes.
    pub operator: String,
    /// Why; at most [`MAX_TEXT`] bytes.
    pub reason: String,
}

/// A person has seen how a branch departed from the decision: retention may take it from now on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The branch.
    pub gid: Gid,
    /// Where it is.
    pub participant: ParticipantName,
    /// Who did it; at most [`MAX_LABEL`] bytes.
    pub operator: String,
    /// What was done about it; at most [`MAX_TEXT`] bytes.
    pub reason: String,
}

/// A person's way out of a stale log: what others have seen of it, and it lacks, is lost. The next life's
/// epoch is above all of them; of theirs, the absence of a record proves nothing for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WrittenOff {
    /// The newest epoch of which something may be lacking.
    pub through: Epoch,
    /// What was seen, and by whom; at most [`MAX_TEXT`] bytes.
    pub seen: String,
    /// Who did it; at most [`MAX_LABEL`] bytes.
    pub operator: String,
    /// Why; at most [`MAX_TEXT`] bytes.
    pub reason: String,
}

/// A person has compared the databases after a participant's server had changed its timeline, and has dealt with
/// what was lost. It holds for that change alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Compared {
    /// Whose server.
    pub participant: ParticipantName,
    /// The server's own name.
    pub system_identifier: u64,
    /// The timeline to which it had changed.
    pub timeline: u32,
    /// Of how many commits nobody could prove that they are there.
    pub unproven: u64,
    /// Who did it; at most [`MAX_LABEL`] bytes.
    pub operator: String,
    /// What was found, and done; at most [`MAX_TEXT`] bytes.
    pub reason: String,
}

/// A record that was still owed when the journal changed halves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Carried {
    /// The record's own position, under which the store keeps it.
    pub position: u64,
    /// The running time at which it was first written, in milliseconds.
    pub running_ms: u64,
    /// The record. Never itself a `Carried`.
    pub record: Record,
}

impl Record {
    /// The transaction that the record is about, if it is about one.
    pub fn gtid(&self) -> Option<&Gtid> {
        match self {
            Self::Identity(_)
            | Self::Epoch(_)
            | Self::Lease { .. }
            | Self::WrittenOff(_)
            | Self::Compared(_) => None,
            Self::Begun(begun) => Some(&begun.gtid),
            Self::Decided(decided) | Self::Delegated(decided) => Some(&decided.gtid),
            Self::Ended { gtid } => Some(gtid),
            Self::Heuristic(heuristic) => Some(&heuristic.gid.gtid),
            Self::Resolved(resolved) => Some(&resolved.gid.gtid),
            Self::Acknowledged(acknowledged) => Some(&acknowledged.gid.gtid),
            Self::Carried(carried) => carried.record.gtid(),
        }
    }

    /// The record's kind, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Identity(_) => "Identity",
            Self::Epoch(_) => "Epoch",
            Self::Lease { .. } => "Lease",
            Self::Begun(_) => "Begun",
            Self::Decided(_) => "Decided",
            Self::Delegated(_) => "Delegated",
            Self::Ended { .. } => "Ended",
            Self::Heuristic(_) => "Heuristic",
            Self::Resolved(_) => "Resolved",
            Self::Carried(_) => "Carried",
            Self::Acknowledged(_) => "Acknowledged",
            Self::WrittenOff(_) => "WrittenOff",
            Self::Compared(_) => "Compared",
        }
    }
}

/// Cuts `text` to at most `bytes` bytes, at a character's edge.
pub fn cut(text: &str, bytes: usize) -> String {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= bytes).last();
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
