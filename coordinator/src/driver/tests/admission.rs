//! More whole transactions than a participant carries out.

use std::time::Duration;

use votum_proto::runtime::Seams;
use votum_proto::v1;

use super::super::request::{Begin, Outcome, RequestError, Transact};
use super::transact::{Answered, hello, orders, transact, votes, whole, yes};
use super::world::{AGENT, World, heard, name, plain};

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

/// What is said to one who would work at these participants; `None` where it is begun.
async fn refused(world: &World, participants: &[&str], attached: &[&str]) -> Option<(String, Duration)> {
    let names = |names: &[&str]| names.iter().map(|each| name(each)).collect();
    let begun = world
        .begin_as(Begin { attached: names(attached), participants: names(participants), ..plain() })
        .await;
    match begun {
        Ok(_) => None,
        Err(RequestError::WouldWait { participant, expected, .. }) => {
            Some((participant.to_string(), expected))
        }
        Err(other) => panic!("{other}"),
    }
}

const LONG: u64 = 1_600;

async fn ready() -> World {
    let mut world = World::ready_for(1_000).await;
    world.connect(v1::AgentHello { can_verify_attached: true, ..hello(AGENT) }).await;
    world
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_that_would_find_no_session_at_any_participant() {
    let mut world = ready().await;
    world.agent_has_queues(&[("a", LONG)]).await;
    assert_eq!(refused(&world, &[], &[]).await, None, "it may work at b alone");
    world.agent_has_queues(&[("a", LONG), ("b", LONG - 100)]).await;
    let soonest = ("b".to_owned(), Duration::from_millis(LONG - 100));
    assert_eq!(refused(&world, &[], &[]).await, Some(soonest));
    assert_eq!(refused(&world, &[], &["a"]).await, None, "it may need none but the application's own");
    world.agent_has_queues(&[("a", LONG), ("b", 900)]).await;
    assert_eq!(refused(&world, &[], &[]).await, None, "at b it would not wait for long");
}

#[tokio::test(start_paused = true)]
async fn who_says_where_it_will_work_is_refused_where_one_of_these_has_no_session() {
    let mut world = ready().await;
    world.agent_has_queues(&[("a", LONG)]).await;
    let at_a = Some(("a".to_owned(), Duration::from_millis(LONG)));
    assert_eq!(refused(&world, &["a", "b"], &[]).await, at_a);
    assert_eq!(refused(&world, &["a"], &["b"]).await, at_a);
    assert_eq!(refused(&world, &["b"], &[]).await, None);
    let begin = Begin { participants: vec![name("nowhere")], ..plain() };
    assert!(matches!(world.begin_as(begin).await, Err(RequestError::Invalid(_))));
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_said_of_its_queues_is_worth_less_as_time_passes_and_nothing_once_it_says_otherwise() {
    let mut world = ready().await;
    world.agent_has_queues(&[("a", LONG)]).await;
    passes(Duration::from_millis(599)).await;
    assert_eq!(refused(&world, &["a"], &[]).await, Some(("a".to_owned(), Duration::from_millis(LONG - 599))));
    passes(Duration::from_millis(1)).await;
    assert_eq!(refused(&world, &["a"], &[]).await, None);

    world.agent_has_queues(&[("a", LONG)]).await;
    assert!(refused(&world, &["a"], &[]).await.is_some());
    world.agent_has_queues(&[]).await;
    assert_eq!(refused(&world, &["a"], &[]).await, None);

    world.agent_has_queues(&[("a", LONG)]).await;
    world.disconnect().await;
    assert_eq!(refused(&world, &["a"], &[]).await, None, "it waits for its agent, and not for others");
}
