//! Whole transactions of which the last branch decides: which one that is, what it is told, and what clients hear.

use std::time::Duration;

use tokio::sync::oneshot;
use votum_proto::names::Gid;
use votum_proto::v1;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::coordinator_message::Kind;
use votum_proto::v1::gone::Marker;
use votum_proto::v1::vote;

use super::super::request::{Outcome, Request, RequestError, Transact, Transacted, Wait};
use super::world::{AGENT, World, decided_commit, gid, gtid, heard, name, plain};
use crate::log::TransactionHistory;
use crate::protocol::record::{PreparedBranch, Record};

type Answered = oneshot::Receiver<Result<Transacted, RequestError>>;

/// Work at a and b, of which the last that can is to decide.
fn whole() -> Transact {
    let work = |participant: &str| {
        let statement = v1::WorkStatement { statement: format!("at {participant}"), ..Default::default() };
        (name(participant), v1::BranchWork { statements: vec![statement], ..Default::default() })
    };
    Transact {
        begin: plain(),
        isolation: v1::Isolation::Serializable,
        read_only: false,
        branches: vec![work("a"), work("b")],
        wait: Wait::Decided,
        attempt: None,
        life: String::new(),
        repeated: false,
        last_agent: true,
    }
}

/// An agent that can, behind which these databases keep markers.
fn hello(markers: &[&str]) -> v1::AgentHello {
    let listing = |participant: &str| v1::Listing {
        system_identifier: 11,
        timeline: 1,
        // Each its own.
        database: participant.into(),
        can_decide: markers.contains(&participant),
        ..World::listing(participant, Vec::new())
    };
    let listings = vec![listing("a"), listing("b")];
    v1::AgentHello { can_work: true, can_decide: true, listings, ..World::hello() }
}

async fn ready(hello: v1::AgentHello) -> World {
    let mut world = World::ready().await;
    world.connect(hello).await;
    world.received.clear();
    world
}

async fn transact(world: &mut World, transact: Transact) -> Answered {
    let (answer, answered) = oneshot::channel();
    world.driver.send(Request::Transact(transact, answer)).await;
    world.settle().await;
    answered
}

fn orders(world: &mut World) -> Vec<Kind> {
    std::mem::take(&mut world.received).into_iter().filter_map(|message| message.kind).collect()
}

/// The one order that there is: to prepare.
fn prepare(world: &mut World) -> v1::Prepare {
    match orders(world).as_slice() {
        [Kind::Prepare(order)] => order.clone(),
        other => panic!("{other:?}"),
    }
}

fn decide(world: &mut World) -> v1::CommitOnePhase {
    match orders(world).as_slice() {
        [Kind::CommitOnePhase(order)] => order.clone(),
        other => panic!("{other:?}"),
    }
}

async fn votes_yes(world: &mut World, order: &v1::Prepare) {
    let yes = v1::VoteYes { xid8: 700, system_identifier: 11, timeline: 1, marker: true };
    let vote = v1::Vote {
        gtid: order.gtid.clone(),
        participant: order.participant.clone(),
        gid: order.gid.clone(),
        results: vec![v1::StatementResult { row_count: 1, ..Default::default() }],
        failed: None,
        kind: Some(vote::Kind::Yes(yes)),
    };
    world.agent_says(v1::agent_message::Kind::Vote(vote)).await;
}

async fn ends(world: &mut World, order: &v1::CommitOnePhase, end: v1::BranchEnd) {
    let end = v1::BranchEnd {
        gtid: order.gtid.clone(),
        participant: order.participant.clone(),
        gid: order.gid.clone(),
        was_commit: true,
        ..end
    };
    world.agent_says(v1::agent_message::Kind::BranchEnd(end)).await;
}

/// What the database is told to do, and what its client hears, up to the word that it is to decide.
async fn handed_over(world: &mut World) -> (Answered, v1::Prepare, v1::CommitOnePhase) {
    let answered = transact(world, whole()).await;
    let sibling = prepare(world);
    assert_eq!(sibling.participant, "a");
    votes_yes(world, &sibling).await;
    assert!(orders(world).is_empty(), "I3: the record is not on disk");
    world.force().await;
    (answered, sibling, decide(world))
}

