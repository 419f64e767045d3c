//! One hosted session: a connection on which a branch's statements run.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::future::{join, join3, try_join};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Row};
use votum_proto::names::Gid;
use votum_proto::runtime::BoxFuture;
use votum_proto::v1::Isolation;

use super::connect::{Connection, Connector};
use super::known::Known;
use super::listing::{FACTS, parse_facts};
use super::own::{Identity, OwnStatements, RESET};
use super::values::{self, Parameter};
use super::{failure, first_row, unexpected};
use crate::database::{
    Aftermath, BackendId, BeginOptions, Canceller, Command, DatabaseError, Policy, Preparation, RowSink,
    ServerFacts, Session, Statement,
};

/// The one encoding that the driver, and the contract, know.
const ENCODING: &str = "UTF8";

/// By how much the server's own timeouts lie behind the agent's.
const GRACE: Duration = Duration::from_secs(1);

/// How many parsed statements are kept until they are closed.
const KEPT_OPEN: usize = 16;

pub(super) struct PostgresSession {
    connection: Connection,
    connector: Arc<Connector>,
    /// Sent with the first statement: one round trip less.
    pending_begin: Option<String>,
    branch: BranchState,
    /// The last statements of the branch. Dropping one sends a message that closes it: that is put off to the
    /// branch's end, where it rides along with others instead of waking the server by itself.
    parsed: Vec<tokio_postgres::Statement>,
    /// What the server has said of itself on this connection. A primary keeps its identity and its timeline
    /// as long as it keeps its connections; what a standby says is asked again.
    facts: Option<ServerFacts>,
    /// Reset, and not used since.
    clean: bool,
    /// Statements that earlier branches ran too.
    known: Known,
    /// Prepared at the first branch, and again after a full reset.
    own: Option<OwnStatements>,
    /// The driver has asked, or may have asked, for types that are not built in. It keeps the statements with
    /// which it asks for ever, and the reset takes them away: such a session serves one branch alone.
    asked_for_types: bool,
}

/// What is known of the session's present transaction.
#[derive(Debug, Default)]
struct BranchState {
    read_only: bool,
    /// Microseconds since 1970 at which the transaction began; `None` until it has.
    began: Option<i64>,
    xid8: Option<u64>,
}

impl BranchState {
    /// Compares what the server says of the present transaction with the one that was begun.
    fn same_transaction(&mut self, began: i64, xid8: Option<u64>) -> Result<(), DatabaseError> {
        let same = self.began.is_none_or(|known| known == began)
            && self.xid8.is_none_or(|known| xid8 == Some(known));
        if !same {
            return Err(DatabaseError {
                policy: Policy::VoteNo,
                aftermath: Aftermath::Replaced,
                sqlstate: String::new(),
                message: "a statement ended the branch's transaction and left another in its place; the \
                          branch cannot go on"
                    .into(),
                retryable: false,
                sql: None,
            });
        }
        self.began = Some(began);
        self.xid8 = xid8;
        Ok(())
    }

    fn note(&mut self, command: Command, answer: &[Row]) -> Result<(), DatabaseError> {
        let read = answer.first().and_then(Identity::read);
        let Identity { began, xid8, encoding } =
            read.ok_or_else(|| unexpected(command, "the transaction's identity"))?;
        self.same_transaction(began, xid8)?;
        if encoding == ENCODING { Ok(()) } else { Err(other_encoding(encoding)) }
    }
}

impl PostgresSession {
    pub(super) fn new(connection: Connection, connector: Connector) -> Self {
        Self {
            connection,
            connector: Arc::new(connector),
            pending_begin: None,
            branch: BranchState::default(),
            parsed: Vec::new(),
            facts: None,
            clean: true,
            known: Known::default(),
            own: None,
            asked_for_types: false,
        }
    }

