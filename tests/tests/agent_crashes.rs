//! Agents that die at every named point, restart between two statements, and are away when a commit is
//! decided.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::sync::Arc;

use votum_client::{Error, Outcome, Votum, Wait};
use votum_participant::crash::CrashPoint;
use votum_proto::v1;
use votum_proto::v1::outcome::Kind;
use votum_tests::eventually::{Found, eventually};
use votum_tests::gate;
use votum_tests::ledger::Ledger;
use votum_tests::load::Load;
use votum_tests::plain::Plain;
use votum_tests::teller::{Teller, work};
use votum_tests::world::World;

/// How the agent is told to die, and what must become of the transaction.
struct Death {
    choice: String,
    ends: Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Committed,
    Aborted,
    /// The first statement, or the vote, may or may not have been heard of.
    Either,
    /// Aborted, because the other bank refuses once this one is prepared.
    Refused,
}

/// One row for each point; a point without a row does not compile. The crash matrix has those that no branch
/// comes by.
fn death(point: CrashPoint) -> Option<Death> {
    use CrashPoint::{
        AcknowledgementSent, AfterBegin, AfterCommitOnePhase, AfterCommitPrepared, AfterPrepare,
        AfterRollbackPrepared, AttachedVerified, BeforeBegin, BeforeCommitPrepared, BeforePrepare,
        BeforeRollbackPrepared, BeforeStatement, BranchSettled, DuringBegin, DuringCommitOnePhase,
        DuringCommitPrepared, DuringPrepare, DuringRollbackPrepared, DuringStatement, DuringWork, Listed,
        StatementRun, VoteSent,
    };
    let (time, ends) = match point {
        BeforeBegin | DuringBegin | AfterBegin | BeforeStatement => ("", Ends::Either),
        DuringStatement => ("", Ends::Aborted),
        StatementRun => ("@2", Ends::Aborted),
        BeforePrepare | DuringPrepare | AfterPrepare => ("", Ends::Aborted),
        VoteSent => ("", Ends::Either),
        BeforeCommitPrepared | DuringCommitPrepared | AfterCommitPrepared | AcknowledgementSent => {
            ("", Ends::Committed)
        }
        BeforeRollbackPrepared | DuringRollbackPrepared | AfterRollbackPrepared => ("", Ends::Refused),
        Listed => return None,
        // `one_shot.rs` has that of a branch whose work comes in one request.
        DuringWork => return None,
        // `one_phase.rs` and `last_agent.rs` have those of a commit in one phase.
        DuringCommitOnePhase | AfterCommitOnePhase | BranchSettled => return None,
        // `attached.rs` has that of a branch that the application prepares.
        AttachedVerified => return None,
    };
    Some(Death { choice: format!("{}{time}", point.name()), ends })
}

/// I1, I4, I6, I13, I15 at each of them.
#[tokio::test]
async fn an_agent_killed_at_any_point_leaves_no_half_transaction() {
    let world = World::builder().start().await.unwrap();
    world.banks[1].build_gate().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    for Death { choice, ends } in CrashPoint::ALL.iter().filter_map(|point| death(*point)) {
        world.restart_agent(0, Some(&choice)).await.unwrap();
        let client = transfer(&world, &teller, &choice, ends);
        let restart = async {
            world.banks[0].agent.wait_crash().await.unwrap();
            world.restart_agent(0, None).await.unwrap();
        };
        let (outcome, ()) = futures::future::join(client, restart).await;
        match (ends, &outcome) {
            (Ends::Committed | Ends::Either, Ok(Outcome::Committed(committed))) => {
                assert!(committed.completed, "{choice}: {committed:?}");
            }
            (Ends::Aborted | Ends::Refused | Ends::Either, Ok(Outcome::Aborted(_)) | Err(_)) => {}
            wrong => panic!("{choice}: {wrong:?}"),
        }
        // An abort is answered before it is carried out: the next agent would die of this one's leftover.
        world.until_idle().await.unwrap();
    }
    world.check(&ledger).await.unwrap();
}

/// One transfer; where it is to be refused, the second bank votes no after the first has prepared.
async fn transfer(world: &World, teller: &Teller, name: &str, ends: Ends) -> Result<Outcome, Error> {
    let legs = world.legs(10);
    if ends != Ends::Refused {
        return teller.transfer(name, &legs).await;
    }
    let shut = world.banks[1].shut_gate().await.unwrap();
    let tx = teller.open(name, &legs).await?;
    work(&tx, name, &legs).await?;
    gate::pass(&tx, &world.banks[1].name, true).await?;
    let open = async {
        world.until_prepared(1).await.unwrap();
        drop(shut);
    };
    let (outcome, ()) = futures::future::join(teller.commit(tx, name), open).await;
    outcome
}