#[tokio::test]
async fn the_last_branch_is_given_its_work_when_the_delegation_is_on_disk_and_its_commit_is_told() {
    let mut world = ready(hello(&["a", "b"])).await;
    let (answered, sibling, order) = handed_over(&mut world).await;
    assert_eq!((order.participant.as_str(), order.system_identifier, order.timeline), ("b", 11, 1));
    assert_eq!(order.session, Some(v1::SessionName { agent_instance: AGENT, counter: 0 }));
    let work = order.work.clone().unwrap();
    assert_eq!(work.statements[0].statement, "at b");
    let timeout_ms = work.options.unwrap().timeout_ms;
    assert!((20_000..=30_000).contains(&timeout_ms), "{timeout_ms}");
    let results = vec![v1::StatementResult { row_count: 2, ..Default::default() }];
    let end = v1::BranchEnd { kind: Some(End::Done(v1::Done {})), results, ..Default::default() };
    ends(&mut world, &order, end).await;
    let done = heard(answered).await.unwrap().unwrap();
    assert!(matches!(done.outcome, Outcome::Committed { .. }), "{:?}", done.outcome);
    assert_eq!(done.decided_by, Some(name("b")));
    let counts: Vec<_> = done.results.iter().map(|branch| branch.statements[0].row_count).collect();
    assert_eq!(counts, [1, 2]);
    let [Kind::Commit(commit)] = &orders(&mut world)[..] else { panic!("one sibling follows") };
    assert_eq!((commit.gid.as_str(), commit.compare_first), (sibling.gid.as_str(), false));
}

/// It begins its work when no vote is awaited any more.
#[tokio::test]
async fn the_last_branch_has_its_place_among_those_at_work_until_it_has_ended() {
    let mut world = World::ready_with((100, 1)).await;
    world.connect(hello(&["a", "b"])).await;
    world.received.clear();
    let (_first, _, order) = handed_over(&mut world).await;
    let _second = transact(&mut world, whole()).await;
    assert_eq!(orders(&mut world), [], "b is at work");
    let end = v1::BranchEnd { kind: Some(End::Done(v1::Done {})), ..Default::default() };
    ends(&mut world, &order, end).await;
    let begun = orders(&mut world).into_iter().filter(|order| matches!(order, Kind::Prepare(_)));
    assert_eq!(begun.count(), 1);
}

#[tokio::test]
async fn a_statement_that_fails_at_the_last_branch_is_told_and_its_siblings_are_rolled_back() {
    let mut world = ready(hello(&["a", "b"])).await;
    let (answered, _, order) = handed_over(&mut world).await;
    let failed = v1::FailedStatement { participant: "b".into(), statement: 1, sql: None };
    let kind = Some(End::Refused(v1::Refused::default()));
    ends(&mut world, &order, v1::BranchEnd { kind, failed: Some(failed), ..Default::default() }).await;
    let done = heard(answered).await.unwrap().unwrap();
    assert!(matches!(done.outcome, Outcome::Aborted { .. }), "{:?}", done.outcome);
    assert_eq!((done.failed.unwrap().participant.as_str(), done.decided_by), ("b", Some(name("b"))));
    assert_eq!(world.told().await, "rollback@a");
}

/// I9, R13: an agent that is back may have carried the first one out.
#[tokio::test]
async fn the_work_goes_out_once_and_what_became_of_it_is_settled() {
    let mut world = ready(hello(&["a", "b"])).await;
    let (answered, _, order) = handed_over(&mut world).await;
    world.disconnect().await;
    world.connect(hello(&["a", "b"])).await;
    let again = decide(&mut world);
    assert_eq!((again.gid.as_str(), again.work.as_ref()), (order.gid.as_str(), None));
    let gone = v1::Gone {
        system_identifier: 11,
        timeline: 1,
        marker: Marker::Committed.into(),
        ..Default::default()
    };
    ends(&mut world, &again, v1::BranchEnd { kind: Some(End::Gone(gone)), ..Default::default() }).await;
    let done = heard(answered).await.unwrap().unwrap();
    assert!(matches!(done.outcome, Outcome::Committed { .. }), "{:?}", done.outcome);
    let counts: Vec<_> = done.results.iter().map(|branch| branch.statements.len()).collect();
    assert_eq!(counts, [1, 0], "what it returned was lost with its answer");
    assert_eq!(world.told().await, "commit@a~");
}

