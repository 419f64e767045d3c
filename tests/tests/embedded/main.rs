//! Coordinator, log and agents within the application's own process, as the client crate offers it: the same
//! promises as with servers, one process that dies with all of them, and one that opens the directory again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

mod crashes;
mod disk;

use std::sync::Arc;
use std::time::Duration;

use votum_client::embedded::OpenError;
use votum_client::{AbortKind, Error, Outcome, Status, Votum};
use votum_coordinator::log::RefusalKind;
use votum_proto::names::Gtid;
use votum_tests::embedded::opening;
use votum_tests::eventually::{Found, eventually};
use votum_tests::expect;
use votum_tests::ledger::Ledger;
use votum_tests::postgres::ROLE;
use votum_tests::teller::Teller;
use votum_tests::tool::votumctl;
use votum_tests::world::{Bank, World};

/// An embedded coordinator over two banks, and a teller who writes down what clients are told.
struct Here {
    world: World,
    votum: Votum,
    ledger: Arc<Ledger>,
    teller: Teller,
}

impl Here {
    async fn open() -> Self {
        let world = World::builder().prepare().await.unwrap();
        // What is open at the end is not waited for for long.
        let opening = world.embedded().unwrap().limits(|limits| limits.drain_ms = 500);
        let votum = Box::pin(opening.open()).await.unwrap();
        let ledger = Arc::new(Ledger::new());
        let teller = Teller::new(votum.clone(), &ledger);
        Self { world, votum, ledger, teller }
    }

    async fn transfer(&self, name: &str) -> Outcome {
        self.teller.transfer(name, &self.world.legs(10)).await.unwrap()
    }

    /// Every test ends with it: the judgement, and the end.
    async fn close(self) {
        self.world.check_by(&self.votum, &self.ledger).await.unwrap();
        self.votum.shutdown().await.unwrap();
    }
}

fn gtid(text: &str) -> Gtid {
    text.parse().unwrap()
}

