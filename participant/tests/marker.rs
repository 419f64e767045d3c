//! The commit marker that a branch leaves in its database, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::{BANK, ClientBranch, Coordinator, World};
use votum_participant::postgres::marker::installation;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::gone::{Marker, XidStatus};
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::ROLE;

const WRITES: &str = "UPDATE account SET balance = balance + 1 WHERE id = 1";

async fn superuser(world: &World) -> tokio_postgres::Client {
    world.server.client(&world.database).await.unwrap()
}

async fn install(world: &World) {
    let superuser = superuser(world).await;
    // It may be run again.
    for _ in 0..2 {
        superuser.batch_execute(&installation(ROLE)).await.unwrap();
    }
}

async fn installed() -> (World, Coordinator) {
    let world = World::new().await;
    install(&world).await;
    let coordinator = world.coordinator().await;
    (world, coordinator)
}

/// A branch that has run `statements`, prepared: its vote.
async fn voted(world: &World, coordinator: &mut Coordinator, seq: u64, statements: &[&str]) -> v1::VoteYes {
    let branch = worked(world, coordinator, seq, statements).await;
    coordinator.prepare(&branch).await;
    coordinator.vote_yes(seq).await
}

async fn worked(world: &World, coordinator: &Coordinator, seq: u64, statements: &[&str]) -> ClientBranch {
    let mut branch = world.branch(coordinator, seq);
    for statement in statements {
        branch.ok(statement).await;
    }
    branch
}

async fn rows(world: &World) -> i64 {
    superuser(world)
        .await
        .query_one("SELECT count(*) FROM votum.marker WHERE committed", &[])
        .await
        .unwrap()
        .get(0)
}

