//! Whole transactions of which the last branch decides by its own commit: what is prepared and what is not, and whoever
//! dies meanwhile, told as the marker says.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::sync::Arc;
use std::time::Duration;

use votum_client::{Outcome, Status, Transacted, Votum, Wait};
use votum_coordinator::crash::CrashPoint as AtCoordinator;
use votum_participant::crash::CrashPoint as AtAgent;
use votum_proto::names::Gtid;
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::Ledger;
use votum_tests::postgres::Options;
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::Teller;
use votum_tests::world::{Builder, World};

/// Two banks, of which these keep markers from the first session on.
async fn prepare(builder: Builder, markers: &[usize]) -> World {
    let world = builder.banks(2).prepare().await.unwrap();
    for (place, bank) in world.banks.iter().enumerate() {
        if markers.contains(&place) {
            bank.keep_markers().await.unwrap();
        }
        bank.agent.start(None).unwrap();
    }
    world
}

async fn open(builder: Builder, markers: &[usize]) -> Scene {
    let world = prepare(builder, markers).await;
    world.start_coordinator(None).await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    Scene { world, ledger, teller }
}

/// A transfer of which the last branch that can decides, under its name as key.
async fn shoot(world: &World, teller: &Teller, name: &str) -> Transacted {
    let shot = teller.votum().transact().last_agent().idempotency_key(name);
    teller.at_once(shot, name, &world.legs(10)).await.unwrap()
}

/// The kinds of the records that the log holds of a transaction.
async fn records(world: &World, gtid: &str) -> Vec<String> {
    let request = v1::ShowTransactionRequest { gtid: gtid.to_owned() };
    let shown = world.operator().unwrap().show_transaction(request).await.unwrap().into_inner();
    shown.records.into_iter().map(|record| record.kind).collect()
}

/// What the marker of a transaction's branch at a bank says, if there is one.
async fn marker(world: &World, bank: usize, gtid: &str) -> Option<bool> {
    let gtid: Gtid = gtid.parse().unwrap();
    let (epoch, seq) = (i64::try_from(gtid.life.epoch.0).unwrap(), i64::try_from(gtid.seq).unwrap());
    let client = world.banks[bank].client().await.unwrap();
    let ask = "SELECT committed FROM votum.marker WHERE epoch = $1 AND seq = $2";
    client.query_opt(ask, &[&epoch, &seq]).await.unwrap().map(|row| row.get(0))
}

#[tokio::test]
async fn the_last_branch_commits_unprepared_and_its_siblings_follow() {
    let scene = open(World::builder(), &[0, 1]).await;
    let Scene { world, teller, .. } = &scene;
    // New to the sessions, and met.
    for round in 0..3 {
        let done = shoot(world, teller, &format!("transfer-{round}")).await;
        let Outcome::Committed(committed) = &done.outcome else { panic!("{}", done.outcome) };
        assert!(committed.completed && committed.heuristics.is_empty(), "{committed:?}");
        assert_eq!(done.decided_by.as_deref(), Some(B));
        for bank in [A, B] {
            let counts: Vec<_> = done.results(bank).iter().map(|result| result.row_count).collect();
            assert_eq!(counts, [1, 1], "{bank}");
        }
        // The answer waited for no record of it.
        eventually("its end is in the log", async || {
            let records = records(world, &done.gtid).await;
            Ok(match records == ["Delegated", "Decided", "Ended"] {
                true => Found::Yes(()),
                false => Found::NotYet(format!("{records:?}")),
            })
        })
        .await
        .unwrap();
        assert_eq!(
            (marker(world, 0, &done.gtid).await, marker(world, 1, &done.gtid).await),
            (Some(true), Some(true))
        );
    }
    scene.close().await.unwrap();
}

/// It decides where no slot for prepared transactions is left, or none is configured: it takes none.
#[tokio::test]
async fn a_database_that_prepares_nothing_can_decide() {
    let none = vec![("max_prepared_transactions".to_owned(), "0".to_owned())];
    let world =
        prepare(World::builder().own_first_server(Options { settings: none, ..Options::default() }), &[0, 1])
            .await;
    world.start_coordinator(None).await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    let mut legs = world.legs(10);
    legs.reverse();
    let shot = teller.votum().transact().last_agent();
    let done = teller.at_once(shot, "the-other-way-round", &legs).await.unwrap();
    assert!(done.outcome.is_committed(), "{}", done.outcome);
    assert_eq!(done.decided_by.as_deref(), Some(A));
    let done = teller.at_once(teller.votum().transact(), "prepared", &legs).await.unwrap();
    assert!(!done.outcome.is_committed(), "{}", done.outcome);
    world.check(&ledger).await.unwrap();
}

