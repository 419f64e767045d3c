//! A transaction's only branch, committed in one phase against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::sync::Arc;

use support::{ClientBranch, Coordinator, World};
use votum_participant::postgres::marker::installation;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::gone::Marker;
use votum_proto::v1::vote::Kind as Vote;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, ROLE, Server};

const WRITES: &str = "UPDATE account SET balance = balance + 1 WHERE id = 1";

async fn superuser(world: &World) -> tokio_postgres::Client {
    world.server.client(&world.database).await.unwrap()
}

async fn by_superuser(world: &World, statements: &str) {
    superuser(world).await.batch_execute(statements).await.unwrap();
}

async fn installed_in(world: World) -> (World, Coordinator) {
    by_superuser(&world, &installation(ROLE)).await;
    let coordinator = world.coordinator().await;
    (world, coordinator)
}

async fn installed() -> (World, Coordinator) {
    installed_in(World::new().await).await
}

/// On a server that no other test uses.
async fn alone(settings: &[(&str, &str)]) -> (World, Coordinator) {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let server = Server::start(Options { settings, ..Options::default() }).await.unwrap();
    installed_in(World::on(Arc::new(server), |_| {}).await).await
}

/// A branch that has run `statements`, and was asked for its vote as its transaction's only one.
async fn asked(world: &World, coordinator: &mut Coordinator, seq: u64, statements: &[&str]) -> ClientBranch {
    let mut branch = world.branch(coordinator, seq);
    for statement in statements {
        branch.ok(statement).await;
    }
    coordinator.prepare_alone(&branch).await;
    branch
}

