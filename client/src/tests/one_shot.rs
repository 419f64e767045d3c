//! Whole transactions: what is repeated, for which life of the coordinator, and what is said when nobody knows.

use std::time::Duration;

use tonic::{Code, Status};
use votum_proto::error::status;
use votum_proto::v1;

use super::fake::{aborted, start_with};
use super::impatient;
use crate::{Error, Outcome, Transacted};

/// A coordinator of this life says that it is not the one that was asked.
fn other_life(life: &str) -> Status {
    let gtid = format!("fake-{life}-0");
    let detail = v1::ErrorDetail { code: "VOTUM-1211".into(), gtid, ..Default::default() };
    status(Code::FailedPrecondition, "another life", &detail)
}

fn not_begun() -> Status {
    let detail = v1::ErrorDetail { code: "VOTUM-1210".into(), retryable: true, ..Default::default() };
    status(Code::Unavailable, "the agent is not connected", &detail)
}

/// Sends one request, to which this is answered, in order; what the client made of it, and the lives and the names of
/// the requests that it sent.
async fn asked(
    key: Option<&str>,
    answers: Vec<Result<v1::outcome::Kind, Status>>,
) -> (Result<Transacted, Error>, Vec<String>, usize) {
    let (votum, script) = start_with(impatient()).await;
    script.transacts.lock().unwrap().extend(answers);
    let shot = votum.transact().statement("bank_a", "one", &[]);
    let shot = match key {
        Some(key) => shot.idempotency_key(key),
        None => shot,
    };
    let done = shot.await;
    let requests = script.transact_requests.lock().unwrap().clone();
    let names: std::collections::BTreeSet<u64> = requests.iter().map(|request| request.attempt).collect();
    assert!(!names.contains(&0), "a request without a name");
    (done, requests.into_iter().map(|request| request.life).collect(), names.len())
}

fn lost() -> Result<v1::outcome::Kind, Status> {
    Err(Status::unavailable("the connection broke"))
}

#[tokio::test]
async fn a_client_learns_the_life_of_the_coordinator_and_pins_what_is_open_to_it() {
    let answers = vec![Err(other_life("3-00000a")), lost(), lost()];
    let (done, lives, names) = asked(None, answers).await;
    assert!(done.unwrap().outcome.is_committed());
    assert_eq!(lives, ["", "3-00000a", "3-00000a", "3-00000a"]);
    assert_eq!(names, 1, "one name for all of its repetitions");
}

/// What was open when that life ended may have been committed: only a key can tell.
#[tokio::test]
async fn what_was_open_when_its_life_ended_is_unknown_unless_a_key_knows_it() {
    let answers = || vec![Err(other_life("3-00000a")), lost(), Err(other_life("4-00000b"))];
    let (done, lives, _) = asked(None, answers()).await;
    let done = done.unwrap();
    assert!(matches!(done.outcome, Outcome::Unknown { .. }), "{}", done.outcome);
    assert_eq!((lives.len(), done.gtid.as_str()), (3, ""));
    let (done, lives, _) = asked(Some("key"), answers()).await;
    assert!(done.unwrap().outcome.is_committed());
    assert_eq!(lives.last().map(String::as_str), Some("4-00000b"));
}

#[tokio::test]
async fn what_was_not_begun_is_sent_again_until_patience_ends() {
    let (done, lives, _) = asked(None, vec![Err(not_begun()), Err(not_begun())]).await;
    assert!(done.unwrap().outcome.is_committed());
    assert_eq!(lives.len(), 3);
    let (done, ..) = asked(None, (0..100).map(|_| Err(not_begun())).collect()).await;
    let Err(Error::Refused(refusal)) = done else { panic!("{done:?}") };
    assert!(refusal.retryable);
    let (done, ..) = asked(None, (0..100).map(|_| lost()).collect()).await;
    assert!(matches!(done.unwrap().outcome, Outcome::Unknown { .. }));
}

#[tokio::test]
async fn an_abort_is_an_outcome_and_a_refusal_an_error() {
    let (done, lives, _) = asked(None, vec![Ok(aborted(true))]).await;
    let Outcome::Aborted(abort) = done.unwrap().outcome else { panic!("not aborted") };
    assert!(abort.retryable && lives.len() == 1);
    let refused = Status::invalid_argument("name at least one branch");
    let (done, lives, _) = asked(None, vec![Err(refused)]).await;
    assert!(matches!(done, Err(Error::Refused(_))) && lives.len() == 1);
}

fn too_much() -> Status {
    let detail = v1::ErrorDetail { code: "VOTUM-1205".into(), retryable: true, ..Default::default() };
    status(Code::ResourceExhausted, "too many transactions at once", &detail)
}

/// Refused, a request may be given up; what may have been carried out may not be taken for refused.
#[tokio::test]
async fn what_may_have_been_carried_out_is_asked_after_however_much_there_is_to_do() {
    let (done, lives, _) = asked(None, vec![Err(too_much())]).await;
    assert!(matches!(done, Err(Error::Refused(_))) && lives.len() == 1);
    let (done, lives, _) = asked(None, vec![lost(), Err(too_much())]).await;
    assert!(done.unwrap().outcome.is_committed());
    assert_eq!(lives.len(), 3);
}

#[tokio::test]
async fn a_transaction_of_which_nothing_is_known_in_the_end_keeps_the_name_that_was_told() {
    let unknown = || Ok(v1::outcome::Kind::Unknown(v1::Unknown { detail: "not known".into() }));
    let answers = std::iter::once(unknown()).chain((0..100).map(|_| lost())).collect();
    let (done, ..) = asked(None, answers).await;
    let done = done.unwrap();
    assert!(matches!(done.outcome, Outcome::Unknown { .. }) && !done.gtid.is_empty(), "{done:?}");
}

fn come_back(retry_after_ms: u64) -> Status {
    let detail = v1::ErrorDetail { retryable: true, retry_after_ms, ..Default::default() };
    status(Code::ResourceExhausted, "it would wait too long", &detail)
}

#[tokio::test]
async fn who_is_told_when_to_come_back_comes_back_then_unless_patience_ends_before() {
    let (done, lives, names) = asked(None, vec![Err(come_back(1)), Err(come_back(1))]).await;
    assert!(done.unwrap().outcome.is_committed());
    assert_eq!((lives.len(), names), (3, 1));
    for (retry_after_ms, retry_after) in [(3_600_000, Some(Duration::from_secs(3_600))), (0, None)] {
        let (done, lives, _) = asked(None, vec![Err(come_back(retry_after_ms))]).await;
        let Err(Error::Refused(refusal)) = done else { panic!("{done:?}") };
        assert_eq!((lives.len(), refusal.retry_after), (1, retry_after));
    }
}