#[tokio::test]
async fn where_no_database_keeps_markers_all_are_prepared_and_the_answer_says_so() {
    let scene = open(World::builder(), &[]).await;
    let done = shoot(&scene.world, &scene.teller, "prepared").await;
    assert!(done.outcome.is_committed(), "{}", done.outcome);
    assert_eq!(done.decided_by, None);
    assert!(records(&scene.world, &done.gtid).await.contains(&"Decided".to_owned()));
    assert!(!records(&scene.world, &done.gtid).await.contains(&"Delegated".to_owned()));
    scene.close().await.unwrap();

    // Or where the last does not, and another does.
    let scene = open(World::builder(), &[0]).await;
    let done = shoot(&scene.world, &scene.teller, "another").await;
    assert!(done.outcome.is_committed(), "{}", done.outcome);
    assert_eq!(done.decided_by.as_deref(), Some(A));
    scene.close().await.unwrap();
}

/// I1, I4: the siblings are prepared by then.
#[tokio::test]
async fn a_statement_that_fails_at_the_last_branch_is_named_and_nothing_is_done_anywhere() {
    let scene = open(World::builder(), &[0, 1]).await;
    for round in 0..2 {
        let done = scene
            .teller
            .votum()
            .transact()
            .last_agent()
            .statement(A, "UPDATE accounts SET balance = balance - 10 WHERE id = 1", &[])
            .statement(B, "UPDATE accounts SET balance = balance + 10 WHERE id = 1", &[])
            .statement(B, "INSERT INTO accounts (id, balance) VALUES (1, 0)", &[])
            .await
            .unwrap();
        let Outcome::Aborted(abort) = &done.outcome else { panic!("{}", done.outcome) };
        assert_eq!((abort.participant.as_deref(), abort.sqlstate.as_deref()), (Some(B), Some("23505")));
        let failed = done.failed.as_ref().unwrap();
        assert_eq!((failed.participant.as_str(), failed.statement), (B, 1), "{round}");
        assert_eq!(done.decided_by.as_deref(), Some(B));
        scene.world.until_idle().await.unwrap();
    }
    assert_eq!((scene.balance(A, 1).await.unwrap(), scene.balance(B, 1).await.unwrap()), (1000, 1000));
    scene.close().await.unwrap();
}

/// I6: its time is over while it waits for a lock; the siblings are not held for longer.
#[tokio::test]
async fn a_last_branch_that_waits_for_a_lock_ends_with_its_transactions_time() {
    let scene = open(World::builder(), &[0, 1]).await;
    let mut direct = scene.direct(B).await.unwrap();
    let held = direct.transaction().await.unwrap();
    held.execute("UPDATE accounts SET balance = balance WHERE id = 1", &[]).await.unwrap();
    let shot = scene.teller.votum().transact().last_agent().timeout(Duration::from_secs(2));
    let legs = scene.world.legs(10);
    let done = scene.teller.at_once(shot, "waits", &legs).await.unwrap();
    assert!(matches!(done.outcome, Outcome::Aborted(_)), "{}", done.outcome);
    scene.world.until_idle().await.unwrap();
    drop(held);
    scene.close().await.unwrap();
}

/// What must become of a transaction whose coordinator dies at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Committed,
    /// The client asks again under its key, and that runs it anew.
    RunAgain,
    /// The decision was handed over: the client, asking again, hears what became of that.
    Aborted,
    /// One of the two: its word had left, or had not.
    Either,
}

/// Every point that such a commit comes by.
const COORDINATOR: [(AtCoordinator, Ends); 12] = [
    (AtCoordinator::Begun, Ends::RunAgain),
    (AtCoordinator::BeforeFirstPrepare, Ends::RunAgain),
    (AtCoordinator::AfterLastPrepare, Ends::RunAgain),
    (AtCoordinator::VotesIn, Ends::RunAgain),
    // The last branch was told of nothing: a tombstone says so.
    (AtCoordinator::DecisionAppended, Ends::Aborted),
    (AtCoordinator::DecisionForced, Ends::Aborted),
    (AtCoordinator::HandedOver, Ends::Either),
    (AtCoordinator::OnePhaseAnswered, Ends::Committed),
    (AtCoordinator::ClientTold, Ends::Committed),
    (AtCoordinator::FirstParticipantTold, Ends::Committed),
    (AtCoordinator::AllAcknowledged, Ends::Committed),
    (AtCoordinator::Ended, Ends::Committed),
];

