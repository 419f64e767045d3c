//! Statements that a session has met before, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::{Coordinator, World};
use votum_proto::v1::value::Kind as Value;

/// One session, and a table of one row whose columns a test changes.
async fn world(columns: &str) -> (World, Coordinator) {
    let world = World::with(|config| config.sessions = 1).await;
    let table = format!("CREATE TABLE t ({columns}); INSERT INTO t DEFAULT VALUES; GRANT ALL ON t TO PUBLIC");
    world.direct().await.batch_execute(&table).await.unwrap();
    let coordinator = world.coordinator().await;
    (world, coordinator)
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
        assert_eq!(found, [Some(Value::Int64(1)), Some(Value::Int64(0))], "branch {seq}");
        coordinator.committed(&branch).await;
    }
    // The third branch's UPDATE is the first one's: of all branches, one was parsed.
    let mut branch = world.branch(&coordinator, 4);
    let first = "SELECT count(*) FROM pg_prepared_statements \
                 WHERE statement = 'UPDATE t SET n = $1' AND prepare_time < transaction_timestamp()";
    assert_eq!(branch.ok(first).await.rows[0], [Some(Value::Int64(1))]);
}

/// A query's columns are those of the moment: only that they need no question is remembered.
#[tokio::test]
async fn a_query_whose_columns_have_changed_returns_them_as_they_are() {
    let (world, mut coordinator) = world("n int8 DEFAULT 1").await;
    let changes = [
        ("SELECT 1", Value::Int64(1), "int8"),
        (
            "ALTER TABLE t ALTER n DROP DEFAULT; ALTER TABLE t ALTER n TYPE text",
            Value::Text("1".into()),
            "text",
        ),
        ("ALTER TABLE t ALTER n TYPE bool USING true", Value::Boolean(true), "bool"),
    ];
    for (seq, (change, value, name)) in (1..).zip(changes) {
        world.direct().await.batch_execute(change).await.unwrap();
        let mut branch = world.branch(&coordinator, seq);
        let reply = branch.ok("SELECT n FROM t").await;
        assert_eq!((reply.rows, reply.count), (vec![vec![Some(value)]], 1), "{change}");
        assert_eq!(reply.started.unwrap().columns[0].type_name, name);
        coordinator.prepare(&branch).await;
        coordinator.vote(seq).await;
    }
    // A type about which the server has to be asked, where none had to be: the branch ends, once.
    let mood = "CREATE TYPE mood AS ENUM ('glad'); ALTER TABLE t ALTER n TYPE mood USING 'glad'";
    world.direct().await.batch_execute(mood).await.unwrap();
    let mut branch = world.branch(&coordinator, 8);
    branch.fails("SELECT n FROM t").await;
    let lost = coordinator.session_lost(8).await;
    assert!(lost.retryable && lost.message.contains("have got other types"), "{lost:?}");
    let mut branch = world.branch(&coordinator, 9);
    assert_eq!(branch.ok("SELECT n FROM t").await.rows[0], [Some(Value::Text("glad".into()))]);
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
            coordinator.committed(&branch).await;
            let alter = format!("ALTER TABLE t ALTER v TYPE {after}");
            if seq == 1 {
                world.direct().await.batch_execute(&alter).await.unwrap();
            }
        }
        let stored = world.number(&format!("SELECT count(*) FROM t WHERE v::text = '{value}'")).await;
        assert_eq!(stored, 1, "{before} became {after}: {value}");
    }
}

/// A kept statement would send it as a numeric, which the server rounds.
#[tokio::test]
async fn a_fraction_for_a_column_that_has_become_a_whole_number_is_refused() {
    let (world, mut coordinator) = world("n numeric").await;
    let (update, half) = ("UPDATE t SET n = $1", vec![Value::Text("1.5".into())]);
    let mut branch = world.branch(&coordinator, 1);
    branch.ok_with(update, half.clone()).await;
    coordinator.committed(&branch).await;
    world.direct().await.batch_execute("ALTER TABLE t ALTER n TYPE int4 USING 0").await.unwrap();
    let mut branch = world.branch(&coordinator, 2);
    let (_, refused) = branch.run_with(update, half).await;
    assert!(refused.unwrap().message().contains("invalid input syntax for type integer"));
}

#[tokio::test]
async fn a_kept_statement_that_a_changed_table_refuses_is_parsed_anew() {
    let (world, mut coordinator) = world("n int4").await;
    let (update, large) = ("UPDATE t SET n = $1", 3_000_000_000);
    let mut branch = world.branch(&coordinator, 1);
    branch.ok_with(update, vec![Value::Int64(7)]).await;
    coordinator.committed(&branch).await;
    world.direct().await.batch_execute("ALTER TABLE t ALTER n TYPE int8").await.unwrap();
    let mut branch = world.branch(&coordinator, 2);
    branch.ok("SAVEPOINT s").await;
    let (_, refused) = branch.run_with(update, vec![Value::Int64(large)]).await;
    assert!(refused.unwrap().message().contains("out of range"));
    branch.ok("ROLLBACK TO s").await;
    branch.ok_with(update, vec![Value::Int64(large)]).await;
    coordinator.committed(&branch).await;
    assert_eq!(world.number("SELECT n FROM t").await, large);
}

/// Parsed once, it would give every branch the first one's time.
#[tokio::test]
async fn a_literal_is_read_anew_by_every_branch() {
    let (world, mut coordinator) = world("n int8, at timestamptz").await;
    let insert = "INSERT INTO t VALUES ($1, 'now')";
    for seq in 1..=2 {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok_with(insert, vec![Value::Int64(i64::try_from(seq).unwrap())]).await;
        coordinator.committed(&branch).await;
    }
    assert_eq!(world.number("SELECT count(DISTINCT at) FROM t WHERE n IS NOT NULL").await, 2);
}

/// A function's plans last as long as a session, and hold what its literals were by the settings of whoever
/// called it first.
#[tokio::test]
async fn nobody_reads_by_the_settings_of_the_branch_before() {
    let (world, mut coordinator) = world("n int8").await;
    let function = "CREATE FUNCTION new_year() RETURNS float8 LANGUAGE plpgsql AS $$
        BEGIN RETURN extract(epoch FROM '2026-01-01 00:00'::timestamptz); END $$";
    world.direct().await.batch_execute(function).await.unwrap();
    let (ask, change) = ("SELECT new_year()", "UPDATE t SET n = 1");
    let mut times = Vec::new();
    for (seq, zone) in [(1, Some("America/New_York")), (2, None), (3, None)] {
        let mut branch = world.branch(&coordinator, seq);
        if let Some(zone) = zone {
            branch.ok(&format!("SET LOCAL TimeZone = '{zone}'")).await;
        }
        times.extend(branch.ok(ask).await.rows[0].clone());
        branch.ok(change).await;
        coordinator.committed(&branch).await;
    }
    assert_ne!(times[0], times[1]);
    assert_eq!(times[1], times[2]);
}
