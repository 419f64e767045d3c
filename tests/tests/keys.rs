//! Idempotency keys: the work that a key stands for is done once.

use votum_client::{Begin, Error, Outcome, Status, Votum};
use votum_tests::expect::refusal;
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::{Leg, work};

const LEGS: [Leg<'static>; 2] =
    [Leg { bank: A, account: 1, amount: -5 }, Leg { bank: B, account: 1, amount: 5 }];

/// The same invoice each time; the label is part of what a key stands for.
fn invoice(votum: &Votum) -> Begin {
    votum.begin().idempotency_key("invoice-4711").digest("4711: 5").label("invoice")
}

/// Pays the invoice in a transaction that stays open.
async fn pay(scene: &Scene, name: &str) -> Result<votum_client::Transaction, Error> {
    scene.ledger.intend(name, [A, B]);
    let tx = invoice(scene.teller.votum()).await?;
    scene.ledger.begun(name, tx.gtid());
    work(&tx, name, &LEGS).await?;
    Ok(tx)
}

/// The gtid that stands behind the key, and whether it is alive.
async fn taken(begin: Begin) -> anyhow::Result<(String, bool)> {
    match begin.await {
        Err(Error::KeyTaken { gtid, alive, .. }) => Ok((gtid, alive)),
        other => anyhow::bail!("the key is not taken: {other:?}"),
    }
}

#[tokio::test]
async fn a_key_in_use_refuses_a_second_transaction_and_names_the_first() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let votum = scene.teller.votum();
    let tx = pay(&scene, "paid").await?;
    assert_eq!(taken(invoice(votum)).await?, (tx.gtid().to_owned(), true));
    let found = votum.transaction_by_key("invoice-4711").await?;
    assert_eq!(found.gtid, tx.gtid());
    assert!(matches!(found.status, Status::InProgress { .. }), "{found:?}");
    assert!(scene.teller.commit(tx, "paid").await?.is_committed());
    scene.close().await
}

#[tokio::test]
async fn a_retry_after_the_commit_finds_the_stored_outcome_also_after_a_crash() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let votum = scene.teller.votum();
    let tx = pay(&scene, "paid").await?;
    let gtid = tx.gtid().to_owned();
    assert!(scene.teller.commit(tx, "paid").await?.is_committed());
    for crashed in [false, true] {
        if crashed {
            scene.world.crash_and_restart_coordinator().await?;
        }
        assert_eq!(taken(invoice(votum)).await?, (gtid.clone(), false), "crashed: {crashed}");
        let found = votum.transaction_by_key("invoice-4711").await?;
        assert_eq!(found.gtid, gtid);
        assert!(matches!(found.status, Status::Committed(_)), "crashed: {crashed}: {found:?}");
        let other_work = invoice(votum).digest("4711: 500");
        assert_eq!(refusal(other_work.await)?.code, "VOTUM-1207", "crashed: {crashed}");
    }
    assert_eq!(scene.balance(A, 1).await?, 995);
    scene.close().await
}

#[tokio::test]
async fn the_same_key_for_other_work_is_refused_while_it_is_alive() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let votum = scene.teller.votum();
    let tx = pay(&scene, "paid").await?;
    for other in
        [invoice(votum).digest("4711: 500"), invoice(votum).read_only(), invoice(votum).label("else")]
    {
        let refused = refusal(other.await)?;
        assert_eq!((refused.code.as_str(), refused.grpc), ("VOTUM-1207", tonic::Code::InvalidArgument));
        assert_eq!(refused.gtid, tx.gtid());
    }
    // Another timeout is not other work.
    let patient = invoice(votum).timeout(std::time::Duration::from_secs(77));
    assert_eq!(taken(patient).await?.0, tx.gtid());
    assert!(scene.teller.commit(tx, "paid").await?.is_committed());
    scene.close().await
}

#[tokio::test]
async fn a_key_is_free_again_after_an_abort() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = pay(&scene, "rolled back").await?;
    assert!(matches!(tx.rollback().await?, Outcome::Aborted(_)));

    let tx = pay(&scene, "lost in a crash").await?;
    scene.world.crash_and_restart_coordinator().await?;
    assert!(matches!(scene.teller.commit(tx, "lost in a crash").await?, Outcome::Aborted(_)));

    let tx = pay(&scene, "paid").await?;
    assert!(scene.teller.commit(tx, "paid").await?.is_committed());
    assert_eq!(scene.balance(A, 1).await?, 995);
    scene.close().await
}

#[tokio::test]
async fn a_transaction_that_wrote_nothing_keeps_no_key() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = invoice(scene.teller.votum()).await?;
    tx.query(A, "SELECT * FROM accounts", &[]).await?;
    assert_eq!(tx.commit().await?, Outcome::ReadOnly);
    let tx = pay(&scene, "paid").await?;
    assert!(scene.teller.commit(tx, "paid").await?.is_committed());
    scene.close().await
}

#[tokio::test]
async fn keys_of_different_clients_are_different_keys() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = pay(&scene, "ours").await?;
    let other = Votum::options().client_name("shop").connect(&scene.world.address().to_string()).await?;
    scene.ledger.intend("theirs", [A, B]);
    let theirs = invoice(&other).await?;
    scene.ledger.begun("theirs", theirs.gtid());
    assert!(scene.teller.commit(tx, "ours").await?.is_committed());
    work(&theirs, "theirs", &LEGS).await?;
    assert!(scene.teller.commit(theirs, "theirs").await?.is_committed());
    scene.close().await
}
