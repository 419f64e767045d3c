//! What is to happen in one run: plain data, so that parts of it can be taken away while what went wrong still
//! goes wrong.

use std::time::Duration;

use super::database::{Doing, Manners};
use super::disk::{Down, Failure};

/// Everything that is decided before a run begins.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the rest is drawn from while it runs: delays, orders, jitter.
    pub seed: u64,
    /// The participants behind each agent.
    pub agents: Vec<Vec<usize>>,
    /// The order of tasks is drawn.
    pub shuffled: bool,
    /// The log's.
    pub log: LogPlan,
    /// The databases'.
    pub manners: Manners,
    /// How many transactions each database may have prepared at once.
    pub slots: usize,
    /// How many sessions each agent has for each participant.
    pub sessions: usize,
    /// How often agents sweep, in milliseconds.
    pub sweep_ms: u64,
    /// The network between clients and the rest, and between coordinator and agents.
    pub network: NetworkPlan,
    /// When the calm begins.
    pub calm_at: Duration,
    /// What clients do.
    pub work: Vec<Work>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// An administrator has made a place for the witness at every database.
    pub rows: bool,
    /// The databases keep commit markers: transactions of one branch are committed in one phase.
    pub markers: bool,
}

/// How the log is configured.
#[derive(Debug, Clone)]
pub struct LogPlan {
    /// Size of a half.
    pub half_bytes: u64,
    /// Seqs in a lease.
    pub lease: u64,
    /// How long ended transactions are remembered.
    pub retention_ms: u64,
    /// One write or sync, in microseconds: at least, at most.
    pub pace: (u64, u64),
    /// How long the store is counted at a start, in milliseconds.
    pub counting_ms: u64,
    /// A log that fails latches; else its process ends.
    pub latches: bool,
}

/// How messages fare. Chances are of a thousand.
#[derive(Debug, Clone)]
pub struct NetworkPlan {
    /// One way, in microseconds: at least, at most.
    pub travel: (u64, u64),
    /// A request never arrives.
    pub loses_request: u64,
    /// A reply never arrives.
    pub loses_reply: u64,
    /// A request arrives twice.
    pub repeats: u64,
    /// A message takes seconds.
    pub late: u64,
}

/// One thing that a client wants done.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its number.
    pub number: usize,
    /// When it is begun.
    pub at: Duration,
    /// Its statements, in order, each at a participant.
    pub statements: Vec<(usize, Doing)>,
    /// Where the client works on a connection of its own.
    pub attached: Option<usize>,
    /// Begun READ ONLY.
    pub read_only: bool,
    /// The transaction's timeout.
    pub timeout: Duration,
    /// How long the client waits for each answer.
    pub patience: Duration,
    /// How it ends.
    pub ending: Ending,
    /// The idempotency key; the same one may be used by more than one piece of work.
    pub key: Option<u64>,
    /// How long the client thinks between two steps, at most, in milliseconds.
    pub thinks_ms: u64,
    /// How often it tries an answer's request again.
    pub tries: u32,
}

/// How a client ends its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Commit, answered when decided, or when completed.
    Commit {
        /// Waits for every acknowledgement.
        completed: bool,
        /// Also sends a Rollback at the same time.
        races_rollback: bool,
    },
    /// Rollback.
    Rollback,
    /// It goes away.
    Abandon,
}

/// Something that goes wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    /// When.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum What {
    /// The coordinator dies, and is started again; once more that long after the start, if that is set.
    CoordinatorDies {
        /// How.
        how: Down,
        /// Until it is started again.
        away: Duration,
        /// Dies again that long after its start.
        again: Option<Duration>,
    },
    /// The coordinator is stopped, and goes on later; meanwhile a successor may have taken over its disk.
    CoordinatorStops {
        /// For how long.
        asleep: Duration,
        /// Another one is started on its disk in the middle of that time.
        successor: bool,
    },
    /// An operation of the log's disk fails.
    DiskFails {
        /// After so many more.
        after: u64,
        /// How.
        how: Failure,
    },
    /// Every write takes that much longer for a while.
    DiskIsSlow {
        /// Each write, longer by.
        by: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// An agent dies, and is started again.
    AgentDies {
        /// Which.
        agent: usize,
        /// Until it is started again.
        away: Duration,
    },
    /// A database stops at once, and is started again.
    DatabaseDies {
        /// Which.
        database: usize,
        /// Until it is back.
        away: Duration,
    },
    /// A standby takes over that may have missed the newest records.
    FailOver {
        /// Which.
        database: usize,
        /// How many records it has not seen.
        behind: usize,
        /// Until it is back.
        away: Duration,
    },
    /// An administrator ends every idle session.
    SessionsEnd {
        /// Where.
        database: usize,
    },
    /// An administrator ends a prepared transaction by hand.
    HandEnds {
        /// Where.
        database: usize,
        /// How.
        commit: bool,
    },
    /// An operator has a branch ended otherwise than decided, by the coordinator (`votumctl resolve --heuristic`).
    Departs {
        /// Where.
        database: usize,
    },
    /// Somebody prepares other work under the name of a branch that has ended.
    Impostor {
        /// Where.
        database: usize,
    },
    /// Somebody else prepares a transaction.
    Stranger {
        /// Where.
        database: usize,
        /// It bears a name like ours.
        forged: bool,
    },
    /// Nothing gets through between coordinator and agent for a while, in one direction or both.
    Cut {
        /// Which agent.
        agent: usize,
        /// Towards the agent.
        there: bool,
        /// From the agent.
        back: bool,
        /// For how long.
        lasts: Duration,
        /// After that time either side notices, if it is still cut.
        noticed: Duration,
    },
    /// The connection between coordinator and agent is reset.
    Reset {
        /// Which agent.
        agent: usize,
    },
    /// The coordinator is started while its store cannot be read, and again when it can.
    StoreUnreadable {
        /// For how long.
        lasts: Duration,
    },
    /// An older copy of the log is started instead of the true one, for a while.
    OldCopy {
        /// For how long.
        lasts: Duration,
    },
    /// The log is lost for good. An older copy takes its place, or a new one; after a while a person writes off
    /// what is lacking.
    LogLost {
        /// There was no copy: the log is made anew.
        anew: bool,
        /// Until somebody writes it off.
        stale: Duration,
    },
    /// A standby takes over that has missed the newest records, while a commit is on its way there; and others
    /// are given the transaction ids that it has missed.
    Overtaken {
        /// Which.
        database: usize,
        /// How many records it has not seen.
        behind: usize,
        /// Until it is back.
        away: Duration,
        /// How many transactions of others commit there before anybody else comes.
        others: u64,
    },
    /// A person with votumctl settles branches, wherever that is taken, and acknowledges departures.
    Operator {
        /// For how long.
        lasts: Duration,
    },
}

impl What {
    /// Whether persons come, who see and settle what a run without them leaves alone.
    pub fn brings_people(&self) -> bool {
        matches!(self, Self::LogLost { .. } | Self::Overtaken { .. } | Self::Operator { .. })
    }
}

impl Plan {
    /// How many databases there are.
    pub fn databases(&self) -> usize {
        self.agents.iter().map(Vec::len).sum()
    }

    /// Whether persons come.
    pub fn has_people(&self) -> bool {
        self.faults.iter().any(|fault| fault.what.brings_people())
    }
}
