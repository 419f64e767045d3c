//! A person has branches ended otherwise than decided.

use tokio::sync::oneshot::Receiver;
use votum_proto::names::Gid;
use votum_proto::v1;
use votum_proto::v1::branch_held::Kind as Held;
use votum_proto::v1::gone::XidStatus;

use super::super::request::{Outcome, Request, RequestError, Resolve, Wait};
use super::world::{World, decided_commit, gid, gtid, heard, name, owed_commit};
use crate::protocol::record::{
    AbortKind, AbortReason, Decided, Decision, Heuristic, HeuristicKind, Record, Resolved,
};

type Answered = Receiver<Result<v1::ResolveResponse, RequestError>>;

fn rollback(gid: &Gid, apply: bool) -> Resolve {
    Resolve {
        gid: gid.clone(),
        participant: name("a"),
        commit: false,
        operator: "ada".into(),
        reason: "the shop must open".into(),
        apply,
        heuristic: true,
    }
}

async fn depart(world: &mut World, resolve: Resolve) -> Answered {
    let (answer, answered) = tokio::sync::oneshot::channel();
    world.driver.send(Request::Resolve(resolve, answer)).await;
    world.settle().await;
    answered
}

async fn refused(world: &mut World, resolve: Resolve) -> RequestError {
    heard(depart(world, resolve).await).await.unwrap().unwrap_err()
}

/// A transaction of this life, decided commit; a's and b's commits are ordered.
async fn committing(world: &mut World) -> Gid {
    let (begun, _) = world.deciding(Wait::Decided).await;
    world.force().await;
    assert_eq!(world.told().await, "commit@a~ commit@b~");
    Gid { gtid: begun.gtid, branch: 0, branches: 2 }
}

fn kinds(world: &World) -> Vec<&'static str> {
    world.log.durable.records.lock().unwrap().iter().map(Record::kind).collect()
}

#[tokio::test]
async fn i1_nothing_is_recorded_before_the_agent_has_let_go_nor_ordered_before_that_is_on_disk() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let before = kinds(&world);
    let mut answered = depart(&mut world, rollback(&gid, true)).await;
    assert_eq!(world.told().await, "hold@a");
    world.force().await;
    assert_eq!(kinds(&world), before, "nothing is recorded yet");
    world.agent_lets_go(&gid, "a", 700).await;
    assert_eq!(world.told().await, "", "not before it is on disk");
    world.force().await;
    assert_eq!(world.told().await, "rollback@a");
    world.agent_has(&gid, "a", false).await;
    assert!(answered.try_recv().is_err(), "how it ended is not on disk");
    world.force().await;
    let response = heard(answered).await.unwrap().unwrap();
    assert_eq!((response.applied, response.result.as_str()), (true, "done"));
    assert_eq!(response.decision, "commit");
    assert_eq!(response.consequence, "this transaction is torn: rolled back at a, committed at b");
    assert_eq!(world.alarms().await, ["VOTUM-1407"]);
    let Outcome::Committed { pending, heuristics } = world.get(gid.gtid.clone()).await.unwrap() else {
        panic!("it is committed")
    };
    assert_eq!(pending, [name("b")]);
    assert_eq!(heuristics.len(), 1);
    assert_eq!((heuristics[0].kind, heuristics[0].xid8), (HeuristicKind::Rollback, 700));
    // Said again, it agrees with what is recorded; the other way it is refused.
    let again = heard(depart(&mut world, rollback(&gid, true)).await).await.unwrap().unwrap();
    assert!(!again.applied && again.judgement.contains("agrees"), "{again:?}");
    let other = Resolve { commit: true, ..rollback(&gid, true) };
    assert!(refused(&mut world, other).await.to_string().contains("the other way"));
    world.agent_has(&Gid { branch: 1, ..gid }, "b", true).await;
    world.force().await;
    assert_eq!(kinds(&world).last(), Some(&"Ended"));
    assert_eq!(world.alarms().await, ["VOTUM-1407"], "until it is acknowledged");
}

#[tokio::test]
async fn a_dry_run_says_what_would_come_of_it_and_does_nothing() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let dry = heard(depart(&mut world, rollback(&gid, false)).await).await.unwrap().unwrap();
    assert!(!dry.applied && dry.result.contains("dry run"), "{dry:?}");
    assert_eq!(dry.statements, [format!("a: ROLLBACK PREPARED '{gid}'")]);
    assert!(dry.judgement.contains("departs") && dry.judgement.contains("id 700"), "{dry:?}");
    assert!(dry.consequence.contains("torn"), "{dry:?}");
    assert_eq!(world.told().await, "");
    let unsaid = Resolve { heuristic: false, ..rollback(&gid, true) };
    let why = refused(&mut world, unsaid).await.to_string();
    assert!(why.contains("the decision is COMMIT") && why.contains("--heuristic"), "{why}");
    assert_eq!(world.told().await, "");
}

