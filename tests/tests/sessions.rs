//! More work than sessions: who waits is told, and what is decided is delivered past all who wait.

use std::time::Duration;

use futures::future::join_all;
use tonic::Code;
use votum_client::Error;
use votum_proto::v1::outcome::Kind;
use votum_tests::eventually::{Found, eventually};
use votum_tests::expect::refusal;
use votum_tests::plain::{note, tell};
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::{Leg, work};
use votum_tests::world::{Builder, World};

const LEGS: [Leg<'static>; 2] =
    [Leg { bank: A, account: 1, amount: -5 }, Leg { bank: B, account: 1, amount: 5 }];

/// Nobody is turned away because the machine is slow.
fn few_for_whom_one_waits(sessions: &str) -> Builder {
    World::builder().agent_setting("sessions", sessions).agent_setting("session_queue_ms", "30000")
}

#[tokio::test]
async fn who_finds_no_free_session_is_told_and_may_try_again() -> anyhow::Result<()> {
    let few = World::builder().agent_setting("sessions", "2").agent_setting("session_queue_ms", "200");
    let scene = Scene::open(few).await?;
    let votum = scene.teller.votum();
    let (mut open, names) = (Vec::new(), ["first", "second"]);
    for (account, name) in (1..).zip(names) {
        let tx = scene.begin(name, &[A, B], votum.begin()).await?;
        work(&tx, name, &LEGS.map(|leg| Leg { account, ..leg })).await?;
        open.push(tx);
    }
    let third = scene.begin("third", &[A, B], votum.begin()).await?;
    let refused = refusal(third.execute(A, "SELECT 1", &[]).await)?;
    assert_eq!((refused.grpc, refused.code.as_str()), (Code::ResourceExhausted, "VOTUM-2010"));
    assert!(refused.retryable && refused.participant == A, "{refused}");

    for (tx, name) in open.into_iter().zip(names) {
        assert!(scene.teller.commit(tx, name).await?.is_committed());
    }
    // Nothing of it had happened: the same transaction goes on, as soon as a session is free.
    for bank in [A, B] {
        eventually("a session is free", async || {
            Ok(match third.execute(bank, "SELECT 1", &[]).await {
                Ok(_) => Found::Yes(()),
                Err(busy) => Found::NotYet(refusal(Err::<(), _>(busy))?.to_string()),
            })
        })
        .await?;
    }
    work(&third, "third", &LEGS).await?;
    assert!(scene.teller.commit(third, "third").await?.is_committed());
    scene.close().await
}

#[tokio::test]
async fn a_session_is_waited_for_before_anybody_is_turned_away() -> anyhow::Result<()> {
    let scene = Scene::open(few_for_whom_one_waits("2")).await?;
    let transfers = (0..20).map(|n| {
        let (scene, name) = (&scene, format!("t{n}"));
        async move { scene.teller.transfer(&name, &LEGS).await }
    });
    for outcome in join_all(transfers).await {
        assert!(outcome?.is_committed());
    }
    scene.close().await
}

#[tokio::test]
async fn a_commit_is_delivered_while_every_session_waits_for_a_lock() -> anyhow::Result<()> {
    let scene = Scene::open(few_for_whom_one_waits("3")).await?;
    let mut holder = scene.plain("holder", &[A, B]).await?;
    for bank in [A, B] {
        holder.run(bank, "UPDATE accounts SET balance = balance WHERE id = 1").await?;
        holder.run(bank, &note("holder")).await?;
    }
    let waiting = (0..3).map(|n| {
        let (scene, name) = (&scene, format!("waiting {n}"));
        async move { scene.teller.transfer(&name, &LEGS).await }
    });
    let commit = async {
        // Two have a session and wait for the holder's lock; the third gets the holder's own session as soon
        // as that is prepared, and then waits too.
        scene.waiting_for_locks(A, 2).await?;
        let answer = holder.commit().await;
        tell(&scene.ledger, "holder", &answer);
        anyhow::Ok(answer?)
    };
    let (outcomes, committed) = futures::future::join(join_all(waiting), commit).await;
    assert!(matches!(committed?, Kind::Committed(committed) if committed.completed));
    for outcome in outcomes {
        assert!(outcome?.is_committed());
    }
    scene.close().await
}

#[tokio::test]
async fn a_deadlock_across_two_databases_ends_at_the_timeout() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let votum = scene.teller.votum();
    let begin = || votum.begin().timeout(Duration::from_millis(2_000));
    let (forth, back) =
        (scene.begin("forth", &[A, B], begin()).await?, scene.begin("back", &[A, B], begin()).await?);
    let [at_a, at_b] = LEGS;
    work(&forth, "forth", &[at_a]).await?;
    work(&back, "back", &[at_b]).await?;
    let (one, two) =
        futures::future::join(work(&forth, "forth", &[at_b]), work(&back, "back", &[at_a])).await;
    assert!(one.is_err() || two.is_err(), "neither server sees the cycle, and both went on");
    for (tx, name, worked) in [(forth, "forth", one), (back, "back", two)] {
        let outcome = scene.teller.commit(tx, name).await?;
        assert!(worked.is_ok() || !outcome.is_committed(), "{name}: {outcome}");
    }
    for bank in [A, B] {
        scene.open_sessions(bank, 0).await?;
    }
    scene.close().await
}

#[tokio::test]
async fn a_statement_given_up_by_its_client_makes_the_transaction_roll_back() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let holder = scene.direct(B).await?;
    holder.batch_execute("BEGIN; SELECT FROM accounts WHERE id = 1 FOR UPDATE").await?;
    let tx = scene.begin("given up", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "given up", &LEGS[..1]).await?;
    {
        let second = std::pin::pin!(work(&tx, "given up", &LEGS[1..]));
        let waits = std::pin::pin!(scene.waiting_for_locks(B, 1));
        let waited = futures::future::select(second, waits).await;
        assert!(matches!(waited, futures::future::Either::Right((Ok(()), _))));
    }
    // Whether it ran nobody can tell (I15).
    assert!(matches!(tx.execute(B, "SELECT 1", &[]).await, Err(Error::BranchLost { .. })));
    assert!(!scene.teller.commit(tx, "given up").await?.is_committed());
    scene.open_sessions(B, 0).await?;
    holder.batch_execute("COMMIT").await?;
    scene.close().await
}
