//! Which of the servers in its connection string an agent works with.

use std::sync::Arc;

use futures::future::join;
use votum_tests::ledger::Ledger;
use votum_tests::postgres::{ROLE, Server};
use votum_tests::scene::{A, Scene};
use votum_tests::teller::Teller;
use votum_tests::tool::votumctl;
use votum_tests::world::Host::{self, Primary, Standby};

use super::{banks, complete, open, rows, until_unheard};

/// R11: what a standby shows is no listing, and no branch is opened on it, not even one that only reads. Once it is
/// promoted, everything goes on by itself.
#[tokio::test]
async fn an_agent_that_reaches_only_a_standby_does_not_work_until_it_is_promoted() {
    let world = banks(&[Standby]).prepare().await.unwrap();
    for bank in &world.banks {
        bank.agent.start(None).unwrap();
    }
    world.coordinator.start(None).unwrap();
    until_unheard(&world, &["standby"]).await;
    votumctl(&world, &["status"]).await.unwrap().ended(1);

    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    let tx = teller.votum().begin().await.unwrap();
    let refused = tx.query(A, "SELECT balance FROM accounts", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("standby"), "{refused}");

    let scene = Scene { world, ledger, teller };
    scene.world.banks[0].server.fail_over().await.unwrap();
    scene.world.until_no_alarm("VOTUM-1406").await.unwrap();
    complete(&scene, "at the promoted one").await;
    scene.close().await.unwrap();
}

/// R11, I8: a server that listens where the primary did, and is of another system, is named and left alone.
#[tokio::test]
async fn a_server_of_another_system_in_the_place_of_the_primary_is_refused_and_not_touched() {
    let (scene, other) = behind_another_system(&[Primary, Standby]).await;
    other.stop_immediate().await.unwrap();
    scene.world.banks[0].server.promote_standby().await.unwrap();
    settled(scene).await;
}

/// The same where the agent knows no other host.
#[tokio::test]
async fn a_server_of_another_system_in_the_place_of_the_only_one_is_refused_and_not_touched() {
    let (scene, other) = behind_another_system(&[Primary]).await;
    other.stop_immediate().await.unwrap();
    scene.world.banks[0].server.restart().await.unwrap();
    settled(scene).await;
}

async fn settled(scene: Scene) {
    scene.world.until_completed(&scene.gtid("decided").unwrap()).await.unwrap();
    scene.world.until_no_alarm("VOTUM-1406").await.unwrap();
    assert_eq!(rows(&scene, "decided").await, [1, 1]);
    scene.close().await.unwrap();
}

/// A commit is decided, and where its first branch is prepared another system listens, in which something is
/// prepared under the branch's name. The agent prepared the branch itself, and would commit it without a look.
async fn behind_another_system(hosts: &[Host]) -> (Scene, Server) {
    let builder = banks(hosts).coordinator_tables("[limits]\ncompleted_wait_ms = 200");
    let scene = Scene::open(builder).await.unwrap();
    let (world, bank) = (&scene.world, &scene.world.banks[0]);
    world.coordinator.kill9().unwrap();
    world.start_coordinator(Some("decision-forced=stop")).await.unwrap();
    let legs = world.legs(10);
    let replaced = async {
        world.coordinator.wait_stopped().await.unwrap();
        let prepared = world.until_prepared(2).await.unwrap();
        let gid = prepared.iter().find(|branch| branch.bank == A).unwrap().gid.clone();
        bank.server.until_replayed_by(bank.server.standby().unwrap()).await.unwrap();
        bank.server.crash().await.unwrap();
        let other = another_system(bank, &gid).await;
        world.coordinator.thaw().unwrap();
        (other, gid)
    };
    let (told, (other, gid)) = Box::pin(join(scene.teller.transfer("decided", &legs), replaced)).await;
    assert!(told.unwrap().is_committed());
    // COMMIT PREPARED was to be sent, and was not.
    let stuck = world.until_alarm("VOTUM-1403").await.unwrap();
    assert!(stuck.detail.contains("its system identifier is"), "{stuck:?}");
    until_unheard(world, &["its system identifier is"]).await;
    world.until_pending(&scene.gtid("decided").unwrap(), A).await.unwrap();
    let kept = format!("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '{gid}'");
    let kept: i64 = other.client(&bank.database).await.unwrap().query_one(&kept, &[]).await.unwrap().get(0);
    assert_eq!(kept, 1, "what bears the branch's name there is not the branch");
    (scene, other)
}

/// Where the bank's server was, with its database and its agent's role, and something prepared under `gid`.
async fn another_system(bank: &votum_tests::world::Bank, gid: &str) -> Server {
    let other = Server::another_in_place_of(bank.server.first()).await.unwrap();
    other.create_database(&bank.database).await.unwrap();
    let client = other.client_as(&bank.database, ROLE).await.unwrap();
    let work = format!("BEGIN; CREATE TABLE other_work (n int); PREPARE TRANSACTION '{gid}'");
    client.batch_execute(&work).await.unwrap();
    other
}

/// A primary that nobody fenced comes back after its standby has taken over: who has seen the newer one does not
/// go back to it, also while the newer one is away.
#[tokio::test]
async fn an_agent_does_not_go_back_to_a_former_primary() {
    let scene = open(&[Primary, Standby]).await;
    let (world, server) = (&scene.world, &scene.world.banks[0].server);
    complete(&scene, "before").await;
    server.until_replayed_by(server.standby().unwrap()).await.unwrap();
    server.fail_over().await.unwrap();
    complete(&scene, "after").await;

    server.first().restart().await.unwrap();
    server.stop_immediate().await.unwrap();
    until_unheard(world, &["on timeline 1", "former primary"]).await;
    let refused = scene.teller.transfer("refused", &world.legs(10)).await.unwrap_err();
    assert!(refused.to_string().contains("former primary"), "{refused}");

    server.restart().await.unwrap();
    world.until_no_alarm("VOTUM-1406").await.unwrap();
    complete(&scene, "again").await;
    assert_eq!(rows(&scene, "after").await, [1, 1]);
    let former = server.first().client(&world.banks[0].database).await.unwrap();
    let since: i64 = former
        .query_one("SELECT count(*) FROM journal WHERE transfer <> 'before'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(since, 0, "nothing was done at the former primary since");
    scene.close().await.unwrap();
}
