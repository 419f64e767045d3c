//! What a state of the model holds. Everything is ordered (no hash maps) and small: what no rule reads is not
//! kept, and what is the same for every schedule (transaction ids, say) does not depend on one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use votum_coordinator::protocol::event::Report;
use votum_coordinator::protocol::lives::{Lives, Witness};
use votum_coordinator::protocol::record::{AbortKind, AbortReason, Heuristic, Record};
use votum_coordinator::protocol::transaction::Transaction;
use votum_participant::fence::Fence;
use votum_proto::names::{CoordinatorId, Epoch, Gid, Gtid, Incarnation, Life, ParticipantName, SessionName};

/// The coordinator's name.
pub(crate) static ACME: LazyLock<CoordinatorId> = LazyLock::new(|| "acme".parse().unwrap());

/// The participants' names, by index.
pub(crate) static NAMES: LazyLock<Vec<ParticipantName>> =
    LazyLock::new(|| ["a", "b", "c"].iter().map(|name| name.parse().unwrap()).collect());

/// The index of a participant.
pub(crate) fn index(name: &ParticipantName) -> usize {
    NAMES.iter().position(|known| known == name).unwrap()
}

/// One reason for everything that agents and clients say, so that states do not differ by words.
pub(crate) fn reason(kind: AbortKind) -> AbortReason {
    AbortReason { kind, participant: None, sqlstate: String::new(), message: String::new() }
}

/// The whole world at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// `None` while it is down.
    pub(crate) coordinator: Option<Arc<Coordinator>>,
    pub(crate) log: Arc<Log>,
    /// By participant; `None` while it is down.
    pub(crate) agents: Vec<Option<Arc<Agent>>>,
    /// How often each agent was started: its instance.
    pub(crate) agent_starts: Vec<u64>,
    pub(crate) databases: Vec<Arc<Database>>,
    /// Sorted: in which order they were sent is forgotten.
    pub(crate) network: Vec<Message>,
    pub(crate) clients: Vec<Client>,
    /// What was seen on the way here, which the invariants need and no part of the system knows.
    pub(crate) seen: Arc<Seen>,
    /// How many more faults may happen.
    pub(crate) faults_left: u8,
}

/// The log: what is on disk, and what is on its way there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    pub(crate) durable: Vec<Entry>,
    /// Given to the log and not on disk: lost at a crash, or any first part of it is not.
    pub(crate) tail: Vec<Given>,
}

/// One position of the log.
#[allow(clippy::large_enum_variant)] // a handful of them
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// A life began; its lease is of ten.
    Life(Life),
    Record(Record),
}

/// A record that the coordinator waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Given {
    pub(crate) record: Record,
    pub(crate) forced: bool,
    /// Whether a transaction waits for it, and not only a person.
    pub(crate) awaited: bool,
}

/// The coordinator's memory: what the driver keeps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Coordinator {
    pub(crate) life: Life,
    pub(crate) next_seq: u64,
    pub(crate) live: BTreeMap<Gtid, Live>,
    /// The outcomes of transactions that left memory: true for a commit.
    pub(crate) recent: BTreeMap<Gtid, Said>,
    pub(crate) lives: Lives,
    pub(crate) counted: bool,
    pub(crate) stale: bool,
    pub(crate) links: Vec<Link>,
    pub(crate) mending: BTreeMap<Gid, Heuristic>,
}

/// A live transaction, with its timers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Live {
    pub(crate) transaction: Transaction,
    pub(crate) deadline: bool,
    pub(crate) asking_again: BTreeSet<u16>,
}

/// The stream to one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Down,
    /// The agent's hello is under way.
    Greeting,
    Up {
        instance: u64,
    },
}

/// An agent's memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Agent {
    pub(crate) instance: u64,
    pub(crate) fence: Fence,
    pub(crate) witness: Option<Witness>,
    pub(crate) sessions_opened: u64,
    pub(crate) branches: BTreeMap<Gtid, Branch>,
    /// By transaction: the order under way, and those behind it, each with the life that gave it.
    pub(crate) orders: BTreeMap<Gtid, Vec<(Life, EndOrder)>>,
}

