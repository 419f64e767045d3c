//! `votumctl` against real coordinators, agents and servers, and against the directories of stopped ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use votum_client::{Outcome, Status};
use votum_tests::eventually::{Found, eventually};
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::{Leg, work};
use votum_tests::tool::{Said, votumctl};
use votum_tests::world::World;

const LEGS: [Leg<'static>; 2] =
    [Leg { bank: A, account: 1, amount: -30 }, Leg { bank: B, account: 1, amount: 30 }];

/// The answers as text and as JSON must end alike.
async fn both(world: &World, words: &[&str]) -> anyhow::Result<Said> {
    let text = votumctl(world, words).await?;
    let json = votumctl(world, &[words, &["--json"]].concat()).await?;
    ensure!(text.code == json.code, "text and JSON end differently: {text:?} {json:?}");
    ensure!(!text.out.contains('\x1b'), "colors in a pipe: {text:?}");
    Ok(json)
}

async fn stop(world: &World) -> anyhow::Result<()> {
    world.coordinator.terminate()?;
    world.coordinator.wait_exit().await?;
    Ok(())
}

/// Every file below a directory, with its bytes.
fn contents(directory: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(contents(&path)?);
        } else {
            files.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(files)
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item[key].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_running_system_is_shown_as_it_is() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let world = &scene.world;
    assert!(scene.teller.transfer("paid", &LEGS).await?.is_committed());
    let gtid = scene.ledger.transfers()["paid"].gtid.clone().context("no gtid")?;

    let status = both(world, &["status"]).await?.ended(0).json()?;
    assert_eq!(status["coordinator_id"], world.coordinator_id());
    assert_eq!(texts(&status["participants"], "participant"), [A, B]);
    assert!(status["participants"][0]["connected"].as_bool() == Some(true), "{status}");

    // `Ended` follows the last acknowledgement within a second.
    eventually("the transfer is listed as committed", async || {
        let list = votumctl(world, &["list", "--state", "committed", "--participant", A, "--json"]).await?;
        let found = texts(&list.ended(0).json()?["transactions"], "gtid").contains(&gtid);
        Ok(if found { Found::Yes(()) } else { Found::NotYet("not listed".into()) })
    })
    .await?;
    let none = both(world, &["list", "--state", "aborted"]).await?.ended(0).json()?;
    assert_eq!(none["transactions"].as_array().map(Vec::len), Some(0));

    let shown = both(world, &["show", &gtid]).await?.ended(0).json()?;
    assert_eq!((&shown["outcome"]["kind"], &shown["label"]), (&"committed".into(), &"paid".into()));
    assert_eq!(texts(&shown["branches"], "participant"), [A, B]);
    assert!(texts(&shown["records"], "kind").contains(&"Decided".to_owned()), "{shown}");

    let in_doubt = both(world, &["in-doubt"]).await?.ended(0).json()?;
    assert_eq!(in_doubt["branches"].as_array().map(Vec::len), Some(0), "{in_doubt}");

    let unknown = format!("{}-99-aaaaaa-1", world.coordinator_id());
    let unknown = both(world, &["show", &unknown]).await?.ended(0).json()?;
    assert_eq!(unknown["outcome"]["kind"], "unknown");
    let refused = both(world, &["show", "stranger-1-aaaaaa-1"]).await?.ended(4);
    assert_eq!(refused.json()?["error"]["code"], "VOTUM-1204");
    scene.close().await
}

#[tokio::test]
async fn what_is_in_doubt_is_shown_with_its_locks_beside_what_is_not_ours_and_who_does_not_answer()
-> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let world = &scene.world;
    let foreign = format!("{}_of_another_tool", scene.bank(A)?.database);
    scene.bank(A)?.plant_foreign(&foreign).await?;
    let tx = scene.teller.open("held", &LEGS).await?;
    work(&tx, "held", &LEGS).await?;
    // B cannot vote now: A's branch is prepared, its transaction undecided.
    scene.bank(B)?.agent.freeze()?;
    let gtid = tx.gtid().to_owned();
    let commit = scene.teller.commit(tx, "held");
    let look = async {
        let row = eventually("A's branch is prepared", async || {
            let said = both(world, &["in-doubt", "--wait", "1"]).await?.ended(1).json()?;
            let ours = said["branches"].as_array().cloned().unwrap_or_default();
            Ok(match ours.into_iter().find(|row| row["rule"] == "R6") {
                Some(row) => Found::Yes((row, said)),
                None => Found::NotYet(said.to_string()),
            })
        });
        let (row, said) = row.await?;
        assert_eq!((&row["participant"], &row["gtid"]), (&A.into(), &gtid.as_str().into()));
        assert_eq!(row["decision"], "none");
        let locks = row["locks"].to_string();
        assert!(locks.contains("public.accounts (RowExclusiveLock)"), "{locks}");
        assert_eq!(texts(&said["foreign"], "gid"), [foreign.as_str()]);
        assert_eq!(texts(&said["unheard"], "participant"), [B]);
        assert!(said["attention"].to_string().contains(B), "{said}");

        let gid = row["gid"].as_str().context("no gid")?;
        let words = ["resolve", gid, "--participant", A, "--rollback", "--reason", "impatience", "--yes"];
        let refused = votumctl(world, &words).await?.ended(4);
        assert!(refused.err.contains("is live"), "{refused:?}");
        anyhow::Ok(())
    };
    let (committed, looked) = futures::future::join(commit, async {
        let looked = look.await;
        scene.bank(B)?.agent.thaw()?;
        looked
    })
    .await;
    looked?;
    // Thawed within the transaction's timeout, it commits; a machine that was too slow for that aborts it.
    assert!(!matches!(committed?, Outcome::Unknown { .. }));
    scene.close().await
}

