//! A person has compared the databases after a change of timeline.

use votum_proto::v1;
use votum_proto::v1::gone::{Marker, XidStatus};

use super::super::request::{AcknowledgeUnproven, Request, RequestError};
use super::world::{World, decided_commit, gtid, heard, name};
use crate::log::VerifiedOn;
use crate::protocol::record::Record;

type Answered = Result<v1::AcknowledgeUnprovenResponse, RequestError>;

async fn start(mut world: World) -> World {
    world.count();
    world.connect(World::hello()).await;
    world.told().await;
    world
}

async fn lists(world: &mut World, timeline: u32) {
    let listing = v1::Listing { system_identifier: 11, timeline, ..World::listing("a", Vec::new()) };
    world.agent_lists(listing).await;
}

/// The server says of `commits` of earlier timelines what proves nothing.
async fn says_nothing(world: &mut World, request: u64, timeline: u32, commits: usize) {
    let gone = v1::Gone {
        system_identifier: 11,
        timeline,
        in_recovery: false,
        status: XidStatus::Committed.into(),
        marker: Marker::Unspecified.into(),
    };
    let branches = vec![gone; commits];
    let verified =
        v1::BranchesVerified { participant: "a".into(), request, failure: String::new(), branches };
    world.agent_says(v1::agent_message::Kind::BranchesVerified(verified)).await;
}

/// Three ended commits, of which nobody can prove on timeline 2 that they are there.
async fn failed_over() -> World {
    let world = World::new();
    for seq in 1..=3 {
        let records = [Record::Decided(decided_commit(6, seq)), Record::Ended { gtid: gtid(6, seq) }];
        world.log.durable.records.lock().unwrap().extend(records);
    }
    let mut world = start(world).await;
    lists(&mut world, 2).await;
    says_nothing(&mut world, 1, 2, 3).await;
    assert_eq!(world.alarms().await, ["VOTUM-1412"]);
    world
}

fn order(timeline: u32, apply: bool) -> AcknowledgeUnproven {
    AcknowledgeUnproven {
        participant: name("a"),
        timeline,
        operator: "ada".into(),
        reason: "4713: compared".into(),
        apply,
    }
}

async fn ask(world: &World, order: AcknowledgeUnproven) -> Answered {
    heard(world.driver.ask(|answer| Request::AcknowledgeUnproven(order, answer))).await
}

async fn acknowledged(world: &mut World, timeline: u32) -> v1::AcknowledgeUnprovenResponse {
    let (answer, mut answered) = tokio::sync::oneshot::channel();
    world.driver.send(Request::AcknowledgeUnproven(order(timeline, true), answer)).await;
    world.settle().await;
    assert!(answered.try_recv().is_err(), "not before it is on disk");
    assert_eq!(world.alarms().await, ["VOTUM-1412"], "not before it is on disk");
    world.force().await;
    heard(answered).await.unwrap().unwrap()
}

async fn unproven(world: &World) -> Option<v1::UnprovenCommits> {
    let status = heard(world.driver.ask(Request::Status)).await.unwrap();
    status.participants.into_iter().find(|at| at.participant == "a").unwrap().unproven
}

fn refused(answered: &Answered, part: &str) {
    assert!(matches!(answered, Err(RequestError::Invalid(why)) if why.contains(part)), "{answered:?}");
}

/// The next life, which has the records, and the notes of the store if they were not lost.
async fn restarted(world: &World, with_notes: bool) -> World {
    let next = World::new();
    next.log.durable.records.lock().unwrap().clone_from(&world.log.durable.records.lock().unwrap());
    if with_notes {
        next.log.durable.verified.lock().unwrap().clone_from(&world.log.durable.verified.lock().unwrap());
    }
    start(next).await
}

