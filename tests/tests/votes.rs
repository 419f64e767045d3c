//! Why a participant votes no, and that its no leaves nothing at the others.

use votum_client::{Abort, AbortKind, Error, Isolation, Transaction};
use votum_proto::v1::outcome::Kind;
use votum_tests::expect::{aborted, reason};
use votum_tests::ledger::Told;
use votum_tests::plain::{note, tell};
use votum_tests::postgres::{Options, ROLE};
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::{Leg, work};
use votum_tests::world::World;

/// From bank a to bank b.
const LEGS: [Leg<'static>; 2] =
    [Leg { bank: A, account: 1, amount: -5 }, Leg { bank: B, account: 1, amount: 5 }];

/// Holds where it is a vote of no by `bank`, with this SQLSTATE.
fn voted_no(abort: &Abort, bank: &str, sqlstate: &str) {
    let found = (abort.kind, abort.participant.as_deref(), abort.sqlstate.as_deref());
    assert_eq!(found, (AbortKind::VotedNo, Some(bank), Some(sqlstate)), "{abort}");
}

/// A transfer that did all of its work and is still open.
async fn worked(scene: &Scene, name: &str) -> Result<Transaction, Error> {
    let tx = scene.begin(name, &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, name, &LEGS).await?;
    Ok(tx)
}

#[tokio::test]
async fn a_deferred_constraint_that_fails_at_prepare_aborts_everywhere() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let constraint = "ALTER TABLE journal ADD UNIQUE (transfer) DEFERRABLE INITIALLY DEFERRED";
    scene.set_up(B, constraint).await?;
    let tx = worked(&scene, "deferred").await?;
    tx.execute(B, "INSERT INTO journal VALUES ('deferred', 0)", &[]).await?;
    let abort = aborted(scene.teller.commit(tx, "deferred").await?)?;
    voted_no(&abort, B, "23505");
    assert!(!abort.retryable);
    scene.close().await
}

/// Reads all of bank a, and changes one account there and one at bank b.
async fn skewed(tx: &Transaction, name: &str) -> Result<(), Error> {
    tx.query_one(A, "SELECT sum(balance) FROM accounts", &[]).await?;
    work(tx, name, &LEGS).await
}

/// What makes the work of `skewed` unserializable: reads what it writes, and writes what it read.
const SKEW: &str = "
    BEGIN ISOLATION LEVEL SERIALIZABLE;
    SELECT sum(balance) FROM accounts;
    UPDATE accounts SET balance = balance WHERE id = 2;
    COMMIT";

#[tokio::test]
async fn a_serialization_failure_at_prepare_aborts_and_may_be_run_again() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let begin = scene.teller.votum().begin().isolation(Isolation::Serializable);
    let tx = scene.begin("skewed", &[A, B], begin).await?;
    skewed(&tx, "skewed").await?;
    scene.direct(A).await?.batch_execute(SKEW).await?;
    let abort = aborted(scene.teller.commit(tx, "skewed").await?)?;
    voted_no(&abort, A, "40001");
    assert!(abort.retryable);
    scene.close().await
}

#[tokio::test]
async fn a_serialization_failure_of_a_branch_that_only_read_is_found_at_its_commit() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let begin = scene.teller.votum().begin().isolation(Isolation::Serializable);
    let tx = scene.begin("anomaly", &[B], begin).await?;
    // The read-only anomaly of Fekete, O'Neil and O'Neil: a reader that sees the second of two writers and
    // not the first, where the first has read what the second wrote.
    let first = scene.direct(A).await?;
    first.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT balance FROM accounts").await?;
    scene.direct(A).await?.batch_execute(SKEW).await?;
    tx.query(A, "SELECT balance FROM accounts", &[]).await?;
    work(&tx, "anomaly", &[Leg { bank: B, account: 1, amount: 0 }]).await?;
    let wrote = first.batch_execute("UPDATE accounts SET balance = balance WHERE id = 1; COMMIT").await;
    let outcome = scene.teller.commit(tx, "anomaly").await?;
    // PostgreSQL may choose either as the victim; what it may not do is let both through.
    match wrote {
        Err(error) => assert_eq!(error.code().map(|code| code.code()), Some("40001")),
        Ok(()) => voted_no(&aborted(outcome)?, A, "40001"),
    }
    scene.close().await
}

