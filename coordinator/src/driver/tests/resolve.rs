//! A person settles branches.

use votum_proto::v1::gone::Marker;

use super::super::request::{Request, RequestError, Resolve};
use super::inquiry::asked;
use super::world::{World, decided_commit, gid, gtid, heard, name, resolved};
use crate::protocol::record::{AbortKind, AbortReason, Decided, Decision, Record};

#[tokio::test]
async fn r10_below_the_mark_a_branch_waits_for_a_person_whose_word_is_forced_first() {
    let mut world = World::ready().await;
    *world.log.durable.mark.lock().unwrap() = Some(gtid(6, 5));
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    assert_eq!(world.told().await, "");
    assert_eq!(world.alarms().await, ["VOTUM-1402"]);
    let resolve = |apply| Resolve {
        gid: gid(6, 3, 0),
        participant: name("a"),
        commit: false,
        operator: "op".into(),
        reason: "the ledger says so".into(),
        apply,
        heuristic: false,
    };
    let dry = asked(&mut world, resolve(false), Marker::Absent).await;
    let dry = heard(dry).await.unwrap().unwrap();
    assert!(!dry.applied && dry.statements[0].contains("ROLLBACK PREPARED"), "{dry:?}");
    assert_eq!(world.told().await, "");
    let answered = asked(&mut world, resolve(true), Marker::Aborted).await;
    assert_eq!(world.told().await, "", "not before the resolution is on disk");
    world.force().await;
    assert_eq!(world.told().await, "rollback@a");
    world.agent_has(&gid(6, 3, 0), "a", false).await;
    assert_eq!(heard(answered).await.unwrap().unwrap().result, "done");
}

#[tokio::test]
async fn a_resolution_that_contradicts_another_one_is_refused_also_while_that_one_is_under_way() {
    let mut world = World::ready().await;
    *world.log.durable.mark.lock().unwrap() = Some(gtid(6, 5));
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    let resolve = |commit| Resolve {
        gid: gid(6, 3, 0),
        participant: name("a"),
        commit,
        operator: "op".into(),
        reason: "the ledger says so".into(),
        apply: true,
        heuristic: false,
    };
    let answered = asked(&mut world, resolve(true), Marker::Absent).await;
    let refused = world.driver.ask(|answer| Request::Resolve(resolve(false), answer)).await;
    assert!(matches!(refused, Err(RequestError::Invalid(_))), "on its way to the disk: {refused:?}");
    world.force().await;
    let refused = world.driver.ask(|answer| Request::Resolve(resolve(false), answer)).await;
    assert!(matches!(refused, Err(RequestError::Invalid(_))), "ordered: {refused:?}");
    world.agent_has(&gid(6, 3, 0), "a", true).await;
    assert_eq!(heard(answered).await.unwrap().unwrap().result, "done");
    let refused = world.driver.ask(|answer| Request::Resolve(resolve(false), answer)).await;
    assert!(matches!(refused, Err(RequestError::Invalid(_))), "done, not listed since: {refused:?}");
    let agreed = world.driver.ask(|answer| Request::Resolve(resolve(true), answer)).await.unwrap();
    assert!(!agreed.applied && agreed.judgement.contains("agrees"), "{agreed:?}");
    assert_eq!(world.told().await, "commit@a?");
}

#[tokio::test]
async fn whoever_resolves_a_branch_is_answered_when_the_agent_goes_away_before_it_answers() {
    let mut world = World::ready().await;
    *world.log.durable.mark.lock().unwrap() = Some(gtid(6, 5));
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    let resolve = Resolve {
        gid: gid(6, 3, 0),
        participant: name("a"),
        commit: true,
        operator: "op".into(),
        reason: "the ledger says so".into(),
        apply: true,
        heuristic: false,
    };
    let mut answered = asked(&mut world, resolve, Marker::Absent).await;
    world.force().await;
    assert_eq!(world.told().await, "commit@a?");
    world.disconnect().await;
    let response = answered.try_recv().expect("it would wait for ever").unwrap();
    assert!(response.applied && response.result.contains("when the agent is back"), "{response:?}");
    let mut hello = World::hello();
    hello.listings[0].prepared.push(World::row(&gid(6, 3, 0), 700));
    world.connect(hello).await;
    assert_eq!(world.told().await, "commit@a?", "R16: as recorded");
}

#[tokio::test]
async fn a_resolution_that_contradicts_a_known_decision_is_refused() {
    let mut world = World::ready().await;
    world.log.durable.records.lock().unwrap().push(Record::Decided(decided_commit(6, 3)));
    world.agent_lists(World::listing("a", Vec::new())).await;
    let resolve = Resolve {
        gid: gid(6, 3, 0),
        participant: name("a"),
        commit: false,
        operator: "op".into(),
        reason: "panic".into(),
        apply: true,
        heuristic: false,
    };
    let refused = world.driver.ask(|answer| Request::Resolve(resolve, answer)).await;
    assert!(matches!(refused, Err(RequestError::Invalid(_))), "{refused:?}");
    assert_eq!(world.told().await, "");
}

#[tokio::test]
async fn r16_a_resolution_that_a_listing_had_carried_out_is_answered_by_that_and_ordered_once() {
    let mut world = World::ready().await;
    *world.log.durable.mark.lock().unwrap() = Some(gtid(6, 5));
    let listing = || World::listing("a", vec![World::row(&gid(6, 3, 0), 700)]);
    world.agent_lists(listing()).await;
    let resolve = Resolve {
        gid: gid(6, 3, 0),
        participant: name("a"),
        commit: true,
        operator: "op".into(),
        reason: "why".into(),
        apply: true,
        heuristic: false,
    };
    let answered = asked(&mut world, resolve, Marker::Absent).await;
    world.told().await;
    // On disk, and in the history; the driver has not heard of it yet.
    world.log.durable.records.lock().unwrap().push(Record::Resolved(resolved(&gid(6, 3, 0), 700)));
    world.agent_lists(listing()).await;
    assert_eq!(world.told().await, "commit@a?");
    world.agent_has(&gid(6, 3, 0), "a", true).await;
    assert_eq!(heard(answered).await.unwrap().unwrap().result, "done");
    world.force().await;
    assert_eq!(world.told().await, "");
}

/// The life that decided it is over: nothing is in memory that its agent could be asked to let go of.
#[tokio::test]
async fn who_departs_from_an_abort_of_an_earlier_life_is_told_what_can_be_done() {
    let world = World::ready().await;
    let reason = AbortReason {
        kind: AbortKind::VotedNo,
        participant: None,
        sqlstate: String::new(),
        message: String::new(),
    };
    let aborted = Decided { decision: Decision::Abort(reason), ..decided_commit(6, 3) };
    world.log.durable.records.lock().unwrap().push(Record::Decided(aborted));
    let commit = Resolve {
        gid: gid(6, 3, 0),
        participant: name("a"),
        commit: true,
        operator: "ada".into(),
        reason: "it was paid".into(),
        apply: true,
        heuristic: true,
    };
    let refused = world.driver.ask(|answer| Request::Resolve(commit, answer)).await;
    let Err(RequestError::Invalid(why)) = refused else { panic!("{refused:?}") };
    for part in ["stop the agent of a", &format!("COMMIT PREPARED '{}'", gid(6, 3, 0)), "No record"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(world.log.queued.lock().unwrap().is_empty(), "nothing was recorded");
}
