//! Alarms as Prometheus sees them: each is raised by what really happens, and goes when it is over. Those that
//! no installation can be brought to are in `coordinator/src/driver/tests/metrics.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use votum_client::{Outcome, Votum, Wait};
use votum_proto::v1;
use votum_tests::ledger::Ledger;
use votum_tests::postgres::{Options, ROLE};
use votum_tests::scene::{A, B, Scene};
use votum_tests::scrape::{COORDINATOR, alarm, at};
use votum_tests::teller::{Leg, Teller};
use votum_tests::world::{Builder, World};

fn shown() -> Builder {
    World::builder().metrics()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// A client that waits for decisions alone, and gives up soon.
async fn teller(world: &World, ledger: &Arc<Ledger>) -> Teller {
    let options = Votum::options().outcome_budget(Duration::from_secs(1)).wait(Wait::Decided);
    Teller::new(options.connect(&world.address().to_string()).await.unwrap(), ledger)
}

/// 1401, 1402, 1409: a coordinator runs on an older copy of its log; then the true one is put back, which the
/// agents refuse once, since the copy has begun the epoch that it begins.
#[tokio::test]
async fn a_stale_log_and_what_waits_because_of_it_are_shown_until_the_true_log_is_back() {
    let world = shown().prepare().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    for bank in &world.banks {
        bank.agent.start(None).unwrap();
    }
    world.start_coordinator(Some("decision-forced@3")).await.unwrap();
    let teller = teller(&world, &ledger).await;
    assert!(teller.transfer("known", &world.legs(10)).await.unwrap().is_committed());
    let (older, newer) = (world.dir().join("older"), world.dir().join("newer"));
    copy(world.log_directory(), &older);
    assert!(teller.transfer("since", &world.legs(10)).await.unwrap().is_committed());
    world.until_prepared(0).await.unwrap();
    let lost = teller.transfer("lost", &[Leg { bank: A, account: 3, amount: 0 }]).await.unwrap();
    assert!(matches!(lost, Outcome::Unknown { .. }), "{lost:?}");
    world.coordinator.wait_crash().await.unwrap();
    std::fs::rename(world.log_directory(), &newer).unwrap();
    std::fs::rename(&older, world.log_directory()).unwrap();

    world.coordinator.start(None).unwrap();
    world.until_shown(COORDINATOR, &alarm("VOTUM-1402", A), Some(1.0)).await.unwrap();
    let page = world.until_shown(COORDINATOR, &alarm("VOTUM-1401", ""), Some(1.0)).await.unwrap();
    assert_eq!(page.value("votum_log_stale"), Some(1.0));
    world.until_shown(COORDINATOR, &at("votum_participant_quarantined", A), Some(1.0)).await.unwrap();
    // `known` may be undelivered in the copy: its order is in doubt too, until it is answered and listed again
    world.until_shown(COORDINATOR, &at("votum_participant_in_doubt", A), Some(1.0)).await.unwrap();
    world.coordinator.kill9().unwrap();

    std::fs::remove_dir_all(world.log_directory()).unwrap();
    std::fs::rename(&newer, world.log_directory()).unwrap();
    world.coordinator.start(None).unwrap();
    let address = world.until_status("it answers", |_| true).await.unwrap().participants[0].clone();
    let refused = alarm("VOTUM-1409", &address.agent_address);
    let page = world.until_shown(COORDINATOR, &refused, Some(1.0)).await.unwrap();
    assert_eq!(page.value("votum_log_stale"), Some(0.0), "{}", page.0);
    world.crash_and_restart_coordinator().await.unwrap();
    world.until_prepared(0).await.unwrap();
    world.until_shown(COORDINATOR, &at("votum_participant_in_doubt", A), Some(0.0)).await.unwrap();
    let page =
        world.until_shown(COORDINATOR, &at("votum_participant_quarantined", A), Some(0.0)).await.unwrap();
    assert_eq!(page.value(&alarm("VOTUM-1401", "")), Some(0.0), "{}", page.0);
    assert_eq!(page.value(&alarm("VOTUM-1402", A)), None, "{}", page.0);
    assert_eq!(page.value(&refused), None, "{}", page.0);
    assert_eq!(page.value("votum_log_stale"), Some(0.0));
    world.check(&ledger).await.unwrap();
}

/// 1403, 2101
#[tokio::test]
async fn trouble_in_phase_two_is_shown_at_both_ends_until_the_branch_has_ended() {
    let scene = Scene::open(shown().own_servers(Options::default())).await.unwrap();
    let world = &scene.world;
    let bank = &world.banks[0];
    bank.give_tables_away().await.unwrap();
    let dropped = async {
        bank.replace_role().await.unwrap();
        world.start_coordinator(None).await.unwrap();
        let page = world.until_shown(COORDINATOR, &alarm("VOTUM-1403", A), Some(1.0)).await.unwrap();
        assert_eq!(page.value("votum_transactions_undelivered"), Some(1.0));
        let page = world.until_shown(A, &alarm("VOTUM-2101", A), Some(1.0)).await.unwrap();
        assert_eq!(page.value(&at("votum_agent_orders", A)), Some(1.0));
        bank.end_by_hand("COMMIT").await.unwrap();
        world.until_shown(COORDINATOR, &alarm("VOTUM-1403", A), None).await.unwrap();
        world.until_shown(A, &alarm("VOTUM-2101", A), None).await.unwrap();
        world.until_shown(A, &at("votum_agent_orders", A), Some(0.0)).await.unwrap();
        Ok(())
    };
    assert!(scene.decided_then("in doubt", dropped).await.unwrap().is_committed());
    scene.close().await.unwrap();
}

/// 1405
#[tokio::test]
async fn a_stranger_under_our_name_is_shown_until_it_is_gone() {
    let scene = Scene::open(shown()).await.unwrap();
    let gid = format!("votum_{}_1_000001_1_0_2", scene.world.coordinator_id());
    let client = scene.bank(B).unwrap().client_as(ROLE).await.unwrap();
    let work = format!("BEGIN; UPDATE accounts SET balance = 0; PREPARE TRANSACTION '{gid}'");
    client.batch_execute(&work).await.unwrap();
    scene.world.until_shown(COORDINATOR, &alarm("VOTUM-1405", B), Some(1.0)).await.unwrap();
    scene.world.until_shown(B, &at("votum_agent_prepared", B), Some(1.0)).await.unwrap();
    client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
    scene.world.until_shown(COORDINATOR, &alarm("VOTUM-1405", B), None).await.unwrap();
    scene.world.until_shown(B, &at("votum_agent_prepared", B), Some(0.0)).await.unwrap();
    scene.close().await.unwrap();
}

/// 1406, and the links: a database that is down, then an agent that is.
#[tokio::test]
async fn a_participant_that_is_not_heard_is_shown_until_it_is_back() {
    let scene = Scene::open(shown().own_servers(Options::default())).await.unwrap();
    let world = &scene.world;
    let connected = async |value: f64| {
        let status = world.status().await.unwrap();
        let known = status.participants.iter().find(|known| known.participant == B).unwrap();
        let link = format!("participant=\"{B}\",agent=\"{}\"", known.agent_address);
        let series = format!("votum_participant_connected{{{link}}}");
        world.until_shown(COORDINATOR, &series, Some(value)).await.unwrap();
    };
    let bank = &world.banks[1];
    connected(1.0).await;
    world.until_shown(B, &at("votum_agent_server_answers", B), Some(1.0)).await.unwrap();
    bank.server.stop_immediate().await.unwrap();
    world.until_shown(COORDINATOR, &alarm("VOTUM-1406", B), Some(1.0)).await.unwrap();
    let page = world.until_shown(B, &at("votum_agent_server_answers", B), Some(0.0)).await.unwrap();
    assert_eq!(page.value(&at("votum_agent_prepared_slots_limit", B)), None, "nobody knows it now");
    bank.server.restart().await.unwrap();
    world.until_shown(COORDINATOR, &alarm("VOTUM-1406", B), None).await.unwrap();
    let page = world.until_shown(B, &at("votum_agent_server_answers", B), Some(1.0)).await.unwrap();
    assert_eq!(page.value(&at("votum_agent_prepared_slots_limit", B)), Some(256.0));

    bank.agent.kill9().unwrap();
    connected(0.0).await;
    world.until_shown(COORDINATOR, &alarm("VOTUM-1406", B), Some(1.0)).await.unwrap();
    bank.agent.start(None).unwrap();
    connected(1.0).await;
    world.until_shown(COORDINATOR, &alarm("VOTUM-1406", B), None).await.unwrap();
    let link = format!("votum_agent_link_up{{coordinator=\"{}\"}}", world.coordinator_id());
    world.until_shown(B, &link, Some(1.0)).await.unwrap();
    world.coordinator.kill9().unwrap();
    world.until_shown(B, &link, Some(0.0)).await.unwrap();
    world.start_coordinator(None).await.unwrap();
    world.until_shown(B, &link, Some(1.0)).await.unwrap();
    scene.close().await.unwrap();
}

/// 1407
#[tokio::test]
async fn a_departure_is_shown_until_a_person_has_acknowledged_it() {
    let scene = Scene::open(shown()).await.unwrap();
    let gtid = scene.rolled_back_by_hand().await.unwrap();
    let page = scene.world.until_shown(COORDINATOR, &alarm("VOTUM-1407", A), Some(1.0)).await.unwrap();
    assert_eq!(page.value(&at("votum_participant_heuristics", A)), Some(1.0));
    assert_eq!(page.value(&at("votum_participant_heuristics", B)), Some(0.0));
    let acknowledged = v1::AcknowledgeRequest {
        gtid,
        operator: "somebody".into(),
        reason: "the row was put back".into(),
        apply: true,
        ..Default::default()
    };
    scene.world.operator().unwrap().acknowledge(acknowledged).await.unwrap();
    let page = scene.world.until_shown(COORDINATOR, &alarm("VOTUM-1407", A), None).await.unwrap();
    assert_eq!(page.value(&at("votum_participant_heuristics", A)), Some(0.0));
}

/// 1408
#[tokio::test]
async fn a_history_that_cannot_be_read_is_shown_until_it_can() {
    let world = shown().start().await.unwrap();
    world.coordinator.terminate().unwrap();
    world.coordinator.wait_exit().await.unwrap();
    let whole = world.dir().join("whole");
    copy(world.log_directory(), &whole);
    for file in ["store/db", "store/conf"].map(|file| world.log_directory().join(file)) {
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, vec![0x5a; bytes.len()]).unwrap();
    }
    world.coordinator.start(None).unwrap();
    let page = world.until_shown(COORDINATOR, &alarm("VOTUM-1408", ""), Some(1.0)).await.unwrap();
    assert_eq!(page.value("votum_log_state{state=\"unreadable\"}"), Some(1.0));
    world.coordinator.kill9().unwrap();
    std::fs::remove_dir_all(world.log_directory()).unwrap();
    std::fs::rename(&whole, world.log_directory()).unwrap();
    world.coordinator.start(None).unwrap();
    let page = world.until_shown(COORDINATOR, "votum_log_state{state=\"ready\"}", Some(1.0)).await.unwrap();
    assert_eq!(page.value(&alarm("VOTUM-1408", "")), Some(0.0));
}

