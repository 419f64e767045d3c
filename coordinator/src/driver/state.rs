//! What the driver keeps of transactions, agents, participants and the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use votum_proto::names::{BranchNumber, Gtid, Life, ParticipantName};
use votum_proto::runtime::{Backoff, Monotonic};
use votum_proto::v1;

use super::request::{Answer, Outcome, RequestError, Transacted, Wait};
use super::transact::Whole;
use super::{acknowledge, resolve, unproven, write_off};
use crate::log::{Entry, History};
use crate::protocol::record::{Heuristic, Record};
use crate::protocol::transaction::Transaction;
use crate::transport::{AgentIndex, Generation, LinkHandle};

/// How many outcomes of retired transactions are remembered, for clients that ask twice.
const RECENT: usize = 16_384;

/// A transaction's name within this log: cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LocalId {
    pub(super) life: Life,
    pub(super) seq: u64,
}

impl From<&Gtid> for LocalId {
    fn from(gtid: &Gtid) -> Self {
        Self { life: gtid.life, seq: gtid.seq }
    }
}

/// A transaction in memory, and who waits for it.
pub(super) struct Live {
    pub(super) transaction: Transaction,
    pub(super) waiters: Vec<Waiter>,
    pub(super) deadline: Option<Monotonic>,
    /// When those who wait for its completion have waited long enough.
    pub(super) completed_wait: Option<Monotonic>,
    /// What the log is to be told of its beginning, when it is still undecided then.
    pub(super) unnoted: Option<(Monotonic, Unnoted)>,
    pub(super) begun: Monotonic,
    /// Since when it is in its present state.
    pub(super) in_state: Monotonic,
    /// Trouble that agents report of its branches, for people.
    pub(super) trouble: BTreeMap<ParticipantName, String>,
    /// How long to wait before asking again how a branch ended.
    pub(super) ask_again: Backoff,
    /// The branches for which a timer is set that will ask again: one each, however often they answer that
    /// it is too early.
    pub(super) asking_again: BTreeSet<BranchNumber>,
    /// How many SendPrepare or SendCommit orders went out: for crash points.
    pub(super) orders_sent: usize,
    /// The participants that have yet to acknowledge its commit, as they are counted.
    pub(super) owing: Vec<ParticipantName>,
    /// All that it does, where that came in one request.
    pub(super) whole: Option<Box<Whole>>,
}

/// What is not part of a transaction, and is written when its beginning is noted.
pub(super) struct Unnoted {
    pub(super) client: String,
    pub(super) timeout: Duration,
}

/// A client that waits for the outcome.
pub(super) struct Waiter {
    pub(super) wait: Wait,
    pub(super) teller: Teller,
}

/// How a client is told.
pub(super) enum Teller {
    Outcome(Answer<Outcome>),
    Transacted(Answer<Transacted>),
}

impl Teller {
    /// Tells how a transaction ended. A client that hung up has dropped its end.
    pub(super) fn tell(self, live: &Live, outcome: Outcome) {
        match self {
            Self::Outcome(answer) => drop(answer.send(Ok(outcome))),
            Self::Transacted(answer) => drop(answer.send(Ok(Transacted::of(live, outcome)))),
        }
    }

    /// Tells why it is not told.
    pub(super) fn refuse(self, error: RequestError) {
        match self {
            Self::Outcome(answer) => drop(answer.send(Err(error))),
            Self::Transacted(answer) => drop(answer.send(Err(error))),
        }
    }
}

/// What is known of one agent's link.
pub(super) struct Link {
    pub(super) handle: LinkHandle,
    pub(super) address: String,
    pub(super) participants: Vec<ParticipantName>,
    /// The stream that stands.
    pub(super) generation: Option<Generation>,
    /// The agent's life, while a stream stands.
    pub(super) instance: u64,
    /// Why no stream stands.
    pub(super) down: String,
    /// Since when a stream stands, or none does.
    pub(super) since: Monotonic,
    /// A stream of it stood in this life: its hello was judged.
    pub(super) heard: bool,
    /// Its hello was judged in this life, also where it came with a refusal.
    pub(super) judged: bool,
    /// The agent, while a stream stands, can let go of an order.
    pub(super) can_hold: bool,
    /// The agent knows one-phase commit.
    pub(super) can_commit_one_phase: bool,
    /// The agent takes work along with the order to prepare.
    pub(super) can_work: bool,
    /// The agent runs and commits the last of several branches, which decides.
    pub(super) can_decide: bool,
    /// The agent knows attached branches.
    pub(super) can_verify_attached: bool,
}

/// What is known of one participant.
pub(super) struct Participant {
    pub(super) agent: AgentIndex,
    /// A complete listing has come in this epoch.
    pub(super) heard: bool,
    /// Why the last listing was not complete; empty when it was.
    pub(super) failure: String,
    pub(super) in_doubt: u64,
    pub(super) oldest_in_doubt_ms: u64,
    /// Which database it is, as its last complete listing said.
    pub(super) database: Option<DatabaseIdentity>,
    /// Where a branch there may decide for its siblings, as its last complete listing said: the server and its
    /// timeline.
    pub(super) decides_on: Option<(u64, u32)>,
    /// Branches that wait for a person, by gid, with the transaction id that was listed.
    pub(super) quarantined: BTreeMap<String, u32>,
    /// What nobody can prove of its commits since its server changed its timeline.
    pub(super) unproven: Option<unproven::Unproven>,
}

/// Which database a participant is: two participants that are the same one are two names for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DatabaseIdentity {
    /// The server's own name; never 0.
    system_identifier: u64,
    name: String,
}

impl DatabaseIdentity {
    /// As a listing shows it; `None` where it does not say.
    pub(super) fn shown_by(listing: &v1::Listing) -> Option<Self> {
        let v1::Listing { system_identifier, database, .. } = listing;
        (*system_identifier != 0 && !database.is_empty())
            .then(|| Self { system_identifier: *system_identifier, name: database.clone() })
    }
}

impl std::fmt::Display for DatabaseIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "database {:?} of system {}", self.name, self.system_identifier)
    }
}

/// What absence of a record is worth.
pub(super) enum LogState {
    Counting,
    Ready(Arc<dyn History>),
    Unreadable(String),
    Doubtful(String),
}

/// What an entry given to the log stands for, until it is durable.
pub(super) enum Pending {
    Transaction(LocalId, Box<Record>),
    Lease(u64),
    Resolution(Box<resolve::Resolution>),
    Acknowledgement(Box<acknowledge::Acknowledgement>),
    WriteOff(Box<write_off::WritingOff>),
    Comparison(Box<unproven::Comparison>),
    /// A commit that had ended was found lost.
    Departure(Box<Heuristic>),
    /// For people only.
    Note,
}

/// What a turn has gathered so far.
#[derive(Default)]
pub(super) struct Output {
    pub(super) entries: Vec<Entry>,
    /// By agent.
    pub(super) messages: BTreeMap<AgentIndex, Vec<v1::CoordinatorMessage>>,
}

/// The outcomes of the transactions that left memory last.
#[derive(Default)]
pub(super) struct Recent {
    pub(super) order: VecDeque<LocalId>,
    pub(super) outcomes: BTreeMap<LocalId, Outcome>,
}

impl Recent {
    pub(super) fn note(&mut self, id: LocalId, outcome: Outcome) {
        if self.outcomes.insert(id, outcome).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
    }
}

/// A stop that was asked for.
pub(super) struct Drain {
    pub(super) deadline: Monotonic,
    pub(super) closing: bool,
    pub(super) answers: Vec<oneshot::Sender<()>>,
}
