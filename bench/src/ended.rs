//! How a transaction ended, as far as its worker knows, and what kind of failure it was.

use std::fmt;

use votum_client::{Abort, Error};

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// At every bank.
    Committed,
    /// At no bank.
    NotCommitted(Failure),
    /// One or the other.
    Unknown(Failure),
}

/// Why a transaction did not commit, or why nobody can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Under which word it is counted: few of them, however many failures there are.
    pub(crate) kind: String,
    /// In full.
    pub(crate) detail: String,
}

impl Failure {
    /// A failure of a kind.
    pub(crate) fn new(kind: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind: kind.into(), detail: detail.into() }
    }

    /// A statement that met other than one row at each bank.
    pub(crate) fn rows(found: &impl fmt::Debug) -> Self {
        Self::new("wrong rows", format!("the accounts are {found:?} rows"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

impl From<Abort> for Failure {
    fn from(abort: Abort) -> Self {
        let kind = match &abort.sqlstate {
            Some(sqlstate) => format!("aborted, {}, SQLSTATE {sqlstate}", abort.kind),
            None => format!("aborted, {}", abort.kind),
        };
        Self::new(kind, abort.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Sql(sql) => format!("SQLSTATE {}", sql.sqlstate),
            Error::Refused(refusal) if refusal.code.is_empty() => format!("refused, {:?}", refusal.grpc),
            Error::Refused(refusal) => format!("refused, {}", refusal.code),
            Error::BranchLost { .. } => "branch lost".to_owned(),
            Error::Attachment { .. } => "not prepared".to_owned(),
            Error::Unreachable { .. } => "unreachable".to_owned(),
            Error::RowCount(_) => "wrong rows".to_owned(),
            Error::Address(_)
            | Error::KeyTaken { .. }
            | Error::NoSuchParticipant { .. }
            | Error::Column { .. }
            | Error::Contract(_) => "other".to_owned(),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(sql) => Self::new(format!("SQLSTATE {}", sql.code().code()), sql.to_string()),
            None => Self::new("unreachable", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use votum_client::AbortKind;

    use super::*;

    #[test]
    fn failures_that_differ_only_in_their_words_are_of_one_kind() {
        let abort = |sqlstate: Option<&str>| Abort {
            kind: AbortKind::VotedNo,
            participant: Some("bank_a".into()),
            sqlstate: sqlstate.map(str::to_owned),
            message: "no".into(),
            retryable: true,
            heuristics: Vec::new(),
        };
        let kind = |failure: Failure| failure.kind;
        assert_eq!(kind(abort(Some("40001")).into()), "aborted, a participant voted no, SQLSTATE 40001");
        assert_eq!(kind(abort(None).into()), "aborted, a participant voted no");
        assert_eq!(kind(Error::RowCount(0).into()), kind(Failure::rows(&[1, 2])));
    }
}
