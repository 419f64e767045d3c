//! A coordinator's new life, while a participant is slow to let go of the old one, or does not answer at all.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::net::TcpListener;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use support::waiting::preparing;
use support::{BANK, World, listings};
use votum_participant::ParticipantConfig;
use votum_tests::postgres::{Options, ROLE, Server};

const DEAD: &str = "dead";

/// A server process that stands still until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: i32) -> Self {
        let pid = Pid::from_raw(pid).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// I14: settlement at the one does not wait for the other.
#[tokio::test]
async fn a_database_that_does_not_answer_does_not_keep_the_hello_from_listing_the_others() {
    // Takes connections in, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let world = World::with(|config| {
        let connection = format!("host=127.0.0.1 port={port} user={ROLE} dbname=bank");
        config.participants.push(ParticipantConfig::new(DEAD.parse().unwrap(), connection));
    })
    .await;
    let mut coordinator = world.coordinator().await;
    let hello = listings(&coordinator.hello);
    assert_eq!(hello[BANK].failure, "");
    assert!(hello[BANK].system_identifier > 0);
    assert!(hello[DEAD].failure.contains("did not answer in time"), "{:?}", hello[DEAD]);
    // It is asked again at once, and not after the sweep's pause.
    drop(silent);
    coordinator.swept(|listing| listing.participant == DEAD && !listing.failure.is_empty()).await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("UPDATE account SET balance = 0 WHERE id = 1").await;
    let xid8 = coordinator.prepared(&branch).await;
    coordinator.commit(1, xid8, false).await;
    coordinator.branch_end(1).await;
}

/// I12: what the old life's PREPARE may still do is shown, or nothing is.
#[tokio::test]
async fn while_a_prepare_of_the_older_life_is_in_flight_every_listing_is_a_failure() {
    let server = Arc::new(Server::start(Options::default()).await.unwrap());
    let world = World::on(server, |config| config.sweep_ms = 600_000).await;
    let mut older = world.coordinator().await;
    let mut branch = world.branch(&older, 1);
    branch.ok("UPDATE account SET balance = 0 WHERE id = 1").await;
    world.server.require_standby(true).await.unwrap();
    older.prepare(&branch).await;
    let stopped = Stopped::new(preparing(&world, "IPC").await);

    let mut newer = world.coordinator_in(2, 5).await.unwrap();
    let hello = &listings(&newer.hello)[BANK];
    assert!(hello.failure.contains("former life") && hello.prepared.is_empty(), "{hello:?}");
    let asked = newer.list(false).await;
    assert!(asked.failure.contains("former life") && asked.prepared.is_empty(), "{asked:?}");
    drop(stopped);
    // Not after the sweep's pause: as soon as the old session has ended.
    let swept = newer.swept(|listing| listing.failure.is_empty()).await;
    assert_eq!(swept.prepared[0].gid, older.gid(1).to_string());
    assert!(swept.busy.is_empty() && swept.sessions.is_empty(), "{swept:?}");
}
