//! Hellos, fences, listings and the sweep, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods)] // tokio::spawn: a test waits for what it spawned

mod support;

use std::sync::Arc;

use support::{BANK, World, code, listings};
use votum_proto::exchange::channel;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::refusal::Kind as Refused;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, Server};

const UPDATE: &str = "UPDATE account SET balance = balance - 10 WHERE id = 1";

#[tokio::test]
async fn a_hello_lists_what_is_prepared_and_open_and_returns_the_witness() {
    let world = World::new().await;
    let mut first = world.coordinator().await;
    assert_eq!(first.hello.witness, None);
    let mut prepared = world.branch(&first, 1);
    prepared.ok("UPDATE account SET balance = 0 WHERE id = 2").await;
    let xid8 = first.prepared(&prepared).await;
    let mut open = world.branch(&first, 2);
    open.ok(UPDATE).await;
    world
        .direct()
        .await
        .batch_execute(&format!(
            "BEGIN; CREATE TABLE other (); PREPARE TRANSACTION 'foreign {}'",
            world.database
        ))
        .await
        .unwrap();
    first.position = 9;
    first.list(false).await;

    let mut again = world.coordinator().await;
    assert_eq!(again.hello.instance, world.agent.instance());
    assert_eq!(again.hello.witness, Some(v1::Witness { epoch: 1, incarnation: 0xabc, position: 9 }));
    let listing = listings(&again.hello)[BANK].clone();
    assert_eq!(listing.failure, "");
    assert!(listing.system_identifier > 0 && listing.timeline == 1 && !listing.in_recovery);
    assert_eq!((listing.role.as_str(), &listing.database), ("votum", &world.database));
    let gids: Vec<_> = listing.prepared.iter().map(|row| row.gid.clone()).collect();
    assert_eq!(gids, [again.gid(1).to_string(), format!("foreign {}", world.database)]);
    assert_eq!(listing.prepared[0].xid, xid8 as u32);
    let sessions: Vec<_> = listing.sessions.iter().map(|session| session.gtid.clone()).collect();
    assert_eq!(sessions, [open.gtid.to_string()]);
    // The same life: its sessions live on.
    open.ok(UPDATE).await;
    let superuser = world.server.client(&world.database).await.unwrap();
    superuser.batch_execute(&format!("ROLLBACK PREPARED 'foreign {}'", world.database)).await.unwrap();
    again.rollback(1, true, 0, 0).await;
    again.branch_end(1).await;
}

#[tokio::test]
async fn a_newer_life_ends_the_sessions_of_the_older_one_before_its_hello_is_answered() {
    let world = World::new().await;
    let mut older = world.coordinator().await;
    let mut prepared = world.branch(&older, 1);
    prepared.ok("UPDATE account SET balance = 0 WHERE id = 2").await;
    older.prepare(&prepared).await;
    older.vote_yes(1).await;
    let mut open = world.branch(&older, 2);
    open.ok(UPDATE).await;
    let mut sleeping = world.branch(&older, 3);
    sleeping.ok("SELECT 1").await;
    let parts = world.agent.execute(sleeping.request(2, "SELECT pg_sleep(60)")).unwrap();

    let newer = world.coordinator_in(2, 5).await.unwrap();
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                AND application_name LIKE 'votum%' AND (state LIKE 'idle in%' OR query LIKE '%pg_sleep%' AND state = 'active')";
    assert_eq!(world.number(busy).await, 0);
    assert!(listings(&newer.hello)[BANK].sessions.is_empty());
    assert_eq!(listings(&newer.hello)[BANK].prepared[0].gid, older.gid(1).to_string());
    assert_eq!(code(&open.fails(UPDATE).await).0, "VOTUM-2003");
    drop(parts);
    // The older one's words have no effect any more.
    older.rollback(1, true, 0, 0).await;
    while older.next().await.is_some() {}
    let refusal = world.coordinator_in(1, 0xabc).await.err().unwrap();
    assert_eq!(refusal.kind(), Refused::OlderEpoch);
    let hello = refusal.hello.unwrap();
    assert_eq!((hello.instance, hello.witness.unwrap().epoch), (world.agent.instance(), 2));
    assert_eq!(
        world.number("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()").await,
        1
    );
    let direct = world.direct().await;
    direct.batch_execute(&format!("ROLLBACK PREPARED '{}'", older.gid(1))).await.unwrap();
}

#[tokio::test]
async fn two_incarnations_of_one_epoch_are_both_refused() {
    let world = World::new().await;
    let mut first = world.coordinator().await;
    let mut open = world.branch(&first, 1);
    open.ok(UPDATE).await;
    let refusal = world.coordinator_in(1, 0xdef).await.err().unwrap();
    assert_eq!(refusal.kind(), Refused::TwoIncarnations);
    while first.next().await.is_some() {}
    assert_eq!(world.coordinator_in(1, 0xabc).await.err().unwrap().kind(), Refused::TwoIncarnations);
    assert_eq!(code(&open.fails(UPDATE).await).0, "VOTUM-2003");
    world
        .direct()
        .await
        .batch_execute("SET lock_timeout = '20s'; UPDATE account SET balance = 7 WHERE id = 1")
        .await
        .unwrap();
    world.coordinator_in(2, 0xabc).await.unwrap();
}

