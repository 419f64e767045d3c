//! Decisions that were handed to their only branch, in a life after that.

use votum_proto::v1;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::gone::Marker;

use super::super::request::Outcome;
use super::world::{World, decided_commit, gid, gtid};
use crate::log::TransactionHistory;
use crate::protocol::record::{HeuristicKind, Record};

/// The decision about the branch at `a` was its own, and its answer is not on disk.
fn delegated(epoch: u64, seq: u64) -> TransactionHistory {
    let mut decided = decided_commit(epoch, seq);
    decided.branches.truncate(1);
    let mut history = TransactionHistory::default();
    history.add(2, 0, Record::Delegated(decided));
    history
}

async fn settled(world: &mut World, marker: Marker) {
    let gone = v1::Gone { system_identifier: 11, timeline: 1, marker: marker.into(), ..Default::default() };
    let end = World::end(&gid(6, 3, 0), "a", true, End::Gone(gone));
    world.agent_says(end).await;
    world.force().await;
}

#[tokio::test]
async fn r13_it_is_ordered_again_when_its_agent_is_heard_and_ends_as_the_marker_says() {
    for (marker, committed) in [(Marker::Committed, true), (Marker::Aborted, false)] {
        let mut world = World::with_owed(vec![delegated(6, 3)]);
        world.connect(World::hello()).await;
        assert!(world.told().await.contains("one-phase@a"));
        settled(&mut world, marker).await;
        let outcome = world.get(gtid(6, 3)).await.unwrap();
        assert_eq!(matches!(outcome, Outcome::Committed { .. }), committed, "{outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Aborted { .. }), !committed, "{outcome:?}");
    }
}

/// R8: the true log may have gone on, and the marker be deleted since.
#[tokio::test]
async fn r8_a_stale_log_settles_nothing_by_a_marker_that_is_not_there() {
    let mut world = World::with_owed(vec![delegated(6, 3)]);
    let witness = v1::Witness { epoch: 9, incarnation: 1, position: 9 };
    world.connect(v1::AgentHello { witness: Some(witness), ..World::hello() }).await;
    world.count();
    assert!(!world.told().await.contains("one-phase"), "a stale log");
}

#[tokio::test]
async fn r8_it_waits_until_every_agent_was_heard() {
    let mut world = World::with_a_silent_agent_and_owed(vec![delegated(6, 3)]);
    world.connect(World::hello()).await;
    assert!(!world.told().await.contains("one-phase"), "an agent has not been heard");
}

#[tokio::test]
async fn an_agent_of_an_older_version_is_not_asked_and_a_person_is_told() {
    let mut world = World::with_owed(vec![delegated(6, 3)]);
    world.connect(v1::AgentHello { can_commit_one_phase: false, ..World::hello() }).await;
    assert!(!world.told().await.contains("one-phase"));
    assert!(world.alarms().await.iter().any(|code| code == "VOTUM-1403"), "{:?}", world.alarms().await);
}

/// R10: what left no marker may have been forgotten by the log that was lost.
#[tokio::test]
async fn r10_what_was_written_off_and_left_no_marker_is_a_hazard() {
    let mut world = World::written_off_with(6, vec![delegated(6, 3)]);
    world.connect(World::hello()).await;
    assert!(world.told().await.contains("one-phase@a"));
    settled(&mut world, Marker::Aborted).await;
    let outcome = world.get(gtid(6, 3)).await.unwrap();
    let Outcome::Aborted { heuristics, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(heuristics.iter().map(|h| h.kind).collect::<Vec<_>>(), [HeuristicKind::Hazard]);
}

/// R2: the answer waits for no record of it, and neither does the look after a failover.
#[tokio::test]
async fn r2_a_commit_whose_record_is_on_its_way_is_looked_for_after_a_failover() {
    let mut world = World::with_owed(vec![delegated(6, 3)]);
    let Record::Delegated(decided) = delegated(6, 3).records[0].2.clone() else { panic!() };
    world.log.durable.records.lock().unwrap().push(Record::Delegated(decided));
    world.count();
    world.connect(World::hello()).await;
    let gone = v1::Gone {
        system_identifier: 11,
        timeline: 1,
        marker: Marker::Committed.into(),
        ..Default::default()
    };
    world.agent_says(World::end(&gid(6, 3, 0), "a", true, End::Gone(gone))).await;
    world.told().await;
    let listing = v1::Listing { system_identifier: 11, timeline: 2, ..World::listing("a", Vec::new()) };
    world.agent_lists(listing).await;
    assert_eq!(world.told().await, "verify1@a");
}
