//! A person has dealt with how branches departed from their decision.

use super::super::request::{Acknowledge, Outcome, Request, RequestError};
use super::world::{World, decided_commit, gid, gtid, heard, name};
use crate::protocol::record::{Heuristic, HeuristicKind, Record};

/// A commit of an earlier life, both of whose branches were rolled back.
async fn departed() -> World {
    let world = World::new();
    let lost = |branch, at| {
        let (gid, participant, detail) = (gid(6, 3, branch), name(at), "rolled back".into());
        Record::Heuristic(Heuristic { gid, participant, xid8: 700, kind: HeuristicKind::Rollback, detail })
    };
    let records = [
        Record::Decided(decided_commit(6, 3)),
        lost(0, "a"),
        lost(1, "b"),
        Record::Ended { gtid: gtid(6, 3) },
    ];
    world.log.durable.records.lock().unwrap().extend(records);
    start(world).await
}

async fn start(mut world: World) -> World {
    world.connect(World::hello()).await;
    world.count();
    world.settle().await;
    world
}

fn acknowledge(participant: Option<&str>, apply: bool) -> Acknowledge {
    Acknowledge {
        gtid: gtid(6, 3),
        participant: participant.map(name),
        operator: "ada".into(),
        reason: "repaid by hand".into(),
        apply,
    }
}

async fn ask(world: &World, participant: Option<&str>, apply: bool) -> Result<Vec<Heuristic>, RequestError> {
    let asked = world.driver.ask(|answer| Request::Acknowledge(acknowledge(participant, apply), answer));
    heard(asked).await
}

fn at(listed: &[Heuristic]) -> Vec<&str> {
    listed.iter().map(|departure| departure.participant.as_str()).collect()
}

#[tokio::test]
async fn a_departure_is_on_the_list_until_a_persons_word_is_on_disk() {
    let mut world = departed().await;
    assert_eq!(at(&ask(&world, None, false).await.unwrap()), ["a", "b"], "a dry run");
    assert_eq!(world.alarms().await, ["VOTUM-1407", "VOTUM-1407"]);

    let (answer, mut answered) = tokio::sync::oneshot::channel();
    world.driver.send(Request::Acknowledge(acknowledge(Some("b"), true), answer)).await;
    world.settle().await;
    assert!(answered.try_recv().is_err(), "not before it is on disk");
    assert_eq!(world.alarms().await, ["VOTUM-1407", "VOTUM-1407"]);
    world.force().await;
    assert_eq!(at(&heard(answered).await.unwrap().unwrap()), ["b"]);
    assert_eq!(world.alarms().await, ["VOTUM-1407"]);
    assert!(matches!(ask(&world, Some("b"), true).await, Err(RequestError::Invalid(_))), "twice");

    let mut next = World::new();
    next.log.durable.records.lock().unwrap().clone_from(&world.log.durable.records.lock().unwrap());
    next = start(next).await;
    assert_eq!(next.alarms().await, ["VOTUM-1407"]);
    assert_eq!(at(&ask(&next, None, false).await.unwrap()), ["a"]);
}

#[tokio::test]
async fn all_departures_of_a_transaction_are_acknowledged_together_and_its_outcome_goes_on_naming_them() {
    let mut world = departed().await;
    let (answer, answered) = tokio::sync::oneshot::channel();
    world.driver.send(Request::Acknowledge(acknowledge(None, true), answer)).await;
    world.settle().await;
    world.force().await;
    assert_eq!(at(&heard(answered).await.unwrap().unwrap()), ["a", "b"]);
    assert_eq!(world.alarms().await, [""; 0]);
    let (shown, outcome) = world.driver.ask(|answer| Request::Show(gtid(6, 3), answer)).await.unwrap();
    assert_eq!(
        shown.next,
        "nothing: the branch at a, b departed from the decision, and a person has dealt with it"
    );
    let Outcome::Committed { heuristics, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(at(&heuristics), ["a", "b"]);
}

#[tokio::test]
async fn what_did_not_depart_cannot_be_acknowledged() {
    let world = departed().await;
    let nowhere = ask(&world, Some("c"), true).await;
    assert!(matches!(&nowhere, Err(RequestError::Invalid(why)) if why.contains("at c")), "{nowhere:?}");
    let other = Acknowledge { gtid: gtid(6, 4), ..acknowledge(None, true) };
    let never = world.driver.ask(|answer| Request::Acknowledge(other, answer)).await;
    assert!(matches!(never, Err(RequestError::Invalid(_))), "{never:?}");
    assert!(world.log.queued.lock().unwrap().is_empty(), "nothing was recorded");
}

#[tokio::test]
async fn while_the_history_is_being_counted_nothing_is_acknowledged() {
    let mut world = World::new();
    world.connect(World::hello()).await;
    let asked = ask(&world, None, true).await;
    assert!(matches!(asked, Err(RequestError::Unavailable(_))), "{asked:?}");
}
