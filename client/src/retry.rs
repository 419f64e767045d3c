//! When to ask again, and for how long.

use std::time::Duration;

use tonic::{Code, Status};
use votum_proto::error::detail;
use votum_proto::runtime::{Backoff, Elapsed, Monotonic, Seams};

use crate::Error;
use crate::error::text;

/// What an error status means for the same request sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection broke, or the other side is not ready: ask again.
    Again,
    /// The answer stands.
    Final,
}

/// When the other side says that the same request may be sent again, because there is too much to do.
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    let detail = detail(status).filter(|detail| detail.retryable && detail.retry_after_ms > 0)?;
    (status.code() == Code::ResourceExhausted).then(|| Duration::from_millis(detail.retry_after_ms))
}

/// For Begin, Rollback and GetTransaction. Overload is for the caller to know: asking at once would only add
/// to it.
pub(crate) fn verdict(status: &Status) -> Verdict {
    let again = match detail(status) {
        Some(detail) => detail.retryable && status.code() == Code::Unavailable,
        None => says_nothing_of_the_request(status.code()),
    };
    if again { Verdict::Again } else { Verdict::Final }
}

/// What an error status in answer to Execute means for the statement and its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementVerdict {
    /// The connection broke, or the agent is not ready: send the same request again.
    Again,
    /// The error is the statement's reply. Its ordinal is used up, and the branch lives.
    Reply,
    /// The statement did not run, and its ordinal is free.
    NotRun,
    /// The branch has ended.
    Lost,
}

/// For Execute. `started`: the agent sent `Started` before, which it does where the ordinal is used up.
/// `opened`: an earlier statement opened the branch.
pub(crate) fn statement_verdict(status: &Status, started: bool, opened: bool) -> StatementVerdict {
    let code = status.code();
    match detail(status) {
        None if says_nothing_of_the_request(code) => StatementVerdict::Again,
        None if started || opened => StatementVerdict::Lost,
        None => StatementVerdict::NotRun,
        Some(detail) if started => {
            let is_reply = detail.sql.is_some() || code == Code::InvalidArgument;
            if is_reply { StatementVerdict::Reply } else { StatementVerdict::Lost }
        }
        Some(detail) if detail.retryable && code == Code::Unavailable => StatementVerdict::Again,
        // The agent has not yet been spoken to by the life of the coordinator that began the transaction.
        Some(detail) if detail.retryable && code == Code::FailedPrecondition && !opened => {
            StatementVerdict::Again
        }
        Some(_) => match code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted => StatementVerdict::NotRun,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => StatementVerdict::Lost,
        },
    }
}

/// For Commit: only an answer that judges the request itself is final. Whatever else happened, an earlier
/// attempt may have been decided, so the question stays open.
pub(crate) fn commit_verdict(status: &Status) -> Verdict {
    if says_nothing_of_the_request(status.code()) || detail(status).is_some_and(|detail| detail.retryable) {
        Verdict::Again
    } else {
        Verdict::Final
    }
}

/// Codes with which connections break and servers stop; none of them judges what was asked.
pub(crate) fn says_nothing_of_the_request(code: Code) -> bool {
    match code {
        Code::Unavailable
        | Code::Unknown
        | Code::Internal
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::DataLoss
        | Code::Aborted
        | Code::ResourceExhausted => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => false,
    }
}

/// Attempts at one thing, spaced by a jittered back-off, until a deadline.
pub(crate) struct Patience<'a> {
    seams: &'a Seams,
    begun: Monotonic,
    deadline: Monotonic,
    backoff: Backoff,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(seams: &'a Seams, budget: Duration) -> Self {
        let begun = seams.clock.now();
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        Self { seams, begun, deadline: begun.after(budget), backoff }
    }

    /// Waits before the next attempt; false when the deadline would pass first.
    pub(crate) async fn again(&mut self) -> bool {
        let delay = self.backoff.delay(&*self.seams.entropy);
        if delay >= self.left() {
            return false;
        }
        self.seams.clock.sleep(delay).await;
        true
    }

    /// Waits for as long as the other side asks for, and up to half as long again, so that not everybody comes back
    /// at once; false when the deadline would pass first.
    pub(crate) async fn again_after(&mut self, wait: Duration) -> bool {
        let delay = self.seams.entropy.jittered(wait).saturating_add(wait / 2);
        if delay >= self.left() {
            return false;
        }
        self.seams.clock.sleep(delay).await;
        true
    }

    /// What is left until the deadline.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.since(self.seams.clock.now())
    }

    /// How long it has been tried.
    pub(crate) fn waited(&self) -> Duration {
        self.seams.clock.now().since(self.begun)
    }
}

