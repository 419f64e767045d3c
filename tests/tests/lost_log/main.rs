//! A coordinator's log is gone for good: what `votumctl lost-log` finds in the databases, proves, and settles.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs, unreachable_pub)]
#![cfg(test)] // clippy then lets helpers fail as tests do

mod owners;
mod site;

use anyhow::Context as _;
use serde_json::Value;
use votum_tests::eventually::{Found, eventually};
use votum_tests::inspect::Prepared;
use votum_tests::postgres::{Options, ROLE};
use votum_tests::process::{Build, Process, program};
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::{Leg, work};
use votum_tests::tool::votumctl;
use votum_tests::world::{Bank, World};

use crate::site::*;

/// The decision was forced and one participant was told: its marker proves the commit.
#[tokio::test]
async fn a_commit_that_one_participant_was_told_is_proven_by_its_marker_and_carried_out() -> anyhow::Result<()>
{
    let mut scene = scene(World::builder(), true).await?;
    scene.world.coordinator.kill9()?;
    scene.world.start_coordinator(Some("first-participant-told")).await?;
    scene.teller = impatient(&scene).await?;
    let gtid = transfer(&scene, "told one", 1).await?;
    scene.world.coordinator.wait_crash().await?;
    let left = scene.world.until_prepared(1).await?;
    scene.bank(A)?.plant_foreign("somebody else's").await?;
    let forged = format!("votum_{}_1_3f9ac2_77_0_2", scene.world.coordinator_id());
    scene.bank(B)?.plant_foreign(&forged).await?;
    let unparsable = format!("votum_{}_half", scene.world.coordinator_id());
    scene.bank(B)?.plant_foreign_as(ROLE, &unparsable).await?;
    lose_the_log(&scene).await?;

    let document = dry(&scene, &[]).await?;
    let one = found(&document, &gtid);
    assert_eq!((&one["verdict"], &one["state"]), (&"must_commit".into(), &"planned".into()), "{document}");
    assert_eq!(one["prepared"][0]["statement"], format!("COMMIT PREPARED '{}'", left[0].gid));
    let apart: Vec<&str> =
        document["apart"].as_array().unwrap().iter().filter_map(|one| one["gid"].as_str()).collect();
    assert_eq!(apart.len(), 2, "{document}");
    assert!(apart.contains(&forged.as_str()) && apart.contains(&unparsable.as_str()), "{apart:?}");
    assert_eq!(scene.world.prepared().await?.len(), 3, "a dry run did something");
    // Where the coordinator's configuration is left, an agent's that was not given is missed.
    let there = scene.world.dir().join(format!("{}.toml", left[0].bank)).display().to_string();
    let (id, coordinator) = (scene.world.coordinator_id(), scene.world.config_file().display().to_string());
    let one_agent = ["lost-log", "--config", &there, "--coordinator-id", id, "--json"];
    let all_known = [&one_agent[..], &["--coordinator-config", &coordinator]].concat();
    for words in [&one_agent[..], &all_known] {
        let document = votumctl(&scene.world, words).await?.ended(1).json()?;
        assert_eq!(found(&document, &gtid)["verdict"], "unread", "{document}");
        let missed =
            document["databases"].as_array().unwrap().iter().filter(|one| one["read"] == false).count();
        assert_eq!(missed, usize::from(words.contains(&"--coordinator-config")), "{document}");
    }
    let against = act(&scene, &["--rollback", &gtid]).await?.ended(4);
    assert!(against.out.contains("must commit"), "{against:?}");
    assert!(!std::fs::exists(report(&scene))? || entries(&reported(&scene)?, "attempt").is_empty());

    let done = act(&scene, &[]).await?.ended(1).json()?;
    assert_eq!(found(&done, &gtid)["state"], "settled", "{done}");
    let lines = reported(&scene)?;
    let order: Vec<&str> = lines.iter().filter_map(|line| line["entry"].as_str()).collect();
    assert_eq!(order, ["run", "decided", "attempt", "result", "end"]);
    assert_eq!(entries(&lines, "decided")[0]["operator"], Value::Null, "nobody had to choose");
    // The same again finds nothing more to do.
    assert_eq!(act(&scene, &[]).await?.json()?["transactions"], Value::Array(Vec::new()));
    close(scene).await
}

