//! The last branch of a transaction, whose commit decides, against a real PostgreSQL: step by step while its statements
//! are new to the session, and in one trip after that.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::{Coordinator, World};
use votum_participant::postgres::marker::installation;
use votum_proto::v1;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::gone::Marker;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::ROLE;

const ADD: &str = "UPDATE account SET balance = balance + $1 WHERE id = $2";
const READ: &str = "SELECT balance FROM account WHERE id = $1";
/// How often the session has committed a branch in one trip: its statements for that are parsed then.
const IN_ONE_TRIP: &str = "SELECT count(*) FROM pg_prepared_statements WHERE name = 'votum_mark_or_refuse'";

async fn superuser(world: &World) -> tokio_postgres::Client {
    world.server.client(&world.database).await.unwrap()
}

async fn by_superuser(world: &World, statements: &str) {
    superuser(world).await.batch_execute(statements).await.unwrap();
}

/// One session, so that it meets what it met; markers are kept.
async fn installed() -> (World, Coordinator) {
    let world = World::with(|config| config.sessions = 1).await;
    by_superuser(&world, &installation(ROLE)).await;
    let coordinator = world.coordinator().await;
    (world, coordinator)
}

async fn balance(world: &World) -> i64 {
    world.number("SELECT balance FROM account WHERE id = 1").await
}

