//! What the agent needs of a database, in words that name no SQL. [`crate::postgres`] is the one
//! implementation in production; a simulation brings its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use votum_proto::names::{CoordinatorId, Epoch, Gid, Life, ParticipantName};
use votum_proto::runtime::BoxFuture;
use votum_proto::v1;

use crate::work::{self, Decided, Deciding, Results, Work, Worked};

/// What was being done when a database answered with an error: half of the key of the policy table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// Opening a connection.
    Connect,
    /// Opening a branch's transaction.
    Begin,
    /// A client's statement.
    Statement,
    /// `PREPARE TRANSACTION`, with what is read before it.
    Prepare,
    /// The `COMMIT` of a branch that wrote nothing.
    CommitReadOnly,
    /// The `COMMIT` of a transaction's only branch.
    CommitOnePhase,
    /// Inserting a tombstone, which settles how such a branch ended.
    Settle,
    /// `COMMIT PREPARED`.
    CommitPrepared,
    /// `ROLLBACK PREPARED`.
    RollbackPrepared,
    /// Reading what is prepared.
    Listing,
    /// Asking what became of a transaction id.
    OutcomeQuery,
}

/// What is done about an answer of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The branch votes no, or its statement failed: nothing is committed, and nothing will be.
    VoteNo,
    /// The command has had its effect.
    Acknowledge,
    /// Nobody knows whether it had its effect: compare what is prepared, then go on from there.
    Verify,
    /// It had no effect: try again later.
    Retry,
    /// It had no effect, and it takes a person to change that: try again later, and say so.
    RetryWithAlarm,
    /// This server cannot be the participant: conclude nothing, and say so.
    Refuse,
}

impl Policy {
    /// Whether a person has to be told.
    pub fn alarms(self) -> bool {
        match self {
            Self::RetryWithAlarm | Self::Refuse => true,
            Self::VoteNo | Self::Acknowledge | Self::Verify | Self::Retry => false,
        }
    }
}

/// What a failure leaves of the session it happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// The database answered with an error; the connection stands.
    Answered,
    /// The connection is gone, or there never was one.
    Broken,
    /// The session's transaction is not the one that was begun: a statement ended it behind our back.
    Replaced,
}

/// An error of the database, or of the way to it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}{}", if sqlstate.is_empty() { String::new() } else { format!(" (SQLSTATE {sqlstate})") })]
pub struct DatabaseError {
    /// What is done about it.
    pub policy: Policy,
    /// What it leaves.
    pub aftermath: Aftermath,
    /// Five characters; empty when it was not the database that spoke.
    pub sqlstate: String,
    /// For people.
    pub message: String,
    /// Whether the same transaction may succeed when it is run again.
    pub retryable: bool,
    /// All that the database said.
    pub sql: Option<Box<v1::SqlError>>,
}

impl DatabaseError {
    /// Whether the connection is gone.
    pub fn broken(&self) -> bool {
        match self.aftermath {
            Aftermath::Broken => true,
            Aftermath::Answered | Aftermath::Replaced => false,
        }
    }
}

/// How a branch is begun.
#[derive(Debug, Clone)]
pub struct BeginOptions {
    /// The isolation level; unspecified leaves it to the database.
    pub isolation: v1::Isolation,
    /// Begun READ ONLY.
    pub read_only: bool,
    /// After this long the server itself ends a statement, or an idle transaction.
    pub timeout: Duration,
}

/// One statement of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// One SQL statement, with `$1`, `$2`, … for parameters.
    pub text: String,
    /// The parameters.
    pub parameters: Vec<v1::Value>,
    /// Rows carry every value in the database's own binary form.
    pub raw_binary: bool,
}

/// Where a statement's reply goes while it arrives.
#[async_trait]
pub trait RowSink: Send {
    /// The columns; called once, before any row.
    async fn columns(&mut self, columns: Vec<v1::Column>);
    /// One row. Waits while the reader is slow.
    async fn row(&mut self, row: v1::Row);
}

/// The server's own name and history, as read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerFacts {
    /// Given when the cluster was made; a standby shares it with its primary.
    pub system_identifier: u64,
    /// Grows with every promotion; 0 while the server is in recovery.
    pub timeline: u32,
    /// A standby, or a server that is still replaying.
    pub in_recovery: bool,
}

