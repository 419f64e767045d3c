//! Branches of whole transactions that end before their work is done, or are not begun, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::time::Duration;

use support::World;
use votum_participant::postgres::marker::installation;
use votum_proto::v1;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::gone::Marker;
use votum_proto::v1::vote::Kind as Vote;
use votum_tests::postgres::ROLE;

const ADD: &str = "UPDATE account SET balance = balance + $1 WHERE id = $2";
/// Has the server wait for as long as the agent lets it.
const FOREVER: &str = "UPDATE account SET balance = balance WHERE id = 2 AND forever() > 0";

async fn superuser(world: &World) -> tokio_postgres::Client {
    world.server.client(&world.database).await.unwrap()
}

/// One session, so that it meets what it met; markers are kept.
async fn world() -> World {
    let world = World::with(|config| config.sessions = 1).await;
    let forever = "CREATE FUNCTION forever() RETURNS bigint LANGUAGE sql VOLATILE AS $$ \
         SELECT count(set_config(name, '0', true)) FROM pg_settings \
         WHERE name IN ('statement_timeout', 'transaction_timeout') $$;";
    let superuser = superuser(&world).await;
    superuser.batch_execute(&format!("{forever} {}", installation(ROLE))).await.unwrap();
    world
}

fn refusal(vote: &v1::Vote) -> &v1::AbortReason {
    match &vote.kind {
        Some(Vote::No(no)) => no.reason.as_ref().unwrap(),
        other => panic!("not no: {other:?}"),
    }
}

/// It was not run, and never will be.
fn is_settled(end: &v1::BranchEnd) -> bool {
    matches!(&end.kind, Some(End::Gone(gone)) if gone.marker() == Marker::Aborted)
}

/// I6: the server's own timeouts are for when the agent is gone, and a branch may switch them off.
#[tokio::test]
async fn a_branch_whose_time_is_over_is_ended_by_its_agent_whatever_the_server_would_do() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    let work: [(&str, &[i64]); 2] = [(FOREVER, &[]), (ADD, &[1, 1])];
    let holder = superuser(&world).await;
    // New to the session, and in one trip; then as a branch that decides.
    for seq in [1, 3] {
        holder.batch_execute("BEGIN; UPDATE account SET balance = balance WHERE id = 1").await.unwrap();
        coordinator.work_for(300, seq, &work).await;
        refusal(&coordinator.whole_vote(seq).await);
        holder.batch_execute("ROLLBACK").await.unwrap();
        let vote = coordinator.worked(seq + 1, &work).await;
        let Some(Vote::Yes(yes)) = &vote.kind else { panic!("not yes: {vote:?}") };
        coordinator.rollback(seq + 1, true, yes.xid8, 0).await;
        coordinator.branch_end(seq + 1).await;
    }
    holder.batch_execute("BEGIN; UPDATE account SET balance = balance WHERE id = 1").await.unwrap();
    coordinator.decide_for(300, 5, &work).await;
    let end = coordinator.whole_end(5).await;
    assert!(!matches!(end.kind, Some(End::Done(_))), "{end:?}");
}

/// The grace is for what is open.
#[tokio::test]
async fn a_stopping_agent_takes_no_work_and_says_so() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    let mut open = world.branch(&coordinator, 1);
    open.ok("SELECT 1").await;
    let agent = world.agent.clone();
    world.seams.spawn(async move { agent.shutdown(Duration::from_secs(60)).await });
    // The answer comes after the spawned task has begun.
    coordinator.list(false).await;
    let vote = coordinator.worked(2, &[(ADD, &[1, 1])]).await;
    assert_eq!(refusal(&vote).message, "the agent is stopping");
    assert!(is_settled(&coordinator.decided(3, &[(ADD, &[1, 1])]).await));
    assert_eq!(world.number("SELECT balance FROM account WHERE id = 1").await, 100);
}

/// I12: what an older life left was ended, and its work may be on its way still.
#[tokio::test]
async fn work_of_an_older_life_of_the_coordinator_is_not_done() {
    let world = world().await;
    let older = world.coordinator().await.life;
    let mut coordinator = world.coordinator_in(2, 5).await.unwrap();
    let present = std::mem::replace(&mut coordinator.life, older);
    coordinator.work_for(60_000, 1, &[(ADD, &[1, 2])]).await;
    assert!(is_settled(&coordinator.decided(2, &[(ADD, &[1, 2])]).await));
    coordinator.life = present;
    // The one session would have come to it later.
    let vote = coordinator.worked(1, &[(ADD, &[1, 1])]).await;
    assert!(matches!(vote.kind, Some(Vote::Yes(_))), "{vote:?}");
    let prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
    assert_eq!(world.number(prepared).await, 1);
}
