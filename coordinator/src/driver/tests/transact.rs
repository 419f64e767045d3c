//! Whole transactions: what agents are told, which life of them does the work, and what clients hear.

use tokio::sync::oneshot;
use votum_proto::names::{Gid, Gtid};
use votum_proto::v1;
use votum_proto::v1::coordinator_message::Kind;
use votum_proto::v1::vote;

use super::super::request::{Begin, Outcome, Request, RequestError, Transact, Transacted, Wait};
use super::world::{AGENT, World, heard, life, name, plain};
use crate::protocol::record::KeyRecord;

pub(super) type Answered = oneshot::Receiver<Result<Transacted, RequestError>>;

pub(super) fn whole(key: Option<KeyRecord>) -> Transact {
    let work = |participant: &str| {
        let statement = v1::WorkStatement { statement: format!("at {participant}"), ..Default::default() };
        let read_only = participant == "b";
        (name(participant), v1::BranchWork { statements: vec![statement], read_only, ..Default::default() })
    };
    let begin = Begin { key, ..plain() };
    let isolation = v1::Isolation::Serializable;
    Transact {
        begin,
        isolation,
        read_only: false,
        branches: vec![work("a"), work("b")],
        wait: Wait::Decided,
        attempt: None,
        life: String::new(),
        repeated: false,
        last_agent: false,
    }
}

pub(super) fn key(hash: u8) -> Option<KeyRecord> {
    Some(KeyRecord { client: String::new(), key: "k".into(), request_hash: [hash; 32] })
}

pub(super) async fn transact(world: &mut World, transact: Transact) -> Answered {
    let (answer, answered) = oneshot::channel();
    world.driver.send(Request::Transact(transact, answer)).await;
    world.settle().await;
    answered
}

/// The orders with work that the agent was given since the last look.
pub(super) fn orders(world: &mut World) -> Vec<v1::Prepare> {
    let messages = std::mem::take(&mut world.received).into_iter();
    let order = |message: v1::CoordinatorMessage| match message.kind {
        Some(Kind::Prepare(prepare)) => Some(prepare),
        _ => None,
    };
    messages.filter_map(order).collect()
}

pub(super) async fn votes(world: &mut World, order: &v1::Prepare, kind: vote::Kind, rows: u64) {
    let failed = v1::FailedStatement { participant: order.participant.clone(), statement: 1, sql: None };
    let vote = v1::Vote {
        gtid: order.gtid.clone(),
        participant: order.participant.clone(),
        gid: order.gid.clone(),
        results: vec![v1::StatementResult { row_count: rows, ..Default::default() }],
        failed: matches!(kind, vote::Kind::No(_)).then(|| Box::new(failed)),
        kind: Some(kind),
    };
    world.agent_says(v1::agent_message::Kind::Vote(vote)).await;
}

pub(super) fn yes() -> vote::Kind {
    vote::Kind::Yes(v1::VoteYes { xid8: 700, system_identifier: 11, timeline: 1, marker: false })
}

pub(super) fn hello(instance: u64) -> v1::AgentHello {
    v1::AgentHello { instance, can_work: true, ..World::hello() }
}

async fn ready() -> World {
    let mut world = World::ready().await;
    world.connect(hello(AGENT)).await;
    world.received.clear();
    world
}

#[tokio::test]
async fn each_agent_is_given_its_work_and_what_came_of_it_is_told_with_the_outcome() {
    let mut world = ready().await;
    let mut answered = transact(&mut world, whole(None)).await;
    let given = orders(&mut world);
    for (order, participant) in given.iter().zip(["a", "b"]) {
        let work = order.work.as_ref().unwrap();
        assert_eq!(work.statements[0].statement, format!("at {participant}"));
        let options = work.options.unwrap();
        assert_eq!(
            (options.isolation(), options.read_only),
            (v1::Isolation::Serializable, participant == "b")
        );
        assert!((1..=30_000).contains(&options.timeout_ms), "{}", options.timeout_ms);
        assert_eq!(order.session, Some(v1::SessionName { agent_instance: AGENT, counter: 0 }));
    }
    votes(&mut world, &given[1], vote::Kind::ReadOnly(v1::VoteReadOnly {}), 2).await;
    votes(&mut world, &given[0], yes(), 1).await;
    assert!(answered.try_recv().is_err(), "I3");
    world.force().await;
    let done = heard(answered).await.unwrap().unwrap();
    assert!(matches!(done.outcome, Outcome::Committed { .. }));
    assert_eq!(done.gtid.to_string(), given[0].gtid);
    let counts: Vec<_> = done.results.iter().map(|branch| branch.statements[0].row_count).collect();
    assert_eq!(counts, [1, 2]);
}

