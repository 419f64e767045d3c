//! PostgreSQL: the only folder that knows SQL, and the only one that turns a gid into it.
//!
//! Every function that the agent's own statements call is named with its schema: a client may have put
//! anything on its session's search path.

mod commands;
mod condition;
mod connect;
pub(crate) mod connection;
mod decide;
mod hosted;
mod hosts;
mod known;
mod lanes;
mod listing;
mod lookup;
pub mod lost_log;
pub mod marker;
mod one_phase;
mod own;
pub mod policy;
pub mod preflight;
mod prepare;
mod reset;
mod session;
mod statements;
mod text;
mod timeouts;
mod tls;
mod types;
mod values;
mod wire;
pub mod witness;
mod work;

use std::sync::Arc;

use tokio_postgres::error::{DbError, ErrorPosition, Severity};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};
use votum_proto::runtime::Seams;
use votum_proto::v1;

use crate::config::{ConfigProblem, ParticipantConfig};
use crate::database::{Aftermath, Command, Database, DatabaseError};

/// The database that a participant's configuration names. Connects to nothing yet.
///
/// # Errors
/// When the connection string, the password's source or the certificates cannot be used.
pub fn connect(participant: &ParticipantConfig, seams: Seams) -> Result<Arc<dyn Database>, ConfigProblem> {
    Ok(Arc::new(commands::Postgres::new(participant, seams)?))
}

/// What an error of the driver means in answer to `command`.
fn failure(command: Command, error: &tokio_postgres::Error) -> DatabaseError {
    let Some(database_error) = error.as_db_error() else {
        return DatabaseError {
            policy: policy::policy(command, ""),
            aftermath: if error.is_closed() || is_io(error) || command == Command::Connect {
                Aftermath::Broken
            } else {
                Aftermath::Answered
            },
            sqlstate: String::new(),
            message: describe(error),
            retryable: error.is_closed() || is_io(error),
            sql: None,
        };
    };
    let fatal = match database_error.parsed_severity() {
        Some(Severity::Fatal | Severity::Panic) => true,
        Some(
            Severity::Error
            | Severity::Warning
            | Severity::Notice
            | Severity::Debug
            | Severity::Info
            | Severity::Log,
        )
        | None => false,
    };
    answered(command, sql_error(database_error), fatal)
}

/// What an error of the server means in answer to `command`. A fatal one ends the session.
fn answered(command: Command, sql: v1::SqlError, fatal: bool) -> DatabaseError {
    let message = match policy::remedy(command, &sql.sqlstate) {
        Some(remedy) => format!("{}: {remedy}", sql.message),
        None => sql.message.clone(),
    };
    DatabaseError {
        policy: policy::policy(command, &sql.sqlstate),
        aftermath: if fatal { Aftermath::Broken } else { Aftermath::Answered },
        message,
        retryable: fatal || policy::retryable(&sql.sqlstate),
        sqlstate: sql.sqlstate.clone(),
        sql: Some(Box::new(sql)),
    }
}

/// What a trip that did not come to its end means for `command`.
fn failed(command: Command, error: wire::Failed) -> DatabaseError {
    match error {
        wire::Failed::Refused(refusal) => answered(command, refusal.sql, refusal.fatal),
        wire::Failed::Lost(wire::Lost(message)) => DatabaseError {
            policy: policy::policy(command, ""),
            aftermath: Aftermath::Broken,
            sqlstate: String::new(),
            message,
            retryable: true,
            sql: None,
        },
    }
}

/// A request that could not be put into the server's protocol: nothing was sent.
fn unsendable(command: Command, error: &wire::Unsendable) -> DatabaseError {
    DatabaseError {
        policy: policy::policy(command, "XX000"),
        aftermath: Aftermath::Answered,
        sqlstate: String::new(),
        message: format!("the statement cannot be sent to the server: {}", error.0),
        retryable: false,
        sql: None,
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.is::<std::io::Error>() {
            return true;
        }
        source = inner.source();
    }
    false
}

/// The error with its causes: the driver's own text names only the step at which it failed.
fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

fn sql_error(error: &DbError) -> v1::SqlError {
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    v1::SqlError {
        sqlstate: error.code().code().to_owned(),
        severity: error.severity().to_owned(),
        message: error.message().to_owned(),
        detail: text(error.detail()),
        hint: text(error.hint()),
        position: match error.position() {
            Some(ErrorPosition::Original(position)) => *position,
            Some(ErrorPosition::Internal { .. }) | None => 0,
        },
        schema: text(error.schema()),
        table: text(error.table()),
        column: text(error.column()),
        constraint: text(error.constraint()),
    }
}

/// An answer that PostgreSQL does not give.
fn unexpected(command: Command, what: &str) -> DatabaseError {
    DatabaseError {
        policy: policy::policy(command, "XX000"),
        aftermath: Aftermath::Answered,
        sqlstate: String::new(),
        message: format!("the server gave an answer that the agent cannot read: {what}"),
        retryable: false,
        sql: None,
    }
}

/// The first row of a simple query's answer.
fn first_row(messages: &[SimpleQueryMessage]) -> Option<&SimpleQueryRow> {
    rows(messages).next()
}

/// The rows of a simple query's answer.
fn rows(messages: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    messages
        .iter()
        .filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None })
}
