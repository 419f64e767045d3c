//! An installation that loses its log, and how the tool is run on what is left.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;
use votum_client::{Votum, Wait};
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::ROLE;
use votum_tests::process::{Build, CRASH_VARIABLE, program};
use votum_tests::scene::Scene;
use votum_tests::teller::{Leg, Teller, work};
use votum_tests::tool::{Said, votumctl};
use votum_tests::world::Builder;

/// A world whose banks keep commit markers, and whose clients do not wait for phase 2.
pub async fn scene(builder: Builder, markers: bool) -> anyhow::Result<Scene> {
    let mut scene = Scene::open(builder).await?;
    if markers {
        install(&scene, &["--commit-marker"]).await?;
    }
    scene.teller = impatient(&scene).await?;
    Ok(scene)
}

/// Makes a place for what agents keep, and has the agents find it there.
pub async fn install(scene: &Scene, more: &[&str]) -> anyhow::Result<()> {
    let words = [&["install", "--role", ROLE], more].concat();
    let installation = votumctl(&scene.world, &words).await?.ended(0).out;
    for (place, bank) in scene.world.banks.iter().enumerate() {
        bank.by_hand(&installation).await?;
        scene.world.restart_agent(place, None).await?;
    }
    Ok(())
}

pub async fn impatient(scene: &Scene) -> anyhow::Result<Teller> {
    let options = Votum::options().wait(Wait::Decided).outcome_budget(std::time::Duration::from_secs(1));
    let votum = options.connect(&scene.world.address().to_string()).await?;
    Ok(Teller::new(votum, &scene.ledger))
}

/// The values of a marker's key.
pub fn key(gtid: &str, branch: u16) -> String {
    let parts: Vec<&str> = gtid.split('-').collect();
    let [id, epoch, incarnation, seq] = parts.as_slice() else { panic!("{gtid}") };
    let incarnation = u32::from_str_radix(incarnation, 16).unwrap();
    format!("'{id}', {epoch}, {incarnation}, {seq}, {branch}")
}

/// Carries out a transfer, and asks for its commit. Answers its name.
pub async fn transfer(scene: &Scene, name: &str, account: i64) -> anyhow::Result<String> {
    let legs: Vec<Leg<'_>> = scene.world.legs(10).into_iter().map(|leg| Leg { account, ..leg }).collect();
    let tx = scene.teller.open(name, &legs).await?;
    let gtid = tx.gtid().to_owned();
    work(&tx, name, &legs).await?;
    // The coordinator dies on the way: what was told stands in the ledger.
    drop(scene.teller.commit(tx, name).await);
    Ok(gtid)
}

/// The disk is gone, and with it the log; the agents are stopped, and their sessions have ended.
pub async fn lose_the_log(scene: &Scene) -> anyhow::Result<()> {
    scene.world.coordinator.kill9()?;
    std::fs::remove_dir_all(scene.world.log_directory())?;
    stop_agents(scene).await
}

pub async fn stop_agents(scene: &Scene) -> anyhow::Result<()> {
    for bank in &scene.world.banks {
        bank.agent.kill9()?;
        if !bank.server.is_running() {
            continue;
        }
        let client = bank.client().await?;
        let sessions = "SELECT count(*) FROM pg_stat_activity
                         WHERE datname = current_database() AND application_name LIKE 'votum%'";
        eventually("the agent's sessions have ended", async || {
            let left: i64 = client.query_one(sessions, &[]).await?.get(0);
            Ok(if left == 0 { Found::Yes(()) } else { Found::NotYet(format!("{left}")) })
        })
        .await?;
    }
    Ok(())
}

