//! Statements of hosted branches, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods)] // tokio::spawn: a test waits for what it spawned

mod support;

use support::{BANK, World, code};
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_tests::eventually::{Found, eventually};

const UPDATE: &str = "UPDATE account SET balance = balance - 10 WHERE id = 1";

#[tokio::test]
async fn a_repeated_ordinal_gets_the_stored_reply_and_runs_nothing() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    let statement = "UPDATE account SET balance = balance - 10 RETURNING id, balance";
    let first = branch.ok(statement).await;
    let (again, status) = branch.send(branch.request(1, statement)).await;
    assert!(status.is_none());
    assert_eq!(again, first);
    let failure = branch.fails("SELECT 1/0").await;
    let (_, repeated) = branch.send(branch.request(2, "SELECT 1/0")).await;
    assert_eq!(code(&repeated.unwrap()), code(&failure));
    // Anything else ends the branch: a gap, an older one, another statement under the same number.
    for (seq, ordinal, statement) in [(2, 3, UPDATE), (3, 2, "SELECT 2"), (4, 1, "SELECT 1")] {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok("SELECT 1").await;
        if seq != 2 {
            branch.ok("SELECT 1").await;
        }
        let (reply, status) = branch.send(branch.request(ordinal, statement)).await;
        assert_eq!(code(&status.unwrap()).0, "VOTUM-2006");
        assert!(reply.started.is_none());
        assert_eq!(coordinator.session_lost(seq).await.kind(), Cause::BranchLost);
        let (_, status) = branch.send(branch.request(2, "SELECT 1")).await;
        assert_eq!(code(&status.unwrap()).0, "VOTUM-2005");
    }
}

#[tokio::test]
async fn a_reply_too_large_to_keep_ends_the_branch_when_it_is_asked_for_again() {
    let world = World::with(|config| config.stored_reply_bytes = 1000).await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    let statement = "SELECT repeat('x', 100) FROM generate_series(1, 20)";
    branch.ok(statement).await;
    branch.ok("SELECT 1").await;
    branch.ok(statement).await;
    let (_, status) = branch.send(branch.request(3, statement)).await;
    assert_eq!(code(&status.unwrap()).0, "VOTUM-2008");
    coordinator.session_lost(1).await;
}

#[tokio::test]
async fn transaction_control_is_refused_and_uses_its_ordinal_up() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    for statement in
        ["COMMIT", ";;/* a /* b */ */ commit and chain", "\x0cROLLBACK", "PREPARE TRANSACTION 'x'"]
    {
        assert_eq!(code(&branch.fails(statement).await).0, "VOTUM-2014", "{statement:?}");
    }
    assert_eq!(branch.ordinal, 5);
    assert_eq!(world.number("SELECT balance FROM account WHERE id = 1").await, 100);
    let xid8 = coordinator.prepared(&branch).await;
    coordinator.commit(1, xid8, false).await;
    coordinator.branch_end(1).await;
}

#[tokio::test]
async fn a_lost_connection_ends_the_branch_which_is_never_reopened() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let superuser = world.server.client(&world.database).await.unwrap();
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    let pid = world
        .number("SELECT pid::bigint FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")
        .await;
    superuser.execute("SELECT pg_terminate_backend($1)", &[&i32::try_from(pid).unwrap()]).await.unwrap();
    let reason = coordinator.session_lost(1).await;
    assert_eq!((reason.kind(), reason.retryable), (Cause::BranchLost, true));
    let (_, status) = branch.run(UPDATE).await;
    assert_eq!(code(&status.unwrap()).0, "VOTUM-2005");
    coordinator.prepare(&branch).await;
    assert_eq!(coordinator.vote_no(1).await.kind(), Cause::BranchLost);
}

#[tokio::test]
async fn an_sql_error_is_told_with_all_that_the_database_said() {
    let world = World::new().await;
    let coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    let status = branch.fails("INSERT INTO account VALUES (1, 0)").await;
    assert_eq!(status.code(), tonic::Code::AlreadyExists);
    let detail = votum_proto::error::detail(&status).unwrap();
    let sql = detail.sql.unwrap();
    assert_eq!(
        (sql.sqlstate.as_str(), sql.constraint.as_str(), sql.table.as_str()),
        ("23505", "account_pkey", "account")
    );
    assert_eq!((detail.participant.as_str(), detail.gtid), (BANK, branch.gtid.to_string()));
    let mut branch = world.branch(&coordinator, 2);
    let status = branch.fails("SELECT nothing FROM account").await;
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(votum_proto::error::detail(&status).unwrap().sql.unwrap().position, 8);
    assert_eq!(branch.ordinal, 1, "the error told the session's name");
    assert_eq!(code(&branch.fails("SELECT 1").await).1, "25P02");
}

#[tokio::test]
async fn only_who_shows_the_secret_of_a_transaction_of_the_speaking_life_takes_part() {
    let world = World::new().await;
    let coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.secret = world.branch(&coordinator, 2).secret;
    assert_eq!(code(&branch.fails(UPDATE).await).0, "VOTUM-2004");
    let mut branch = world.branch(&coordinator, 1);
    branch.gtid.life.epoch.0 += 1;
    branch.secret = coordinator.key.secret(&branch.gtid);
    assert_eq!(code(&branch.fails(UPDATE).await).0, "VOTUM-2003");
    let mut request = world.branch(&coordinator, 1).request(1, UPDATE);
    request.participant = "nobody".into();
    let (_, status) = branch.send(request).await;
    assert_eq!(code(&status.unwrap()).0, "VOTUM-2002");
}

