//! Participants that have no room for one more whole transaction.

use std::time::Duration;

use tokio::sync::oneshot;
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::vote;

use super::super::request::{Outcome, Request, RequestError, Transact, Wait};
use super::transact::{Answered, hello, orders, transact, votes, whole, yes};
use super::world::{AGENT, World, heard, name};

const LIVE: usize = 4;

/// Where each participant has room for one.
async fn narrow() -> World {
    let mut world = World::ready_with((LIVE, 1)).await;
    world.connect(hello(AGENT)).await;
    world.received.clear();
    world
}

fn at(participant: &str) -> Transact {
    let mut transact = whole(None);
    transact.branches.retain(|(at, _)| *at == name(participant));
    transact
}

/// Where a transaction was asked to work, since the last look.
fn begun_at(given: &[v1::Prepare]) -> Vec<&str> {
    given.iter().map(|order| order.participant.as_str()).collect()
}

/// That transaction ends with a no there.
async fn refuses(world: &mut World, order: &v1::Prepare) {
    votes(world, order, vote::Kind::No(v1::VoteNo::default()), 0).await;
}

async fn passes(time: Duration) {
    Seams::production().clock.sleep(time).await;
}

#[tokio::test]
async fn what_finds_no_room_is_begun_once_all_of_its_participants_have_some() {
    let mut world = narrow().await;
    let _first = transact(&mut world, whole(None)).await;
    let given = orders(&mut world);
    assert_eq!(begun_at(&given), ["a", "b"]);
    let mut second = transact(&mut world, whole(None)).await;
    let mut third = transact(&mut world, at("a")).await;
    assert_eq!(orders(&mut world), []);
    votes(&mut world, &given[0], yes(), 1).await;
    let now = orders(&mut world);
    assert_eq!(begun_at(&now), ["a"], "the second waits for b now, and the third for nothing");
    votes(&mut world, &now[0], yes(), 1).await;
    assert_eq!(orders(&mut world), [], "b is at work");
    votes(&mut world, &given[1], yes(), 1).await;
    assert_eq!(begun_at(&orders(&mut world)), ["a", "b"]);
    assert!(second.try_recv().is_err() && third.try_recv().is_err());
}

#[tokio::test]
async fn those_that_wait_for_the_same_participant_are_begun_in_their_order_and_before_who_comes_then() {
    let mut world = narrow().await;
    let _working = transact(&mut world, at("a")).await;
    let [working] = orders(&mut world).try_into().unwrap();
    let labelled = |label: &str| {
        let mut transact = at("a");
        label.clone_into(&mut transact.branches[0].1.statements[0].statement);
        transact
    };
    let _queued = [transact(&mut world, labelled("1")).await, transact(&mut world, labelled("2")).await];
    let mut last = working;
    for expected in ["1", "2", "3"] {
        // In the same turn as the vote: it does not take the place of who waits.
        refuses_unheard(&world, &last);
        let _later = transact(&mut world, labelled("3")).await;
        let [order] = orders(&mut world).try_into().unwrap();
        assert_eq!(order.work.as_ref().unwrap().statements[0].statement, expected);
        last = order;
    }
}

/// As [`refuses`]; the driver takes it when it comes to it.
fn refuses_unheard(world: &World, order: &v1::Prepare) {
    world.agent_tells(v1::agent_message::Kind::Vote(v1::Vote {
        gtid: order.gtid.clone(),
        participant: order.participant.clone(),
        gid: order.gid.clone(),
        kind: Some(vote::Kind::No(v1::VoteNo::default())),
        ..Default::default()
    }));
}

