//! Whole transactions in one request: what comes back, what is refused, and whoever dies meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::sync::Arc;
use std::time::Duration;

use votum_client::{AbortKind, Error, OneShot, Outcome, Status, Transacted, Votum, Wait};
use votum_coordinator::crash::CrashPoint as AtCoordinator;
use votum_participant::crash::CrashPoint as AtAgent;
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::Ledger;
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::Teller;
use votum_tests::world::{Builder, World};

/// A transfer in one request, under its name as key.
async fn shoot(scene: &Scene, name: &str) -> Result<Transacted, Error> {
    let shot = scene.teller.votum().transact().idempotency_key(name);
    scene.teller.at_once(shot, name, &scene.world.legs(10)).await
}

fn aborted(done: &Transacted) -> &votum_client::Abort {
    let Outcome::Aborted(abort) = &done.outcome else { panic!("{}", done.outcome) };
    abort
}

async fn usual() -> Scene {
    Scene::usual().await.unwrap()
}

#[tokio::test]
async fn results_come_back_with_the_outcome_in_the_order_of_the_statements() {
    let scene = usual().await;
    // The first goes step by step, and the others in one trip: what comes back is the same.
    for (round, balance) in [(1, 990), (2, 980), (3, 970)] {
        let name = format!("results-{round}");
        let shot = scene
            .teller
            .votum()
            .transact()
            .statement(A, "UPDATE accounts SET balance = balance - 10 WHERE id = 1", &[])
            .statement(A, "SELECT id, balance FROM accounts WHERE id <= $1 ORDER BY id", &[2.into()])
            .statement(A, "INSERT INTO journal (transfer, amount) VALUES ($1, -10)", &[name.as_str().into()])
            .statement(B, "UPDATE accounts SET balance = balance + 10 WHERE id = 1 RETURNING balance", &[])
            .statement(B, "INSERT INTO journal (transfer, amount) VALUES ($1, 10)", &[name.as_str().into()]);
        scene.ledger.intend(&name, [A, B]);
        let done = shot.await.unwrap();
        scene.ledger.begun(&name, &done.gtid);
        scene.ledger.told(&name, votum_tests::teller::told(&done.outcome));
        let Outcome::Committed(committed) = &done.outcome else { panic!("{}", done.outcome) };
        assert!(committed.completed, "{committed:?}");
        let at_a = done.results(A);
        assert_eq!(at_a.iter().map(|result| result.row_count).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(at_a[1].rows[0].get::<i64>("balance").unwrap(), balance);
        assert_eq!(at_a[1].rows[1].get::<i64>("id").unwrap(), 2);
        let got: i64 = done.results(B)[0].rows[0].get("balance").unwrap();
        assert_eq!(got, 1000 + 10 * round);
        assert!(done.failed.is_none() && done.results("nowhere").is_empty());
    }
    scene.close().await.unwrap();
}

#[tokio::test]
async fn a_statement_that_fails_is_named_and_nothing_is_done_anywhere() {
    let scene = usual().await;
    for round in 0..2 {
        let done = scene
            .teller
            .votum()
            .transact()
            .statement(A, "UPDATE accounts SET balance = balance - 10 WHERE id = 1", &[])
            .statement(B, "UPDATE accounts SET balance = balance + 10 WHERE id = 1", &[])
            .statement(B, "INSERT INTO accounts (id, balance) VALUES (1, 0)", &[])
            .await
            .unwrap();
        let abort = aborted(&done);
        assert_eq!((abort.kind, abort.sqlstate.as_deref()), (AbortKind::VotedNo, Some("23505")), "{round}");
        assert_eq!(abort.participant.as_deref(), Some(B));
        assert!(abort.message.contains("statement 2"), "{}", abort.message);
        let failed = done.failed.as_ref().unwrap();
        assert_eq!((failed.participant.as_str(), failed.statement), (B, 1));
        assert_eq!(failed.error.as_ref().unwrap().constraint, "accounts_pkey");
        assert!(done.results(A).is_empty());
    }
    let deferred = scene.teller.votum().transact().statement(A, "COMMIT", &[]);
    let done = deferred.statement(B, "SELECT 1", &[]).await.unwrap();
    assert!(aborted(&done).message.contains("the coordinator's part"), "{}", done.outcome);
    assert_eq!(done.failed.unwrap().statement, 0);
    assert_eq!((scene.balance(A, 1).await.unwrap(), scene.balance(B, 1).await.unwrap()), (1000, 1000));
    scene.close().await.unwrap();
}

#[tokio::test]
async fn what_only_reads_is_neither_prepared_nor_logged() {
    let scene = usual().await;
    let read = |shot: OneShot| {
        shot.statement(A, "SELECT balance FROM accounts WHERE id = 1", &[]).statement(
            B,
            "SELECT balance FROM accounts WHERE id = 1",
            &[],
        )
    };
    let before = scene.world.status().await.unwrap().log_position;
    let done = read(scene.teller.votum().transact().read_only()).await.unwrap();
    assert_eq!(done.outcome, Outcome::ReadOnly);
    assert_eq!(done.results(B)[0].rows[0].get::<i64>(0).unwrap(), 1000);
    assert_eq!(scene.world.status().await.unwrap().log_position, before);

    // One branch only: the other is prepared.
    let mixed = scene
        .teller
        .votum()
        .transact()
        .only_reads(A)
        .statement(A, "SELECT balance FROM accounts WHERE id = 1", &[])
        .statement(B, "UPDATE accounts SET balance = balance WHERE id = 1", &[]);
    let done = mixed.await.unwrap();
    assert!(matches!(done.outcome, Outcome::Committed(_)), "{}", done.outcome);
    let shown = v1::ShowTransactionRequest { gtid: done.gtid.clone() };
    let shown = scene.world.operator().unwrap().show_transaction(shown).await.unwrap().into_inner();
    assert_eq!(shown.branches.iter().map(|branch| branch.participant.as_str()).collect::<Vec<_>>(), [B]);

    let wrote = scene.teller.votum().transact().read_only().statement(
        A,
        "UPDATE accounts SET balance = 0 WHERE id = 1",
        &[],
    );
    assert_eq!(aborted(&wrote.await.unwrap()).sqlstate.as_deref(), Some("25006"));
    scene.close().await.unwrap();
}

/// I5, I15.
#[tokio::test]
async fn the_same_request_under_a_key_is_carried_out_once() {
    let scene = usual().await;
    let first = shoot(&scene, "once").await.unwrap();
    assert!(first.outcome.is_committed(), "{}", first.outcome);
    let again = shoot(&scene, "once").await.unwrap();
    assert_eq!((&again.gtid, again.outcome.is_committed()), (&first.gtid, true));
    scene.world.coordinator.kill9().unwrap();
    scene.world.start_coordinator(None).await.unwrap();
    let after = shoot(&scene, "once").await.unwrap();
    assert_eq!((&after.gtid, after.outcome.is_committed()), (&first.gtid, true));
    assert!(after.results(A).is_empty(), "results are not kept");

    let other = scene.teller.votum().transact().idempotency_key("once").statement(A, "SELECT 1", &[]);
    let Err(Error::Refused(refusal)) = other.await else { panic!("another request was taken for the same") };
    assert_eq!(refusal.code, "VOTUM-1207");
    // A transaction by calls of its own is other work, too.
    let hosted = scene.teller.votum().begin().idempotency_key("once").await;
    assert!(matches!(hosted, Err(Error::Refused(_))), "the key stands for other work");
    assert_eq!(scene.balance(A, 1).await.unwrap() + scene.balance(B, 1).await.unwrap(), 2000);
    scene.close().await.unwrap();
}

/// I15: two who ask at the same time get the one outcome.
#[tokio::test]
async fn a_request_that_comes_while_the_first_is_under_way_joins_it() {
    let scene = usual().await;
    scene.bank(B).unwrap().build_gate().await.unwrap();
    let shut = scene.bank(B).unwrap().shut_gate().await.unwrap();
    let shot = scene
        .teller
        .votum()
        .transact()
        .idempotency_key("joined")
        .statement(A, "UPDATE accounts SET balance = balance - 1 WHERE id = 1", &[])
        .statement(B, "UPDATE accounts SET balance = balance + 1 WHERE id = 1", &[])
        .statement(B, "INSERT INTO gate VALUES (false)", &[]);
    let two = futures::future::join(shot.clone().into_future(), shot.into_future());
    let open = async {
        scene.world.until_prepared(1).await.unwrap();
        drop(shut);
    };
    let ((first, second), ()) = futures::future::join(two, open).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.outcome.is_committed() && second.outcome.is_committed());
    assert_eq!(first.gtid, second.gtid);
    assert_eq!((scene.balance(A, 1).await.unwrap(), scene.balance(B, 1).await.unwrap()), (999, 1001));
    scene.close().await.unwrap();
}

