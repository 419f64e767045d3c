//! Attached branches, prepared past the agent on real PostgreSQL: verified, committed and rolled back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::collections::BTreeSet;

use support::{BANK, Coordinator, World};
use tokio_postgres::Client;
use votum_proto::names::Gid;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::gone::XidStatus;
use votum_proto::v1::vote::Kind as Vote;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{self, ROLE};

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
const BALANCE: &str = "SELECT balance FROM account WHERE id = 1";

fn gid(coordinator: &Coordinator, seq: u64) -> Gid {
    Gid { gtid: coordinator.gtid(seq), branch: 0, branches: 0 }
}

/// Takes ten from an account and prepares that, on a connection of the application's.
async fn prepare(client: &Client, gid: &Gid, account: u64) {
    let update = format!("UPDATE account SET balance = balance - 10 WHERE id = {account}");
    client.batch_execute(&format!("BEGIN; {update}; PREPARE TRANSACTION '{gid}'")).await.unwrap();
}

fn question(coordinator: &Coordinator, seq: u64) -> Order {
    let gid = gid(coordinator, seq);
    let (gtid, participant) = (gid.gtid.to_string(), BANK.into());
    Order::VerifyAttached(v1::VerifyAttached { gtid, participant, gid: gid.to_string() })
}

async fn verify(coordinator: &mut Coordinator, seq: u64) -> Vote {
    let question = question(coordinator, seq);
    coordinator.send(question).await;
    coordinator.vote(seq).await
}

async fn verified(coordinator: &mut Coordinator, seq: u64) -> v1::VoteYes {
    match verify(coordinator, seq).await {
        Vote::Yes(yes) => yes,
        other => panic!("not a yes: {other:?}"),
    }
}

async fn refused(coordinator: &mut Coordinator, seq: u64) -> String {
    match verify(coordinator, seq).await {
        Vote::No(no) => no.reason.unwrap().message,
        other => panic!("not a no: {other:?}"),
    }
}

async fn commit(coordinator: &mut Coordinator, seq: u64, xid8: u64) -> End {
    let gid = gid(coordinator, seq);
    let (gtid, participant) = (gid.gtid.to_string(), BANK.into());
    let order = v1::CommitBranch { gtid, participant, gid: gid.to_string(), xid8, ..Default::default() };
    coordinator.send(Order::Commit(order)).await;
    coordinator.branch_end(seq).await
}

async fn roll_back(coordinator: &mut Coordinator, seq: u64, xid8: u64, listed_xid: u32) -> End {
    let gid = gid(coordinator, seq);
    let (gtid, participant, gid) = (gid.gtid.to_string(), BANK.into(), gid.to_string());
    coordinator.send(Order::Rollback(v1::RollbackBranch { gtid, participant, gid, xid8, listed_xid })).await;
    coordinator.branch_end(seq).await
}

/// A role of this name and its own in this world, which may work in the bank.
async fn role(world: &World, name: &str) -> String {
    let role = format!("{name} of {}", world.database);
    let superuser = world.server.client(&world.database).await.unwrap();
    superuser
        .batch_execute(&format!("CREATE ROLE \"{role}\" LOGIN; GRANT ALL ON account TO \"{role}\""))
        .await
        .unwrap();
    role
}

async fn connect_as(world: &World, role: &str) -> Client {
    let client = world.server.client(&world.database).await.unwrap();
    client.batch_execute(&format!("SET SESSION AUTHORIZATION \"{role}\"")).await.unwrap();
    client
}

/// An agent that declares `app of …`, which its role may become where it `may`.
async fn declared(may: bool) -> (World, String) {
    let mut world = World::new().await;
    let app = role(&world, "app").await;
    let superuser = world.server.client(&world.database).await.unwrap();
    if may {
        superuser.batch_execute(&format!("GRANT \"{app}\" TO {ROLE}")).await.unwrap();
    }
    world.restart_agent_with(|config| config.participants[0].attached_roles = vec![app.clone()]);
    (world, app)
}

#[tokio::test]
async fn what_the_application_prepared_is_verified_and_committed() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    assert!(coordinator.hello.can_verify_attached);
    let app = world.direct().await;
    app.batch_execute("BEGIN; UPDATE account SET balance = balance - 10 WHERE id = 1").await.unwrap();
    let xid8: String = app.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    app.batch_execute(&format!("PREPARE TRANSACTION '{}'", gid(&coordinator, 1))).await.unwrap();
    let yes = verified(&mut coordinator, 1).await;
    assert_eq!(yes.xid8.to_string(), xid8);
    assert!(yes.timeline == 1 && yes.system_identifier > 0 && !yes.marker);
    assert!(matches!(commit(&mut coordinator, 1, yes.xid8).await, End::Done(_)));
    assert_eq!((world.number(BALANCE).await, world.number(PREPARED).await), (90, 0));
}

