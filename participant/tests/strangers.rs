//! Somebody else has prepared work under the name of a branch: it is never touched (I8, R12).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::{Coordinator, World};
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::gone::XidStatus;

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";

/// Work of a superuser's, under the gid of `seq`.
async fn take_the_name(world: &World, coordinator: &Coordinator, seq: u64) -> tokio_postgres::Client {
    let superuser = world.server.client(&world.database).await.unwrap();
    let gid = coordinator.gid(seq);
    let work = format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{gid}'");
    superuser.batch_execute(&work).await.unwrap();
    superuser
}

async fn gone(coordinator: &mut Coordinator, seq: u64) -> XidStatus {
    match coordinator.branch_end(seq).await {
        End::Gone(gone) => gone.status(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn under_the_name_of_a_branch_that_is_gone_it_is_not_taken_for_other_work_of_ours() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("UPDATE account SET balance = balance - 10 WHERE id = 1").await;
    let xid8 = coordinator.prepared(&branch).await;
    let gid = coordinator.gid(1);
    world.direct().await.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
    let superuser = take_the_name(&world, &coordinator, 1).await;
    coordinator.commit(1, xid8, true).await;
    assert_eq!(gone(&mut coordinator, 1).await, XidStatus::Aborted);
    assert_eq!(world.number(PREPARED).await, 1);
    superuser.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
}

/// As after a restart of the agent: nothing is known of the branch but its name.
#[tokio::test]
async fn an_order_to_roll_back_by_the_name_alone_leaves_it() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let superuser = take_the_name(&world, &coordinator, 1).await;
    coordinator.rollback(1, true, 0, 0).await;
    assert_eq!(gone(&mut coordinator, 1).await, XidStatus::NotAsked);
    assert_eq!(world.number(PREPARED).await, 1);
    superuser.batch_execute(&format!("ROLLBACK PREPARED '{}'", coordinator.gid(1))).await.unwrap();
}