/// How an attempt to prepare a branch ended.
#[derive(Debug)]
pub enum Preparation {
    /// It is prepared, and survives a crash of its database.
    Prepared {
        /// Its transaction id.
        xid8: u64,
        /// Where it was prepared.
        facts: ServerFacts,
        /// Whether it carries a commit marker.
        marker: bool,
    },
    /// It wrote nothing and has been committed.
    ReadOnly,
    /// It has written, its transaction is open, and it can be committed in one phase.
    Ready {
        /// Its transaction id.
        xid8: u64,
        /// Where it is.
        facts: ServerFacts,
    },
    /// It is not prepared.
    Refused(DatabaseError),
    /// It is prepared, but must not be counted on: the wait for a synchronous standby was cancelled, so that a
    /// failover may lose it, or what was prepared could not be told.
    Unsound(DatabaseError),
    /// Nobody can say whether it is prepared: the connection broke on the way.
    Unknown(DatabaseError),
}

/// How an attempt to commit a branch in one phase ended.
#[derive(Debug)]
pub enum OnePhase {
    /// It is committed, with its marker, and survives a crash of its database.
    Committed,
    /// It is rolled back, or will be: it can never commit.
    Refused(DatabaseError),
    /// Nobody can say, until [`Database::settle`] has: the connection broke on the way, or the wait for a
    /// synchronous standby was cancelled.
    Unknown(DatabaseError),
}

/// Identifies one server process over all time: process ids are used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendId {
    /// Its process id.
    pub pid: i32,
    /// When it was started, in the server's own notation.
    pub started: String,
}

/// One connection to a database, on which one branch at a time lives.
#[async_trait]
pub trait Session: Send + Sync {
    /// Opens a transaction. It may be carried out with the first statement.
    async fn begin(&mut self, options: &BeginOptions) -> Result<(), DatabaseError>;
    /// Runs one statement to its end and returns how many rows it touched or returned. After an answered
    /// error the transaction has failed, as PostgreSQL defines it, until a ROLLBACK TO.
    async fn run(&mut self, statement: &Statement, sink: &mut dyn RowSink) -> Result<u64, DatabaseError>;
    /// Prepares the transaction under `gid`, or commits it when it wrote nothing. Where it may be committed in
    /// `one_phase`, it is left open, with its commit marker. Dropping the future leaves the session in
    /// an unknown state.
    async fn prepare(&mut self, gid: &Gid, one_phase: bool) -> Preparation;
    /// Begins a transaction, runs all its statements, and prepares it as [`Session::prepare`] does, in as few
    /// round trips as it can. The statements have been judged: none controls transactions. Dropping the future
    /// leaves the session in an unknown state.
    async fn work(&mut self, work: &Work, gid: &Gid, one_phase: bool, results: &mut Results) -> Worked {
        work::step_by_step(self, work, gid, one_phase, results).await
    }
    /// Leaves the transaction open with its commit marker, ready for [`Session::commit_one_phase`], whether it has
    /// written or not; says on which server. Nothing is prepared.
    ///
    /// # Errors
    /// When it cannot decide by its commit: what is open is to be rolled back.
    async fn ready(&mut self, gid: &Gid) -> Result<ServerFacts, DatabaseError>;
    /// Begins a transaction, runs all its statements, and commits it with its commit marker, in as few round trips as
    /// it can. As [`Session::work`] otherwise.
    async fn decide(&mut self, deciding: &Deciding, results: &mut Results) -> Decided {
        work::decide_step_by_step(self, deciding, results).await
    }
    /// Commits what [`Session::prepare`] or [`Session::ready`] has left open. Durable where it says so, whatever the role's settings.
    /// Dropping the future leaves the session in an unknown state.
    async fn commit_one_phase(&mut self) -> OnePhase;
    /// Rolls back what is open. The session's settings are not reset.
    async fn roll_back(&mut self) -> Result<(), DatabaseError>;
    /// Makes the session as good as new; no transaction may be open.
    async fn reset(&mut self) -> Result<(), DatabaseError>;
    /// Cancels, from anywhere, what the session is running.
    fn canceller(&self) -> Arc<dyn Canceller>;
    /// Which server process it is.
    fn backend(&self) -> BackendId;
    /// Resolves when the connection is gone.
    fn lost(&self) -> BoxFuture<()>;
    /// Whether the connection is gone.
    fn is_lost(&self) -> bool;
}

