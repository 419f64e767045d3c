//! A session is as good as new for the next branch, also where it is made ready before PREPARE; against a real
//! PostgreSQL. The branches do nothing but read and write rows: what they leave behind, functions leave.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::{Coordinator, World};
use votum_proto::v1;
use votum_proto::v1::value::Kind as Value;
use votum_proto::v1::vote::Kind as Vote;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::ROLE;

const WRITE: &str = "UPDATE account SET balance = balance + 1 WHERE id = 1";
const LEAVE: &str = "SELECT leave()";
/// How much of what `leave` leaves is there.
const LEFT: &str = "SELECT left_over()";

/// One session, and functions that leave a setting, a lock, a sequence's value and a role in it, and look for them.
/// The role is hidden by another as long as the transaction lasts.
async fn world() -> World {
    let world = World::with(|config| config.sessions = 1).await;
    let role = format!("leftover_{}", world.id);
    let functions = format!(
        "CREATE ROLE {role}; GRANT {role} TO {ROLE}; GRANT ALL ON account TO {role}; CREATE SEQUENCE numbers;
         GRANT ALL ON numbers TO PUBLIC;
         CREATE FUNCTION leave() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('votum.left', 'x', false), pg_advisory_lock(7), nextval('numbers');
             PERFORM set_config('role', '{role}', false);
             PERFORM set_config('role', '{ROLE}', true);
             RETURN 1;
         END $$;
         CREATE FUNCTION left_over() RETURNS bigint LANGUAGE plpgsql AS $$
         DECLARE found bigint := 0;
         BEGIN
             IF coalesce(current_setting('votum.left', true), '') <> '' THEN found := found + 1; END IF;
             IF current_user <> '{ROLE}' THEN found := found + 10; END IF;
             found := found + 100 * (SELECT count(*) FROM pg_locks
                 WHERE locktype = 'advisory' AND pid = pg_backend_pid());
             BEGIN PERFORM lastval(); found := found + 1000; EXCEPTION WHEN OTHERS THEN NULL; END;
             RETURN found;
         END $$"
    );
    superuser(&world).await.batch_execute(&functions).await.unwrap();
    world
}

async fn superuser(world: &World) -> tokio_postgres::Client {
    world.server.client(&world.database).await.unwrap()
}

/// What the session was told last.
async fn last_told(world: &World) -> String {
    let ask = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND usename = $1 \
               AND (query LIKE '%PREPARE TRANSACTION%' OR query LIKE '%pg_advisory_unlock_all%') \
               AND query NOT LIKE 'COMMIT%' AND query NOT LIKE 'ROLLBACK%'";
    superuser(world).await.query_one(ask, &[&ROLE]).await.unwrap().get(0)
}

/// A whole branch, committed; what its last statement returned.
async fn worked(coordinator: &mut Coordinator, seq: u64, statements: &[(&str, &[i64])]) -> Option<Value> {
    let vote: v1::Vote = coordinator.worked(seq, statements).await;
    let Some(Vote::Yes(yes)) = &vote.kind else { panic!("not yes: {vote:?}") };
    coordinator.commit(seq, yes.xid8, false).await;
    coordinator.branch_end(seq).await;
    vote.results.last().unwrap().rows.first().and_then(|row| row.values[0].kind.clone())
}

/// A hosted one.
async fn hosted(
    world: &World,
    coordinator: &mut Coordinator,
    seq: u64,
    statements: &[&str],
) -> Option<Value> {
    let mut branch = world.branch(coordinator, seq);
    let mut last = None;
    for statement in statements {
        last = branch.ok(statement).await.rows.first().and_then(|row| row[0].clone());
    }
    coordinator.committed(&branch).await;
    last
}

/// Runs branches until the session is made ready as `expected` says it.
async fn until_told(world: &World, coordinator: &mut Coordinator, seq: &mut u64, expected: &str) {
    eventually(expected, async || {
        *seq += 1;
        worked(coordinator, *seq, &[(WRITE, &[])]).await;
        let told = last_told(world).await;
        Ok(if told.contains(expected) { Found::Yes(()) } else { Found::NotYet(told) })
    })
    .await
    .unwrap();
}

const BEFORE_PREPARE: &str = "PREPARE TRANSACTION";
/// Asked once a second.
const LIST: &str = "pg_prepared_statement()";

#[tokio::test]
async fn what_functions_leave_is_gone_where_the_session_is_made_ready_before_prepare() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    let (mut seq, mut seen) = (0, (0, 0));
    eventually("both kinds of branches were seen to leave nothing", async || {
        worked(&mut coordinator, seq + 1, &[(WRITE, &[]), (LEAVE, &[])]).await;
        let whole = last_told(&world).await.contains(BEFORE_PREPARE);
        let left = worked(&mut coordinator, seq + 2, &[(WRITE, &[]), (LEFT, &[])]).await;
        assert_eq!(left, Some(Value::Int64(0)), "whole, before PREPARE: {whole}");
        hosted(&world, &mut coordinator, seq + 3, &[WRITE, LEAVE]).await;
        let open = last_told(&world).await.contains(BEFORE_PREPARE);
        let left = hosted(&world, &mut coordinator, seq + 4, &[WRITE, LEFT]).await;
        assert_eq!(left, Some(Value::Int64(0)), "hosted, before PREPARE: {open}");
        seq += 4;
        seen = (seen.0 + u32::from(whole), seen.1 + u32::from(open));
        // The first branches of a session go step by step.
        Ok(if seen.0 > 1 && seen.1 > 1 { Found::Yes(()) } else { Found::NotYet(format!("{seen:?}")) })
    })
    .await
    .unwrap();
}

/// It runs within PREPARE.
#[tokio::test]
async fn what_a_deferred_trigger_leaves_is_gone_too() {
    let world = world().await;
    let trigger = "CREATE TABLE guarded (n int8); GRANT ALL ON guarded TO PUBLIC;
         CREATE FUNCTION at_the_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM leave(); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER guard AFTER INSERT ON guarded DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION at_the_end()";
    superuser(&world).await.batch_execute(trigger).await.unwrap();
    let mut coordinator = world.coordinator().await;
    let mut seq = 0;
    until_told(&world, &mut coordinator, &mut seq, LIST).await;
    for _ in 0..3 {
        worked(&mut coordinator, seq + 1, &[("INSERT INTO guarded VALUES (1)", &[])]).await;
        let left = worked(&mut coordinator, seq + 2, &[(WRITE, &[]), (LEFT, &[])]).await;
        assert_eq!(left, Some(Value::Int64(0)));
        hosted(&world, &mut coordinator, seq + 3, &["INSERT INTO guarded VALUES (1)"]).await;
        let left = hosted(&world, &mut coordinator, seq + 4, &[WRITE, LEFT]).await;
        assert_eq!(left, Some(Value::Int64(0)));
        seq += 4;
    }
}

/// Such a statement may have made a trigger that runs within PREPARE, or have set anything for the transaction.
#[tokio::test]
async fn what_does_more_than_rows_has_the_session_looked_at_behind_prepare() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    let mut seq = 0;
    until_told(&world, &mut coordinator, &mut seq, BEFORE_PREPARE).await;
    for statement in ["SET LOCAL work_mem = '1MB'", "DO $$ BEGIN END $$", "CREATE TABLE made (n int8)"] {
        seq += 1;
        hosted(&world, &mut coordinator, seq, &[WRITE, statement]).await;
        assert!(last_told(&world).await.contains("pg_advisory_unlock_all"), "{statement}");
    }
}