/// The decision was forced and nobody was told: every branch is prepared, and a person chooses. The tool is killed
/// between two branches, and what was chosen holds for both, also where nothing else would prove it.
#[tokio::test]
async fn a_choice_that_was_interrupted_half_way_is_carried_on_as_it_was_decided() -> anyhow::Result<()> {
    for markers in [true, false] {
        let mut scene = scene(World::builder(), markers).await?;
        scene.world.coordinator.kill9()?;
        scene.world.start_coordinator(Some("decision-forced")).await?;
        scene.teller = impatient(&scene).await?;
        let gtid = transfer(&scene, "told nobody", 1).await?;
        scene.world.coordinator.wait_crash().await?;
        scene.world.until_prepared(2).await?;
        lose_the_log(&scene).await?;

        let document = dry(&scene, &[]).await?;
        let one = found(&document, &gtid);
        assert_eq!((&one["verdict"], &one["state"]), (&"person".into(), &"waits".into()), "{document}");
        assert!(one["if_commit"].is_string() && one["if_rollback"].is_string(), "{one}");
        let waits = act(&scene, &[]).await?.ended(1).json()?;
        assert_eq!(found(&waits, &gtid)["state"], "waits");
        assert_eq!(scene.world.prepared().await?.len(), 2, "something was guessed");

        act_and_die(&scene, "after-commit-prepared@1", &["--commit", &gtid]).await?;
        let left = scene.world.until_prepared(1).await?;
        assert_eq!(left[0].bank, B);
        let turned = act(&scene, &["--rollback", &gtid]).await?.ended(4);
        assert!(turned.out.contains("was decided before"), "{turned:?}");
        // Nothing is chosen any more: the report says what was.
        let said = act(&scene, &[]).await?.ended(i32::from(!markers));
        let done = said.json()?;
        let one = found(&done, &gtid);
        assert_eq!((&one["state"], &one["decision"]["by"]), (&"settled".into(), &"report".into()), "{done}");
        let interrupted = &done["interrupted"][0];
        let found_out = if markers { "found_committed" } else { "unknown" };
        assert_eq!(
            (&interrupted["participant"], &interrupted["result"]),
            (&A.into(), &found_out.into()),
            "{done}"
        );
        let lines = reported(&scene)?;
        let decided = entries(&lines, "decided");
        assert_eq!(decided.len(), 1, "{decided:?}");
        assert_eq!((&decided[0]["action"], &decided[0]["operator"]), (&"commit".into(), &"ada".into()));
        assert_eq!(entries(&lines, "attempt").len(), entries(&lines, "result").len());
        for (bank, balance) in [(A, 990), (B, 1_010)] {
            assert_eq!(scene.balance(bank, 1).await?, balance);
        }
        close(scene).await?;
    }
    Ok(())
}