#[tokio::test]
async fn what_is_not_prepared_is_a_no_for_ever_and_what_comes_later_is_rolled_back() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    assert!(refused(&mut coordinator, 1).await.contains("has not prepared"));
    prepare(&world.direct().await, &gid(&coordinator, 1), 1).await;
    assert!(refused(&mut coordinator, 1).await.contains("has not prepared"), "a vote never changes");
    let name = gid(&coordinator, 1).to_string();
    let listing = coordinator.swept(|listing| listing.prepared.iter().any(|row| row.gid == name)).await;
    let xid = listing.prepared.iter().find(|row| row.gid == name).unwrap().xid;
    assert!(matches!(roll_back(&mut coordinator, 1, 0, xid).await, End::Done(_)));
    assert_eq!((world.number(BALANCE).await, world.number(PREPARED).await), (100, 0));
}

#[tokio::test]
async fn a_rollback_before_any_vote_takes_what_is_prepared_and_finds_nothing_where_nothing_is() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    prepare(&world.direct().await, &gid(&coordinator, 1), 1).await;
    assert!(matches!(roll_back(&mut coordinator, 1, 0, 0).await, End::Done(_)));
    let end = roll_back(&mut coordinator, 2, 0, 0).await;
    assert!(matches!(&end, End::Gone(gone) if gone.status() == XidStatus::NotAsked), "{end:?}");
    assert_eq!((world.number(BALANCE).await, world.number(PREPARED).await), (100, 0));
}

#[tokio::test]
async fn many_questions_of_one_frame_are_answered_each_for_itself() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    const MANY: u64 = 20;
    let app = world.direct().await;
    for seq in 1..MANY {
        let insert = format!("BEGIN; INSERT INTO account VALUES ({}, 0)", seq + 100);
        app.batch_execute(&format!("{insert}; PREPARE TRANSACTION '{}'", gid(&coordinator, seq)))
            .await
            .unwrap();
    }
    coordinator.send_all((1..=MANY).map(|seq| question(&coordinator, seq)).collect()).await;
    let mut yes = BTreeSet::new();
    for _ in 1..=MANY {
        let (gtid, vote) = coordinator
            .expect("vote", |report| match report {
                Report::Vote(vote) => vote.kind.clone().map(|kind| (vote.gtid.clone(), kind)),
                _ => None,
            })
            .await;
        if let Vote::Yes(vote) = vote {
            yes.insert((gtid, vote.xid8));
        }
    }
    assert_eq!(yes.len() as u64, MANY - 1);
    assert!(!yes.iter().any(|(gtid, _)| *gtid == coordinator.gtid(MANY).to_string()));
    for seq in 1..MANY {
        assert!(matches!(roll_back(&mut coordinator, seq, 0, 0).await, End::Done(_)));
    }
}

#[tokio::test]
async fn what_a_declared_role_prepared_is_ended_as_that_role() {
    let (world, app) = declared(true).await;
    let mut coordinator = world.coordinator().await;
    let client = connect_as(&world, &app).await;
    for seq in [1, 2] {
        prepare(&client, &gid(&coordinator, seq), seq).await;
    }
    let first = verified(&mut coordinator, 1).await;
    let second = verified(&mut coordinator, 2).await;
    assert!(matches!(commit(&mut coordinator, 1, first.xid8).await, End::Done(_)));
    assert!(matches!(roll_back(&mut coordinator, 2, second.xid8, 0).await, End::Done(_)));
    let both = "SELECT sum(balance)::int8 FROM account";
    assert_eq!((world.number(both).await, world.number(PREPARED).await), (190, 0));
}

#[tokio::test]
async fn what_a_declared_role_prepared_is_a_no_where_the_agent_cannot_become_it() {
    let (world, app) = declared(false).await;
    let mut coordinator = world.coordinator().await;
    let client = connect_as(&world, &app).await;
    let gid = gid(&coordinator, 1);
    prepare(&client, &gid, 1).await;
    assert!(refused(&mut coordinator, 1).await.contains("GRANT"));
    client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
}

/// I8: whose role is not declared may have forged the name.
#[tokio::test]
async fn i8_what_an_undeclared_role_prepared_is_a_no_and_is_not_touched() {
    let world = World::new().await;
    let stranger = role(&world, "stranger").await;
    let mut coordinator = world.coordinator().await;
    let client = connect_as(&world, &stranger).await;
    let gid = gid(&coordinator, 1);
    prepare(&client, &gid, 1).await;
    assert!(refused(&mut coordinator, 1).await.contains("attached_roles"));
    let end = roll_back(&mut coordinator, 1, 0, 0).await;
    assert!(matches!(end, End::Gone(_)), "{end:?}");
    assert_eq!(world.number(PREPARED).await, 1);
    client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
}

