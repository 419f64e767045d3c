//! More transactions than are leased.

use std::time::Duration;

use tokio::sync::oneshot;

use super::super::request::{Begun, Request, RequestError, Wait};
use super::world::{World, heard, plain};
use crate::protocol::record::Record;

type Answered = oneshot::Receiver<Result<Begun, RequestError>>;

async fn begin(world: &mut World) -> Answered {
    let (answer, answered) = oneshot::channel();
    world.driver.send(Request::Begin(plain(), answer)).await;
    world.settle().await;
    answered
}

/// Ten seqs are leased; they are used up before the next lease is on disk.
async fn used_up() -> World {
    let world = World::ready().await;
    for _ in 0..10 {
        let begun = world.begin().await.unwrap();
        world.roll_back(&begun).await;
    }
    world
}

#[tokio::test]
async fn who_begins_when_the_lease_is_used_up_waits_for_the_next_and_is_not_refused() {
    let mut world = used_up().await;
    let (mut first, mut second) = (begin(&mut world).await, begin(&mut world).await);
    assert!(first.try_recv().is_err() && second.try_recv().is_err(), "no lease holds its seq yet");
    world.force().await;
    let seqs = [first, second].map(|mut answered| answered.try_recv().unwrap().unwrap().gtid.seq);
    assert_eq!(seqs, [11, 12]);
}

#[tokio::test]
async fn no_seq_is_given_to_two_and_none_beyond_what_is_on_disk() {
    let mut world = used_up().await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let mut waiting = Vec::new();
        for _ in 0..4 {
            waiting.push(begin(&mut world).await);
        }
        world.force().await;
        let on_disk = world.log.durable.records.lock().unwrap().iter().fold(10, |most, record| {
            if let Record::Lease { until, .. } = record { most.max(*until) } else { most }
        });
        for answered in waiting {
            let begun = heard(answered).await.unwrap().unwrap();
            assert!(begun.gtid.seq <= on_disk, "{} is beyond {on_disk}", begun.gtid);
            seen.push(begun.gtid.seq);
            world.roll_back(&begun).await;
        }
    }
    let expected: Vec<u64> = (11..11 + 24).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn no_more_wait_for_a_lease_than_may_be_live() {
    let mut world = used_up().await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(begin(&mut world).await);
    }
    let refused = heard(begin(&mut world).await).await.unwrap();
    assert_eq!(refused, Err(RequestError::Overloaded { live: 5 }));
    world.force().await;
    for answered in waiting {
        assert!(heard(answered).await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn who_waits_for_a_lease_hears_that_the_coordinator_stops_or_that_its_log_failed() {
    let mut world = used_up().await;
    let waiting = begin(&mut world).await;
    world.doubtful().await;
    assert!(matches!(heard(waiting).await.unwrap(), Err(RequestError::LogFailed(_))));

    let mut world = used_up().await;
    let waiting = begin(&mut world).await;
    let (answer, _drained) = oneshot::channel();
    world.driver.send(Request::Drain { grace: Duration::from_secs(1), answer }).await;
    assert!(matches!(heard(waiting).await.unwrap(), Err(RequestError::Unavailable(_))));
}

/// Its timer would be kept for as long as the longest wait: at full speed, a million of them.
#[tokio::test(start_paused = true)]
async fn who_joins_a_wait_for_completion_is_told_by_the_timer_of_the_first_and_the_next_has_one_again() {
    let mut world = World::ready().await;
    let (begun, first) = world.deciding(Wait::Completed).await;
    world.force().await;
    let second = world.commit(&begun, Wait::Completed).await;
    assert!(heard(first).await.unwrap().is_ok() && heard(second).await.unwrap().is_ok());
    let third = world.commit(&begun, Wait::Completed).await;
    assert!(heard(third).await.unwrap().is_ok(), "it has a timer of its own");
}
