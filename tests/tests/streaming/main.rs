//! A standby that streams from a bank's server takes its place, and the bank's agent, which knows both by its one
//! connection string, follows.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

mod failovers;
mod hosts;

use votum_client::{Committed, Status};
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::Told;
use votum_tests::postgres::Options;
use votum_tests::scene::{A, Scene};
use votum_tests::world::{Builder, Host, World};

/// Two banks; the first one's agent knows its server and its standby by these hosts.
fn banks(hosts: &[Host]) -> Builder {
    World::builder().own_servers(Options::default()).standby(hosts)
}

async fn open(hosts: &[Host]) -> Scene {
    Scene::open(banks(hosts)).await.unwrap()
}

/// From now on every branch leaves a commit marker.
async fn with_markers(scene: &Scene) {
    for bank in &scene.world.banks {
        bank.keep_markers().await.unwrap();
    }
    // Sessions that are open look for the table once a second.
    let mut number = 0;
    eventually("branches leave markers at both banks", async || {
        number += 1;
        let name = format!("marked {number}");
        assert!(scene.teller.transfer(&name, &scene.world.legs(1)).await?.is_committed());
        scene.world.until_completed(&scene.gtid(&name)?).await?;
        for bank in &scene.world.banks {
            if bank.number("SELECT count(*) FROM votum.marker").await? == 0 {
                return Ok(Found::NotYet(format!("none at {}", bank.name)));
            }
        }
        Ok(Found::Yes(()))
    })
    .await
    .unwrap();
}

/// The standby hears no more from its server from here on, and has everything until here.
async fn cut_off(scene: &Scene) {
    let server = &scene.world.banks[0].server;
    server.until_replayed_by(server.standby().unwrap()).await.unwrap();
    server.cut_off(server.standby().unwrap()).await.unwrap();
}

/// A transfer that is told as committed, and acknowledged by all its banks.
async fn complete(scene: &Scene, name: &str) {
    assert!(scene.teller.transfer(name, &scene.world.legs(10)).await.unwrap().is_committed());
    scene.world.until_completed(&scene.gtid(name).unwrap()).await.unwrap();
}

/// Waits until `more` further transfers were told as committed.
async fn until_committed(scene: &Scene, more: usize) {
    let wanted = scene.ledger.count(Told::Committed) + more;
    eventually(&format!("{wanted} transfers are committed"), async || {
        let committed = scene.ledger.count(Told::Committed);
        Ok(if committed >= wanted { Found::Yes(()) } else { Found::NotYet(committed.to_string()) })
    })
    .await
    .unwrap();
}

/// Waits until the first bank is not heard (VOTUM-1406), for reasons among which these words are.
async fn until_unheard(world: &World, words: &[&str]) {
    let named = |status: &v1::GetStatusResponse| {
        let mut unheard = status.alarms.iter().filter(|alarm| alarm.code == "VOTUM-1406");
        unheard.any(|alarm| alarm.participant == A && words.iter().all(|word| alarm.detail.contains(word)))
    };
    world.until_status(&format!("the first bank is not heard: {words:?}"), named).await.unwrap();
}

/// What a client is told of a transfer that was committed.
async fn committed(scene: &Scene, name: &str) -> Committed {
    let gtid = scene.gtid(name).unwrap();
    match scene.teller.votum().transaction(&gtid).await.unwrap().status {
        Status::Committed(committed) => committed,
        other => panic!("{other:?}"),
    }
}

/// How many rows of a transfer stand at each bank.
async fn rows(scene: &Scene, name: &str) -> [i64; 2] {
    let query = format!("SELECT count(*) FROM journal WHERE transfer = '{name}'");
    let [a, b] = scene.world.banks.as_slice() else { panic!("two banks") };
    [a.number(&query).await.unwrap(), b.number(&query).await.unwrap()]
}

/// The alarms that last, by their codes.
async fn alarms(scene: &Scene) -> Vec<String> {
    scene.world.status().await.unwrap().alarms.into_iter().map(|alarm| alarm.code).collect()
}