#[tokio::test]
async fn a_new_session_is_reported_soon_and_ended_when_the_coordinator_says_so() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    let enlisted = coordinator
        .expect("enlistment", |report| match report {
            Report::Enlisted(enlisted) => Some(enlisted.clone()),
            _ => None,
        })
        .await;
    assert_eq!((enlisted.gtid, enlisted.session), (branch.gtid.to_string(), branch.session));
    assert_eq!(branch.session.unwrap().agent_instance, world.agent.instance());
    let order = v1::EndSession { gtid: branch.gtid.to_string(), participant: BANK.into() };
    coordinator.send(Order::EndSession(order)).await;
    world
        .direct()
        .await
        .batch_execute("SET lock_timeout = '20s'; UPDATE account SET balance = 7 WHERE id = 1")
        .await
        .unwrap();
    assert_eq!(code(&branch.fails(UPDATE).await).0, "VOTUM-2005");
}

#[tokio::test]
async fn an_unprepared_branch_ends_at_its_timeout_and_a_prepared_one_does_not() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut prepared = world.branch(&coordinator, 1);
    prepared.options.timeout_ms = 1500;
    prepared.ok("UPDATE account SET balance = 1 WHERE id = 2").await;
    let xid8 = coordinator.prepared(&prepared).await;
    let mut idle = world.branch(&coordinator, 2);
    idle.options.timeout_ms = 1500;
    idle.ok(UPDATE).await;
    let reason = coordinator.session_lost(2).await;
    assert!(matches!(reason.kind(), Cause::Timeout | Cause::BranchLost), "{reason:?}");
    let mut running = world.branch(&coordinator, 3);
    running.options.timeout_ms = 300;
    let status = running.fails("SELECT pg_sleep(60)").await;
    assert!(matches!(code(&status).0.as_str(), "VOTUM-2005" | "VOTUM-2013"), "{status:?}");
    coordinator.session_lost(3).await;
    assert_eq!(
        world.number("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()").await,
        1
    );
    coordinator.rollback(1, true, xid8, 0).await;
    coordinator.branch_end(1).await;
}

/// What it did cannot be told from another transaction's work any more (I15).
#[tokio::test]
async fn a_branch_that_deallocates_every_statement_of_its_session_ends() {
    let world = World::with(|config| config.sessions = 1).await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    assert_eq!(code(&branch.fails("DEALLOCATE ALL").await).0, "VOTUM-2005");
    let lost = coordinator.session_lost(1).await;
    assert!(lost.message.contains("deallocated all prepared statements"), "{lost:?}");
    world.branch(&coordinator, 2).ok(UPDATE).await;
}

#[tokio::test]
async fn when_all_sessions_are_in_use_a_branch_waits_and_is_then_turned_away() {
    let world = World::with(|config| {
        config.sessions = 1;
        config.session_queue_ms = 200;
    })
    .await;
    let mut coordinator = world.coordinator().await;
    let mut first = world.branch(&coordinator, 1);
    first.ok(UPDATE).await;
    let mut second = world.branch(&coordinator, 2);
    let (reply, status) = second.run("SELECT 1").await;
    let status = status.unwrap();
    assert_eq!((status.code(), code(&status).0.as_str()), (tonic::Code::ResourceExhausted, "VOTUM-2010"));
    assert!(reply.started.is_none());
    // Nothing has happened: the same request may be sent again.
    coordinator.rollback(1, false, 0, 0).await;
    coordinator.branch_end(1).await;
    eventually("the second branch opens", async || {
        Ok(match second.run("SELECT 1").await.1 {
            None => Found::Yes(()),
            Some(status) => Found::NotYet(status.message().to_owned()),
        })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_its_statement_to_run_once() {
    let world = World::new().await;
    let coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("SELECT 1").await;
    let statement = "SELECT pg_sleep(0.3) FROM (SELECT) AS one WHERE EXISTS (SELECT FROM account)";
    drop(world.agent.execute(branch.request(2, statement)).unwrap());
    let (reply, status) = branch.send(branch.request(2, statement)).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(reply.count, 1);
}

#[tokio::test]
async fn a_stopping_agent_opens_no_branch_and_rolls_back_what_is_open() {
    let world = World::new().await;
    let coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    world.agent.shutdown(std::time::Duration::from_millis(50)).await;
    assert_eq!(code(&world.branch(&coordinator, 2).fails(UPDATE).await).0, "VOTUM-2015");
    world
        .direct()
        .await
        .batch_execute("SET lock_timeout = '20s'; UPDATE account SET balance = 7 WHERE id = 1")
        .await
        .unwrap();
}

/// It would ride with what comes next, and nothing comes any more.
#[tokio::test]
async fn a_stopping_agent_still_acknowledges_a_commit_that_nobody_waits_for() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(UPDATE).await;
    let xid8 = coordinator.prepared(&branch).await;
    coordinator.commit_unhurried(1, xid8).await;
    // Orders are taken in one after another: the answer to a later one shows that this one was.
    coordinator.prepare(&world.branch(&coordinator, 2)).await;
    coordinator.vote_no(2).await;
    world.agent.shutdown(std::time::Duration::from_secs(10)).await;
    let end = coordinator.branch_end(1).await;
    assert!(matches!(end, v1::branch_end::Kind::Done(_)), "{end:?}");
}

#[tokio::test]
async fn i6_a_client_that_stops_reading_keeps_no_session_beyond_its_branchs_time() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    // Around the depth of a reply's queue: some wait with a row, some with the last word.
    for rows in 28..=34 {
        let mut branch = world.branch(&coordinator, rows);
        branch.options.timeout_ms = 200;
        let statement = format!("SELECT * FROM generate_series(1, {rows})");
        let unread = world.agent.execute(branch.request(1, &statement)).unwrap();
        assert_eq!(coordinator.session_lost(rows).await.kind(), Cause::Timeout);
        drop(unread);
    }
}
