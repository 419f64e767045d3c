//! What the servers ask of the driver, and what it answers. Plain data, in the driver's own words: the
//! server translates to and from the wire.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use votum_proto::names::{Gid, Gtid, ParticipantName};
use votum_proto::v1;

pub use crate::protocol::event::BranchClaim;
use crate::protocol::record::{AbortReason, Heuristic};

/// Where an answer goes. A client that hung up has dropped the other end; that stops nothing.
pub type Answer<T> = oneshot::Sender<Result<T, RequestError>>;

/// A request to the driver.
pub enum Request {
    /// Open a transaction.
    Begin(Begin, Answer<Begun>),
    /// Ask for the decision.
    Commit(Commit, Answer<Outcome>),
    /// Run a whole transaction.
    Transact(Transact, Answer<Transacted>),
    /// End the transaction, unless a commit has been decided.
    Rollback {
        /// Which.
        gtid: Gtid,
        /// The client's secret.
        secret: Vec<u8>,
        /// For people.
        reason: String,
        /// The outcome.
        answer: Answer<Outcome>,
    },
    /// What became of a transaction, by gtid.
    Get(Gtid, Answer<Outcome>),
    /// What became of a transaction, by client name and idempotency key.
    GetByKey {
        /// The client's name.
        client: String,
        /// The key.
        key: String,
        /// The gtid and its outcome.
        answer: Answer<(Gtid, Outcome)>,
    },
    /// See `Operator.GetStatus`.
    Status(Answer<v1::GetStatusResponse>),
    /// See `Operator.ListTransactions`.
    List(v1::ListTransactionsRequest, Answer<v1::ListTransactionsResponse>),
    /// See `Operator.ShowTransaction`; the response's `outcome` is left to the server to fill in.
    Show(Gtid, Answer<(v1::ShowTransactionResponse, Outcome)>),
    /// See `Operator.ListInDoubt`. Answered when every agent has, or after `wait`.
    InDoubt {
        /// Only this one; else all.
        participant: Option<ParticipantName>,
        /// How long agents have.
        wait: Duration,
        /// The join of their listings with the log.
        answer: Answer<v1::ListInDoubtResponse>,
    },
    /// See `Operator.Resolve`.
    Resolve(Resolve, Answer<v1::ResolveResponse>),
    /// See `Operator.Acknowledge`. Answered with what was on the list.
    Acknowledge(Acknowledge, Answer<Vec<Heuristic>>),
    /// See `Operator.AcknowledgeUnproven`.
    AcknowledgeUnproven(AcknowledgeUnproven, Answer<v1::AcknowledgeUnprovenResponse>),
    /// See `Operator.WriteOff`.
    WriteOff(WriteOff, Answer<v1::WriteOffResponse>),
    /// Refuse new transactions, abort undecided ones at the deadline, close the log. Answered when that is
    /// done.
    Drain {
        /// How long undecided transactions may go on.
        grace: Duration,
        /// Done.
        answer: oneshot::Sender<()>,
    },
}

/// The parameters of a new transaction, with bounds already checked by the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The timeout, already bounded by the configuration.
    pub timeout: Duration,
    /// The idempotency key, its client and the hash of the request.
    pub key: Option<crate::protocol::record::KeyRecord>,
    /// The client's name; empty when it gave none.
    pub client: String,
    /// The label; empty when it gave none.
    pub label: String,
    /// Where the application prepares branches of its own.
    pub attached: Vec<ParticipantName>,
    /// Where agents will run its statements, as far as that is known; empty: not known.
    pub participants: Vec<ParticipantName>,
}

/// A new transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its name.
    pub gtid: Gtid,
    /// What the client shows from now on.
    pub secret: Vec<u8>,
    /// Under which names the application prepares branches of its own, in Begin's order.
    pub attached: Vec<(ParticipantName, Gid)>,
}

/// A Commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Which.
    pub gtid: Gtid,
    /// The client's secret.
    pub secret: Vec<u8>,
    /// Every hosted branch, as the client saw it.
    pub branches: Vec<BranchClaim>,
    /// When to answer.
    pub wait: Wait,
}

/// A whole transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Transact {
    /// How it is opened.
    pub begin: Begin,
    /// The isolation level of every branch.
    pub isolation: v1::Isolation,
    /// Every branch is begun READ ONLY.
    pub read_only: bool,
    /// What is done where: each participant once, each with a statement.
    pub branches: Vec<(ParticipantName, v1::BranchWork)>,
    /// When to answer.
    pub wait: Wait,
    /// The client's own name for the request; `None` where it gave none.
    pub attempt: Option<u64>,
    /// Only this life may carry it out, as gtids show it; empty: any.
    pub life: String,
    /// It may have come before.
    pub repeated: bool,
    /// Of several branches one is to decide by its own commit, if one can.
    pub last_agent: bool,
}

/// How a whole transaction ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Transacted {
    /// Its name.
    pub gtid: Gtid,
    /// How it ended.
    pub outcome: Outcome,
    /// What its statements returned, in the request's order of branches; empty where it did not commit, or this
    /// life knows nothing of it.
    pub results: Vec<v1::BranchResult>,
    /// The statement that it failed at.
    pub failed: Option<Box<v1::FailedStatement>>,
    /// The participant whose branch decided, or was to; `None` where all were prepared, and where nobody remembers.
    pub decided_by: Option<ParticipantName>,
}

/// When a Commit is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// When the decision is on disk.
    Decided,
    /// When every branch has acknowledged, or the coordinator's bound has passed.
    Completed,
}