#[tokio::test]
async fn a_branch_whose_agent_is_down_is_not_settled_against_its_decision() -> anyhow::Result<()> {
    let builder = World::builder().coordinator_tables("[limits]\ncompleted_wait_ms = 200");
    let scene = Scene::open(builder).await?;
    let world = &scene.world;
    world.restart_agent(1, Some("before-commit-prepared")).await?;
    let outcome = scene.teller.transfer("owed", &LEGS).await?;
    assert!(matches!(&outcome, Outcome::Committed(committed) if !committed.completed), "{outcome}");
    let gtid = scene.ledger.transfers()["owed"].gtid.clone().context("no gtid")?;
    let agent = &scene.bank(B)?.agent;
    agent.wait_crash().await?;
    world.until_disconnected(B).await?;
    world.until_pending(&gtid, B).await?;

    let in_doubt = both(world, &["in-doubt", "--participant", B]).await?.ended(1).json()?;
    assert_eq!(texts(&in_doubt["unheard"], "participant"), [B], "{in_doubt}");
    let status = both(world, &["status"]).await?.ended(1).json()?;
    assert!(status["attention"].to_string().contains("bank-b is not connected"), "{status}");
    let shown = both(world, &["show", &gtid]).await?.json()?;
    assert_eq!(shown["state"], "committing", "{shown}");
    assert_eq!(shown["outcome"]["pending"].to_string(), r#"["bank-b"]"#, "{shown}");

    let branch = shown["branches"].as_array().and_then(|all| all.iter().find(|b| b["participant"] == B));
    let gid = branch.and_then(|branch| branch["gid"].as_str()).context("no gid")?;
    let resolve = |action: &'static str, apply: &'static [&'static str]| {
        let words = [&["resolve", gid, "--participant", B, action, "--reason", "ticket"], apply].concat();
        async move { both(world, &words).await }
    };
    for apply in [&[][..], &["--yes"]] {
        let refused = resolve("--rollback", apply).await?.ended(4);
        assert_eq!(refused.json()?["error"]["code"], "VOTUM-1201");
        assert!(refused.err.contains("the decision is COMMIT"), "{refused:?}");
        let agrees = resolve("--commit", apply).await?.ended(0).json()?;
        assert_eq!(agrees["applied"], false, "{agrees}");
        assert_eq!(agrees["statements"].to_string(), format!(r#"["bank-b: COMMIT PREPARED '{gid}'"]"#));
    }

    agent.start(None)?;
    eventually("nothing is in doubt", async || {
        let said = votumctl(world, &["in-doubt", "--json"]).await?;
        let none = said.code == 0 && said.json()?["branches"].as_array().is_some_and(Vec::is_empty);
        Ok(if none { Found::Yes(()) } else { Found::NotYet(format!("{said:?}")) })
    })
    .await?;
    scene.close().await
}

#[tokio::test]
async fn a_branch_that_may_have_been_decided_before_all_memory_waits_for_a_person_who_settles_it()
-> anyhow::Result<()> {
    let scene = Scene::open(World::builder().short_memory()).await?;
    let world = &scene.world;
    let gid = scene.forgotten_branch().await?;
    let (gtid, gid) = (gid.gtid.clone(), gid.to_string());
    eventually("the branch is quarantined, and nothing else is wrong", async || {
        let status = votumctl(world, &["status", "--json"]).await?.json()?;
        let quarantined = status["participants"][0]["quarantined"] == 1;
        // And that the log remembers too little, as it was told to.
        let alone = quarantined && texts(&status["alarms"], "code") == ["VOTUM-1402", "VOTUM-1411"];
        Ok(if alone { Found::Yes(()) } else { Found::NotYet(status.to_string()) })
    })
    .await?;
    both(world, &["status"]).await?.ended(1);
    let in_doubt = both(world, &["in-doubt"]).await?.ended(1).json()?;
    assert_eq!(
        (texts(&in_doubt["branches"], "rule"), texts(&in_doubt["branches"], "gid")),
        (vec!["R10".into()], vec![gid.clone()])
    );

    let prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
    let words = ["resolve", &gid, "--participant", A, "--rollback", "--reason", "ticket 4711"];
    let dry = both(world, &words).await?.ended(0).json()?;
    assert_eq!((&dry["applied"], scene.number(A, prepared).await?), (&false.into(), 1), "{dry}");
    let done = votumctl(world, &[&words[..], &["--yes", "--json"]].concat()).await?.ended(0).json()?;
    assert_eq!((&done["applied"], &done["result"]), (&true.into(), &"done".into()), "{done}");
    assert_eq!(scene.number(A, prepared).await?, 0);

    let shown = both(world, &["show", &gtid.to_string()]).await?.json()?;
    let resolved = shown["records"].as_array().and_then(|all| all.iter().find(|r| r["kind"] == "Resolved"));
    let text = resolved.map(|record| record["text"].to_string()).unwrap_or_default();
    assert!(text.contains("ada rolls back") && text.contains("ticket 4711"), "{shown}");
    eventually("the alarm is over", async || {
        let status = votumctl(world, &["status", "--json"]).await?.json()?;
        let over = texts(&status["alarms"], "code") == ["VOTUM-1411"];
        Ok(if over { Found::Yes(()) } else { Found::NotYet(status.to_string()) })
    })
    .await?;
    both(world, &["status"]).await?.ended(1);
    both(world, &["in-doubt"]).await?.ended(0);
    // To ask again what became of the transfer is now answered EXPIRED, which is no outcome.
    scene.close().await
}

#[tokio::test]
async fn a_departure_is_an_alarm_until_a_person_acknowledges_it() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let world = &scene.world;
    let gtid = scene.rolled_back_by_hand().await?;
    world.until_alarm("VOTUM-1407").await?;
    let words = ["acknowledge", &gtid, "--reason", "ticket 4711: repaid"];
    let dry = both(world, &words).await?.ended(0).json()?;
    assert_eq!((&dry["applied"], texts(&dry["departures"], "participant")), (&false.into(), vec![A.into()]));
    let elsewhere = votumctl(world, &[&words[..], &["--participant", B, "--yes"]].concat()).await?.ended(4);
    assert!(elsewhere.err.contains("nothing of"), "{elsewhere:?}");
    votumctl(world, &["status"]).await?.ended(1);

    let done = votumctl(world, &[&words[..], &["--yes", "--json"]].concat()).await?.ended(0).json()?;
    assert_eq!(
        (&done["applied"], texts(&done["departures"], "kind")),
        (&true.into(), vec!["rollback".into()])
    );
    world.crash_and_restart_coordinator().await?;
    eventually("everything is in order after a restart", async || {
        let status = votumctl(world, &["status"]).await?;
        Ok(if status.code == 0 { Found::Yes(()) } else { Found::NotYet(format!("{status:?}")) })
    })
    .await?;
    votumctl(world, &words).await?.ended(4);
    let shown = both(world, &["show", &gtid]).await?.json()?;
    assert_eq!(texts(&shown["outcome"]["heuristics"], "participant"), [A], "it is told as before");
    assert!(shown["next"].to_string().contains("a person has dealt with it"), "{shown}");
    let text = texts(&shown["records"], "text").join("; ");
    assert!(text.contains("ada has dealt with") && text.contains("ticket 4711: repaid"), "{text}");
    scene.close().await
}

#[tokio::test]
async fn what_is_not_ours_is_never_settled() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let name = scene.bank(A)?.database.trim_start_matches("t_").to_owned();
    let theirs = format!("votum_stranger_1_000000_{name}_0_2");
    scene.bank(A)?.plant_foreign(&theirs).await?;
    for action in ["--commit", "--rollback"] {
        let words = ["resolve", &theirs, "--participant", A, action, "--reason", "ticket", "--yes"];
        let refused = votumctl(&scene.world, &words).await?.ended(4);
        assert!(refused.err.contains("never touches it"), "{refused:?}");
    }
    // The judgement also watches that it is still there.
    scene.close().await
}

#[tokio::test]
async fn the_log_of_a_stopped_coordinator_answers_and_is_not_changed_by_it() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let world = &scene.world;
    let directory = world.log_directory().display().to_string();
    assert!(scene.teller.transfer("paid", &LEGS).await?.is_committed());
    let gtid = scene.ledger.transfers()["paid"].gtid.clone().context("no gtid")?;
    for words in [&["status"][..], &["list"], &["show", &gtid], &["log", "dump"], &["log", "salvage"]] {
        let running = votumctl(world, &[words, &["--directory", &directory]].concat()).await?.ended(4);
        assert!(running.err.contains("VOTUM-1103"), "{running:?}");
    }
    stop(world).await?;
    let gone = votumctl(world, &["status"]).await?.ended(3);
    assert!(gone.err.contains("--directory"), "{gone:?}");

    let before = contents(world.log_directory())?;
    let ask = async |words: &[&str]| both(world, &[words, &["--directory", &directory]].concat()).await;
    let status = ask(&["status"]).await?.ended(0).json()?;
    assert_eq!((&status["log"]["state"], &status["undelivered"]), (&"stopped".into(), &0.into()), "{status}");
    let list = ask(&["list"]).await?.ended(0).json()?;
    assert!(texts(&list["transactions"], "gtid").contains(&gtid), "{list}");
    let shown = ask(&["show", &gtid]).await?.ended(0).json()?;
    assert_eq!((&shown["state"], &shown["outcome"]["completed"]), (&"committed".into(), &true.into()));
    let verified = ask(&["log", "verify"]).await?.ended(0).json()?;
    assert_eq!((&verified["ok"], &verified["owed"]), (&true.into(), &0.into()), "{verified}");

    let dump = ask(&["log", "dump"]).await?.ended(0).lines()?;
    let positions: Vec<u64> = dump.iter().filter_map(|record| record["position"].as_u64()).collect();
    assert!(positions.is_sorted() && positions.len() == dump.len(), "{positions:?}");
    let of_it: Vec<&Value> = dump.iter().filter(|record| record["gtid"] == gtid.as_str()).collect();
    let kinds: Vec<&str> = of_it.iter().filter_map(|record| record["kind"].as_str()).collect();
    assert_eq!(kinds, ["Decided", "Ended"]);
    let salvaged = ask(&["log", "salvage"]).await?.ended(0).lines()?;
    let found = salvaged.iter().any(|record| record["gtid"] == gtid.as_str() && record["doubtful"] == false);
    assert!(found, "the decision is not among what was salvaged");
    assert!(before == contents(world.log_directory())?, "looking at the log has changed it");

    votumctl(world, &["in-doubt", "--directory", &directory]).await?.ended(2);
    world.start_coordinator(None).await?;
    scene.close().await
}

