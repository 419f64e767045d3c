//! A person has a branch ended otherwise than decided: nothing is recorded before its agent has let go of it,
//! and what is recorded is what the database holds.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use anyhow::Context as _;
use futures::future::join;
use serde_json::Value;
use votum_client::{Committed, HeuristicKind, Status};
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, ROLE};
use votum_tests::proxy::{Fault, Link, Message, Wire};
use votum_tests::scene::{A, B, Scene};
use votum_tests::tool::{Said, votumctl};
use votum_tests::world::World;

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
const DONE: &str = "SELECT count(*) FROM errand";

/// A commit that is decided, done at A, and owed at B, whose branch is prepared.
struct Owed {
    scene: Scene,
    gtid: String,
    gid: String,
}

impl Owed {
    /// B's COMMIT PREPARED is lost on its way, and the agent's next question about it is not answered until
    /// the wire is healed. The coordinator meets `point`.
    async fn behind_a_wire(point: Option<&str>) -> anyhow::Result<Self> {
        let builder = World::builder().proxied().coordinator_tables("[limits]\ncompleted_wait_ms = 200");
        let scene = Scene::open(builder).await?;
        scene.errands().await?;
        if point.is_some() {
            scene.world.coordinator.kill9()?;
            scene.world.start_coordinator(point).await?;
        }
        let wire = scene.world.network()?.wire(Link::AgentDatabase, 1)?;
        wire.arm(Message::SqlCommitPrepared, Fault::Reset);
        wire.arm(Message::SqlFind, Fault::HoldBack);
        let tx = scene.errand().await?;
        let gtid = tx.gtid().to_owned();
        assert!(tx.commit().await?.is_committed());
        scene.world.network()?.wire(Link::AgentDatabase, 1)?.until_sprung(Message::SqlFind).await?;
        Self::of(scene, gtid).await
    }

    /// B's COMMIT PREPARED waits for a standby that is away.
    async fn behind_a_standby() -> anyhow::Result<Self> {
        let builder = World::builder()
            .own_servers(Options::default())
            .coordinator_tables("[limits]\ncompleted_wait_ms = 200");
        let scene = Scene::open(builder).await?;
        scene.errands().await?;
        scene.world.coordinator.kill9()?;
        scene.world.start_coordinator(Some("decision-forced")).await?;
        let tx = scene.errand().await?;
        let gtid = tx.gtid().to_owned();
        let crash = async {
            scene.world.coordinator.wait_crash().await?;
            scene.bank(B)?.server.require_standby(true).await?;
            scene.world.start_coordinator(None).await
        };
        let (committed, crashed) = join(tx.commit(), crash).await;
        crashed?;
        assert!(committed?.is_committed());
        let owed = Self::of(scene, gtid).await?;
        owed.until_one_waits("COMMIT PREPARED").await?;
        Ok(owed)
    }

    async fn of(scene: Scene, gtid: String) -> anyhow::Result<Self> {
        scene.world.until_pending(&gtid, B).await?;
        let shown = votumctl(&scene.world, &["show", &gtid, "--json"]).await?.json()?;
        let branches = shown["branches"].as_array().context("no branches")?;
        let branch = branches.iter().find(|branch| branch["participant"] == B).context("no branch at B")?;
        let gid = branch["gid"].as_str().context("no gid")?.to_owned();
        Ok(Self { scene, gtid, gid })
    }

    fn wire(&self) -> anyhow::Result<&Wire> {
        self.scene.world.network()?.wire(Link::AgentDatabase, 1)
    }

