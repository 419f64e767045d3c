//! What commit markers say counts for more than a person's word about a branch that no record tells of.

use tokio::sync::oneshot;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Said;
use votum_proto::v1::coordinator_message::Kind;
use votum_proto::v1::gone::Marker;

use super::super::request::{Request, RequestError, Resolve};
use super::world::{World, decided_commit, gid, gtid, heard, name};
use crate::log::TransactionHistory;
use crate::protocol::record::{Heuristic, HeuristicKind, Record};

type Answered = oneshot::Receiver<Result<v1::ResolveResponse, RequestError>>;

/// Orders to settle the branch at a.
fn resolve(commit: bool, heuristic: bool) -> Resolve {
    Resolve {
        gid: gid(6, 3, 0),
        participant: name("a"),
        commit,
        operator: "op".into(),
        reason: "the ledger says so".into(),
        apply: true,
        heuristic,
    }
}

/// A world in which the branch at a waits for a person, and so does its sibling at b, or not.
async fn waiting(sibling: bool) -> World {
    let mut world = World::ready().await;
    *world.log.durable.mark.lock().unwrap() = Some(gtid(6, 5));
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    if sibling {
        world.agent_lists(World::listing("b", vec![World::row(&gid(6, 3, 1), 701)])).await;
    }
    assert_eq!(world.told().await, "");
    world
}

async fn ordered(world: &mut World, resolve: Resolve) -> Answered {
    let (answer, answered) = oneshot::channel();
    world.driver.send(Request::Resolve(resolve, answer)).await;
    world.settle().await;
    answered
}

/// The questions that the agent was asked since the last look.
fn questions(world: &mut World) -> Vec<v1::VerifyBranches> {
    let asked = |message: v1::CoordinatorMessage| match message.kind {
        Some(Kind::VerifyBranches(ask)) => Some(ask),
        _ => None,
    };
    std::mem::take(&mut world.received).into_iter().filter_map(asked).collect()
}

async fn says(world: &mut World, ask: &v1::VerifyBranches, marker: Marker) {
    let gone = v1::Gone { system_identifier: 11, timeline: 1, marker: marker.into(), ..Default::default() };
    let branches = ask.branches.iter().map(|_| gone).collect();
    let (participant, request) = (ask.participant.clone(), ask.request);
    let verified = v1::BranchesVerified { participant, request, failure: String::new(), branches };
    world.agent_says(Said::BranchesVerified(verified)).await;
}

/// Orders something, and has every participant say this of each marker that it is asked for.
pub(super) async fn asked(world: &mut World, resolve: Resolve, marker: Marker) -> Answered {
    let answered = ordered(world, resolve).await;
    // Once to see, and before a rollback once more to settle.
    for _ in 0..2 {
        for ask in questions(world) {
            says(world, &ask, marker).await;
        }
    }
    answered
}