/// Nothing is begun where it cannot be begun everywhere.
#[tokio::test]
async fn a_request_for_an_agent_that_is_away_is_refused_at_once_or_waits_for_it() {
    let scene = usual().await;
    scene.world.banks[1].agent.kill9().unwrap();
    eventually("the coordinator has seen it go", async || {
        let status = scene.world.status().await?;
        let connected = status.participants.iter().filter(|known| known.connected).count();
        Ok(if connected == 1 { Found::Yes(()) } else { Found::NotYet(format!("{connected}")) })
    })
    .await
    .unwrap();
    let address = scene.world.address().to_string();
    let hasty = Votum::options().retry_budget(Duration::from_millis(200)).connect(&address).await.unwrap();
    let shot = hasty.transact().statement(A, "SELECT 1", &[]).statement(B, "SELECT 1", &[]);
    let Err(Error::Refused(refusal)) = shot.await else { panic!("it was begun") };
    assert_eq!((refusal.code.as_str(), refusal.retryable), ("VOTUM-1210", true));
    assert!(refusal.message.contains(B), "{}", refusal.message);

    let back = async { scene.world.restart_agent(1, None).await.unwrap() };
    let (done, ()) = futures::future::join(shoot(&scene, "waits"), back).await;
    assert!(done.unwrap().outcome.is_committed());
    scene.close().await.unwrap();
}