/// A database is down. Of what may have a branch there nothing is concluded, and nobody may choose; when it is
/// there, it tells.
#[tokio::test]
async fn nothing_is_concluded_while_a_database_that_may_hold_a_branch_cannot_be_read() -> anyhow::Result<()> {
    let settings = vec![("log_statement".to_owned(), "all".to_owned())];
    let mut scene =
        scene(World::builder().own_servers(Options { settings, ..Options::default() }), true).await?;
    scene.world.coordinator.kill9()?;
    scene.world.start_coordinator(Some("first-participant-told")).await?;
    scene.teller = impatient(&scene).await?;
    let gtid = transfer(&scene, "one is down", 1).await?;
    scene.world.coordinator.wait_crash().await?;
    let left = scene.world.until_prepared(1).await?;
    lose_the_log(&scene).await?;
    let (there, down) = if left[0].bank == A { (A, B) } else { (B, A) };
    scene.bank(down)?.server.stop().await?;

    let document = dry(&scene, &[]).await?;
    let one = found(&document, &gtid);
    assert_eq!((&one["verdict"], &one["state"]), (&"unread".into(), &"waits".into()), "{document}");
    assert!(one["known"].as_str().unwrap().contains(down), "{one}");
    for choice in ["--commit", "--rollback"] {
        let refused = act(&scene, &[choice, &gtid]).await?.ended(4);
        assert!(refused.out.contains("--without"), "{refused:?}");
    }
    let given_up = dry(&scene, &["--without", down]).await?;
    assert_eq!(found(&given_up, &gtid)["verdict"], "person", "{given_up}");
    let read = act(&scene, &["--without", there]).await?.ended(4);
    assert!(read.out.contains("can be read"), "{read:?}");
    assert_eq!(scene.bank(there)?.prepared().await?, left);

    scene.bank(down)?.server.restart().await?;
    asks_in_order(&scene).await?;
    let done = act(&scene, &[]).await?.ended(0).json()?;
    let one = found(&done, &gtid);
    assert_eq!((&one["verdict"], &one["state"]), (&"must_commit".into(), &"settled".into()), "{done}");
    close(scene).await
}

/// What the tool asks of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Listing,
    Markers,
}

/// What it asked of a server, which logs its statements, each with its time, in that order.
fn asked(bank: &Bank) -> anyhow::Result<Vec<(String, Asked)>> {
    let log = std::fs::read_to_string(bank.server.dir().join("log"))?;
    let mut all = Vec::new();
    for line in log.lines().filter(|line| line.contains("statement: ")) {
        let time: String = line.chars().take("2026-11-22 07:40:00.000".len()).collect();
        if line.contains("ON pg_catalog.left(p.gid") {
            all.push((time, Asked::Listing));
        } else if line.contains("JOIN votum.marker m") {
            all.push((time, Asked::Markers));
        }
    }
    Ok(all)
}

/// What is committed between a listing and the markers was listed or is marked: everything is listed everywhere
/// before any marker is read, and once more after that.
async fn asks_in_order(scene: &Scene) -> anyhow::Result<()> {
    let banks = &scene.world.banks;
    let before = banks.iter().map(|bank| Ok(asked(bank)?.len())).collect::<anyhow::Result<Vec<_>>>()?;
    dry(scene, &[]).await?;
    let (mut listed, mut marked) = (Vec::new(), Vec::new());
    for (bank, before) in banks.iter().zip(before) {
        let since = asked(bank)?.split_off(before);
        let order: Vec<Asked> = since.iter().map(|(_, asked)| *asked).collect();
        assert_eq!(order, [Asked::Listing, Asked::Markers, Asked::Listing], "{}", bank.name);
        listed.push(since[0].0.clone());
        marked.push(since[1].0.clone());
    }
    assert!(listed.iter().max() <= marked.iter().min(), "{listed:?} {marked:?}");
    Ok(())
}

