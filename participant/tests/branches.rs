//! Statements of hosted branches, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods)] // tokio::spawn: a test waits for what it spawned

mod support;

use support::{BANK, World, code};
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::value::Kind as Value;
use votum_tests::eventually::{Found, eventually};

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
        coordinator.prepare(&branch).await;
        let xid8 = coordinator.vote_yes(seq).await.xid8;
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
    coordinator.prepare(&branch).await;
    let xid8 = coordinator.vote_yes(1).await.xid8;
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
async fn a_new_session_is_reported_at_once_and_ended_when_the_coordinator_says_so() {
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
    coordinator.prepare(&prepared).await;
    let xid8 = coordinator.vote_yes(1).await.xid8;
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

#[tokio::test]
async fn nothing_of_a_branch_is_left_in_the_session_that_the_next_one_gets() {
    let world = World::with(|config| config.sessions = 1).await;
    let mut coordinator = world.coordinator().await;
    let mut first = world.branch(&coordinator, 1);
    first.ok("SET application_name = 'left over'").await;
    first.ok("PREPARE p AS SELECT 1").await;
    first.ok("SELECT pg_advisory_lock(1)").await;
    let pid = first.ok("SELECT pg_backend_pid()").await.rows;
    coordinator.prepare(&first).await;
    coordinator.vote(1).await;
    let mut second = world.branch(&coordinator, 2);
    assert_eq!(second.ok("SELECT pg_backend_pid()").await.rows, pid);
    let left = "SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name = 'p') \
                + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
                current_setting('application_name') = 'left over'";
    assert_eq!(second.ok(left).await.rows[0], [Some(Value::Int64(0)), Some(Value::Boolean(false))]);
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
