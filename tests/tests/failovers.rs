//! A standby takes the place of a database server: one that has everything, and ones that have missed the newest.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use votum_client::{Committed, HeuristicKind, Outcome, Status};
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::Options;
use votum_tests::scene::Scene;
use votum_tests::world::World;

async fn open() -> Scene {
    Scene::open(World::builder().own_servers(Options::default())).await.unwrap()
}

/// Commits a transfer; when its decision is forced and nobody has been told, the coordinator is dead and `then` is
/// done, and whatever that makes of it the coordinator starts again.
async fn decided_then(scene: &Scene, name: &str, then: impl Future<Output = ()>) -> Outcome {
    let then = async {
        then.await;
        scene.world.start_coordinator(None).await
    };
    scene.decided_then(name, then).await.unwrap()
}

/// R1, I7, I13: the standby has what the server had acknowledged, prepared branches among it.
#[tokio::test]
async fn a_standby_that_has_everything_takes_over_and_commits_what_was_decided() {
    let scene = open().await;
    let failover = async {
        let before = scene.world.until_prepared(2).await.unwrap();
        scene.world.banks[0].server.fail_over(None).await.unwrap();
        assert_eq!(scene.world.prepared().await.unwrap(), before);
    };
    assert!(Box::pin(decided_then(&scene, "in doubt", failover)).await.is_committed());
    // And what was begun afterwards goes on there.
    assert!(scene.teller.transfer("later", &scene.world.legs(10)).await.unwrap().is_committed());
    scene.world.check(&scene.ledger).await.unwrap();
}

/// R9, I7: an acknowledged branch is prepared again, because the standby has missed its COMMIT PREPARED.
#[tokio::test]
async fn a_commit_that_a_failover_undid_is_delivered_again() {
    let scene = open().await;
    let bank = &scene.world.banks[0];
    let received = tokio::sync::OnceCell::new();
    let cut_off = async {
        received.set(bank.server.received_until_now().await.unwrap()).unwrap();
    };
    assert!(decided_then(&scene, "undone", cut_off).await.is_committed());
    scene.world.until_completed(&scene.gtid("undone").unwrap()).await.unwrap();
    assert_eq!(bank.number("SELECT count(*) FROM journal").await.unwrap(), 1);

    bank.server.fail_over(received.into_inner()).await.unwrap();
    scene.world.until_prepared(0).await.unwrap();
    assert_eq!(bank.number("SELECT count(*) FROM journal").await.unwrap(), 1, "committed again, once");
    scene.world.check(&scene.ledger).await.unwrap();
}

/// R3, I1: a vote that the standby has missed cannot be kept: the departure is told, for ever, and not hidden.
#[tokio::test]
async fn a_prepared_branch_that_a_failover_lost_is_reported_for_ever() {
    let scene = open().await;
    let Scene { world, teller, .. } = &scene;
    let received = world.banks[0].server.received_until_now().await.unwrap();
    let failover = async {
        world.until_prepared(2).await.unwrap();
        world.banks[0].server.fail_over(Some(received)).await.unwrap();
    };
    let outcome = Box::pin(decided_then(&scene, "lost", failover)).await;
    let Outcome::Committed(_) = outcome else { panic!("{outcome:?}") };
    let gtid = scene.gtid("lost").unwrap();
    for restarted in [false, true] {
        if restarted {
            world.crash_and_restart_coordinator().await.unwrap();
        }
        assert_eq!(world.until_alarm("VOTUM-1407").await.unwrap().participant, "bank-a");
        let found = teller.votum().transaction(&gtid).await.unwrap().status;
        let Status::Committed(committed) = found else { panic!("{found:?}") };
        let [departed] = committed.heuristics.as_slice() else { panic!("{committed:?}") };
        assert_eq!((departed.kind, departed.participant.as_str()), (HeuristicKind::Rollback, "bank-a"));
    }
    let rows = async |bank: usize| world.banks[bank].number("SELECT count(*) FROM journal").await.unwrap();
    assert_eq!([rows(0).await, rows(1).await], [0, 1]);
}

