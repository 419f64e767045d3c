//! A client's statement on its session: parsed when that is needed, run, and followed in the same trip by the
//! question which transaction is open.

use std::sync::Arc;

use tokio_postgres::fallible_iterator::FallibleIterator as _;

use super::known::{Met, may_be_kept};
use super::own::{IDENTITY, Identity};
use super::reset::does_more_than_rows;
use super::session::{PostgresSession, another_transaction, branch_ends};
use super::types;
use super::values::{self, Column, Parameter};
use super::wire::{ENCODING, Failed, Form, Lost, Refusal, Reply, Tag, Transaction, Trip, Unsendable};
use super::{failed, unexpected, unsendable};
use crate::database::{Aftermath, Command, DatabaseError, RowSink, Statement};

/// What a statement says of itself that ended or opened a transaction. ROLLBACK is not among them, because
/// ROLLBACK TO says the same.
const CONTROL: [&str; 6] =
    ["BEGIN", "START TRANSACTION", "COMMIT", "PREPARE TRANSACTION", "COMMIT PREPARED", "ROLLBACK PREPARED"];

/// What a statement says of itself that may have put another one in the place of one of ours.
const TAMPERING: [&str; 4] = ["PREPARE", "DEALLOCATE", "DEALLOCATE ALL", "DISCARD ALL"];

/// What a statement says of itself that came with code of its own.
const CODE: [&str; 2] = ["DO", "CALL"];

/// How a statement is run.
pub(super) enum Way {
    /// It was parsed under a name.
    Named { name: Arc<str>, columns: Vec<Column>, keep: bool },
    /// It is parsed in the same trip, and its columns are expected to be of built-in types.
    AtOnce,
}

/// A statement on its way.
pub(super) struct Run<'a> {
    text: &'a str,
    parameters: Vec<Parameter<'a>>,
    types: Vec<u32>,
    raw_binary: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(statement: &'a Statement) -> Self {
        let parameters: Vec<_> = statement.parameters.iter().map(Parameter).collect();
        let types = parameters.iter().map(Parameter::declared_type).collect();
        Self { text: &statement.text, parameters, types, raw_binary: statement.raw_binary }
    }

    /// Puts the statement into a trip.
    pub(super) fn put(&self, trip: &mut Trip, way: &Way) -> Result<(), Unsendable> {
        match way {
            Way::Named { name, keep, .. } => {
                trip.bind(name, &self.parameters, Form::Binary)?;
                trip.execute()?;
                if *keep { Ok(()) } else { trip.close_statement(name) }
            }
            Way::AtOnce => {
                trip.parse("", self.text, &self.types)?;
                trip.bind("", &self.parameters, Form::Binary)?;
                trip.describe_bound()?;
                trip.execute()
            }
        }
    }
}

impl PostgresSession {
    pub(super) async fn run_statement(
        &mut self,
        statement: &Statement,
        sink: &mut dyn RowSink,
    ) -> Result<u64, DatabaseError> {
        let run = Run::new(statement);
        let way = match self.known_way(&run) {
            Some(way) => way,
            None => self.describe(&run).await?,
        };
        let ran = self.execute(&run, &way, sink).await;
        if ran.is_err() {
            self.has_failed(&run);
        }
        ran
    }

    /// How a statement is run that was met before.
    pub(super) fn known_way(&self, run: &Run<'_>) -> Option<Way> {
        Some(match self.known.find(run.text, &run.types)? {
            Met::Kept(name) => Way::Named { name, columns: Vec::new(), keep: true },
            Met::BuiltIn => Way::AtOnce,
        })
    }

    /// What is known of a statement that failed is not trusted any more.
    pub(super) fn has_failed(&mut self, run: &Run<'_>) {
        self.may_have_prepared = true;
        self.unclosed.extend(self.known.forget(run.text, &run.types));
    }

