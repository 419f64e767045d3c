//! A person leads out of a stale log.

use votum_proto::names::{Epoch, Gid};
use votum_proto::v1;

use super::super::request::{Outcome, Request, RequestError, WriteOff};
use super::world::{World, gid, gtid, heard, life};
use crate::protocol::record::Record;

/// A witness of `epoch`, as far as `position`, written 5 s before the hello.
fn hello_of_a_witness(epoch: u64, position: u64) -> v1::AgentHello {
    let life = life(epoch);
    let witness = v1::Witness { epoch, incarnation: life.incarnation.get(), position };
    v1::AgentHello { witness: Some(witness), witness_age_ms: 5_000, ..World::hello() }
}

/// A log that ends with position 90 of epoch 6, where an agent has seen position 91.
async fn stale() -> World {
    let mut world = World::new();
    world.count();
    world.connect(hello_of_a_witness(6, 91)).await;
    world.settle().await;
    world
}

fn order(coordinator_id: &str, apply: bool) -> WriteOff {
    let (operator, reason) = ("ada".into(), "the disk is gone".into());
    WriteOff { coordinator_id: coordinator_id.into(), operator, reason, apply }
}

async fn ask(world: &World, order: WriteOff) -> Result<v1::WriteOffResponse, RequestError> {
    heard(world.driver.ask(|answer| Request::WriteOff(order, answer))).await
}

fn refused(answer: &Result<v1::WriteOffResponse, RequestError>, because: &str) {
    assert!(matches!(answer, Err(RequestError::Invalid(why)) if why.contains(because)), "{answer:?}");
}

#[tokio::test]
async fn what_was_seen_and_when_is_shown_and_written_off_once_it_is_on_disk() {
    let mut world = stale().await;
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    let shown = ask(&world, order("", false)).await.unwrap();
    assert_eq!((shown.through_epoch, shown.applied), (6, false));
    let [evidence] = shown.evidence.as_slice() else { panic!("{shown:?}") };
    assert!(evidence.what.contains("position 91 of epoch 6"), "{evidence:?}");
    assert_eq!((evidence.shown_by.as_str(), evidence.through_epoch), ("agent agent", 6));
    assert!(evidence.witness_age_ms.is_some_and(|age| age >= 5_000), "{evidence:?}");
    assert_eq!(shown.waiting[0].gid, gid(6, 3, 0).to_string());
    assert!(
        !world.log.queued.lock().unwrap().iter().any(|entry| matches!(entry.record, Record::WrittenOff(_)))
    );

    let (answer, mut answered) = tokio::sync::oneshot::channel();
    world.driver.send(Request::WriteOff(order("acme", true), answer)).await;
    world.settle().await;
    assert!(answered.try_recv().is_err(), "not before it is on disk");
    world.force().await;
    assert!(heard(answered).await.unwrap().unwrap().applied);
    let on_disk = world.log.durable.records.lock().unwrap().clone();
    let written = on_disk.iter().find_map(|record| {
        let Record::WrittenOff(written_off) = record else { return None };
        Some(written_off.clone())
    });
    let written = written.unwrap();
    assert_eq!((written.through, written.operator.as_str()), (Epoch(6), "ada"));
    assert!(written.seen.contains("position 91"), "{}", written.seen);

    // It counts from the next start on.
    assert!(world.alarms().await.contains(&"VOTUM-1401".to_owned()));
    assert!(matches!(world.begin().await, Err(RequestError::Unavailable(_))));
    refused(&ask(&world, order("acme", true)).await, "restart");
}

#[tokio::test]
async fn a_whole_log_another_coordinators_and_one_not_heard_by_all_are_not_written_off() {
    let world = World::ready().await;
    refused(&ask(&world, order("acme", true)).await, "not stale");
    let world = stale().await;
    refused(&ask(&world, order("acne", true)).await, "type out");
    refused(&ask(&world, order("", true)).await, "type out");
    let mut world = World::with_a_silent_agent();
    world.count();
    world.connect(hello_of_a_witness(6, 91)).await;
    refused(&ask(&world, order("acme", false)).await, "agent at silent");
    let world = World::new();
    assert!(matches!(ask(&world, order("acme", true)).await, Err(RequestError::Unavailable(_))), "counting");
}

#[tokio::test]
async fn an_agent_that_refuses_the_coordinator_counts_as_heard_by_what_it_shows() {
    let mut world = World::new();
    world.count();
    world.refuse(hello_of_a_witness(9, 5)).await;
    assert_eq!(ask(&world, order("", false)).await.unwrap().through_epoch, 9);
}

#[tokio::test]
async fn an_epoch_that_nobody_can_have_begun_is_not_written_off() {
    let mut world = World::new();
    world.count();
    world.connect(hello_of_a_witness(1 << 60, 5)).await;
    world.settle().await;
    refused(&ask(&world, order("acme", true)).await, "never begun");
}

/// The life after it: what was seen is no proof any more, absence proves nothing of what was written off, and
/// everything else is as ever.
#[tokio::test]
async fn r10_after_it_a_person_decides_what_is_prepared_without_a_record() {
    let mut world = World::written_off(6);
    world.count();
    let mut hello = hello_of_a_witness(6, 91);
    let unknown = Gid { gtid: gtid(5, 8), branch: 0, branches: 2 };
    hello.listings[0].prepared = vec![World::row(&gid(6, 3, 0), 700), World::row(&unknown, 701)];
    world.connect(hello).await;
    world.settle().await;
    assert_eq!(world.told().await, "", "nothing is presumed");
    assert_eq!(world.alarms().await, ["VOTUM-1402", "VOTUM-1402"]);
    assert!(matches!(world.get(gtid(6, 3)).await, Ok(Outcome::Expired)));
    assert!(matches!(world.get(gtid(5, 8)).await, Ok(Outcome::Expired)));
    world.begin().await.unwrap();
    let of_the_present_life = World::row(&gid(7, 9, 0), 702);
    world.agent_lists(World::listing("a", vec![of_the_present_life])).await;
    assert_eq!(world.told().await, "rollback@a", "of the present life an abort is presumed");
}
