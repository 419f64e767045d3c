//! What became of a transaction, in the order in which it is asked.

use votum_proto::v1;

use super::super::request::{Outcome, RequestError, Wait};
use super::world::{World, decided_commit, gtid, owed_commit};
use crate::protocol::record::Record;

#[tokio::test]
async fn absence_is_no_answer_before_the_log_is_counted_but_a_known_commit_is() {
    let mut world = World::with_owed(vec![owed_commit(6, 3)]);
    assert!(matches!(world.get(gtid(6, 3)).await, Ok(Outcome::Committed { .. })));
    assert!(matches!(world.get(gtid(6, 4)).await, Err(RequestError::Unavailable(_))));
    world.connect(World::hello()).await;
    assert!(matches!(world.get(gtid(6, 4)).await, Err(RequestError::Unavailable(_))));
    world.count();
    assert_eq!(world.get(gtid(6, 4)).await, Ok(Outcome::Aborted { reason: None, heuristics: vec![] }));
}

/// I5: the log may be an older copy, and the agent that is not heard yet the one that knows. Of its own life
/// nobody knows more than this log.
#[tokio::test]
async fn absence_is_no_answer_before_every_agent_was_heard_once_unless_it_is_of_this_life() {
    let mut world = World::new();
    world.count();
    assert!(matches!(world.get(gtid(6, 4)).await, Err(RequestError::Unavailable(_))));
    assert!(matches!(world.get(gtid(7, 900)).await, Err(RequestError::NotFound(_))));
    world.connect(World::hello()).await;
    world.disconnect().await;
    assert_eq!(world.get(gtid(6, 4)).await, Ok(Outcome::Aborted { reason: None, heuristics: vec![] }));
}

#[tokio::test]
async fn a_stale_log_says_what_it_knows_and_nothing_from_absence() {
    let mut world = World::new();
    world.count();
    world.log.durable.records.lock().unwrap().push(Record::Decided(decided_commit(6, 3)));
    let witness = Some(v1::Witness { epoch: 9, incarnation: 1, position: 1 });
    world.connect(v1::AgentHello { witness, ..World::hello() }).await;
    assert!(matches!(world.get(gtid(6, 3)).await, Ok(Outcome::Committed { .. })));
    assert!(matches!(world.get(gtid(6, 4)).await, Err(RequestError::Unavailable(_))));
}

#[tokio::test]
async fn an_unknown_epoch_is_unknown_and_a_seq_not_handed_out_is_not_found() {
    let world = World::ready().await;
    assert!(matches!(world.get(gtid(9, 1)).await, Ok(Outcome::Unknown(_))));
    assert!(matches!(world.get(gtid(7, 1)).await, Err(RequestError::NotFound(_))));
    assert!(matches!(world.get(gtid(6, 11)).await, Ok(Outcome::Unknown(_))), "beyond its lease");
    let other = "other-7-00abc7-1".parse().unwrap();
    assert!(matches!(world.get(other).await, Err(RequestError::NotFound(_))));
}

#[tokio::test]
async fn below_the_horizon_absence_is_expired() {
    let world = World::ready().await;
    *world.log.durable.horizon.lock().unwrap() = Some(gtid(6, 5));
    assert_eq!(world.get(gtid(6, 5)).await, Ok(Outcome::Expired));
    assert_eq!(world.get(gtid(6, 6)).await, Ok(Outcome::Aborted { reason: None, heuristics: vec![] }));
}

#[tokio::test]
async fn i5_a_repeated_commit_gets_the_same_outcome() {
    let mut world = World::ready().await;
    let (begun, first) = world.deciding(Wait::Decided).await;
    let joined = world.commit(&begun, Wait::Decided).await;
    world.force().await;
    assert!(matches!(first.await.unwrap(), Ok(Outcome::Committed { .. })));
    assert!(matches!(joined.await.unwrap(), Ok(Outcome::Committed { .. })));
    let again = world.commit(&begun, Wait::Decided).await;
    assert!(matches!(again.await.unwrap(), Ok(Outcome::Committed { .. })));
    assert_eq!(world.told().await, "commit@a~ commit@b~", "ordered once");
}

/// A participant may have left the configuration over a restart that the client did not notice.
#[tokio::test]
async fn i5_a_repeated_commit_gets_its_outcome_although_a_participant_has_left_the_configuration() {
    let mut world = World::ready().await;
    let (begun, _first) = world.deciding(Wait::Decided).await;
    world.force().await;
    let again = world.commit_at(&begun, ["a", "gone"], Wait::Decided).await;
    let outcome = again.await.unwrap();
    assert!(matches!(outcome, Ok(Outcome::Committed { .. })), "{outcome:?}");
    let first = world.begin().await.unwrap();
    let refused = world.commit_at(&first, ["a", "gone"], Wait::Decided).await.await.unwrap();
    assert!(matches!(&refused, Err(RequestError::Invalid(why)) if why.contains("gone")), "{refused:?}");
}