/// One participant never prepared, so nothing can have been decided. Its database has no marker of it, and the
/// advice is to roll back; a tombstone there would have proven it.
#[tokio::test]
async fn a_branch_whose_sibling_never_prepared_is_rolled_back_by_choice_or_proven_by_a_tombstone()
-> anyhow::Result<()> {
    let scene = scene(World::builder(), true).await?;
    // One transfer for each way, on accounts of their own; the votes of the second bank never come.
    scene.bank(B)?.agent.kill9()?;
    scene.world.until_disconnected(B).await?;
    scene.bank(B)?.agent.start(Some("before-prepare=stop"))?;
    scene.world.ready().await?;
    let [by_choice, by_tombstone] = half_prepared(&scene, ["chosen", "proven"]).await?;
    lose_the_log(&scene).await?;
    let insert = format!("INSERT INTO votum.marker VALUES ({}, false)", key(&by_tombstone, 1));
    scene.set_up(B, &insert).await?;

    let document = dry(&scene, &[]).await?;
    let (chosen, proven) = (found(&document, &by_choice), found(&document, &by_tombstone));
    assert_eq!((&chosen["verdict"], &chosen["missing"][0]), (&"person".into(), &1.into()), "{document}");
    assert!(chosen["advice"].as_str().unwrap().starts_with("roll it back"), "{chosen}");
    assert_eq!(proven["verdict"], "must_rollback", "{document}");
    let file = scene.world.dir().join("choices").display().to_string();
    std::fs::write(&file, format!("# asked the shop\n{by_choice} rollback 4714: not told\n"))?;
    act_and_die(&scene, "before-rollback-prepared@2", &["--choices", &file]).await?;
    let done = act(&scene, &["--choices", &file]).await?.ended(0).json()?;
    assert_eq!(done["transactions"].as_array().unwrap().len(), 1, "one was settled before it died: {done}");
    let lines = reported(&scene)?;
    let decided: Vec<&Value> = entries(&lines, "decided");
    assert_eq!(decided.len(), 2, "{decided:?}");
    let reasons: Vec<&Value> = decided.iter().map(|one| &one["reason"]).collect();
    assert!(reasons.contains(&&"4714: not told".into()) && reasons.contains(&&Value::Null), "{reasons:?}");
    for bank in [A, B] {
        assert_eq!((scene.balance(bank, 1).await?, scene.balance(bank, 2).await?), (1_000, 1_000));
    }
    close(scene).await
}

/// Asks for two commits, on accounts 1 and 2, of which only the first bank's branches get prepared.
async fn half_prepared(scene: &Scene, names: [&str; 2]) -> anyhow::Result<[String; 2]> {
    let mut open = Vec::new();
    for (name, account) in names.into_iter().zip(1..) {
        let legs: Vec<Leg<'_>> = scene.world.legs(10).into_iter().map(|leg| Leg { account, ..leg }).collect();
        let tx = scene.teller.open(name, &legs).await?;
        work(&tx, name, &legs).await?;
        open.push((tx, name));
    }
    let gtids: Vec<String> = open.iter().map(|(tx, _)| tx.gtid().to_owned()).collect();
    let committing =
        futures::future::join_all(open.into_iter().map(|(tx, name)| scene.teller.commit(tx, name)));
    let prepared = eventually("the first bank has prepared both", async || {
        let there: Vec<Prepared> = scene.bank(A)?.prepared().await?;
        Ok(if there.len() == 2 { Found::Yes(()) } else { Found::NotYet(format!("{there:?}")) })
    });
    let (_, prepared) = futures::future::join(committing, prepared).await;
    prepared?;
    let [first, second] = gtids.as_slice() else { anyhow::bail!("{gtids:?}") };
    Ok([first.clone(), second.clone()])
}

/// Between the look and the act somebody else commits a branch of a transaction that is to be rolled back.
#[tokio::test]
async fn what_somebody_else_settles_meanwhile_is_left_alone() -> anyhow::Result<()> {
    let scene = scene(World::builder(), true).await?;
    scene.bank(B)?.agent.kill9()?;
    scene.world.until_disconnected(B).await?;
    scene.bank(B)?.agent.start(Some("before-prepare=stop"))?;
    scene.world.ready().await?;
    let [first, second] = half_prepared(&scene, ["first", "second"]).await?;
    lose_the_log(&scene).await?;

    let chosen = acting(&scene, &["--rollback", &first, "--rollback", &second, "--operator", "ada"]);
    let chosen: Vec<&str> = chosen.iter().map(String::as_str).collect();
    let log = scene.world.dir().join("votumctl.log");
    let tool = Process::new("votumctl", program(Build::CrashPoints, "votumctl")?, &chosen, log);
    tool.start(Some("before-rollback-prepared@1=stop"))?;
    tool.wait_stopped().await?;
    let marker = key(&second, 1);
    scene.set_up(B, &format!("INSERT INTO votum.marker VALUES ({marker}, true)")).await?;
    tool.thaw()?;
    let ended = tool.wait_exit().await?;
    assert_eq!(ended.code(), Some(1), "{}", tool.log_tail());
    let lines = reported(&scene)?;
    let of = |entry: &str| entries(&lines, entry).iter().map(|line| line["gtid"].clone()).collect::<Vec<_>>();
    assert_eq!((of("result"), of("held")), (vec![first.into()], vec![second.as_str().into()]));
    assert_eq!(scene.world.prepared().await?.len(), 1);

    // It was not decided, and what is proven now is another decision than the one that was chosen.
    let against = act(&scene, &["--rollback", &second]).await?.ended(4);
    assert!(against.out.contains("must commit"), "{against:?}");
    scene.set_up(B, "DELETE FROM votum.marker").await?;
    let done = act(&scene, &["--rollback", &second]).await?.ended(0).json()?;
    assert_eq!(found(&done, &second)["state"], "settled", "{done}");
    close(scene).await
}