/// What a statement's answer must not exceed: nothing of it is committed.
#[tokio::test]
async fn results_that_are_too_large_abort_the_transaction() {
    let scene = usual().await;
    for round in 0..2 {
        let large = "SELECT repeat('x', 100000) FROM generate_series(1, 100) AS large";
        let shot =
            scene.teller.votum().transact().statement(A, "UPDATE accounts SET balance = 0 WHERE id = 1", &[]);
        let done = shot.statement(A, large, &[]).await.unwrap();
        assert!(aborted(&done).message.contains("bytes"), "{round}: {}", done.outcome);
        scene.world.until_idle().await.unwrap();
        assert_eq!(scene.balance(A, 1).await.unwrap(), 1000);
    }
    scene.close().await.unwrap();
}

/// What must become of a transaction whose coordinator dies at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Committed,
    /// The client asks again under its key, and that runs it anew.
    RunAgain,
}

/// I1, I4, I5, I6, I13, I15.
#[tokio::test]
async fn a_coordinator_killed_at_any_point_carries_it_out_once() {
    use AtCoordinator as At;
    let world = World::builder().start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    for (point, ends) in [
        (At::Begun, Ends::RunAgain),
        (At::BeforeFirstPrepare, Ends::RunAgain),
        (At::BetweenPrepares, Ends::RunAgain),
        (At::AfterLastPrepare, Ends::RunAgain),
        (At::VotesIn, Ends::RunAgain),
        (At::DecisionAppended, Ends::Committed),
        (At::DecisionForced, Ends::Committed),
        (At::ClientTold, Ends::Committed),
        (At::FirstParticipantTold, Ends::Committed),
        (At::AllAcknowledged, Ends::Committed),
        (At::Ended, Ends::Committed),
    ] {
        let name = point.name();
        world.coordinator.terminate().unwrap();
        world.coordinator.wait_exit().await.unwrap();
        world.start_coordinator(Some(name)).await.unwrap();
        // What its client waits for comes after the point.
        let wait = if point == At::ClientTold { Wait::Decided } else { Wait::Completed };
        let votum = Votum::options().wait(wait).connect(&world.address().to_string()).await.unwrap();
        let teller = Teller::new(votum.clone(), &ledger);
        let restart = async {
            world.coordinator.wait_crash().await.unwrap();
            world.restart_and_settle(None).await.unwrap()
        };
        let shot = votum.transact().idempotency_key(name);
        let legs = world.legs(10);
        let client = teller.at_once(shot, name, &legs);
        let (done, settled) = Box::pin(futures::future::join(client, restart)).await;
        let done = done.unwrap();
        assert!(done.outcome.is_committed(), "{name}: {}", done.outcome);
        if ends == Ends::RunAgain {
            assert_eq!(settled.committed, 0, "{name}: {}", settled.line);
        }
        let found = votum.transaction_by_key(name).await.unwrap();
        assert_eq!(found.gtid, done.gtid, "{name}");
        assert!(matches!(found.status, Status::Committed(_)), "{name}: {found:?}");
        world.until_idle().await.unwrap();
    }
    world.check(&ledger).await.unwrap();
}

