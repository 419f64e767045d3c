//! A standby takes the place of a database server: one that has everything, and ones that have missed the newest.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use votum_client::{HeuristicKind, Outcome, Status};
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
