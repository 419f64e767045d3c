//! What an agent keeps in its databases of those who spoke to it, and reads there after a restart.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::sync::Arc;

use support::{BANK, Coordinator, World, listings};
use votum_participant::postgres::witness::installation;
use votum_proto::v1;
use votum_proto::v1::refusal::Kind as Refused;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, ROLE, Server};

async fn install(world: &World) {
    let superuser = world.server.client(&world.database).await.unwrap();
    // It may be run again.
    for _ in 0..2 {
        superuser.batch_execute(&installation(ROLE)).await.unwrap();
    }
}

async fn installed() -> World {
    let world = World::new().await;
    install(&world).await;
    world
}

/// Says how far the log has reached, and waits until that is in the database.
async fn reaches(world: &World, coordinator: &mut Coordinator, position: u64) {
    coordinator.position = position;
    coordinator.list(false).await;
    let query = format!("SELECT witness_position FROM votum.witness WHERE coordinator_id = '{}'", world.id);
    let client = world.direct().await;
    eventually("the witness is in the database", async || {
        let row = client.query_opt(&query, &[]).await?;
        let stands: Option<i64> = row.and_then(|row| row.get(0));
        Ok(if stands == Some(position.cast_signed()) {
            Found::Yes(())
        } else {
            Found::NotYet(format!("{stands:?}"))
        })
    })
    .await
    .unwrap();
}

fn witness(epoch: u64, incarnation: u32, position: u64) -> Option<v1::Witness> {
    Some(v1::Witness { epoch, incarnation, position })
}

async fn refused(world: &World, epoch: u64, incarnation: u32) -> (Refused, Option<v1::Witness>) {
    let refusal = world.coordinator_in(epoch, incarnation).await.err().unwrap();
    (refusal.kind(), refusal.hello.unwrap().witness)
}

/// I12, R8: as if the agent had never been away.
#[tokio::test]
async fn an_agent_that_restarted_knows_who_spoke_last_and_how_far_the_log_had_reached() {
    let mut world = installed().await;
    let mut first = world.coordinator_in(5, 0xabc).await.unwrap();
    reaches(&world, &mut first, 90).await;
    world.restart_agent();
    assert_eq!(refused(&world, 4, 0x111).await, (Refused::OlderEpoch, witness(5, 0xabc, 90)));
    world.restart_agent();
    assert_eq!(refused(&world, 5, 0xdef).await, (Refused::TwoIncarnations, witness(5, 0xabc, 90)));
    world.restart_agent();
    let same = world.coordinator_in(5, 0xabc).await.unwrap();
    assert_eq!(same.hello.witness, witness(5, 0xabc, 90));
    world.restart_agent();
    // It has said nothing of its log yet: what it may lack is still to be seen, at every restart.
    for _ in 0..2 {
        let newer = world.coordinator_in(7, 0x777).await.unwrap();
        assert_eq!(newer.hello.witness, witness(5, 0xabc, 90));
        assert_eq!(listings(&newer.hello)[BANK].failure, "");
        world.restart_agent();
        assert_eq!(refused(&world, 6, 0x666).await.0, Refused::OlderEpoch);
        world.restart_agent();
    }
    let mut newer = world.coordinator_in(7, 0x777).await.unwrap();
    reaches(&world, &mut newer, 12).await;
    world.restart_agent();
    assert_eq!(world.coordinator_in(7, 0x777).await.unwrap().hello.witness, witness(7, 0x777, 12));
}

/// Coordinators of other names know nothing of each other.
#[tokio::test]
async fn each_coordinator_id_has_a_row_of_its_own() {
    let mut world = installed().await;
    let mut first = world.coordinator_in(5, 0xabc).await.unwrap();
    reaches(&world, &mut first, 90).await;
    let id = std::mem::replace(&mut world.id, "other".into());
    world.restart_agent();
    assert_eq!(world.coordinator_in(1, 0x111).await.unwrap().hello.witness, None);
    world.id = id;
    assert_eq!(world.coordinator_in(5, 0xabc).await.unwrap().hello.witness, witness(5, 0xabc, 90));
}

#[tokio::test]
async fn without_the_table_an_agent_that_restarted_has_forgotten() {
    let mut world = World::new().await;
    let mut first = world.coordinator_in(5, 0xabc).await.unwrap();
    first.position = 90;
    first.list(false).await;
    world.restart_agent();
    assert_eq!(world.coordinator_in(4, 0x111).await.unwrap().hello.witness, None);
}

/// A table in which the agent may not write is as none: its absence is for the doctor to tell.
#[tokio::test]
async fn a_table_that_the_role_may_not_write_is_left_alone() {
    let world = installed().await;
    let superuser = world.server.client(&world.database).await.unwrap();
    for denied in ["UPDATE ON votum.witness", "USAGE ON SCHEMA votum"] {
        superuser.batch_execute(&format!("REVOKE {denied} FROM {ROLE}")).await.unwrap();
        let first = world.coordinator_in(5, 0xabc).await.unwrap();
        assert_eq!(listings(&first.hello)[BANK].failure, "", "{denied}");
        superuser.batch_execute(&installation(ROLE)).await.unwrap();
        superuser.batch_execute(&format!("REVOKE UPDATE ON votum.witness FROM {ROLE}")).await.unwrap();
    }
    let rows = superuser.query_one("SELECT count(*) FROM votum.witness", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 0);
}

/// While what stands in the database cannot be read, nothing that the database lists is concluded from.
#[tokio::test]
async fn a_row_that_cannot_be_read_makes_the_listing_fail() {
    let world = installed().await;
    let superuser = world.server.client(&world.database).await.unwrap();
    let no_life = format!("INSERT INTO votum.witness VALUES ('{}', 3, 99999999)", world.id);
    superuser.batch_execute(&no_life).await.unwrap();
    let first = world.coordinator_in(5, 0xabc).await.unwrap();
    let failure = listings(&first.hello)[BANK].failure.clone();
    assert!(failure.contains("votum.witness"), "{failure}");
}

/// A standby that is away holds up no listing: the row is forced where it is written, whatever the role's own
/// durability, and waits for nobody.
#[tokio::test]
async fn the_row_is_on_disk_and_waits_for_no_standby() {
    for durability in ["on", "off"] {
        let server = Arc::new(Server::start(Options::default()).await.unwrap());
        let world = World::on(server, |_| {}).await;
        install(&world).await;
        let superuser = world.server.client("postgres").await.unwrap();
        let of_the_role = format!("ALTER ROLE {ROLE} SET synchronous_commit = {durability}");
        superuser.batch_execute(&of_the_role).await.unwrap();
        let away = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
        superuser.batch_execute(away).await.unwrap();
        superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        eventually("the server waits for its standby", async || {
            let row = world.direct().await.query_one("SHOW synchronous_standby_names", &[]).await?;
            let names: String = row.get(0);
            Ok(if names == "nobody" { Found::Yes(()) } else { Found::NotYet(names) })
        })
        .await
        .unwrap();
        let first = world.coordinator_in(5, 0xabc).await.unwrap();
        assert_eq!(listings(&first.hello)[BANK].failure, "", "{durability}");
        world.server.stop_immediate().await.unwrap();
        world.server.restart().await.unwrap();
        assert_eq!(world.number("SELECT fence_epoch FROM votum.witness").await, 5, "{durability}");
    }
}