/// I1, I4, I6, I13, I15: at each point that such a branch comes by, when its work goes step by step and when it goes in
/// one trip.
#[tokio::test]
async fn an_agent_killed_at_any_point_leaves_no_half_transaction() {
    let world = World::builder().start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    for (point, committed) in [
        (AtAgent::BeforeBegin, Some(false)),
        (AtAgent::DuringWork, Some(false)),
        (AtAgent::AfterPrepare, Some(false)),
        (AtAgent::VoteSent, None),
        (AtAgent::BeforeCommitPrepared, Some(true)),
        (AtAgent::DuringCommitPrepared, Some(true)),
        (AtAgent::AfterCommitPrepared, Some(true)),
        (AtAgent::AcknowledgementSent, Some(true)),
    ] {
        for met in [1, 2] {
            let name = format!("{}@{met}", point.name());
            world.restart_agent(0, Some(&name)).await.unwrap();
            for before in 1..met {
                let name = format!("{name}-before-{before}");
                let done = teller.at_once(teller.votum().transact(), &name, &world.legs(1)).await.unwrap();
                assert!(done.outcome.is_committed(), "{name}: {}", done.outcome);
            }
            let restart = async {
                world.banks[0].agent.wait_crash().await.unwrap();
                world.restart_agent(0, None).await.unwrap();
            };
            let legs = world.legs(10);
            let client = teller.at_once(teller.votum().transact(), &name, &legs);
            let (done, ()) = futures::future::join(client, restart).await;
            let done = done.unwrap();
            match committed {
                Some(committed) => {
                    assert_eq!(done.outcome.is_committed(), committed, "{name}: {}", done.outcome);
                }
                None => assert!(!matches!(done.outcome, Outcome::Unknown { .. }), "{name}: {}", done.outcome),
            }
            world.until_idle().await.unwrap();
        }
    }
    world.check(&ledger).await.unwrap();
}

/// The marker goes with the work, and where it is the only branch it is committed in one phase.
#[tokio::test]
async fn branches_leave_their_markers_and_a_single_one_needs_no_prepare() {
    let builder: Builder = World::builder();
    let world = builder.prepare().await.unwrap();
    for bank in &world.banks {
        bank.keep_markers().await.unwrap();
        bank.agent.start(None).unwrap();
    }
    world.start_coordinator(None).await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    for round in 0..3 {
        let name = format!("two-{round}");
        let done = teller.at_once(teller.votum().transact(), &name, &world.legs(10)).await.unwrap();
        assert!(done.outcome.is_committed(), "{}", done.outcome);
        assert_eq!(world.banks[0].number("SELECT count(*) FROM votum.marker").await.unwrap(), round * 2 + 1);
        let one =
            teller.votum().transact().statement(A, "UPDATE accounts SET balance = balance WHERE id = 1", &[]);
        let done = one.await.unwrap();
        assert!(done.outcome.is_committed(), "{}", done.outcome);
        assert_eq!(done.results(A)[0].row_count, 1);
        let shown = v1::ShowTransactionRequest { gtid: done.gtid.clone() };
        let shown = world.operator().unwrap().show_transaction(shown).await.unwrap().into_inner();
        assert_eq!(shown.records.first().map(|record| record.kind.as_str()), Some("Delegated"));
    }
    world.check(&ledger).await.unwrap();
}

/// A person may ask by the plain contract, with neither client crate nor stream of calls.
#[tokio::test]
async fn a_plain_call_says_what_is_wrong_with_it() {
    let scene = usual().await;
    let channel = scene.world.address().channel().unwrap();
    let mut plain = v1::coordinator_client::CoordinatorClient::new(channel);
    let work = |participant: &str, statement: &str| v1::BranchWork {
        participant: participant.into(),
        statements: vec![v1::WorkStatement { statement: statement.into(), ..Default::default() }],
        ..Default::default()
    };
    for (branches, why) in [
        (vec![], "at least one branch"),
        (vec![work(A, "SELECT 1"), work(A, "SELECT 1")], "named twice"),
        (vec![work("nowhere", "SELECT 1")], "not configured"),
        (vec![v1::BranchWork { participant: A.into(), ..Default::default() }], "no statement"),
    ] {
        let request = v1::TransactRequest { branches, ..Default::default() };
        let status = plain.transact(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(why), "{}", status.message());
    }
    let request = v1::TransactRequest { branches: vec![work(A, "SELECT 1")], ..Default::default() };
    let answer = plain.transact(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].statements[0].row_count, 1);
    scene.close().await.unwrap();
}