#[tokio::test]
async fn coordinators_that_are_not_configured_and_words_that_are_no_hello_are_refused() {
    let world = World::with(|config| config.coordinators = vec!["known".parse().unwrap()]).await;
    assert_eq!(world.coordinator_in(1, 1).await.err().unwrap().kind(), Refused::NotAllowed);
    let (mut end, agent_end) = channel();
    end.outgoing.send(v1::CoordinatorFrame::default()).await.unwrap();
    world.agent.serve_exchange(agent_end).await;
    let frame = tokio_stream::StreamExt::next(&mut end.incoming).await.unwrap().unwrap();
    let Some(Report::Refusal(refusal)) = frame.messages[0].kind.clone() else { panic!("{frame:?}") };
    assert_eq!(refusal.kind(), Refused::Malformed);
}

#[tokio::test]
async fn two_coordinators_do_not_disturb_each_other() {
    let mut world = World::new().await;
    let mut one = world.coordinator().await;
    let mut branch = world.branch(&one, 1);
    branch.ok(UPDATE).await;
    world.id.push('x');
    let mut other = world.coordinator_in(9, 9).await.unwrap();
    assert!(listings(&other.hello)[BANK].sessions.is_empty());
    let mut second = world.branch(&other, 1);
    second.ok("UPDATE account SET balance = 1 WHERE id = 2").await;
    for (coordinator, branch) in [(&mut one, &branch), (&mut other, &second)] {
        let xid8 = coordinator.prepared(branch).await;
        coordinator.commit(1, xid8, false).await;
        assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    }
}

#[tokio::test]
async fn a_listing_with_details_shows_locks_and_who_waits() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    let xid8 = coordinator.prepared(&branch).await;
    let waiter = world.direct().await;
    let waiting =
        tokio::spawn(
            async move { waiter.batch_execute("UPDATE account SET balance = 1 WHERE id = 1").await },
        );
    let row = eventually("a waiter is listed", async || {
        let listing = coordinator.list(true).await;
        let row = listing.prepared[0].clone();
        Ok(if row.blocked_sessions == 1 { Found::Yes(row) } else { Found::NotYet(format!("{row:?}")) })
    })
    .await
    .unwrap();
    assert_eq!(row.locks, ["public.account (RowExclusiveLock)"]);
    coordinator.commit(1, xid8, false).await;
    coordinator.branch_end(1).await;
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_database_that_is_down_is_a_failed_listing_and_never_an_empty_one() {
    let server = Arc::new(Server::start(Options::default()).await.unwrap());
    let world = World::on(Arc::clone(&server), |config| config.sweep_ms = 60_000).await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    let xid8 = coordinator.prepared(&branch).await;
    let mut open = world.branch(&coordinator, 2);
    open.ok("UPDATE account SET balance = 0 WHERE id = 2").await;
    server.stop_immediate().await.unwrap();
    assert!(coordinator.session_lost(2).await.retryable);
    // Not after the sweep's own minute: at once after the connection broke.
    let failed = coordinator.swept(|listing| !listing.failure.is_empty()).await;
    assert!(failed.prepared.is_empty() && failed.system_identifier == 0);
    coordinator.commit(1, xid8, false).await;
    let second = world.coordinator().await;
    assert!(!listings(&second.hello)[BANK].failure.is_empty());
    let mut coordinator = second;
    coordinator.commit(1, xid8, true).await;
    server.restart().await.unwrap();
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    let listing = coordinator.list(false).await;
    assert!(listing.failure.is_empty() && listing.prepared.is_empty());
    assert_eq!(world.number("SELECT balance FROM account WHERE id = 1").await, 90);
}

#[tokio::test]
async fn the_sweep_shows_a_prepared_branch_again_and_again() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let gid = coordinator.gid(1).to_string();
    let direct = world.direct().await;
    direct
        .batch_execute(&format!(
            "BEGIN; UPDATE account SET balance = 0 WHERE id = 1; PREPARE TRANSACTION '{gid}'"
        ))
        .await
        .unwrap();
    for _ in 0..3 {
        let listing = coordinator.swept(|listing| !listing.prepared.is_empty()).await;
        assert_eq!(listing.prepared[0].gid, gid);
        assert!(listing.busy.is_empty());
    }
    let xid = coordinator.list(false).await.prepared[0].xid;
    coordinator.rollback(1, true, 0, xid).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
}

#[tokio::test]
async fn a_restarted_agent_knows_no_session_of_its_former_life() {
    let mut world = World::new().await;
    let coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    let former = world.agent.instance();
    world.restart_agent();
    assert_ne!(world.agent.instance(), former);
    let mut again = world.coordinator().await;
    branch.agent = world.agent.clone();
    assert_eq!(code(&branch.fails(UPDATE).await).0, "VOTUM-2005");
    // A repeated first statement opens a new session: Commit still names the former one.
    let (reply, status) = branch.send(branch.request(1, "UPDATE account SET balance = 3 WHERE id = 2")).await;
    assert!(status.is_none(), "{status:?}");
    assert_ne!(reply.started.unwrap().session, branch.session);
    again.prepare_as(&branch, branch.session, 1).await;
    again.vote_no(1).await;
}