/// A branch, as its agent knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Branch {
    pub(crate) session: SessionName,
    pub(crate) phase: BranchPhase,
    pub(crate) last: u64,
    pub(crate) gid: Option<Gid>,
    /// What the order to prepare named: session and last ordinal.
    pub(crate) asked: Option<(SessionName, u64)>,
    pub(crate) vote: Option<SaidVote>,
    pub(crate) prepared: Option<u64>,
    pub(crate) perhaps_prepared: bool,
    /// Somebody wants it to end.
    pub(crate) ending: bool,
}

/// As in the agent's `branch.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BranchPhase {
    Open,
    Preparing,
    Unsettled,
    Settled,
}

/// An order about what is prepared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum EndOrder {
    Commit { gid: Gid, xid8: u64, listed_xid: u32, compare_first: bool },
    Rollback { gid: Option<Gid>, xid8: u64, listed_xid: u32 },
}

/// A database. What it has written survives its crash; its sessions do not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    pub(crate) up: bool,
    pub(crate) timeline: u32,
    /// Sessions with an open transaction.
    pub(crate) open: BTreeMap<Gtid, Work>,
    /// A backend whose connection broke in PREPARE, and which is still at it.
    pub(crate) late: BTreeMap<Gid, Work>,
    pub(crate) prepared: BTreeMap<Gid, Work>,
    /// What became of each transaction that wrote, by xid8.
    pub(crate) fates: BTreeMap<u64, (Work, Fate)>,
}

/// What one database transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    /// For which transaction; `None`: nobody's that we know, under one of our names.
    pub(crate) of: Option<Gtid>,
    pub(crate) xid8: u64,
    /// In which session, and how many statements ran.
    pub(crate) session: SessionName,
    pub(crate) statements: u64,
    pub(crate) wrote: bool,
}

/// How a database transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// By an order of ours, or as read-only.
    Committed,
    /// Prepared, and rolled back by an order of ours.
    RolledBack,
    /// Never prepared.
    Dropped,
    /// By a person.
    CommittedByHand,
    RolledBackByHand,
    /// A failover lost it.
    Lost,
}

/// A client with one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) gtid: Option<Gtid>,
    pub(crate) stage: Stage,
    /// By participant: the session, and the last ordinal, of which it saw a reply.
    pub(crate) replies: BTreeMap<usize, (SessionName, u64)>,
    /// The participant whose reply was lost: it runs the statement again.
    pub(crate) unanswered: Option<usize>,
}

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// It has not begun.
    Idle,
    Working,
    /// It asked for the decision, and waits.
    Waiting,
    /// It was told.
    Told,
    /// It waits no more: it vanished, or the coordinator did.
    Gone,
}

/// An outcome that was said to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Said {
    Committed,
    Aborted,
    ReadOnly,
}

/// What was seen on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// Everything that was answered about a transaction, to its client or to an observer who asks after every
    /// step.
    pub(crate) said: BTreeSet<(Gtid, Said)>,
    /// Commits that were ever on disk.
    pub(crate) forced: BTreeSet<Gtid>,
    /// The instances of the agent that were asked to prepare a branch.
    pub(crate) asked_to_prepare: BTreeMap<(usize, Gid), BTreeSet<u64>>,
    /// An agent showed this life of the coordinator that its log had held more.
    pub(crate) proof_shown: bool,
    /// It presumed an abort after that.
    pub(crate) presumed_all_the_same: bool,
    /// The log was replaced by an older copy.
    pub(crate) rolled_back: bool,
    /// Frames carry a witness: where the log is never replaced it would only tell equal states apart.
    pub(crate) witnesses: bool,
    /// How many lives there were: where incarnations come from.
    pub(crate) starts: u32,
}

