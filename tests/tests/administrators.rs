//! What administrators change while a branch is in doubt: who may end it, and who is asked about it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::process::Command;

use votum_client::Outcome;
use votum_tests::eventually::{Found, eventually};
use votum_tests::expect;
use votum_tests::postgres::Options;
use votum_tests::process::{Build, program};
use votum_tests::scene::{A, B, Scene};
use votum_tests::world::World;

/// R4: it is not forgotten, and delivered when the participant is known again.
#[tokio::test]
async fn a_participant_that_is_taken_out_of_the_configuration_while_in_doubt_is_settled_when_it_is_back() {
    let scene = Scene::usual().await.unwrap();
    let world = &scene.world;
    let whole = std::fs::read_to_string(world.config_file()).unwrap();
    let removed = async {
        let at = whole.find("[[participants]]\nname = \"bank-b\"").unwrap();
        let rest = whole[at..].find("\n\n").map_or("", |end| &whole[at + end..]);
        assert_eq!(checked(world), (0, "configuration is fine\n".into()));
        std::fs::write(world.config_file(), format!("{}{rest}", &whole[..at])).unwrap();
        too_early(world);
        world.coordinator.start(None).unwrap();
        eventually("the branch at the other participant is committed", async || {
            let prepared = world.prepared().await?;
            let left: Vec<&str> = prepared.iter().map(|branch| branch.bank.as_str()).collect();
            Ok(if left == [B] { Found::Yes(()) } else { Found::NotYet(format!("{prepared:?}")) })
        })
        .await
        .unwrap();
        // It stays so over a restart, and is shown.
        world.coordinator.kill9().unwrap();
        world.coordinator.start(None).unwrap();
        let owed = world.until_status("a commit is owed", |status| status.undelivered == 1).await.unwrap();
        assert!(owed.participants.iter().all(|known| known.participant == A), "{owed:?}");
        assert_eq!(world.prepared().await.unwrap().len(), 1);
        too_early(world);
        world.coordinator.kill9().unwrap();
        std::fs::write(world.config_file(), &whole).unwrap();
        world.start_coordinator(None).await
    };
    let outcome = scene.decided_then("in doubt", removed).await.unwrap();
    assert!(!matches!(outcome, Outcome::Aborted(_)), "{outcome:?}");
    world.until_prepared(0).await.unwrap();
    scene.close().await.unwrap();
}

/// What `votum-coordinator --check-config` says, and how it ends.
fn checked(world: &World) -> (i32, String) {
    let mut command = Command::new(program(Build::Plain, "votum-coordinator").unwrap());
    let said = command.args(["--check-config", "--config"]).arg(world.config_file()).output().unwrap();
    let text = [said.stdout, said.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (said.status.code().unwrap(), text)
}

/// Bank-b is gone from the configuration, and still needed: whether or not a coordinator is running.
fn too_early(world: &World) {
    let (code, said) = checked(world);
    assert!(code == 2 && said.starts_with("participants: bank-b is not named any more"), "{code}: {said}");
    assert!(said.contains("1 commit") && !said.contains("bank-a"), "{said}");
}

/// R1: the branch is ours by gid and transaction id, whoever owns it; only somebody else may end it now.
#[tokio::test]
async fn a_branch_whose_role_was_dropped_is_ended_by_a_superuser_and_then_acknowledged() {
    let scene = Scene::open(World::builder().own_servers(Options::default())).await.unwrap();
    let world = &scene.world;
    let bank = &world.banks[0];
    bank.give_tables_away().await.unwrap();
    let dropped = async {
        bank.replace_role().await.unwrap();
        world.start_coordinator(None).await.unwrap();
        let alarm = world.until_alarm("VOTUM-1403").await.unwrap();
        assert!(alarm.detail.contains("42501"), "{alarm:?}");
        let gid = world.until_prepared(1).await.unwrap().remove(0).gid;
        bank.by_hand(&format!("COMMIT PREPARED '{gid}'")).await.unwrap();
        world.until_no_alarm("VOTUM-1403").await
    };
    let outcome = scene.decided_then("in doubt", dropped).await.unwrap();
    assert!(outcome.is_committed(), "{outcome:?}");
    scene.close().await.unwrap();
}

/// 40P01: PostgreSQL ends one of two that wait for each other in one database; the other goes on.
#[tokio::test]
async fn a_deadlock_within_one_database_ends_one_transaction_which_may_be_run_again() {
    let scene = Scene::usual().await.unwrap();
    let change = "UPDATE accounts SET balance = balance + 1 WHERE id = $1";
    let note = "INSERT INTO journal VALUES ($1, 1)";
    let begin = async |name: &str| scene.begin(name, &[A], scene.teller.votum().begin()).await.unwrap();
    let (one, other) = (begin("one").await, begin("other").await);
    one.execute(A, note, &["one".into()]).await.unwrap();
    other.execute(A, note, &["other".into()]).await.unwrap();
    one.execute(A, change, &[1.into()]).await.unwrap();
    other.execute(A, change, &[2.into()]).await.unwrap();
    let both = [2.into()];
    let waits = one.execute(A, change, &both);
    let closes_the_circle = async {
        scene.waiting_for_locks(A, 1).await.unwrap();
        other.execute(A, change, &[1.into()]).await
    };
    let answers = futures::future::join(waits, closes_the_circle).await;
    let (ended, goes_on, answer) = match answers {
        (Err(error), Ok(1)) => (("one", one), ("other", other), Err::<u64, _>(error)),
        (Ok(1), Err(error)) => (("other", other), ("one", one), Err(error)),
        neither => panic!("one of them was to be ended: {neither:?}"),
    };
    let error = expect::sql_error(answer).unwrap();
    assert_eq!((error.sqlstate.as_str(), error.retryable), ("40P01", true));
    let abort = expect::aborted(scene.teller.commit(ended.1, ended.0).await.unwrap()).unwrap();
    assert_eq!(abort.participant.as_deref(), Some(A), "{abort:?}");
    expect::committed(scene.teller.commit(goes_on.1, goes_on.0).await.unwrap()).unwrap();
    // The money is no more what it was: two rows were changed by hand, so to speak.
    scene.set_up(A, "UPDATE accounts SET balance = balance - 1 WHERE id <= 2").await.unwrap();
    scene.close().await.unwrap();
}