/// The last in the request that can: not one that is begun READ ONLY, nor one without markers.
#[tokio::test]
async fn where_no_branch_can_decide_all_are_prepared_and_it_is_said() {
    let older = v1::AgentHello { can_decide: false, ..hello(&["a", "b"]) };
    let mut reads = whole();
    reads.branches[1].1.read_only = true;
    let alone = Transact { branches: vec![whole().branches.remove(0)], ..whole() };
    let nobody_asked = Transact { last_agent: false, ..whole() };
    for (hello, request, told) in [
        (hello(&["a", "b"]), whole(), "prepare@a"),
        (hello(&["a"]), whole(), "prepare@b"),
        (hello(&["a", "b"]), reads, "prepare@b"),
        (hello(&[]), whole(), "prepare@a prepare@b"),
        (older, whole(), "prepare@a prepare@b"),
        (hello(&["a", "b"]), alone, "prepare@a"),
        (hello(&["a", "b"]), nobody_asked, "prepare@a prepare@b"),
    ] {
        let mut world = ready(hello).await;
        let prepared = told.split(' ').count() == request.branches.len();
        let asked = request.last_agent && request.branches.len() > 1;
        let _answered = transact(&mut world, request).await;
        assert_eq!(world.told().await, told);
        let counted = async |decided: &str| {
            let name = format!("votum_transactions_last_agent_total{{decided=\"{decided}\"}}");
            world.shown(&name).await.unwrap()
        };
        let found = (counted("coordinator").await, counted("participant").await);
        let by = |it: bool| f64::from(u8::from(asked && it));
        assert_eq!(found, (by(prepared), by(!prepared)), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_branch_that_decides_and_is_at_its_statements_is_not_answered_before_its_time_is_over()
 {
    let mut world = ready(hello(&["a", "b"])).await;
    let (mut answered, ..) = handed_over(&mut world).await;
    tokio::time::advance(Duration::from_secs(29)).await;
    world.settle().await;
    assert!(answered.try_recv().is_err(), "its statements may run for as long");
    tokio::time::advance(Duration::from_secs(120)).await;
    world.settle().await;
    let done = heard(answered).await.unwrap().unwrap();
    assert!(matches!(done.outcome, Outcome::Unknown(_)), "{:?}", done.outcome);
}

/// The sibling at `a` was prepared, and the decision was handed to `b`.
fn delegated() -> TransactionHistory {
    let mut decided = decided_commit(6, 3);
    decided.branches.truncate(1);
    decided.branches.push(PreparedBranch {
        number: 1,
        participant: name("b"),
        xid8: 0,
        system_identifier: 11,
        timeline: 1,
        marker: true,
    });
    let mut history = TransactionHistory::default();
    history.add(2, 0, Record::Delegated(decided));
    history
}

#[tokio::test]
async fn r13_a_later_life_has_it_settled_and_leaves_its_siblings_until_then() {
    for (marker, committed) in [(Marker::Committed, true), (Marker::Aborted, false)] {
        let mut world = World::with_owed(vec![delegated()]);
        let row = World::row(&gid(6, 3, 0), 700);
        let listings = vec![World::listing("a", vec![row]), World::listing("b", Vec::new())];
        world.connect(v1::AgentHello { listings, ..hello(&["b"]) }).await;
        let told = world.told().await;
        assert!(told.contains("one-phase@b"), "{told}");
        assert!(!told.contains("commit@a") && !told.contains("rollback@a"), "R13s: {told}");
        let gone =
            v1::Gone { system_identifier: 11, timeline: 1, marker: marker.into(), ..Default::default() };
        let end = World::end(&gid(6, 3, 1), "b", true, End::Gone(gone));
        world.agent_says(end).await;
        let told = world.told().await;
        assert_eq!(told, if committed { "commit@a?" } else { "rollback@a" });
        let end = World::end(&gid(6, 3, 0), "a", committed, End::Done(v1::Done {}));
        world.agent_says(end).await;
        world.force().await;
        let outcome = world.get(gtid(6, 3)).await.unwrap();
        assert_eq!(matches!(outcome, Outcome::Committed { .. }), committed, "{outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Aborted { .. }), !committed, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_sibling_of_another_name_is_no_part_of_what_was_handed_over() {
    let mut world = World::with_owed(vec![delegated()]);
    world.connect(hello(&["b"])).await;
    world.told().await;
    let other: Gid = gid(6, 3, 0);
    world.agent_says(World::end(&other, "a", true, End::Done(v1::Done {}))).await;
    assert_eq!(world.told().await, "", "only the branch that decides decides");
}
