//! Transactions of one branch, in databases that keep commit markers: committed in one phase, and whoever dies
//! meanwhile, told as the marker says.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::sync::Arc;

use votum_client::{Error, Outcome, Status, Votum};
use votum_coordinator::crash::CrashPoint as AtCoordinator;
use votum_participant::crash::CrashPoint as AtAgent;
use votum_proto::names::Gtid;
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::Ledger;
use votum_tests::postgres::Options;
use votum_tests::scene::Scene;
use votum_tests::teller::{Teller, transfer_under_key};
use votum_tests::world::{Builder, Host, World};

/// A world of one bank that keeps markers from the first session on.
async fn prepare(builder: Builder) -> World {
    let world = builder.banks(1).prepare().await.unwrap();
    world.banks[0].keep_markers().await.unwrap();
    world.banks[0].agent.start(None).unwrap();
    world
}

async fn open(builder: Builder) -> Scene {
    let world = prepare(builder).await;
    world.start_coordinator(None).await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    Scene { world, ledger, teller }
}

/// The kinds of the records that the log holds of a transaction.
async fn records(world: &World, gtid: &str) -> Vec<String> {
    let request = v1::ShowTransactionRequest { gtid: gtid.to_owned() };
    let shown = world.operator().unwrap().show_transaction(request).await.unwrap().into_inner();
    shown.records.into_iter().map(|record| record.kind).collect()
}

/// What the marker of a transaction's branch says, if there is one.
async fn marker(world: &World, gtid: &str) -> Option<bool> {
    let gtid: Gtid = gtid.parse().unwrap();
    let (epoch, seq) = (i64::try_from(gtid.life.epoch.0).unwrap(), i64::try_from(gtid.seq).unwrap());
    let client = world.banks[0].client().await.unwrap();
    let ask = "SELECT committed FROM votum.marker WHERE epoch = $1 AND seq = $2";
    client.query_opt(ask, &[&epoch, &seq]).await.unwrap().map(|row| row.get(0))
}

#[tokio::test]
async fn a_transaction_of_one_branch_is_delegated_and_never_prepared() {
    let scene = open(World::builder()).await;
    let Scene { world, teller, .. } = &scene;
    let outcome = teller.transfer("one", &world.legs(10)).await.unwrap();
    let Outcome::Committed(committed) = &outcome else { panic!("{outcome}") };
    assert!(committed.completed && committed.heuristics.is_empty(), "{committed:?}");
    let gtid = scene.gtid("one").unwrap();
    world.until_completed(&gtid).await.unwrap();
    // The answer waited for no record of it.
    eventually("its end is in the log", async || {
        let records = records(world, &gtid).await;
        Ok(if records == ["Delegated", "Decided", "Ended"] {
            Found::Yes(())
        } else {
            Found::NotYet(format!("{records:?}"))
        })
    })
    .await
    .unwrap();
    assert_eq!(marker(world, &gtid).await, Some(true));
    scene.close().await.unwrap();
}

/// What must become of a transaction whose coordinator dies at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Committed,
    Aborted,
    Either,
}

/// Every point that such a commit comes by.
const COORDINATOR: [(AtCoordinator, Ends); 11] = [
    // Its gtid was never told: the client begins once more, and that commits.
    (AtCoordinator::Begun, Ends::Committed),
    (AtCoordinator::BeforeFirstPrepare, Ends::Aborted),
    (AtCoordinator::AfterLastPrepare, Ends::Aborted),
    (AtCoordinator::VotesIn, Ends::Aborted),
    // The session ends with the life that it waited for: a tombstone says so.
    (AtCoordinator::DecisionAppended, Ends::Aborted),
    (AtCoordinator::DecisionForced, Ends::Aborted),
    (AtCoordinator::HandedOver, Ends::Either),
    (AtCoordinator::OnePhaseAnswered, Ends::Committed),
    (AtCoordinator::ClientTold, Ends::Committed),
    (AtCoordinator::AllAcknowledged, Ends::Committed),
    (AtCoordinator::Ended, Ends::Committed),
];

/// I1, I4, I5, I6, I13, I15, R13.
#[tokio::test]
async fn a_coordinator_killed_at_any_point_finds_out_how_its_branch_ended() {
    let world = prepare(World::builder()).await;
    let ledger = Arc::new(Ledger::new());
    for (point, ends) in COORDINATOR {
        killed_at(&world, &ledger, point, ends).await;
    }
    world.check(&ledger).await.unwrap();
}