/// I1, I4, I5, I6, I13, I15, R13, R13s.
#[tokio::test]
async fn a_coordinator_killed_at_any_point_finds_out_how_its_last_branch_ended() {
    let world = prepare(World::builder(), &[0, 1]).await;
    world.start_coordinator(None).await.unwrap();
    let ledger = Arc::new(Ledger::new());
    for (point, ends) in COORDINATOR {
        let name = point.name();
        world.coordinator.terminate().unwrap();
        world.coordinator.wait_exit().await.unwrap();
        world.start_coordinator(Some(name)).await.unwrap();
        // What its client waits for comes after the point.
        let wait = if point == AtCoordinator::ClientTold { Wait::Decided } else { Wait::Completed };
        let votum = Votum::options().wait(wait).connect(&world.address().to_string()).await.unwrap();
        let teller = Teller::new(votum.clone(), &ledger);
        let restart = async {
            world.coordinator.wait_crash().await.unwrap();
            world.restart_and_settle(None).await.unwrap()
        };
        let client = shoot(&world, &teller, name);
        let (done, settled) = Box::pin(futures::future::join(client, restart)).await;
        let committed = done.outcome.is_committed();
        assert!(committed || matches!(done.outcome, Outcome::Aborted(_)), "{name}: {}", done.outcome);
        match ends {
            Ends::RunAgain | Ends::Committed => assert!(committed, "{name}: {}", done.outcome),
            Ends::Aborted => assert!(!committed, "{name}: {}", done.outcome),
            Ends::Either => {}
        }
        match ends {
            Ends::RunAgain | Ends::Aborted => assert_eq!(settled.committed, 0, "{name}: {}", settled.line),
            Ends::Committed if point != AtCoordinator::Ended => {
                assert_eq!(settled.committed, 2, "{name}: {}", settled.line);
            }
            Ends::Committed | Ends::Either => {}
        }
        let found = votum.transaction(&done.gtid).await.unwrap();
        assert_eq!(matches!(found.status, Status::Committed(_)), committed, "{name}: {found:?}");
        assert_eq!(votum.transaction_by_key(name).await.is_ok(), committed, "{name}");
        assert_eq!(marker(&world, 1, &done.gtid).await, Some(committed), "{name}");
        world.until_idle().await.unwrap();
    }
    world.check(&ledger).await.unwrap();
}

/// The points that the agent of the last branch comes by; the second, where there is one, when it is back.
const AGENT: [(AtAgent, Option<AtAgent>, Option<bool>); 7] = [
    (AtAgent::BeforeCommitPrepared, None, Some(false)),
    (AtAgent::BeforeBegin, None, Some(false)),
    (AtAgent::BeforeBegin, Some(AtAgent::BranchSettled), Some(false)),
    (AtAgent::DuringCommitOnePhase, None, None),
    (AtAgent::AfterCommitOnePhase, None, Some(true)),
    (AtAgent::AfterCommitOnePhase, Some(AtAgent::BranchSettled), Some(true)),
    (AtAgent::AcknowledgementSent, None, Some(true)),
];

/// I1, I4, I6, I13, I15: when its work goes step by step, and when it goes in one trip.
#[tokio::test]
async fn an_agent_killed_at_any_point_of_the_last_branch_leaves_a_marker_or_a_tombstone() {
    let scene = open(World::builder(), &[0, 1]).await;
    let Scene { world, teller, .. } = &scene;
    for (point, again, committed) in AGENT {
        for met in [1, 2] {
            let name = format!("{}@{met}", point.name());
            let transfer = format!("{name} {}", again.map_or("", AtAgent::name));
            world.restart_agent(1, Some(&name)).await.unwrap();
            for before in 1..met {
                let done = shoot(world, teller, &format!("{transfer} before {before}")).await;
                assert!(done.outcome.is_committed(), "{transfer}: {}", done.outcome);
                assert_eq!(done.decided_by.as_deref(), Some(B));
            }
            let restart = async {
                let agent = &world.banks[1].agent;
                agent.wait_crash().await.unwrap();
                if let Some(again) = again {
                    agent.start(Some(again.name())).unwrap();
                    agent.wait_crash().await.unwrap();
                }
                world.restart_agent(1, None).await.unwrap();
            };
            let legs = world.legs(10);
            let shot = teller.votum().transact().last_agent();
            let client = teller.at_once(shot, &transfer, &legs);
            let (done, ()) = Box::pin(futures::future::join(client, restart)).await;
            let done = done.unwrap();
            assert!(!matches!(done.outcome, Outcome::Unknown { .. }), "{transfer}: {}", done.outcome);
            if let Some(committed) = committed {
                assert_eq!(done.outcome.is_committed(), committed, "{transfer}: {}", done.outcome);
            }
            let marked = marker(world, 1, &done.gtid).await;
            assert_eq!(marked, Some(done.outcome.is_committed()), "{transfer}");
            world.until_idle().await.unwrap();
        }
    }
    scene.close().await.unwrap();
}