    /// Has a statement parsed that was never met, and asks for its columns.
    async fn describe(&mut self, run: &Run<'_>) -> Result<Way, DatabaseError> {
        let name: Arc<str> = format!("votum_s{}", self.named).into();
        self.named += 1;
        let put = |session: &mut Self| {
            let mut trip = session.trip()?;
            trip.parse(&name, run.text, &run.types)?;
            trip.describe_statement(&name)?;
            Ok(trip)
        };
        let trip = put(self).map_err(|error| unsendable(Command::Statement, &error))?;
        let closed = self.unclosed.len();
        self.unclosed.push(Arc::clone(&name));
        self.send(trip).await?;
        let described = self.description().await;
        let (parameters, described) = self.settled(described)?;
        self.own.end_trip();
        self.unclosed.drain(..closed);
        let (columns, met) = match types::built_in(&described) {
            Some(columns) if may_be_kept(run.text, &parameters, columns.len()) => {
                (columns, Some(Met::Kept(Arc::clone(&name))))
            }
            Some(columns) => (columns, Some(Met::BuiltIn)),
            None => {
                let (link, own, known) = (&mut self.link, &mut self.own, &mut self.branch.types);
                let resolved = types::resolve(&described, known, link, own).await;
                (self.settled(resolved)?, None)
            }
        };
        let met = met.filter(|_| self.known.has_room(run.text));
        let keep = matches!(met, Some(Met::Kept(_)));
        if let Some(met) = met {
            self.known.note(run.text, &run.types, met);
        }
        self.unclosed.retain(|unclosed| *unclosed != name);
        Ok(Way::Named { name, columns, keep })
    }

    async fn description(&mut self) -> Result<(Vec<u32>, Vec<types::Described>), Failed> {
        let (mut parameters, mut columns) = (Some(Vec::new()), Some(Vec::new()));
        loop {
            match self.link.next().await? {
                Reply::Parameters(body) => parameters = body.parameters().collect().ok(),
                Reply::Columns(body) => columns = types::described(&body),
                Reply::NoColumns => {}
                Reply::Refused(refusal) => return Err(self.link.skip(refusal).await),
                Reply::Ready => break,
                Reply::Row(_) | Reply::Done(_) | Reply::Copy => {
                    return Err(self.link.give_up("something else than a description").into());
                }
            }
        }
        let read = parameters.zip(columns);
        read.ok_or_else(|| self.link.give_up("the description of a statement").into())
    }

    /// Runs a statement, and asks behind it which transaction is open: that costs no trip.
    async fn execute(
        &mut self,
        run: &Run<'_>,
        way: &Way,
        sink: &mut dyn RowSink,
    ) -> Result<u64, DatabaseError> {
        let put = |session: &mut Self| {
            let mut trip = session.trip()?;
            run.put(&mut trip, way)?;
            session.own.run(&mut trip, &IDENTITY, None)?;
            Ok(trip)
        };
        let trip = put(self).map_err(|error| unsendable(Command::Statement, &error))?;
        let closed = self.unclosed.len();
        if let Way::Named { name, keep: false, .. } = way {
            self.unclosed.push(Arc::clone(name));
        }
        let first = self.send(trip).await? || self.branch.began.is_none();
        let (tag, copied) = self.reply(run, way, sink).await?;
        let identity = self.identity().await;
        let identity = self.settled(identity).map_err(unless_deallocated)?;
        self.own.end_trip();
        self.unclosed.drain(..closed);
        if let Way::Named { name, keep: false, .. } = way {
            self.unclosed.retain(|unclosed| unclosed != name);
        }
        self.tampered |= TAMPERING.iter().any(|name| tag.is(name));
        self.may_have_prepared |= CODE.iter().any(|name| tag.is(name));
        self.branch.resets_behind |= does_more_than_rows(&tag);
        let ended = CONTROL.iter().any(|name| tag.is(name)) || (first && tag.is("ROLLBACK"));
        if ended || self.link.transaction() != Transaction::Open {
            return Err(another_transaction());
        }
        self.branch.same_transaction(identity)?;
        if self.link.encoding() != ENCODING {
            return Err(other_encoding(self.link.encoding()));
        }
        if copied { Err(copied_out()) } else { Ok(tag.rows()) }
    }