#[tokio::test]
async fn run_runs_a_transaction_again_after_a_serialization_failure() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let (scene_ref, name) = (&scene, "again");
    scene.ledger.intend(name, [A, B]);
    let runs = std::sync::atomic::AtomicU32::new(0);
    let ran = scene
        .teller
        .votum()
        .begin()
        .isolation(Isolation::Serializable)
        .run(|tx| {
            let run = runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                scene_ref.ledger.begun(name, tx.gtid());
                skewed(&tx, name).await?;
                if run == 0 {
                    scene_ref.direct(A).await?.batch_execute(SKEW).await?;
                }
                anyhow::Ok(())
            }
        })
        .await?;
    assert!(ran.outcome.is_committed(), "{}", ran.outcome);
    assert_eq!(ran.attempts, 2);
    scene.ledger.told(name, Told::Committed);
    scene.close().await
}

/// I1 at the place where one peer loses half a transaction: PREPARE TRANSACTION of a failed transaction
/// "succeeds", with ROLLBACK as its command tag.
#[tokio::test]
async fn a_branch_left_in_failed_state_votes_no() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    for (name, failed) in [("failed at b", B), ("failed at a", A)] {
        let mut tx = scene.plain(name, &[A, B]).await?;
        for bank in [A, B] {
            tx.run(bank, &note(name)).await?;
        }
        let error = tx.run(failed, "SELECT 1/0").await.unwrap_err();
        assert_eq!(error.sqlstate(), "22012", "{error}");
        let answer = tx.commit().await;
        tell(&scene.ledger, name, &answer);
        let reason = reason(answer?)?;
        assert_eq!((reason.participant.as_str(), reason.sqlstate.as_str()), (failed, "25P02"));
    }
    scene.close().await
}

#[tokio::test]
async fn a_failed_branch_that_wrote_nothing_votes_no_too() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let mut tx = scene.plain("failed reader", &[A]).await?;
    tx.run(A, &note("failed reader")).await?;
    tx.run(B, "SELECT 1/0").await.unwrap_err();
    let answer = tx.commit().await;
    tell(&scene.ledger, "failed reader", &answer);
    assert!(matches!(answer?, Kind::Aborted(_)));
    scene.close().await
}

#[tokio::test]
async fn what_cannot_be_prepared_is_a_no_with_its_sqlstate() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    for (name, statement) in [
        ("temporary table", "CREATE TEMPORARY TABLE scratch (n int)"),
        ("listen", "LISTEN transfers"),
        ("notify", "NOTIFY transfers"),
        ("cursor with hold", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"),
    ] {
        let tx = worked(&scene, name).await?;
        tx.execute(B, statement, &[]).await?;
        let abort = aborted(scene.teller.commit(tx, name).await?)?;
        voted_no(&abort, B, "0A000");
    }
    // The sessions are as good as new.
    assert!(scene.teller.transfer("afterwards", &LEGS).await?.is_committed());
    scene.close().await
}