/// One that is ready.
async fn ready(world: &World, coordinator: &mut Coordinator, seq: u64, statements: &[&str]) -> v1::VoteReady {
    asked(world, coordinator, seq, statements).await;
    match coordinator.vote(seq).await {
        Vote::Ready(ready) => ready,
        other => panic!("not ready: {other:?}"),
    }
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

fn marker(end: End) -> Marker {
    match end {
        End::Gone(gone) => gone.marker(),
        other => panic!("{other:?}"),
    }
}

/// The server process of the session that waits for the word.
async fn waiting_process(world: &World) -> i32 {
    eventually("a session waits for the word", async || {
        let ask = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                   AND state = 'idle in transaction'";
        let row = superuser(world).await.query_opt(ask, &[]).await?;
        Ok(row.map_or(Found::NotYet("none".into()), |row| Found::Yes(row.get(0))))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_branch_that_writes_is_committed_with_its_marker_and_never_prepared() {
    let (world, mut coordinator) = installed().await;
    let vote = ready(&world, &mut coordinator, 1, &[WRITES]).await;
    assert!(vote.xid8 > 0 && vote.system_identifier > 0 && vote.timeline > 0);
    assert_eq!(
        world.number("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()").await,
        0
    );
    assert_eq!((balance(&world).await, markers(&world).await), (100, vec![]));
    coordinator.commit_one_phase(1).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    assert_eq!((balance(&world).await, markers(&world).await), (101, vec![(1, true)]));

    // I9: said again, and in another life of the agent, it is answered by the marker.
    coordinator.commit_one_phase(1).await;
    assert_eq!(marker(coordinator.branch_end(1).await), Marker::Committed);
    let mut world = world;
    world.restart_agent();
    let mut coordinator = world.coordinator().await;
    coordinator.commit_one_phase(1).await;
    assert_eq!(marker(coordinator.branch_end(1).await), Marker::Committed);
    assert_eq!((balance(&world).await, markers(&world).await), (101, vec![(1, true)]));
}

/// A session is as good as new after it, whatever the branch left behind.
#[tokio::test]
async fn sessions_serve_the_next_branch() {
    let (world, mut coordinator) = installed_in(World::with(|_| {}).await).await;
    let mut pids = Vec::new();
    for seq in 1..=3 {
        let mut branch = world.branch(&coordinator, seq);
        let pid = branch.ok("SELECT pg_backend_pid()").await.rows[0][0].clone();
        pids.push(pid);
        for statement in [
            WRITES,
            "SET search_path = pg_temp",
            "CREATE TEMP TABLE mine (n int)",
            "LISTEN something",
            "SELECT pg_advisory_lock(7)",
            "DECLARE kept CURSOR WITH HOLD FOR SELECT 1",
            "SET LOCAL synchronous_commit = off",
        ] {
            branch.ok(statement).await;
        }
        coordinator.prepare_alone(&branch).await;
        assert!(matches!(coordinator.vote(seq).await, Vote::Ready(_)));
        coordinator.commit_one_phase(seq).await;
        assert!(matches!(coordinator.branch_end(seq).await, End::Done(_)));
    }
    assert_eq!(balance(&world).await, 103);
    assert!(pids.windows(2).all(|pair| pair[0] == pair[1]), "{pids:?}");
}

#[tokio::test]
async fn a_branch_that_wrote_nothing_is_read_only() {
    let (world, mut coordinator) = installed().await;
    asked(&world, &mut coordinator, 1, &["SELECT balance FROM account"]).await;
    assert!(matches!(coordinator.vote(1).await, Vote::ReadOnly(_)));
}

#[tokio::test]
async fn without_the_table_it_is_prepared() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    asked(&world, &mut coordinator, 1, &[WRITES]).await;
    assert!(!coordinator.vote_yes(1).await.marker);
}

/// One COMMIT does not bind what a foreign server holds: PREPARE refuses to try.
#[tokio::test]
async fn where_there_are_foreign_servers_it_is_prepared_with_one_marker() {
    let (world, mut coordinator) = installed().await;
    by_superuser(
        &world,
        "CREATE FOREIGN DATA WRAPPER afar; CREATE SERVER elsewhere FOREIGN DATA WRAPPER afar",
    )
    .await;
    asked(&world, &mut coordinator, 1, &[WRITES]).await;
    let vote = coordinator.vote_yes(1).await;
    assert!(vote.marker);
    coordinator.commit(1, vote.xid8, false).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    assert_eq!(markers(&world).await, [(1, true)]);
}

/// One that ran before COMMIT may have deferred another, which would run within it and may set anything.
#[tokio::test]
async fn where_triggers_can_be_deferred_it_is_prepared() {
    let (world, mut coordinator) = installed().await;
    let trigger = "CREATE FUNCTION public.quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
                   CREATE CONSTRAINT TRIGGER quiet AFTER UPDATE ON public.account DEFERRABLE INITIALLY DEFERRED \
                   FOR EACH ROW EXECUTE FUNCTION public.quiet()";
    by_superuser(&world, trigger).await;
    asked(&world, &mut coordinator, 1, &[WRITES]).await;
    assert!(coordinator.vote_yes(1).await.marker);
}

/// A crash would empty it, or a branch could leave two rows.
#[tokio::test]
async fn where_the_table_is_not_as_it_was_made_there_are_no_markers() {
    for change in
        ["ALTER TABLE votum.marker SET UNLOGGED", "ALTER TABLE votum.marker DROP CONSTRAINT marker_pkey"]
    {
        let world = World::new().await;
        by_superuser(&world, &installation(ROLE)).await;
        by_superuser(&world, change).await;
        let mut coordinator = world.coordinator().await;
        asked(&world, &mut coordinator, 1, &[WRITES]).await;
        assert!(!coordinator.vote_yes(1).await.marker, "{change}");
    }
}

/// Without the row nobody could say how it ended.
#[tokio::test]
async fn where_the_marker_is_kept_out_it_is_prepared() {
    let (world, mut coordinator) = installed().await;
    by_superuser(&world, "CREATE RULE away AS ON INSERT TO votum.marker DO INSTEAD NOTHING").await;
    asked(&world, &mut coordinator, 1, &[WRITES]).await;
    assert!(!coordinator.vote_yes(1).await.marker);
}

#[tokio::test]
async fn what_commit_would_refuse_is_a_no_before_anything_is_handed_over() {
    let (world, mut coordinator) = installed().await;
    let deferred =
        "CREATE TABLE public.child (id int REFERENCES public.account DEFERRABLE INITIALLY DEFERRED)";
    world.direct().await.batch_execute(deferred).await.unwrap();
    asked(&world, &mut coordinator, 1, &["INSERT INTO public.child VALUES (77)"]).await;
    assert_eq!(coordinator.vote_no(1).await.sqlstate, "23503");

    let mut branch = world.branch(&coordinator, 2);
    branch.ok(WRITES).await;
    branch.fails("SELECT 1 / 0").await;
    coordinator.prepare_alone(&branch).await;
    assert_eq!(coordinator.vote_no(2).await.sqlstate, "25P02");
    assert_eq!((balance(&world).await, markers(&world).await), (100, vec![]));
}

#[tokio::test]
async fn a_serialization_failure_at_the_commit_is_refused_with_its_reason() {
    let (world, mut coordinator) = installed().await;
    let serializable = v1::BranchOptions {
        isolation: v1::Isolation::Serializable.into(),
        timeout_ms: 60_000,
        read_only: false,
    };
    let mut branches = Vec::new();
    for (seq, reads, writes) in [(1, 1, 2), (2, 2, 1)] {
        let mut branch = world.branch(&coordinator, seq);
        branch.options = serializable;
        branch.ok(&format!("SELECT balance FROM account WHERE id = {reads}")).await;
        branches.push((branch, format!("UPDATE account SET balance = 0 WHERE id = {writes}")));
    }
    for (branch, writes) in &mut branches {
        branch.ok(writes).await;
    }
    // Both are ready, and one may commit.
    for (seq, (branch, _)) in (1..).zip(&branches) {
        coordinator.prepare_alone(branch).await;
        assert!(matches!(coordinator.vote(seq).await, Vote::Ready(_)));
    }
    coordinator.commit_one_phase(1).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    coordinator.commit_one_phase(2).await;
    match coordinator.branch_end(2).await {
        End::Refused(refused) => {
            let reason = refused.reason.unwrap();
            assert_eq!((reason.sqlstate.as_str(), reason.retryable), ("40001", true));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(markers(&world).await, [(1, true)]);
}

#[tokio::test]
async fn an_offer_ends_with_its_session_and_a_tombstone_settles_it_for_ever() {
    let (world, mut coordinator) = installed().await;
    ready(&world, &mut coordinator, 1, &[WRITES]).await;
    let pid = waiting_process(&world).await;
    by_superuser(&world, &format!("SELECT pg_terminate_backend({pid})")).await;
    coordinator.vote_no(1).await;
    coordinator.commit_one_phase(1).await;
    assert_eq!(marker(coordinator.branch_end(1).await), Marker::Aborted);
    assert_eq!((balance(&world).await, markers(&world).await), (100, vec![(1, false)]));
    // Again, and by another life of the agent: the same.
    coordinator.commit_one_phase(1).await;
    assert_eq!(marker(coordinator.branch_end(1).await), Marker::Aborted);
    assert_eq!(markers(&world).await, [(1, false)]);
}

/// The tombstone waits for a session that may still commit, and that it cannot see: another agent's.
#[tokio::test]
async fn a_tombstone_waits_for_whoever_has_inserted_the_marker() {
    let (mut world, mut coordinator) = installed().await;
    ready(&world, &mut coordinator, 1, &[WRITES]).await;
    let pid = waiting_process(&world).await;
    // The first agent is kept: it does not know that there is a second one.
    let first = world.agent.clone();
    world.restart_agent();
    let mut second = world.coordinator().await;
    second.commit_one_phase(1).await;
    eventually("the tombstone waits", async || {
        let waits =
            format!("SELECT count(*) FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))");
        let waiting: i64 = superuser(&world).await.query_one(&waits, &[]).await?.get(0);
        Ok(if waiting > 0 { Found::Yes(()) } else { Found::NotYet("it does not".into()) })
    })
    .await
    .unwrap();
    assert_eq!(markers(&world).await, []);
    coordinator.commit_one_phase(1).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    assert_eq!(marker(second.branch_end(1).await), Marker::Committed);
    assert_eq!((balance(&world).await, markers(&world).await), (101, vec![(1, true)]));
    drop(first);
}

/// A session that is fenced off by a tombstone cannot commit any more.
#[tokio::test]
async fn what_was_settled_as_aborted_is_never_ready() {
    let (world, mut coordinator) = installed().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(WRITES).await;
    by_superuser(
        &world,
        &format!("INSERT INTO votum.marker VALUES ('{}', 1, {}, 1, 0, false)", world.id, 0xabc),
    )
    .await;
    coordinator.prepare_alone(&branch).await;
    let reason = coordinator.vote_no(1).await;
    assert!(reason.message.contains("votum.marker"), "{reason:?}");
    assert_eq!(balance(&world).await, 100);
}

/// I12: a new life ends what waits for an older one's word.
#[tokio::test]
async fn a_newer_life_ends_what_is_ready_and_settles_it() {
    let (world, mut older) = installed().await;
    ready(&world, &mut older, 1, &[WRITES]).await;
    let gtid = older.gtid(1);
    let mut newer = world.coordinator_in(2, 0xdef).await.unwrap();
    assert!(newer.hello.listings[0].sessions.is_empty(), "{:?}", newer.hello.listings);
    newer
        .send(Order::CommitOnePhase(v1::CommitOnePhase {
            gtid: gtid.to_string(),
            participant: support::BANK.into(),
            gid: older.gid(1).to_string(),
            ..Default::default()
        }))
        .await;
    let end = newer
        .expect("branch end", |report| match report {
            Report::BranchEnd(end) if end.gtid == gtid.to_string() => end.kind.clone(),
            _ => None,
        })
        .await;
    assert_eq!(marker(end), Marker::Aborted);
    assert_eq!(balance(&world).await, 100);
}

/// An abort that crosses the offer ends the session.
#[tokio::test]
async fn a_rollback_ends_what_is_ready() {
    let (world, mut coordinator) = installed().await;
    ready(&world, &mut coordinator, 1, &[WRITES]).await;
    coordinator.rollback(1, true, 0, 0).await;
    assert!(matches!(coordinator.branch_end(1).await, End::NeverPrepared(_)));
    assert_eq!((balance(&world).await, markers(&world).await), (100, vec![]));
    let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'account'::regclass";
    assert_eq!(world.number(locks).await, 0);
}

/// COMMIT is on disk when it is acknowledged, whatever the client has set.
#[tokio::test]
async fn a_commit_is_durable_although_the_client_wants_none() {
    // Nobody else flushes meanwhile.
    let (world, mut coordinator) = alone(&[("wal_writer_delay", "10s"), ("synchronous_commit", "off")]).await;
    for seq in 1..=3 {
        ready(&world, &mut coordinator, seq, &["SET synchronous_commit = off", WRITES]).await;
        coordinator.commit_one_phase(seq).await;
        assert!(matches!(coordinator.branch_end(seq).await, End::Done(_)));
    }
    world.server.stop_immediate().await.unwrap();
    world.server.restart().await.unwrap();
    assert_eq!((balance(&world).await, markers(&world).await.len()), (103, 3));
}

/// Forced writes of the server's log. Sessions report theirs when they end, so the agent ends first.
async fn forced_writes(world: &mut World) -> i64 {
    world.agent.shutdown(std::time::Duration::ZERO).await;
    world.restart_agent();
    eventually("the agent's sessions have ended", async || {
        let ask = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'");
        let left: i64 = superuser(world).await.query_one(&ask, &[]).await?.get(0);
        Ok(if left == 0 { Found::Yes(()) } else { Found::NotYet(format!("{left} are left")) })
    })
    .await
    .unwrap();
    let client = superuser(world).await;
    let version: i32 =
        client.query_one("SELECT current_setting('server_version_num')::int", &[]).await.unwrap().get(0);
    let ask = if version >= 180_000 {
        "SELECT sum(fsyncs)::int8 FROM pg_stat_io WHERE object = 'wal' AND context = 'normal'"
    } else {
        "SELECT wal_sync FROM pg_stat_wal"
    };
    client.query_one(ask, &[]).await.unwrap().get(0)
}

/// What it is for.
#[tokio::test]
async fn one_phase_forces_the_servers_log_once_and_two_phases_twice() {
    const TRANSACTIONS: u64 = 20;
    let (mut world, coordinator) =
        alone(&[("wal_writer_delay", "10s"), ("autovacuum", "off"), ("checkpoint_timeout", "1d")]).await;
    drop(coordinator);
    let mut took = Vec::new();
    for (epoch, one_phase) in [(2, true), (3, false)] {
        let before = forced_writes(&mut world).await;
        let mut coordinator = world.coordinator_in(epoch, 0xabc).await.unwrap();
        for seq in 1..=TRANSACTIONS {
            let mut branch = world.branch(&coordinator, seq);
            branch.ok(WRITES).await;
            if one_phase {
                coordinator.prepare_alone(&branch).await;
                assert!(matches!(coordinator.vote(seq).await, Vote::Ready(_)));
                coordinator.commit_one_phase(seq).await;
                assert!(matches!(coordinator.branch_end(seq).await, End::Done(_)));
            } else {
                coordinator.committed(&branch).await;
            }
        }
        drop(coordinator);
        took.push(forced_writes(&mut world).await - before);
    }
    let transactions = i64::try_from(TRANSACTIONS).unwrap();
    // Now and then the server forces something of its own.
    let [one, two] = took[..] else { panic!("{took:?}") };
    assert!((transactions..transactions * 3 / 2).contains(&one), "in one phase: {one}");
    assert!((transactions * 2..transactions * 5 / 2).contains(&two), "in two phases: {two}");
}

/// Where the wait for a synchronous standby is cut short, the branch is not reported before one has it.
#[tokio::test]
async fn a_commit_whose_wait_for_a_standby_was_cut_short_is_not_reported_before_it_is_replicated() {
    for how in ["pg_cancel_backend", "pg_terminate_backend"] {
        let (world, mut coordinator) = alone(&[]).await;
        ready(&world, &mut coordinator, 1, &[WRITES]).await;
        by_superuser(&world, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
        by_superuser(&world, "SELECT pg_reload_conf()").await;
        eventually("the server waits for standbys", async || {
            let row = superuser(&world).await.query_one("SHOW synchronous_standby_names", &[]).await?;
            let shown: String = row.get(0);
            Ok(if shown == "nobody" { Found::Yes(()) } else { Found::NotYet(shown) })
        })
        .await
        .unwrap();
        coordinator.commit_one_phase(1).await;
        let ask = format!("SELECT {how}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
        let cut_short = async || {
            let row = superuser(&world).await.query_opt(&ask, &[]).await?;
            Ok(if row.is_some() { Found::Yes(()) } else { Found::NotYet("nobody waits".into()) })
        };
        eventually("COMMIT waits for a standby", cut_short).await.unwrap();
        // It is found by its marker, and confirmed: which waits, too.
        eventually("the confirmation waits for a standby", async || {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%emit_message%'";
            let waiting: i64 = superuser(&world).await.query_one(waits, &[]).await?.get(0);
            Ok(if waiting > 0 { Found::Yes(()) } else { Found::NotYet("it does not".into()) })
        })
        .await
        .unwrap();
        by_superuser(&world, "ALTER SYSTEM RESET synchronous_standby_names").await;
        by_superuser(&world, "SELECT pg_reload_conf()").await;
        assert_eq!(marker(coordinator.branch_end(1).await), Marker::Committed, "{how}");
        assert_eq!(balance(&world).await, 101);
    }
}

/// The table is gone: nobody guesses, and a person is told.
#[tokio::test]
async fn without_its_table_an_end_is_not_settled_and_a_person_is_told() {
    let (world, mut coordinator) = installed().await;
    ready(&world, &mut coordinator, 1, &[WRITES]).await;
    let pid = waiting_process(&world).await;
    by_superuser(&world, &format!("SELECT pg_terminate_backend({pid})")).await;
    coordinator.vote_no(1).await;
    by_superuser(&world, "ALTER TABLE votum.marker RENAME TO elsewhere").await;
    coordinator.commit_one_phase(1).await;
    let trouble = coordinator
        .expect("trouble", |report| match report {
            Report::Trouble(trouble) => Some(trouble.clone()),
            _ => None,
        })
        .await;
    assert_eq!((trouble.sqlstate.as_str(), trouble.alarm), ("42P01", true), "{trouble:?}");
    by_superuser(&world, "ALTER TABLE votum.elsewhere RENAME TO marker").await;
    assert_eq!(marker(coordinator.branch_end(1).await), Marker::Aborted);
}