#[tokio::test]
async fn what_the_agent_cannot_confirm_is_refused_and_the_branch_is_ended_as_decided() {
    let other = Held::Prepared(v1::HeldPrepared { xid: 701, system_identifier: 11 });
    let elsewhere = Held::Prepared(v1::HeldPrepared { xid: 700, system_identifier: 12 });
    let hangs = Held::NotHeld(v1::NotHeld { reason: "it waits for a synchronous standby".into() });
    for (held, says) in [
        (other, "other work"),
        (elsewhere, "another one"),
        (Held::NotPrepared(v1::NotPrepared {}), "not prepared any more"),
        (hangs, "synchronous standby"),
    ] {
        let mut world = World::ready().await;
        let gid = committing(&mut world).await;
        let answered = depart(&mut world, rollback(&gid, true)).await;
        assert_eq!(world.told().await, "hold@a");
        world.agent_held(&gid, "a", held).await;
        let why = heard(answered).await.unwrap().unwrap_err().to_string();
        assert!(why.contains(says) && why.contains("nothing was recorded"), "{why}");
        assert_eq!(world.told().await, "commit@a?");
        assert!(!kinds(&world).contains(&"Resolved"));
        // It may be tried again.
        let _answered = depart(&mut world, rollback(&gid, true)).await;
        assert_eq!(world.told().await, "hold@a");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_keeps_nobody_waiting_and_its_late_answer_means_nothing() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let answered = depart(&mut world, rollback(&gid, true)).await;
    assert_eq!(world.told().await, "hold@a");
    let why = heard(answered).await.unwrap().unwrap_err().to_string();
    assert!(why.contains("not answered in time"), "{why}");
    assert_eq!(world.told().await, "commit@a?");
    world.agent_lets_go(&gid, "a", 700).await;
    world.force().await;
    assert_eq!(world.told().await, "");
    assert!(!kinds(&world).contains(&"Resolved"));
}

#[tokio::test]
async fn an_agent_that_is_lost_while_it_lets_go_leaves_the_decision_as_it_was() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let answered = depart(&mut world, rollback(&gid, true)).await;
    assert_eq!(world.told().await, "hold@a");
    world.disconnect().await;
    let why = heard(answered).await.unwrap().unwrap_err().to_string();
    assert!(why.contains("unreachable") && why.contains("nothing was recorded"), "{why}");
    let away = refused(&mut world, rollback(&gid, true)).await;
    assert!(
        matches!(&away, RequestError::Unavailable(why) if why.contains("cannot be taken back")),
        "{away}"
    );
    world.connect(World::hello()).await;
    assert_eq!(world.told().await, "commit@a? commit@b?");
    // What the former stream's agent says comes too late.
    world.agent_lets_go(&gid, "a", 700).await;
    world.force().await;
    assert!(!kinds(&world).contains(&"Resolved"));
}

#[tokio::test]
async fn a_departure_that_is_on_disk_is_owed_when_the_agent_is_back() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let answered = depart(&mut world, rollback(&gid, true)).await;
    world.told().await;
    world.agent_lets_go(&gid, "a", 700).await;
    world.disconnect().await;
    world.force().await;
    let response = heard(answered).await.unwrap().unwrap();
    assert!(response.applied && response.result.contains("when the agent is back"), "{response:?}");
    world.connect(World::hello()).await;
    assert_eq!(world.told().await, "rollback@a commit@b?");
}

#[tokio::test]
async fn r6_a_listing_ends_no_branch_that_is_held_or_whose_departure_is_being_recorded() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let listing = World::listing("a", vec![World::row(&gid, 700)]);
    let _answered = depart(&mut world, rollback(&gid, true)).await;
    assert_eq!(world.told().await, "hold@a");
    world.agent_lists(listing.clone()).await;
    assert_eq!(world.told().await, "", "held");
    world.agent_lets_go(&gid, "a", 700).await;
    world.agent_lists(listing.clone()).await;
    assert_eq!(world.told().await, "", "being recorded");
    world.force().await;
    assert_eq!(world.told().await, "rollback@a");
    world.agent_lists(listing).await;
    assert_eq!(world.told().await, "rollback@a", "R16");
}

