//! A connection that breaks while PREPARE runs, whose server process goes on and finishes it later. I4, I6: told
//! aborted, and what turns up prepared is rolled back.

use futures::future::join;
use votum_client::{Outcome, Transaction};
use votum_tests::eventually::{Found, eventually};
use votum_tests::gate;
use votum_tests::postgres::Options;
use votum_tests::proxy::{Fault, Link, Message};
use votum_tests::scene::{A, B};
use votum_tests::teller::{Leg, work};
use votum_tests::world::World;

use crate::cases::Heal;
use crate::site::{Became, Site};

const NAME: &str = "broken";

async fn worked(site: &Site) -> Transaction {
    let legs = [Leg { bank: A, account: 1, amount: -1 }, Leg { bank: B, account: 1, amount: 1 }];
    let tx = site.others.open(NAME, &legs).await.unwrap();
    work(&tx, NAME, &legs).await.unwrap();
    tx
}

/// Everybody hears that it was aborted, and nothing of it is left.
async fn is_aborted(site: &Site, answer: Result<Outcome, votum_client::Error>) {
    assert!(matches!(answer, Ok(Outcome::Aborted(_))), "{answer:?}");
    let client = site.client(Heal::Soon).await.unwrap();
    site.works_again(&client, "after").await.unwrap();
    assert_eq!(site.became(NAME).await.unwrap(), Became::Aborted);
    site.world.check(&site.ledger).await.unwrap();
}

#[tokio::test]
async fn a_prepare_whose_connection_broke_is_ended_at_the_server_before_it_can_finish() {
    let site = Site::open().await.unwrap();
    let bank = &site.world.banks[0];
    let shut = bank.shut_gate().await.unwrap();
    let tx = worked(&site).await;
    gate::pass(&tx, A, false).await.unwrap();
    let conduct = async {
        let backend = bank.until_at_gate().await.unwrap();
        site.world.network().unwrap().wire(Link::AgentDatabase, 0).unwrap().cut();
        eventually("the late server process is ended", async || {
            let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {backend}");
            let alive = bank.number(&alive).await?;
            Ok(if alive == 0 { Found::Yes(()) } else { Found::NotYet("it waits at the gate".into()) })
        })
        .await
        .unwrap();
        drop(shut);
    };
    let (answer, ()) = join(site.others.commit(tx, NAME), conduct).await;
    is_aborted(&site, answer).await;
}

#[tokio::test]
async fn a_prepare_that_finished_after_its_connection_broke_is_rolled_back_once_it_is_found() {
    let site = Site::open().await.unwrap();
    let bank = &site.world.banks[0];
    let wire = site.world.network().unwrap().wire(Link::AgentDatabase, 0).unwrap();
    let shut = bank.shut_gate().await.unwrap();
    let tx = worked(&site).await;
    gate::pass(&tx, A, false).await.unwrap();
    let conduct = async {
        bank.until_at_gate().await.unwrap();
        // Nobody can end the server process: its database cannot be reached.
        wire.begin(Fault::Sever);
    };
    let (answer, ()) = join(site.others.commit(tx, NAME), conduct).await;
    drop(shut);
    eventually("it is prepared after all", async || {
        let prepared = bank.prepared().await?;
        Ok(if prepared.len() == 1 { Found::Yes(()) } else { Found::NotYet(format!("{prepared:?}")) })
    })
    .await
    .unwrap();
    wire.heal();
    is_aborted(&site, answer).await;
}

/// The gid can be seen while PREPARE waits for a standby that does not exist. Nothing at this bank can be ended
/// until somebody changes that; then everything is.
#[tokio::test]
async fn a_prepare_whose_connection_broke_while_it_waited_for_a_standby_is_rolled_back() {
    let site = Site::open_with(World::builder().own_servers(Options::default())).await.unwrap();
    let bank = &site.world.banks[0];
    let wire = site.world.network().unwrap().wire(Link::AgentDatabase, 0).unwrap();
    let tx = worked(&site).await;
    bank.server.require_standby(true).await.unwrap();
    let conduct = async {
        eventually("PREPARE waits for the standby", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                            WHERE wait_event = 'SyncRep' AND query LIKE '%PREPARE TRANSACTION%'";
            let waiting = bank.number(waiting).await?;
            Ok(if waiting > 0 { Found::Yes(()) } else { Found::NotYet("none does".into()) })
        })
        .await
        .unwrap();
        wire.cut();
        let seen = wire.seen(Message::SqlRollbackPrepared);
        wire.until_seen(Message::SqlRollbackPrepared, seen).await.unwrap();
        bank.server.require_standby(false).await.unwrap();
    };
    let (answer, ()) = join(site.others.commit(tx, NAME), conduct).await;
    is_aborted(&site, answer).await;
}
