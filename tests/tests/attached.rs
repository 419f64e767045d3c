//! Attached branches: the application works on a connection of its own and prepares there; commits, aborts, and
//! whoever dies meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use votum_client::{AbortKind, Begin, Error, Outcome, Transaction};
use votum_coordinator::crash::CrashPoint as AtCoordinator;
use votum_participant::crash::CrashPoint as AtAgent;
use votum_proto::v1::outcome::Kind;
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::{Ledger, Told};
use votum_tests::postgres::ROLE;
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::{Teller, told, work};
use votum_tests::world::World;

/// Moves ten from an account at A, on a connection of the application's; the transaction stays open.
async fn work_at_a(app: &Client, name: &str) {
    let statements = format!(
        "BEGIN; UPDATE accounts SET balance = balance - 10 WHERE id = 1; \
         INSERT INTO journal (transfer, amount) VALUES ('{name}', -10)"
    );
    app.batch_execute(&statements).await.unwrap();
}

/// A transfer of ten from A to B, in which A's branch is attached and B's is hosted; all the work is done, and A's is
/// not prepared. With the application's connection, as `role`.
async fn open_with(scene: &Scene, name: &str, role: &str, begin: Begin) -> (Transaction, Client) {
    let tx = scene.begin(name, &[A, B], begin.attach(A)).await.unwrap();
    let app = scene.bank(A).unwrap().client_as(role).await.unwrap();
    work_at_a(&app, name).await;
    work(&tx, name, &scene.world.legs(10)[1..]).await.unwrap();
    (tx, app)
}

async fn open(scene: &Scene, name: &str) -> (Transaction, Client) {
    open_with(scene, name, ROLE, scene.teller.votum().begin()).await
}

/// The same, prepared.
async fn prepared(scene: &Scene, name: &str) -> Transaction {
    let (tx, app) = open(scene, name).await;
    tx.attached(A).unwrap().prepare(&app).await.unwrap();
    tx
}

async fn commit(scene: &Scene, tx: Transaction, name: &str) -> Outcome {
    scene.teller.commit(tx, name).await.unwrap()
}

/// Why it was aborted.
fn no(outcome: Outcome) -> votum_client::Abort {
    match outcome {
        Outcome::Aborted(abort) => abort,
        other => panic!("{other}"),
    }
}