    /// Waits until a server process at B is at `command`, and waits for the standby.
    async fn until_one_waits(&self, command: &str) -> anyhow::Result<()> {
        let direct = self.scene.direct(B).await?;
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '{command}%'"
        );
        eventually(&format!("{command} waits for a standby"), async || {
            let there: i64 = direct.query_one(&query, &[]).await?.get(0);
            Ok(if there == 1 { Found::Yes(()) } else { Found::NotYet(format!("{there} do")) })
        })
        .await
    }

    async fn resolve(&self, words: &[&str]) -> anyhow::Result<Said> {
        let first = ["resolve", &self.gid, "--participant", B, "--reason", "ticket 4714", "--json"];
        votumctl(&self.scene.world, &[&first[..], words].concat()).await
    }

    async fn shown(&self) -> anyhow::Result<Value> {
        votumctl(&self.scene.world, &["show", &self.gtid, "--json"]).await?.json()
    }

    /// The kinds of what the log holds of it, and all of that in words.
    async fn records(&self) -> anyhow::Result<(Vec<String>, String)> {
        let shown = self.shown().await?;
        let records = shown["records"].as_array().cloned().unwrap_or_default();
        let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let words: Vec<String> = records.iter().map(|record| text(record, "text")).collect();
        Ok((records.iter().map(|record| text(record, "kind")).collect(), words.join("; ")))
    }

    async fn until_recorded(&self, kind: &str) -> anyhow::Result<()> {
        eventually(&format!("{kind} is on record"), async || {
            let (kinds, _) = self.records().await?;
            let found = kinds.iter().any(|found| found == kind);
            Ok(if found { Found::Yes(()) } else { Found::NotYet(format!("{kinds:?}")) })
        })
        .await
    }

    /// What its clients are told, once nothing of it is owed any more.
    async fn told(&self) -> anyhow::Result<Committed> {
        eventually("nothing of it is owed", async || {
            let votum = self.scene.teller.votum();
            Ok(match votum.transaction(&self.gtid).await?.status {
                Status::Committed(committed) if committed.completed => Found::Yes(committed),
                status => Found::NotYet(format!("{status:?}")),
            })
        })
        .await
    }

    /// It is torn, and everybody who asks hears that; until a person has dealt with it.
    async fn is_torn(&self) -> anyhow::Result<()> {
        let Self { scene, gtid, gid } = self;
        let told = self.told().await?;
        assert_eq!(told.heuristics.len(), 1, "{told:?}");
        let departed = &told.heuristics[0];
        assert_eq!(
            (departed.kind, departed.participant.as_str(), &departed.gid),
            (HeuristicKind::Rollback, B, gid)
        );
        assert!(departed.detail.contains("ada") && departed.detail.contains("ticket 4714"), "{departed:?}");
        assert_eq!((scene.number(A, DONE).await?, scene.number(B, DONE).await?), (1, 0));
        assert_eq!(scene.number(B, PREPARED).await?, 0);
        self.until_recorded("Ended").await?;
        let (kinds, words) = self.records().await?;
        assert_eq!(kinds, ["Decided", "Resolved", "Heuristic", "Ended"]);
        assert!(
            words.contains("ada rolls back") && words.contains("decided commit, and rolled back"),
            "{words}"
        );
        let shown = self.shown().await?;
        assert!(shown["next"].to_string().contains("departed from the decision"), "{shown}");
        let status = votumctl(&scene.world, &["status", "--json"]).await?.ended(1);
        assert!(status.out.contains("VOTUM-1407") && status.out.contains(gtid.as_str()), "{status:?}");
        let words = ["acknowledge", gtid, "--reason", "ticket 4714: repaid", "--yes"];
        votumctl(&scene.world, &words).await?.ended(0);
        eventually("nobody has to look any more", async || {
            let status = votumctl(&scene.world, &["status"]).await?;
            Ok(if status.code == 0 { Found::Yes(()) } else { Found::NotYet(format!("{status:?}")) })
        })
        .await?;
        assert_eq!(self.told().await?.heuristics.len(), 1, "it is told as before");
        Ok(())
    }

    /// Nothing came of it: it is committed everywhere, and nothing says otherwise.
    async fn is_whole(&self) -> anyhow::Result<()> {
        let told = self.told().await?;
        assert!(told.heuristics.is_empty(), "{told:?}");
        let scene = &self.scene;
        assert_eq!((scene.number(A, DONE).await?, scene.number(B, DONE).await?), (1, 1));
        let (kinds, _) = self.records().await?;
        assert!(!kinds.contains(&"Resolved".into()) && !kinds.contains(&"Heuristic".into()), "{kinds:?}");
        Ok(())
    }
}

trait Errands {
    async fn errands(&self) -> anyhow::Result<()>;
    async fn errand(&self) -> anyhow::Result<votum_client::Transaction>;
}

impl Errands for Scene {
    async fn errands(&self) -> anyhow::Result<()> {
        for bank in &self.world.banks {
            bank.client_as(ROLE).await?.batch_execute("CREATE TABLE errand (n int)").await?;
        }
        Ok(())
    }

    async fn errand(&self) -> anyhow::Result<votum_client::Transaction> {
        let tx = self.teller.votum().begin().await?;
        for bank in [A, B] {
            tx.execute(bank, "INSERT INTO errand VALUES (1)", &[]).await?;
        }
        Ok(tx)
    }
}

const ROLLBACK: &[&str] = &["--rollback", "--heuristic"];
const FOR_GOOD: &[&str] = &["--rollback", "--heuristic", "--yes"];

