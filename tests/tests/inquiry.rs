//! A person's word about a branch that no record tells of is measured against commit markers, on real servers: what the
//! branch that decided left there is not a person's to contradict.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use votum_client::{Votum, Wait};
use votum_coordinator::crash::CrashPoint;
use votum_tests::eventually::{Found, eventually};
use votum_tests::inspect::Prepared;
use votum_tests::ledger::Ledger;
use votum_tests::teller::Teller;
use votum_tests::tool::{Said, votumctl};
use votum_tests::world::World;

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

async fn teller(world: &World, ledger: &Arc<Ledger>) -> Teller {
    let options = Votum::options().wait(Wait::Decided).outcome_budget(Duration::from_secs(1));
    Teller::new(options.connect(&world.address().to_string()).await.unwrap(), ledger)
}

/// A coordinator whose log lacks a transaction that its last branch, at the second bank, has decided, which was written
/// off; and its sibling, which is prepared.
async fn after_the_log_was_lost(point: CrashPoint, ledger: &Arc<Ledger>) -> (World, Prepared) {
    let world = World::builder().banks(2).prepare().await.unwrap();
    for bank in &world.banks {
        bank.keep_markers().await.unwrap();
        bank.agent.start(None).unwrap();
    }
    world.start_coordinator(None).await.unwrap();
    assert!(teller(&world, ledger).await.transfer("known", &world.legs(10)).await.unwrap().is_committed());
    world.coordinator.terminate().unwrap();
    world.coordinator.wait_exit().await.unwrap();
    let older = world.dir().join("older");
    copy(world.log_directory(), &older);
    world.start_coordinator(Some(point.name())).await.unwrap();
    let shopper = teller(&world, ledger).await;
    let shot = shopper.votum().transact().last_agent().timeout(Duration::from_secs(2));
    // Nobody tells its client what became of it.
    let unknown = shopper.at_once(shot, "lost", &world.legs(10)).await;
    assert!(
        unknown.is_err() || !unknown.as_ref().is_ok_and(|done| done.outcome.is_committed()),
        "{unknown:?}"
    );
    world.coordinator.wait_crash().await.unwrap();
    let sibling = world.until_prepared(1).await.unwrap().remove(0);
    std::fs::remove_dir_all(world.log_directory()).unwrap();
    std::fs::rename(&older, world.log_directory()).unwrap();
    world.coordinator.start(None).unwrap();
    let words = ["write-off", "--reason", "the disk is lost", "--yes", "--coordinator-id"];
    let words = [&words[..], &[world.coordinator_id()]].concat();
    eventually("what is lacking is written off", async || {
        let said = votumctl(&world, &words).await?;
        Ok(if said.code == 1 { Found::Yes(()) } else { Found::NotYet(format!("{said:?}")) })
    })
    .await
    .unwrap();
    world.crash_and_restart_coordinator().await.unwrap();
    world
        .until_status("the log is whole again", |status| {
            !status.stale && status.participants.iter().all(|known| known.heard)
        })
        .await
        .unwrap();
    world.until_alarm("VOTUM-1402").await.unwrap();
    (world, sibling)
}

async fn resolve(world: &World, sibling: &Prepared, word: &str) -> Said {
    let words = ["resolve", &sibling.gid, "--participant", "bank-a", word, "--reason", "4711", "--yes"];
    votumctl(world, &words).await.unwrap()
}

/// I1: it decided to commit, and its marker says so to everybody.
#[tokio::test]
async fn i1_a_person_cannot_roll_back_what_the_branch_that_decided_has_committed() {
    let ledger = Arc::new(Ledger::new());
    let (world, sibling) = after_the_log_was_lost(CrashPoint::OnePhaseAnswered, &ledger).await;
    let refused = resolve(&world, &sibling, "--rollback").await.ended(4);
    assert!(refused.err.contains("commit marker") || refused.out.contains("commit marker"), "{refused:?}");
    // Nor while it cannot be asked for.
    world.banks[1].agent.kill9().unwrap();
    eventually("nobody can ask", async || {
        let said = resolve(&world, &sibling, "--rollback").await;
        let told = format!("{}{}", said.out, said.err);
        Ok(if told.contains("cannot be asked for") { Found::Yes(()) } else { Found::NotYet(told) })
    })
    .await
    .unwrap();
    assert_eq!(world.until_prepared(1).await.unwrap(), std::slice::from_ref(&sibling));
    world.banks[1].agent.start(None).unwrap();
    eventually("it is committed as it was decided", async || {
        let said = resolve(&world, &sibling, "--commit").await;
        Ok(if said.code == 0 { Found::Yes(()) } else { Found::NotYet(format!("{said:?}")) })
    })
    .await
    .unwrap();
    world.until_no_alarm("VOTUM-1402").await.unwrap();
    world.check(&ledger).await.unwrap();
}

/// R13: the order to decide has not been carried out, and never will be once a person has rolled its sibling back: a
/// tombstone stands in its place, against which nobody commits a sibling.
#[tokio::test]
async fn r13_where_nothing_was_decided_a_rollback_leaves_a_tombstone() {
    let ledger = Arc::new(Ledger::new());
    let (world, sibling) = after_the_log_was_lost(CrashPoint::DecisionForced, &ledger).await;
    resolve(&world, &sibling, "--rollback").await.ended(0);
    world.until_no_alarm("VOTUM-1402").await.unwrap();
    let client = world.banks[1].client().await.unwrap();
    let rows = client.query("SELECT FROM votum.marker WHERE NOT committed", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    world.check(&ledger).await.unwrap();
}