    /// Reads a statement's own reply. True when it copied data, too, which went nowhere.
    pub(super) async fn reply(
        &mut self,
        run: &Run<'_>,
        way: &Way,
        sink: &mut dyn RowSink,
    ) -> Result<(Tag, bool), DatabaseError> {
        let lost = |lost: Lost| failed(Command::Statement, lost.into());
        let mut described = None;
        let columns = match way {
            Way::Named { columns, .. } => {
                sink.columns(values::columns(columns)).await;
                columns
            }
            Way::AtOnce => {
                let columns = match self.link.next().await.map_err(lost)? {
                    Reply::Columns(body) => types::described(&body),
                    Reply::NoColumns => Some(Vec::new()),
                    Reply::Refused(refusal) => return Err(self.refused(refusal).await),
                    Reply::Parameters(_) | Reply::Row(_) | Reply::Done(_) | Reply::Copy | Reply::Ready => {
                        None
                    }
                };
                let columns = columns.ok_or_else(|| lost(self.link.give_up("the columns of a statement")))?;
                let columns = types::built_in(&columns).ok_or_else(other_columns)?;
                sink.columns(values::columns(&columns)).await;
                &*described.insert(columns)
            }
        };
        let mut copied = false;
        loop {
            match self.link.next().await.map_err(lost)? {
                Reply::Row(row) => {
                    let row = values::row(columns, &row, run.raw_binary).ok_or_else(unreadable_value)?;
                    sink.row(row).await;
                }
                Reply::Done(tag) => return Ok((tag, copied)),
                Reply::Refused(refusal) => return Err(self.refused(refusal).await),
                Reply::Copy => copied = true,
                Reply::Parameters(_) | Reply::Columns(_) | Reply::NoColumns | Reply::Ready => {
                    return Err(lost(self.link.give_up("something else than a statement's reply")));
                }
            }
        }
    }

    async fn identity(&mut self) -> Result<Identity, Failed> {
        let (_, row) = self.link.done().await?;
        self.link.finish().await?;
        let read = row.as_ref().and_then(|row| Identity::read(row, &self.roles.current));
        read.ok_or_else(|| self.link.give_up("the transaction's identity").into())
    }

    async fn refused(&mut self, refusal: Box<Refusal>) -> DatabaseError {
        let skipped: Result<(), _> = Err(self.link.skip(refusal).await);
        match self.settled(skipped) {
            Err(error) => error,
            Ok(()) => unexpected(Command::Statement, "a refusal that is none"),
        }
    }

    /// A statement of the branch that was refused has failed its transaction, which stands until a ROLLBACK
    /// TO. Where it does not stand, the statement has ended it.
    fn settled<T>(&self, ended: Result<T, Failed>) -> Result<T, DatabaseError> {
        ended.map_err(|error| {
            let error = failed(Command::Statement, error);
            if error.aftermath == Aftermath::Answered && self.link.transaction() != Transaction::Failed {
                return DatabaseError { aftermath: Aftermath::Replaced, ..error };
            }
            error
        })
    }
}

/// The statement has run, and its reply cannot be given: the client would take its error for a statement
/// without effect, and commit the effect with the rest (I15).
fn unreadable_value() -> DatabaseError {
    let what = "a value in a form that is not its type's, as after a change of client_encoding";
    DatabaseError { aftermath: Aftermath::Replaced, ..unexpected(Command::Statement, what) }
}

/// As above: what the columns are called would have to be asked while their rows arrive.
fn other_columns() -> DatabaseError {
    let message = "the columns of a statement have got other types since it was last run; the branch cannot go \
                   on; run the transaction again";
    DatabaseError { retryable: true, ..branch_ends(message.into()) }
}

/// As above.
pub(super) fn copied_out() -> DatabaseError {
    branch_ends(
        "a statement copied data to the client, which a branch cannot do; the branch cannot go on".into(),
    )
}

/// The statement has run, and what it did cannot be told from another transaction's work.
fn unless_deallocated(error: DatabaseError) -> DatabaseError {
    if error.sqlstate != "26000" {
        return error;
    }
    branch_ends(
        "a statement deallocated all prepared statements of the session, the agent's own too: the branch cannot \
         go on; deallocate statements by their names"
            .into(),
    )
}

/// Text would be written and read wrongly from here on, and nobody would notice (I15).
fn other_encoding(encoding: &str) -> DatabaseError {
    branch_ends(format!(
        "a statement changed client_encoding to {encoding}, in which text would be misread: the branch cannot go \
         on; leave client_encoding at {ENCODING}"
    ))
}