async fn killed_at(world: &World, ledger: &Ledger, point: AtCoordinator, ends: Ends) {
    let name = point.name();
    if world.coordinator.is_running().unwrap() {
        world.coordinator.terminate().unwrap();
        world.coordinator.wait_exit().await.unwrap();
    }
    world.start_coordinator(Some(name)).await.unwrap();
    let votum = Votum::options().client_name("teller").connect(&world.address().to_string()).await.unwrap();
    let restart = async {
        world.coordinator.wait_crash().await.unwrap();
        world.restart_and_settle(None).await.unwrap()
    };
    let client = transfer_under_key(world, ledger, &votum, name);
    let (told, settled) = Box::pin(futures::future::join(client, restart)).await;
    let (gtid, outcome) = told.unwrap();
    let committed = outcome.is_committed();
    match ends {
        Ends::Committed => assert!(committed, "{name}: {outcome}"),
        Ends::Aborted => assert!(matches!(outcome, Outcome::Aborted(_)), "{name}: {outcome}"),
        Ends::Either => assert!(committed || matches!(outcome, Outcome::Aborted(_)), "{name}: {outcome}"),
    }
    // What a restart had to find out, it says.
    let handed = records(world, &gtid).await.contains(&"Delegated".to_owned());
    let found_out = handed && point != AtCoordinator::Ended && point != AtCoordinator::Begun;
    let expected = (u64::from(found_out && committed), u64::from(found_out && !committed));
    assert_eq!((settled.committed, settled.rolled_back), expected, "{name}: {}", settled.line);
    assert_eq!(marker(world, &gtid).await, handed.then_some(committed), "{name}");
    asked_again(&votum, name, &gtid, committed).await;
}

/// By gtid and by key; and a retry under the key does not run the work again.
async fn asked_again(votum: &Votum, key: &str, gtid: &str, committed: bool) {
    let found = votum.transaction(gtid).await.unwrap();
    assert_eq!(matches!(&found.status, Status::Committed(_)), committed, "{key}: {found:?}");
    assert_eq!(matches!(&found.status, Status::Aborted(_)), !committed, "{key}: {found:?}");
    match votum.begin().label(key).idempotency_key(key).digest(key).await {
        Err(Error::KeyTaken { gtid: taken, alive: false, .. }) => {
            assert!(committed && taken == gtid, "{key}: {taken}");
        }
        Ok(tx) => {
            assert!(!committed, "{key}: the key of a committed transaction is free");
            tx.rollback().await.unwrap();
        }
        Err(other) => panic!("{key}: {other}"),
    }
}

/// The points that an agent comes by; the second, where there is one, when it is back.
const AGENT: [(AtAgent, Option<AtAgent>, Ends); 8] = [
    (AtAgent::BeforePrepare, None, Ends::Aborted),
    (AtAgent::DuringPrepare, None, Ends::Aborted),
    (AtAgent::VoteSent, None, Ends::Aborted),
    (AtAgent::BeforeCommitPrepared, None, Ends::Aborted),
    (AtAgent::DuringCommitOnePhase, None, Ends::Either),
    (AtAgent::AfterCommitOnePhase, Some(AtAgent::BranchSettled), Ends::Committed),
    (AtAgent::BeforeCommitPrepared, Some(AtAgent::BranchSettled), Ends::Aborted),
    (AtAgent::AcknowledgementSent, None, Ends::Committed),
];