    /// Parses a statement, after opening the transaction if that is still to be done. Only the parsing rides
    /// along: a statement that ran although its BEGIN had failed would commit on its own.
    async fn parse(
        &mut self,
        statement: &Statement,
        types: &[Type],
    ) -> Result<tokio_postgres::Statement, DatabaseError> {
        let client = &self.connection.client;
        let known = self.known.find(&statement.text, types);
        let parse = async {
            match &known {
                Some(known) => Ok(known.clone()),
                None => client.prepare_typed(&statement.text, types).await,
            }
        };
        let parsed = match self.pending_begin.take() {
            None => parse.await,
            Some(begin) => {
                let own = match self.own.take() {
                    Some(own) => own,
                    None => OwnStatements::prepare(client).await.map_err(|error| self.not_begun(&error))?,
                };
                let begun = async { try_join(client.batch_execute(&begin), own.identity(client)).await };
                let (begun, parsed) = join(begun, parse).await;
                self.own = Some(own);
                let ((), identity) = begun.map_err(|error| self.not_begun(&error))?;
                self.branch.note(Command::Begin, &identity)?;
                parsed
            }
        };
        let built_in = |parsed: &tokio_postgres::Statement| {
            let columns = parsed.columns().iter().map(tokio_postgres::Column::type_);
            columns.chain(parsed.params()).all(|known| Type::from_oid(known.oid()).is_some())
        };
        self.asked_for_types |= !parsed.as_ref().is_ok_and(built_in);
        let parsed = parsed.map_err(|error| failure(Command::Statement, &error))?;
        if known.is_none() {
            self.known.keep(&statement.text, types, &parsed);
        }
        Ok(parsed)
    }

    /// A transaction that could not be opened leaves nothing to go on with.
    fn not_begun(&self, error: &tokio_postgres::Error) -> DatabaseError {
        let error = failure(Command::Begin, error);
        match error.aftermath {
            Aftermath::Broken => error,
            Aftermath::Answered | Aftermath::Replaced => {
                DatabaseError { aftermath: Aftermath::Replaced, ..error }
            }
        }
    }

    async fn commit_read_only(&mut self) -> Preparation {
        // COMMIT rather than ROLLBACK: only a commit runs the serializable checks. The savepoint turns the
        // silent rollback of a failed transaction into an error.
        match self.connection.client.batch_execute("SAVEPOINT votum_guard; COMMIT").await {
            Ok(()) => Preparation::ReadOnly,
            Err(error) => Preparation::Refused(failure(Command::CommitReadOnly, &error)),
        }
    }

    /// Whether this database has foreign servers, whose writes leave the transaction without an xid.
    async fn has_foreign_servers(&self) -> Result<bool, DatabaseError> {
        let answer = self
            .connection
            .client
            .simple_query("SELECT EXISTS (SELECT FROM pg_catalog.pg_foreign_server)")
            .await
            .map_err(|error| failure(Command::CommitReadOnly, &error))?;
        first_row(&answer)
            .and_then(|row| row.get(0).map(|text| text == "t"))
            .ok_or_else(|| unexpected(Command::CommitReadOnly, "whether there are foreign servers"))
    }

    /// Everything to the reset of the session in one round trip. Where PREPARE fails, so does the reset, in the
    /// failed transaction, and is still to be done.
    async fn prepare_transaction(&mut self, gid: &Gid) -> Preparation {
        let known = self.facts.zip(self.branch.xid8);
        let question = match known {
            Some(_) => String::new(),
            None => format!("SELECT pg_catalog.pg_current_xact_id(), {FACTS}; "),
        };
        // The prepared transaction must belong to the agent's own role, or phase 2 may not end it. The
        // savepoint makes PREPARE fail in a failed or missing transaction, where alone it would "succeed".
        let prepare = format!(
            "{question}RESET SESSION AUTHORIZATION; SAVEPOINT votum_guard; PREPARE TRANSACTION '{gid}'"
        );
        let waits_cancelled = self.connection.unreplicated();
        let (client, parsed) = (&self.connection.client, &mut self.parsed);
        let close = async { parsed.clear() };
        let own = self.own.as_ref();
        let reset = async {
            match own {
                Some(own) => own.reset_prepared(client).await,
                None => false,
            }
        };
        let (prepared, (), reset) = join3(client.simple_query(&prepare), close, reset).await;
        let answer = match prepared {
            Ok(answer) => answer,
            Err(error) => return not_prepared(failure(Command::Prepare, &error)),
        };
        self.clean = reset;
        if self.connection.unreplicated() != waits_cancelled {
            return Preparation::Unsound(DatabaseError {
                policy: Policy::VoteNo,
                aftermath: Aftermath::Answered,
                sqlstate: "01000".into(),
                message: "PREPARE TRANSACTION was cancelled while it waited for a synchronous standby".into(),
                retryable: false,
                sql: None,
            });
        }
        let read = known.map(|(facts, xid8)| (xid8, facts)).or_else(|| {
            let row = first_row(&answer)?;
            Some((row.get(0)?.parse::<u64>().ok()?, parse_facts(row, 1)?))
        });
        match read {
            None => Preparation::Unsound(unexpected(Command::Prepare, "transaction id and server facts")),
            Some((xid8, _)) if self.branch.xid8.is_some_and(|known| known != xid8) => {
                Preparation::Unsound(unexpected(Command::Prepare, "another transaction was prepared"))
            }
            Some((xid8, facts)) => {
                self.facts = Some(facts).filter(|facts| !facts.in_recovery);
                Preparation::Prepared { xid8, facts }
            }
        }
    }
}