async fn gone(coordinator: &mut Coordinator, seq: u64, xid8: u64) -> (XidStatus, Marker) {
    coordinator.commit(seq, xid8, true).await;
    match coordinator.branch_end(seq).await {
        End::Gone(gone) => (gone.status(), gone.marker()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_branch_that_writes_leaves_a_row_that_is_seen_once_it_has_committed() {
    let (world, mut coordinator) = installed().await;
    let vote = voted(&world, &mut coordinator, 1, &[WRITES]).await;
    assert!(vote.marker);
    assert_eq!(rows(&world).await, 0, "it is prepared, no more");
    coordinator.commit(1, vote.xid8, false).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    let row = superuser(&world).await;
    let row = row
        .query_one("SELECT coordinator_id, epoch, incarnation, seq, branch FROM votum.marker", &[])
        .await
        .unwrap();
    let parts: (String, i64, i32, i64, i32) = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    assert_eq!(parts, (world.id.clone(), 1, 0xabc, 1, 0));

    let rolled_back = voted(&world, &mut coordinator, 2, &[WRITES]).await;
    coordinator.rollback(2, true, rolled_back.xid8, 0).await;
    assert!(matches!(coordinator.branch_end(2).await, End::Done(_)));
    assert_eq!(rows(&world).await, 1);
}

#[tokio::test]
async fn a_branch_that_wrote_nothing_stays_so() {
    let (world, mut coordinator) = installed().await;
    let branch = worked(&world, &coordinator, 1, &["SELECT balance FROM account"]).await;
    coordinator.prepare(&branch).await;
    assert!(matches!(coordinator.vote(1).await, v1::vote::Kind::ReadOnly(_)));
    assert_eq!(rows(&world).await, 0);
}

#[tokio::test]
async fn without_the_table_a_branch_carries_no_marker_and_nobody_asks_for_one() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let vote = voted(&world, &mut coordinator, 1, &[WRITES]).await;
    assert!(!vote.marker);
    let gid = coordinator.gid(1);
    world.direct().await.batch_execute(&format!("COMMIT PREPARED '{gid}'")).await.unwrap();
    assert_eq!(gone(&mut coordinator, 1, vote.xid8).await, (XidStatus::Committed, Marker::Unspecified));
}

/// R3, R15: what the coordinator judges by.
#[tokio::test]
async fn a_branch_that_is_gone_is_reported_with_what_its_marker_says() {
    let (world, mut coordinator) = installed().await;
    for (seq, by_hand, expected) in [
        (1, "COMMIT", (XidStatus::Committed, Marker::Committed)),
        (2, "ROLLBACK", (XidStatus::Aborted, Marker::Absent)),
    ] {
        let vote = voted(&world, &mut coordinator, seq, &[WRITES]).await;
        let gid = coordinator.gid(seq);
        world.direct().await.batch_execute(&format!("{by_hand} PREPARED '{gid}'")).await.unwrap();
        assert_eq!(gone(&mut coordinator, seq, vote.xid8).await, expected);
    }
}

/// The row is the agent's, whatever the client made of its session.
#[tokio::test]
async fn a_marker_is_written_as_the_agents_role_past_the_clients_search_path() {
    let (world, mut coordinator) = installed().await;
    let other = format!("{}_teller", world.database);
    let superuser = superuser(&world).await;
    superuser
        .batch_execute(&format!(
            "CREATE ROLE {other}; GRANT {other} TO {ROLE}; GRANT UPDATE, SELECT ON account TO {other}"
        ))
        .await
        .unwrap();
    let decoy = "CREATE TABLE marker (LIKE votum.marker)";
    let as_other = format!("SET LOCAL ROLE {other}");
    let statements = ["SET LOCAL search_path = public", decoy, as_other.as_str(), WRITES];
    assert!(voted(&world, &mut coordinator, 1, &statements).await.marker);
    let held = "SELECT count(*) FROM pg_locks WHERE relation = 'votum.marker'::regclass AND mode = 'RowExclusiveLock' AND pid IS NULL";
    assert_eq!(superuser.query_one(held, &[]).await.unwrap().get::<_, i64>(0), 1);
    let xid8 = 0;
    coordinator.rollback(1, true, xid8, 0).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    superuser.batch_execute(&format!("DROP OWNED BY {other}; DROP ROLE {other}")).await.unwrap();
}

/// Somebody has written that it can never commit: that is the vote, and not an error of the client's work.
#[tokio::test]
async fn a_branch_whose_place_is_taken_votes_no() {
    let (world, mut coordinator) = installed().await;
    let superuser = superuser(&world).await;
    let taken = format!("INSERT INTO votum.marker VALUES ('{}', 1, 2748, 1, 0, false)", world.id);
    superuser.batch_execute(&taken).await.unwrap();
    let branch = worked(&world, &coordinator, 1, &[WRITES]).await;
    coordinator.prepare(&branch).await;
    let reason = coordinator.vote_no(1).await;
    assert_eq!(reason.sqlstate, "23505");
    assert!(reason.message.contains("commit marker"), "{}", reason.message);
    assert_eq!(world.number("SELECT balance FROM account WHERE id = 1").await, 100);
}

/// Sessions are kept for long, and an administrator does not ask them first.
#[tokio::test]
async fn the_table_may_come_and_go_under_open_sessions() {
    let world = World::with(|config| config.sessions = 1).await;
    let mut coordinator = world.coordinator().await;
    let superuser = superuser(&world).await;
    assert!(!voted(&world, &mut coordinator, 1, &[WRITES]).await.marker);
    coordinator.rollback(1, true, 0, 0).await;
    coordinator.branch_end(1).await;
    install(&world).await;
    // A session looks for it once a second.
    let mut seq = 2;
    let clock = std::sync::Arc::clone(&world.seams.clock);
    let begun = clock.now();
    loop {
        let vote = voted(&world, &mut coordinator, seq, &[WRITES]).await;
        coordinator.rollback(seq, true, 0, 0).await;
        coordinator.branch_end(seq).await;
        seq += 1;
        if vote.marker {
            break;
        }
        assert!(clock.now().since(begun) < votum_tests::eventually::DEADLINE, "it was never found");
    }
    superuser.batch_execute("DROP TABLE votum.marker").await.unwrap();
    let branch = worked(&world, &coordinator, seq, &[WRITES]).await;
    coordinator.prepare(&branch).await;
    let reason = coordinator.vote_no(seq).await;
    assert!(reason.retryable && reason.message.contains("commit marker"), "{reason:?}");
    assert!(!voted(&world, &mut coordinator, seq + 1, &[WRITES]).await.marker, "it does without");
}

/// On the coordinator's word, and no farther.
#[tokio::test]
async fn markers_that_a_coordinator_has_outlived_are_deleted() {
    let (world, mut coordinator) = installed().await;
    let superuser = superuser(&world).await;
    let id = world.id.clone();
    // More than are deleted at once; of another coordinator; of epochs before, in and after the bounds.
    let rows = format!(
        "INSERT INTO votum.marker SELECT '{id}', 3, 7, n, 0, true FROM generate_series(1, 4500) AS n; \
         INSERT INTO votum.marker VALUES ('{id}', 1, 7, 1, 0, true), ('{id}', 2, 7, 9000, 1, true), \
         ('{id}', 4, 7, 1, 0, true), ('other', 3, 7, 1, 0, true)"
    );
    superuser.batch_execute(&rows).await.unwrap();
    coordinator
        .send(Order::PruneMarkers(v1::PruneMarkers {
            participant: BANK.into(),
            above_epoch: 1,
            below_epoch: 3,
            below_seq: 4400,
        }))
        .await;
    let left =
        "SELECT coordinator_id, epoch, min(seq), count(*) FROM votum.marker GROUP BY 1, 2 ORDER BY 1, 2";
    eventually("what is left is what may be asked about", async || {
        let rows = superuser.query(left, &[]).await?;
        let found: Vec<(String, i64, i64, i64)> =
            rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
        let mut expected = vec![
            ("other".into(), 3, 1, 1),
            (id.clone(), 1, 1, 1),
            (id.clone(), 3, 4400, 101),
            (id.clone(), 4, 1, 1),
        ];
        expected.sort();
        Ok(if found == expected { Found::Yes(()) } else { Found::NotYet(format!("{found:?}")) })
    })
    .await
    .unwrap();
}

/// What a coordinator asks after a failover: of ids that were given out, and of one that was not.
#[tokio::test]
async fn many_branches_are_looked_at_in_one_question() {
    let (world, mut coordinator) = installed().await;
    let mut asked = Vec::new();
    for (seq, by_hand) in [(1, "COMMIT"), (2, "ROLLBACK"), (3, "COMMIT")] {
        let vote = voted(&world, &mut coordinator, seq, &[WRITES]).await;
        let gid = coordinator.gid(seq).to_string();
        world.direct().await.batch_execute(&format!("{by_hand} PREPARED '{gid}'")).await.unwrap();
        asked.push(v1::CommittedBranch { gid, xid8: vote.xid8, ..Default::default() });
    }
    superuser(&world).await.batch_execute("DELETE FROM votum.marker WHERE seq = 3").await.unwrap();
    let never = asked[2].xid8 + 1_000_000;
    asked.push(v1::CommittedBranch {
        gid: coordinator.gid(4).to_string(),
        xid8: never,
        ..Default::default()
    });
    let participant = BANK.to_owned();
    coordinator
        .send(Order::VerifyBranches(v1::VerifyBranches { participant, request: 9, branches: asked }))
        .await;
    let verified = coordinator
        .expect("what was verified", |report| match report {
            Report::BranchesVerified(verified) => Some(verified.clone()),
            _ => None,
        })
        .await;
    assert_eq!((verified.request, verified.failure.as_str()), (9, ""));
    let said: Vec<_> = verified.branches.iter().map(|gone| (gone.status(), gone.marker())).collect();
    assert_eq!(
        said,
        [
            (XidStatus::Committed, Marker::Committed),
            (XidStatus::Aborted, Marker::Absent),
            (XidStatus::Committed, Marker::Absent),
            (XidStatus::NotReached, Marker::Absent),
        ]
    );
    assert!(verified.branches.iter().all(|gone| gone.timeline == 1 && gone.system_identifier != 0));
}
