//! Databases that stop as in a power cut, and server processes that are ended in the middle of PREPARE and
//! COMMIT PREPARED.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use votum_client::Outcome;
use votum_tests::eventually::{Found, eventually};
use votum_tests::gate;
use votum_tests::postgres::Options;
use votum_tests::scene::Scene;
use votum_tests::teller::{Leg, work};
use votum_tests::world::{Builder, World};

/// Servers that these tests may stop.
fn builder() -> Builder {
    World::builder().own_servers(Options::default())
}

async fn open() -> Scene {
    Scene::open(builder()).await.unwrap()
}

/// I1, I4: in the first phase, before its branch is prepared and while it is being prepared.
#[tokio::test]
async fn a_database_that_stops_before_it_has_prepared_aborts_the_transaction() {
    let Scene { world, ledger, teller } = open().await;
    let legs = world.legs(10);
    let stopped = &world.banks[1];
    stopped.build_gate().await.unwrap();

    let tx = teller.open("after its statements", &legs).await.unwrap();
    work(&tx, "after its statements", &legs).await.unwrap();
    stopped.server.stop_immediate().await.unwrap();
    let outcome = teller.commit(tx, "after its statements").await.unwrap();
    assert!(matches!(outcome, Outcome::Aborted(_)), "{outcome:?}");
    stopped.server.restart().await.unwrap();

    let shut = stopped.shut_gate().await.unwrap();
    let tx = teller.open("in PREPARE", &legs).await.unwrap();
    work(&tx, "in PREPARE", &legs).await.unwrap();
    gate::pass(&tx, &stopped.name, false).await.unwrap();
    let stop = async {
        stopped.until_at_gate().await.unwrap();
        stopped.server.stop_immediate().await.unwrap();
    };
    let (outcome, ()) = futures::future::join(teller.commit(tx, "in PREPARE"), stop).await;
    assert!(matches!(outcome.as_ref().unwrap(), Outcome::Aborted(_)), "{outcome:?}");
    drop(shut);
    stopped.server.restart().await.unwrap();

    world.check(&ledger).await.unwrap();
}

/// I7, I13: prepared, and away when the decision falls.
#[tokio::test]
async fn a_database_that_stops_after_it_has_prepared_commits_when_it_is_back() {
    let Scene { world, ledger, teller } = open().await;
    let legs = world.legs(10);
    let (slow, stopped) = (&world.banks[0], &world.banks[1]);
    slow.build_gate().await.unwrap();
    let shut = slow.shut_gate().await.unwrap();
    let tx = teller.open("prepared", &legs).await.unwrap();
    let gtid = tx.gtid().to_owned();
    work(&tx, "prepared", &legs).await.unwrap();
    gate::pass(&tx, &slow.name, false).await.unwrap();
    let stop = async {
        world.until_prepared(1).await.unwrap();
        // The vote has to leave before its database does.
        voted(&world, &gtid, &stopped.name).await;
        stopped.server.stop_immediate().await.unwrap();
        drop(shut);
        world.until_pending(&gtid, &stopped.name).await.unwrap();
        stopped.server.restart().await.unwrap();
    };
    let (outcome, ()) = futures::future::join(teller.commit(tx, "prepared"), stop).await;
    assert!(outcome.unwrap().is_committed());
    let committed = world.until_completed(&gtid).await.unwrap();
    assert_eq!(committed.heuristics, []);
    world.check(&ledger).await.unwrap();
}

/// I6, I13: the decision stands, the coordinator is dead, and then the database dies too.
#[tokio::test]
async fn a_database_that_was_down_while_the_coordinator_recovered_is_settled_when_it_is_back() {
    let Scene { world, ledger, teller } = open().await;
    world.coordinator.kill9().unwrap();
    world.start_coordinator(Some("decision-forced")).await.unwrap();
    let stopped = &world.banks[1];
    let crash = async {
        world.coordinator.wait_crash().await.unwrap();
        stopped.server.stop_immediate().await.unwrap();
        world.start_coordinator(None).await.unwrap();
        let gtid = ledger.transfers()["in doubt"].gtid.clone().unwrap();
        world.until_pending(&gtid, &stopped.name).await.unwrap();
        assert_eq!(world.banks[0].prepared().await.unwrap(), [], "one database down held up the other");
        let before = world.settlements().unwrap().len();
        stopped.server.restart().await.unwrap();
        let settled = world.until_settled(before).await.unwrap();
        assert_eq!((settled.committed, settled.rolled_back), (2, 0), "{}", settled.line);
    };
    let legs = world.legs(10);
    let (outcome, ()) = futures::future::join(teller.transfer("in doubt", &legs), crash).await;
    assert!(outcome.unwrap().is_committed());
    world.check(&ledger).await.unwrap();
}

