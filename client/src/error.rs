//! What can go wrong, other than an abort.

use std::time::Duration;

use tonic::{Code, Status};
use votum_proto::v1;

/// What a caller has to know or to change. An abort is not among them: it is an
/// [`Outcome`](crate::Outcome).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that cannot be dialled.
    #[error("{0}")]
    Address(String),
    /// A database refused a statement. The branch can go on only from a savepoint; the transaction can
    /// always be rolled back.
    #[error("{0}")]
    Sql(Box<SqlError>),
    /// A request that cannot be served as it stands.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The idempotency key stands for another transaction. Ask with
    /// [`Votum::transaction`](crate::Votum::transaction) what became of it.
    #[error("the idempotency key stands for transaction {gtid}: {message}")]
    KeyTaken {
        /// That transaction.
        gtid: String,
        /// Whether it is alive: the key is free again if it aborts. Otherwise it is committed.
        alive: bool,
        /// For people.
        message: String,
    },
    /// Nobody answered within the retry budget.
    #[error("{whom} did not answer for {waited:?}: {detail}")]
    Unreachable {
        /// The coordinator, or the agent of a participant.
        whom: String,
        /// How long it was tried.
        waited: Duration,
        /// What the last attempt met.
        detail: String,
    },
    /// A branch cannot go on: its session is gone, or it is not known whether its last statement ran. The
    /// transaction can only be rolled back.
    #[error("the branch at {participant} is lost and the transaction cannot commit: {detail}")]
    BranchLost {
        /// Where the branch was.
        participant: String,
        /// Why.
        detail: String,
        /// Whether the same transaction may succeed if it is run again.
        retryable: bool,
    },
    /// No participant has this name.
    #[error("there is no participant {participant:?}; the coordinator knows {known}")]
    NoSuchParticipant {
        /// The name asked for.
        participant: String,
        /// Those that exist.
        known: String,
    },
    /// A statement at a participant where the branch is attached, or an attached branch where there is none.
    #[error("{detail} at {participant}")]
    Attachment {
        /// Where.
        participant: String,
        /// What is in the way.
        detail: &'static str,
    },
    /// A column that a row does not have, or that holds something else.
    #[error("column {column} {problem}")]
    Column {
        /// Its name or place.
        column: String,
        /// What is in the way.
        problem: String,
    },
    /// [`Transaction::query_one`](crate::Transaction::query_one) met no row, or several.
    #[error("exactly one row was asked for, and {0} were found")]
    RowCount(usize),
    /// The other side broke the wire contract: it is of another version, or not Votum.
    #[error("the answer breaks the contract: {0}")]
    Contract(String),
}

/// An error as PostgreSQL reported it.
///
/// ```no_run
/// # async fn example(tx: votum_client::Transaction) -> Result<(), votum_client::Error> {
/// use votum_client::Error;
/// match tx.execute("bank_a", "INSERT INTO account VALUES (1, 0)", &[]).await {
///     Err(Error::Sql(error)) if error.sqlstate == "23505" => println!("{} exists", error.constraint),
///     other => { other?; }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{participant}: {severity} {sqlstate}: {message}{}{}", after("detail", detail), after("hint", hint))]
pub struct SqlError {
    /// Whose database it was.
    pub participant: String,
    /// Five characters, see PostgreSQL's appendix A.
    pub sqlstate: String,
    /// ERROR, FATAL or PANIC.
    pub severity: String,
    /// The message.
    pub message: String,
    /// More of it; empty when there is none.
    pub detail: String,
    /// The server's advice; empty when there is none.
    pub hint: String,
    /// The character in the statement, from 1, at which the error was noticed.
    pub position: Option<u32>,
    /// The schema concerned; empty when there is none.
    pub schema: String,
    /// The table concerned; empty when there is none.
    pub table: String,
    /// The column concerned; empty when there is none.
    pub column: String,
    /// The constraint concerned; empty when there is none.
    pub constraint: String,
    /// Whether the same transaction may succeed if it is run again.
    pub retryable: bool,
}

fn after(word: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; {word}: {text}") }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", after("see votumctl explain", code))]
pub struct Refusal {
    /// A stable code such as VOTUM-1203; empty when it came from below Votum.
    pub code: String,
    /// The gRPC code.
    pub grpc: Code,
    /// The transaction concerned; empty when there is none.
    pub gtid: String,
    /// The participant concerned; empty when there is none.
    pub participant: String,
    /// What happened and what to do.
    pub message: String,
    /// Whether the same request may succeed later without change: no free session, too many transactions.
    pub retryable: bool,
    /// When to come back, where that is known: whoever comes before it, or with everybody else, only adds to what is
    /// in the way.
    pub retry_after: Option<Duration>,
}