async fn until_nothing_is_prepared(scene: &Scene) {
    eventually("nothing is prepared", async || {
        let left = scene.world.prepared().await?;
        Ok(if left.is_empty() { Found::Yes(()) } else { Found::NotYet(format!("{left:?}")) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_attached_branch_commits_with_a_hosted_one() {
    let scene = Scene::usual().await.unwrap();
    let outcome = commit(&scene, prepared(&scene, "moved").await, "moved").await;
    let Outcome::Committed(committed) = &outcome else { panic!("{outcome}") };
    assert!(committed.completed && committed.heuristics.is_empty(), "{committed:?}");
    assert_eq!((scene.balance(A, 1).await.unwrap(), scene.balance(B, 1).await.unwrap()), (990, 1_010));
    scene.close().await.unwrap();
}

#[tokio::test]
async fn attached_branches_alone_are_a_transaction_too() {
    let scene = Scene::usual().await.unwrap();
    let begin = scene.teller.votum().begin().attach(B).attach(A);
    let tx = scene.begin("both", &[A, B], begin).await.unwrap();
    for (bank, amount) in [(A, -10), (B, 10)] {
        let app = scene.bank(bank).unwrap().client_as(ROLE).await.unwrap();
        let statements = format!(
            "BEGIN; UPDATE accounts SET balance = balance + {amount} WHERE id = 1; \
             INSERT INTO journal (transfer, amount) VALUES ('both', {amount})"
        );
        app.batch_execute(&statements).await.unwrap();
        // As any driver would.
        app.batch_execute(&tx.attached(bank).unwrap().statement()).await.unwrap();
    }
    assert!(commit(&scene, tx, "both").await.is_committed());
    scene.close().await.unwrap();
}

#[tokio::test]
async fn a_rollback_takes_what_the_application_has_prepared() {
    let scene = Scene::usual().await.unwrap();
    let tx = prepared(&scene, "undone").await;
    let outcome = tx.rollback().await.unwrap();
    scene.ledger.told("undone", told(&outcome));
    assert_eq!(no(outcome).kind, AbortKind::RolledBack);
    until_nothing_is_prepared(&scene).await;
    assert_eq!(scene.balance(A, 1).await.unwrap(), 1_000);
    scene.close().await.unwrap();
}

#[tokio::test]
async fn what_is_not_prepared_when_commit_is_asked_for_is_a_no() {
    let scene = Scene::usual().await.unwrap();
    let (tx, app) = open(&scene, "absent").await;
    let abort = no(commit(&scene, tx, "absent").await);
    assert_eq!((abort.kind, abort.participant.as_deref()), (AbortKind::VotedNo, Some(A)));
    assert!(abort.message.contains("has not prepared"), "{abort}");
    app.batch_execute("ROLLBACK").await.unwrap();
    scene.close().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_failed_or_was_never_begun_is_not_taken_for_a_prepared_one() {
    let scene = Scene::usual().await.unwrap();
    let (tx, app) = open(&scene, "failed").await;
    app.batch_execute("SELECT 1/0").await.unwrap_err();
    for sqlstate in ["25P02", "25P01"] {
        match tx.attached(A).unwrap().prepare(&app).await {
            Err(Error::Sql(error)) => {
                assert_eq!((&error.sqlstate[..], &error.participant[..]), (sqlstate, A));
            }
            other => panic!("{other:?}"),
        }
        app.batch_execute("ROLLBACK").await.unwrap();
    }
    assert_eq!(no(commit(&scene, tx, "failed").await).kind, AbortKind::VotedNo);
    scene.close().await.unwrap();
}

/// A world whose agent at A declares a role for attached work, which it may become.
async fn with_declared_role() -> (Scene, String) {
    let world = World::builder().prepare().await.unwrap();
    let bank = &world.banks[0];
    // Roles belong to the whole server, on which other worlds are, too.
    let role = format!("app_{}", bank.database);
    bank.by_hand(&format!(
        "CREATE ROLE {role} LOGIN; GRANT ALL ON accounts, journal TO {role}; GRANT {role} TO {ROLE}"
    ))
    .await
    .unwrap();
    let file = world.dir().join(format!("{A}.toml"));
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, format!("{config}attached_roles = [\"{role}\"]\n")).unwrap();
    for bank in &world.banks {
        bank.agent.start(None).unwrap();
    }
    world.start_coordinator(None).await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    (Scene { world, ledger, teller }, role)
}

#[tokio::test]
async fn what_a_declared_role_prepares_is_committed_and_rolled_back_as_that_role() {
    let (scene, role) = with_declared_role().await;
    for (name, commits) in [("theirs", true), ("not theirs", false)] {
        let (tx, app) = open_with(&scene, name, &role, scene.teller.votum().begin()).await;
        tx.attached(A).unwrap().prepare(&app).await.unwrap();
        if commits {
            assert!(commit(&scene, tx, name).await.is_committed());
        } else {
            scene.ledger.told(name, told(&tx.rollback().await.unwrap()));
        }
        until_nothing_is_prepared(&scene).await;
    }
    assert_eq!(scene.balance(A, 1).await.unwrap(), 990);
    scene.close().await.unwrap();
}

/// R1, R5: the listing of a coordinator's next life counts a declared role's as ours.
#[tokio::test]
async fn r1_r5_what_a_declared_role_prepared_is_settled_after_a_crash() {
    let (scene, role) = with_declared_role().await;
    let world = &scene.world;
    world.coordinator.kill9().unwrap();
    world.start_coordinator(Some(AtCoordinator::DecisionForced.name())).await.unwrap();
    let (tx, app) = open_with(&scene, "decided", &role, scene.teller.votum().begin()).await;
    tx.attached(A).unwrap().prepare(&app).await.unwrap();
    // Never asked to commit.
    let begin = scene.teller.votum().begin().attach(A);
    let left = scene.begin("left", &[A], begin).await.unwrap();
    let other = "BEGIN; UPDATE accounts SET balance = 0 WHERE id = 2";
    app.batch_execute(other).await.unwrap();
    left.attached(A).unwrap().prepare(&app).await.unwrap();
    let crash = async {
        world.coordinator.wait_crash().await.unwrap();
        world.start_coordinator(None).await.unwrap();
    };
    let (outcome, ()) = futures::future::join(commit(&scene, tx, "decided"), crash).await;
    assert!(outcome.is_committed(), "{outcome}");
    until_nothing_is_prepared(&scene).await;
    assert_eq!(scene.balance(A, 2).await.unwrap(), 1_000);
    drop(left);
    scene.close().await.unwrap();
}

/// I8.
#[tokio::test]
async fn i8_what_an_undeclared_role_prepares_is_a_no_and_stays_its_own() {
    let scene = Scene::usual().await.unwrap();
    let tx = scene.begin("forged", &[A, B], scene.teller.votum().begin().attach(A)).await.unwrap();
    work(&tx, "forged", &scene.world.legs(10)[1..]).await.unwrap();
    let gid = tx.attached(A).unwrap().gid().to_owned();
    scene.bank(A).unwrap().plant_foreign(&gid).await.unwrap();
    let abort = no(commit(&scene, tx, "forged").await);
    assert!(abort.message.contains("attached_roles"), "{abort}");
    // The judgement finds it where it was.
    scene.close().await.unwrap();
}

#[tokio::test]
async fn what_is_prepared_in_another_database_is_a_no() {
    let scene = Scene::usual().await.unwrap();
    let bank = scene.bank(A).unwrap();
    let tx = scene.begin("elsewhere", &[A], scene.teller.votum().begin().attach(A)).await.unwrap();
    let other = World::builder().banks(1).prepare().await.unwrap();
    assert_eq!(other.banks[0].server.port(), bank.server.port(), "both are on the shared server");
    let app = other.banks[0].client_as(ROLE).await.unwrap();
    app.batch_execute("BEGIN; UPDATE accounts SET balance = 0 WHERE id = 1").await.unwrap();
    tx.attached(A).unwrap().prepare(&app).await.unwrap();
    let gid = tx.attached(A).unwrap().gid().to_owned();
    let abort = no(commit(&scene, tx, "elsewhere").await);
    assert!(abort.message.contains(&other.banks[0].database), "{abort}");
    app.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
    scene.close().await.unwrap();
}

/// I13: killed with both votes in, with the decision in the file, on disk, told to one; or before any vote came.
#[tokio::test]
async fn a_coordinator_that_dies_on_the_way_to_the_commit_leaves_all_or_nothing() {
    let scene = Scene::usual().await.unwrap();
    let world = &scene.world;
    for (point, commits) in [
        (AtCoordinator::BeforeFirstPrepare, false),
        (AtCoordinator::BetweenPrepares, false),
        (AtCoordinator::AfterLastPrepare, false),
        (AtCoordinator::VotesIn, false),
        (AtCoordinator::DecisionForced, true),
        (AtCoordinator::ClientTold, true),
        (AtCoordinator::FirstParticipantTold, true),
        (AtCoordinator::AllAcknowledged, true),
    ] {
        // In order, so that nothing of the point before is left to be settled.
        world.coordinator.terminate().unwrap();
        world.coordinator.wait_exit().await.unwrap();
        world.start_coordinator(Some(point.name())).await.unwrap();
        let tx = prepared(&scene, point.name()).await;
        let crash = async {
            world.coordinator.wait_crash().await.unwrap();
            world.start_coordinator(None).await.unwrap();
        };
        let (outcome, ()) = futures::future::join(commit(&scene, tx, point.name()), crash).await;
        assert_eq!(outcome.is_committed(), commits, "{}: {outcome}", point.name());
        until_nothing_is_prepared(&scene).await;
    }
    scene.close().await.unwrap();
}

/// R5, and R14 where the record of the abort was written.
#[tokio::test]
async fn r5_r14_a_coordinator_that_dies_around_the_abort_rolls_back_what_is_prepared() {
    let scene = Scene::usual().await.unwrap();
    let world = &scene.world;
    // Before anybody asked for an end.
    let tx = prepared(&scene, "forgotten").await;
    world.crash_and_restart_coordinator().await.unwrap();
    until_nothing_is_prepared(&scene).await;
    scene.ledger.told("forgotten", told(&commit(&scene, tx, "forgotten").await));
    // Once it was aborted, while A's agent is away and hears of nothing.
    let tx = prepared(&scene, "aborted").await;
    world.banks[0].agent.kill9().unwrap();
    world.until_disconnected(A).await.unwrap();
    scene.ledger.told("aborted", told(&tx.rollback().await.unwrap()));
    world.coordinator.kill9().unwrap();
    world.banks[0].agent.start(None).unwrap();
    world.start_coordinator(None).await.unwrap();
    until_nothing_is_prepared(&scene).await;
    scene.close().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_dies_is_asked_again_and_ends_what_it_finds() {
    let scene = Scene::usual().await.unwrap();
    let world = &scene.world;
    for point in [
        AtAgent::AttachedVerified,
        AtAgent::VoteSent,
        AtAgent::BeforeCommitPrepared,
        AtAgent::DuringCommitPrepared,
        AtAgent::AfterCommitPrepared,
        AtAgent::AcknowledgementSent,
    ] {
        world.restart_agent(0, Some(point.name())).await.unwrap();
        let tx = prepared(&scene, point.name()).await;
        let crash = async {
            world.banks[0].agent.wait_crash().await.unwrap();
            world.banks[0].agent.start(None).unwrap();
        };
        let (outcome, ()) = futures::future::join(commit(&scene, tx, point.name()), crash).await;
        assert!(outcome.is_committed(), "{}: {outcome}", point.name());
        world.ready().await.unwrap();
    }
    for point in
        [AtAgent::BeforeRollbackPrepared, AtAgent::DuringRollbackPrepared, AtAgent::AfterRollbackPrepared]
    {
        world.restart_agent(0, Some(point.name())).await.unwrap();
        let tx = prepared(&scene, point.name()).await;
        scene.ledger.told(point.name(), told(&tx.rollback().await.unwrap()));
        world.banks[0].agent.wait_crash().await.unwrap();
        world.banks[0].agent.start(None).unwrap();
        until_nothing_is_prepared(&scene).await;
    }
    scene.close().await.unwrap();
}

#[tokio::test]
async fn what_an_application_prepared_that_died_is_rolled_back_at_the_timeout() {
    let scene = Scene::usual().await.unwrap();
    let begin = scene.teller.votum().begin().timeout(Duration::from_secs(2));
    let (tx, app) = open_with(&scene, "orphan", ROLE, begin).await;
    tx.attached(A).unwrap().prepare(&app).await.unwrap();
    let gtid = tx.gtid().to_owned();
    // Nobody rolls it back.
    drop((tx.export().unwrap(), app));
    assert_eq!(scene.world.until_prepared(1).await.unwrap().len(), 1);
    let ended = scene.ended(&gtid).await.unwrap();
    assert!(matches!(ended, votum_client::Status::Aborted(_)), "{ended:?}");
    scene.ledger.told("orphan", Told::Aborted);
    until_nothing_is_prepared(&scene).await;
    scene.close().await.unwrap();
}

/// R14: an application that knows nothing of the abort prepares afterwards.
#[tokio::test]
async fn r14_what_is_prepared_after_the_abort_is_found_and_rolled_back() {
    let scene = Scene::usual().await.unwrap();
    let (tx, app) = open(&scene, "late").await;
    let statement = tx.attached(A).unwrap().statement();
    scene.ledger.told("late", told(&tx.rollback().await.unwrap()));
    app.batch_execute(&statement).await.unwrap();
    until_nothing_is_prepared(&scene).await;
    assert_eq!(scene.balance(A, 1).await.unwrap(), 1_000);
    scene.close().await.unwrap();
}

/// I15: statements there through the agent are no part of what the application prepares.
#[tokio::test]
async fn i15_statements_through_the_agent_keep_an_attached_transaction_from_committing() {
    let scene = Scene::usual().await.unwrap();
    let request = votum_proto::v1::BeginRequest { attached: vec![A.into()], ..Default::default() };
    let mut plain = scene.plain_with("both ways", &[A], request).await.unwrap();
    plain.run(A, "UPDATE accounts SET balance = 0 WHERE id = 1").await.unwrap();
    let refused = plain.commit_with(plain.claims()).await.unwrap_err();
    assert!(refused.message().contains("attached"), "{refused:?}");
    // Whether the coordinator has heard of the session by now, or its agent says so.
    match plain.commit_with(Vec::new()).await {
        Err(refused) => assert!(refused.message().contains("attached"), "{refused:?}"),
        Ok(outcome) => assert!(matches!(outcome, Kind::Aborted(_)), "{outcome:?}"),
    }
    scene.ledger.told("both ways", votum_tests::plain::told(Some(&plain.roll_back().await.unwrap())));
    scene.close().await.unwrap();
}
