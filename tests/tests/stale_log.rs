//! Logs that are not what the databases have seen: begun anew, restored from an older copy, copied, of another
//! coordinator. Nothing is concluded from what such a log does not say.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use votum_client::{Options, Outcome, Votum, Wait};
use votum_proto::address::Address;
use votum_proto::v1;
use votum_proto::v1::operator_client::OperatorClient;
use votum_proto::v1::outcome::Kind;
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::Ledger;
use votum_tests::plain::Plain;
use votum_tests::process::{Build, Process, program};
use votum_tests::teller::{Leg, Teller, work};
use votum_tests::world::World;

/// A client that waits for decisions alone.
async fn patient(world: &World, ledger: &Arc<Ledger>) -> Teller {
    connected(world, ledger, Votum::options()).await
}

/// One that gives up soon besides: what it asks about is lost with a log.
async fn impatient(world: &World, ledger: &Arc<Ledger>) -> Teller {
    connected(world, ledger, Votum::options().outcome_budget(Duration::from_secs(1))).await
}

async fn connected(world: &World, ledger: &Arc<Ledger>, options: Options) -> Teller {
    Teller::new(options.wait(Wait::Decided).connect(&world.address().to_string()).await.unwrap(), ledger)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Runs the coordinator's program with the world's configuration, changed by `change`, to its end.
fn run(
    world: &World,
    name: &str,
    change: impl FnOnce(String) -> String,
    arguments: &[&str],
) -> (i32, String) {
    let config = reconfigured(world, name, change);
    let ended = Command::new(program(Build::CrashPoints, "votum-coordinator").unwrap())
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let said =
        [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (ended.status.code().unwrap_or(-1), said)
}

/// The coordinator's configuration with a change, in a file of its own.
fn reconfigured(world: &World, name: &str, change: impl FnOnce(String) -> String) -> PathBuf {
    let text = std::fs::read_to_string(world.config_file()).unwrap();
    let file = world.dir().join(format!("{name}.toml"));
    std::fs::write(&file, change(text)).unwrap();
    file
}

/// A second coordinator, from a copy of the first one's log.
struct Second {
    process: Process,
    address: Address,
}

impl Second {
    /// Copies the log as it stands now, and starts a coordinator on the copy.
    fn start(world: &World) -> Self {
        let (log, socket) = (world.dir().join("copied"), world.dir().join("second.sock"));
        copy(world.log_directory(), &log);
        let config = reconfigured(world, "second", |text| {
            let text = text.replace(&world.address().to_string(), &format!("unix:{}", socket.display()));
            text.replace(&world.log_directory().display().to_string(), &log.display().to_string())
        });
        let process = Process::new(
            "second",
            program(Build::CrashPoints, "votum-coordinator").unwrap(),
            &["--config", &config.display().to_string()],
            world.dir().join("second.log"),
        );
        process.start(None).unwrap();
        Self { process, address: Address::Unix(socket) }
    }

    async fn until_status(&self, what: &str, holds: impl Fn(&v1::GetStatusResponse) -> bool) {
        eventually(what, async || {
            let mut operator = OperatorClient::new(self.address.channel()?);
            Ok(match operator.get_status(v1::GetStatusRequest {}).await {
                Ok(status) if holds(status.get_ref()) => Found::Yes(()),
                other => Found::NotYet(format!("{other:?}\n{}", self.process.log_tail())),
            })
        })
        .await
        .unwrap();
    }
}

async fn begins_nothing(world: &World) {
    let begun = Plain::begin(world.address(), v1::BeginRequest::default()).await;
    assert!(begun.is_err(), "something was begun that nobody may believe in");
}

fn refused(status: &v1::GetStatusResponse) -> bool {
    status.alarms.iter().any(|alarm| alarm.code == "VOTUM-1409")
}

/// Leaves two branches prepared, all votes in, and the coordinator dead.
async fn leave_in_doubt(world: &World, ledger: &Arc<Ledger>, name: &str) {
    world.coordinator.kill9().unwrap();
    world.start_coordinator(Some("votes-in")).await.unwrap();
    let teller = impatient(world, ledger).await;
    let outcome = teller.transfer(name, &world.legs(10)).await.unwrap();
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    world.coordinator.wait_crash().await.unwrap();
    world.until_prepared(2).await.unwrap();
}

fn begin_log_anew(world: &World) {
    std::fs::remove_dir_all(world.log_directory()).unwrap();
    let (code, said) = run(world, "anew", |text| text, &["init"]);
    assert_eq!(code, 0, "{said}");
}

/// R12, I8: a log that was deleted and begun anew holds none of the old lives; nothing of theirs is touched,
/// whether the agents remember them or not.
#[tokio::test]
async fn a_log_begun_anew_touches_nothing_that_the_old_one_left() {
    let world = World::builder().start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    leave_in_doubt(&world, &ledger, "of the old log").await;
    let left = world.prepared().await.unwrap();
    begin_log_anew(&world);

    // The agents remember. First its epoch is older than what they have seen, then the same, then newer: in
    // no case is the log taken for what it is not.
    for start in 0..4 {
        world.coordinator.start(None).unwrap();
        let status = world.until_status("the log is known to be stale", |status| status.stale).await.unwrap();
        assert!(!status.stale_detail.is_empty());
        assert_eq!(world.prepared().await.unwrap(), left, "start {start}");
        begins_nothing(&world).await;
        world.coordinator.kill9().unwrap();
    }

    // The agents have forgotten: the new log serves, and the old branches are shown, and nobody's.
    for bank in &world.banks {
        bank.agent.kill9().unwrap();
        bank.agent.start(None).unwrap();
    }
    world.start_coordinator(None).await.unwrap();
    let alarm = world.until_alarm("VOTUM-1405").await.unwrap();
    assert!(left.iter().any(|branch| branch.gid == alarm.gtid), "{alarm:?}");
    let teller = patient(&world, &ledger).await;
    // Account 1 is locked by what is in doubt.
    let legs: Vec<Leg<'_>> = world.legs(10).into_iter().map(|leg| Leg { account: 2, ..leg }).collect();
    assert!(teller.transfer("of the new log", &legs).await.unwrap().is_committed());
    assert_eq!(world.until_prepared(2).await.unwrap(), left);
    let gtid = ledger.transfers()["of the old log"].gtid.clone().unwrap();
    let answer = world.ask(&gtid).await.unwrap();
    assert!(matches!(answer, Some(Kind::Unknown(_))), "{answer:?}");

    for branch in &left {
        let bank = world.banks.iter().find(|bank| bank.name == branch.bank).unwrap();
        bank.by_hand(&format!("ROLLBACK PREPARED '{}'", branch.gid)).await.unwrap();
    }
    world.until_no_alarm("VOTUM-1405").await.unwrap();
    world.check(&ledger).await.unwrap();
}

/// R8: a log restored from an older copy lacks what was decided since. What it knows is delivered; what it
/// does not know is neither presumed aborted nor called so; nothing is begun; a person settles.
#[tokio::test]
async fn a_log_restored_from_an_older_copy_presumes_nothing() {
    let world = World::builder().prepare().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    world.banks[0].agent.start(None).unwrap();
    world.banks[1].agent.start(Some("before-commit-prepared")).unwrap();
    // The third forced decision is the last thing that this life does.
    world.start_coordinator(Some("decision-forced@3")).await.unwrap();
    let teller = patient(&world, &ledger).await;
    let at_a = |account| [Leg { bank: "bank-a", account, amount: 0 }];

    assert!(teller.transfer("known", &world.legs(10)).await.unwrap().is_committed());
    world.banks[1].agent.wait_crash().await.unwrap();
    let older = world.dir().join("older");
    copy(world.log_directory(), &older);
    assert!(teller.transfer("since", &at_a(2)).await.unwrap().is_committed());
    world.until_prepared(1).await.unwrap();
    let outcome = impatient(&world, &ledger).await.transfer("lost", &at_a(3)).await.unwrap();
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    world.coordinator.wait_crash().await.unwrap();
    let lost = world.banks[0].prepared().await.unwrap();
    assert_eq!(lost.len(), 1);
    let gtid = |name: &str| ledger.transfers()[name].gtid.clone().unwrap();

    std::fs::remove_dir_all(world.log_directory()).unwrap();
    std::fs::rename(&older, world.log_directory()).unwrap();
    world.banks[1].agent.start(None).unwrap();
    world.coordinator.start(None).unwrap();
    // It is no less stale for having been started before.
    for _ in 0..3 {
        world.until_status("the log is known to be stale", |status| status.stale).await.unwrap();
        world.until_completed(&gtid("known")).await.unwrap();
        for name in ["since", "lost"] {
            let refused = world.ask(&gtid(name)).await;
            assert_eq!(
                refused.unwrap_err().code(),
                tonic::Code::Unavailable,
                "{name}: absence was an answer"
            );
        }
        begins_nothing(&world).await;
        world.until_alarm("VOTUM-1402").await.unwrap();
        assert_eq!(world.banks[0].prepared().await.unwrap(), lost);
        world.crash_and_restart_coordinator().await.unwrap();
    }
    let alarm = world.until_alarm("VOTUM-1402").await.unwrap();
    assert_eq!((alarm.gtid.as_str(), alarm.participant.as_str()), (lost[0].gid.as_str(), "bank-a"));
    world.until_alarm("VOTUM-1401").await.unwrap();

    let done = world
        .operator()
        .unwrap()
        .resolve(v1::ResolveRequest {
            gid: lost[0].gid.clone(),
            participant: "bank-a".into(),
            action: v1::resolve_request::Action::Commit.into(),
            operator: "somebody".into(),
            reason: "the true log says commit".into(),
            apply: true,
            heuristic: false,
        })
        .await
        .unwrap()
        .into_inner();
    assert!(done.applied && done.result == "done", "{done:?}");
    world.check(&ledger).await.unwrap();
}

/// I12: neither of two lives of one epoch is believed, until a newer one speaks.
#[tokio::test]
async fn two_coordinators_from_one_copied_log_are_both_fenced() {
    let world = World::builder().start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    world.coordinator.terminate().unwrap();
    world.coordinator.wait_exit().await.unwrap();
    let copied = world.dir().join("before");
    copy(world.log_directory(), &copied);
    world.start_coordinator(None).await.unwrap();
    let teller = patient(&world, &ledger).await;
    let legs = world.legs(10);
    assert!(teller.transfer("before", &legs).await.unwrap().is_committed());
    let name = "between";
    ledger.intend(name, legs.iter().map(|leg| leg.bank));
    let impatient = impatient(&world, &ledger).await;
    let tx = impatient.votum().begin().timeout(Duration::from_secs(20)).await.unwrap();
    ledger.begun(name, tx.gtid());
    work(&tx, name, &legs).await.unwrap();

    // The copy was made before this life of the first one: both begin the same epoch.
    let true_log = world.dir().join("true");
    std::fs::rename(world.log_directory(), &true_log).unwrap();
    std::fs::rename(&copied, world.log_directory()).unwrap();
    let second = Second::start(&world);
    std::fs::remove_dir_all(world.log_directory()).unwrap();
    std::fs::rename(&true_log, world.log_directory()).unwrap();
    second.until_status("the second is refused", refused).await;
    world.until_status("the first is refused", refused).await.unwrap();

    let outcome = impatient.commit(tx, name).await;
    assert!(!matches!(&outcome, Ok(outcome) if outcome.is_committed()), "{outcome:?}");
    world.until_prepared(0).await.unwrap();
    second.process.kill9().unwrap();
    world.crash_and_restart_coordinator().await.unwrap();
    assert!(!world.status().await.unwrap().stale);
    assert!(teller.transfer("after", &legs).await.unwrap().is_committed());
    world.check(&ledger).await.unwrap();
}

/// I12: it stood still while its successor took over, and then goes on as if nothing had happened.
#[tokio::test]
async fn an_old_coordinator_that_wakes_after_its_successor_took_over_has_no_effect() {
    let world = World::builder().start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let old = impatient(&world, &ledger).await;
    let legs = world.legs(10);
    let name = "slept through";
    ledger.intend(name, legs.iter().map(|leg| leg.bank));
    let tx = old.votum().begin().timeout(Duration::from_secs(20)).await.unwrap();
    ledger.begun(name, tx.gtid());
    work(&tx, name, &legs).await.unwrap();

    world.coordinator.freeze().unwrap();
    let successor = Second::start(&world);
    successor
        .until_status("the successor has heard everybody", |status| {
            status.log_state == "ready" && status.participants.iter().all(|known| known.heard)
        })
        .await;
    world.coordinator.thaw().unwrap();
    let outcome = old.commit(tx, name).await;
    assert!(!matches!(&outcome, Ok(outcome) if outcome.is_committed()), "{outcome:?}");
    let status = world.until_status("the old one is refused", refused).await.unwrap();
    assert!(status.stale, "a newer life was seen: {status:?}");
    begins_nothing(&world).await;

    let votum = Votum::connect(&successor.address.to_string()).await.unwrap();
    assert!(Teller::new(votum, &ledger).transfer("after", &legs).await.unwrap().is_committed());
    world.coordinator.kill9().unwrap();
    world.check(&ledger).await.unwrap();
}

#[tokio::test]
async fn a_log_in_use_and_a_log_of_another_coordinator_are_refused() {
    let world = World::builder().start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let elsewhere = |text: String| text.replace("coordinator.sock", "elsewhere.sock");
    let (code, said) = run(&world, "in-use", elsewhere, &[]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("another process"), "{said}");
    let teller = patient(&world, &ledger).await;
    assert!(teller.transfer("undisturbed", &world.legs(10)).await.unwrap().is_committed());

    world.coordinator.terminate().unwrap();
    world.coordinator.wait_exit().await.unwrap();
    let renamed = |text: String| {
        text.replace(
            &format!("coordinator_id = \"{}\"", world.coordinator_id()),
            "coordinator_id = \"other\"",
        )
    };
    let (code, said) = run(&world, "renamed", renamed, &[]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains(world.coordinator_id()) && said.contains("other"), "{said}");
    world.start_coordinator(None).await.unwrap();
    world.check(&ledger).await.unwrap();
}
