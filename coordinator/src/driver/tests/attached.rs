//! Attached branches, from Begin's reply to the orders.

use votum_proto::names::Gid;
use votum_proto::v1;

use super::world::{World, heard, name};
use crate::driver::request::{Begun, Commit, Outcome, Request, RequestError, Wait};

async fn begin(world: &World, participants: &[&str]) -> Result<Begun, RequestError> {
    world.begin_at(None, participants.iter().copied().map(name).collect()).await
}

type Answer = tokio::sync::oneshot::Receiver<Result<Outcome, RequestError>>;

async fn commit(world: &mut World, begun: &Begun) -> Answer {
    let Begun { gtid, secret, .. } = begun.clone();
    let commit = Commit { gtid, secret, branches: Vec::new(), wait: Wait::Completed };
    let (answer, answered) = tokio::sync::oneshot::channel();
    world.driver.send(Request::Commit(commit, answer)).await;
    world.settle().await;
    answered
}

#[tokio::test]
async fn a_begin_names_the_branches_that_the_application_prepares_and_a_commit_takes_them() {
    let mut world = World::ready().await;
    let begun = begin(&world, &["b", "a"]).await.unwrap();
    let gid = |branch| Gid { gtid: begun.gtid.clone(), branch, branches: 0 };
    assert_eq!(begun.attached, [(name("b"), gid(0)), (name("a"), gid(1))]);
    let answered = commit(&mut world, &begun).await;
    assert_eq!(world.told().await, "attached@b attached@a");
    world.agent_votes_yes(&gid(0), "b", 700).await;
    world.agent_votes_yes(&gid(1), "a", 800).await;
    world.force().await;
    assert_eq!(world.told().await, "commit@b commit@a");
    world.agent_has(&gid(0), "b", true).await;
    world.agent_has(&gid(1), "a", true).await;
    let outcome = heard(answered).await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::Committed { pending: Vec::new(), heuristics: Vec::new() });
}

#[tokio::test]
async fn a_rollback_before_commit_orders_what_may_be_prepared_to_be_rolled_back() {
    let mut world = World::ready().await;
    let begun = begin(&world, &["a"]).await.unwrap();
    world.roll_back(&begun).await;
    assert_eq!(world.told().await, "rollback@a");
}

#[tokio::test]
async fn where_the_agent_cannot_verify_attached_branches_none_is_begun() {
    let mut world = World::ready().await;
    world.disconnect().await;
    world.connect(v1::AgentHello { can_verify_attached: false, ..World::hello() }).await;
    let refused = begin(&world, &["a"]).await;
    assert!(
        matches!(&refused, Err(RequestError::Invalid(why)) if why.contains("older version")),
        "{refused:?}"
    );
    assert!(begin(&world, &[]).await.is_ok());
}

#[tokio::test]
async fn where_the_agent_was_replaced_by_one_that_cannot_a_commit_is_a_no_at_once() {
    let mut world = World::ready().await;
    let begun = begin(&world, &["a"]).await.unwrap();
    world.disconnect().await;
    world.connect(v1::AgentHello { can_verify_attached: false, ..World::hello() }).await;
    world.told().await;
    let outcome = heard(commit(&mut world, &begun).await).await.unwrap();
    assert!(matches!(outcome, Ok(Outcome::Aborted { .. })), "{outcome:?}");
    assert_eq!(world.told().await, "rollback@a");
}

#[tokio::test]
async fn a_begin_names_each_configured_participant_once() {
    let world = World::ready().await;
    for (participants, why) in [(["a", "a"], "twice"), (["a", "zoo"], "not configured")] {
        let refused = begin(&world, &participants).await;
        assert!(matches!(&refused, Err(RequestError::Invalid(said)) if said.contains(why)), "{refused:?}");
    }
}
