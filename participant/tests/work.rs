//! All the work of a branch in one order, against a real PostgreSQL: step by step while its statements are new to the
//! session, and in one trip after that.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::{Coordinator, World};
use votum_participant::postgres::marker::installation;
use votum_proto::v1;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::vote::Kind as Vote;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::ROLE;

const ADD: &str = "UPDATE account SET balance = balance + $1 WHERE id = $2";
const READ: &str = "SELECT balance FROM account WHERE id = $1";

/// One session, so that it meets what it met.
async fn world() -> World {
    World::with(|config| config.sessions = 1).await
}

async fn by_superuser(world: &World, statements: &str) {
    superuser(world).await.batch_execute(statements).await.unwrap();
}

async fn superuser(world: &World) -> tokio_postgres::Client {
    world.server.client(&world.database).await.unwrap()
}

fn xid8(vote: &v1::Vote) -> u64 {
    match &vote.kind {
        Some(Vote::Yes(yes)) => yes.xid8,
        other => panic!("not yes: {other:?}"),
    }
}

fn refusal(vote: &v1::Vote) -> (String, Option<u32>) {
    match &vote.kind {
        Some(Vote::No(no)) => {
            let reason = no.reason.as_ref().unwrap();
            (reason.sqlstate.clone(), vote.failed.as_ref().map(|failed| failed.statement))
        }
        other => panic!("not no: {other:?}"),
    }
}

async fn committed(coordinator: &mut Coordinator, seq: u64, vote: &v1::Vote) {
    coordinator.commit(seq, xid8(vote), false).await;
    assert!(matches!(coordinator.branch_end(seq).await, End::Done(_)));
}

/// Has the session meet these statements, in a branch that is rolled back.
async fn met(coordinator: &mut Coordinator, seq: u64, statements: &[(&str, &[i64])]) {
    let vote = coordinator.worked(seq, statements).await;
    coordinator.rollback(seq, true, xid8(&vote), 0).await;
    coordinator.branch_end(seq).await;
}

async fn balance(world: &World) -> i64 {
    world.number("SELECT balance FROM account WHERE id = 1").await
}

async fn prepared(world: &World) -> i64 {
    world.number("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()").await
}

fn read(vote: &v1::Vote, statement: usize) -> i64 {
    match vote.results[statement].rows[0].values[0].kind {
        Some(v1::value::Kind::Int64(number)) => number,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_branch_is_prepared_with_all_its_work_and_its_results_go_with_the_vote() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    for seq in 1..=4 {
        let vote = coordinator.worked(seq, &[(ADD, &[5, 1]), (READ, &[1]), (ADD, &[-3, 1])]).await;
        let counts: Vec<_> = vote.results.iter().map(|result| result.row_count).collect();
        assert_eq!((counts, vote.failed.clone()), (vec![1, 1, 1], None));
        let before = 100 + 2 * (i64::try_from(seq).unwrap() - 1);
        assert_eq!((read(&vote, 1), balance(&world).await), (before + 5, before));
        assert_eq!(vote.results[1].columns[0].name, "balance");
        assert_eq!(prepared(&world).await, 1);
        committed(&mut coordinator, seq, &vote).await;
        assert_eq!(balance(&world).await, before + 2);
    }
}

/// I9, I15: the order is repeated over a new stream while its vote is not heard.
#[tokio::test]
async fn an_order_that_comes_again_is_answered_with_the_same_vote_and_results() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    for seq in 1..=2 {
        let first = coordinator.worked(seq, &[(ADD, &[1, 1]), (READ, &[1])]).await;
        let mut again = world.coordinator().await;
        assert_eq!(again.worked(seq, &[(ADD, &[1, 1]), (READ, &[1])]).await, first);
        committed(&mut again, seq, &first).await;
        coordinator = again;
    }
    assert_eq!(balance(&world).await, 102);
}

/// Of an earlier life it is not known what has become of it.
#[tokio::test]
async fn work_for_another_life_of_the_agent_is_not_done() {
    let mut world = world().await;
    let coordinator = world.coordinator().await;
    let instance = coordinator.hello.instance;
    drop(coordinator);
    world.restart_agent();
    let mut coordinator = world.coordinator().await;
    coordinator.hello.instance = instance;
    let vote = coordinator.worked(1, &[(ADD, &[1, 1])]).await;
    assert_eq!(refusal(&vote), (String::new(), None));
    assert_eq!((balance(&world).await, prepared(&world).await), (100, 0));
}

