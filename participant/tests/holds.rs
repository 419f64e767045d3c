//! An agent lets go of a branch, against a real PostgreSQL: nothing that was ordered before is carried out any
//! more, and what is at the database is never said to be let go of.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::sync::Arc;

use support::{BANK, Coordinator, World};
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::branch_held::Kind as Held;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::gone::XidStatus;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, ROLE, Server};

const UPDATE: &str = "UPDATE account SET balance = balance - 10 WHERE id = 1";
const BALANCE: &str = "SELECT balance FROM account WHERE id = 1";

async fn on_its_own_server() -> World {
    let server = Arc::new(Server::start(Options::default()).await.unwrap());
    World::on(server, |_| {}).await
}

/// What the agent says when it is asked to let go of branch 1; it waits for `patience_ms`.
async fn held(coordinator: &mut Coordinator, patience_ms: u64) -> Held {
    let hold = v1::HoldBranch {
        gtid: coordinator.gtid(1).to_string(),
        participant: BANK.into(),
        gid: coordinator.gid(1).to_string(),
        request: 5,
        patience_ms,
    };
    coordinator.send(Order::Hold(hold)).await;
    coordinator
        .expect("answer to the hold", |report| match report {
            Report::Held(held) if held.request == 5 => held.kind.clone(),
            _ => None,
        })
        .await
}

/// A branch that has voted yes, whose COMMIT PREPARED waits for a standby: its transaction id, and the server
/// process.
async fn waits_for_a_standby(world: &World, coordinator: &mut Coordinator) -> (u64, i32) {
    let mut branch = world.branch(coordinator, 1);
    branch.ok(UPDATE).await;
    let xid8 = coordinator.prepared(&branch).await;
    world.server.require_standby(true).await.unwrap();
    coordinator.commit(1, xid8, false).await;
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'COMMIT P%'";
    let pid = eventually("COMMIT PREPARED waits for a standby", async || {
        let row = world.direct().await.query_opt(waiting, &[]).await?;
        Ok(row.map_or_else(|| Found::NotYet("nobody does".into()), |row| Found::Yes(row.get(0))))
    });
    (xid8, pid.await.unwrap())
}

#[tokio::test]
async fn an_order_that_is_let_go_of_is_not_tried_again_and_one_that_comes_after_it_is_carried_out() {
    let world = on_its_own_server().await;
    let superuser = world.server.client(&world.database).await.unwrap();
    let mut coordinator = world.coordinator().await;
    assert!(coordinator.hello.can_hold);
    let gid = coordinator.gid(1);
    superuser.batch_execute(&format!("BEGIN; {UPDATE}")).await.unwrap();
    let xid8: String = superuser.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    let xid8: u64 = xid8.parse().unwrap();
    superuser.batch_execute(&format!("PREPARE TRANSACTION '{gid}'")).await.unwrap();
    // Somebody else prepared it: the agent may not commit it, and tries again and again.
    coordinator.commit(1, xid8, true).await;
    let refused =
        |report: &Report| matches!(report, Report::Trouble(it) if it.sqlstate == "42501").then_some(());
    coordinator.expect("trouble", refused).await;
    let held = held(&mut coordinator, 10_000).await;
    let Held::Prepared(prepared) = held else { panic!("{held:?}") };
    assert_eq!(u64::from(prepared.xid), xid8);
    assert!(prepared.system_identifier > 0);
    // Now a commit that is tried again would succeed.
    superuser.batch_execute(&format!("ALTER ROLE {ROLE} SUPERUSER")).await.unwrap();
    coordinator.rollback(1, true, xid8, prepared.xid).await;
    let ended = coordinator
        .expect("branch end", |report| match report {
            Report::BranchEnd(end) => Some(end.clone()),
            _ => None,
        })
        .await;
    assert!(!ended.was_commit && matches!(ended.kind, Some(End::Done(_))), "{ended:?}");
    assert_eq!(world.number(BALANCE).await, 100);
}

#[tokio::test]
async fn what_is_not_prepared_is_said_to_be_so() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    assert!(matches!(held(&mut coordinator, 10_000).await, Held::NotPrepared(_)));
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    coordinator.committed(&branch).await;
    assert!(matches!(held(&mut coordinator, 10_000).await, Held::NotPrepared(_)));
}

#[tokio::test]
async fn a_commit_at_the_database_is_not_let_go_of_and_what_is_ordered_after_that_is_not_lost() {
    let world = on_its_own_server().await;
    let mut coordinator = world.coordinator().await;
    let (xid8, pid) = waits_for_a_standby(&world, &mut coordinator).await;
    let held = held(&mut coordinator, 200).await;
    assert!(matches!(&held, Held::NotHeld(it) if it.reason.contains("synchronous standby")), "{held:?}");
    // The same order again is not taken for the one that was withdrawn, and whose answer is now lost.
    coordinator.commit(1, xid8, true).await;
    let superuser = world.server.client("postgres").await.unwrap();
    superuser.execute("SELECT pg_terminate_backend($1, 30000)", &[&pid]).await.unwrap();
    world.server.require_standby(false).await.unwrap();
    let end = coordinator.branch_end(1).await;
    assert!(matches!(&end, End::Gone(gone) if gone.status() == XidStatus::Committed), "{end:?}");
    assert_eq!(world.number(BALANCE).await, 90);
}

#[tokio::test]
async fn a_commit_that_another_life_of_the_agent_left_at_the_database_is_not_let_go_of() {
    let mut world = on_its_own_server().await;
    let mut coordinator = world.coordinator().await;
    let (_, pid) = waits_for_a_standby(&world, &mut coordinator).await;
    drop(coordinator);
    // Nothing of the first one's memory; its connection is as if it had broken.
    world.restart_agent();
    let mut coordinator = world.coordinator().await;
    let held = held(&mut coordinator, 10_000).await;
    assert!(matches!(&held, Held::NotHeld(it) if it.reason.contains("server process")), "{held:?}");
    let there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    assert_eq!(world.number(&there).await, 1);
    world.server.require_standby(false).await.unwrap();
}