#[tokio::test]
async fn the_alarm_ends_with_a_persons_word_on_disk_and_status_goes_on_showing_whose() {
    let mut world = failed_over().await;
    let dry = ask(&world, order(2, false)).await.unwrap();
    assert_eq!((dry.timeline, dry.commits, dry.applied), (2, 3, false));
    assert!(world.log.queued.lock().unwrap().is_empty(), "a dry run");
    let done = acknowledged(&mut world, 2).await;
    assert_eq!((done.timeline, done.commits, done.applied), (2, 3, true));
    assert_eq!(world.alarms().await, [""; 0]);
    let shown = unproven(&world).await.unwrap();
    let said = shown.acknowledged.unwrap();
    assert_eq!((shown.timeline, shown.commits), (2, 3));
    assert_eq!((said.operator.as_str(), said.reason.as_str()), ("ada", "4713: compared"));
    lists(&mut world, 2).await;
    assert_eq!(world.alarms().await, [""; 0], "and with every listing");
    refused(&ask(&world, order(2, true)).await, "ada has acknowledged that already");
}

#[tokio::test]
async fn a_restart_remembers_it_also_where_the_note_of_the_look_was_lost() {
    let mut world = failed_over().await;
    acknowledged(&mut world, 2).await;
    for with_notes in [true, false] {
        let mut next = restarted(&world, with_notes).await;
        lists(&mut next, 2).await;
        assert_eq!((next.told().await.as_str(), next.alarms().await), ("", vec![]), "{with_notes}");
        assert!(unproven(&next).await.unwrap().acknowledged.is_some());
        let noted = VerifiedOn { system_identifier: 11, timeline: 2, unproven: 3 };
        assert_eq!(next.log.durable.verified.lock().unwrap().get(&name("a")), Some(&noted));
    }
}

#[tokio::test]
async fn the_next_change_of_timeline_raises_the_alarm_again() {
    let mut world = failed_over().await;
    acknowledged(&mut world, 2).await;
    lists(&mut world, 3).await;
    refused(&ask(&world, order(2, true)).await, "being looked for");
    says_nothing(&mut world, 2, 3, 3).await;
    assert_eq!(world.alarms().await, ["VOTUM-1412"]);
    assert_eq!(unproven(&world).await.unwrap().acknowledged, None);
    refused(&ask(&world, order(2, true)).await, "is on timeline 3, and not on 2");
    acknowledged(&mut world, 3).await;
    assert_eq!(world.alarms().await, [""; 0]);
}

/// The order was on its way to the disk when the server changed its timeline once more.
#[tokio::test]
async fn a_word_about_a_timeline_that_has_passed_ends_no_alarm_about_the_next() {
    let mut world = failed_over().await;
    let (answer, answered) = tokio::sync::oneshot::channel();
    world.driver.send(Request::AcknowledgeUnproven(order(2, true), answer)).await;
    world.settle().await;
    lists(&mut world, 3).await;
    says_nothing(&mut world, 2, 3, 3).await;
    world.force().await;
    assert_eq!(heard(answered).await.unwrap().unwrap().timeline, 2);
    assert_eq!(world.alarms().await, ["VOTUM-1412"]);
}

/// The look was repeated, and found more than the person had compared.
#[tokio::test]
async fn a_word_about_fewer_commits_does_not_cover_more() {
    let mut world = failed_over().await;
    acknowledged(&mut world, 2).await;
    let more = VerifiedOn { system_identifier: 11, timeline: 2, unproven: 4 };
    world.log.durable.verified.lock().unwrap().insert(name("a"), more);
    lists(&mut world, 2).await;
    assert_eq!(world.alarms().await, ["VOTUM-1412"]);
    let fewer = VerifiedOn { unproven: 2, ..more };
    world.log.durable.verified.lock().unwrap().insert(name("a"), fewer);
    lists(&mut world, 2).await;
    assert_eq!(world.alarms().await, [""; 0]);
}

#[tokio::test]
async fn where_nothing_is_unproven_there_is_nothing_to_acknowledge() {
    let mut world = start(World::new()).await;
    refused(&ask(&world, order(2, true)).await, "nothing of a waits");
    let nobody = AcknowledgeUnproven { participant: name("nobody"), ..order(2, true) };
    refused(&ask(&world, nobody).await, "no participant nobody");
    // All of it has been forgotten since.
    world = failed_over().await;
    let none = VerifiedOn { system_identifier: 11, timeline: 2, unproven: 0 };
    world.log.durable.verified.lock().unwrap().insert(name("a"), none);
    lists(&mut world, 2).await;
    assert_eq!((world.alarms().await, unproven(&world).await), (vec![], None));
    refused(&ask(&world, order(2, true)).await, "nothing of a waits");
}