/// The statement has run, and its reply cannot be given: the client would take its error for a statement
/// without effect, and commit the effect with the rest (I15).
fn unreadable_value() -> DatabaseError {
    let what = "a value in a form that is not its type's, as after a change of client_encoding";
    DatabaseError { aftermath: Aftermath::Replaced, ..unexpected(Command::Statement, what) }
}

/// The statement has run, and what it did cannot be told from another transaction's work.
fn deallocated() -> DatabaseError {
    DatabaseError {
        policy: Policy::VoteNo,
        aftermath: Aftermath::Replaced,
        sqlstate: String::new(),
        message: "a statement deallocated all prepared statements of the session, the agent's own too: the \
                  branch cannot go on; deallocate statements by their names"
            .into(),
        retryable: false,
        sql: None,
    }
}

/// Text would be written and read wrongly from here on, and nobody would notice (I15).
fn other_encoding(encoding: &str) -> DatabaseError {
    DatabaseError {
        policy: Policy::VoteNo,
        aftermath: Aftermath::Replaced,
        sqlstate: String::new(),
        message: format!(
            "a statement changed client_encoding to {encoding}, in which text would be misread: the branch \
             cannot go on; leave client_encoding at {ENCODING}"
        ),
        retryable: false,
        sql: None,
    }
}

fn not_prepared(error: DatabaseError) -> Preparation {
    match (error.policy, error.aftermath) {
        (Policy::Verify, _) | (_, Aftermath::Broken) => Preparation::Unknown(error),
        (_, Aftermath::Answered | Aftermath::Replaced) => Preparation::Refused(error),
    }
}

#[async_trait]
impl Session for PostgresSession {
    async fn begin(&mut self, options: &BeginOptions) -> Result<(), DatabaseError> {
        let isolation = match options.isolation {
            Isolation::Unspecified => "",
            Isolation::ReadCommitted => " ISOLATION LEVEL READ COMMITTED",
            Isolation::RepeatableRead => " ISOLATION LEVEL REPEATABLE READ",
            Isolation::Serializable => " ISOLATION LEVEL SERIALIZABLE",
        };
        let access = if options.read_only { " READ ONLY" } else { "" };
        // The agent's own timer is the first; the server's are for when the agent is gone.
        let timeout = options.timeout.saturating_add(GRACE).as_millis().clamp(1, i32::MAX as u128);
        let whole = if self.connection.version >= 17 {
            format!("SET LOCAL transaction_timeout = {timeout}; ")
        } else {
            String::new()
        };
        // IDENTITY, which follows, takes a snapshot, after which no statement can make a READ ONLY transaction
        // writable.
        self.pending_begin = Some(format!(
            "BEGIN{isolation}{access}; SET LOCAL statement_timeout = {timeout}; \
             SET LOCAL idle_in_transaction_session_timeout = {timeout}; {whole}"
        ));
        self.branch = BranchState { read_only: options.read_only, ..BranchState::default() };
        self.clean = false;
        Ok(())
    }