#[tokio::test]
async fn after_a_no_the_statement_is_told_and_no_results_are() {
    let mut world = ready().await;
    let answered = transact(&mut world, whole(None)).await;
    let given = orders(&mut world);
    votes(&mut world, &given[0], yes(), 1).await;
    votes(&mut world, &given[1], vote::Kind::No(v1::VoteNo::default()), 0).await;
    let done = heard(answered).await.unwrap().unwrap();
    assert!(matches!(done.outcome, Outcome::Aborted { .. }));
    assert_eq!((done.results, done.failed.unwrap().participant.as_str()), (vec![], "b"));
    assert_eq!(world.told().await, "rollback@a rollback@b");
}

/// I9, I15: the same life is asked again, which answers with the vote that it gave; another has not done the work, and
/// never does.
#[tokio::test]
async fn an_agent_that_is_back_is_given_the_work_again_only_if_it_is_the_same_life() {
    for (instance, same) in [(AGENT, true), (AGENT + 1, false)] {
        let mut world = ready().await;
        let answered = transact(&mut world, whole(None)).await;
        let first = orders(&mut world);
        world.disconnect().await;
        world.connect(hello(instance)).await;
        let again = orders(&mut world);
        if same {
            assert_eq!(again.len(), 2);
            assert_eq!(
                again[0].work.as_ref().unwrap().statements,
                first[0].work.as_ref().unwrap().statements
            );
            assert_eq!(again[0].session, first[0].session);
        } else {
            assert!(again.is_empty(), "{again:?}");
            let done = heard(answered).await.unwrap().unwrap();
            assert!(matches!(done.outcome, Outcome::Aborted { .. }));
        }
    }
}

#[tokio::test]
async fn nothing_is_begun_where_an_agent_is_away_or_too_old() {
    let mut world = ready().await;
    let not_begun = |answer: Result<Transacted, RequestError>| match answer {
        Err(RequestError::NotBegun(why)) => why,
        other => panic!("{other:?}"),
    };
    world.disconnect().await;
    let answered = transact(&mut world, whole(None)).await;
    assert!(not_begun(heard(answered).await.unwrap()).contains("not connected"));
    world.connect(World::hello()).await;
    let answered = transact(&mut world, whole(None)).await;
    assert!(not_begun(heard(answered).await.unwrap()).contains("older version"));
    assert!(orders(&mut world).is_empty());
    let mut elsewhere = whole(None);
    elsewhere.branches[0].0 = name("elsewhere");
    let answered = transact(&mut world, elsewhere).await;
    assert!(matches!(heard(answered).await.unwrap(), Err(RequestError::Invalid(_))));
    let status = world.driver.ask(Request::Status).await.unwrap();
    assert_eq!(status.in_flight, 0, "something was begun");
}

/// I5, I15.
#[tokio::test]
async fn the_same_work_under_a_key_has_one_outcome_and_other_work_is_refused() {
    let mut world = ready().await;
    let first = transact(&mut world, whole(key(1))).await;
    let given = orders(&mut world);
    let joined = transact(&mut world, whole(key(1))).await;
    assert!(orders(&mut world).is_empty(), "it was begun twice");
    let other = transact(&mut world, whole(key(2))).await;
    assert!(matches!(heard(other).await.unwrap(), Err(RequestError::KeyMismatch(_))));
    votes(&mut world, &given[0], yes(), 1).await;
    votes(&mut world, &given[1], yes(), 2).await;
    world.force().await;
    let (first, joined) = (heard(first).await.unwrap().unwrap(), heard(joined).await.unwrap().unwrap());
    assert_eq!(first, joined);

    // Once it has left memory, by its record.
    let gid = |branch| Gid { gtid: given[0].gtid.parse::<Gtid>().unwrap(), branch, branches: 2 };
    world.agent_has(&gid(0), "a", true).await;
    world.agent_has(&gid(1), "b", true).await;
    world.force().await;
    let later = transact(&mut world, whole(key(1))).await;
    let later = heard(later).await.unwrap().unwrap();
    assert_eq!((&later.gtid, later.results.len()), (&first.gtid, 0));
    assert!(matches!(later.outcome, Outcome::Committed { .. }));
}

