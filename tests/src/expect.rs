//! Takes an answer apart where only one kind is expected; any other is an error that shows it.

use std::fmt::Debug;

use anyhow::bail;
use votum_client::{Abort, Committed, Error, Outcome, Refusal, SqlError, Status};
use votum_proto::v1;
use votum_proto::v1::outcome::Kind;

/// The commit that an outcome is.
///
/// # Errors
/// When it is none.
pub fn committed(outcome: Outcome) -> anyhow::Result<Committed> {
    match outcome {
        Outcome::Committed(committed) => Ok(committed),
        other @ (Outcome::ReadOnly | Outcome::Aborted(_) | Outcome::Unknown { .. }) => {
            bail!("not committed: {other}")
        }
    }
}

/// The abort that an outcome is.
///
/// # Errors
/// When it is none.
pub fn aborted(outcome: Outcome) -> anyhow::Result<Abort> {
    match outcome {
        Outcome::Aborted(abort) => Ok(abort),
        other @ (Outcome::ReadOnly | Outcome::Committed(_) | Outcome::Unknown { .. }) => {
            bail!("not aborted: {other}")
        }
    }
}

/// The abort that became of a transaction.
///
/// # Errors
/// When it became something else.
pub fn found_aborted(status: Status) -> anyhow::Result<Abort> {
    match status {
        Status::Aborted(abort) => Ok(abort),
        other @ (Status::Committed(_)
        | Status::ReadOnly
        | Status::InProgress { .. }
        | Status::Unknown { .. }
        | Status::Expired) => bail!("not aborted: {other:?}"),
    }
}

/// The reason of an abort on the wire.
///
/// # Errors
/// When it is another outcome, or gives no reason.
pub fn reason(kind: Kind) -> anyhow::Result<v1::AbortReason> {
    match kind {
        Kind::Aborted(v1::Aborted { reason: Some(reason), .. }) => Ok(reason),
        other @ (Kind::Aborted(_)
        | Kind::Committed(_)
        | Kind::ReadOnly(_)
        | Kind::InProgress(_)
        | Kind::Unknown(_)
        | Kind::Expired(_)) => bail!("not an abort with its reason: {other:?}"),
    }
}

/// The database's error in answer to a statement.
///
/// # Errors
/// When the answer is anything else.
pub fn sql_error<T: Debug>(answer: Result<T, Error>) -> anyhow::Result<SqlError> {
    match answer {
        Err(Error::Sql(error)) => Ok(*error),
        other => bail!("not an error of the database: {other:?}"),
    }
}

/// The refusal of a request.
///
/// # Errors
/// When the answer is anything else.
pub fn refusal<T: Debug>(answer: Result<T, Error>) -> anyhow::Result<Refusal> {
    match answer {
        Err(Error::Refused(refusal)) => Ok(*refusal),
        other => bail!("not refused: {other:?}"),
    }
}
