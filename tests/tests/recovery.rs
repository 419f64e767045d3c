//! Recovery: crashes upon crashes, crashes under load, and what people did by hand meanwhile. Rows of the
//! recovery table are named.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

use votum_client::Outcome;
use votum_proto::v1;
use votum_proto::v1::heuristic_branch::Kind as Departure;
use votum_proto::v1::outcome::Kind;
use votum_tests::eventually::{Found, eventually};
use votum_tests::gate;
use votum_tests::ledger::Told;
use votum_tests::load::Load;
use votum_tests::postgres::{Options, ROLE};
use votum_tests::scene::Scene;
use votum_tests::teller::{Leg, work};
use votum_tests::world::{Bank, World};

/// Starts the coordinator with a crash point, and waits until it has died there.
async fn dies_at(world: &World, point: &str) {
    world.coordinator.start(Some(point)).unwrap();
    world.coordinator.wait_crash().await.unwrap();
}

/// I6, I13: killed while it delivers, while it hears of the deliveries, and as soon as it has written them
/// down; then twice more before it can do anything.
#[tokio::test]
async fn a_coordinator_killed_again_and_again_during_its_recovery_settles_at_last() {
    let scene = Scene::usual().await.unwrap();
    let world = &scene.world;
    let crashes = async {
        dies_at(world, "first-participant-told").await;
        dies_at(world, "all-acknowledged").await;
        dies_at(world, "ended-on-disk").await;
        for _ in 0..2 {
            world.coordinator.start(None).unwrap();
            world.coordinator.kill9().unwrap();
        }
        let settled = world.restart_and_settle(None).await.unwrap();
        assert_eq!((settled.committed, settled.rolled_back), (0, 0), "{}", settled.line);
        Ok(())
    };
    assert!(scene.decided_then("again", crashes).await.unwrap().is_committed());
    world.check(&scene.ledger).await.unwrap();
}

/// R5: killed while it rolls back what nobody decided; the agent dies after the database has done it and
/// before the coordinator hears of it. The line for the person on call comes all the same.
#[tokio::test]
async fn a_rollback_whose_acknowledgement_was_lost_is_settled_all_the_same() {
    let scene = Scene::usual().await.unwrap();
    let Scene { world, ledger, teller } = &scene;
    world.coordinator.kill9().unwrap();
    world.start_coordinator(Some("votes-in")).await.unwrap();
    let crash = async {
        world.coordinator.wait_crash().await.unwrap();
        world.restart_agent(0, Some("after-rollback-prepared")).await.unwrap();
        let before = world.settlements().unwrap().len();
        world.coordinator.start(None).unwrap();
        world.banks[0].agent.wait_crash().await.unwrap();
        world.banks[0].agent.start(None).unwrap();
        let settled = world.until_settled(before).await.unwrap();
        assert_eq!((settled.committed, settled.rolled_back), (0, 2), "{}", settled.line);
    };
    let legs = world.legs(10);
    let (outcome, ()) = futures::future::join(teller.transfer("lost", &legs), crash).await;
    assert!(matches!(outcome.as_ref().unwrap(), Outcome::Aborted(_)), "{outcome:?}");
    world.check(ledger).await.unwrap();
}

/// I6, I13, I15, with sixteen clients at it.
#[tokio::test]
async fn a_coordinator_killed_under_load_loses_nothing() {
    let Scene { world, ledger, teller } = Scene::open(World::builder().accounts(16, 1_000)).await.unwrap();
    let load = Load::default();
    let killing = async {
        for point in [None, Some("decision-forced@20"), Some("first-participant-told"), None] {
            let before = load.ended();
            if point.is_none() {
                until_ended(&load, before + 40).await;
                world.coordinator.kill9().unwrap();
            } else {
                world.coordinator.kill9().unwrap();
                world.coordinator.start(point).unwrap();
                world.coordinator.wait_crash().await.unwrap();
            }
            world.restart_and_settle(None).await.unwrap();
        }
        load.stop();
    };
    futures::future::join(load.run(&teller, ["bank-a", "bank-b"], 16, "load"), killing).await;
    world.check(&ledger).await.unwrap();
    assert!(ledger.count(Told::Committed) > 0);
}