/// SQLSTATE 40001 `serialization_failure` and 40P01 `deadlock_detected`: PostgreSQL's own advice is to run
/// the transaction again.
const RUN_AGAIN: [&str; 2] = ["40001", "40P01"];

impl Error {
    /// Whether the same transaction may succeed if it is run again from its beginning: after a serialization
    /// failure, a deadlock, or the loss of a session.
    ///
    /// ```
    /// assert!(!votum_client::Error::RowCount(0).is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Sql(error) => error.retryable,
            Self::BranchLost { retryable, .. } => *retryable,
            Self::Address(_)
            | Self::Refused(_)
            | Self::KeyTaken { .. }
            | Self::Unreachable { .. }
            | Self::NoSuchParticipant { .. }
            | Self::Attachment { .. }
            | Self::Column { .. }
            | Self::RowCount(_)
            | Self::Contract(_) => false,
        }
    }

    /// An answer that is an error and will not become another by asking again.
    pub(crate) fn from_status(status: &Status, participant: &str) -> Self {
        let detail = votum_proto::error::detail(status).unwrap_or_default();
        let or_asked = |name: String| if name.is_empty() { participant.to_owned() } else { name };
        if let Some(sql) = detail.sql {
            let error = SqlError::new(sql, or_asked(detail.participant), detail.retryable);
            return Self::Sql(Box::new(error));
        }
        if status.code() == Code::AlreadyExists && !detail.gtid.is_empty() {
            return Self::KeyTaken { gtid: detail.gtid, alive: detail.retryable, message: text(status) };
        }
        Self::Refused(Box::new(Refusal {
            code: detail.code,
            grpc: status.code(),
            gtid: detail.gtid,
            participant: or_asked(detail.participant),
            message: text(status),
            retryable: detail.retryable,
            retry_after: Some(detail.retry_after_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
        }))
    }
}

impl SqlError {
    pub(crate) fn new(sql: v1::SqlError, participant: String, retryable: bool) -> Self {
        Self {
            participant,
            retryable: retryable || RUN_AGAIN.contains(&sql.sqlstate.as_str()),
            sqlstate: sql.sqlstate,
            severity: sql.severity,
            message: sql.message,
            detail: sql.detail,
            hint: sql.hint,
            position: Some(sql.position).filter(|position| *position > 0),
            schema: sql.schema,
            table: sql.table,
            column: sql.column,
            constraint: sql.constraint,
        }
    }
}

/// A status in words.
pub(crate) fn text(status: &Status) -> String {
    let message = match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    };
    append_causes(message, std::error::Error::source(status))
}

/// An error in words, with what lies beneath it: tonic says only "transport error" at the top.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    append_causes(error.to_string(), error.source())
}

fn append_causes(mut text: String, mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    while let Some(error) = cause {
        let beneath = error.to_string();
        if !text.contains(&beneath) {
            text = format!("{text}: {beneath}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(sqlstate: &str, retryable: bool) -> Error {
        let sql = v1::SqlError { sqlstate: sqlstate.into(), message: "no".into(), ..Default::default() };
        let detail = v1::ErrorDetail { sql: Some(sql), retryable, ..Default::default() };
        Error::from_status(&votum_proto::error::status(Code::Aborted, "no", &detail), "bank_a")
    }

    #[test]
    fn serialization_failures_and_deadlocks_may_be_run_again() {
        assert!(sql("40001", false).is_retryable());
        assert!(sql("40P01", false).is_retryable());
        assert!(sql("55P03", true).is_retryable());
        assert!(!sql("23505", false).is_retryable());
    }

    #[test]
    fn an_error_names_the_participant_even_if_the_answer_does_not() {
        assert!(sql("23505", false).to_string().starts_with("bank_a:"));
    }

    #[test]
    fn a_key_in_use_names_the_transaction_that_holds_it() {
        let detail = v1::ErrorDetail { gtid: "acme-7-3f9ac2-1".into(), ..Default::default() };
        let status = votum_proto::error::status(Code::AlreadyExists, "alive", &detail);
        assert!(
            matches!(Error::from_status(&status, ""), Error::KeyTaken { gtid, .. } if gtid == "acme-7-3f9ac2-1")
        );
    }
}
