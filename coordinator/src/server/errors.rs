//! What the driver refuses, as gRPC statuses.

use tonic::{Code, Status};
use votum_proto::error;
use votum_proto::v1;

use crate::config::in_ms;
use crate::driver::request::RequestError;

/// The status that tells a client of `error`. `about` is the gtid that the request named, if it named one; an
/// error that knows of another transaction carries that one's gtid instead.
pub fn status(error: &RequestError, about: &str) -> Status {
    let Answer { status, code, retryable } = answer(error);
    let gtid = subject(error).unwrap_or_else(|| about.to_owned());
    let retry_after_ms =
        if let RequestError::WouldWait { retry_after, .. } = error { in_ms(*retry_after).max(1) } else { 0 };
    let detail =
        v1::ErrorDetail { code: code.to_owned(), gtid, retryable, retry_after_ms, ..Default::default() };
    error::status(status, error.to_string(), &detail)
}

/// How an error is answered.
struct Answer {
    status: Code,
    /// Stable, for ever: programs and people look it up.
    code: &'static str,
    /// Whether the same request may succeed later without change.
    retryable: bool,
}

fn answer(error: &RequestError) -> Answer {
    let (status, code, retryable) = match error {
        RequestError::Invalid(_) => (Code::InvalidArgument, "VOTUM-1201", false),
        RequestError::WrongSecret(_) => (Code::PermissionDenied, "VOTUM-1202", false),
        RequestError::Unavailable(_) => (Code::Unavailable, "VOTUM-1203", true),
        RequestError::NotFound(_) => (Code::NotFound, "VOTUM-1204", false),
        // Free again if that transaction aborts; committed if it commits.
        RequestError::KeyInUse(_) => (Code::AlreadyExists, "VOTUM-1205", true),
        RequestError::KeyCommitted(_) => (Code::AlreadyExists, "VOTUM-1206", false),
        RequestError::KeyMismatch(_) => (Code::InvalidArgument, "VOTUM-1207", false),
        RequestError::Overloaded { .. } => (Code::ResourceExhausted, "VOTUM-1208", true),
        RequestError::WouldWait { .. } => (Code::ResourceExhausted, "VOTUM-1212", true),
        RequestError::NotBegun(_) => (Code::Unavailable, "VOTUM-1210", true),
        RequestError::OtherLife { .. } => (Code::FailedPrecondition, "VOTUM-1211", false),
        // Whoever watches over the process restarts it; the repeated request is then answered from the log.
        RequestError::LogFailed(_) => (Code::Unavailable, "VOTUM-1209", true),
    };
    Answer { status, code, retryable }
}

/// The transaction that the error itself names.
fn subject(error: &RequestError) -> Option<String> {
    match error {
        RequestError::WrongSecret(gtid)
        | RequestError::KeyInUse(gtid)
        | RequestError::KeyCommitted(gtid)
        | RequestError::KeyMismatch(gtid)
        | RequestError::OtherLife { present: gtid, .. } => Some(gtid.to_string()),
        RequestError::NotFound(gtid) => Some(gtid.clone()),
        RequestError::Invalid(_)
        | RequestError::Overloaded { .. }
        | RequestError::WouldWait { .. }
        | RequestError::Unavailable(_)
        | RequestError::NotBegun(_)
        | RequestError::LogFailed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gtid() -> votum_proto::names::Gtid {
        "acme-7-3f9ac2-1042".parse().unwrap()
    }

    fn would_wait() -> RequestError {
        let [expected, bound, retry_after] = [3_000, 1_000, 2_500].map(std::time::Duration::from_millis);
        RequestError::WouldWait { participant: "bank_a".parse().unwrap(), expected, bound, retry_after }
    }

    #[test]
    fn who_would_wait_too_long_is_told_when_to_come_back() {
        let detail = error::detail(&status(&would_wait(), "")).unwrap();
        assert_eq!((detail.retryable, detail.retry_after_ms), (true, 2_500));
    }

    /// One of each.
    fn every_error() -> Vec<RequestError> {
        vec![
            RequestError::Invalid("no".into()),
            RequestError::WrongSecret(gtid()),
            RequestError::Unavailable("counting".into()),
            RequestError::NotFound(gtid().to_string()),
            RequestError::KeyInUse(gtid()),
            RequestError::KeyCommitted(gtid()),
            RequestError::KeyMismatch(gtid()),
            RequestError::Overloaded { live: 5 },
            would_wait(),
            RequestError::NotBegun("not connected".into()),
            RequestError::OtherLife { asked: "6-3f9ac2".into(), present: gtid() },
            RequestError::LogFailed("EIO".into()),
        ]
    }

    #[test]
    fn every_error_has_a_code_of_its_own_and_a_sentence() {
        let mut codes = std::collections::BTreeSet::new();
        for request_error in every_error() {
            let status = status(&request_error, "acme-7-3f9ac2-1");
            let detail = error::detail(&status).unwrap();
            assert!(detail.code.starts_with("VOTUM-12"), "{}", detail.code);
            assert!(codes.insert(detail.code));
            assert_eq!(status.message(), request_error.to_string());
        }
    }

    #[test]
    fn a_key_in_use_tells_which_transaction_uses_it_rather_than_which_was_asked_about() {
        for error in [RequestError::KeyInUse(gtid()), RequestError::KeyCommitted(gtid())] {
            let status = status(&error, "");
            assert_eq!(status.code(), Code::AlreadyExists);
            assert_eq!(error::detail(&status).unwrap().gtid, gtid().to_string());
        }
        let status = status(&RequestError::Unavailable("later".into()), "acme-7-3f9ac2-1");
        assert_eq!(status.code(), Code::Unavailable);
        let detail = error::detail(&status).unwrap();
        assert_eq!((detail.gtid.as_str(), detail.retryable), ("acme-7-3f9ac2-1", true));
    }
}