/// A power cut: coordinator, agents and databases at the same time, twice.
#[tokio::test]
async fn everything_killed_at_once_under_load_loses_nothing() {
    let builder = World::builder().own_servers(Options::default()).accounts(8, 1_000);
    let Scene { world, ledger, teller } = Scene::open(builder).await.unwrap();
    let load = Load::default();
    let killing = async {
        for _ in 0..2 {
            until_ended(&load, load.ended() + 40).await;
            world.coordinator.kill9().unwrap();
            for bank in &world.banks {
                bank.agent.kill9().unwrap();
            }
            futures::future::try_join_all(world.banks.iter().map(|bank| bank.server.stop_immediate()))
                .await
                .unwrap();
            world.start_all().await.unwrap();
        }
        load.stop();
    };
    futures::future::join(load.run(&teller, ["bank-a", "bank-b"], 8, "cut"), killing).await;
    world.check(&ledger).await.unwrap();
    assert!(ledger.count(Told::Committed) > 0);
}

async fn until_ended(load: &Load, many: u64) {
    eventually("the load goes on", async || {
        let ended = load.ended();
        Ok(if ended >= many { Found::Yes(()) } else { Found::NotYet(format!("{ended} ended")) })
    })
    .await
    .unwrap();
}

/// R3: decided, and committed by hand before the coordinator was back. As it should be: acknowledged.
#[tokio::test]
async fn a_branch_that_an_administrator_committed_as_decided_is_acknowledged() {
    let scene = Scene::usual().await.unwrap();
    let world = &scene.world;
    let by_hand = async {
        world.banks[0].end_by_hand("COMMIT").await.unwrap();
        world.start_coordinator(None).await
    };
    let outcome = scene.decided_then("by hand", by_hand).await.unwrap();
    let Outcome::Committed(committed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(committed.heuristics, []);
    let completed = world.until_completed(&scene.gtid("by hand").unwrap()).await.unwrap();
    assert_eq!(completed.heuristics, []);
    world.check(&scene.ledger).await.unwrap();
}

/// R3: decided, and rolled back by hand. Nothing can undo that; it is recorded, told, and kept through a
/// crash.
#[tokio::test]
async fn a_branch_that_an_administrator_rolled_back_against_the_decision_is_reported_for_ever() {
    let scene = Scene::usual().await.unwrap();
    let world = &scene.world;
    // Its work does not count as a transfer: half of it is lost.
    let gtid = scene.rolled_back_by_hand().await.unwrap();
    departed(world, &gtid, "bank-a", Departure::Rollback).await;
    world.crash_and_restart_coordinator().await.unwrap();
    departed(world, &gtid, "bank-a", Departure::Rollback).await;
    let errands = "SELECT count(*) FROM errand";
    assert_eq!(world.banks[0].number(errands).await.unwrap(), 0);
    assert_eq!(world.banks[1].number(errands).await.unwrap(), 1);
    world.check(&scene.ledger).await.unwrap();
}

/// R15: decided abort, and committed by hand before the order to roll back came.
#[tokio::test]
async fn a_branch_that_an_administrator_committed_against_an_abort_is_reported() {
    let scene = Scene::usual().await.unwrap();
    let world = &scene.world;
    let (hasty, refusing) = (&world.banks[0], &world.banks[1]);
    refusing.build_gate().await.unwrap();
    hasty.client_as(ROLE).await.unwrap().batch_execute("CREATE TABLE errand (n int)").await.unwrap();
    world.restart_agent(0, Some("before-rollback-prepared")).await.unwrap();
    let shut = refusing.shut_gate().await.unwrap();
    let tx = scene.teller.votum().begin().await.unwrap();
    let gtid = tx.gtid().to_owned();
    tx.execute(&hasty.name, "INSERT INTO errand VALUES (1)", &[]).await.unwrap();
    gate::pass(&tx, &refusing.name, true).await.unwrap();
    let by_hand = async {
        world.until_prepared(1).await.unwrap();
        drop(shut);
        hasty.agent.wait_crash().await.unwrap();
        hasty.end_by_hand("COMMIT").await.unwrap();
        world.restart_agent(0, None).await.unwrap();
    };
    let (outcome, ()) = futures::future::join(tx.commit(), by_hand).await;
    assert!(matches!(outcome.as_ref().unwrap(), Outcome::Aborted(_)), "{outcome:?}");

    departed(world, &gtid, "bank-a", Departure::Commit).await;
    world.crash_and_restart_coordinator().await.unwrap();
    departed(world, &gtid, "bank-a", Departure::Commit).await;
    world.check(&scene.ledger).await.unwrap();
}

/// Waits until GetTransaction names the departure, and an alarm does.
async fn departed(world: &World, gtid: &str, bank: &str, kind: Departure) {
    eventually(&format!("{gtid} is known to have departed at {bank}"), async || {
        let answer = world.ask(gtid).await;
        let heuristics = match &answer {
            Ok(Some(Kind::Committed(committed))) => &committed.heuristics,
            Ok(Some(Kind::Aborted(aborted))) => &aborted.heuristics,
            other => return Ok(Found::NotYet(format!("{other:?}"))),
        };
        Ok(match heuristics.as_slice() {
            [one] if one.participant == bank && one.kind() == kind => Found::Yes(()),
            other => Found::NotYet(format!("{other:?}")),
        })
    })
    .await
    .unwrap();
    let alarm = world.until_alarm("VOTUM-1407").await.unwrap();
    assert_eq!((alarm.gtid.as_str(), alarm.participant.as_str()), (gtid, bank));
}

/// The gid of a transaction's branch.
fn gid(gtid: &str, branch: u32, branches: u32) -> String {
    format!("votum_{}_{branch}_{branches}", gtid.replace('-', "_"))
}

/// Prepares other work under one of our names, as the agent's own role.
async fn forge(bank: &Bank, gid: &str) {
    let client = bank.client_as(ROLE).await.unwrap();
    client
        .batch_execute(&format!(
            "BEGIN; INSERT INTO journal VALUES ('forged', 0); PREPARE TRANSACTION '{gid}'"
        ))
        .await
        .unwrap();
}

/// R1x: the gid is free again after COMMIT PREPARED; what is prepared under it is not what was decided. Nor is
/// anything under the name of a branch that the decision does not list, because it only read.
#[tokio::test]
async fn other_work_prepared_under_the_name_of_a_committed_branch_is_never_committed() {
    let Scene { world, ledger, teller } = Scene::usual().await.unwrap();
    let legs = [Leg { bank: "bank-a", account: 1, amount: 0 }];
    let tx = teller.open("true", &legs).await.unwrap();
    work(&tx, "true", &legs).await.unwrap();
    tx.query("bank-b", "SELECT balance FROM accounts", &[]).await.unwrap();
    assert!(teller.commit(tx, "true").await.unwrap().is_committed());
    let gtid = ledger.transfers()["true"].gtid.clone().unwrap();
    for branch in 0..2 {
        let gid = gid(&gtid, branch, 2);
        for bank in &world.banks {
            forge(bank, &gid).await;
        }
        world.until_prepared(0).await.unwrap();
        let alarms = world.lines("VOTUM-1404").unwrap();
        assert!(alarms.iter().any(|line| line.contains(&gid)), "{gid}: {alarms:?}");
    }
    world.check(&ledger).await.unwrap();
}

/// R12, I8: names of another owner, of a life that never was, and of other tools, through a crash.
#[tokio::test]
async fn prepared_transactions_that_only_look_like_ours_are_never_touched() {
    let Scene { world, ledger, teller } = Scene::usual().await.unwrap();
    assert!(teller.transfer("true", &world.legs(10)).await.unwrap().is_committed());
    let gtid = ledger.transfers()["true"].gtid.clone().unwrap();
    let bank = &world.banks[0];
    let id = world.coordinator_id().to_owned();
    // Another owner, even where the name is one that we did hand out.
    bank.plant_foreign(&gid(&gtid, 0, 2)).await.unwrap();
    bank.plant_foreign(&gid(&format!("{id}-1-ffffff-7"), 0, 2)).await.unwrap();
    bank.plant_foreign("votum_not_one_of_ours").await.unwrap();
    bank.plant_foreign(&gid("elsewhere-1-abcdef-1", 0, 1)).await.unwrap();
    // Our role, and a life that this log never had: left, and somebody should look.
    let never = gid(&format!("{id}-900-123456-1"), 0, 1);
    forge(bank, &never).await;
    assert_eq!(world.until_alarm("VOTUM-1405").await.unwrap().gtid, never);

    world.crash_and_restart_coordinator().await.unwrap();
    assert_eq!(world.until_alarm("VOTUM-1405").await.unwrap().gtid, never);
    assert!(teller.transfer("later", &world.legs(10)).await.unwrap().is_committed());
    bank.by_hand(&format!("ROLLBACK PREPARED '{never}'")).await.unwrap();
    world.until_no_alarm("VOTUM-1405").await.unwrap();
    world.check(&ledger).await.unwrap();
}

/// R10: what was dropped after retention may have been decided; EXPIRED says so, and a person settles.
#[tokio::test]
async fn a_branch_older_than_the_logs_memory_waits_for_a_person() {
    let builder = World::builder().short_memory();
    let Scene { world, ledger, teller } = Scene::open(builder).await.unwrap();
    let tx = teller.votum().begin().idempotency_key("old").await.unwrap();
    let old = tx.gtid().to_owned();
    let legs = world.legs(10);
    ledger.intend("old", legs.iter().map(|leg| leg.bank));
    work(&tx, "old", &legs).await.unwrap();
    let outcome = tx.commit().await.unwrap();
    ledger.told("old", votum_tests::teller::told(&outcome));
    world.until_forgotten(&old).await.unwrap();
    assert!(teller.votum().transaction_by_key("old").await.is_err(), "a key outlived its outcome");

    let gid = gid(&old, 0, 2);
    forge(&world.banks[0], &gid).await;
    waits_for_a_person(&world, &gid).await;
    world.crash_and_restart_coordinator().await.unwrap();
    waits_for_a_person(&world, &gid).await;
    assert!(matches!(world.ask(&old).await.unwrap(), Some(Kind::Expired(_))));

    let mut resolve = v1::ResolveRequest {
        gid: gid.clone(),
        participant: "bank-a".into(),
        action: v1::resolve_request::Action::Rollback.into(),
        operator: "somebody".into(),
        reason: "prepared by hand".into(),
        apply: false,
        heuristic: false,
    };
    let mut operator = world.operator().unwrap();
    let dry = operator.resolve(resolve.clone()).await.unwrap().into_inner();
    assert!(!dry.applied && world.prepared().await.unwrap().len() == 1, "{dry:?}");
    resolve.apply = true;
    let done = operator.resolve(resolve).await.unwrap().into_inner();
    assert!(done.applied && done.result == "done", "{done:?}");
    world.until_prepared(0).await.unwrap();
    world.until_no_alarm("VOTUM-1402").await.unwrap();
    world.check(&ledger).await.unwrap();
}

/// R10, as the operator sees it.
async fn waits_for_a_person(world: &World, gid: &str) {
    assert_eq!(world.until_alarm("VOTUM-1402").await.unwrap().gtid, gid);
    let ask = v1::ListInDoubtRequest::default();
    let in_doubt = world.operator().unwrap().list_in_doubt(ask).await.unwrap().into_inner();
    let [branch] = in_doubt.branches.as_slice() else { panic!("{in_doubt:?}") };
    assert_eq!((branch.rule.as_str(), branch.decision.as_str()), ("R10", "none"), "{branch:?}");
    assert_eq!(world.prepared().await.unwrap().len(), 1);
}
