//! What hosted sessions make of what a server says: a real one, and one that says what no server should.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use support::World;
use support::scripted::{done, message, opened, ready, row, scripted, without_settings};
use votum_participant::database::{
    Aftermath, BeginOptions, Database, DatabaseError, Preparation, RowSink, Session, Statement,
};
use votum_participant::{AgentConfig, ParticipantConfig, databases};
use votum_proto::names::Gid;
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::value::Kind as Value;
use votum_tests::eventually::{DEADLINE, Found, eventually};
use votum_tests::postgres::{Options, ROLE, Server};

fn database(connection: String, seams: &Seams) -> Arc<dyn Database> {
    let config = AgentConfig::embedded(vec![ParticipantConfig::new(support::name(), connection)]);
    databases(&config, seams).unwrap().pop_first().unwrap().1
}

fn gid() -> Gid {
    "votum_wire_1_0000ab_1_0_1".parse().unwrap()
}

/// Collects a reply.
#[derive(Default)]
struct Rows(Vec<v1::Row>);

#[async_trait]
impl RowSink for Rows {
    async fn columns(&mut self, _: Vec<v1::Column>) {}

    async fn row(&mut self, row: v1::Row) {
        self.0.push(row);
    }
}

async fn begin(session: &mut Box<dyn Session>) {
    let isolation = v1::Isolation::Unspecified;
    let options = BeginOptions { isolation, read_only: false, timeout: Duration::from_secs(60) };
    session.begin(&options).await.unwrap();
}

async fn run_with(
    session: &mut Box<dyn Session>,
    text: &str,
    parameters: Vec<Value>,
) -> Result<(u64, Vec<v1::Row>), DatabaseError> {
    let parameters = parameters.into_iter().map(|kind| v1::Value { kind: Some(kind) }).collect();
    let statement = Statement { text: text.into(), parameters, raw_binary: false };
    let mut rows = Rows::default();
    let count = session.run(&statement, &mut rows).await?;
    Ok((count, rows.0))
}

async fn run(session: &mut Box<dyn Session>, text: &str) -> Result<u64, DatabaseError> {
    run_with(session, text, Vec::new()).await.map(|(count, _)| count)
}

async fn start_again(session: &mut Box<dyn Session>) {
    session.roll_back().await.unwrap();
    session.reset().await.unwrap();
    begin(session).await;
}

async fn session(world: &World) -> Box<dyn Session> {
    let connection = world.server.connection(&world.database, ROLE);
    let mut session = database(connection, &world.seams).open_session(None).await.unwrap();
    begin(&mut session).await;
    session
}

/// Resolves when a server process of this database sleeps.
async fn asleep(world: &World) {
    let direct = world.direct().await;
    let query =
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    eventually("somebody sleeps", async || {
        let found = direct.query_opt(query, &[]).await?.is_some();
        Ok(if found { Found::Yes(()) } else { Found::NotYet("nobody does".into()) })
    })
    .await
    .unwrap();
}

const UPDATE: &str = "UPDATE account SET balance = balance - 10 WHERE id = 1";
const BALANCE: &str = "SELECT balance FROM account WHERE id = 1";

/// It would commit on its own.
#[tokio::test]
async fn a_statement_does_not_run_when_its_begin_in_the_same_trip_fails() {
    let world = World::new().await;
    let mut session = session(&world).await;
    assert_eq!(run(&mut session, UPDATE).await.unwrap(), 1);
    // Nothing else makes BEGIN fail at will: it is one of the session's parsed statements.
    run(&mut session, "DO $$ BEGIN EXECUTE 'DEALLOCATE votum_begin'; END $$").await.unwrap();
    start_again(&mut session).await;
    let error = run(&mut session, UPDATE).await.unwrap_err();
    assert_eq!((error.aftermath, error.sqlstate.as_str()), (Aftermath::Replaced, "26000"));
    assert_eq!(world.number(BALANCE).await, 100);
}

#[tokio::test]
async fn a_client_that_deallocates_a_statement_of_the_agent_leaves_nothing_to_the_next_branch() {
    let world = World::new().await;
    let mut session = session(&world).await;
    run(&mut session, UPDATE).await.unwrap();
    run(&mut session, "DEALLOCATE votum_begin").await.unwrap();
    run(&mut session, "PREPARE votum_begin AS SELECT 1").await.unwrap();
    start_again(&mut session).await;
    assert_eq!(run(&mut session, UPDATE).await.unwrap(), 1);
    assert_eq!(world.number(BALANCE).await, 100);
}

