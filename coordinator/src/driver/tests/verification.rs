//! A server has changed its timeline: what became there of commits that were acknowledged before.

use std::sync::atomic::Ordering;

use votum_proto::v1;
use votum_proto::v1::gone::{Marker, XidStatus};

use super::super::request::{Outcome, Request};
use super::world::{World, decided_commit, gid, gtid, heard, name};
use crate::log::VerifiedOn;
use crate::protocol::record::{Heuristic, HeuristicKind, Record};

/// Ended commits of an earlier life, one of each seq, both of whose branches were prepared on timeline 1.
async fn ended(seqs: std::ops::RangeInclusive<u64>) -> World {
    let world = World::new();
    for seq in seqs {
        let records = [Record::Decided(decided_commit(6, seq)), Record::Ended { gtid: gtid(6, seq) }];
        world.log.durable.records.lock().unwrap().extend(records);
    }
    start(world).await
}

async fn start(mut world: World) -> World {
    world.count();
    world.connect(World::hello()).await;
    world.told().await;
    world
}

fn listing(timeline: u32) -> v1::Listing {
    v1::Listing { system_identifier: 11, timeline, ..World::listing("a", Vec::new()) }
}

fn said(timeline: u32, status: XidStatus, marker: Marker) -> v1::Gone {
    v1::Gone {
        system_identifier: 11,
        timeline,
        in_recovery: false,
        status: status.into(),
        marker: marker.into(),
    }
}

/// What the driver asked last, answered. The questions are numbered one after another.
async fn answer(world: &mut World, request: u64, branches: Vec<v1::Gone>) {
    let verified =
        v1::BranchesVerified { participant: "a".into(), request, failure: String::new(), branches };
    world.agent_says(v1::agent_message::Kind::BranchesVerified(verified)).await;
}

async fn outcome(world: &World, seq: u64) -> Outcome {
    heard(world.driver.ask(|answer| Request::Get(gtid(6, seq), answer))).await.unwrap()
}

fn noted(world: &World) -> Option<VerifiedOn> {
    world.log.durable.verified.lock().unwrap().get(&name("a")).copied()
}

fn on(timeline: u32, unproven: u64) -> Option<VerifiedOn> {
    Some(VerifiedOn { system_identifier: 11, timeline, unproven })
}

#[tokio::test]
async fn r2_a_commit_that_a_failover_lost_is_recorded_and_told() {
    let mut world = ended(3..=4).await;
    world.agent_lists(listing(2)).await;
    assert_eq!(world.told().await, "verify2@a");
    // The newest first.
    let lost = said(2, XidStatus::NotReached, Marker::Unspecified);
    let kept = said(2, XidStatus::Committed, Marker::Committed);
    answer(&mut world, 1, vec![lost, kept]).await;
    assert_eq!((noted(&world), world.alarms().await), (None, vec![]), "not before it is on disk");
    world.force().await;
    assert_eq!(world.alarms().await, ["VOTUM-1407"]);
    let Outcome::Committed { heuristics, .. } = outcome(&world, 4).await else { panic!("not a commit") };
    let [departure] = heuristics.as_slice() else { panic!("{heuristics:?}") };
    assert_eq!((departure.kind, departure.gid.clone()), (HeuristicKind::Rollback, gid(6, 4, 0)));
    assert!(departure.detail.contains("failover"), "{}", departure.detail);
    let Outcome::Committed { heuristics, .. } = outcome(&world, 3).await else { panic!("not a commit") };
    assert_eq!(heuristics, []);
    assert_eq!(noted(&world), on(2, 0));
    world.agent_lists(listing(2)).await;
    assert_eq!(world.told().await, "", "it is known");
}

#[tokio::test]
async fn r2_what_left_no_marker_cannot_be_proven_and_is_counted_in_one_alarm() {
    let mut world = ended(1..=3).await;
    world.agent_lists(listing(2)).await;
    let reused = said(2, XidStatus::Committed, Marker::Unspecified);
    answer(&mut world, 1, vec![reused; 3]).await;
    assert_eq!(world.alarms().await, ["VOTUM-1412"]);
    assert_eq!(noted(&world), on(2, 3));
    // A life that finds it noted tells it, and looks no more.
    let next = World::new();
    next.log.durable.verified.lock().unwrap().clone_from(&world.log.durable.verified.lock().unwrap());
    let records = world.log.durable.records.lock().unwrap().clone();
    next.log.durable.records.lock().unwrap().extend(records);
    let mut next = start(next).await;
    next.agent_lists(listing(2)).await;
    assert_eq!((next.told().await.as_str(), next.alarms().await), ("", vec!["VOTUM-1412".to_owned()]));
    // All of it has been forgotten since.
    next.log.durable.verified.lock().unwrap().insert(name("a"), on(2, 0).unwrap());
    next.agent_lists(listing(2)).await;
    assert_eq!(next.alarms().await, [""; 0]);
}

