//! Errors as they cross the wire: a gRPC status with a sentence for people, and details for programs.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::v1::ErrorDetail;

/// The domain of the standard `google.rpc.ErrorInfo` that goes with every error.
pub const DOMAIN: &str = "votum";

/// Binary metadata key under which [`ErrorDetail`] travels.
const DETAIL_KEY: &str = "votum-error-bin";

/// A status with `message` for people and `detail` for programs. `ErrorInfo` (standard details) repeats the
/// code, gtid, participant, SQLSTATE and retryability for clients that know nothing of Votum's messages, and
/// `RetryInfo` says when to come back, where that is known.
pub fn status(code: Code, message: impl Into<String>, detail: &ErrorDetail) -> Status {
    use prost::Message as _;
    let sqlstate = detail.sql.as_ref().map(|sql| sql.sqlstate.clone()).unwrap_or_default();
    let metadata = [
        ("retryable".to_owned(), detail.retryable.to_string()),
        ("gtid".to_owned(), detail.gtid.clone()),
        ("participant".to_owned(), detail.participant.clone()),
        ("sqlstate".to_owned(), sqlstate),
    ];
    let mut details = ErrorDetails::with_error_info(&detail.code, DOMAIN, metadata);
    if detail.retry_after_ms > 0 {
        details.set_retry_info(Some(Duration::from_millis(detail.retry_after_ms)));
    }
    let mut status = Status::with_error_details(code, message, details);
    status
        .metadata_mut()
        .insert_bin(DETAIL_KEY, tonic::metadata::MetadataValue::from_bytes(&detail.encode_to_vec()));
    status
}

/// The detail of a status made by [`status`]; `None` for any other (a broken connection, for example).
pub fn detail(status: &Status) -> Option<ErrorDetail> {
    use prost::Message as _;
    let bytes = status.metadata().get_bin(DETAIL_KEY)?.to_bytes().ok()?;
    ErrorDetail::decode(bytes.as_ref()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_survives_the_status() {
        let sent =
            ErrorDetail { code: "VOTUM-1203".into(), gtid: "acme-7-3f9ac2-1".into(), ..Default::default() };
        let status = status(Code::Unavailable, "later", &sent);
        assert_eq!(detail(&status), Some(sent));
        assert_eq!(detail(&Status::unavailable("no details")), None);
    }

    #[test]
    fn when_to_come_back_is_said_in_the_standard_details_where_it_is_known() {
        let said = |retry_after_ms| {
            let detail = ErrorDetail { retry_after_ms, ..Default::default() };
            status(Code::ResourceExhausted, "later", &detail)
                .get_details_retry_info()
                .and_then(|info| info.retry_delay)
        };
        assert_eq!(said(0), None);
        assert_eq!(said(250), Some(Duration::from_millis(250)));
    }
}
