//! The way out of a stale log, on real servers: what it lacks is given up, by a person and by name.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use votum_client::{Outcome, Votum, Wait};
use votum_proto::v1::outcome::Kind;
use votum_tests::eventually::{Found, eventually};
use votum_tests::inspect::Prepared;
use votum_tests::ledger::Ledger;
use votum_tests::postgres::ROLE;
use votum_tests::teller::{Leg, Teller};
use votum_tests::tool::{Said, votumctl};
use votum_tests::world::{Bank, World};

async fn teller(world: &World, ledger: &Arc<Ledger>) -> Teller {
    let options = Votum::options().wait(Wait::Decided).outcome_budget(Duration::from_secs(1));
    Teller::new(options.connect(&world.address().to_string()).await.unwrap(), ledger)
}

fn at_a(account: i64) -> [Leg<'static>; 1] {
    [Leg { bank: "bank-a", account, amount: 0 }]
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

async fn write_off(world: &World, more: &[&str]) -> Said {
    let words = ["write-off", "--reason", "the disk is lost", "--json"];
    votumctl(world, &[&words, more].concat()).await.unwrap()
}

/// What is shown once both agents have shown what they have seen.
async fn shown_by_both(world: &World) -> Value {
    eventually("both agents have shown what they have seen", async || {
        let said = write_off(world, &[]).await;
        let shown = said.json()?;
        let both = shown["evidence"].as_array().is_some_and(|evidence| evidence.len() == 2);
        Ok(if both { Found::Yes(shown) } else { Found::NotYet(format!("{said:?}")) })
    })
    .await
    .unwrap()
}

/// A coordinator on an older copy of its log, which lacks two commits: of `since`, that is carried out, and of
/// `lost`, whose branch is still prepared.
async fn on_an_older_copy(ledger: &Arc<Ledger>) -> (World, Prepared) {
    let world = World::builder().start().await.unwrap();
    let older = world.dir().join("older");
    assert!(teller(&world, ledger).await.transfer("known", &world.legs(10)).await.unwrap().is_committed());
    world.coordinator.terminate().unwrap();
    world.coordinator.wait_exit().await.unwrap();
    copy(world.log_directory(), &older);
    world.start_coordinator(Some("decision-forced@2")).await.unwrap();
    assert!(teller(&world, ledger).await.transfer("since", &at_a(2)).await.unwrap().is_committed());
    let outcome = teller(&world, ledger).await.transfer("lost", &at_a(3)).await.unwrap();
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    world.coordinator.wait_crash().await.unwrap();
    let lost = world.until_prepared(1).await.unwrap().remove(0);
    std::fs::remove_dir_all(world.log_directory()).unwrap();
    std::fs::rename(&older, world.log_directory()).unwrap();
    world.coordinator.start(None).unwrap();
    world.until_status("the log is known to be stale", |status| status.stale).await.unwrap();
    world.until_alarm("VOTUM-1401").await.unwrap();
    (world, lost)
}

/// R8, R10: what the log lacks is seen, named and given up; afterwards everything works, and what the lost
/// part left prepared waits for a person.
#[tokio::test]
async fn a_person_leads_out_of_a_log_restored_from_an_older_copy() {
    let ledger = Arc::new(Ledger::new());
    let (world, lost) = on_an_older_copy(&ledger).await;
    let stale_epoch = world.status().await.unwrap().epoch;

    let shown = shown_by_both(&world).await;
    assert_eq!(
        (shown["applied"].as_bool(), shown["coordinator_id"].as_str()),
        (Some(false), Some(world.coordinator_id()))
    );
    let evidence = shown["evidence"].as_array().unwrap();
    assert!(evidence.iter().all(|proof| proof["witness_age_ms"].is_u64()), "{shown}");
    assert!(world.status().await.unwrap().stale);

    let not_typed = write_off(&world, &["--yes"]).await.ended(2);
    assert!(not_typed.err.contains("--coordinator-id"), "{not_typed:?}");
    let wrong = write_off(&world, &["--yes", "--coordinator-id", "another"]).await.ended(4);
    assert!(wrong.out.contains("type out"), "{wrong:?}");
    let applied = write_off(&world, &["--yes", "--coordinator-id", world.coordinator_id()]).await.ended(1);
    assert_eq!(applied.json().unwrap()["applied"].as_bool(), Some(true), "{applied:?}");

    world.crash_and_restart_coordinator().await.unwrap();
    let status = world.until_status("the log is whole again", |status| {
        !status.stale && status.participants.iter().all(|known| known.heard)
    });
    let status = status.await.unwrap();
    assert!(
        status.epoch > stale_epoch && status.epoch > shown["through_epoch"].as_u64().unwrap(),
        "{status:?}"
    );
    let after = teller(&world, &ledger).await;
    let legs: Vec<Leg<'_>> = world.legs(10).into_iter().map(|leg| Leg { account: 4, ..leg }).collect();
    assert!(after.transfer("after", &legs).await.unwrap().is_committed());

    let waits = world.until_alarm("VOTUM-1402").await.unwrap();
    assert_eq!((waits.gtid.as_str(), waits.participant.as_str()), (lost.gid.as_str(), "bank-a"));
    let gtid = |name: &str| ledger.transfers()[name].gtid.clone().unwrap();
    assert!(matches!(world.ask(&gtid("known")).await.unwrap(), Some(Kind::Committed(_))));
    for name in ["since", "lost"] {
        let answer = world.ask(&gtid(name)).await.unwrap();
        assert!(matches!(answer, Some(Kind::Expired(_))), "{name}: {answer:?}");
    }
    // It is as true after another start.
    world.crash_and_restart_coordinator().await.unwrap();
    world.until_alarm("VOTUM-1402").await.unwrap();
    assert_eq!(world.until_prepared(1).await.unwrap(), std::slice::from_ref(&lost));
    let words = ["resolve", &lost.gid, "--participant", "bank-a", "--commit", "--reason", "4711", "--yes"];
    let settled = votumctl(&world, &words).await.unwrap().ended(0);
    assert!(settled.out.contains("Settled"), "{settled:?}");
    world.until_no_alarm("VOTUM-1402").await.unwrap();
    world.check(&ledger).await.unwrap();
}

/// What was decided since the backup is known to nobody: no agent remembers, and nothing would prove the log
/// stale. That it was restored does.
#[tokio::test]
async fn a_backup_of_a_running_coordinator_comes_back_and_presumes_nothing_of_what_it_lacks() {
    let ledger = Arc::new(Ledger::new());
    let world = World::builder().start().await.unwrap();
    let log = world.log_directory().display().to_string();
    let backup = world.dir().join("backup").display().to_string();
    assert!(teller(&world, &ledger).await.transfer("known", &world.legs(10)).await.unwrap().is_committed());
    let made = votumctl(&world, &["backup", &backup, "--directory", &log, "--json"]).await.unwrap().ended(0);
    assert_eq!(made.json().unwrap()["ok"].as_bool(), Some(true), "{made:?}");
    world.coordinator.kill9().unwrap();
    world.start_coordinator(Some("decision-forced@1")).await.unwrap();
    let outcome = teller(&world, &ledger).await.transfer("lost", &at_a(3)).await.unwrap();
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    world.coordinator.wait_crash().await.unwrap();
    let lost = world.until_prepared(1).await.unwrap();
    for bank in &world.banks {
        bank.agent.kill9().unwrap();
        bank.agent.start(None).unwrap();
    }

    let there = votumctl(&world, &["restore", &backup, "--directory", &log]).await.unwrap().ended(4);
    assert!(there.err.contains("VOTUM-1102"), "{there:?}");
    std::fs::remove_dir_all(world.log_directory()).unwrap();
    let back = votumctl(&world, &["restore", &backup, "--directory", &log]).await.unwrap().ended(1);
    assert!(back.out.contains("write-off"), "{back:?}");
    world.coordinator.start(None).unwrap();
    world.until_status("the log is known to be stale", |status| status.stale).await.unwrap();
    // The backup knows nothing of the life that prepared it.
    world.until_alarm("VOTUM-1405").await.unwrap();
    assert_eq!(world.until_prepared(1).await.unwrap(), lost);

    let applied = eventually("it is written off", async || {
        let said = write_off(&world, &["--yes", "--coordinator-id", world.coordinator_id()]).await;
        Ok(if said.code == 1 { Found::Yes(said) } else { Found::NotYet(format!("{said:?}")) })
    });
    let shown = applied.await.unwrap().json().unwrap();
    assert_eq!(shown["evidence"][0]["shown_by"].as_str(), Some("the log itself"), "{shown}");
    world.crash_and_restart_coordinator().await.unwrap();
    world.until_status("the log is whole again", |status| !status.stale).await.unwrap();
    let waits = world.until_alarm("VOTUM-1402").await.unwrap();
    assert_eq!(waits.gtid, lost[0].gid);
    let words =
        ["resolve", &lost[0].gid, "--participant", "bank-a", "--rollback", "--reason", "4711", "--yes"];
    let settled = votumctl(&world, &words).await.unwrap().ended(0);
    assert!(settled.out.contains("Settled"), "{settled:?}");
    let after = teller(&world, &ledger).await;
    assert!(after.transfer("after", &world.legs(10)).await.unwrap().is_committed());
    world.check(&ledger).await.unwrap();
}

/// Waits until the bank keeps that the log has reached into `epoch`.
async fn until_kept(bank: &Bank, epoch: u64) {
    let client = bank.client().await.unwrap();
    eventually("the witness is kept", async || {
        let row = client.query_opt("SELECT witness_epoch FROM votum.witness", &[]).await?;
        let stands: Option<i64> = row.and_then(|row| row.get(0));
        let there = stands == Some(epoch.cast_signed());
        Ok(if there { Found::Yes(()) } else { Found::NotYet(format!("{stands:?}")) })
    })
    .await
    .unwrap();
}

/// R8: no agent remembers, and the copy says nothing of itself; what the agents kept in their databases does.
#[tokio::test]
async fn an_older_copy_is_noticed_although_every_agent_has_restarted() {
    let ledger = Arc::new(Ledger::new());
    let world = World::builder().start().await.unwrap();
    let installation = votumctl(&world, &["install", "--role", ROLE]).await.unwrap().ended(0).out;
    for bank in &world.banks {
        bank.by_hand(&installation).await.unwrap();
    }
    world.coordinator.terminate().unwrap();
    world.coordinator.wait_exit().await.unwrap();
    let older = world.dir().join("older");
    copy(world.log_directory(), &older);
    world.start_coordinator(None).await.unwrap();
    assert!(teller(&world, &ledger).await.transfer("since", &world.legs(10)).await.unwrap().is_committed());
    let since = world.status().await.unwrap();
    for bank in &world.banks {
        until_kept(bank, since.epoch).await;
    }
    world.coordinator.kill9().unwrap();
    for bank in &world.banks {
        bank.agent.kill9().unwrap();
        bank.agent.start(None).unwrap();
    }
    std::fs::remove_dir_all(world.log_directory()).unwrap();
    std::fs::rename(&older, world.log_directory()).unwrap();
    // At first it begins the epoch that was lost, and is refused; then a newer one, and is heard.
    for _ in 0..2 {
        world.coordinator.start(None).unwrap();
        world.until_status("the log is known to be stale", |status| status.stale).await.unwrap();
        let gtid = ledger.transfers()["since"].gtid.clone().unwrap();
        let asked = world.ask(&gtid).await;
        assert_eq!(asked.unwrap_err().code(), tonic::Code::Unavailable, "absence was an answer");
        world.coordinator.kill9().unwrap();
    }
    world.coordinator.start(None).unwrap();
    world.check(&ledger).await.unwrap();
}
