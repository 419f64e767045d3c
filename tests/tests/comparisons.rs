//! A person has compared the databases after a failover, and says so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use serde_json::Value;
use votum_tests::postgres::Options;
use votum_tests::scene::{A, Scene};
use votum_tests::tool::{Said, votumctl};
use votum_tests::world::World;

async fn acknowledge(world: &World, timeline: &str, words: &[&str]) -> Said {
    let order =
        ["acknowledge", "--participant", A, "--timeline", timeline, "--reason", "4713: compared", "--json"];
    votumctl(world, &[&order[..], words].concat()).await.unwrap()
}

/// What `votumctl status` says of A's commits that nobody can prove.
async fn unproven(world: &World, code: i32) -> Value {
    let status = votumctl(world, &["status", "--json"]).await.unwrap().ended(code).json().unwrap();
    let participants = status["participants"].as_array().unwrap();
    participants.iter().find(|known| known["participant"] == A).unwrap()["unproven"].clone()
}

async fn until_quiet(world: &World) {
    let quiet = |status: &votum_proto::v1::GetStatusResponse| {
        status.alarms.is_empty() && status.participants.iter().all(|known| known.heard && known.connected)
    };
    world.until_status("everybody is heard, and no alarm lasts", quiet).await.unwrap();
}

#[tokio::test]
async fn commits_that_nobody_can_prove_are_acknowledged_by_a_person_until_the_next_failover() {
    let scene = Scene::open(World::builder().own_servers(Options::default())).await.unwrap();
    let Scene { world, teller, .. } = &scene;
    for number in 0..2 {
        let name = format!("before {number}");
        assert!(teller.transfer(&name, &world.legs(10)).await.unwrap().is_committed());
        world.until_completed(&scene.gtid(&name).unwrap()).await.unwrap();
    }
    assert_eq!(unproven(world, 0).await, Value::Null);
    // In good order: what had ended is on disk as such.
    world.coordinator.terminate().unwrap();
    world.coordinator.wait_exit().await.unwrap();
    world.banks[0].server.change_timeline().await.unwrap();
    world.start_coordinator(None).await.unwrap();
    assert_eq!(world.until_alarm("VOTUM-1412").await.unwrap().participant, A);
    let shown = unproven(world, 1).await;
    assert_eq!((&shown["timeline"], &shown["commits"]), (&2.into(), &2.into()), "{shown}");
    assert_eq!(shown["acknowledged"], Value::Null);

    let dry = acknowledge(world, "2", &[]).await.ended(0).json().unwrap();
    assert_eq!((&dry["commits"], &dry["applied"]), (&2.into(), &false.into()), "{dry}");
    assert_eq!(unproven(world, 1).await["acknowledged"], Value::Null, "a dry run");
    let other = acknowledge(world, "3", &["--yes"]).await.ended(4);
    assert!(other.out.contains("is on timeline 2, and not on 3"), "{other:?}");
    let done = acknowledge(world, "2", &["--yes"]).await.ended(0).json().unwrap();
    assert_eq!(done["applied"], true);

    for restarted in [false, true] {
        if restarted {
            world.crash_and_restart_coordinator().await.unwrap();
        }
        until_quiet(world).await;
        let said = &unproven(world, 0).await["acknowledged"];
        assert_eq!((&said["operator"], &said["reason"]), (&"ada".into(), &"4713: compared".into()), "{said}");
    }
    let text = votumctl(world, &["status"]).await.unwrap().ended(0).out;
    assert!(text.contains("acknowledged by ada") && text.contains("4713: compared"), "{text}");

    world.banks[0].server.change_timeline().await.unwrap();
    let again = world.until_alarm("VOTUM-1412").await.unwrap();
    assert!(again.detail.contains("timeline 3"), "{}", again.detail);
    assert_eq!(unproven(world, 1).await["acknowledged"], Value::Null);
    acknowledge(world, "3", &["--yes"]).await.ended(0);
    until_quiet(world).await;
    scene.close().await.unwrap();
}