/// While an agent is connected nothing is done; the name has to be typed out; and what is prepared again under a
/// name that was settled is other work.
#[tokio::test]
async fn it_refuses_while_agents_are_connected_and_leaves_other_work_alone() -> anyhow::Result<()> {
    let mut scene = scene(World::builder(), true).await?;
    scene.world.coordinator.kill9()?;
    scene.world.start_coordinator(Some("decision-forced")).await?;
    scene.teller = impatient(&scene).await?;
    let gtid = transfer(&scene, "connected", 1).await?;
    scene.world.coordinator.wait_crash().await?;
    let prepared = scene.world.until_prepared(2).await?;
    std::fs::remove_dir_all(scene.world.log_directory())?;

    let document = dry(&scene, &[]).await?;
    assert!(document["databases"][0]["sessions"][0]["application_name"].is_string(), "{document}");
    assert!(document["next"][0].as_str().unwrap().starts_with("Stop every coordinator"), "{document}");
    let refused = act(&scene, &["--commit", &gtid]).await?.ended(4);
    assert!(refused.out.contains("votum-participant bank-a"), "{refused:?}");
    assert_eq!(scene.world.prepared().await?, prepared);
    stop_agents(&scene).await?;

    let mut other = acting(&scene, &["--commit", &gtid]);
    let place = other.iter().position(|word| word == "--really").context("no --really")?;
    other[place + 1] = "another".into();
    let refused = say(&scene, &other).await?.ended(4);
    assert!(refused.err.contains("type out"), "{refused:?}");
    assert_eq!(scene.world.prepared().await?, prepared);

    act_and_die(&scene, "before-commit-prepared@1", &["--commit", &gtid]).await?;
    assert_eq!(scene.world.prepared().await?, prepared, "nothing had been sent");
    // Meanwhile somebody commits it by hand, and prepares other work under its name.
    scene.bank(A)?.end_by_hand("COMMIT").await?;
    scene.bank(A)?.plant_foreign_as(ROLE, &prepared[0].gid).await?;
    let said = act(&scene, &[]).await?.ended(1).json()?;
    let one = found(&said, &gtid);
    assert_eq!(one["state"], "held", "{said}");
    assert!(one["held"].as_str().unwrap().contains("other work"), "{one}");
    assert_eq!(scene.world.prepared().await?.len(), 2);

    // A person takes it away, and the rest goes on as it was decided.
    scene.bank(A)?.by_hand(&format!("ROLLBACK PREPARED '{}'", prepared[0].gid)).await?;
    scene.bank(A)?.forget_foreign(&prepared[0].gid);
    let done = act(&scene, &["--despite-sessions"]).await?.ended(0).json()?;
    assert_eq!(found(&done, &gtid)["state"], "settled", "{done}");
    assert_eq!(done["interrupted"][0]["result"], "found_committed", "{done}");
    close(scene).await
}