/// A message under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Message {
    /// The participant whose agent sends or receives it.
    pub(crate) agent: usize,
    /// The life that sent it, or to which it goes.
    pub(crate) life: Life,
    pub(crate) body: Body,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Body {
    Order(Order, Option<u64>),
    Say(Say),
}

/// What a coordinator orders.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Order {
    Prepare { gid: Gid, session: SessionName, last_ordinal: u64 },
    End(Gtid, EndOrder),
    EndSession(Gtid),
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Say {
    Hello { instance: u64, witness: Option<(Life, u64)>, listing: Listing },
    Enlisted(Gtid, SessionName),
    Vote(Gid, SaidVote),
    Ended { gid: Gid, was_commit: bool, report: SaidReport },
    SessionLost(Gtid, SessionName),
    Listing(Listing),
}

/// What an agent found at its database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Listing {
    pub(crate) failed: bool,
    pub(crate) prepared: Vec<(Gid, u32)>,
    pub(crate) sessions: Vec<(Gtid, SessionName)>,
}

/// A vote, in a form that can be sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SaidVote {
    Yes { xid8: u64, timeline: u32 },
    ReadOnly,
    No,
}

/// A report, in a form that can be sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SaidReport {
    Done,
    NeverPrepared,
    Gone { timeline: u32, status: Remembered },
    OtherXid(u32),
}

/// What a database remembers of a transaction id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Remembered {
    Committed,
    Aborted,
    InProgress,
    NotReached,
    NotAsked,
}

/// The life that begins at the `starts`-th start, after `last`.
pub(crate) fn next_life(last: Option<Life>, starts: u32) -> Life {
    let epoch = Epoch(last.map_or(1, |life| life.epoch.0 + 1));
    Life { epoch, incarnation: Incarnation::from_low_bits(0x100 + starts) }
}

impl Log {
    /// How far it is on disk.
    pub(crate) fn position(&self) -> u64 {
        self.durable.len() as u64
    }

    /// The records of a transaction, oldest first.
    pub(crate) fn records_of<'a>(&'a self, gtid: &'a Gtid) -> impl Iterator<Item = &'a Record> {
        self.durable.iter().filter_map(move |entry| match entry {
            Entry::Record(record) if record.gtid() == Some(gtid) => Some(record),
            Entry::Record(_) | Entry::Life(_) => None,
        })
    }
}

impl State {
    /// Sends a message.
    pub(crate) fn post(&mut self, message: Message) {
        let at = self.network.binary_search(&message).unwrap_or_else(|at| at);
        self.network.insert(at, message);
    }

    /// Whether anything is under way between the coordinator and an agent.
    pub(crate) fn quiet_link(&self, agent: usize) -> bool {
        self.network.iter().all(|message| message.agent != agent)
    }

    /// The life that is up.
    pub(crate) fn life(&self) -> Option<Life> {
        self.coordinator.as_ref().map(|coordinator| coordinator.life)
    }

    /// The stream that stands to an agent, if one does.
    pub(crate) fn link(&self, agent: usize) -> Link {
        self.coordinator.as_ref().map_or(Link::Down, |coordinator| coordinator.links[agent])
    }
}

impl SaidReport {
    /// As the coordinator reads it.
    pub(crate) fn read(self) -> Report {
        use votum_coordinator::protocol::gone::{Gone, Marker, XidStatus};
        match self {
            Self::Done => Report::Done,
            Self::NeverPrepared => Report::NeverPrepared,
            Self::OtherXid(xid) => Report::OtherXid(xid),
            Self::Gone { timeline, status } => Report::Gone(Gone {
                system_identifier: 1,
                timeline,
                in_recovery: false,
                status: match status {
                    Remembered::Committed => XidStatus::Committed,
                    Remembered::Aborted => XidStatus::Aborted,
                    Remembered::InProgress => XidStatus::InProgress,
                    Remembered::NotReached => XidStatus::NotReached,
                    Remembered::NotAsked => XidStatus::NotAsked,
                },
                marker: Marker::Unknown,
            }),
        }
    }
}