#[tokio::test]
async fn a_branch_whose_agent_restarted_between_two_statements_dies_and_does_not_shrink() {
    let world = World::builder().start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    let legs = world.legs(10);

    // The client goes on with a second statement: it must not run in a new session, alone.
    let tx = teller.open("goes-on", &legs).await.unwrap();
    work(&tx, "goes-on", &legs).await.unwrap();
    world.restart_agent(0, None).await.unwrap();
    let more = tx.execute("bank-a", "UPDATE accounts SET balance = balance + 1 WHERE id = 2", &[]).await;
    assert!(matches!(more, Err(Error::BranchLost { .. })), "{more:?}");
    let outcome = teller.commit(tx, "goes-on").await.unwrap();
    assert!(matches!(outcome, Outcome::Aborted(_)), "{outcome:?}");

    // The client commits at once: nothing but the other branch is left, and it must not commit alone.
    let tx = teller.open("commits", &legs).await.unwrap();
    work(&tx, "commits", &legs).await.unwrap();
    world.restart_agent(0, None).await.unwrap();
    let outcome = teller.commit(tx, "commits").await.unwrap();
    assert!(matches!(outcome, Outcome::Aborted(_)), "{outcome:?}");

    world.check(&ledger).await.unwrap();
}

/// I15: the repeated statement opens another session, under which nothing can be committed that the first
/// reply was about.
#[tokio::test]
async fn a_first_statement_repeated_over_an_agents_restart_never_counts_twice() {
    let world = World::builder().start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let tx = Plain::begin(world.address(), v1::BeginRequest::default()).await.unwrap();
    let request = tx.request("bank-a", 1, "INSERT INTO journal (transfer, amount) VALUES ('twice', 0)");
    let first = tx.send(request.clone()).await.unwrap().session;
    world.restart_agent(0, None).await.unwrap();
    // The transaction may have ended already, and with it the chance to open anything.
    let second = tx.send(request).await.ok().map(|reply| reply.session);
    assert_ne!(second, Some(first), "a session outlived its agent");

    for session in [Some(first), second].into_iter().flatten() {
        let claim = v1::BranchClaim { participant: "bank-a".into(), session: Some(session), last_ordinal: 1 };
        let outcome = tx.commit_with(vec![claim]).await.unwrap();
        assert!(matches!(outcome, Kind::Aborted(_)), "{outcome:?}");
    }
    assert_eq!(world.banks[0].number("SELECT count(*) FROM journal").await.unwrap(), 0);
    world.check(&ledger).await.unwrap();
}

/// I3, I13: the client is told before the agent is back.
#[tokio::test]
async fn commits_decided_while_an_agent_is_away_are_delivered_when_it_is_back() {
    let world = World::builder().start().await.unwrap();
    world.restart_agent(0, Some("before-commit-prepared")).await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let votum = Votum::options().wait(Wait::Decided);
    let teller = Teller::new(votum.connect(&world.address().to_string()).await.unwrap(), &ledger);
    let outcome = teller.transfer("owed", &world.legs(10)).await.unwrap();
    assert!(outcome.is_committed(), "{outcome:?}");
    let gtid = ledger.transfers()["owed"].gtid.clone().unwrap();

    world.banks[0].agent.wait_crash().await.unwrap();
    world.until_pending(&gtid, "bank-a").await.unwrap();
    assert_eq!(world.status().await.unwrap().undelivered, 1);
    assert_eq!(world.prepared().await.unwrap().len(), 1);

    world.restart_agent(0, None).await.unwrap();
    let committed = world.until_completed(&gtid).await.unwrap();
    assert_eq!(committed.heuristics, []);
    world.check(&ledger).await.unwrap();
}

/// I6, I15.
#[tokio::test]
async fn agents_killed_again_and_again_under_load_lose_nothing() {
    let world = World::builder().accounts(8, 1_000).start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    let load = Load::default();
    let killing = async {
        for round in 0..4 {
            let before = load.ended();
            eventually("the load goes on", async || {
                let ended = load.ended();
                Ok(if ended >= before + 20 {
                    Found::Yes(())
                } else {
                    Found::NotYet(format!("{ended} ended"))
                })
            })
            .await
            .unwrap();
            world.restart_agent(round % 2, None).await.unwrap();
        }
        load.stop();
    };
    futures::future::join(load.run(&teller, ["bank-a", "bank-b"], 8, "load"), killing).await;
    world.check(&ledger).await.unwrap();
    assert!(ledger.count(votum_tests::ledger::Told::Committed) > 0);
}