#[tokio::test]
async fn an_agent_killed_at_any_point_leaves_a_marker_or_a_tombstone() {
    let scene = open(World::builder()).await;
    let Scene { world, teller, .. } = &scene;
    for (number, (point, again, ends)) in AGENT.into_iter().enumerate() {
        let name = format!("{} {number}", point.name());
        world.restart_agent(0, Some(point.name())).await.unwrap();
        let restart = async {
            world.banks[0].agent.wait_crash().await.unwrap();
            if let Some(again) = again {
                world.banks[0].agent.start(Some(again.name())).unwrap();
                world.banks[0].agent.wait_crash().await.unwrap();
            }
            world.restart_agent(0, None).await.unwrap();
        };
        let legs = world.legs(10);
        let client = teller.transfer(&name, &legs);
        let (outcome, ()) = Box::pin(futures::future::join(client, restart)).await;
        let outcome = outcome.unwrap();
        match ends {
            Ends::Committed => assert!(outcome.is_committed(), "{name}: {outcome}"),
            Ends::Aborted => assert!(matches!(outcome, Outcome::Aborted(_)), "{name}: {outcome}"),
            Ends::Either => {
                assert!(
                    outcome.is_committed() || matches!(outcome, Outcome::Aborted(_)),
                    "{name}: {outcome}"
                );
            }
        }
        world.until_idle().await.unwrap();
    }
    scene.close().await.unwrap();
}

/// I13: the server goes down while COMMIT is at it, before and after its answer; what it is told is what is there.
#[tokio::test]
async fn a_database_that_stops_around_the_commit_says_afterwards_how_it_ended() {
    let scene = open(World::builder().own_servers(Options::default())).await;
    let Scene { world, teller, .. } = &scene;
    for point in [AtAgent::BeforeCommitPrepared, AtAgent::DuringCommitOnePhase, AtAgent::AfterCommitOnePhase]
    {
        let name = point.name();
        world.restart_agent(0, Some(&format!("{name}=stop"))).await.unwrap();
        let stop = async {
            let bank = &world.banks[0];
            bank.agent.wait_stopped().await.unwrap();
            bank.server.stop_immediate().await.unwrap();
            bank.agent.thaw().unwrap();
            bank.server.restart().await.unwrap();
        };
        let legs = world.legs(10);
        let (outcome, ()) = Box::pin(futures::future::join(teller.transfer(name, &legs), stop)).await;
        let outcome = outcome.unwrap();
        assert!(outcome.is_committed() || matches!(outcome, Outcome::Aborted(_)), "{name}: {outcome}");
        if point == AtAgent::AfterCommitOnePhase {
            assert!(outcome.is_committed(), "{outcome}");
        }
        let gtid = scene.gtid(name).unwrap();
        assert_eq!(marker(world, &gtid).await, Some(outcome.is_committed()), "{name}");
        world.until_idle().await.unwrap();
    }
    scene.close().await.unwrap();
}

/// Told as committed, and lost with its server, while the coordinator's record of it was lost, too: a hazard, which
/// is named for ever.
#[tokio::test]
async fn what_may_have_been_told_and_a_failover_has_lost_is_a_hazard() {
    let servers = World::builder().own_servers(Options::default()).standby(&[Host::Primary, Host::Standby]);
    let scene = open(servers).await;
    let Scene { world, teller, ledger } = &scene;
    assert!(teller.transfer("kept", &world.legs(10)).await.unwrap().is_committed());
    let server = &world.banks[0].server;
    server.until_replayed_by(server.standby().unwrap()).await.unwrap();
    server.cut_off(server.standby().unwrap()).await.unwrap();
    // It has answered, and its record is not on disk: it is owed to the next life.
    world.coordinator.kill9().unwrap();
    world.start_coordinator(Some(AtCoordinator::OnePhaseAnswered.name())).await.unwrap();
    let failover = async {
        world.coordinator.wait_crash().await.unwrap();
        server.fail_over().await.unwrap();
        world.start_coordinator(None).await.unwrap();
    };
    let legs = world.legs(10);
    let (outcome, ()) = Box::pin(futures::future::join(teller.transfer("lost", &legs), failover)).await;
    let outcome = outcome.unwrap();
    assert!(matches!(outcome, Outcome::Aborted(_)), "{outcome}");
    let gtid = scene.gtid("lost").unwrap();
    let alarm = world.until_alarm("VOTUM-1407").await.unwrap();
    assert_eq!((alarm.gtid.as_str(), alarm.participant.as_str()), (gtid.as_str(), "bank-a"));
    world.crash_and_restart_coordinator().await.unwrap();
    assert_eq!(world.until_alarm("VOTUM-1407").await.unwrap().gtid, gtid);
    assert_eq!(records(world, &gtid).await, ["Delegated", "Heuristic", "Decided"]);
    assert_eq!(marker(world, &gtid).await, Some(false));
    world.check(ledger).await.unwrap();
}