/// The markers that are committed, as `seq` and whether the branch was.
async fn markers(world: &World) -> Vec<(i64, bool)> {
    let rows = superuser(world).await;
    let rows = rows.query("SELECT seq, committed FROM votum.marker ORDER BY seq", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn is_done(end: &v1::BranchEnd) -> bool {
    matches!(end.kind, Some(End::Done(_)))
}

fn marker(end: &v1::BranchEnd) -> Marker {
    match &end.kind {
        Some(End::Gone(gone)) => gone.marker(),
        other => panic!("not gone: {other:?}"),
    }
}

/// SQLSTATE, message, and which statement it was.
fn refusal(end: &v1::BranchEnd) -> (String, String, Option<u32>) {
    match &end.kind {
        Some(End::Refused(refused)) => {
            let reason = refused.reason.clone().unwrap();
            let failed = end.failed.as_ref().map(|failed| failed.statement);
            (reason.sqlstate, reason.message, failed)
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn read(end: &v1::BranchEnd, statement: usize) -> i64 {
    match end.results[statement].rows[0].values[0].kind {
        Some(v1::value::Kind::Int64(number)) => number,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_branch_does_its_work_and_commits_with_its_marker_and_never_prepares() {
    let (world, mut coordinator) = installed().await;
    let listing = &coordinator.hello.listings[0];
    assert!(coordinator.hello.can_decide && listing.can_decide, "{listing:?}");
    for seq in 1..=4 {
        let end = coordinator.decided(seq, &[(ADD, &[5, 1]), (ADD, &[-3, 1])]).await;
        assert!(is_done(&end), "{end:?}");
        let counts: Vec<_> = end.results.iter().map(|result| result.row_count).collect();
        assert_eq!((counts, end.failed), (vec![1, 1], None));
        assert_eq!(balance(&world).await, 100 + 2 * i64::try_from(seq).unwrap());
    }
    assert_eq!(markers(&world).await, [(1, true), (2, true), (3, true), (4, true)]);
    let end = coordinator.decided(5, &[(IN_ONE_TRIP, &[])]).await;
    assert_eq!(read(&end, 0), 1, "the second and the later ones took one trip");
}

/// Its marker is the decision, whether or not there is anything else to commit.
#[tokio::test]
async fn a_branch_that_writes_nothing_leaves_its_marker() {
    let (world, mut coordinator) = installed().await;
    for seq in 1..=2 {
        let end = coordinator.decided(seq, &[(READ, &[1])]).await;
        assert!(is_done(&end), "{end:?}");
        assert_eq!(read(&end, 0), 100);
        // One that is met, and finds no row.
        let end = coordinator.decided(seq + 2, &[(ADD, &[5, 99])]).await;
        assert!(is_done(&end) && end.results[0].row_count == 0, "{end:?}");
    }
    assert_eq!(markers(&world).await, [(1, true), (2, true), (3, true), (4, true)]);
}

/// I4, I15: nothing stands of what ran before the statement that failed, and the session serves the next branch.
#[tokio::test]
async fn a_statement_that_fails_is_named_and_nothing_is_committed() {
    let (world, mut coordinator) = installed().await;
    by_superuser(&world, "ALTER TABLE account ADD CONSTRAINT enough CHECK (balance >= 0)").await;
    let fails: [(&str, &[i64]); 2] = [(ADD, &[1, 1]), (ADD, &[-500, 1])];
    let succeeds: [(&str, &[i64]); 2] = [(ADD, &[1, 1]), (ADD, &[-1, 1])];
    // New to the session, met, and forgotten again because it failed.
    for seq in [1, 3, 5] {
        let end = coordinator.decided(seq, &fails).await;
        let (sqlstate, _, failed) = refusal(&end);
        assert_eq!((sqlstate.as_str(), failed), ("23514", Some(2)), "{seq}");
        assert!(end.results.is_empty());
        assert_eq!(balance(&world).await, 100);
        assert!(is_done(&coordinator.decided(seq + 1, &succeeds).await));
    }
    assert_eq!(markers(&world).await, [(2, true), (4, true), (6, true)]);
    let end = coordinator.decided(7, &[("/**/ COMMIT", &[])]).await;
    assert_eq!(refusal(&end).2, Some(1), "{end:?}");
}

/// I15: a COMMIT of its own would leave the work without the decision, and so it is refused before anything is run.
#[tokio::test]
async fn transaction_control_is_refused_and_nothing_before_it_is_done() {
    let (world, mut coordinator) = installed().await;
    for (seq, text) in [(1, "COMMIT"), (2, ";/**/COMMIT AND CHAIN"), (3, "PREPARE TRANSACTION 'x'")] {
        let end = coordinator.decided(seq, &[(ADD, &[1, 1]), (text, &[])]).await;
        assert_eq!(refusal(&end).2, Some(2), "{end:?}");
        assert_eq!((balance(&world).await, markers(&world).await), (100, vec![]), "{text}");
    }
    assert_eq!(world.number("SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'x'").await, 0);
}

/// All branches' results go into one answer, whatever an agent is told to keep; and what has none is not committed.
#[tokio::test]
async fn a_branch_that_returns_more_than_an_answer_holds_is_not_committed() {
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, $1)";
    for (bound, few, many) in [(3_000, 1, 4), (64 << 20, 900, 1_200)] {
        let world = World::with(|config| (config.sessions, config.stored_reply_bytes) = (1, bound)).await;
        by_superuser(&world, &installation(ROLE)).await;
        let mut coordinator = world.coordinator().await;
        let end = coordinator.decided(1, &[(ADD, &[1, 1]), (rows, &[few])]).await;
        assert!(is_done(&end) && end.results[1].rows.len() as i64 == few);
        let (_, message, failed) = refusal(&coordinator.decided(2, &[(ADD, &[1, 1]), (rows, &[many])]).await);
        assert!(message.contains("bytes") && failed == Some(2), "{message}");
        assert_eq!((balance(&world).await, markers(&world).await), (101, vec![(1, true)]));
    }
}

/// I9, I15: what comes again is not run again, and is answered as the marker says.
#[tokio::test]
async fn work_that_comes_again_is_not_done_again() {
    let (world, mut coordinator) = installed().await;
    for seq in 1..=2 {
        assert!(is_done(&coordinator.decided(seq, &[(ADD, &[1, 1])]).await));
        assert_eq!(marker(&coordinator.decided(seq, &[(ADD, &[1, 1])]).await), Marker::Committed);
        coordinator.commit_one_phase(seq).await;
        assert_eq!(marker(&coordinator.whole_end(seq).await), Marker::Committed);
    }
    assert_eq!(balance(&world).await, 102);
    // What was refused stays so, though it would succeed by now.
    by_superuser(&world, "ALTER TABLE account RENAME TO away").await;
    assert_eq!(refusal(&coordinator.decided(3, &[(ADD, &[1, 1])]).await).2, Some(1));
    by_superuser(&world, "ALTER TABLE away RENAME TO account").await;
    refusal(&coordinator.decided(3, &[(ADD, &[1, 1])]).await);
    assert_eq!(balance(&world).await, 102);
}

/// R13: what was settled can never commit, whoever brings its work later.
#[tokio::test]
async fn a_tombstone_keeps_work_that_is_late_from_being_committed() {
    let (world, mut coordinator) = installed().await;
    // Met, so that the second is tried in one trip.
    assert!(is_done(&coordinator.decided(1, &[(ADD, &[1, 1])]).await));
    for seq in [2, 3] {
        coordinator.commit_one_phase(seq).await;
        assert_eq!(marker(&coordinator.whole_end(seq).await), Marker::Aborted);
        let (sqlstate, message, failed) = refusal(&coordinator.decided(seq, &[(ADD, &[1, 1])]).await);
        assert_eq!((sqlstate.as_str(), failed), ("23505", None));
        assert!(message.contains("commit marker"), "{message}");
    }
    assert_eq!(
        (balance(&world).await, markers(&world).await),
        (101, vec![(1, true), (2, false), (3, false)])
    );
    assert!(is_done(&coordinator.decided(4, &[(ADD, &[1, 1])]).await), "the session serves the next branch");
}

/// Nothing of it may have been begun by the other life.
#[tokio::test]
async fn work_for_another_life_of_the_agent_is_settled_and_not_done() {
    let (mut world, coordinator) = installed().await;
    let instance = coordinator.hello.instance;
    drop(coordinator);
    world.restart_agent();
    let mut coordinator = world.coordinator().await;
    coordinator.hello.instance = instance;
    assert_eq!(marker(&coordinator.decided(1, &[(ADD, &[1, 1])]).await), Marker::Aborted);
    assert_eq!((balance(&world).await, markers(&world).await), (100, vec![(1, false)]));
}

/// R11: a failover has come in between, and the record names the server of before.
#[tokio::test]
async fn on_another_timeline_or_server_than_the_records_nothing_is_run() {
    let (world, mut coordinator) = installed().await;
    for seq in 1..=2 {
        let listing = coordinator.hello.listings[0].clone();
        coordinator.hello.listings[0].timeline += 1;
        let (_, message, failed) = refusal(&coordinator.decided(seq, &[(ADD, &[1, 1])]).await);
        assert!(message.contains("timeline") && failed.is_none(), "{message}");
        coordinator.hello.listings[0] = v1::Listing { system_identifier: 7, ..listing.clone() };
        refusal(&coordinator.decided(seq + 2, &[(ADD, &[1, 1])]).await);
        coordinator.hello.listings[0] = listing;
        assert!(is_done(&coordinator.decided(seq + 4, &[(ADD, &[1, 1])]).await));
    }
    assert_eq!((balance(&world).await, markers(&world).await.len()), (102, 2));
}

#[tokio::test]
async fn without_a_marker_nothing_is_committed() {
    let world = World::with(|config| config.sessions = 1).await;
    let mut coordinator = world.coordinator().await;
    assert!(!coordinator.hello.listings[0].can_decide);
    let (_, message, failed) = refusal(&coordinator.decided(1, &[(ADD, &[1, 1])]).await);
    assert!(message.contains("votum.marker") && failed.is_none(), "{message}");
    assert_eq!(balance(&world).await, 100);

    let (world, mut coordinator) = installed().await;
    assert!(is_done(&coordinator.decided(1, &[(ADD, &[1, 1])]).await));
    // The table goes while sessions are open: the next one is tried in one trip.
    by_superuser(&world, "DROP TABLE votum.marker").await;
    for seq in [2, 3] {
        let (_, message, _) = refusal(&coordinator.decided(seq, &[(ADD, &[1, 1])]).await);
        assert!(message.contains("votum.marker"), "{message}");
    }
    assert_eq!(balance(&world).await, 101);
}

/// The server looks for the row itself: COMMIT stands in the same trip.
#[tokio::test]
async fn a_marker_that_a_trigger_keeps_out_is_missed_before_the_commit() {
    let (world, mut coordinator) = installed().await;
    assert!(is_done(&coordinator.decided(1, &[(ADD, &[1, 1])]).await));
    by_superuser(
        &world,
        "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER keep_out BEFORE INSERT ON votum.marker FOR EACH ROW EXECUTE FUNCTION keep_out()",
    )
    .await;
    for seq in [2, 3] {
        let (_, message, failed) = refusal(&coordinator.decided(seq, &[(ADD, &[1, 1])]).await);
        assert!(message.contains("cannot") && failed.is_none(), "{message}");
    }
    assert_eq!((balance(&world).await, markers(&world).await), (101, vec![(1, true)]));
}

#[tokio::test]
async fn what_one_commit_does_not_bind_does_not_decide() {
    let (world, mut coordinator) = installed().await;
    assert!(is_done(&coordinator.decided(1, &[(ADD, &[1, 1])]).await));
    by_superuser(
        &world,
        "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
    )
    .await;
    for seq in [2, 3] {
        let (_, message, _) = refusal(&coordinator.decided(seq, &[(ADD, &[1, 1])]).await);
        assert!(message.contains("foreign servers"), "{message}");
    }
    assert_eq!((balance(&world).await, markers(&world).await), (101, vec![(1, true)]));
    assert!(!coordinator.list(false).await.can_decide);
}

#[tokio::test]
async fn what_was_deferred_is_checked_before_it_decides() {
    let (world, mut coordinator) = installed().await;
    by_superuser(
        &world,
        "CREATE TABLE once (id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO once VALUES (1);
         GRANT ALL ON once TO PUBLIC",
    )
    .await;
    let insert = "INSERT INTO once VALUES ($1)";
    for seq in [1, 2] {
        assert!(is_done(&coordinator.decided(seq + 10, &[(insert, &[seq_of(seq)])]).await));
        let (sqlstate, _, failed) = refusal(&coordinator.decided(seq, &[(insert, &[1])]).await);
        assert_eq!((sqlstate.as_str(), failed), ("23505", None));
    }
    assert_eq!(world.number("SELECT count(*) FROM once").await, 3);
}

fn seq_of(seq: u64) -> i64 {
    i64::try_from(seq).unwrap() + 100
}

/// A lock is in its way: its time passes, its siblings are not held for ever, and no session is left (I6).
#[tokio::test]
async fn a_branch_whose_time_is_over_never_commits() {
    let (world, mut coordinator) = installed().await;
    assert!(is_done(&coordinator.decided(1, &[(ADD, &[1, 1])]).await));
    let mut holder = superuser(&world).await;
    let held = holder.transaction().await.unwrap();
    held.execute("UPDATE account SET balance = balance WHERE id = 1", &[]).await.unwrap();
    coordinator.decide_for(300, 2, &[(ADD, &[1, 1])]).await;
    let (_, _, failed) = refusal(&coordinator.whole_end(2).await);
    assert_eq!(failed, Some(1));
    held.rollback().await.unwrap();
    eventually("no session waits for a lock", async || {
        let ask = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND state <> 'idle' AND pid <> pg_backend_pid()";
        let open: i64 = superuser(&world).await.query_one(ask, &[]).await?.get(0);
        Ok(if open == 0 { Found::Yes(()) } else { Found::NotYet(format!("{open} are open")) })
    })
    .await
    .unwrap();
    assert_eq!((balance(&world).await, markers(&world).await), (101, vec![(1, true)]));
}

/// R13, I12: who asks meanwhile ends what has not come to its commit, and hears that it never will have.
#[tokio::test]
async fn an_order_to_settle_ends_a_branch_that_waits_for_a_lock() {
    let (world, mut coordinator) = installed().await;
    let mut holder = superuser(&world).await;
    let held = holder.transaction().await.unwrap();
    held.execute("UPDATE account SET balance = balance WHERE id = 1", &[]).await.unwrap();
    coordinator.decide_for(60_000, 1, &[(ADD, &[1, 1])]).await;
    eventually("the branch waits for a lock", async || {
        let ask = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock'";
        let waiting: i64 = superuser(&world).await.query_one(ask, &[]).await?.get(0);
        Ok(if waiting == 1 { Found::Yes(()) } else { Found::NotYet(format!("{waiting} wait")) })
    })
    .await
    .unwrap();
    // Another life of the agent: the server process of the first goes on, and its connection is gone.
    let mut world = world;
    world.restart_agent();
    let mut coordinator = world.coordinator().await;
    coordinator.commit_one_phase(1).await;
    assert_eq!(marker(&coordinator.whole_end(1).await), Marker::Aborted);
    held.commit().await.unwrap();
    eventually("nothing runs any more", async || {
        let ask = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND state <> 'idle' AND pid <> pg_backend_pid()";
        let open: i64 = superuser(&world).await.query_one(ask, &[]).await?.get(0);
        Ok(if open == 0 { Found::Yes(()) } else { Found::NotYet(format!("{open} are open")) })
    })
    .await
    .unwrap();
    assert_eq!((balance(&world).await, markers(&world).await), (100, vec![(1, false)]));
}