/// Cancels what one session is running.
#[async_trait]
pub trait Canceller: Send + Sync {
    /// Asks the server to cancel; whether it did shows in the session alone.
    async fn cancel(&self) -> Result<(), DatabaseError>;
}

/// Asked at the last moment before a prepared transaction is ended: whoever ordered it may have been replaced
/// while a connection was opened.
pub trait Gate: Send + Sync {
    /// Whether it may be sent now.
    fn enter(&self) -> bool;
}

/// One prepared transaction found by its gid, and the server on which it was looked for.
#[derive(Debug, Clone)]
pub struct Found {
    /// The low 32 bits of its transaction id; `None` when the gid is not prepared in this database.
    pub xid: Option<u32>,
    /// It belongs to the agent's role, or to one declared for attached work.
    pub ours: bool,
    /// The declared role to which it belongs, where that is not the agent's.
    pub owner: Option<String>,
    /// Read in the same statement.
    pub facts: ServerFacts,
}

/// What is prepared under names that applications were given, and the server that says so.
#[derive(Debug, Clone)]
pub struct FoundAttached {
    /// Read in the same statement.
    pub facts: ServerFacts,
    /// The participant's database.
    pub database: String,
    /// The server has synchronous standbys: somebody may have cut the wait for them short.
    pub may_be_ahead_of_standbys: bool,
    /// Those of them that are prepared at the server, in whichever database.
    pub prepared: Vec<PreparedAttached>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedAttached {
    /// Its name.
    pub gid: Gid,
    /// Its whole transaction id.
    pub xid8: u64,
    /// Who prepared it; empty where that role was dropped.
    pub owner: String,
    /// The database that it was prepared in.
    pub database: String,
    /// Whether the agent may commit it.
    pub may_end: MayEnd,
}

/// Whether the agent may end what a role prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayEnd {
    /// It is the agent's own role, or a declared one that the agent may take.
    Yes,
    /// It is declared, and the agent may not take it.
    No,
    /// It is not declared for attached work.
    Undeclared,
}

/// What became of a transaction id, and the server that says so.
#[derive(Debug, Clone, Copy)]
pub struct XidOutcome {
    /// In the contract's words.
    pub status: v1::gone::XidStatus,
    /// What the branch's commit marker says, read on the same server.
    pub marker: v1::gone::Marker,
    /// Read in the same statement.
    pub facts: ServerFacts,
}

impl XidOutcome {
    /// As the coordinator is told.
    pub(crate) fn into_wire(self) -> v1::Gone {
        let Self { status, marker, facts } = self;
        v1::Gone {
            system_identifier: facts.system_identifier,
            timeline: facts.timeline,
            in_recovery: facts.in_recovery,
            status: status.into(),
            marker: marker.into(),
        }
    }
}

/// Everything prepared in one database.
#[derive(Debug, Clone)]
pub struct DatabaseListing {
    /// Read in the same statement.
    pub facts: ServerFacts,
    /// The role that the agent is.
    pub role: String,
    /// The database's name.
    pub database: String,
    /// It keeps commit markers, and one COMMIT binds all that a branch does there.
    pub can_decide: bool,
    /// Every row of it.
    pub prepared: Vec<v1::PreparedTransaction>,
}

/// What a database keeps of one coordinator_id, for agents that restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The newest life that has spoken.
    pub fence: Life,
    /// How far its log, or an earlier one's, had reached; `None` where nobody said yet.
    pub witness: Option<v1::Witness>,
}

/// What stood in a database of one coordinator_id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stood {
    /// The database has no place for it: nothing is kept there.
    Nowhere,
    /// Nothing yet.
    Nothing,
    /// This.
    Kept(Kept),
}

/// How a server stands with prepared transactions.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// How many transactions may be prepared at the server.
    pub slots: u64,
    /// How many are, whosever they are.
    pub slots_used: u64,
    /// The age of the oldest that is prepared in the database; `None` where none is.
    pub oldest_prepared: Option<Duration>,
    /// How many transaction ids that one lies back.
    pub xmin_held_back: u64,
}