#[tokio::test]
async fn a_session_leaves_nothing_behind_for_the_next_branch() -> anyhow::Result<()> {
    let scene = Scene::open(World::builder().agent_setting("sessions", "1")).await?;
    let votum = scene.teller.votum();
    let mut pids = Vec::new();
    for name in ["first", "second"] {
        let tx = scene.begin(name, &[A], votum.begin()).await?;
        let seen = tx
            .query_one(
                A,
                "SELECT pg_backend_pid() AS pid, current_setting('work_mem') AS work_mem,
                        (SELECT count(*) FROM pg_prepared_statements WHERE name = 'old') AS prepared,
                        (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') AS locks",
                &[],
            )
            .await?;
        pids.push(seen.get::<i64>("pid")?);
        let left: (String, i64, i64) = (seen.get("work_mem")?, seen.get("prepared")?, seen.get("locks")?);
        assert_eq!(left, ("4MB".into(), 0, 0), "{name}");
        tx.execute(A, "SET work_mem = '99MB'", &[]).await?;
        tx.execute(A, "PREPARE old AS SELECT 1", &[]).await?;
        tx.query(A, "SELECT pg_advisory_lock(7)", &[]).await?;
        work(&tx, name, &[Leg { bank: A, account: 1, amount: 0 }]).await?;
        assert!(scene.teller.commit(tx, name).await?.is_committed());
    }
    assert_eq!(pids[0], pids[1], "the session was used again");
    scene.close().await
}

#[tokio::test]
async fn a_branch_that_took_another_role_is_committed_all_the_same() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let grants = format!(
        "DROP ROLE IF EXISTS clerk; CREATE ROLE clerk; GRANT clerk TO {ROLE};
         GRANT ALL ON accounts, journal TO clerk"
    );
    scene.direct(B).await?.batch_execute(&grants).await?;
    let tx = scene.begin("clerk", &[A, B], scene.teller.votum().begin()).await?;
    tx.execute(B, "SET LOCAL ROLE clerk", &[]).await?;
    work(&tx, "clerk", &LEGS).await?;
    assert!(scene.teller.commit(tx, "clerk").await?.is_committed());
    scene.direct(B).await?.batch_execute("DROP OWNED BY clerk; DROP ROLE clerk").await?;
    scene.close().await
}

#[tokio::test]
async fn a_branch_whose_session_an_administrator_ended_is_lost() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = worked(&scene, "terminated").await?;
    let terminate = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND usename = '{ROLE}' AND xact_start IS NOT NULL"
    );
    assert_eq!(scene.direct(B).await?.query(&terminate, &[]).await?.len(), 1);
    // The agent notices on its own, and the coordinator ends the rest: nobody has to ask for it.
    scene.open_sessions(A, 0).await?;
    let refused = tx.execute(B, "SELECT 1", &[]).await;
    assert!(matches!(refused, Err(Error::BranchLost { retryable: true, .. })), "{refused:?}");
    let abort = aborted(scene.teller.commit(tx, "terminated").await?)?;
    assert!(abort.kind == AbortKind::BranchLost && abort.retryable, "{abort}");
    scene.close().await
}

#[tokio::test]
async fn a_server_without_prepared_transactions_votes_no_and_names_the_remedy() -> anyhow::Result<()> {
    let options = Options { max_prepared_transactions: 0, ..Options::default() };
    let scene = Scene::open(World::builder().banks(1).own_servers(options)).await?;
    let tx = scene.begin("no slots", &[A], scene.teller.votum().begin()).await?;
    work(&tx, "no slots", &[Leg { bank: A, account: 1, amount: 0 }]).await?;
    let abort = aborted(scene.teller.commit(tx, "no slots").await?)?;
    voted_no(&abort, A, "55000");
    assert!(abort.message.contains("max_prepared_transactions"), "{abort}");
    // The agent has said so before anybody tried.
    let said = std::fs::read_to_string(scene.bank(A)?.agent.log())?;
    let warned = said.lines().find(|line| line.contains("VOTUM-2205"));
    assert!(warned.is_some_and(|line| line.contains("max_prepared_transactions")), "{said}");
    scene.close().await
}

#[tokio::test]
async fn a_server_whose_slots_are_taken_votes_no_and_goes_on_when_one_is_free() -> anyhow::Result<()> {
    let options = Options { max_prepared_transactions: 1, ..Options::default() };
    let scene = Scene::open(World::builder().own_servers(options)).await?;
    let holder = scene.direct(B).await?;
    holder.batch_execute("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'in the way'").await?;
    let tx = worked(&scene, "no slot").await?;
    let abort = aborted(scene.teller.commit(tx, "no slot").await?)?;
    voted_no(&abort, B, "53200");
    assert!(abort.message.contains("max_prepared_transactions"), "{abort}");

    holder.batch_execute("ROLLBACK PREPARED 'in the way'").await?;
    assert!(scene.teller.transfer("one slot", &LEGS).await?.is_committed());
    scene.close().await
}
