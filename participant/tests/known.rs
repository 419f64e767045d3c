//! Statements that a session has met before, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::{ClientBranch, Coordinator, World};
use votum_proto::v1::value::Kind as Value;

/// One session, and a table of one row whose columns a test changes.
async fn world(columns: &str) -> (World, Coordinator) {
    let world = World::with(|config| config.sessions = 1).await;
    let table = format!("CREATE TABLE t ({columns}); INSERT INTO t DEFAULT VALUES; GRANT ALL ON t TO PUBLIC");
    world.direct().await.batch_execute(&table).await.unwrap();
    let coordinator = world.coordinator().await;
    (world, coordinator)
}

async fn commit(coordinator: &mut Coordinator, branch: &ClientBranch, seq: u64) {
    coordinator.prepare(branch).await;
    let xid8 = coordinator.vote_yes(seq).await.xid8;
    coordinator.commit(seq, xid8, false).await;
    coordinator.branch_end(seq).await;
}

#[tokio::test]
async fn a_statement_that_comes_again_is_parsed_once_and_a_query_each_time() {
    let (world, mut coordinator) = world("n int8").await;
    let update = "UPDATE t SET n = $1";
    for seq in 1..=3 {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok_with(update, vec![Value::Int64(7)]).await;
        branch.ok("SELECT n FROM t").await;
        let count = "SELECT count(*) FILTER (WHERE statement = 'UPDATE t SET n = $1'), \
                     count(*) FILTER (WHERE statement = 'SELECT n FROM t') FROM pg_prepared_statements";
        let found = branch.ok(count).await.rows[0].clone();
        assert_eq!(found, [Some(Value::Int64(1)), Some(Value::Int64(1))], "branch {seq}");
        commit(&mut coordinator, &branch, seq).await;
    }
    // The third branch's UPDATE is the first one's: of all branches, one was parsed.
    let mut branch = world.branch(&coordinator, 4);
    let first = "SELECT count(*) FROM pg_prepared_statements \
                 WHERE statement = 'UPDATE t SET n = $1' AND prepare_time < transaction_timestamp()";
    assert_eq!(branch.ok(first).await.rows[0], [Some(Value::Int64(1))]);
}

/// The first statement knew the column as double precision: had it been kept, the digits would be gone.
#[tokio::test]
async fn no_part_of_a_value_is_lost_when_a_column_has_changed_its_type() {
    let changes = [
        ("float8", "numeric", "0.12345678901234567890123"),
        ("date", "timestamp", "2026-11-21 12:34:56"),
        ("bpchar(20)", "text", "two blanks  "),
    ];
    for (before, after, value) in changes {
        let (world, mut coordinator) = world(&format!("v {before}")).await;
        for seq in 1..=2 {
            let mut branch = world.branch(&coordinator, seq);
            branch.ok_with("UPDATE t SET v = $1", vec![Value::Text(value.into())]).await;
            commit(&mut coordinator, &branch, seq).await;
            let alter = format!("ALTER TABLE t ALTER v TYPE {after}");
            if seq == 1 {
                world.direct().await.batch_execute(&alter).await.unwrap();
            }
        }
        let stored = world.number(&format!("SELECT count(*) FROM t WHERE v::text = '{value}'")).await;
        assert_eq!(stored, 1, "{before} became {after}: {value}");
    }
}

#[tokio::test]
async fn a_kept_statement_that_a_changed_table_refuses_is_parsed_anew() {
    let (world, mut coordinator) = world("n int4").await;
    let (update, large) = ("UPDATE t SET n = $1", 3_000_000_000);
    let mut branch = world.branch(&coordinator, 1);
    branch.ok_with(update, vec![Value::Int64(7)]).await;
    commit(&mut coordinator, &branch, 1).await;
    world.direct().await.batch_execute("ALTER TABLE t ALTER n TYPE int8").await.unwrap();
    let mut branch = world.branch(&coordinator, 2);
    branch.ok("SAVEPOINT s").await;
    let (_, refused) = branch.run_with(update, vec![Value::Int64(large)]).await;
    assert!(refused.unwrap().message().contains("out of range"));
    branch.ok("ROLLBACK TO s").await;
    branch.ok_with(update, vec![Value::Int64(large)]).await;
    commit(&mut coordinator, &branch, 2).await;
    assert_eq!(world.number("SELECT n FROM t").await, large);
}
