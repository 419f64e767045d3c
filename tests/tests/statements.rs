//! Statements over the plain contract: each is run once, in order, by who may; and none ends the transaction
//! behind the protocol's back.

use tonic::Code;
use votum_client::{AbortKind, Error, Status};
use votum_proto::v1;
use votum_proto::v1::outcome::Kind;
use votum_tests::expect::{found_aborted, reason, refusal, sql_error};
use votum_tests::plain::{Plain, note, tell};
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::{Leg, work};
use votum_tests::world::World;

/// A transaction with its note in both journals.
async fn noted(scene: &Scene, name: &str) -> anyhow::Result<Plain> {
    let mut tx = scene.plain(name, &[A, B]).await?;
    for bank in [A, B] {
        tx.run(bank, &note(name)).await?;
    }
    Ok(tx)
}

async fn commits(scene: &Scene, tx: &Plain, name: &str) -> anyhow::Result<()> {
    let answer = tx.commit().await;
    tell(&scene.ledger, name, &answer);
    let answer = answer?;
    anyhow::ensure!(matches!(answer, Kind::Committed(_)), "{name}: {answer:?}");
    Ok(())
}

/// Holds where the branch at `bank` is gone, everything is rolled back, and a Commit says so.
async fn is_lost(scene: &Scene, tx: &Plain, name: &str) -> anyhow::Result<()> {
    let abort = found_aborted(scene.ended(&tx.begun.gtid).await?)?;
    assert_eq!(abort.kind, AbortKind::BranchLost, "{name}: {abort}");
    for bank in [A, B] {
        scene.open_sessions(bank, 0).await?;
    }
    let answer = tx.commit().await;
    tell(&scene.ledger, name, &answer);
    reason(answer?).map(drop)
}

/// I15
#[tokio::test]
async fn a_repeated_statement_gets_its_stored_reply_and_runs_once() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    scene.set_up(A, "CREATE SEQUENCE runs").await?;
    let mut tx = scene.plain("repeated", &[A, B]).await?;
    let first = tx.request(A, 1, &format!("{} RETURNING transfer, nextval('runs') AS run", note("repeated")));
    tx.run(A, &first.statement).await?;
    let replies = [tx.send(first.clone()).await?, tx.send(first.clone()).await?];
    assert_eq!(replies[0], replies[1]);
    assert_eq!((replies[0].count, replies[0].rows.len(), replies[0].columns.len()), (1, 1, 2));

    // Named or not, the first statement finds its session.
    let session = Some(replies[0].session);
    assert_eq!(tx.send(v1::ExecuteRequest { session, ..first.clone() }).await?, replies[0]);

    tx.run(B, &note("repeated")).await?;
    let update = "UPDATE accounts SET balance = balance - 1 WHERE id = 1 RETURNING balance";
    let second = tx.request(A, 2, update);
    let reply = tx.run(A, update).await?;
    assert_eq!(tx.send(second).await?, reply);
    // An error is a reply too.
    let third = tx.request(A, 3, "SAVEPOINT s");
    tx.run(A, "SAVEPOINT s").await?;
    assert_eq!(tx.send(third).await?.count, 0);
    let failing = tx.request(A, 4, "SELECT nextval('runs') / 0");
    for error in [tx.run(A, &failing.statement).await.unwrap_err(), tx.send(failing).await.unwrap_err()] {
        assert_eq!((error.sqlstate().as_str(), error.started), ("22012", session));
    }
    tx.run(A, "ROLLBACK TO s").await?;
    tx.run(A, "UPDATE accounts SET balance = balance + 1 WHERE id = 1").await?;
    commits(&scene, &tx, "repeated").await?;
    assert_eq!(scene.number(A, "SELECT last_value FROM runs").await?, 2, "each ran once");
    scene.close().await
}

#[tokio::test]
async fn two_copies_of_a_statement_at_once_run_once() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let mut tx = scene.plain("copies", &[A, B]).await?;
    tx.run(B, &note("copies")).await?;
    let first = tx.request(A, 1, &note("copies"));
    let (one, two) = futures::future::join(tx.send(first.clone()), tx.send(first.clone())).await;
    assert_eq!(one?, two?);
    tx.run(A, &first.statement).await?;
    commits(&scene, &tx, "copies").await?;
    scene.close().await
}

#[tokio::test]
async fn a_statement_out_of_order_ends_the_branch() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let skipped = noted(&scene, "skipped").await?;
    let refused = skipped.send(skipped.request(B, 3, "SELECT 1")).await.unwrap_err();
    assert_eq!(refused.codes(), (Code::FailedPrecondition, "VOTUM-2006".into()));
    is_lost(&scene, &skipped, "skipped").await?;

    let mut old = noted(&scene, "old").await?;
    let first = old.request(B, 1, &note("old"));
    old.run(B, "SELECT 1").await?;
    let refused = old.send(first).await.unwrap_err();
    assert_eq!(refused.codes(), (Code::FailedPrecondition, "VOTUM-2006".into()));
    is_lost(&scene, &old, "old").await?;

    let reused = noted(&scene, "reused").await?;
    let refused = reused.send(reused.request(B, 1, "DELETE FROM accounts")).await.unwrap_err();
    assert_eq!(refused.codes(), (Code::FailedPrecondition, "VOTUM-2006".into()));
    is_lost(&scene, &reused, "reused").await?;

    let mut late = scene.plain("late", &[A, B]).await?;
    late.run(A, &note("late")).await?;
    let refused = late.send(late.request(B, 2, &note("late"))).await.unwrap_err();
    assert_eq!(refused.codes(), (Code::Aborted, "VOTUM-2005".into()), "no branch was ever opened");
    assert!(matches!(late.roll_back().await?, Kind::Aborted(_)));
    scene.close().await
}