#[tokio::test]
async fn on_the_timeline_on_which_all_was_prepared_nothing_is_asked() {
    let mut world = ended(1..=3).await;
    world.agent_lists(listing(1)).await;
    assert_eq!((world.told().await.as_str(), noted(&world)), ("", on(1, 0)));
    // Another database of the same name on another system: its transaction ids say nothing of ours.
    world.agent_lists(v1::Listing { system_identifier: 12, ..listing(5) }).await;
    assert_eq!(world.told().await, "");
}

#[tokio::test]
async fn a_question_whose_answer_does_not_come_is_repeated_after_the_next_listing() {
    let mut world = ended(1..=1).await;
    world.agent_lists(listing(2)).await;
    assert_eq!(world.told().await, "verify1@a");
    let failed = v1::BranchesVerified {
        participant: "a".into(),
        request: 1,
        failure: "the server is starting up".into(),
        ..Default::default()
    };
    world.agent_says(v1::agent_message::Kind::BranchesVerified(failed)).await;
    assert_eq!(world.told().await, "");
    world.agent_lists(listing(2)).await;
    assert_eq!(world.told().await, "verify1@a");
    let kept = said(2, XidStatus::Committed, Marker::Committed);
    answer(&mut world, 1, vec![kept]).await;
    assert_eq!(noted(&world), None, "an answer to the question before");
    answer(&mut world, 2, vec![kept]).await;
    assert_eq!(noted(&world), on(2, 0));
}

#[tokio::test]
async fn r9_a_commit_that_was_undone_is_left_to_the_recovery_table() {
    let mut world = ended(1..=1).await;
    let row = World::row(&gid(6, 1, 0), 700);
    world.agent_lists(v1::Listing { prepared: vec![row], ..listing(2) }).await;
    assert_eq!(world.told().await, "commit@a?", "and nothing else");
    assert_eq!(noted(&world), on(2, 0));
}

#[tokio::test]
async fn a_long_history_is_looked_at_in_parts_and_whole() {
    let mut world = ended(1..=9).await;
    // More than one page, and more than one question.
    let more: Vec<Record> = (100..700)
        .flat_map(|seq| [Record::Decided(decided_commit(6, seq)), Record::Ended { gtid: gtid(6, seq) }])
        .collect();
    world.log.durable.records.lock().unwrap().extend(more);
    world.agent_lists(listing(2)).await;
    let kept = said(2, XidStatus::Committed, Marker::Committed);
    let mut asked = 0;
    for request in 1.. {
        let told = world.told().await;
        let Some(count) = told.strip_prefix("verify").and_then(|told| told.strip_suffix("@a")) else { break };
        let count: usize = count.parse().unwrap();
        asked += count;
        answer(&mut world, request, vec![kept; count]).await;
    }
    assert_eq!((asked, noted(&world)), (609, on(2, 0)));
}

/// Retention, and the markers' pruning behind it, may overtake a question: then a marker that is missing proves
/// nothing.
#[tokio::test]
async fn what_was_forgotten_since_it_was_asked_about_is_not_called_lost() {
    let mut world = ended(1..=1).await;
    world.agent_lists(listing(2)).await;
    assert_eq!(world.told().await, "verify1@a");
    world.log.durable.records.lock().unwrap().clear();
    answer(&mut world, 1, vec![said(2, XidStatus::NotReached, Marker::Absent)]).await;
    world.force().await;
    assert_eq!((world.alarms().await, noted(&world)), (vec![], on(2, 0)));
}

/// It was undone by a failover and committed again; the next failover may lose it for good.
#[tokio::test]
async fn r2_a_branch_that_was_mended_is_looked_for_after_the_next_failover() {
    let world = World::new();
    let mended = Heuristic {
        gid: gid(6, 1, 0),
        participant: name("a"),
        xid8: 700,
        kind: HeuristicKind::Mended,
        detail: "committed again".into(),
    };
    let records = [
        Record::Decided(decided_commit(6, 1)),
        Record::Ended { gtid: gtid(6, 1) },
        Record::Heuristic(mended),
    ];
    world.log.durable.records.lock().unwrap().extend(records);
    let mut world = start(world).await;
    world.agent_lists(listing(3)).await;
    assert_eq!(world.told().await, "verify1@a");
    answer(&mut world, 1, vec![said(3, XidStatus::NotReached, Marker::Unspecified)]).await;
    world.force().await;
    assert_eq!(world.alarms().await, ["VOTUM-1407"]);
}

#[tokio::test]
async fn what_cannot_be_read_again_is_neither_called_lost_nor_called_verified() {
    let mut world = ended(1..=1).await;
    world.agent_lists(listing(2)).await;
    world.log.durable.broken.store(true, Ordering::Relaxed);
    answer(&mut world, 1, vec![said(2, XidStatus::NotReached, Marker::Unspecified)]).await;
    world.force().await;
    assert_eq!((world.alarms().await, noted(&world)), (vec![], None));
}