/// I15: nothing stands of what ran before the statement that failed, and the session serves the next branch.
#[tokio::test]
async fn a_statement_that_fails_is_named_and_nothing_is_prepared() {
    let world = world().await;
    by_superuser(&world, "ALTER TABLE account ADD CONSTRAINT enough CHECK (balance >= 0)").await;
    let mut coordinator = world.coordinator().await;
    let work: [(&str, &[i64]); 2] = [(ADD, &[1, 1]), (ADD, &[-500, 1])];
    // New to the session, met, and forgotten again because it failed.
    for seq in [1, 3, 5] {
        let vote = coordinator.worked(seq, &work).await;
        assert_eq!(refusal(&vote), ("23514".into(), Some(2)), "{seq}");
        assert_eq!(vote.failed.as_ref().unwrap().sql.as_ref().unwrap().constraint, "enough");
        assert!(vote.results.is_empty());
        assert_eq!((balance(&world).await, prepared(&world).await), (100, 0));
        met(&mut coordinator, seq + 1, &[(ADD, &[1, 1]), (ADD, &[2, 1])]).await;
    }
}

#[tokio::test]
async fn a_constraint_that_is_checked_last_refuses_the_branch() {
    let world = world().await;
    let deferred = "CREATE TABLE once (n bigint UNIQUE DEFERRABLE INITIALLY DEFERRED); GRANT ALL ON once TO ";
    by_superuser(&world, &format!("{deferred}{ROLE}")).await;
    let mut coordinator = world.coordinator().await;
    let insert = "INSERT INTO once VALUES ($1)";
    met(&mut coordinator, 1, &[(insert, &[1])]).await;
    let vote = coordinator.worked(2, &[(insert, &[7]), (insert, &[7])]).await;
    assert_eq!(refusal(&vote).0, "23505");
    assert_eq!(prepared(&world).await, 0);
    let vote = coordinator.worked(3, &[(insert, &[7]), (insert, &[8])]).await;
    committed(&mut coordinator, 3, &vote).await;
}

/// Rows without a column have no bytes.
#[tokio::test]
async fn results_are_bounded_whatever_they_are_made_of() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    for (statement, few) in [
        ("SELECT FROM generate_series(1, $1)", 10),
        ("SELECT repeat('x', 1000) FROM generate_series(1, $1)", 10),
    ] {
        let seq = if statement.contains("repeat") { 10 } else { 0 };
        let vote = coordinator.worked(seq + 1, &[(ADD, &[1, 1]), (statement, &[few])]).await;
        committed(&mut coordinator, seq + 1, &vote).await;
        // In one trip: it was prepared, and must not be counted on.
        let vote = coordinator.worked(seq + 2, &[(ADD, &[1, 1]), (statement, &[100_000])]).await;
        assert_eq!(refusal(&vote).0, "");
        coordinator.rollback(seq + 2, true, 0, 0).await;
        coordinator.branch_end(seq + 2).await;
        assert_eq!(prepared(&world).await, 0);
    }
}

/// All branches' results go into one answer, whatever an agent is told to keep.
#[tokio::test]
async fn results_are_bounded_by_what_is_configured_and_by_a_megabyte_in_any_case() {
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, $1)";
    for (bound, few, many) in [(3_000, 1, 4), (64 << 20, 900, 1_200)] {
        let world = World::with(|config| (config.sessions, config.stored_reply_bytes) = (1, bound)).await;
        let mut coordinator = world.coordinator().await;
        let vote = coordinator.worked(1, &[(ADD, &[1, 1]), (rows, &[few])]).await;
        assert_eq!(vote.results[1].rows.len() as i64, few);
        committed(&mut coordinator, 1, &vote).await;
        for seq in 2..=3 {
            let vote = coordinator.worked(seq, &[(ADD, &[1, 1]), (rows, &[many])]).await;
            let Some(Vote::No(no)) = &vote.kind else { panic!("not no: {vote:?}") };
            assert!(no.reason.as_ref().unwrap().message.contains("bytes"), "{no:?}");
            coordinator.rollback(seq, true, 0, 0).await;
            coordinator.branch_end(seq).await;
        }
    }
}