/// Asks the coordinator until there is an answer or `budget` has passed.
pub(crate) async fn ask<T, F>(
    seams: &Seams,
    budget: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut patience = Patience::new(seams, budget);
    loop {
        let detail = match seams.clock.timeout(patience.left(), attempt()).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(status)) => match verdict(&status) {
                Verdict::Final if retries_later(&status, &mut patience).await => continue,
                Verdict::Final => return Err(Error::from_status(&status, "")),
                Verdict::Again => text(&status),
            },
            Err(Elapsed) => "no answer came".to_owned(),
        };
        if !patience.again().await {
            return Err(Error::Unreachable {
                whom: "the coordinator".to_owned(),
                waited: patience.waited(),
                detail,
            });
        }
    }
}

/// Waits for as long as a side that has too much to do asks for, where the budget allows.
async fn retries_later(status: &Status, patience: &mut Patience<'_>) -> bool {
    match retry_after(status) {
        Some(wait) => patience.again_after(wait).await,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use votum_proto::v1::{ErrorDetail, SqlError};

    use super::*;

    fn detailed(code: Code, retryable: bool, sql: bool) -> Status {
        let sql = sql.then(SqlError::default);
        votum_proto::error::status(code, "", &ErrorDetail { retryable, sql, ..Default::default() })
    }

    #[test]
    fn a_broken_connection_is_asked_again_and_a_judgement_is_not() {
        assert_eq!(verdict(&Status::unavailable("connection refused")), Verdict::Again);
        assert_eq!(verdict(&Status::unknown("transport error")), Verdict::Again);
        assert_eq!(verdict(&Status::invalid_argument("no")), Verdict::Final);
        assert_eq!(verdict(&detailed(Code::Unavailable, true, false)), Verdict::Again);
        assert_eq!(verdict(&detailed(Code::Unavailable, false, false)), Verdict::Final);
        assert_eq!(verdict(&detailed(Code::ResourceExhausted, true, false)), Verdict::Final);
    }

    #[test]
    fn a_key_in_use_is_said_at_once() {
        assert_eq!(verdict(&detailed(Code::AlreadyExists, true, false)), Verdict::Final);
    }

    #[test]
    fn what_a_failed_statement_means_follows_from_whether_its_reply_had_begun() {
        use StatementVerdict::{Again, Lost, NotRun, Reply};
        let gone = Status::unavailable("connection refused");
        for (status, started, opened, expected) in [
            (gone.clone(), false, false, Again),
            (gone, true, true, Again),
            (Status::out_of_range("message too large"), true, false, Lost),
            (detailed(Code::Aborted, true, true), true, false, Reply),
            (detailed(Code::InvalidArgument, false, false), true, false, Reply),
            (detailed(Code::Aborted, true, false), true, true, Lost),
            (detailed(Code::Aborted, true, false), false, true, Lost),
            (detailed(Code::Unavailable, true, true), false, false, Again),
            (detailed(Code::FailedPrecondition, true, false), false, false, Again),
            (detailed(Code::FailedPrecondition, true, false), false, true, Lost),
            (detailed(Code::FailedPrecondition, false, false), false, false, Lost),
            (detailed(Code::ResourceExhausted, true, false), false, false, NotRun),
            (detailed(Code::PermissionDenied, false, false), false, false, NotRun),
        ] {
            assert_eq!(
                statement_verdict(&status, started, opened),
                expected,
                "{status:?} {started} {opened}"
            );
        }
    }

    #[test]
    fn a_commit_is_given_up_only_when_the_request_itself_was_judged() {
        assert_eq!(commit_verdict(&detailed(Code::Internal, false, false)), Verdict::Again);
        assert_eq!(commit_verdict(&detailed(Code::Unavailable, false, false)), Verdict::Again);
        assert_eq!(commit_verdict(&Status::permission_denied("secret")), Verdict::Final);
        assert_eq!(commit_verdict(&detailed(Code::InvalidArgument, false, false)), Verdict::Final);
    }
}