#[tokio::test]
async fn transactions_that_do_not_touch_a_database_that_is_down_go_on() {
    let Scene { world, ledger, teller } = open().await;
    world.banks[1].server.stop_immediate().await.unwrap();
    let at_a = |amount| Leg { bank: "bank-a", account: 1, amount };
    for number in 0..20 {
        let outcome = teller.transfer(&format!("alone-{number}"), &[at_a(0)]).await.unwrap();
        assert!(outcome.is_committed(), "{outcome:?}");
    }
    // One that touches it is told so, and leaves nothing at the other.
    let at_b = Leg { bank: "bank-b", account: 1, amount: 0 };
    let refused = teller.transfer("with both", &[at_a(0), at_b]).await;
    assert!(!matches!(&refused, Ok(outcome) if outcome.is_committed()), "{refused:?}");
    world.banks[1].server.restart().await.unwrap();
    let both = eventually("the database takes part again", async || {
        Ok(match teller.transfer("with both again", &[at_a(0), at_b]).await {
            Ok(outcome) => Found::Yes(outcome),
            Err(error) => Found::NotYet(format!("{error}")),
        })
    });
    assert!(both.await.unwrap().is_committed());
    world.check(&ledger).await.unwrap();
}

/// I4: whether the gid turns up after all is known only when the server process is gone.
#[tokio::test]
async fn a_server_process_ended_in_prepare_aborts_and_leaves_nothing_prepared() {
    let Scene { world, ledger, teller } = open().await;
    let legs = world.legs(10);
    let bank = &world.banks[0];
    bank.build_gate().await.unwrap();
    let shut = bank.shut_gate().await.unwrap();
    let tx = teller.open("ended in PREPARE", &legs).await.unwrap();
    work(&tx, "ended in PREPARE", &legs).await.unwrap();
    gate::pass(&tx, &bank.name, false).await.unwrap();
    let end = async {
        let pid = bank.until_at_gate().await.unwrap();
        world.until_prepared(1).await.unwrap();
        bank.by_hand(&format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
    };
    let (outcome, ()) = futures::future::join(teller.commit(tx, "ended in PREPARE"), end).await;
    assert!(matches!(outcome.as_ref().unwrap(), Outcome::Aborted(_)), "{outcome:?}");
    drop(shut);
    world.check(&ledger).await.unwrap();
}

/// The branch is committed where it stands, and not yet where it has to be: it is acknowledged only once a
/// standby would have it.
#[tokio::test]
async fn a_server_process_ended_in_commit_prepared_is_found_committed_and_then_acknowledged() {
    let Scene { world, ledger, teller } = open().await;
    world.coordinator.kill9().unwrap();
    world.start_coordinator(Some("decision-forced")).await.unwrap();
    let bank = &world.banks[0];
    let crash = async {
        world.coordinator.wait_crash().await.unwrap();
        bank.server.require_standby(true).await.unwrap();
        world.start_coordinator(None).await.unwrap();
        let pid = waiting_for_standby(&world, "COMMIT PREPARED%").await;
        bank.by_hand(&format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
        // Found committed; the proof that a standby has it waits as the commit did.
        waiting_for_standby(&world, "%pg_logical_emit_message%").await;
        let gtid = ledger.transfers()["at a standby"].gtid.clone().unwrap();
        world.until_pending(&gtid, &bank.name).await.unwrap();
        bank.server.require_standby(false).await.unwrap();
    };
    let legs = world.legs(10);
    let (outcome, ()) = futures::future::join(teller.transfer("at a standby", &legs), crash).await;
    assert!(outcome.unwrap().is_committed());
    let gtid = ledger.transfers()["at a standby"].gtid.clone().unwrap();
    let committed = world.until_completed(&gtid).await.unwrap();
    assert_eq!(committed.heuristics, []);
    world.check(&ledger).await.unwrap();
}

/// The server process at the first bank that waits for a synchronous standby in such a statement.
async fn waiting_for_standby(world: &World, statement: &str) -> i32 {
    eventually(&format!("{statement} waits for a standby"), async || {
        let client = world.banks[0].client().await?;
        let waits = "SELECT pid, wait_event, query FROM pg_stat_activity
                      WHERE datname = current_database() AND usename = 'votum'";
        let rows = client.query(waits, &[]).await?;
        let like = "SELECT pid FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event = 'SyncRep' AND query LIKE $1";
        Ok(match client.query_opt(like, &[&statement]).await? {
            Some(row) => Found::Yes(row.get(0)),
            None => Found::NotYet(format!("{rows:?}")),
        })
    })
    .await
    .unwrap()
}

/// Waits until a participant's yes has arrived.
async fn voted(world: &World, gtid: &str, participant: &str) {
    eventually(&format!("{participant} has voted"), async || {
        let request = votum_proto::v1::ShowTransactionRequest { gtid: gtid.to_owned() };
        let shown = world.operator()?.show_transaction(request).await?.into_inner();
        let yes = shown.branches.iter().any(|b| b.participant == participant && b.state == "yes");
        Ok(if yes { Found::Yes(()) } else { Found::NotYet(format!("{:?}", shown.branches)) })
    })
    .await
    .unwrap();
}
