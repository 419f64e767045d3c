//! Prepare, vote and phase 2 over an exchange, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods)] // tokio::spawn: a test waits for what it spawned

mod support;

use std::sync::Arc;

use support::{BANK, World};
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::gone::XidStatus;
use votum_proto::v1::vote::Kind as Vote;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, ROLE, Server};

const UPDATE: &str = "UPDATE account SET balance = balance - 10 WHERE id = 1";
const BALANCE: &str = "SELECT balance FROM account WHERE id = 1";
const PREPARED: &str = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";

/// A branch that has voted yes: its transaction id.
async fn prepared(world: &World, coordinator: &mut support::Coordinator, seq: u64) -> u64 {
    let mut branch = world.branch(coordinator, seq);
    branch.ok(UPDATE).await;
    coordinator.prepared(&branch).await
}

#[tokio::test]
async fn a_branch_is_executed_prepared_and_committed() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    assert_eq!(branch.ok(UPDATE).await.count, 1);
    assert_eq!(world.number(BALANCE).await, 100);
    coordinator.prepare(&branch).await;
    let yes = coordinator.vote_yes(1).await;
    assert_eq!(world.number(PREPARED).await, 1);
    assert!(yes.xid8 > 0 && yes.timeline == 1 && yes.system_identifier > 0 && !yes.marker);
    coordinator.commit(1, yes.xid8, false).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    assert_eq!(world.number(BALANCE).await, 90);
    assert_eq!(world.number(PREPARED).await, 0);
}

#[tokio::test]
async fn a_prepared_branch_is_rolled_back() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let xid8 = prepared(&world, &mut coordinator, 1).await;
    coordinator.rollback(1, true, xid8, 0).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    assert_eq!(world.number(PREPARED).await, 0);
    assert_eq!(world.number(BALANCE).await, 100);
}

#[tokio::test]
async fn a_branch_that_wrote_nothing_votes_read_only_and_holds_nothing() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(BALANCE).await;
    branch.ok("LOCK TABLE account IN SHARE MODE").await;
    coordinator.prepare(&branch).await;
    assert!(matches!(coordinator.vote(1).await, Vote::ReadOnly(_)));
    assert_eq!(world.number(PREPARED).await, 0);
    world.direct().await.batch_execute("LOCK TABLE account IN EXCLUSIVE MODE NOWAIT").await.unwrap_err();
    let direct = world.direct().await;
    direct.batch_execute("BEGIN; LOCK TABLE account IN EXCLUSIVE MODE NOWAIT; COMMIT").await.unwrap();
}

#[tokio::test]
async fn where_there_are_foreign_servers_a_null_xid_is_no_proof_of_having_written_nothing() {
    let world = World::new().await;
    let superuser = world.server.client(&world.database).await.unwrap();
    superuser
        .batch_execute(
            "CREATE FOREIGN DATA WRAPPER elsewhere; CREATE SERVER other FOREIGN DATA WRAPPER elsewhere",
        )
        .await
        .unwrap();
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(BALANCE).await;
    coordinator.prepare(&branch).await;
    coordinator.vote_yes(1).await;
    let mut read_only = world.branch(&coordinator, 2);
    read_only.options.read_only = true;
    read_only.ok(BALANCE).await;
    let refused = read_only.fails("SET TRANSACTION READ WRITE").await;
    assert_eq!(support::code(&refused).1, "25001");
    coordinator.rollback(1, true, 0, 0).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
}