/// A person's settlement of one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// The branch.
    pub gid: Gid,
    /// Where it is.
    pub participant: ParticipantName,
    /// True: commit. False: roll back.
    pub commit: bool,
    /// Who asks.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// False: say what would be done.
    pub apply: bool,
    /// Also where it departs from the known decision.
    pub heuristic: bool,
}

/// A person's word that departures from a decision have been dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledge {
    /// Whose branches departed.
    pub gtid: Gtid,
    /// Only the branch there; `None`: every one.
    pub participant: Option<ParticipantName>,
    /// Who says so.
    pub operator: String,
    /// What was done about it.
    pub reason: String,
    /// False: say what is on the list.
    pub apply: bool,
}

/// A person's word that the databases were compared after a participant's server had changed its timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgeUnproven {
    /// Whose server.
    pub participant: ParticipantName,
    /// The timeline on which they were compared.
    pub timeline: u32,
    /// Who says so.
    pub operator: String,
    /// What was found, and done.
    pub reason: String,
    /// False: say what there is.
    pub apply: bool,
}

/// A person's way out of a stale log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOff {
    /// Whose log it is, typed out: what is done cannot be undone.
    pub coordinator_id: String,
    /// Who does it.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// False: say what would be written off.
    pub apply: bool,
}

/// How a transaction ended, or when to ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every branch commits, or has.
    Committed {
        /// Participants whose acknowledgement is owed; empty when all is completed.
        pending: Vec<ParticipantName>,
        /// Branches known to have ended otherwise.
        heuristics: Vec<Heuristic>,
    },
    /// Committed everywhere; nothing was written.
    ReadOnly,
    /// No branch has committed, and none ever will.
    Aborted {
        /// Why; `None` when no record says so and it is presumed.
        reason: Option<AbortReason>,
        /// Branches known to have committed all the same.
        heuristics: Vec<Heuristic>,
    },
    /// Begun and not decided: the state's name.
    InProgress(&'static str),
    /// Not known now: why.
    Unknown(String),
    /// Ended longer ago than the log remembers.
    Expired,
}

/// A request that cannot be served as it stands: what the caller must change, or when to try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The secret is not this transaction's.
    #[error("the secret shown is not that of transaction {0}")]
    WrongSecret(Gtid),
    /// No such transaction was ever begun here.
    #[error("transaction {0} was never begun here")]
    NotFound(String),
    /// The request contradicts what is known of the transaction.
    #[error("{0}")]
    Invalid(String),
    /// The idempotency key stands for a transaction that is still alive.
    #[error("the idempotency key is in use by live transaction {0}")]
    KeyInUse(Gtid),
    /// The idempotency key's transaction is committed.
    #[error("the idempotency key's work was committed as transaction {0}")]
    KeyCommitted(Gtid),
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used for another request, by transaction {0}")]
    KeyMismatch(Gtid),
    /// Too many live transactions.
    #[error("{live} transactions are live, which is the configured limit")]
    Overloaded {
        /// How many are live.
        live: usize,
    },
    /// It would wait too long for a participant; nothing was begun.
    #[error(
        "by the present pace it would wait {} ms for participant {participant}, and {} ms is the most that it may; \
         nothing was begun: try again in {} ms",
        expected.as_millis(), bound.as_millis(), retry_after.as_millis()
    )]
    WouldWait {
        /// Where.
        participant: ParticipantName,
        /// For how long.
        expected: Duration,
        /// How long it may.
        bound: Duration,
        /// When to try again.
        retry_after: Duration,
    },
    /// Not now: the log is being counted, is stale or unreadable, or the coordinator is stopping.
    #[error("{0}")]
    Unavailable(String),
    /// As [`Self::Unavailable`], and nothing was begun.
    #[error("{0}; nothing was begun")]
    NotBegun(String),
    /// The request is for another life of this coordinator; nothing was begun.
    #[error("the request is for life {asked:?} of the coordinator, and this is life {}; nothing was begun", present.life)]
    OtherLife {
        /// The one that it is for; empty where it does not say.
        asked: String,
        /// A gtid of this one that no transaction has.
        present: Gtid,
    },
    /// The log failed: this coordinator answers nothing more.
    #[error("the decision log failed ({0}); the coordinator must be restarted")]
    LogFailed(String),
}

/// Why a request was not answered that the driver may have begun to carry out.
pub const NOT_ANSWERED: &str = "the coordinator has stopped before it answered: whether it was done is seen once it \
     runs again";

/// How the servers reach the driver.
#[derive(Clone)]
pub struct DriverHandle {
    requests: mpsc::Sender<Request>,
}

impl DriverHandle {
    /// A handle that feeds `requests`.
    pub fn new(requests: mpsc::Sender<Request>) -> Self {
        Self { requests }
    }

    /// Sends the request that `make` builds around an answer's sender, and waits for the answer. The work
    /// goes on when the caller does not wait.
    ///
    /// # Errors
    /// As the driver answers; [`RequestError::Unavailable`] when the driver has stopped.
    pub async fn ask<T>(&self, make: impl FnOnce(Answer<T>) -> Request) -> Result<T, RequestError> {
        let (answer, answered) = oneshot::channel();
        let stopped = || RequestError::Unavailable(NOT_ANSWERED.into());
        self.requests.send(make(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Resolves when the driver has stopped, for whatever reason.
    pub async fn stopped(&self) {
        self.requests.closed().await;
    }

    /// Sends a request whose answer is awaited elsewhere, or nowhere.
    pub async fn send(&self, request: Request) {
        let _ = self.requests.send(request).await;
    }

    /// Asks the driver to stop within `grace`, and waits until it has.
    pub async fn drain(&self, grace: Duration) {
        let (answer, done) = oneshot::channel();
        if self.requests.send(Request::Drain { grace, answer }).await.is_ok() {
            let _ = done.await;
        }
    }
}