/// The connections of ours at a bank, by what they did last.
async fn connections(bank: &Bank) -> Vec<String> {
    let ours = "SELECT concat_ws(' ', state, left(query, 60)) FROM pg_stat_activity
                 WHERE datname = current_database() AND usename = $1";
    let rows = bank.client().await.unwrap().query(ours, &[&ROLE]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_process_that_hosts_coordinator_and_agents_commits_on_two_databases() {
    let here = Here::open().await;
    for n in 0..5 {
        let committed = expect::committed(here.transfer(&format!("t{n}")).await).unwrap();
        assert!(committed.completed, "{committed:?}");
    }
    let sum = "SELECT balance FROM accounts WHERE id = 1";
    assert_eq!(here.world.banks[0].number(sum).await.unwrap(), 950);
    assert_eq!(here.world.banks[1].number(sum).await.unwrap(), 1050);
    here.close().await;
}

#[tokio::test]
async fn an_embedded_transaction_that_is_rolled_back_or_refused_leaves_nothing() {
    let here = Here::open().await;
    let legs = here.world.legs(10);
    let tx = here.teller.open("dropped", &legs).await.unwrap();
    votum_tests::teller::work(&tx, "dropped", &legs).await.unwrap();
    let dropped = tx.gtid().to_owned();
    drop(tx);
    let abort = eventually("the dropped transaction has ended", async || {
        Ok(match here.votum.transaction(&dropped).await?.status {
            Status::InProgress { state } => Found::NotYet(state),
            status => Found::Yes(expect::found_aborted(status)?),
        })
    });
    // Not at its timeout.
    assert_eq!(abort.await.unwrap().kind, AbortKind::RolledBack);
    let tx = here.teller.open("rolled-back", &legs).await.unwrap();
    votum_tests::teller::work(&tx, "rolled-back", &legs).await.unwrap();
    expect::aborted(tx.rollback().await.unwrap()).unwrap();
    // The balance may not go below zero.
    let refused = here.teller.transfer("too-much", &here.world.legs(5_000)).await;
    assert_eq!(expect::sql_error(refused).unwrap().sqlstate, "23514");
    here.close().await;
}

#[tokio::test]
async fn an_embedded_transaction_that_wrote_nothing_is_read_only() {
    let here = Here::open().await;
    let tx = here.votum.begin().await.unwrap();
    for bank in &here.world.banks {
        let rows = tx.query(&bank.name, "SELECT id FROM accounts ORDER BY id", &[]).await.unwrap();
        // More than one piece of a reply.
        assert_eq!(rows.len(), 10);
    }
    let rows =
        tx.query(&here.world.banks[0].name, "SELECT generate_series(1, 1000) AS n", &[]).await.unwrap();
    assert_eq!(rows[999].get::<i64>("n").unwrap(), 1000);
    assert_eq!(tx.commit().await.unwrap(), Outcome::ReadOnly);
    here.close().await;
}

#[tokio::test]
async fn a_key_stands_for_its_commit_also_after_the_directory_was_opened_again() {
    let mut here = Here::open().await;
    let legs = here.world.legs(10);
    here.ledger.intend("invoice", here.world.banks.iter().map(|bank| bank.name.as_str()));
    let tx = here.votum.begin().idempotency_key("invoice").digest("10").await.unwrap();
    let name = tx.gtid().to_owned();
    votum_tests::teller::work(&tx, "invoice", &legs).await.unwrap();
    here.ledger.begun("invoice", &name);
    assert!(here.teller.commit(tx, "invoice").await.unwrap().is_committed());
    for reopened in [false, true] {
        if reopened {
            here.votum.shutdown().await.unwrap();
            here.votum = Box::pin(here.world.embedded().unwrap().open()).await.unwrap();
        }
        match here.votum.begin().idempotency_key("invoice").digest("10").await {
            Err(Error::KeyTaken { gtid, alive: false, .. }) => assert_eq!(gtid, name),
            other => panic!("{other:?}"),
        }
        let other_work = here.votum.begin().idempotency_key("invoice").digest("11").await;
        assert_eq!(expect::refusal(other_work).unwrap().code, "VOTUM-1207");
        let found = here.votum.transaction_by_key("invoice").await.unwrap();
        assert!(matches!(found.status, Status::Committed(_)), "{found:?}");
    }
    here.close().await;
}

#[tokio::test]
async fn the_same_process_opens_a_closed_directory_again_and_the_epoch_rises_by_one() {
    let mut here = Here::open().await;
    let mut last = None;
    for n in 0..4 {
        let name = format!("t{n}");
        assert!(here.transfer(&name).await.is_committed());
        let this = gtid(here.ledger.transfers()[&name].gtid.as_ref().unwrap()).life.epoch.0;
        assert_eq!(last.map_or(this, |last: u64| last + 1), this);
        last = Some(this);
        let teller = |votum: &Votum| Teller::new(votum.clone(), &here.ledger);
        if n % 2 == 0 {
            here.votum.shutdown().await.unwrap();
            here.votum = Box::pin(here.world.embedded().unwrap().open()).await.unwrap();
            here.teller = teller(&here.votum);
        } else {
            // Dropped, with everything that knows of it: it closes in the background. The patience of `open`
            // covers that.
            let Here { world, votum, ledger, teller } = here;
            drop((votum, teller));
            let votum = Box::pin(world.embedded().unwrap().open()).await.unwrap();
            let teller = Teller::new(votum.clone(), &ledger);
            here = Here { world, votum, ledger, teller };
        }
    }
    here.close().await;
}

#[tokio::test]
async fn nothing_of_a_closed_one_is_left_and_nothing_of_it_answers() {
    let here = Here::open().await;
    let legs = here.world.legs(10);
    assert!(here.transfer("before").await.is_committed());
    let tx = here.teller.open("open", &legs).await.unwrap();
    votum_tests::teller::work(&tx, "open", &legs).await.unwrap();
    here.votum.shutdown().await.unwrap();

    for bank in &here.world.banks {
        let name = &bank.name;
        eventually(&format!("no connection of ours is left at {name}"), async || {
            let left = connections(bank).await;
            Ok(if left.is_empty() { Found::Yes(()) } else { Found::NotYet(format!("{left:?}")) })
        })
        .await
        .unwrap();
    }
    let refused = expect::refusal(here.votum.begin().await).unwrap();
    assert!(refused.message.contains("was shut down"), "{refused:?}");
    // Nobody acted upon this Commit: it is refused, and nothing of it was done.
    let refused = expect::refusal(here.teller.commit(tx, "open").await).unwrap();
    assert!(refused.message.contains("was shut down"), "{refused:?}");
    here.votum.shutdown().await.unwrap();

    let votum = Box::pin(here.world.embedded().unwrap().open()).await.unwrap();
    here.world.check_by(&votum, &here.ledger).await.unwrap();
    votum.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_second_opener_of_the_same_directory_is_refused() {
    let here = Here::open().await;
    match Box::pin(here.world.embedded().unwrap().open()).await {
        Err(OpenError::Log(refusal)) => assert_eq!(refusal.kind, RefusalKind::InUse, "{refusal}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two have one log"),
    }
    // The first one has not suffered.
    assert!(here.transfer("still").await.is_committed());
    here.close().await;
}

#[tokio::test]
async fn a_directory_without_a_log_is_refused_unless_one_is_to_be_made() {
    let world = World::builder().prepare().await.unwrap();
    let directory = world.dir().join("elsewhere").join("log");
    let fresh = || opening(&directory, "fresh", world.participants().unwrap());
    match Box::pin(fresh().open()).await {
        Err(OpenError::Log(refusal)) => assert_eq!(refusal.kind, RefusalKind::NotInitialized, "{refusal}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a log was begun by mistake"),
    }
    assert!(!directory.exists());
    for name in ["first", "again"] {
        let votum = Box::pin(fresh().initialize_if_empty().open()).await.unwrap();
        let teller = Teller::new(votum.clone(), &Arc::new(Ledger::new()));
        assert!(teller.transfer(name, &world.legs(1)).await.unwrap().is_committed());
        votum.shutdown().await.unwrap();
    }
    // Another coordinator's log is nobody's own.
    match Box::pin(fresh().coordinator_id("other").initialize_if_empty().open()).await {
        Err(OpenError::Log(refusal)) => assert_eq!(refusal.kind, RefusalKind::OtherCoordinator, "{refusal}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a log changed its coordinator"),
    }
}

#[tokio::test]
async fn everything_that_is_set_wrongly_is_said_at_once() {
    let world = World::builder().prepare().await.unwrap();
    let mut participants = world.participants().unwrap();
    participants.push(participants[0].clone());
    let wrong = opening(world.log_directory(), "No Name", participants)
        .limits(|limits| limits.max_transactions = 0)
        .log(|log| log.lease = 0)
        .operator("0.0.0.0:7400");
    let Err(OpenError::Misconfigured(problems)) = Box::pin(wrong.open()).await else { panic!("accepted") };
    for about in ["two participants", "max_transactions", "log.lease", "coordinator_id", "operator"] {
        let said = problems.iter().filter(|problem| problem.contains(about)).count();
        assert_eq!(said, 1, "{about}: {problems:?}");
    }
}

#[tokio::test]
async fn a_transaction_is_handed_over_within_the_process_and_nowhere_else() {
    let here = Here::open().await;
    let legs = here.world.legs(10);
    let tx = here.teller.open("handed-over", &legs).await.unwrap();
    votum_tests::teller::work(&tx, "handed-over", &legs).await.unwrap();
    let export = tx.export().unwrap();
    let tx = here.votum.import(export.clone()).unwrap();
    assert!(here.teller.commit(tx, "handed-over").await.unwrap().is_committed());

    here.votum.shutdown().await.unwrap();
    here.world.start_all().await.unwrap();
    let elsewhere = Votum::connect(&here.world.address().to_string()).await.unwrap();
    assert!(matches!(elsewhere.import(export), Err(Error::Address(_))));
    here.world.check(&here.ledger).await.unwrap();
}

#[tokio::test]
async fn votumctl_shows_a_running_one_and_reads_the_log_of_a_stopped_one() {
    let here = Here::open().await;
    here.votum.shutdown().await.unwrap();
    let opening = here.world.embedded().unwrap().operator(here.world.address().to_string());
    let votum = Box::pin(opening.open()).await.unwrap();
    let teller = Teller::new(votum.clone(), &here.ledger);
    assert!(teller.transfer("shown", &here.world.legs(10)).await.unwrap().is_committed());
    let name = here.ledger.transfers()["shown"].gtid.clone().unwrap();

    let status = votumctl(&here.world, &["status", "--json"]).await.unwrap().ended(0).json().unwrap();
    let participants = status["participants"].as_array().unwrap();
    assert_eq!(participants.len(), 2, "{status}");
    assert!(participants.iter().all(|participant| participant["connected"] == true), "{status}");
    let shown = votumctl(&here.world, &["show", &name]).await.unwrap().ended(0);
    assert!(shown.out.contains(&name), "{shown:?}");
    // Applications are not served there.
    let stranger = Votum::options().retry_budget(Duration::from_millis(200));
    let stranger = stranger.connect(&here.world.address().to_string()).await.unwrap();
    assert!(stranger.begin().await.is_err());

    here.world.check_by(&votum, &here.ledger).await.unwrap();
    votum.shutdown().await.unwrap();
    votumctl(&here.world, &["status"]).await.unwrap().ended(3);
    let directory = here.world.log_directory().display().to_string();
    let offline = |words: &[&str]| {
        let words: Vec<String> = words
            .iter()
            .map(|word| (*word).to_owned())
            .chain(["--directory".into(), directory.clone()])
            .collect();
        let world = &here.world;
        async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            votumctl(world, &words).await.unwrap()
        }
    };
    let shown = offline(&["show", &name]).await.ended(0);
    assert!(shown.out.contains("ommitted"), "{shown:?}");
    offline(&["log", "verify"]).await.ended(0);
}

#[tokio::test]
async fn separate_processes_go_on_with_the_log_of_an_embedded_coordinator() {
    let here = Here::open().await;
    assert!(here.transfer("embedded").await.is_committed());
    here.votum.shutdown().await.unwrap();
    here.world.start_all().await.unwrap();
    let teller = Teller::connect(&here.world, &here.ledger).await.unwrap();
    assert!(teller.transfer("processes", &here.world.legs(5)).await.unwrap().is_committed());
    here.world.check(&here.ledger).await.unwrap();
}