/// What is typed every time, for this world.
pub fn words(scene: &Scene, more: &[&str]) -> Vec<String> {
    let file = |bank: &str| scene.world.dir().join(format!("{bank}.toml")).display().to_string();
    let mut words: Vec<String> = vec!["lost-log".into(), "--config".into()];
    words.extend(scene.world.banks.iter().map(|bank| file(&bank.name)));
    words.extend(["--coordinator-id".into(), scene.world.coordinator_id().to_owned()]);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

pub fn report(scene: &Scene) -> String {
    scene.world.dir().join("report.jsonl").display().to_string()
}

/// What is typed to act.
pub fn acting(scene: &Scene, more: &[&str]) -> Vec<String> {
    let report = report(scene);
    let id = scene.world.coordinator_id();
    let act = ["--reason", "4714: disk lost", "--report", &report, "--really", id, "--yes"];
    words(scene, &[&act, more].concat())
}

pub async fn say(scene: &Scene, words: &[String]) -> anyhow::Result<Said> {
    votumctl(&scene.world, &words.iter().map(String::as_str).collect::<Vec<_>>()).await
}

pub async fn dry(scene: &Scene, more: &[&str]) -> anyhow::Result<Value> {
    let said = say(scene, &words(scene, &[more, &["--json"]].concat())).await?;
    said.json()
}

pub async fn act(scene: &Scene, more: &[&str]) -> anyhow::Result<Said> {
    say(scene, &acting(scene, &[more, &["--json"]].concat())).await
}

/// Acts, and is killed at a crash point.
pub async fn act_and_die(scene: &Scene, point: &str, more: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(program(Build::CrashPoints, "votumctl")?);
    command.args(acting(scene, more)).env("USER", "ada").env(CRASH_VARIABLE, point);
    let output = command.output().await?;
    ensure!(output.status.signal() == Some(9), "not killed at {point}: {output:?}");
    Ok(())
}

/// The lines of the report.
pub fn reported(scene: &Scene) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(report(scene))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// The entries of one kind.
pub fn entries<'a>(lines: &'a [Value], entry: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["entry"] == entry).collect()
}

/// A transaction in a document.
pub fn found<'a>(document: &'a Value, gtid: &str) -> &'a Value {
    let all = document["transactions"].as_array().unwrap();
    all.iter().find(|one| one["gtid"] == gtid).unwrap_or_else(|| panic!("{gtid} is not in {document}"))
}

/// A new log of the same coordinator, and agents that restart.
pub async fn begin_again(scene: &Scene) -> anyhow::Result<()> {
    let mut init = Command::new(program(Build::Plain, "votum-coordinator")?);
    let output = init.arg("--config").arg(scene.world.config_file()).arg("init").output().await?;
    ensure!(output.status.success(), "{output:?}");
    for bank in &scene.world.banks {
        if !bank.agent.is_running()? {
            bank.agent.start(None)?;
        }
    }
    scene.world.coordinator.start(None)
}

/// The judgement at the end: everything works again over a new log of the same coordinator.
///
/// Agents that restarted have read in their databases how far the lost log had reached: then the new one is stale,
/// until a person has led out of it. A life that ended before its witness was kept is not among what is written
/// off, and takes one more start to get past.
pub async fn close(scene: Scene) -> anyhow::Result<()> {
    begin_again(&scene).await?;
    let id = scene.world.coordinator_id();
    let order = ["write-off", "--reason", "4714: the log is lost", "--coordinator-id", id, "--yes"];
    eventually("the new log is in use", async || {
        let Ok(status) = scene.world.status().await else { return Ok(Found::NotYet("no answer".to_owned())) };
        let refused = status.alarms.iter().any(|alarm| alarm.code == "VOTUM-1409");
        if status.stale && votumctl(&scene.world, &order).await?.code == 1 || !status.stale && refused {
            scene.world.coordinator.kill9()?;
            scene.world.coordinator.start(None)?;
        } else if !status.stale && status.participants.iter().all(|known| known.heard) {
            return Ok(Found::Yes(()));
        }
        Ok(Found::NotYet(format!("{status:?}")))
    })
    .await?;
    let teller = Teller::connect(&scene.world, &scene.ledger).await?;
    let legs: Vec<Leg<'_>> = scene.world.legs(10).into_iter().map(|leg| Leg { account: 9, ..leg }).collect();
    ensure!(teller.transfer("after", &legs).await?.is_committed(), "nothing works afterwards");
    scene.close().await
}