/// The sibling's: as in any transaction.
#[tokio::test]
async fn an_agent_of_a_sibling_killed_at_any_point_leaves_no_half_transaction() {
    let scene = open(World::builder(), &[0, 1]).await;
    let Scene { world, teller, .. } = &scene;
    for (point, committed) in [
        (AtAgent::DuringWork, Some(false)),
        (AtAgent::AfterPrepare, Some(false)),
        (AtAgent::VoteSent, None),
        (AtAgent::BeforeCommitPrepared, Some(true)),
        (AtAgent::DuringCommitPrepared, Some(true)),
        (AtAgent::AcknowledgementSent, Some(true)),
    ] {
        let name = point.name();
        world.restart_agent(0, Some(name)).await.unwrap();
        let restart = async {
            world.banks[0].agent.wait_crash().await.unwrap();
            world.restart_agent(0, None).await.unwrap();
        };
        let legs = world.legs(10);
        let shot = teller.votum().transact().last_agent();
        let client = teller.at_once(shot, name, &legs);
        let (done, ()) = Box::pin(futures::future::join(client, restart)).await;
        let done = done.unwrap();
        assert!(!matches!(done.outcome, Outcome::Unknown { .. }), "{name}: {}", done.outcome);
        if let Some(committed) = committed {
            assert_eq!(done.outcome.is_committed(), committed, "{name}: {}", done.outcome);
        }
        world.until_idle().await.unwrap();
    }
    scene.close().await.unwrap();
}

/// I13: the server goes down while the commit is at it, before and after its answer; what is told is what is there.
#[tokio::test]
async fn a_database_that_stops_around_the_commit_says_afterwards_how_it_ended() {
    let scene = open(World::builder().own_servers(Options::default()), &[0, 1]).await;
    let Scene { world, teller, .. } = &scene;
    for point in [AtAgent::BeforeBegin, AtAgent::DuringCommitOnePhase, AtAgent::AfterCommitOnePhase] {
        let name = point.name();
        world.restart_agent(1, Some(&format!("{name}=stop"))).await.unwrap();
        let stop = async {
            let bank = &world.banks[1];
            bank.agent.wait_stopped().await.unwrap();
            bank.server.stop_immediate().await.unwrap();
            bank.agent.thaw().unwrap();
            bank.server.restart().await.unwrap();
        };
        let legs = world.legs(10);
        let shot = teller.votum().transact().last_agent();
        let client = teller.at_once(shot, name, &legs);
        let (done, ()) = Box::pin(futures::future::join(client, stop)).await;
        let done = done.unwrap();
        assert!(!matches!(done.outcome, Outcome::Unknown { .. }), "{name}: {}", done.outcome);
        if point == AtAgent::AfterCommitOnePhase {
            assert!(done.outcome.is_committed(), "{}", done.outcome);
        }
        // Where it refused before anything was written, no tombstone was needed.
        let marked = marker(world, 1, &done.gtid).await;
        assert_eq!(marked == Some(true), done.outcome.is_committed(), "{name}: {marked:?}");
        world.until_idle().await.unwrap();
    }
    scene.close().await.unwrap();
}

/// What it trades: while the participant that decides is away, whoever waits hears that nobody knows, and the sibling
/// stays prepared.
#[tokio::test]
async fn while_the_last_agent_is_away_its_siblings_are_in_doubt() {
    let scene = open(World::builder(), &[0, 1]).await;
    let Scene { world, teller, .. } = &scene;
    world.restart_agent(1, Some(AtAgent::BeforeCommitPrepared.name())).await.unwrap();
    let legs = world.legs(10);
    let shot = teller.votum().transact().last_agent().timeout(Duration::from_secs(1));
    let client = teller.at_once(shot, "away", &legs);
    let look = async {
        world.banks[1].agent.wait_crash().await.unwrap();
        world.until_prepared(1).await.unwrap();
        // The transaction's time is long over when the coordinator was killed and is back.
        world.crash_and_restart_coordinator().await.unwrap();
        world.until_prepared(1).await.unwrap();
        world.restart_agent(1, None).await.unwrap();
        world.until_idle().await.unwrap();
    };
    let (_, ()) = Box::pin(futures::future::join(client, look)).await;
    assert_eq!((scene.balance(A, 1).await.unwrap(), scene.balance(B, 1).await.unwrap()), (1000, 1000));
    scene.close().await.unwrap();
}