#[tokio::test]
async fn an_agent_whose_session_did_not_run_what_the_client_saw_votes_no() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    for (seq, wrong) in [(1, "ordinal"), (2, "session"), (3, "no session")] {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok("UPDATE account SET balance = 0 WHERE id = 1").await;
        match wrong {
            "ordinal" => coordinator.prepare_as(&branch, branch.session, 2).await,
            "session" => {
                let other = v1::SessionName { agent_instance: 7, counter: 1 };
                coordinator.prepare_as(&branch, Some(other), 1).await;
            }
            _ => coordinator.prepare_as(&branch, None, 1).await,
        }
        let no = coordinator.vote_no(seq).await;
        assert_eq!(no.kind(), Cause::BranchLost, "{wrong}");
        assert_eq!(world.number(PREPARED).await, 0, "{wrong}");
    }
    // Their locks are free.
    world
        .direct()
        .await
        .batch_execute("SET lock_timeout = '20s'; UPDATE account SET balance = 5 WHERE id = 1")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_failed_transaction_votes_no_unless_it_went_back_to_a_savepoint() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    branch.fails("SELECT 1/0").await;
    coordinator.prepare(&branch).await;
    let no = coordinator.vote_no(1).await;
    assert_eq!((no.kind(), no.sqlstate.as_str()), (Cause::VotedNo, "25P02"));

    let mut branch = world.branch(&coordinator, 2);
    branch.ok(UPDATE).await;
    branch.ok("SAVEPOINT s").await;
    branch.fails("SELECT 1/0").await;
    branch.ok("ROLLBACK TO s").await;
    let xid8 = coordinator.prepared(&branch).await;
    coordinator.commit(2, xid8, false).await;
    assert!(matches!(coordinator.branch_end(2).await, End::Done(_)));
    assert_eq!(world.number(BALANCE).await, 90);
}

#[tokio::test]
async fn what_the_database_refuses_to_prepare_is_a_no_with_its_sqlstate() {
    let world = World::new().await;
    let direct = world.direct().await;
    direct
        .batch_execute("CREATE TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO deferred VALUES (1)")
        .await
        .unwrap();
    let mut coordinator = world.coordinator().await;
    for (seq, statement, sqlstate) in [
        (1, "INSERT INTO deferred VALUES (1)", "23505"),
        (2, "CREATE TEMP TABLE t AS SELECT 1 AS a", "0A000"),
        (
            3,
            "WITH u AS (UPDATE account SET balance = 1 RETURNING 1) SELECT pg_notify('a', '') FROM u",
            "0A000",
        ),
    ] {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok(statement).await;
        coordinator.prepare(&branch).await;
        let no = coordinator.vote_no(seq).await;
        assert_eq!((no.kind(), no.sqlstate.as_str()), (Cause::VotedNo, sqlstate), "{statement}");
        assert!(!no.retryable);
    }
    assert_eq!(world.number(PREPARED).await, 0);
}

#[tokio::test]
async fn a_serialization_failure_at_prepare_may_be_run_again() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branches = Vec::new();
    for (seq, read, write) in [(1, 1, 2), (2, 2, 1)] {
        let mut branch = world.branch(&coordinator, seq);
        branch.options.isolation = v1::Isolation::Serializable.into();
        branch.ok(&format!("SELECT balance FROM account WHERE id = {read}")).await;
        branches.push((branch, write));
    }
    for (branch, write) in &mut branches {
        branch.ok(&format!("UPDATE account SET balance = 0 WHERE id = {write}")).await;
    }
    let xid8 = coordinator.prepared(&branches[0].0).await;
    coordinator.prepare(&branches[1].0).await;
    let no = coordinator.vote_no(2).await;
    assert_eq!((no.sqlstate.as_str(), no.retryable), ("40001", true));
    coordinator.commit(1, xid8, false).await;
    coordinator.branch_end(1).await;
}

#[tokio::test]
async fn without_slots_the_vote_is_no_and_names_the_remedy() {
    let options = Options { max_prepared_transactions: 0, ..Options::default() };
    let server = Arc::new(Server::start(options).await.unwrap());
    let world = World::on(server, |_| {}).await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    coordinator.prepare(&branch).await;
    let no = coordinator.vote_no(1).await;
    assert_eq!(no.sqlstate, "55000");
    assert!(no.message.contains("set max_prepared_transactions"), "{}", no.message);
}