#[tokio::test]
async fn a_second_operator_is_told_to_look_again() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let _first = depart(&mut world, rollback(&gid, true)).await;
    for stage in ["held", "recording", "ordered"] {
        let why = refused(&mut world, rollback(&gid, true)).await.to_string();
        assert!(why.contains("under way"), "{stage}: {why}");
        match stage {
            "held" => world.agent_lets_go(&gid, "a", 700).await,
            "recording" => world.force().await,
            _ => {}
        }
        world.told().await;
    }
}

#[tokio::test]
async fn a_commit_that_was_on_its_way_when_the_agent_was_asked_to_let_go_stands() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let answered = depart(&mut world, rollback(&gid, true)).await;
    world.told().await;
    world.agent_has(&gid, "a", true).await;
    world.agent_held(&gid, "a", Held::NotPrepared(v1::NotPrepared {})).await;
    let why = heard(answered).await.unwrap().unwrap_err().to_string();
    assert!(why.contains("nothing was recorded"), "{why}");
    assert_eq!(world.told().await, "", "it is acknowledged: nothing is owed");
    let late = refused(&mut world, rollback(&gid, true)).await.to_string();
    assert!(late.contains("cannot be rolled back"), "{late}");
}

#[tokio::test]
async fn a_departure_that_came_too_late_is_told_as_having_come_to_nothing() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let answered = depart(&mut world, rollback(&gid, true)).await;
    world.told().await;
    world.agent_lets_go(&gid, "a", 700).await;
    world.force().await;
    world.agent_finds_gone(&gid, false, XidStatus::Committed).await;
    world.force().await;
    let response = heard(answered).await.unwrap().unwrap();
    assert!(response.result.contains("nothing departed"), "{response:?}");
    assert_eq!(world.alarms().await, Vec::<String>::new());
    let outcome = world.get(gid.gtid.clone()).await.unwrap();
    assert!(matches!(&outcome, Outcome::Committed { pending, .. } if *pending == [name("b")]), "{outcome:?}");
    // Prepared again by a failover, it is ended as decided.
    world.agent_lists(World::listing("a", vec![World::row(&gid, 700)])).await;
    assert_eq!(world.told().await, "rollback@a commit@a?");
}

#[tokio::test]
async fn an_agent_that_cannot_let_go_is_not_asked_to() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    world.disconnect().await;
    world.connect(v1::AgentHello { can_hold: false, ..World::hello() }).await;
    world.told().await;
    for apply in [false, true] {
        let why = refused(&mut world, rollback(&gid, apply)).await.to_string();
        assert!(why.contains("cannot let go"), "{why}");
    }
    assert_eq!(world.told().await, "");
}

#[tokio::test]
async fn nobody_departs_while_the_log_is_stale_unread_or_closing() {
    let mut world = World::with_owed(vec![owed_commit(6, 3)]);
    world.connect(World::hello()).await;
    assert_eq!(world.told().await, "commit@a? commit@b?");
    let owed = gid(6, 3, 0);
    let reading = refused(&mut world, rollback(&owed, true)).await;
    assert!(matches!(&reading, RequestError::Unavailable(why) if why.contains("reading")), "{reading}");
    world.log.durable.records.lock().unwrap().push(Record::Decided(decided_commit(6, 3)));
    world.count();
    world.settle().await;
    world.told().await;
    let (drained, _gone) = tokio::sync::oneshot::channel();
    let grace = std::time::Duration::from_secs(60);
    world.driver.send(Request::Drain { grace, answer: drained }).await;
    let stopping = refused(&mut world, rollback(&owed, true)).await;
    assert!(matches!(&stopping, RequestError::Unavailable(why) if why.contains("stopping")), "{stopping}");

    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let witness = Some(v1::Witness { epoch: 9, incarnation: 1, position: 1 });
    world.disconnect().await;
    world.connect(v1::AgentHello { witness, ..World::hello() }).await;
    world.told().await;
    let stale = refused(&mut world, rollback(&gid, true)).await.to_string();
    assert!(stale.contains("stale"), "{stale}");
    assert_eq!(world.told().await, "");
}

#[tokio::test]
async fn r16_the_next_life_carries_out_what_was_recorded_before_anything_was_ordered() {
    let mut owed = owed_commit(6, 3);
    let branch = gid(6, 3, 0);
    let said = Resolved {
        gid: branch.clone(),
        participant: name("a"),
        xid: 700,
        commit: false,
        operator: "ada".into(),
        reason: "the shop must open".into(),
    };
    owed.add(6, 0, Record::Resolved(said));
    let mut world = World::with_owed(vec![owed]);
    let mut hello = World::hello();
    hello.listings[0].prepared.push(World::row(&branch, 700));
    world.connect(hello).await;
    assert_eq!(world.told().await, "rollback@a commit@b? rollback@a", "also before the history is read");
    world.agent_has(&branch, "a", false).await;
    world.force().await;
    let Outcome::Committed { heuristics, .. } = world.get(gtid(6, 3)).await.unwrap() else {
        panic!("it is committed")
    };
    assert_eq!(heuristics.len(), 1);
    assert!(heuristics[0].detail.contains("ada"), "{heuristics:?}");
}