/// I4: a request that is late finds the answer that its repetition was given, or the life over that it was meant for.
#[tokio::test]
async fn a_request_is_carried_out_once_whatever_became_of_it() {
    let mut world = ready().await;
    let named = || Transact { attempt: Some(9), life: life(7).to_string(), ..whole(key(1)) };
    let first = transact(&mut world, named()).await;
    let given = orders(&mut world);
    votes(&mut world, &given[0], vote::Kind::No(v1::VoteNo::default()), 0).await;
    let first = heard(first).await.unwrap().unwrap();
    assert!(matches!(first.outcome, Outcome::Aborted { .. }));
    for _ in 0..2 {
        let late = transact(&mut world, named()).await;
        let late = heard(late).await.unwrap().unwrap();
        assert_eq!(late.gtid, first.gtid);
        assert!(matches!(late.outcome, Outcome::Aborted { .. }), "{:?}", late.outcome);
        // Then it has left memory.
        world.force().await;
        for (branch, participant) in [(0, "a"), (1, "b")] {
            let gid = Gid { gtid: first.gtid.clone(), branch, branches: 2 };
            world.agent_has(&gid, participant, false).await;
        }
        world.force().await;
    }
    let another = Transact { attempt: Some(10), life: "6-00abc6".into(), ..whole(key(1)) };
    let another = transact(&mut world, another).await;
    assert!(matches!(heard(another).await.unwrap(), Err(RequestError::OtherLife { .. })));
    assert!(orders(&mut world).is_empty());
}

/// After an abort the key is free.
#[tokio::test]
async fn the_same_work_is_run_again_after_an_abort() {
    let mut world = ready().await;
    let first = transact(&mut world, whole(key(1))).await;
    let given = orders(&mut world);
    votes(&mut world, &given[0], vote::Kind::No(v1::VoteNo::default()), 0).await;
    let first = heard(first).await.unwrap().unwrap();
    assert!(matches!(first.outcome, Outcome::Aborted { .. }));
    drop(transact(&mut world, whole(key(1))).await);
    let again = orders(&mut world);
    assert_eq!(again.len(), 2);
    assert_ne!(again[0].gtid, given[0].gtid);
}

/// I11.
#[tokio::test]
async fn after_a_doubtful_write_nobody_is_told_anything() {
    let mut world = ready().await;
    let waiting = transact(&mut world, whole(None)).await;
    world.doubtful().await;
    let waiting = heard(waiting).await.unwrap().unwrap();
    assert!(matches!(waiting.outcome, Outcome::Unknown(_)), "{:?}", waiting.outcome);
    let later = transact(&mut world, whole(key(1))).await;
    assert!(matches!(heard(later).await.unwrap(), Err(RequestError::LogFailed(_))));
}

/// I15: what may have been forgotten is not carried out again on a client's word.
#[tokio::test]
async fn a_repetition_that_comes_when_its_first_attempt_may_be_forgotten_is_refused() {
    let mut world = World::ready_with((5, 1)).await;
    world.connect(hello(AGENT)).await;
    world.received.clear();
    let named = |attempt, repeated| Transact {
        attempt: Some(attempt),
        life: life(7).to_string(),
        repeated,
        ..whole(None)
    };
    // A repetition whose first attempt never came is carried out.
    drop(transact(&mut world, named(1, true)).await);
    let given = orders(&mut world);
    assert_eq!(given.len(), 2);
    votes(&mut world, &given[0], vote::Kind::No(v1::VoteNo::default()), 0).await;
    for attempt in 2..=65_540 {
        drop(transact(&mut world, named(attempt, false)).await);
        let given = orders(&mut world);
        // Now and then a lease of names has to reach the disk.
        world.force().await;
        if let Some(first) = given.first() {
            let gid: Gid = first.gid.parse().unwrap();
            votes(&mut world, first, vote::Kind::No(v1::VoteNo::default()), 0).await;
            for (branch, participant) in [(0, "a"), (1, "b")] {
                world.agent_ended(&Gid { branch, ..gid.clone() }, participant, false);
            }
        }
    }
    let late = transact(&mut world, named(1, true)).await;
    assert!(matches!(heard(late).await.unwrap(), Err(RequestError::Invalid(why)) if why.contains("so late")));
    // One that comes for the first time cannot have been forgotten.
    drop(transact(&mut world, named(65_541, false)).await);
    world.force().await;
    let given = orders(&mut world);
    assert_eq!(given.len(), 2);
    // Nor one that waits for room, or has waited in vain.
    let waiting = transact(&mut world, named(65_542, false)).await;
    let mut again = transact(&mut world, named(65_542, true)).await;
    assert!(again.try_recv().is_err(), "it joins the one that waits");
    drop((waiting, again));
    votes(&mut world, &given[0], vote::Kind::No(v1::VoteNo::default()), 0).await;
    assert_eq!(orders(&mut world), [], "nobody waits for it");
    drop(transact(&mut world, named(65_542, true)).await);
    world.force().await;
    assert_eq!(orders(&mut world).len(), 2);
}