/// The branch must belong to the agent's role, and its text must be read as it was meant.
#[tokio::test]
async fn what_a_function_leaves_of_the_session_is_noticed_before_the_branch_is_prepared() {
    let world = world().await;
    by_superuser(
        &world,
        &format!(
            "CREATE ROLE other_{ROLE}; GRANT other_{ROLE} TO {ROLE}; GRANT ALL ON account TO other_{ROLE}; \
             CREATE FUNCTION leave_role() RETURNS bigint LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM set_config('role', 'other_{ROLE}', false); RETURN 1; END $$; \
             CREATE FUNCTION leave_encoding() RETURNS bigint LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM set_config('client_encoding', 'LATIN1', false); RETURN 1; END $$;"
        ),
    )
    .await;
    let mut coordinator = world.coordinator().await;
    for seq in 1..=3 {
        let vote = coordinator.worked(seq, &[(ADD, &[1, 1]), ("SELECT leave_role()", &[])]).await;
        assert_eq!(vote.results.len(), 2);
        let owner =
            "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database() AND owner = 'votum'";
        assert_eq!(world.number(owner).await, 1);
        committed(&mut coordinator, seq, &vote).await;
        assert_eq!(balance(&world).await, 100 + i64::try_from(seq).unwrap());
    }
    for seq in 4..=5 {
        let vote = coordinator.worked(seq, &[(ADD, &[1, 1]), ("SELECT leave_encoding()", &[])]).await;
        assert_eq!(refusal(&vote), (String::new(), Some(2)), "{seq}");
        assert_eq!((balance(&world).await, prepared(&world).await), (103, 0));
    }
}

/// I15: it was met as one that changes nothing, and so it goes in one trip.
#[tokio::test]
async fn a_function_that_changes_the_encoding_all_of_a_sudden_is_noticed_before_the_branch_is_prepared() {
    let world = world().await;
    let function = |body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION sudden() RETURNS bigint LANGUAGE plpgsql AS \
             $$ BEGIN {body} RETURN 1; END $$"
        )
    };
    by_superuser(&world, &function("")).await;
    let mut coordinator = world.coordinator().await;
    let work: [(&str, &[i64]); 2] = [(ADD, &[1, 1]), ("SELECT sudden()", &[])];
    met(&mut coordinator, 1, &work).await;
    by_superuser(&world, &function("PERFORM set_config('client_encoding', 'LATIN1', false);")).await;
    let vote = coordinator.worked(2, &work).await;
    assert_eq!(refusal(&vote), (String::new(), Some(2)));
    assert_eq!((balance(&world).await, prepared(&world).await), (100, 0));
}

/// The backend waits for a lock, or has died there.
async fn waits(world: &World) -> i32 {
    eventually("the statement waits for a lock", async || {
        let ask = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let row = superuser(world).await.query_opt(ask, &[]).await?;
        Ok(row.map_or(Found::NotYet("none".into()), |row| Found::Yes(row.get(0))))
    })
    .await
    .unwrap()
}

/// I6: an abort does not wait for a statement, nor does the branch's own timeout, nor a connection that is gone.
#[tokio::test]
async fn a_branch_whose_statement_waits_ends_when_it_has_to() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    let work: [(&str, &[i64]); 2] = [(ADD, &[1, 2]), (ADD, &[1, 1])];
    let mut seq = 0;
    for round in 0..2 {
        if round == 1 {
            seq += 1;
            met(&mut coordinator, seq, &work).await;
        }
        let holder = superuser(&world).await;
        holder.batch_execute("BEGIN; UPDATE account SET balance = balance WHERE id = 1").await.unwrap();
        // Ordered to end.
        seq += 1;
        coordinator.work_for(60_000, seq, &work).await;
        waits(&world).await;
        coordinator.rollback(seq, true, 0, 0).await;
        refusal(&coordinator.whole_vote(seq).await);
        // Out of time.
        seq += 1;
        coordinator.work_for(300, seq, &work).await;
        refusal(&coordinator.whole_vote(seq).await);
        // Its server process is gone: nobody may say that it is prepared, until that is certain.
        seq += 1;
        coordinator.work_for(60_000, seq, &work).await;
        let pid = waits(&world).await;
        superuser(&world).await.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
        refusal(&coordinator.whole_vote(seq).await);
        drop(holder);
        assert_eq!((balance(&world).await, prepared(&world).await), (100, 0));
    }
    seq += 1;
    let vote = coordinator.worked(seq, &work).await;
    committed(&mut coordinator, seq, &vote).await;
}

