//! More whole transactions than a participant carries out.

use std::time::Duration;

use votum_proto::runtime::Seams;
use votum_proto::v1;

use super::super::request::{Outcome, RequestError, Transact};
use super::transact::{Answered, hello, orders, transact, votes, whole, yes};
use super::world::{AGENT, World, heard, name};

/// More wait than nobody is refused for.
const WAITING: usize = 70;

/// So many wait for both participants.
async fn waiting() -> (World, Vec<Answered>, Vec<v1::Prepare>) {
    let mut world = World::ready_for(1_000).await;
    world.connect(hello(AGENT)).await;
    world.received.clear();
    let (mut answers, mut given) = (Vec::new(), Vec::new());
    for _ in 0..WAITING {
        answers.push(transact(&mut world, whole(None)).await);
        given.extend(orders(&mut world));
        world.force().await;
    }
    given.extend(orders(&mut world));
    assert_eq!(given.len(), 2 * WAITING);
    (world, answers, given)
}

async fn passes(time: Duration) {
    Seams::production().clock.sleep(time).await;
}

/// What is said at once to one more; `None` where it waits.
async fn one_more(world: &mut World, asked: Transact) -> Option<RequestError> {
    let mut answered = transact(world, asked).await;
    let said = answered.try_recv().ok().map(Result::unwrap_err);
    let begun = orders(world).len();
    assert_eq!(begun, if said.is_some() { 0 } else { 2 }, "{said:?}");
    said
}

#[tokio::test(start_paused = true)]
async fn what_would_wait_too_long_is_refused_before_anything_of_it_is_begun() {
    let (mut world, answers, given) = waiting().await;
    passes(Duration::from_millis(1_100)).await;
    let Some(RequestError::WouldWait { expected, bound, retry_after, .. }) =
        one_more(&mut world, whole(None)).await
    else {
        panic!("it was begun")
    };
    assert!(expected > bound && retry_after < expected, "{expected:?} {bound:?} {retry_after:?}");
    // Some are carried out: the queue is short again, and nobody is refused.
    for order in &given[..14] {
        votes(&mut world, order, yes(), 1).await;
    }
    assert_eq!(one_more(&mut world, whole(None)).await, None);
    drop(answers);
}

#[tokio::test(start_paused = true)]
async fn what_is_served_fast_enough_is_admitted_unless_its_own_time_is_shorter() {
    let (mut world, mut answers, mut given) = waiting().await;
    for _ in 0..20 {
        passes(Duration::from_millis(10)).await;
        for order in given.drain(..2) {
            votes(&mut world, &order, yes(), 1).await;
        }
        answers.push(transact(&mut world, whole(None)).await);
        given.extend(orders(&mut world));
        world.force().await;
        given.extend(orders(&mut world));
    }
    let mut hasty = whole(None);
    hasty.begin.timeout = Duration::from_millis(100);
    answers.push(transact(&mut world, whole(None)).await);
    assert!(answers.last_mut().unwrap().try_recv().is_err(), "they wait at 10 ms each");
    world.received.clear();
    let refused = one_more(&mut world, hasty).await;
    assert!(matches!(refused, Some(RequestError::WouldWait { bound, .. }) if bound.as_millis() == 100));
}

#[tokio::test(start_paused = true)]
async fn those_that_were_aborted_wait_no_longer_and_other_participants_were_never_concerned() {
    let (mut world, answers, _) = waiting().await;
    passes(Duration::from_secs(2)).await;
    let mut at_a = whole(None);
    at_a.branches.retain(|(participant, _)| *participant == name("a"));
    assert!(one_more(&mut world, at_a).await.is_some(), "a stands still");
    for answered in answers {
        assert!(matches!(heard(answered).await.unwrap().unwrap().outcome, Outcome::Aborted { .. }));
    }
    world.settle().await;
    world.received.clear();
    assert_eq!(one_more(&mut world, whole(None)).await, None, "nobody waits any more");
}
