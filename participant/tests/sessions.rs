//! What a session is from one branch to the next, against a real PostgreSQL: its timeouts, and whose it is.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::{BANK, Coordinator, World};
use votum_proto::v1;
use votum_proto::v1::value::Kind as Value;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::ROLE;

const UPDATE: &str = "UPDATE account SET balance = balance - 10 WHERE id = 1";

async fn one_session() -> (World, Coordinator) {
    let world = World::with(|config| config.sessions = 1).await;
    let coordinator = world.coordinator().await;
    (world, coordinator)
}

fn text(value: &str) -> Option<Value> {
    Some(Value::Text(value.into()))
}

/// All timeouts of the server's that a branch has.
const TIMEOUTS: &str = "SELECT DISTINCT setting FROM pg_settings WHERE name IN \
     ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')";
/// Whether the session had to be told any.
const TOLD: &str = "SELECT count(*) FROM pg_prepared_statements WHERE name = 'votum_settings'";

#[tokio::test]
async fn every_branch_has_the_timeouts_that_it_needs_and_most_without_a_statement() {
    let (world, mut coordinator) = one_session().await;
    let branches = [
        // The one that the session is opened for, and another that came as much earlier as its client took.
        (59_980, "61000", 0),
        (60_000, "61000", 0),
        (59_000, "61000", 0),
        (600_000, "601000", 1),
        (5_000, "6000", 1),
        (60_000, "61000", 1),
    ];
    for (seq, (timeout_ms, expected, told)) in (1..).zip(branches) {
        let mut branch = world.branch(&coordinator, seq);
        branch.options.timeout_ms = timeout_ms;
        assert_eq!(branch.ok(TIMEOUTS).await.rows, [[text(expected)]], "branch {seq}");
        assert_eq!(branch.ok(TOLD).await.rows, [[Some(Value::Int64(told))]], "branch {seq}");
        // Whatever this one makes of them.
        branch.ok("SET statement_timeout = 0").await;
        branch.ok("SET idle_in_transaction_session_timeout = 1000000").await;
        branch.ok(UPDATE).await;
        coordinator.committed(&branch).await;
    }
}

/// A role of which the agent's is a member, and that may change accounts.
async fn another_role(world: &World) -> String {
    let role = format!("teller_{}", world.id);
    let superuser = world.server.client(&world.database).await.unwrap();
    let set_up = format!("CREATE ROLE {role}; GRANT {role} TO {ROLE}; GRANT ALL ON account TO {role}");
    superuser.batch_execute(&set_up).await.unwrap();
    role
}

/// Whether an earlier branch had one of the agent's statements parsed.
const EARLIER: &str = "SELECT count(*) > 0 FROM pg_prepared_statements \
     WHERE name = 'votum_begin' AND prepare_time < transaction_timestamp()";
const USERS: &str = "SELECT current_user::text, session_user::text";

/// Phase 2 runs as the agent's own role, which may not end what another has prepared.
#[tokio::test]
async fn a_branch_that_took_another_role_is_prepared_as_the_agents_own() {
    let (world, mut coordinator) = one_session().await;
    let role = another_role(&world).await;
    for (seq, set) in [(1, "SET ROLE"), (2, "SET LOCAL ROLE")] {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok(&format!("{set} {role}")).await;
        branch.ok(UPDATE).await;
        assert_eq!(branch.ok(USERS).await.rows, [[text(&role), text(ROLE)]]);
        let xid8 = coordinator.prepared(&branch).await;
        assert_eq!(coordinator.list(false).await.prepared[0].owner, ROLE, "{set}");
        coordinator.commit(seq, xid8, false).await;
        coordinator.branch_end(seq).await;
        let mut next = world.branch(&coordinator, seq + 10);
        assert_eq!(next.ok(USERS).await.rows, [[text(ROLE), text(ROLE)]], "after {set}");
        coordinator.prepare(&next).await;
        coordinator.vote(seq + 10).await;
    }
}

/// As where an agent logs in under a name that changes, and works as the owner of the tables.
#[tokio::test]
async fn an_agent_whose_role_takes_another_by_default_keeps_its_sessions() {
    let (mut world, _) = one_session().await;
    let role = another_role(&world).await;
    let superuser = world.server.client(&world.database).await.unwrap();
    // Which server process serves it is shown to an agent under another role only by this privilege.
    let default = format!(
        "GRANT pg_read_all_stats TO {role};
         ALTER ROLE {ROLE} IN DATABASE \"{}\" SET role = '{role}'",
        world.database
    );
    superuser.batch_execute(&default).await.unwrap();
    world.restart_agent();
    let mut coordinator = world.coordinator().await;
    for seq in 1..=3 {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok(UPDATE).await;
        assert_eq!(branch.ok(USERS).await.rows, [[text(&role), text(ROLE)]]);
        let parsed = branch.ok(EARLIER).await;
        assert_eq!(parsed.rows, [[Some(Value::Boolean(seq > 1))]], "branch {seq}");
        coordinator.committed(&branch).await;
    }
}

/// The role that a transaction has at its end is not always the one that it leaves behind.
#[tokio::test]
async fn a_role_that_comes_back_when_a_transaction_ends_does_not_reach_the_next_branch() {
    let (world, mut coordinator) = one_session().await;
    let role = another_role(&world).await;
    for (seq, writes) in [(1, true), (2, false)] {
        let mut branch = world.branch(&coordinator, seq);
        branch.ok(&format!("SET ROLE {role}")).await;
        branch.ok(&format!("SET LOCAL ROLE {ROLE}")).await;
        assert_eq!(branch.ok(USERS).await.rows, [[text(ROLE), text(ROLE)]]);
        if writes {
            branch.ok(UPDATE).await;
            coordinator.committed(&branch).await;
        } else {
            coordinator.prepare(&branch).await;
            coordinator.vote(seq).await;
        }
        let mut next = world.branch(&coordinator, seq + 10);
        assert_eq!(next.ok(USERS).await.rows, [[text(ROLE), text(ROLE)]], "after {seq}");
        coordinator.prepare(&next).await;
        coordinator.vote(seq + 10).await;
    }
}