/// Those that wait for locks keep others of their kind waiting, and nobody else.
#[tokio::test]
async fn whole_transactions_leave_sessions_to_others() {
    let world = World::with(|config| {
        (config.sessions, config.work_sessions, config.session_queue_ms) = (2, 1, 300);
    })
    .await;
    let mut coordinator = world.coordinator().await;
    let holder = superuser(&world).await;
    holder.batch_execute("BEGIN; UPDATE account SET balance = balance WHERE id = 1").await.unwrap();
    coordinator.work_for(60_000, 1, &[(ADD, &[1, 1])]).await;
    waits(&world).await;
    let turned_away = coordinator.worked(2, &[(ADD, &[1, 2])]).await;
    assert_eq!(refusal(&turned_away), (String::new(), None));
    // From memory: the database need not be asked what became of it.
    coordinator.rollback(2, true, 0, 0).await;
    assert!(matches!(coordinator.branch_end(2).await, End::NeverPrepared(_)));
    world.branch(&coordinator, 3).ok("UPDATE account SET balance = balance + 1 WHERE id = 2").await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    let vote = coordinator.whole_vote(1).await;
    committed(&mut coordinator, 1, &vote).await;
    let vote = coordinator.worked(4, &[(ADD, &[1, 1])]).await;
    committed(&mut coordinator, 4, &vote).await;
}

/// Each branch leaves one, in one trip too; and what keeps it from that is no error of the work.
#[tokio::test]
async fn the_marker_goes_with_the_work() {
    let world = world().await;
    by_superuser(&world, &installation(ROLE)).await;
    let mut coordinator = world.coordinator().await;
    for seq in 1..=3 {
        let vote = coordinator.worked(seq, &[(ADD, &[1, 1])]).await;
        assert!(matches!(&vote.kind, Some(Vote::Yes(yes)) if yes.marker), "{vote:?}");
        committed(&mut coordinator, seq, &vote).await;
    }
    assert_eq!(world.number("SELECT count(*) FROM votum.marker WHERE committed").await, 3);
    by_superuser(&world, "DROP TABLE votum.marker").await;
    let vote = coordinator.worked(4, &[(ADD, &[1, 1])]).await;
    assert_eq!(refusal(&vote).0, "42P01");
    let vote = coordinator.worked(5, &[(ADD, &[1, 1])]).await;
    assert!(matches!(&vote.kind, Some(Vote::Yes(yes)) if !yes.marker), "{vote:?}");
    committed(&mut coordinator, 5, &vote).await;
    assert_eq!(balance(&world).await, 104);
}

/// What is refused before anything is run, and what only a statement of its own may do.
#[tokio::test]
async fn transaction_control_is_refused_and_other_commands_go_step_by_step() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    for (seq, text) in [(1, "COMMIT"), (2, ";/**/ROLLBACK AND CHAIN"), (3, "PREPARE TRANSACTION 'x'")] {
        let vote = coordinator.worked(seq, &[(ADD, &[1, 1]), (text, &[])]).await;
        assert_eq!(refusal(&vote), (String::new(), Some(2)));
    }
    for seq in 4..=5 {
        let work: [(&str, &[i64]); 5] = [
            ("SET LOCAL lock_timeout = '5s'", &[]),
            ("SAVEPOINT a", &[]),
            (ADD, &[100, 1]),
            ("ROLLBACK TO a", &[]),
            (ADD, &[1, 1]),
        ];
        let vote = coordinator.worked(seq, &work).await;
        committed(&mut coordinator, seq, &vote).await;
    }
    assert_eq!(balance(&world).await, 102);
}

/// What such a statement does is seen only where it comes by itself.
#[tokio::test]
async fn what_does_more_than_read_and_write_rows_never_goes_in_one_trip() {
    let world = world().await;
    let mut coordinator = world.coordinator().await;
    let guards =
        "SELECT count(*) FROM pg_prepared_statements WHERE name IN ('votum_guard', 'votum_last_guard')";
    for seq in 1..=3 {
        let vote = coordinator.worked(seq, &[("SAVEPOINT a", &[]), (ADD, &[1, 1])]).await;
        committed(&mut coordinator, seq, &vote).await;
    }
    // What guards a trip is parsed behind the statements of the first.
    let mut found = Vec::new();
    for seq in 4..=6 {
        let vote = coordinator.worked(seq, &[(ADD, &[1, 1]), (guards, &[])]).await;
        found.push(read(&vote, 1) > 0);
        committed(&mut coordinator, seq, &vote).await;
    }
    assert_eq!(found, [false, false, true]);
}