#[tokio::test]
async fn data_is_not_copied_and_nothing_hangs() {
    let world = World::new().await;
    let mut asks = session(&world).await;
    let error = run(&mut asks, "COPY account FROM STDIN").await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Broken, "{error}");
    assert!(error.message.contains("asks for data to copy") && asks.is_lost(), "{error}");
    let mut session = session(&world).await;
    let error = run(&mut session, "COPY account TO STDOUT").await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Replaced, "{error}");
    assert!(error.message.contains("copied data"), "{error}");
    start_again(&mut session).await;
    assert_eq!(run(&mut session, UPDATE).await.unwrap(), 1);
}

#[tokio::test]
async fn notices_on_the_way_change_nothing() {
    let world = World::new().await;
    let noisy = "CREATE FUNCTION noisy(n int) RETURNS int LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE NOTICE 'n %', n; RAISE WARNING 'w %', n; RETURN n; END $$";
    world.direct().await.batch_execute(noisy).await.unwrap();
    let mut session = session(&world).await;
    run(&mut session, UPDATE).await.unwrap();
    for _ in 0..2 {
        let noisy =
            run_with(&mut session, "SELECT noisy(i) FROM generate_series(1, 500) i", Vec::new()).await;
        assert_eq!(noisy.unwrap().1.len(), 500);
    }
    let prepared = session.prepare(&gid(), false).await;
    assert!(matches!(prepared, Preparation::Prepared { .. }), "{prepared:?}");
    let connection = world.server.connection(&world.database, ROLE);
    struct Open;
    impl votum_participant::database::Gate for Open {
        fn enter(&self) -> bool {
            true
        }
    }
    assert!(database(connection, &world.seams).rollback_prepared(&gid(), None, &Open).await.unwrap());
}

#[tokio::test]
async fn much_goes_both_ways_at_once() {
    let world = World::new().await;
    let mut session = session(&world).await;
    let large = "x".repeat(1 << 20);
    let ask = "SELECT $1::text FROM generate_series(1, 8)";
    for _ in 0..2 {
        let (_, rows) = run_with(&mut session, ask, vec![Value::Text(large.clone())]).await.unwrap();
        assert_eq!(rows.len(), 8);
        assert!(rows.iter().all(|row| row.values[0].kind == Some(Value::Text(large.clone()))));
    }
}

#[tokio::test]
async fn a_statement_nobody_waits_for_any_more_leaves_its_answers_to_no_other() {
    let world = World::new().await;
    let mut session = session(&world).await;
    assert_eq!(run(&mut session, UPDATE).await.unwrap(), 1);
    let canceller = session.canceller();
    {
        let running = pin!(run(&mut session, "SELECT pg_sleep(600) FROM account"));
        let asleep = asleep(&world);
        assert!(matches!(
            futures::future::select(running, pin!(asleep)).await,
            futures::future::Either::Right(_)
        ));
    }
    canceller.cancel().await.unwrap();
    start_again(&mut session).await;
    let (count, rows) = run_with(&mut session, BALANCE, Vec::new()).await.unwrap();
    assert_eq!((count, rows[0].values[0].kind.clone()), (1, Some(Value::Int64(100))));
}

#[tokio::test]
async fn a_failed_transaction_is_not_prepared() {
    let world = World::new().await;
    let mut session = session(&world).await;
    run(&mut session, UPDATE).await.unwrap();
    let error = run(&mut session, "SELECT 1 / 0").await.unwrap_err();
    assert_eq!((error.aftermath, error.sqlstate.as_str()), (Aftermath::Answered, "22012"));
    match session.prepare(&gid(), false).await {
        Preparation::Refused(error) => assert_eq!(error.sqlstate, "25P02"),
        other => panic!("{other:?}"),
    }
}

/// The sweep runs at once after any connection broke: what was in flight on it may turn up.
#[tokio::test]
async fn sessions_that_wait_for_work_notice_at_once_that_their_server_is_gone() {
    let server = Server::start(Options::default()).await.unwrap();
    let seams = Seams::production();
    let database = database(server.connection("postgres", ROLE), &seams);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(database.open_session(None).await.unwrap());
    }
    // One that we end ourselves is no break.
    let mut broke = database.next_break();
    drop(sessions.pop());
    assert!(futures::poll!(&mut broke).is_pending());
    server.stop_immediate().await.unwrap();
    seams.clock.timeout(DEADLINE, broke).await.unwrap();
    for session in &sessions {
        seams.clock.timeout(DEADLINE, session.lost()).await.unwrap();
        assert!(session.is_lost());
    }
}

/// The timeouts that a session is to have can also be set on it.
#[tokio::test]
async fn where_a_connection_may_bring_no_settings_it_brings_none() {
    let (seams, limit) = (Seams::production(), Some(Duration::from_secs(60)));
    let refusal = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
    let database = database(without_settings(refusal).await, &seams);
    // The first tries it with settings; the second does not try that any more.
    database.open_session(limit).await.unwrap();
    database.open_session(limit).await.unwrap();
}

