//! A process that embeds Votum, killed with all that is in it, and what the next opening makes of that.

use std::sync::Arc;

use votum_client::{Error, Status, Votum};
use votum_coordinator::crash::CrashPoint as AtCoordinator;
use votum_participant::crash::CrashPoint as AtAgent;
use votum_tests::embedded::says;
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::Ledger;
use votum_tests::process::Process;
use votum_tests::scene::A;
use votum_tests::teller::Teller;
use votum_tests::world::World;

/// Where a process dies in the midst of its transfer, and what becomes of that.
struct Case {
    point: &'static str,
    committed: bool,
    /// How many branches are prepared when it is dead, where that is certain.
    prepared: Option<usize>,
}

fn cases() -> Vec<Case> {
    let coordinator =
        |point: AtCoordinator, committed, prepared| Case { point: point.name(), committed, prepared };
    let agent = |point: AtAgent, committed| Case { point: point.name(), committed, prepared: None };
    vec![
        coordinator(AtCoordinator::BeforeFirstPrepare, false, Some(0)),
        agent(AtAgent::AfterPrepare, false),
        coordinator(AtCoordinator::VotesIn, false, Some(2)),
        // What was appended survives the process: only a machine's crash could lose it.
        coordinator(AtCoordinator::DecisionAppended, true, Some(2)),
        coordinator(AtCoordinator::DecisionForced, true, Some(2)),
        coordinator(AtCoordinator::ClientTold, true, Some(2)),
        agent(AtAgent::BeforeCommitPrepared, true),
        agent(AtAgent::DuringCommitPrepared, true),
        agent(AtAgent::AfterCommitPrepared, true),
        coordinator(AtCoordinator::AllAcknowledged, true, Some(0)),
    ]
}

/// I4, I5, I6, I13, I14, I15: one log and one pair of databases, over all of the points.
#[tokio::test]
async fn a_process_killed_at_any_point_of_a_commit_is_settled_by_the_next_opening() {
    let world = World::builder().prepare().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    for Case { point, committed, prepared } in cases() {
        let process = world.embedded_process(&[point], &[]).unwrap();
        process.start(Some(point)).unwrap();
        process.wait_crash().await.unwrap();
        if let Some(prepared) = prepared {
            let found = world.prepared().await.unwrap();
            assert_eq!(found.len(), prepared, "{point}: {found:?}");
        }
        hear(&world, &process, &ledger);
        let votum = reopened(&world).await;
        settled(&votum, &ledger, point, committed).await;
        world.check_by(&votum, &ledger).await.unwrap();
        votum.shutdown().await.unwrap();
    }
}

/// Waits until the transfer is known to have ended as it must, and says what its key stands for.
async fn settled(votum: &Votum, ledger: &Ledger, name: &str, committed: bool) {
    let gtid = ledger.transfers()[name].gtid.clone().unwrap();
    eventually(&format!("{gtid} of {name} has ended"), async || {
        Ok(match votum.transaction(&gtid).await?.status {
            Status::Committed(end) if end.completed && committed => Found::Yes(()),
            Status::Aborted(_) if !committed => Found::Yes(()),
            other @ (Status::Committed(_) | Status::InProgress { .. }) if committed => {
                Found::NotYet(format!("{other:?}"))
            }
            other => panic!("{name}: {other:?}"),
        })
    })
    .await
    .unwrap();
    match votum.begin().label(name).idempotency_key(name).digest(name).await {
        Err(Error::KeyTaken { gtid: holder, alive: false, .. }) if committed => assert_eq!(holder, gtid),
        Ok(tx) if !committed => drop(tx.rollback().await.unwrap()),
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_settles_is_settled_by_the_one_after() {
    let world = World::builder().prepare().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let first = world.embedded_process(&["twice"], &[]).unwrap();
    first.start(Some(AtCoordinator::DecisionForced.name())).unwrap();
    first.wait_crash().await.unwrap();
    hear(&world, &first, &ledger);
    let second = world.embedded_process(&[], &[]).unwrap();
    second.start(Some(AtAgent::BeforeCommitPrepared.name())).unwrap();
    second.wait_crash().await.unwrap();
    assert_eq!(world.prepared().await.unwrap().len(), 2);

    let votum = reopened(&world).await;
    settled(&votum, &ledger, "twice", true).await;
    world.check_by(&votum, &ledger).await.unwrap();
    votum.shutdown().await.unwrap();
}

/// The next opening begins without the database, is shut down without it, and the one after finds it.
#[tokio::test]
async fn a_commit_owed_to_a_database_that_is_down_is_delivered_by_the_opening_that_finds_it() {
    let own_server = votum_tests::postgres::Options::default();
    let world = World::builder().own_first_server(own_server).prepare().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let process = world.embedded_process(&["owed"], &[]).unwrap();
    process.start(Some(AtCoordinator::DecisionForced.name())).unwrap();
    process.wait_crash().await.unwrap();
    hear(&world, &process, &ledger);
    world.banks[0].server.crash().await.unwrap();

    let votum = reopened(&world).await;
    let gtid = ledger.transfers()["owed"].gtid.clone().unwrap();
    eventually("only the database that is down owes its acknowledgement", async || {
        Ok(match votum.transaction(&gtid).await?.status {
            Status::Committed(end) if end.pending == [A] => Found::Yes(()),
            other => Found::NotYet(format!("{other:?}")),
        })
    })
    .await
    .unwrap();
    votum.shutdown().await.unwrap();

    world.banks[0].server.restart().await.unwrap();
    let votum = reopened(&world).await;
    settled(&votum, &ledger, "owed", true).await;
    world.check_by(&votum, &ledger).await.unwrap();
    votum.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_process_killed_amid_many_transfers_keeps_every_one_of_which_it_told() {
    let world = World::builder().prepare().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    for round in 1..=3 {
        let clients = format!("--name=r{round}");
        let process = world.embedded_process(&[], &["--clients=4", &clients]).unwrap();
        let before = told(&process);
        process.start(None).unwrap();
        eventually("it has told of many", async || {
            let told = told(&process);
            Ok(if told >= before + 25 { Found::Yes(()) } else { Found::NotYet(process.log_tail()) })
        })
        .await
        .unwrap();
        process.kill9().unwrap();
        hear(&world, &process, &ledger);
        let votum = reopened(&world).await;
        world.check_by(&votum, &ledger).await.unwrap();
        let teller = Teller::new(votum.clone(), &ledger);
        let name = format!("after-{round}");
        assert!(teller.transfer(&name, &world.legs(1)).await.unwrap().is_committed());
        votum.shutdown().await.unwrap();
    }
}

async fn reopened(world: &World) -> Votum {
    Box::pin(world.embedded().unwrap().open()).await.unwrap()
}

fn hear(world: &World, process: &Process, ledger: &Ledger) {
    let text = std::fs::read_to_string(process.log()).unwrap();
    world.hear(&text, ledger, says::TOLD).unwrap();
}

/// How many lines of its output tell an outcome.
fn told(process: &Process) -> usize {
    let text = std::fs::read_to_string(process.log()).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(says::TOLD)).count()
}