/// A database behind the agent.
#[async_trait]
pub trait Database: Send + Sync {
    /// The participant's name.
    fn name(&self) -> &ParticipantName;
    /// Roles declared for attached work.
    fn attached_roles(&self) -> &[String];
    /// Opens a connection for hosted branches. How many there are is the caller's care. The database may keep
    /// itself ready for transactions of about this `limit`; a branch's own timeout holds in any case.
    async fn open_session(&self, limit: Option<Duration>) -> Result<Box<dyn Session>, DatabaseError>;
    /// Commits a prepared transaction, on a connection that sessions never share; as the declared role `owner`, where
    /// that prepared it. Once a connection is there it asks `gate`; where that refuses, nothing is sent and the answer
    /// is false. The future may be dropped until then, not after.
    async fn commit_prepared(
        &self,
        gid: &Gid,
        owner: Option<&str>,
        gate: &dyn Gate,
    ) -> Result<bool, DatabaseError>;
    /// Rolls back a prepared transaction, as [`Database::commit_prepared`] commits one.
    async fn rollback_prepared(
        &self,
        gid: &Gid,
        owner: Option<&str>,
        gate: &dyn Gate,
    ) -> Result<bool, DatabaseError>;
    /// Looks for a prepared transaction of this database.
    async fn find(&self, gid: &Gid) -> Result<Found, DatabaseError>;
    /// Looks for what applications prepared under these names.
    async fn find_attached(&self, gids: &[Gid]) -> Result<FoundAttached, DatabaseError>;
    /// Whether a server process is committing or rolling back `gid` now, also one whose connection broke; true
    /// where that cannot be told.
    async fn is_being_ended(&self, gid: &Gid) -> Result<bool, DatabaseError>;
    /// Asks what became of a branch that was seen to be no longer prepared: of its transaction id, and its
    /// commit marker.
    async fn outcome(&self, gid: &Gid, xid8: u64) -> Result<XidOutcome, DatabaseError>;
    /// Asks the same of many at once, in their order.
    async fn outcomes(&self, branches: &[(Gid, u64)]) -> Result<Vec<XidOutcome>, DatabaseError> {
        let mut outcomes = Vec::with_capacity(branches.len());
        for (gid, xid8) in branches {
            outcomes.push(self.outcome(gid, *xid8).await?);
        }
        Ok(outcomes)
    }
    /// Settles how a branch ended that was to be committed in one phase: inserts its marker as aborted, unless
    /// there is one. Says what the marker says from now on, for ever: committed or aborted. Waits for a COMMIT
    /// that is under way.
    async fn settle(&self, gid: &Gid) -> Result<XidOutcome, DatabaseError>;
    /// Deletes markers of a coordinator_id in the epochs above `above`, and before `below` (epoch and seq): some
    /// at a time, and says how many. Zero: none is left, as where none are kept.
    async fn prune_markers(
        &self,
        _coordinator: &CoordinatorId,
        _above: Epoch,
        _below: (Epoch, u64),
    ) -> Result<u64, DatabaseError> {
        Ok(0)
    }
    /// Commits something empty under the role's own durability, so that everything committed before it is as
    /// safe as anything this agent commits.
    async fn confirm(&self) -> Result<(), DatabaseError>;
    /// Lists what is prepared; with `details` also locks and who waits for them.
    async fn list(&self, details: bool) -> Result<DatabaseListing, DatabaseError>;
    /// Notes `kept` of a coordinator_id beside what stands there, of which the newer counts, on disk, and returns
    /// what stood there.
    async fn keep(&self, coordinator: &CoordinatorId, kept: &Kept) -> Result<Stood, DatabaseError>;
    /// Ends a server process whose connection broke; `true` once it is gone.
    async fn end_backend(&self, backend: &BackendId) -> Result<bool, DatabaseError>;
    /// Resolves at the next breaking of any connection to this database.
    fn next_break(&self) -> BoxFuture<()>;
    /// How its server stands with prepared transactions.
    async fn condition(&self) -> Result<Condition, DatabaseError>;
}