const BEGAN: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

/// A server on which one UPDATE has run, and that says this when it is asked to prepare.
async fn prepare_answered(answer: Vec<Vec<u8>>) -> (Preparation, Box<dyn Session>) {
    let opening = [opened(), done("SELECT 1"), ready(b'I')].concat();
    let described = [done("BEGIN"), row(&[&BEGAN]), done("SELECT 1"), message(b't', &[0, 0])];
    let described = [described.concat(), message(b'n', b""), ready(b'T')].concat();
    let updated = [
        done("UPDATE 1"),
        row(&[&BEGAN, &[0, 0, 0, 0, 0, 0, 0, 5], b"votum"]),
        done("SELECT 1"),
        ready(b'T'),
    ];
    let answers = vec![opening, described, updated.concat(), answer.concat()];
    let seams = Seams::production();
    let database = database(scripted(Vec::new(), answers).await, &seams);
    let mut session = database.open_session(None).await.unwrap();
    begin(&mut session).await;
    assert_eq!(run(&mut session, UPDATE).await.unwrap(), 1);
    let preparing = async { session.prepare(&gid(), false).await };
    let preparation = seams.clock.timeout(DEADLINE, preparing).await.unwrap();
    (preparation, session)
}

fn reset() -> Vec<Vec<u8>> {
    vec![
        done("RESET"),
        done("DISCARD SEQUENCES"),
        row(&[b"", b"f", b"votum", b"votum", b"f"]),
        done("SELECT 1"),
        ready(b'I'),
    ]
}

#[tokio::test]
async fn what_was_prepared_is_told_by_the_name_of_the_command_that_was_done() {
    let answer = |tag: &str| [vec![done(tag)], reset()].concat();
    let (prepared, _) = prepare_answered(answer("PREPARE TRANSACTION")).await;
    let Preparation::Prepared { xid8: 5, facts, marker: false } = prepared else { panic!("{prepared:?}") };
    assert_eq!((facts.system_identifier, facts.timeline), (77, 1));
    let (refused, _) = prepare_answered(answer("ROLLBACK")).await;
    let Preparation::Refused(error) = refused else { panic!("{refused:?}") };
    assert_eq!(error.sqlstate, "25P02");
    let (unknown, session) = prepare_answered(answer("SELECT 1")).await;
    assert!(matches!(unknown, Preparation::Unknown(_)), "{unknown:?}");
    assert!(session.is_lost());
}

#[tokio::test]
async fn a_prepare_whose_answer_did_not_arrive_or_has_no_sense_is_unknown() {
    let garbled: [Vec<u8>; 7] = [
        Vec::new(),
        done("PREPARE TRANSACTION")[..7].to_vec(),
        vec![b'C', 0, 0, 0, 1],
        vec![b'D', 0x7f, 0xff, 0xff, 0xff],
        message(b'W', b""),
        message(b'C', b"PREPARE TRANSACTION"),
        message(b'E', b"SERROR\0VERROR\0Mno code\0\0"),
    ];
    for answer in garbled {
        let (unknown, session) = prepare_answered(vec![answer.clone()]).await;
        assert!(matches!(unknown, Preparation::Unknown(_)), "{answer:?}: {unknown:?}");
        assert!(session.is_lost(), "{answer:?}");
    }
    // The server may have gone on before it fell.
    let refused = message(b'E', b"SERROR\0VERROR\0C53200\0Mfull\0\0");
    let (unknown, _) = prepare_answered(vec![refused.clone()]).await;
    assert!(matches!(unknown, Preparation::Unknown(_)), "{unknown:?}");
    let (no, _) = prepare_answered(vec![refused, ready(b'E')]).await;
    assert!(matches!(no, Preparation::Refused(_)), "{no:?}");
}

#[tokio::test]
async fn a_cancelled_wait_for_a_standby_is_unsound() {
    let warning = message(b'N', b"SWARNING\0VWARNING\0C01000\0Mcancelled\0RSyncRepWaitForLSN\0\0");
    let answer = [vec![warning, done("PREPARE TRANSACTION")], reset()].concat();
    let (unsound, _) = prepare_answered(answer).await;
    assert!(matches!(unsound, Preparation::Unsound(_)), "{unsound:?}");
}

/// Whoever opened the connection has read it, and it would be missing.
#[tokio::test]
async fn a_server_that_speaks_on_when_it_is_ready_is_not_let_in() {
    let opening = [opened(), done("SELECT 1"), ready(b'I')].concat();
    let status = message(b'S', b"client_encoding\0LATIN1\0");
    let seams = Seams::production();
    let refused = database(scripted(status, vec![opening]).await, &seams).open_session(None).await;
    let Err(error) = refused else { panic!("it was let in") };
    assert!(error.message.contains("went on speaking"), "{error}");
}