fn aborted(epoch: u64, seq: u64) -> Decided {
    let reason = AbortReason {
        kind: AbortKind::VotedNo,
        participant: None,
        sqlstate: String::new(),
        message: String::new(),
    };
    Decided { decision: Decision::Abort(reason), ..decided_commit(epoch, seq) }
}

/// The life that ordered a commit against an abort is over, and nobody knows whether it was carried out.
#[tokio::test]
async fn r16_a_commit_against_an_abort_that_is_found_prepared_is_carried_out_and_recorded() {
    let mut world = World::ready().await;
    let branch = gid(6, 3, 0);
    let said = Resolved {
        gid: branch.clone(),
        participant: name("a"),
        xid: 700,
        commit: true,
        operator: "ada".into(),
        reason: "it was paid".into(),
    };
    let hazard = Heuristic {
        gid: branch.clone(),
        participant: name("a"),
        xid8: 700,
        kind: HeuristicKind::Hazard,
        detail: "ordered".into(),
    };
    let records = [Record::Decided(aborted(6, 3)), Record::Resolved(said), Record::Heuristic(hazard)];
    world.log.durable.records.lock().unwrap().extend(records);
    world.agent_lists(World::listing("a", vec![World::row(&branch, 700)])).await;
    assert_eq!(world.told().await, "commit@a?");
    world.agent_has(&branch, "a", true).await;
    world.force().await;
    let Outcome::Aborted { heuristics, .. } = world.get(gtid(6, 3)).await.unwrap() else {
        panic!("it is aborted")
    };
    let kinds: Vec<_> = Heuristic::departures(&heuristics).map(|heuristic| heuristic.kind).collect();
    assert_eq!(kinds, [HeuristicKind::Commit]);
    assert_eq!(world.alarms().await, ["VOTUM-1407"]);
}

#[tokio::test]
async fn a_branch_of_an_abort_is_committed_by_a_person_once_its_agent_has_let_go() {
    let mut world = World::ready().await;
    let begun = world.begin().await.unwrap();
    let _answered = world.commit(&begun, Wait::Decided).await;
    world.told().await;
    let gid = Gid { gtid: begun.gtid.clone(), branch: 0, branches: 2 };
    world.agent_votes_yes(&gid, "a", 700).await;
    world.roll_back(&begun).await;
    world.told().await;
    let commit = Resolve { commit: true, ..rollback(&gid, true) };
    let answered = depart(&mut world, commit).await;
    assert_eq!(world.told().await, "hold@a");
    world.agent_lets_go(&gid, "a", 700).await;
    assert_eq!(world.told().await, "");
    world.force().await;
    assert_eq!(world.told().await, "commit@a?");
    world.agent_has(&gid, "a", true).await;
    world.force().await;
    let response = heard(answered).await.unwrap().unwrap();
    assert_eq!(response.result, "done");
    assert!(response.consequence.contains("committed at a"), "{response:?}");
    let Outcome::Aborted { heuristics, .. } = world.get(begun.gtid).await.unwrap() else {
        panic!("it is aborted")
    };
    assert_eq!(Heuristic::departures(&heuristics).count(), 1);
}

/// Somebody ended the branch, and prepared other work under its name, while the departure was under way.
#[tokio::test]
async fn r1x_the_rollback_of_other_work_is_not_taken_for_the_departures_own() {
    let mut world = World::ready().await;
    let gid = committing(&mut world).await;
    let _answered = depart(&mut world, rollback(&gid, true)).await;
    assert_eq!(world.told().await, "hold@a");
    world.agent_lets_go(&gid, "a", 700).await;
    world.force().await;
    assert_eq!(world.told().await, "rollback@a");
    world.agent_lists(World::listing("a", vec![World::row(&gid, 999)])).await;
    assert_eq!(world.told().await, "rollback@a");
    world.agent_has(&gid, "a", false).await;
    world.force().await;
    assert!(!kinds(&world).contains(&"Heuristic"), "that says nothing of the branch itself");
    world.agent_finds_gone(&gid, false, XidStatus::Committed).await;
    world.force().await;
    let Outcome::Committed { heuristics, .. } = world.get(gid.gtid.clone()).await.unwrap() else {
        panic!("it is committed")
    };
    assert_eq!(heuristics.last().map(|last| last.kind), Some(HeuristicKind::Mended), "it had committed");
}