/// Frames say how long branches wait for sessions; by that the coordinator begins less in vain.
#[tokio::test]
async fn while_branches_wait_for_a_session_every_frame_says_for_how_long() {
    let (world, mut coordinator) = one_session().await;
    let [mut first, mut second, mut third] = [1, 2, 3].map(|seq| world.branch(&coordinator, seq));
    first.ok(UPDATE).await;
    coordinator.list(false).await;
    assert_eq!(coordinator.queues, [], "it waits for nothing");
    let waiting = futures::future::join(second.run(UPDATE), third.run(UPDATE));
    let observing = async {
        let expected = eventually("two are seen to wait", async || {
            coordinator.list(false).await;
            Ok(match coordinator.queues.as_slice() {
                [queue] => Found::Yes(queue.clone()),
                other => Found::NotYet(format!("{other:?}")),
            })
        });
        let v1::SessionQueue { participant, expected_ms } = expected.await.unwrap();
        assert_eq!(participant, BANK);
        assert!((100..30_000).contains(&expected_ms), "{expected_ms}");
        // Whoever has the session next, and then the other: neither has done anything yet.
        for seq in [1, 2, 3] {
            coordinator.rollback(seq, false, 0, 0).await;
        }
    };
    futures::future::join(waiting, observing).await;
    coordinator.list(false).await;
    assert_eq!(coordinator.queues, [], "nobody waits any more");
}

/// Has the agent's question for leftovers answered that there are none.
const UNSEEN: &str = "DO $$ BEGIN
    BEGIN EXECUTE 'DEALLOCATE votum_leftovers'; EXCEPTION WHEN OTHERS THEN NULL; END;
    EXECUTE 'PREPARE votum_leftovers AS SELECT NULL, false, current_user, session_user';
    END $$";

/// What is left of a branch in the session of its successor: settings, advisory locks, statements and
/// sequences that were used. The prepared one and the read-only one are reset in different ways.
#[tokio::test]
async fn nothing_of_a_branch_is_left_in_the_session_that_the_next_one_gets() {
    let world = World::with(|config| config.sessions = 1).await;
    let setup = "CREATE SEQUENCE numbers; CREATE TABLE notes (n int8); GRANT ALL ON numbers, notes TO PUBLIC";
    world.direct().await.batch_execute(setup).await.unwrap();
    let mut coordinator = world.coordinator().await;
    let write = "INSERT INTO notes SELECT nextval('numbers')";
    let by_code = "DO $$ BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END $$";
    let in_vain = "DO $$ BEGIN EXECUTE 'PREPARE p AS SELECT 1'; PERFORM 1/0; END $$";
    let works: [&[&str]; 6] = [
        &[],
        &[write],
        &[write, "PREPARE p AS SELECT 1"],
        &[write, by_code],
        &[write, UNSEEN, by_code],
        &[write, "SAVEPOINT s", in_vain, "ROLLBACK TO s"],
    ];
    let mut pid = None;
    for (seq, work) in (1..).zip(works) {
        let mut branch = world.branch(&coordinator, seq);
        for statement in work {
            let (_, status) = branch.run(statement).await;
            assert_eq!(status.is_some(), *statement == in_vain, "{statement}: {status:?}");
        }
        branch.ok("SET application_name = 'left over'").await;
        branch.ok("SELECT pg_advisory_lock(1)").await;
        let rows = branch.ok("SELECT pg_backend_pid()").await.rows;
        assert_eq!(pid.get_or_insert_with(|| rows.clone()), &rows, "{work:?}: another session");
        coordinator.prepare(&branch).await;
        coordinator.vote(seq).await;
        let mut next = world.branch(&coordinator, seq + 10);
        let left = "SELECT (SELECT count(*) FROM pg_prepared_statements WHERE from_sql) \
                    + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
                    current_setting('application_name') = 'left over'";
        let clean = [Some(Value::Int64(0)), Some(Value::Boolean(false))];
        assert_eq!(next.ok(left).await.rows[0], clean, "{work:?}");
        let status = next.fails("SELECT lastval()").await;
        assert!(status.message().contains("lastval is not yet defined"), "{work:?}: {status:?}");
        coordinator.rollback(seq + 10, false, 0, 0).await;
    }
}

/// Such a statement is not told from the agent's own by anything that the server says unasked.
#[tokio::test]
async fn a_statement_that_a_function_prepared_does_not_stay_in_the_session() {
    let (world, mut coordinator) = one_session().await;
    let function = "CREATE FUNCTION prepares() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END $$";
    world.direct().await.batch_execute(function).await.unwrap();
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("SELECT prepares()").await;
    branch.ok(UPDATE).await;
    coordinator.committed(&branch).await;
    let mut seq = 1;
    eventually("the next branches do not have it", async || {
        seq += 1;
        let mut branch = world.branch(&coordinator, seq);
        let left = branch.ok("SELECT count(*) FROM pg_prepared_statements WHERE from_sql").await;
        branch.ok(UPDATE).await;
        coordinator.committed(&branch).await;
        Ok(match left.rows[0][0] {
            Some(Value::Int64(0)) => Found::Yes(()),
            ref other => Found::NotYet(format!("{other:?}")),
        })
    })
    .await
    .unwrap();
}
