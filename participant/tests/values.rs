//! Values on their way through a hosted branch, against a real PostgreSQL: types, encodings, replies.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::{World, code};
use votum_proto::v1;
use votum_proto::v1::value::Kind as Value;

const UPDATE: &str = "UPDATE account SET balance = balance - 10 WHERE id = 1";

#[tokio::test]
async fn values_come_as_the_servers_own_text() {
    let world = World::new().await;
    let coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("SET LOCAL TimeZone = 'UTC'").await;
    branch.ok("SET LOCAL DateStyle = 'ISO'").await;
    branch.ok("SET LOCAL IntervalStyle = 'postgres'").await;
    let texts: &[(&str, &[&str])] = &[
        (
            "numeric",
            &[
                "0",
                "1",
                "-1",
                "10000",
                "9999",
                "10000.0001",
                "0.0001",
                "0.00001",
                "-0.5",
                "1e20",
                "1e-20",
                "123456789012345678901234567890.123456789",
                "1.10",
                "0.00",
                "100000000",
                "NaN",
                "Infinity",
                "-Infinity",
                "12345.6780",
                "0.1000",
                "99999999.99999999",
                "1e130",
            ],
        ),
        (
            "date",
            &[
                "2000-01-01",
                "1999-12-31",
                "2026-11-21",
                "2000-02-29",
                "1900-02-28",
                "1900-03-01",
                "0001-01-01",
                "0001-12-31 BC",
                "0044-03-15 BC",
                "4713-01-01 BC",
                "5874897-12-31",
                "infinity",
                "-infinity",
            ],
        ),
        ("time", &["00:00:00", "23:59:59.999999", "12:34:56.7", "24:00:00", "01:02:03.000004"]),
        (
            "timetz",
            &["12:34:56+00", "12:34:56.5-08", "00:00:00+05:30", "23:59:59-15:59:59", "01:00:00+01:02:03"],
        ),
        (
            "timestamp",
            &[
                "2026-11-21 12:34:56.789",
                "1969-12-31 23:59:59.999999",
                "0044-03-15 01:02:03 BC",
                "294276-12-31 23:59:59.999999",
                "4713-01-01 00:00:00 BC",
                "infinity",
                "-infinity",
            ],
        ),
        (
            "timestamptz",
            &[
                "2026-11-21 12:34:56.789+02",
                "0044-03-15 01:02:03+00 BC",
                "infinity",
                "1999-12-31 23:59:59.5-11",
            ],
        ),
        (
            "interval",
            &[
                "0",
                "1 year",
                "2 years 1 mon",
                "-1 year -1 mon",
                "1 day",
                "-3 days",
                "1 mon -1 day +02:03:04",
                "-1 mon +1 day",
                "-1 day +02:03:04",
                "1 day -02:03:04.5",
                "00:00:00.000001",
                "-00:00:00.5",
                "999 hours",
                "14 mons",
                "-14 mons",
                "1 year -2 days +00:00:01",
                "-23:59:59.999999",
            ],
        ),
        ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        ("json", &["{\"a\":  [1, 2]}", "null"]),
        ("jsonb", &["{\"a\":  [1, 2.50]}", "\"é\""]),
        ("varchar", &["é", ""]),
        ("char(5)", &["ab"]),
        ("name", &["n"]),
    ];
    for (ty, values) in texts {
        for value in *values {
            let value = value.replace('\'', "''");
            let statement = format!(
                "SELECT '{value}'::{ty}, '{value}'::{ty}::text, to_json('{value}'::{ty}) IS NOT NULL"
            );
            let statement = if *ty == "char(5)" {
                format!("SELECT '{value}'::char(5), 'ab   ', true")
            } else {
                statement
            };
            let reply = branch.ok(&statement).await;
            assert_eq!(reply.rows[0][0], reply.rows[0][1], "{ty} {value}");
        }
    }
    let reply = branch
        .ok("SELECT true, 1::int2, -2::int4, 3::int8, 1.5::float4, 2.5::float8, '\\x0001ff'::bytea, NULL, 'a'::text, 5::oid, 'x'::unknown")
        .await;
    let expected = [
        Value::Boolean(true),
        Value::Int64(1),
        Value::Int64(-2),
        Value::Int64(3),
        Value::Float64(1.5),
        Value::Float64(2.5),
        Value::Bytes(vec![0, 1, 255]),
        Value::Null(true),
        Value::Text("a".into()),
        Value::Int64(5),
        Value::Text("x".into()),
    ];
    assert_eq!(reply.rows[0].iter().flatten().cloned().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn other_types_come_as_binary_with_their_oid_and_go_back_as_they_came() {
    let world = World::new().await;
    world.direct().await.batch_execute("CREATE TYPE mood AS ENUM ('sad', 'glad')").await.unwrap();
    let coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    let reply = branch.ok("SELECT '10.0.0.0/8'::cidr, 'glad'::mood, ARRAY[1,2]").await;
    let columns = &reply.started.as_ref().unwrap().columns;
    assert_eq!(columns.iter().map(|c| c.type_name.as_str()).collect::<Vec<_>>(), ["cidr", "mood", "_int4"]);
    assert_eq!(reply.rows[0][1], Some(Value::Text("glad".into())));
    let cidr = reply.rows[0][0].clone().unwrap();
    let array = reply.rows[0][2].clone().unwrap();
    assert!(matches!(&cidr, Value::Raw(raw) if raw.type_oid == 650));
    let reply = branch
        .ok_with(
            "SELECT $1::text, $2::text, $3::mood = 'glad'",
            vec![cidr, array, Value::Text("glad".into())],
        )
        .await;
    let expected = [Value::Text("10.0.0.0/8".into()), Value::Text("{1,2}".into()), Value::Boolean(true)];
    assert_eq!(reply.rows[0].iter().flatten().cloned().collect::<Vec<_>>(), expected);
    let request = v1::ExecuteRequest { raw_binary: true, ..branch.request(3, "SELECT 1::int8, NULL::int4") };
    let (reply, _) = branch.send(request).await;
    let one = Value::Raw(v1::RawBinary { type_oid: 20, data: vec![0, 0, 0, 0, 0, 0, 0, 1].into() });
    assert_eq!(reply.rows[0], [Some(one), Some(Value::Null(true))]);
}

#[tokio::test]
async fn types_that_are_not_built_in_are_known_to_every_branch_on_a_session() {
    let world = World::with(|config| config.sessions = 1).await;
    world
        .direct()
        .await
        .batch_execute("CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE hue AS ENUM ('red')")
        .await
        .unwrap();
    let mut coordinator = world.coordinator().await;
    for (seq, value) in [(1, "'sad'::mood"), (2, "'red'::hue")] {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok(&format!("SELECT {value}")).await;
        branch.ok("UPDATE account SET balance = balance - 1 WHERE id = 1").await;
        let xid8 = coordinator.prepared(&branch).await;
        coordinator.commit(seq, xid8, false).await;
        coordinator.branch_end(seq).await;
    }
}

/// I15: the client would take the error for a statement without effect.
#[tokio::test]
async fn a_statement_that_ran_and_whose_reply_cannot_be_read_ends_its_branch() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    let to_latin = "set_config('client_encoding', 'LATIN1', true)";
    let update = format!("UPDATE account SET balance = 0 WHERE id = 1 RETURNING {to_latin}, chr(233)");
    assert_eq!(code(&branch.fails(&update).await).0, "VOTUM-2005");
    let lost = coordinator.session_lost(1).await;
    assert!(lost.message.contains("form that is not its type's"), "{lost:?}");
}

/// I15: what is UTF-8 to the client would be other letters to the database.
#[tokio::test]
async fn a_change_of_the_clients_encoding_ends_the_branch_and_not_the_next_one() {
    let world = World::with(|config| config.sessions = 1).await;
    let mut coordinator = world.coordinator().await;
    let changes = [
        "SET client_encoding = 'LATIN1'",
        "SET NAMES 'SQL_ASCII'",
        "SELECT set_config('client_encoding', 'win1252', true)",
    ];
    for (seq, change) in (1..).zip(changes) {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok(UPDATE).await;
        let status = branch.fails(change).await;
        assert_eq!(code(&status).0, "VOTUM-2005", "{change}");
        let lost = coordinator.session_lost(seq).await;
        assert!(lost.message.contains("changed client_encoding to"), "{change}: {lost:?}");
    }
    let mut branch = world.branch(&coordinator, 9);
    branch.ok("SET client_encoding = 'UTF-8'").await;
    let text = vec![Value::Text("zażółć".into())];
    assert_eq!(branch.ok_with("SELECT length($1)", text).await.rows[0], [Some(Value::Int64(6))]);
}

#[tokio::test]
async fn parameters_take_the_type_of_the_place_where_they_stand() {
    let world = World::new().await;
    world
        .direct()
        .await
        .batch_execute("CREATE TABLE t (i2 int2, i4 int4, n numeric, f float4, b bool, ts timestamptz, j jsonb, u uuid, by bytea, tx text)")
        .await
        .unwrap();
    let coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    let values = vec![
        Value::Int64(7),
        Value::Int64(-8),
        Value::Int64(9),
        Value::Float64(0.5),
        Value::Boolean(false),
        Value::Text("2026-11-21 00:00:00+00".into()),
        Value::Text("{\"a\": 1}".into()),
        Value::Text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".into()),
        Value::Bytes(vec![0, 39, 92]),
        Value::Text("o'clock \\ $1".into()),
    ];
    let insert = "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    assert_eq!(branch.ok_with(insert, values.clone()).await.count, 1);
    let mut back = branch.ok("SELECT * FROM t").await.rows[0].iter().flatten().cloned().collect::<Vec<_>>();
    back[2] = Value::Int64(9);
    assert_eq!(back, values);
    let nulls = branch.ok_with("SELECT $1::int, $2::text", vec![Value::Null(true), Value::Null(true)]).await;
    assert_eq!(nulls.rows[0], [Some(Value::Null(true)), Some(Value::Null(true))]);
}

#[tokio::test]
async fn a_large_result_streams_whole() {
    let world = World::new().await;
    let coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    let reply = branch.ok("SELECT i, repeat('x', 100) FROM generate_series(1, 20000) AS i").await;
    assert_eq!((reply.rows.len(), reply.count), (20_000, 20_000));
    assert_eq!(reply.rows[19_999][0], Some(Value::Int64(20_000)));
}