    async fn run(&mut self, statement: &Statement, sink: &mut dyn RowSink) -> Result<u64, DatabaseError> {
        let parameters: Vec<_> = statement.parameters.iter().map(Parameter).collect();
        let types: Vec<_> = parameters.iter().map(Parameter::declared_type).collect();
        let parsed = self.parse(statement, &types).await?;
        sink.columns(values::columns(parsed.columns())).await;
        let client = &self.connection.client;
        let failed = |error| failure(Command::Statement, &error);
        let execute = async {
            let parameters = parameters.iter().map(|parameter| parameter as &(dyn ToSql + Sync));
            let mut rows = pin!(client.query_raw(&parsed, parameters).await.map_err(failed)?);
            while let Some(row) = rows.as_mut().try_next().await.map_err(failed)? {
                let row = values::row(&row, statement.raw_binary).ok_or_else(unreadable_value)?;
                sink.row(row).await;
            }
            Ok(rows.rows_affected().unwrap_or(0))
        };
        // Pipelined behind the statement: costs no round trip.
        let identity = async {
            match &self.own {
                Some(own) => own.identity(client).await.map_err(|error| match error.code() {
                    Some(&SqlState::INVALID_SQL_STATEMENT_NAME) => deallocated(),
                    Some(_) | None => failed(error),
                }),
                None => Err(unexpected(Command::Statement, "no transaction was begun")),
            }
        };
        let (ran, identity) = join(execute, identity).await;
        if ran.is_err() {
            self.known.forget(&statement.text, &types);
        }
        let ran = ran?;
        let identity = identity?;
        if self.parsed.len() >= KEPT_OPEN {
            self.parsed.clear();
        }
        self.parsed.push(parsed);
        self.branch.note(Command::Statement, &identity)?;
        Ok(ran)
    }

    async fn prepare(&mut self, gid: &Gid) -> Preparation {
        if self.pending_begin.take().is_some() || self.branch.began.is_none() {
            return Preparation::Refused(unexpected(Command::Prepare, "no transaction was begun"));
        }
        if self.branch.xid8.is_none() {
            let committable = if self.branch.read_only {
                Ok(true)
            } else {
                self.has_foreign_servers().await.map(|foreign| !foreign)
            };
            match committable {
                Ok(true) => return self.commit_read_only().await,
                Ok(false) => {}
                Err(error) => return Preparation::Refused(error),
            }
        }
        self.prepare_transaction(gid).await
    }

    async fn roll_back(&mut self) -> Result<(), DatabaseError> {
        self.branch = BranchState::default();
        if self.pending_begin.take().is_some() {
            return Ok(());
        }
        self.connection
            .client
            .batch_execute("ROLLBACK")
            .await
            .map_err(|error| failure(Command::Statement, &error))
    }

    async fn reset(&mut self) -> Result<(), DatabaseError> {
        self.branch = BranchState::default();
        self.parsed.clear();
        if self.asked_for_types {
            return Err(unexpected(Command::Statement, "the session cannot be reset"));
        }
        if !self.clean {
            self.own = None;
            self.known.clear();
            let reset = self.connection.client.batch_execute(RESET).await;
            reset.map_err(|error| failure(Command::Statement, &error))?;
            self.clean = true;
        }
        Ok(())
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::new(CancelRequest {
            token: self.connection.client.cancel_token(),
            connector: Arc::clone(&self.connector),
        })
    }

    fn backend(&self) -> BackendId {
        self.connection.backend.clone()
    }

    fn lost(&self) -> BoxFuture<()> {
        self.connection.lost()
    }

    fn is_lost(&self) -> bool {
        self.connection.is_lost()
    }
}

/// PostgreSQL's cancel request: a connection of its own that names the backend.
struct CancelRequest {
    token: CancelToken,
    connector: Arc<Connector>,
}

#[async_trait]
impl Canceller for CancelRequest {
    async fn cancel(&self) -> Result<(), DatabaseError> {
        self.connector.cancel(&self.token).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_changed_or_vanished_is_noticed() {
        let mut branch = BranchState::default();
        assert!(branch.same_transaction(10, None).is_ok());
        assert!(branch.same_transaction(10, Some(7)).is_ok());
        assert!(branch.same_transaction(10, Some(7)).is_ok());
        for (began, xid8) in [(11, Some(7)), (10, Some(8)), (10, None)] {
            let error = branch.same_transaction(began, xid8).unwrap_err();
            assert_eq!(error.aftermath, Aftermath::Replaced);
        }
    }
}