/// From now on every branch leaves a commit marker.
async fn with_markers(scene: &Scene) {
    for bank in &scene.world.banks {
        bank.keep_markers().await.unwrap();
    }
    // Sessions that are open look for the table once a second.
    let mut number = 0;
    eventually("branches leave markers at both banks", async || {
        number += 1;
        let name = format!("marked {number}");
        assert!(scene.teller.transfer(&name, &scene.world.legs(1)).await?.is_committed());
        scene.world.until_completed(&scene.gtid(&name)?).await?;
        for bank in &scene.world.banks {
            if bank.number("SELECT count(*) FROM votum.marker").await? == 0 {
                return Ok(Found::NotYet(format!("none at {}", bank.name)));
            }
        }
        Ok(Found::Yes(()))
    })
    .await
    .unwrap();
}

/// What a client is told of a transfer that was committed.
async fn committed(scene: &Scene, name: &str) -> Committed {
    let gtid = scene.gtid(name).unwrap();
    match scene.teller.votum().transaction(&gtid).await.unwrap().status {
        Status::Committed(committed) => committed,
        other => panic!("{other:?}"),
    }
}

/// A transfer that the standby knows, and one that it has missed; both were told as committed, by all their
/// banks. The coordinator is away while the standby takes over, and while its transaction ids reach and pass
/// those of what it has missed.
async fn one_kept_and_one_lost(scene: &Scene) {
    let Scene { world, teller, .. } = scene;
    assert!(teller.transfer("kept", &world.legs(10)).await.unwrap().is_committed());
    world.until_completed(&scene.gtid("kept").unwrap()).await.unwrap();
    let received = world.banks[0].server.received_until_now().await.unwrap();
    assert!(teller.transfer("lost", &world.legs(10)).await.unwrap().is_committed());
    world.until_completed(&scene.gtid("lost").unwrap()).await.unwrap();
    // In good order: what had ended is on disk as such.
    world.coordinator.terminate().unwrap();
    world.coordinator.wait_exit().await.unwrap();
    world.banks[0].server.fail_over(Some(received)).await.unwrap();
    let reuse = "DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
    world.banks[0].by_hand(reuse).await.unwrap();
    world.start_coordinator(None).await.unwrap();
}

/// R2, I1: nobody else can tell which transactions a failover has torn: the lost branch shows nowhere.
#[tokio::test]
async fn a_committed_branch_that_a_failover_lost_is_named_though_its_transaction_id_is_used_again() {
    let scene = open().await;
    with_markers(&scene).await;
    one_kept_and_one_lost(&scene).await;
    let alarm = scene.world.until_alarm("VOTUM-1407").await.unwrap();
    assert_eq!((alarm.participant.as_str(), alarm.gtid), ("bank-a", scene.gtid("lost").unwrap()));
    let [departed] = committed(&scene, "lost").await.heuristics.try_into().unwrap();
    assert_eq!((departed.kind, departed.participant.as_str()), (HeuristicKind::Rollback, "bank-a"));
    assert!(departed.detail.contains("commit marker"), "{}", departed.detail);
    assert_eq!(committed(&scene, "kept").await.heuristics, []);
    let rows = async |bank: usize| {
        let lost = "SELECT count(*) FROM journal WHERE transfer = 'lost'";
        scene.world.banks[bank].number(lost).await.unwrap()
    };
    assert_eq!([rows(0).await, rows(1).await], [0, 1]);
    // And for ever: it is on disk.
    scene.world.crash_and_restart_coordinator().await.unwrap();
    assert_eq!(scene.world.until_alarm("VOTUM-1407").await.unwrap().participant, "bank-a");
    assert_eq!(committed(&scene, "lost").await.heuristics.len(), 1);
}

/// R2: where branches leave no markers, an id that is used again proves nothing, and that is said, once.
#[tokio::test]
async fn without_markers_a_failover_leaves_a_number_of_commits_that_nobody_can_prove() {
    let scene = open().await;
    one_kept_and_one_lost(&scene).await;
    for restarted in [false, true] {
        if restarted {
            scene.world.crash_and_restart_coordinator().await.unwrap();
        }
        let alarm = scene.world.until_alarm("VOTUM-1412").await.unwrap();
        assert_eq!(alarm.participant, "bank-a");
        assert!(
            alarm.detail.contains("timeline 2") && alarm.detail.contains(" 2 commits"),
            "{}",
            alarm.detail
        );
    }
    assert_eq!(committed(&scene, "lost").await.heuristics, []);
}
