//! A server that is a standby when the agent comes to it, and is promoted under its connections.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::sync::Arc;

use support::World;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::branch_end::Kind as End;
use votum_tests::postgres::{Options, Server};

/// R11. A promotion closes no connection: one that was opened before has to learn of it.
#[tokio::test]
async fn a_commit_that_waits_at_a_standby_is_carried_out_once_that_is_promoted() {
    let server = Arc::new(Server::start(Options::default()).await.unwrap());
    let world = World::on(server, |_| {}).await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("UPDATE account SET balance = 7 WHERE id = 1").await;
    let xid8 = coordinator.prepared(&branch).await;
    world.server.stand_by().await.unwrap();
    coordinator.commit(1, xid8, true).await;
    coordinator
        .expect("trouble with a standby", |report| match report {
            Report::Trouble(trouble) if trouble.message.contains("in recovery") => Some(()),
            _ => None,
        })
        .await;
    world.server.promote().await.unwrap();
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    assert_eq!(world.number("SELECT balance FROM account WHERE id = 1").await, 7);
}