/// 1411: it lasts until the log remembers an hour or two again, which no test waits for; that it is over then is
/// in `coordinator/src/driver/tests/metrics.rs`.
#[tokio::test]
async fn a_log_that_forgets_too_soon_is_shown_and_one_that_is_merely_young_is_not() {
    let scene = Scene::open(shown().short_memory()).await.unwrap();
    let world = &scene.world;
    assert!(scene.teller.transfer("old", &world.legs(10)).await.unwrap().is_committed());
    let old = scene.ledger.transfers()["old"].gtid.clone().unwrap();
    let short = alarm("VOTUM-1411", "");
    let page = world.until_shown(COORDINATOR, "votum_log_state{state=\"ready\"}", Some(1.0)).await.unwrap();
    assert_eq!(page.value(&short), Some(0.0), "{}", page.0);
    world.until_forgotten(&old).await.unwrap();
    let page = world.until_shown(COORDINATOR, &short, Some(1.0)).await.unwrap();
    assert!(page.value("votum_log_reach_seconds").unwrap() < 3_600.0, "{}", page.0);
    assert_eq!(world.lines("VOTUM-1411").unwrap().len(), 1, "one line when it begins");
    world.crash_and_restart_coordinator().await.unwrap();
    world.until_shown(COORDINATOR, &short, Some(1.0)).await.unwrap();
    scene.close().await.unwrap();
}