#[tokio::test]
async fn a_vote_is_the_same_on_every_stream_and_its_order_is_carried_out_once() {
    let world = World::new().await;
    let mut first = world.coordinator().await;
    let mut branch = world.branch(&first, 1);
    branch.ok(UPDATE).await;
    first.prepare(&branch).await;
    let yes = first.vote_yes(1).await;
    first.prepare(&branch).await;
    assert_eq!(first.vote_yes(1).await, yes);
    let mut second = world.coordinator().await;
    second.prepare(&branch).await;
    assert_eq!(second.vote_yes(1).await, yes);
    assert!(first.next().await.is_none(), "the older stream still stands");
    second.commit(1, yes.xid8, true).await;
    second.commit(1, yes.xid8, true).await;
    let ends = [second.branch_end(1).await, {
        second.commit(1, yes.xid8, true).await;
        second.branch_end(1).await
    }];
    assert!(matches!(ends[0], End::Done(_)), "{ends:?}");
    let End::Gone(gone) = &ends[1] else { panic!("{ends:?}") };
    assert_eq!(gone.status(), XidStatus::Committed);
    assert_eq!(world.number(BALANCE).await, 90);
}

#[tokio::test]
async fn an_unknown_branch_votes_no_and_is_never_opened_after_that() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    let named = Some(v1::SessionName { agent_instance: world.agent.instance(), counter: 1 });
    coordinator.prepare_as(&branch, named, 1).await;
    assert_eq!(coordinator.vote_no(1).await.kind(), Cause::BranchLost);
    let status = branch.fails(UPDATE).await;
    assert_eq!(support::code(&status).0, "VOTUM-2005");
}

#[tokio::test]
async fn no_statement_runs_after_prepare() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    coordinator.prepare(&branch).await;
    coordinator.vote_yes(1).await;
    assert_eq!(support::code(&branch.fails(UPDATE).await).0, "VOTUM-2009");
    coordinator.rollback(1, true, 0, 0).await;
    coordinator.branch_end(1).await;
}

#[tokio::test]
async fn a_gid_that_was_prepared_again_with_other_work_is_left_alone() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let xid8 = prepared(&world, &mut coordinator, 1).await;
    let gid = coordinator.gid(1);
    let direct = world.direct().await;
    direct.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
    direct
        .batch_execute(&format!(
            "BEGIN; UPDATE account SET balance = 1 WHERE id = 2; PREPARE TRANSACTION '{gid}'"
        ))
        .await
        .unwrap();
    coordinator.commit(1, xid8, true).await;
    let End::OtherXid(other) = coordinator.branch_end(1).await else { panic!("not noticed") };
    coordinator.rollback(1, true, xid8, 0).await;
    assert!(matches!(coordinator.branch_end(1).await, End::OtherXid(_)));
    coordinator.rollback(1, true, 0, other.xid + 1).await;
    assert!(matches!(coordinator.branch_end(1).await, End::OtherXid(_)));
    assert_eq!(world.number(PREPARED).await, 1);
    coordinator.rollback(1, true, 0, other.xid).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    assert_eq!(world.number(PREPARED).await, 0);
}

#[tokio::test]
async fn a_branch_that_is_gone_is_reported_as_its_transaction_id_ended() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let direct = world.direct().await;
    for (seq, verb, expected) in [(1, "COMMIT", XidStatus::Committed), (2, "ROLLBACK", XidStatus::Aborted)] {
        let xid8 = prepared(&world, &mut coordinator, seq).await;
        direct.batch_execute(&format!("{verb} PREPARED '{}'", coordinator.gid(seq))).await.unwrap();
        coordinator.commit(seq, xid8, false).await;
        let End::Gone(gone) = coordinator.branch_end(seq).await else { panic!("not gone") };
        assert_eq!(gone.status(), expected);
        assert!(!gone.in_recovery && gone.timeline == 1 && gone.system_identifier > 0);
    }
    let later = (1 << 40) + 5;
    for (xid8, expected) in [(later, XidStatus::NotReached), (0, XidStatus::NotAsked)] {
        coordinator.commit(3, xid8, true).await;
        let End::Gone(gone) = coordinator.branch_end(3).await else { panic!("not gone") };
        assert_eq!(gone.status(), expected);
    }
}