#[tokio::test]
async fn a_participant_that_hangs_keeps_nobody_waiting_who_has_no_work_there() {
    let mut world = narrow().await;
    let _hangs = transact(&mut world, at("a")).await;
    let _working = transact(&mut world, at("b")).await;
    let given = orders(&mut world);
    assert_eq!(begun_at(&given), ["a", "b"]);
    let _at_both = transact(&mut world, whole(None)).await;
    let _at_b = transact(&mut world, at("b")).await;
    assert_eq!(orders(&mut world), []);
    refuses(&mut world, &given[1]).await;
    let given = orders(&mut world);
    assert_eq!(begun_at(&given), ["b"]);
    refuses(&mut world, &given[0]).await;
    let _next = transact(&mut world, at("b")).await;
    assert_eq!(begun_at(&orders(&mut world)), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_one_that_waits_for_room_passes() {
    let mut world = narrow().await;
    let _working = transact(&mut world, at("a")).await;
    let [working] = orders(&mut world).try_into().unwrap();
    let hasty = |seconds: u64| {
        let mut transact = at("a");
        transact.begin.timeout = Duration::from_secs(seconds);
        transact
    };
    let refused = transact(&mut world, hasty(5)).await;
    let _later = transact(&mut world, hasty(20)).await;
    passes(Duration::from_secs(6)).await;
    assert!(matches!(heard(refused).await.unwrap(), Err(RequestError::WouldWait { .. })));
    refuses(&mut world, &working).await;
    let [order] = orders(&mut world).try_into().unwrap();
    assert_eq!(order.work.unwrap().options.unwrap().timeout_ms, 14_000);
}

#[tokio::test]
async fn one_whose_client_is_gone_is_not_begun() {
    let mut world = narrow().await;
    let _working = transact(&mut world, at("a")).await;
    let [working] = orders(&mut world).try_into().unwrap();
    drop(transact(&mut world, at("a")).await);
    let mut statement = at("a");
    statement.begin.label = "the next".into();
    let _next = transact(&mut world, statement).await;
    refuses(&mut world, &working).await;
    let [order] = orders(&mut world).try_into().unwrap();
    refuses(&mut world, &order).await;
    assert_eq!(orders(&mut world), [], "one of them was begun");
}

/// A client that heard nothing sends its request again.
#[tokio::test]
async fn a_request_that_is_repeated_while_it_waits_is_carried_out_once() {
    let mut world = narrow().await;
    let _working = transact(&mut world, at("a")).await;
    let [working] = orders(&mut world).try_into().unwrap();
    let mut named = at("a");
    (named.attempt, named.life) = (Some(7), super::world::life(7).to_string());
    let answers = [
        transact(&mut world, named.clone()).await,
        transact(&mut world, Transact { repeated: true, ..named }).await,
    ];
    refuses(&mut world, &working).await;
    let [order] = orders(&mut world).try_into().unwrap();
    refuses(&mut world, &order).await;
    assert_eq!(orders(&mut world), []);
    for answered in answers {
        let done = heard(answered).await.unwrap().unwrap();
        assert_eq!(done.gtid.to_string(), order.gtid);
        assert!(matches!(done.outcome, Outcome::Aborted { .. }));
    }
}

#[tokio::test]
async fn one_that_finds_room_and_no_gtid_waits_for_the_next_lease() {
    let mut world = World::ready_with((100, 1)).await;
    world.connect(hello(AGENT)).await;
    world.received.clear();
    let _working = transact(&mut world, at("a")).await;
    let [working] = orders(&mut world).try_into().unwrap();
    let mut waiting = transact(&mut world, at("a")).await;
    // The lease in hand is of ten.
    for _ in 1..10 {
        world.begin().await.unwrap();
    }
    refuses(&mut world, &working).await;
    assert_eq!((orders(&mut world), waiting.try_recv().is_err()), (vec![], true));
    world.force().await;
    assert_eq!(begun_at(&orders(&mut world)), ["a"]);
}

#[tokio::test]
async fn a_request_that_is_repeated_when_there_is_room_for_both_is_carried_out_once() {
    for by_key in [false, true] {
        let mut world = World::ready_with((100, 2)).await;
        world.connect(hello(AGENT)).await;
        world.received.clear();
        let _working = [transact(&mut world, at("a")).await, transact(&mut world, at("a")).await];
        let working = orders(&mut world);
        let mut named = at("a");
        if by_key {
            named.begin.key = super::transact::key(7);
        } else {
            (named.attempt, named.life) = (Some(7), super::world::life(7).to_string());
        }
        let first = transact(&mut world, named.clone()).await;
        let second = transact(&mut world, Transact { wait: Wait::Completed, ..named.clone() }).await;
        for order in &working {
            refuses_unheard(&world, order);
        }
        // Both places are free in this turn.
        let third = transact(&mut world, named).await;
        let [order] = orders(&mut world).try_into().unwrap();
        refuses(&mut world, &order).await;
        for answered in [first, second, third] {
            assert_eq!(heard(answered).await.unwrap().unwrap().gtid.to_string(), order.gtid);
        }
        assert_eq!(orders(&mut world), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_repeated_while_it_waits_hears_what_the_first_one_hears() {
    let mut world = narrow().await;
    let _working = transact(&mut world, at("a")).await;
    let mut named = at("a");
    (named.attempt, named.life) = (Some(7), super::world::life(7).to_string());
    let first = transact(&mut world, named.clone()).await;
    passes(Duration::from_secs(20)).await;
    let second = transact(&mut world, named).await;
    passes(Duration::from_secs(11)).await;
    for answered in [first, second] {
        assert!(matches!(heard(answered).await.unwrap(), Err(RequestError::WouldWait { .. })));
    }
}

/// Else those with work at one of them would go before it for ever.
#[tokio::test]
async fn one_with_work_at_two_participants_has_its_place_once_it_was_first_at_both() {
    let mut world = narrow().await;
    let _working = [transact(&mut world, at("a")).await, transact(&mut world, at("b")).await];
    let working = orders(&mut world);
    let _both = transact(&mut world, whole(None)).await;
    let _others = [transact(&mut world, at("a")).await, transact(&mut world, at("b")).await];
    refuses(&mut world, &working[0]).await;
    assert_eq!(begun_at(&orders(&mut world)), ["a"], "there is work at b still");
    refuses(&mut world, &working[1]).await;
    assert_eq!(begun_at(&orders(&mut world)), ["a", "b"]);
}

#[tokio::test]
async fn those_that_wait_are_counted_among_those_that_may_be_live() {
    let mut world = narrow().await;
    let _waiting: Vec<Answered> = {
        let mut waiting = Vec::new();
        for _ in 0..LIVE {
            waiting.push(transact(&mut world, at("a")).await);
        }
        waiting
    };
    let one_more = transact(&mut world, at("b")).await;
    assert!(matches!(heard(one_more).await.unwrap(), Err(RequestError::Overloaded { live: LIVE })));
}

#[tokio::test]
async fn whoever_waits_for_room_hears_when_nothing_is_begun_any_more() {
    for log_fails in [true, false] {
        let mut world = narrow().await;
        let _working = transact(&mut world, at("a")).await;
        let waiting = transact(&mut world, at("a")).await;
        if log_fails {
            world.doubtful().await;
        } else {
            let (answer, _drained) = oneshot::channel();
            world.driver.send(Request::Drain { grace: Duration::from_secs(1), answer }).await;
        }
        let said = heard(waiting).await.unwrap();
        match (log_fails, said) {
            (true, Err(RequestError::LogFailed(_))) | (false, Err(RequestError::NotBegun(_))) => {}
            (_, other) => panic!("{log_fails}: {other:?}"),
        }
    }
}

/// An agent that is gone works at nothing: what it did not answer is aborted, and its place is free.
#[tokio::test(start_paused = true)]
async fn one_that_waits_for_an_agent_that_is_gone_hears_that() {
    let mut world = narrow().await;
    let _working = transact(&mut world, at("a")).await;
    let mut patient = at("a");
    patient.begin.timeout *= 2;
    let waiting = transact(&mut world, patient).await;
    world.disconnect().await;
    passes(Duration::from_secs(31)).await;
    let said = heard(waiting).await.unwrap();
    assert!(matches!(said, Err(RequestError::NotBegun(_))), "{said:?}");
}