#[tokio::test]
async fn a_reply_that_was_too_large_to_keep_ends_the_branch_when_it_is_asked_for_again() -> anyhow::Result<()>
{
    let scene = Scene::open(World::builder().agent_setting("stored_reply_bytes", "1000")).await?;
    let mut tx = noted(&scene, "large").await?;
    let large = tx.request(B, 2, "SELECT repeat('x', 2000)");
    let reply = tx.run(B, &large.statement).await?;
    assert_eq!(reply.rows.len(), 1, "larger than what is kept, and answered all the same");
    let refused = tx.send(large).await.unwrap_err();
    assert_eq!(refused.codes(), (Code::Aborted, "VOTUM-2008".into()));
    is_lost(&scene, &tx, "large").await?;
    scene.close().await
}

#[tokio::test]
async fn only_who_was_given_the_secret_and_the_session_takes_part() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let mut tx = noted(&scene, "mine").await?;
    let mine = tx.request(A, 2, "UPDATE accounts SET balance = 0");

    let secret = scene.plain("other", &[]).await?.begun.secret;
    for secret in [Vec::new(), vec![0; 32], secret] {
        let refused = tx.send(v1::ExecuteRequest { secret, ..mine.clone() }).await.unwrap_err();
        assert_eq!(refused.codes(), (Code::PermissionDenied, "VOTUM-2004".into()));
    }
    let session = mine.session.unwrap();
    for session in [
        None,
        Some(v1::SessionName { counter: session.counter + 1, ..session }),
        Some(v1::SessionName { agent_instance: session.agent_instance ^ 1, ..session }),
    ] {
        let refused = tx.send(v1::ExecuteRequest { session, ..mine.clone() }).await.unwrap_err();
        assert_eq!(refused.codes(), (Code::FailedPrecondition, "VOTUM-2007".into()));
    }
    // None of these attempts did anything to the branch.
    tx.run(A, "SELECT 1").await?;
    commits(&scene, &tx, "mine").await?;
    scene.close().await
}

#[tokio::test]
async fn a_transaction_or_participant_that_does_not_exist_is_refused() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let mut tx = noted(&scene, "here").await?;
    let request = tx.request(A, 1, &note("elsewhere"));
    let with = |gtid: &str| v1::ExecuteRequest { gtid: gtid.to_owned(), session: None, ..request.clone() };
    let life = tx.begun.gtid.rsplit_once('-').unwrap().0;
    let id = scene.world.coordinator_id();
    for (gtid, code, ours) in [
        (format!("{life}-99999"), Code::PermissionDenied, "VOTUM-2004"),
        (format!("{id}-9-abcdef-1"), Code::FailedPrecondition, "VOTUM-2003"),
        ("nobody-1-abcdef-1".into(), Code::FailedPrecondition, "VOTUM-2003"),
        ("no gtid".into(), Code::InvalidArgument, "VOTUM-2001"),
    ] {
        let refused = tx.send(with(&gtid)).await.unwrap_err();
        assert_eq!(refused.codes(), (code, ours.into()), "{gtid}");
    }
    let nowhere = v1::ExecuteRequest { participant: "bank-z".into(), ..request.clone() };
    assert_eq!(tx.send(nowhere).await.unwrap_err().codes(), (Code::NotFound, "VOTUM-2002".into()));
    let zeroth = v1::ExecuteRequest { ordinal: 0, ..request.clone() };
    assert_eq!(tx.send(zeroth).await.unwrap_err().codes(), (Code::InvalidArgument, "VOTUM-2001".into()));
    tx.run(A, "SELECT 1").await?;
    commits(&scene, &tx, "here").await?;
    scene.close().await
}

#[tokio::test]
async fn a_statement_of_a_transaction_that_has_ended_is_ended_too() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let mut tx = scene.plain("over", &[A, B]).await?;
    tx.run(A, &note("over")).await?;
    assert!(matches!(tx.roll_back().await?, Kind::Aborted(_)));
    // The agent of b never heard of it, and opens a session; the coordinator has it ended.
    let _ = tx.run(B, &note("over")).await;
    scene.open_sessions(B, 0).await?;
    let answer = tx.commit().await;
    tell(&scene.ledger, "over", &answer);
    reason(answer?)?;
    scene.close().await
}