#[tokio::test]
async fn an_unprepared_branch_that_is_rolled_back_was_never_prepared() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    for gid in [false, true] {
        coordinator.rollback(1, gid, 0, 0).await;
        assert!(matches!(coordinator.branch_end(1).await, End::NeverPrepared(_)));
    }
    coordinator.rollback(2, false, 0, 0).await;
    assert!(matches!(coordinator.branch_end(2).await, End::NeverPrepared(_)));
    world
        .direct()
        .await
        .batch_execute("SET lock_timeout = '20s'; UPDATE account SET balance = 7 WHERE id = 1")
        .await
        .unwrap();
    let status = branch.fails(UPDATE).await;
    assert_eq!(support::code(&status).0, "VOTUM-2005");
}

#[tokio::test]
async fn a_rollback_cancels_the_statement_that_runs() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let blocker = world.direct().await;
    blocker.batch_execute("BEGIN; UPDATE account SET balance = 0 WHERE id = 1").await.unwrap();
    let branch = world.branch(&coordinator, 1);
    let mut waiting = branch.clone();
    let running = tokio::spawn(async move { waiting.run(UPDATE).await });
    let direct = world.direct().await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the statement waits", async || {
        let count: i64 = direct.query_one(waits, &[]).await?.get(0);
        Ok(if count == 1 { Found::Yes(()) } else { Found::NotYet(format!("{count} wait")) })
    })
    .await
    .unwrap();
    coordinator.rollback(1, false, 0, 0).await;
    assert!(matches!(coordinator.branch_end(1).await, End::NeverPrepared(_)));
    let (_, status) = running.await.unwrap();
    assert_eq!(support::code(&status.unwrap()).0, "VOTUM-2005");
    let count: i64 = direct.query_one(waits, &[]).await.unwrap().get(0);
    assert_eq!(count, 0, "the statement still waits for its lock");
}

#[tokio::test]
async fn phase_2_goes_on_until_the_database_lets_it_and_says_so() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let superuser = world.server.client(&world.database).await.unwrap();
    let gid = coordinator.gid(1);
    superuser
        .batch_execute(&format!(
            "BEGIN; UPDATE account SET balance = 1 WHERE id = 2; PREPARE TRANSACTION '{gid}'"
        ))
        .await
        .unwrap();
    let listed = coordinator.list(false).await.prepared;
    assert_eq!((listed.len(), listed[0].owner.as_str()), (1, "postgres"));
    coordinator.rollback(1, true, 0, listed[0].xid).await;
    let trouble = coordinator
        .expect("trouble", |report| match report {
            Report::Trouble(trouble) => Some(trouble.clone()),
            _ => None,
        })
        .await;
    assert_eq!((trouble.sqlstate.as_str(), trouble.alarm, trouble.gid), ("42501", true, gid.to_string()));
    superuser.batch_execute(&format!("ALTER ROLE {ROLE} SUPERUSER")).await.unwrap();
    let end = coordinator.branch_end(1).await;
    superuser.batch_execute(&format!("ALTER ROLE {ROLE} NOSUPERUSER")).await.unwrap();
    assert!(matches!(end, End::Done(_)), "{end:?}");
}

#[tokio::test]
async fn a_commit_is_delivered_while_every_session_waits_for_a_lock() {
    let world = World::with(|config| config.sessions = 2).await;
    let mut coordinator = world.coordinator().await;
    let xid8 = prepared(&world, &mut coordinator, 1).await;
    let waiting: Vec<_> = [2, 3]
        .map(|seq| {
            let mut branch = world.branch(&coordinator, seq);
            tokio::spawn(async move { branch.ok(UPDATE).await })
        })
        .into();
    let direct = world.direct().await;
    eventually("both wait", async || {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let count: i64 = direct.query_one(query, &[]).await?.get(0);
        Ok(if count == 2 { Found::Yes(()) } else { Found::NotYet(format!("{count} wait")) })
    })
    .await
    .unwrap();
    coordinator.commit(1, xid8, false).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    for seq in [2, 3] {
        coordinator
            .send(Order::EndSession(v1::EndSession {
                gtid: coordinator.gtid(seq).to_string(),
                participant: BANK.into(),
            }))
            .await;
    }
    drop(waiting);
}