#[tokio::test]
async fn a_damaged_log_is_refused_with_its_place_and_what_is_intact_can_be_read() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let world = &scene.world;
    for transfer in ["first", "second", "third"] {
        assert!(scene.teller.transfer(transfer, &LEGS).await?.is_committed());
    }
    stop(world).await?;
    let copy = world.dir().join("damaged");
    for (file, mut bytes) in contents(world.log_directory())? {
        // Each half begins with a batch; one byte in the first is enough.
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-")) {
            bytes[100] ^= 1;
        }
        let to = copy.join(file.strip_prefix(world.log_directory())?);
        std::fs::create_dir_all(to.parent().context("no parent")?)?;
        std::fs::write(to, bytes)?;
    }
    let directory = copy.display().to_string();
    let verified = both(world, &["log", "verify", "--directory", &directory]).await?.ended(4).json()?;
    let problem = &verified["problems"][0];
    assert_eq!(verified["ok"], false);
    assert!(problem["file"].as_str().is_some_and(|file| file.contains("journal-")), "{verified}");
    votumctl(world, &["list", "--directory", &directory]).await?.ended(4);

    let salvaged = both(world, &["log", "salvage", "--directory", &directory]).await?.ended(1).lines()?;
    let records: Vec<&Value> = salvaged.iter().filter(|line| line.get("problem").is_none()).collect();
    assert!(records.len() < salvaged.len(), "no problem is named");
    assert!(records.iter().any(|record| record["kind"] == "Decided"), "no decision is shown");
    assert!(records.iter().all(|record| record["doubtful"] == true), "a broken chain is believed");
    world.start_coordinator(None).await?;
    scene.close().await
}