/// The ways to end or open a transaction that PostgreSQL's scanner sees through.
const CONTROL: [&str; 24] = [
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    ";COMMIT AND CHAIN",
    "; ;; commit and chain",
    "\x0cCOMMIT",
    " \t\r\n\x0ccommit and chain",
    "-- a comment\nCOMMIT",
    "-- a comment\rCOMMIT AND CHAIN",
    "/* a comment */ COMMIT",
    ";;/* a /* b */ */ commit and chain",
    "/* /* -- */ ' */ /**/ END",
    "/**/ROLLBACK/**/WORK/**/AND/**/CHAIN",
    "ROLLBACK TRANSACTION",
    "PREPARE TRANSACTION 'mine'",
    "prepare/**/transaction 'mine'",
    "COMMIT PREPARED 'mine'",
    "ROLLBACK PREPARED 'mine'",
    "COPY journal FROM STDIN",
];

#[tokio::test]
async fn transaction_control_is_refused_however_it_hides() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let mut tx = noted(&scene, "hidden").await?;
    for statement in CONTROL {
        let refused = tx.run(B, statement).await.unwrap_err();
        assert_eq!(refused.codes(), (Code::InvalidArgument, "VOTUM-2014".into()), "{statement:?}");
        assert!(refused.started.is_some(), "{statement:?} uses its ordinal up");
    }
    assert_eq!(scene.number(B, "SELECT count(*) FROM journal").await?, 0, "nothing was committed yet");
    commits(&scene, &tx, "hidden").await?;
    scene.close().await
}

#[tokio::test]
async fn code_in_the_database_cannot_end_the_transaction_either() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    scene.set_up(B, "CREATE PROCEDURE ends() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'").await?;
    let mut tx = noted(&scene, "within").await?;
    for (statement, sqlstate) in [
        ("DO 'BEGIN COMMIT; END'", "2D000"),
        ("DO 'BEGIN ROLLBACK; END'", "2D000"),
        ("CALL ends()", "2D000"),
        // The extended protocol takes one statement at a time.
        ("SELECT 1; COMMIT", "42601"),
        ("SELECT 1; COMMIT AND CHAIN", "42601"),
    ] {
        tx.run(B, "SAVEPOINT before").await?;
        let refused = tx.run(B, statement).await.unwrap_err();
        assert_eq!(refused.sqlstate(), sqlstate, "{statement}: {refused}");
        tx.run(B, "ROLLBACK TO before").await?;
    }
    assert_eq!(scene.number(B, "SELECT count(*) FROM journal").await?, 0, "nothing was committed yet");
    commits(&scene, &tx, "within").await?;
    scene.close().await
}

#[tokio::test]
async fn savepoints_undo_a_part_and_a_failed_statement() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("savepoints", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "savepoints", &[Leg { bank: A, account: 1, amount: -5 }]).await?;
    tx.savepoint(A, "odd \"name\"").await?;
    tx.execute(A, "UPDATE accounts SET balance = 0", &[]).await?;
    assert_eq!(sql_error(tx.execute(A, "SELECT 1/0", &[]).await)?.sqlstate, "22012");
    assert_eq!(sql_error(tx.execute(A, "SELECT 1", &[]).await)?.sqlstate, "25P02");
    tx.rollback_to(A, "odd \"name\"").await?;
    tx.release(A, "odd \"name\"").await?;
    // Where it is the branch's first statement, too.
    tx.savepoint(B, "s").await?;
    let _ = tx.execute(B, "SELECT * FROM nothing", &[]).await;
    for statement in ["ROLLBACK TO s", "rollback work to savepoint s", "/**/ ROLLBACK TRANSACTION TO s"] {
        tx.execute(B, statement, &[]).await?;
    }
    work(&tx, "savepoints", &[Leg { bank: B, account: 1, amount: 5 }]).await?;
    assert!(scene.teller.commit(tx, "savepoints").await?.is_committed());
    assert_eq!((scene.balance(A, 1).await?, scene.balance(B, 1).await?), (995, 1_005));
    scene.close().await
}

#[tokio::test]
async fn an_error_says_what_the_database_said() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("errors", &[], scene.teller.votum().begin()).await?;
    let error = sql_error(tx.execute(A, "SELECT * FROM accounts WHERE nothing = 1", &[]).await)?;
    assert_eq!(
        (error.sqlstate.as_str(), error.severity.as_str(), error.position),
        ("42703", "ERROR", Some(30))
    );
    tx.rollback().await?;

    let tx = scene.begin("more errors", &[], scene.teller.votum().begin()).await?;
    let error = sql_error(tx.execute(A, "INSERT INTO accounts VALUES (1, 1)", &[]).await)?;
    let found = [&error.sqlstate, &error.schema, &error.table, &error.constraint, &error.detail];
    assert_eq!(found, ["23505", "public", "accounts", "accounts_pkey", "Key (id)=(1) already exists."]);
    let refused = refusal(tx.execute(B, "COMMIT", &[]).await)?;
    assert_eq!((refused.code.as_str(), refused.participant.as_str()), ("VOTUM-2014", B));
    assert!(matches!(tx.execute("bank-z", "SELECT 1", &[]).await, Err(Error::NoSuchParticipant { .. })));
    let gtid = tx.gtid().to_owned();
    drop(tx);
    assert!(matches!(scene.ended(&gtid).await?, Status::Aborted(_)));
    scene.close().await
}