#[tokio::test]
async fn i1_a_commit_that_is_owed_is_let_go_by_a_person_who_means_it_and_everybody_is_told()
-> anyhow::Result<()> {
    let owed = Owed::behind_a_wire(None).await?;
    let unsaid = owed.resolve(&["--rollback", "--yes"]).await?.ended(4);
    assert!(
        unsaid.out.contains("the decision is COMMIT") && unsaid.out.contains("--heuristic"),
        "{unsaid:?}"
    );
    let dry = owed.resolve(ROLLBACK).await?.ended(0).json()?;
    assert_eq!(dry["statements"].to_string(), format!(r#"["bank-b: ROLLBACK PREPARED '{}'"]"#, owed.gid));
    assert_eq!((&dry["applied"], &dry["departs_from"]), (&false.into(), &"commit".into()), "{dry}");
    assert_eq!(dry["consequence"], "this transaction is torn: rolled back at bank-b, committed at bank-a");
    assert_eq!(owed.scene.number(B, PREPARED).await?, 1);

    let heal = async {
        owed.until_recorded("Resolved").await?;
        owed.wire()?.heal();
        anyhow::Ok(())
    };
    let (done, healed) = join(owed.resolve(FOR_GOOD), heal).await;
    healed?;
    let done = done?.ended(0).json()?;
    assert_eq!((&done["applied"], &done["result"]), (&true.into(), &"done".into()), "{done}");
    owed.is_torn().await?;
    let again = owed.resolve(FOR_GOOD).await?.ended(0).json()?;
    assert_eq!(again["applied"], false, "{again}");
    owed.scene.close().await
}

#[tokio::test]
async fn r16_a_coordinator_killed_once_a_departure_is_on_disk_carries_it_out_in_its_next_life()
-> anyhow::Result<()> {
    let owed = Owed::behind_a_wire(Some("departure-recorded")).await?;
    let world = &owed.scene.world;
    let (said, crashed) = join(owed.resolve(FOR_GOOD), world.coordinator.wait_crash()).await;
    crashed?;
    assert_ne!(said?.code, 0, "nobody could tell");
    owed.wire()?.heal();
    world.start_coordinator(None).await?;
    owed.is_torn().await?;
    owed.scene.close().await
}

#[tokio::test]
async fn a_coordinator_killed_before_a_departure_is_recorded_owes_the_commit_as_before() -> anyhow::Result<()>
{
    let owed = Owed::behind_a_wire(Some("branch-held")).await?;
    let world = &owed.scene.world;
    let (said, crashed) = join(owed.resolve(FOR_GOOD), world.coordinator.wait_crash()).await;
    crashed?;
    assert_ne!(said?.code, 0, "nothing was done");
    owed.wire()?.heal();
    world.start_coordinator(None).await?;
    owed.is_whole().await?;
    owed.scene.close().await
}

#[tokio::test]
async fn a_commit_that_waits_for_a_standby_is_not_let_go() -> anyhow::Result<()> {
    let owed = Owed::behind_a_standby().await?;
    let refused = owed.resolve(FOR_GOOD).await?;
    assert!(refused.out.contains("nothing was recorded"), "{refused:?}");
    assert!(refused.out.contains("synchronous standby"), "{refused:?}");
    // The same from a server process that the agent knows nothing of: it was killed meanwhile.
    owed.scene.bank(B)?.agent.kill9()?;
    owed.scene.world.restart_agent(1, None).await?;
    owed.until_one_waits("COMMIT PREPARED").await?;
    let refused = owed.resolve(FOR_GOOD).await?;
    assert!(refused.out.contains("a server process is ending it"), "{refused:?}");
    owed.scene.bank(B)?.server.require_standby(false).await?;
    owed.is_whole().await?;
    owed.scene.close().await
}

#[tokio::test]
async fn what_an_agent_was_ordered_cannot_be_taken_back_while_it_is_away() -> anyhow::Result<()> {
    let owed = Owed::behind_a_wire(None).await?;
    owed.scene.bank(B)?.agent.kill9()?;
    owed.scene.world.until_disconnected(B).await?;
    for words in [ROLLBACK, FOR_GOOD] {
        let refused = owed.resolve(words).await?;
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(refused.out.contains("cannot be taken back"), "{refused:?}");
    }
    owed.wire()?.heal();
    owed.scene.world.restart_agent(1, None).await?;
    owed.is_whole().await?;
    owed.until_recorded("Ended").await?;
    let late = owed.resolve(FOR_GOOD).await?.ended(4);
    assert!(late.out.contains("nothing of its transaction is owed any more"), "{late:?}");
    owed.scene.close().await
}