#[tokio::test]
async fn the_log_of_a_crashed_coordinator_says_what_it_still_owes() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let world = &scene.world;
    world.coordinator.kill9()?;
    world.start_coordinator(Some("decision-forced")).await?;
    let tx = scene.teller.open("owed", &LEGS).await?;
    let gtid = tx.gtid().to_owned();
    work(&tx, "owed", &LEGS).await?;
    let told = scene.teller.commit(tx, "owed");
    let look = async {
        world.coordinator.wait_exit().await?;
        let directory = world.log_directory().display().to_string();
        let words = ["list", "--state", "committing", "--directory", &directory];
        let list = both(world, &words).await?.ended(0).json()?;
        assert_eq!(texts(&list["transactions"], "gtid"), [gtid.as_str()]);
        let shown = both(world, &["show", &gtid, "--directory", &directory]).await?.ended(0).json()?;
        assert_eq!(shown["outcome"]["pending"].to_string(), r#"["bank-a","bank-b"]"#, "{shown}");
        let next = shown["next"].as_str().unwrap_or_default();
        assert!(next.starts_with("when the coordinator is started: COMMIT PREPARED"), "{next}");
        let verified = both(world, &["log", "verify", "--directory", &directory]).await?.ended(0).json()?;
        assert_eq!(verified["owed"], 1, "{verified}");
        let status = both(world, &["status", "--directory", &directory]).await?.ended(1).json()?;
        assert_eq!((&status["log"]["state"], &status["undelivered"]), (&"stopped".into(), &1.into()));
        assert_eq!(texts(&status["participants"], "participant"), [A, B], "{status}");
        world.start_coordinator(None).await
    };
    let (_, looked) = futures::future::join(told, look).await;
    looked?;
    let status = scene.ended(&gtid).await?;
    assert!(matches!(status, Status::Committed(_)), "{status:?}");
    scene.close().await
}
