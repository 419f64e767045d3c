//! What a client is told when its statement cannot be run: a code, a sentence, and whether to try again.

use std::time::Duration;

use tonic::{Code, Status};
use votum_proto::error::status;
use votum_proto::names::{Gtid, ParticipantName, SessionName};
use votum_proto::v1::ErrorDetail;

use crate::control::Refused;
use crate::database::{Aftermath, DatabaseError};
use crate::postgres::policy;

/// Why an Execute is answered with an error. Where the stream began with `Started` the ordinal is used up;
/// where it did not, nothing has happened.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ExecuteError {
    #[error("the request cannot be understood: {0}")]
    Malformed(String),
    #[error("this agent serves no participant named {0}")]
    UnknownParticipant(String),
    #[error(
        "transaction {0} is not of the coordinator's life that speaks to this agent: if the coordinator \
             has just started, try again; otherwise the transaction has ended"
    )]
    NotSpeaking(Gtid),
    #[error("the secret shown is not that of transaction {0}")]
    WrongSecret(Gtid),
    #[error("{reason}; the branch was rolled back and the transaction cannot commit: run it again")]
    BranchLost { reason: String, retryable: bool },
    #[error(
        "statement {found} was asked for after statement {last}: a branch takes each once, in order. The \
             branch was ended"
    )]
    Ordinal { found: u64, last: u64 },
    #[error(
        "another statement was sent under ordinal {0}, which has been used: the branch was ended, because \
             nobody could tell which of the two the client means"
    )]
    OrdinalReused(u64),
    #[error(
        "the reply to statement {0} was too large to be kept for a repetition: the branch was ended, \
             because its statement must not run twice"
    )]
    ReplyNotKept(u64),
    #[error("the branch's session is {0}, which is not the one that the request names")]
    OtherSession(SessionName),
    #[error("Commit has been asked for: the branch takes no more statements")]
    Preparing,
    #[error(
        "no session is free at participant {participant} in time: all are in use by other transactions, and by the \
         present pace will be for {} ms",
        wait.as_millis()
    )]
    NoSession { participant: ParticipantName, wait: Duration },
    #[error("more statements wait for this branch than it takes: send the next after the reply to the last")]
    TooManyWaiting,
    #[error("participant {participant} cannot be reached: {error}")]
    Unreachable { participant: ParticipantName, error: Box<DatabaseError> },
    #[error("{0}")]
    Sql(Box<DatabaseError>),
    #[error("{}", refused(*.0))]
    Refused(Refused),
    #[error("the agent is stopping and opens no more branches: try again")]
    Stopping,
}

fn refused(refused: Refused) -> &'static str {
    match refused {
        Refused::TransactionControl => {
            "the statement would open or end a transaction, which is the coordinator's part: use Commit and \
             Rollback of the coordinator; SAVEPOINT, RELEASE and ROLLBACK TO may be used"
        }
        Refused::Copy => "COPY is not offered: use INSERT and SELECT",
    }
}

impl ExecuteError {
    fn code(&self) -> (&'static str, Code, bool) {
        match self {
            Self::Malformed(_) => ("VOTUM-2001", Code::InvalidArgument, false),
            Self::UnknownParticipant(_) => ("VOTUM-2002", Code::NotFound, false),
            Self::NotSpeaking(_) => ("VOTUM-2003", Code::FailedPrecondition, true),
            Self::WrongSecret(_) => ("VOTUM-2004", Code::PermissionDenied, false),
            Self::BranchLost { retryable, .. } => ("VOTUM-2005", Code::Aborted, *retryable),
            Self::Ordinal { .. } => ("VOTUM-2006", Code::FailedPrecondition, false),
            Self::OrdinalReused(_) => ("VOTUM-2006", Code::FailedPrecondition, false),
            Self::OtherSession(_) => ("VOTUM-2007", Code::FailedPrecondition, false),
            Self::ReplyNotKept(_) => ("VOTUM-2008", Code::Aborted, false),
            Self::Preparing => ("VOTUM-2009", Code::FailedPrecondition, false),
            Self::NoSession { .. } => ("VOTUM-2010", Code::ResourceExhausted, true),
            Self::TooManyWaiting => ("VOTUM-2011", Code::ResourceExhausted, false),
            Self::Unreachable { .. } => ("VOTUM-2012", Code::Unavailable, true),
            Self::Sql(error) if error.sqlstate.is_empty() => {
                ("VOTUM-2013", Code::InvalidArgument, error.retryable)
            }
            Self::Sql(error) => ("VOTUM-2013", policy::status_code(&error.sqlstate), error.retryable),
            Self::Refused(_) => ("VOTUM-2014", Code::InvalidArgument, false),
            Self::Stopping => ("VOTUM-2015", Code::Unavailable, true),
        }
    }

    /// When to come back, in milliseconds; 0 where nothing is known of that. Half of those that wait are gone by then.
    fn retry_after_ms(&self) -> u64 {
        if let Self::NoSession { wait, .. } = self {
            u64::try_from(wait.as_millis() / 2).unwrap_or(u64::MAX).clamp(1, 10_000)
        } else {
            0
        }
    }

    /// As it crosses the wire.
    pub(crate) fn to_status(&self, gtid: &str, participant: &str) -> Status {
        let (code, grpc, retryable) = self.code();
        let sql = match self {
            Self::Sql(error) => error.sql.as_deref().cloned(),
            Self::Unreachable { error, .. } => error.sql.as_deref().cloned(),
            Self::Malformed(_)
            | Self::UnknownParticipant(_)
            | Self::NotSpeaking(_)
            | Self::WrongSecret(_)
            | Self::BranchLost { .. }
            | Self::Ordinal { .. }
            | Self::OrdinalReused(_)
            | Self::ReplyNotKept(_)
            | Self::OtherSession(_)
            | Self::Preparing
            | Self::NoSession { .. }
            | Self::TooManyWaiting
            | Self::Refused(_)
            | Self::Stopping => None,
        };
        let detail = ErrorDetail {
            code: code.to_owned(),
            gtid: gtid.to_owned(),
            participant: participant.to_owned(),
            sql,
            retryable,
            retry_after_ms: self.retry_after_ms(),
        };
        status(grpc, self.to_string(), &detail)
    }

    /// What a database's error means to the statement in which it occurred.
    pub(crate) fn of_statement(error: DatabaseError) -> Self {
        match error.aftermath {
            Aftermath::Answered => Self::Sql(Box::new(error)),
            Aftermath::Broken => Self::BranchLost {
                reason: format!("the connection to the database broke: {error}"),
                retryable: true,
            },
            Aftermath::Replaced => Self::BranchLost { reason: error.to_string(), retryable: false },
        }
    }
}
