//! PREPARE that hangs, breaks or is cancelled, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::waiting::preparing;
use support::{Coordinator, World, code};
use votum_participant::database::BackendId;
use votum_participant::{AgentConfig, ParticipantConfig, databases};
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::branch_end::Kind as End;
use votum_tests::postgres::{Options, ROLE, Server};

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";

/// A table whose rows make PREPARE wait for the row of account 2.
const SLOW: &str = "CREATE TABLE slow (id int); \
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN PERFORM FROM account WHERE id = 2 FOR UPDATE; RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED \
    FOR EACH ROW EXECUTE FUNCTION wait()";

/// A branch whose PREPARE waits for a lock that the returned connection holds.
async fn stuck(world: &World, coordinator: &mut Coordinator) -> (tokio_postgres::Client, i32) {
    let direct = world.direct().await;
    direct.batch_execute(SLOW).await.unwrap();
    direct.batch_execute("BEGIN; SELECT FROM account WHERE id = 2 FOR UPDATE").await.unwrap();
    let mut branch = world.branch(coordinator, 1);
    branch.ok("INSERT INTO slow VALUES (1)").await;
    coordinator.prepare(&branch).await;
    let pid = preparing(world, "Lock").await;
    (direct, pid)
}

#[tokio::test]
async fn a_rollback_cancels_a_prepare_in_flight() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let (blocker, _) = stuck(&world, &mut coordinator).await;
    let listing = coordinator.list(false).await;
    assert_eq!(listing.busy, [coordinator.gid(1).to_string()]);
    coordinator.rollback(1, true, 0, 0).await;
    // The vote, and the end, in either order.
    let reason = coordinator.vote_no(1).await;
    assert_eq!((reason.kind(), reason.sqlstate.as_str()), (Cause::VotedNo, "57014"));
    assert!(matches!(coordinator.branch_end(1).await, End::NeverPrepared(_)));
    blocker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(world.number(PREPARED).await, 0);
}

/// It would be a PREPARE that may still run, taken for one that is over.
#[tokio::test]
async fn a_server_process_whose_start_cannot_be_read_is_not_said_to_be_gone() {
    let world = World::new().await;
    let connection = world.server.connection(&world.database, ROLE);
    let config = AgentConfig::embedded(vec![ParticipantConfig::new(support::name(), connection)]);
    let database = databases(&config, &world.seams).unwrap().pop_first().unwrap().1;
    let session = database.open_session(None).await.unwrap();
    let backend = session.backend();
    let unreadable = BackendId { started: "long ago".into(), ..backend.clone() };
    assert!(database.end_backend(&unreadable).await.is_err());
    let other = BackendId { started: "1".into(), ..backend };
    assert!(database.end_backend(&other).await.unwrap());
    assert!(!session.is_lost());
}

#[tokio::test]
async fn a_connection_that_breaks_during_prepare_is_a_no_after_which_nothing_is_left() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let (blocker, pid) = stuck(&world, &mut coordinator).await;
    let superuser = world.server.client(&world.database).await.unwrap();
    superuser.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    assert_eq!(coordinator.vote_no(1).await.kind(), Cause::BranchLost);
    blocker.batch_execute("ROLLBACK").await.unwrap();
    coordinator.rollback(1, true, 0, 0).await;
    let end = coordinator.branch_end(1).await;
    assert!(matches!(end, End::Gone(_)), "{end:?}");
    assert_eq!(world.number(PREPARED).await, 0);
}

#[tokio::test]
async fn a_prepare_whose_wait_for_a_standby_was_cancelled_is_a_no_and_is_shown_to_be_rolled_back() {
    let server = Server::start(Options::default()).await.unwrap();
    let world = World::on(Arc::new(server), |_| {}).await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("UPDATE account SET balance = 0 WHERE id = 1").await;
    world.server.require_standby(true).await.unwrap();
    coordinator.prepare(&branch).await;
    let pid = preparing(&world, "IPC").await;
    let superuser = world.server.client("postgres").await.unwrap();
    superuser.execute("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
    let reason = coordinator.vote_no(1).await;
    assert_eq!(reason.sqlstate, "01000");
    let listing = coordinator.swept(|listing| !listing.prepared.is_empty()).await;
    assert_eq!(listing.prepared[0].gid, coordinator.gid(1).to_string());
    // ROLLBACK PREPARED waits for the standby too.
    coordinator.rollback(1, true, 0, listing.prepared[0].xid).await;
    world.server.require_standby(false).await.unwrap();
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    assert_eq!(world.number(PREPARED).await, 0);
}

/// The coordinator hears that it is done, and need not ask the next agent.
#[tokio::test]
async fn an_agent_that_stops_first_carries_out_the_orders_that_came() {
    let server = Server::start(Options::default()).await.unwrap();
    let world = World::on(Arc::new(server), |_| {}).await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("UPDATE account SET balance = 0 WHERE id = 1").await;
    let xid8 = coordinator.prepared(&branch).await;
    // COMMIT PREPARED waits for it.
    world.server.require_standby(true).await.unwrap();
    coordinator.commit(1, xid8, false).await;
    assert_eq!(coordinator.list(false).await.busy, [coordinator.gid(1).to_string()]);
    let agent = world.agent.clone();
    world.seams.spawn(async move { agent.shutdown(Duration::from_secs(60)).await });
    // The answer comes after the spawned task has begun.
    coordinator.list(false).await;
    assert_eq!(code(&world.branch(&coordinator, 2).fails("SELECT 1").await).0, "VOTUM-2015");
    world.server.require_standby(false).await.unwrap();
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    while coordinator.next().await.is_some() {}
}