/// 2205
#[tokio::test]
async fn a_database_that_cannot_prepare_is_shown_until_it_can() {
    let options = Options { max_prepared_transactions: 0, ..Options::default() };
    let world = shown().own_servers(options).start().await.unwrap();
    let page = world.until_shown(A, &alarm("VOTUM-2205", A), Some(1.0)).await.unwrap();
    assert_eq!(page.value(&at("votum_agent_prepared_slots_limit", A)), Some(0.0));
    let server = &world.banks[0].server;
    server.stop().await.unwrap();
    server.set_slots(7);
    server.restart().await.unwrap();
    world.until_shown(A, &at("votum_agent_prepared_slots_limit", A), Some(7.0)).await.unwrap();
    world.until_shown(A, &alarm("VOTUM-2205", A), None).await.unwrap();
    let log = std::fs::read_to_string(world.banks[0].agent.log()).unwrap();
    let lines = log.lines().filter(|line| line.contains("VOTUM-2205")).collect::<Vec<_>>();
    assert_eq!(lines.len(), 2, "one when it begins, one when it is over: {lines:?}");
}

/// 2103, and 1406 at the other end.
#[tokio::test]
async fn a_participant_that_the_agent_does_not_know_is_shown_until_the_names_agree() {
    let world = shown().start().await.unwrap();
    let whole = std::fs::read_to_string(world.config_file()).unwrap();
    let known = "[[participants]]\nname = \"bank-a\"\nagent = ";
    let (_, rest) = whole.split_once(known).unwrap();
    let address = rest.lines().next().unwrap();
    let more = format!("{whole}\n[[participants]]\nname = \"bank-z\"\nagent = {address}\n");
    std::fs::write(world.config_file(), more).unwrap();
    world.crash_and_restart_coordinator().await.unwrap();
    world.until_shown(A, &alarm("VOTUM-2103", "bank-z"), Some(1.0)).await.unwrap();
    world.until_shown(COORDINATOR, &alarm("VOTUM-1406", "bank-z"), Some(1.0)).await.unwrap();
    std::fs::write(world.config_file(), whole).unwrap();
    world.crash_and_restart_coordinator().await.unwrap();
    world.until_shown(A, &alarm("VOTUM-2103", "bank-z"), None).await.unwrap();
    world.until_shown(COORDINATOR, &alarm("VOTUM-1406", "bank-z"), None).await.unwrap();
}