async fn refused(answered: Answered) -> String {
    match heard(answered).await.unwrap() {
        Err(RequestError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn i1_what_a_siblings_marker_says_is_not_a_persons_to_contradict() {
    for (commit, marker) in [(false, Marker::Committed), (true, Marker::Aborted)] {
        let mut world = waiting(false).await;
        let answered = asked(&mut world, resolve(commit, false), marker).await;
        let why = refused(answered).await;
        assert!(why.contains(&gid(6, 3, 1).to_string()) && why.contains("--heuristic"), "{why}");
        assert!(world.log.queued.lock().unwrap().is_empty(), "nothing is recorded");
        assert_eq!(world.told().await, "");
        let agreed = asked(&mut world, resolve(!commit, false), marker).await;
        world.force().await;
        let word = if commit { "rollback@a" } else { "commit@a?" };
        assert_eq!(world.told().await, word);
        world.agent_has(&gid(6, 3, 0), "a", !commit).await;
        assert_eq!(heard(agreed).await.unwrap().unwrap().result, "done");
    }
}

/// Who decides may still be about it: before its sibling is rolled back, it can never commit any more. What is seen
/// prepared decides nothing by its own commit, and a tombstone would wait for it.
#[tokio::test]
async fn r13_before_a_rollback_what_may_yet_decide_is_kept_from_it() {
    for (sibling, commit, settles) in [(false, false, true), (false, true, false), (true, false, false)] {
        let mut world = waiting(sibling).await;
        let answered = ordered(&mut world, resolve(commit, false)).await;
        let rounds = if settles { &[false, true][..] } else { &[false] };
        for settle in rounds {
            let asked = questions(&mut world);
            let places: Vec<&str> = asked.iter().map(|ask| ask.participant.as_str()).collect();
            assert_eq!(places, ["a", "b"]);
            for ask in &asked {
                let expected =
                    v1::CommittedBranch { gid: gid(6, 3, 1).to_string(), xid8: 0, settle: *settle };
                assert_eq!(ask.branches, [expected], "sibling prepared: {sibling}, commit: {commit}");
            }
            says(&mut world, &asked[0], if *settle { Marker::Aborted } else { Marker::Absent }).await;
            assert!(world.log.queued.lock().unwrap().is_empty(), "not before all have answered");
            says(&mut world, &asked[1], Marker::Unspecified).await;
        }
        world.force().await;
        assert_eq!(world.told().await, if commit { "commit@a?" } else { "rollback@a" });
        drop(answered);
    }
}

/// It was about to decide when it was settled: elsewhere a tombstone stands in the place of a branch that never was
/// there, which proves nothing against its commit.
#[tokio::test]
async fn what_committed_at_one_participant_counts_for_more_than_a_tombstone_at_another() {
    let mut world = waiting(false).await;
    let answered = ordered(&mut world, resolve(false, false)).await;
    for markers in [[Marker::Absent, Marker::Absent], [Marker::Aborted, Marker::Committed]] {
        for (ask, marker) in questions(&mut world).iter().zip(markers) {
            says(&mut world, ask, marker).await;
        }
    }
    assert!(refused(answered).await.contains("committed"));
    assert!(world.log.queued.lock().unwrap().is_empty());
    let answered = ordered(&mut world, resolve(true, false)).await;
    for (ask, marker) in questions(&mut world).iter().zip([Marker::Aborted, Marker::Committed]) {
        says(&mut world, ask, marker).await;
    }
    world.force().await;
    assert_eq!(world.told().await, "commit@a?");
    drop(answered);
}

#[tokio::test]
async fn where_a_marker_cannot_be_asked_for_nothing_is_done_unless_the_person_knows() {
    // An agent of an older version settles nothing.
    let mut world = waiting(false).await;
    let why = asked(&mut world, resolve(false, false), Marker::Absent).await;
    assert!(refused(why).await.contains("version"));
    // The database does not answer.
    let answered = ordered(&mut world, resolve(false, false)).await;
    let asked = questions(&mut world);
    let failed = v1::BranchesVerified {
        participant: "b".into(),
        request: asked[0].request,
        failure: "connection refused".into(),
        ..Default::default()
    };
    world.agent_says(Said::BranchesVerified(failed)).await;
    let why = refused(answered).await;
    assert!(why.contains("at b") && why.contains("connection refused"), "{why}");
    assert!(why.contains("out of the configuration"), "{why}");
    // A standby's answer is none.
    let answered = ordered(&mut world, resolve(true, false)).await;
    let ask = questions(&mut world).remove(0);
    let gone = v1::Gone { in_recovery: true, marker: Marker::Absent.into(), ..Default::default() };
    let verified = v1::BranchesVerified {
        participant: "a".into(),
        request: ask.request,
        branches: vec![gone],
        ..Default::default()
    };
    world.agent_says(Said::BranchesVerified(verified)).await;
    assert!(refused(answered).await.contains("standby"));
    // The stream breaks while it is asked.
    let answered = ordered(&mut world, resolve(true, false)).await;
    world.disconnect().await;
    assert!(refused(answered).await.contains("unreachable"));
    let answered = ordered(&mut world, resolve(true, false)).await;
    assert!(refused(answered).await.contains("unreachable"), "nor afterwards");
    assert!(world.log.queued.lock().unwrap().is_empty());
    // Who knows says so.
    drop(ordered(&mut world, resolve(true, true)).await);
    assert_eq!(world.log.queued.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn two_branches_of_a_transaction_are_not_settled_at_once() {
    let mut world = waiting(true).await;
    let first = ordered(&mut world, resolve(true, false)).await;
    let other = Resolve { gid: gid(6, 3, 1), participant: name("b"), ..resolve(false, false) };
    let second = ordered(&mut world, other).await;
    assert!(refused(second).await.contains("under way"));
    for ask in questions(&mut world) {
        says(&mut world, &ask, Marker::Absent).await;
    }
    world.force().await;
    assert_eq!(world.told().await, "commit@a?");
    drop(first);
}

/// A transaction of an earlier life whose decision was handed to its branch at a participant, and whose sibling at a is
/// prepared.
async fn handed_to(at: &str) -> World {
    let mut decided = decided_commit(6, 3);
    if let Some(last) = decided.branches.last_mut() {
        (last.participant, last.xid8, last.marker) = (name(at), 0, true);
    }
    let record = Record::Delegated(decided.clone());
    let records = vec![(5, 0, record.clone())];
    let owed = TransactionHistory { delegated: Some(decided), records, ..Default::default() };
    let mut world = World::with_owed(vec![owed]);
    world.log.durable.records.lock().unwrap().push(record);
    world.count();
    let mut hello = World::hello();
    hello.listings[0].prepared.push(World::row(&gid(6, 3, 0), 700));
    world.connect(hello).await;
    world.settle().await;
    world.received.clear();
    world
}

/// R13s: nobody's word stands in for that of a branch that can be asked. Where it is gone for good a person's does, and
/// that it does is on record.
#[tokio::test]
async fn r13s_siblings_of_a_branch_that_is_gone_for_good_are_a_persons_to_settle_with_a_hazard() {
    for heuristic in [false, true] {
        let mut world = handed_to("b").await;
        let why = refused(ordered(&mut world, resolve(false, heuristic)).await).await;
        assert!(
            why.contains("handed to its branch at b") && why.contains("out of the configuration"),
            "{why}"
        );
        assert!(world.log.queued.lock().unwrap().is_empty());
    }
    let mut world = handed_to("gone").await;
    let why = refused(ordered(&mut world, resolve(false, false)).await).await;
    assert!(why.contains("gone") && why.contains("--heuristic") && why.contains("marker"), "{why}");
    let answered = ordered(&mut world, resolve(false, true)).await;
    let records: Vec<Record> =
        world.log.queued.lock().unwrap().iter().map(|entry| entry.record.clone()).collect();
    let hazard = |heuristic: &Heuristic| heuristic.kind == HeuristicKind::Hazard;
    assert!(
        matches!(records.as_slice(), [Record::Resolved(_), Record::Heuristic(it)] if hazard(it)),
        "{records:?}"
    );
    assert_eq!(world.told().await, "", "not before it is on disk");
    world.force().await;
    assert_eq!(world.told().await, "rollback@a");
    world.agent_has(&gid(6, 3, 0), "a", false).await;
    assert_eq!(heard(answered).await.unwrap().unwrap().result, "done");
    assert!(world.alarms().await.contains(&"VOTUM-1407".to_owned()));
    // Listed again, by whatever brought it back: as recorded (R16).
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    assert_eq!(world.told().await, "rollback@a");
}