#[tokio::test]
async fn what_is_prepared_in_another_database_of_the_server_is_a_no() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let other = postgres::fresh_database(&world.server).await.unwrap();
    let client = world.server.client_as(&other, ROLE).await.unwrap();
    let gid = gid(&coordinator, 1);
    client
        .batch_execute(&format!("BEGIN; CREATE TABLE elsewhere (); PREPARE TRANSACTION '{gid}'"))
        .await
        .unwrap();
    assert!(refused(&mut coordinator, 1).await.contains(&other));
    client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
}

/// I1: between the vote and the order the name was given to other work.
#[tokio::test]
async fn other_work_under_the_name_is_not_committed() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let (client, gid) = (world.direct().await, gid(&coordinator, 1));
    prepare(&client, &gid, 1).await;
    let yes = verified(&mut coordinator, 1).await;
    client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
    prepare(&client, &gid, 2).await;
    let end = commit(&mut coordinator, 1, yes.xid8).await;
    assert!(matches!(end, End::OtherXid(_)), "{end:?}");
    client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
    let end = commit(&mut coordinator, 1, yes.xid8).await;
    assert!(matches!(&end, End::Gone(gone) if gone.status() == XidStatus::Aborted), "{end:?}");
}

#[tokio::test]
async fn an_agent_that_restarted_answers_anew_and_commits_what_it_finds() {
    let mut world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let client = world.direct().await;
    prepare(&client, &gid(&coordinator, 1), 1).await;
    let first = verified(&mut coordinator, 1).await;
    world.restart_agent();
    let mut coordinator = world.coordinator().await;
    assert_eq!(verified(&mut coordinator, 1).await, first);
    world.restart_agent();
    let mut coordinator = world.coordinator().await;
    assert!(matches!(commit(&mut coordinator, 1, first.xid8).await, End::Done(_)));
    assert_eq!(world.number(BALANCE).await, 90);
}

#[tokio::test]
async fn where_statements_ran_through_the_agent_there_is_no_attached_branch() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok(BALANCE).await;
    assert!(refused(&mut coordinator, 1).await.contains("through the agent"));
    // And none is opened where one was verified.
    prepare(&world.direct().await, &gid(&coordinator, 2), 1).await;
    let yes = verified(&mut coordinator, 2).await;
    let mut branch = world.branch(&coordinator, 2);
    branch.fails(BALANCE).await;
    assert!(matches!(roll_back(&mut coordinator, 2, yes.xid8, 0).await, End::Done(_)));
}

async fn by_superuser(world: &World, statement: &str) {
    world.server.client(&world.database).await.unwrap().batch_execute(statement).await.unwrap();
}

/// The application's driver hides the warning with which the wait for a standby was cut short. The vote waits for one
/// all the same: a failover would lose what is prepared.
#[tokio::test]
async fn what_no_standby_has_yet_is_no_yes() {
    let server = postgres::Server::start(postgres::Options::default()).await.unwrap();
    let world = World::on(server.into(), |_| {}).await;
    let mut coordinator = world.coordinator().await;
    let (client, gid) = (world.direct().await, gid(&coordinator, 1));
    by_superuser(&world, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    by_superuser(&world, "SELECT pg_reload_conf()").await;
    eventually("the server waits for standbys", async || {
        let row = world.direct().await.query_one("SHOW synchronous_standby_names", &[]).await?;
        let shown: String = row.get(0);
        Ok(if shown == "nobody" { Found::Yes(()) } else { Found::NotYet(shown) })
    })
    .await
    .unwrap();
    let cancel = async {
        eventually("PREPARE waits for a standby", async || {
            let ask = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            let superuser = world.server.client(&world.database).await?;
            let row = superuser.query_opt(ask, &[]).await?;
            Ok(if row.is_some() { Found::Yes(()) } else { Found::NotYet("nobody waits".into()) })
        })
        .await
        .unwrap();
    };
    futures::future::join(prepare(&client, &gid, 1), cancel).await;
    assert!(refused(&mut coordinator, 1).await.contains("in time"));
    by_superuser(&world, "ALTER SYSTEM RESET synchronous_standby_names").await;
    by_superuser(&world, "SELECT pg_reload_conf()").await;
    prepare(&client, &self::gid(&coordinator, 2), 2).await;
    verified(&mut coordinator, 2).await;
    for seq in [1, 2] {
        assert!(matches!(roll_back(&mut coordinator, seq, 0, 0).await, End::Done(_)));
    }
}
