//! Schedules of one-phase commits.

use votum_proto::names::SessionName;

use super::super::event::{BranchClaim, Effect, Event, Vote};
use super::super::gone::XidStatus;
use super::super::standing::Standing;
use super::super::transaction::tests::{begin, commit_requested, forced_record, name, voted, words, yes};
use super::*;

fn ready() -> Vote {
    Vote::Ready(Prepared { xid8: 700, system_identifier: 11, timeline: 1, marker: true })
}

fn settled(marker: Marker, timeline: u32) -> Event {
    let gone =
        Gone { system_identifier: 11, timeline, in_recovery: false, status: XidStatus::NotAsked, marker };
    answered(Report::Gone(gone))
}

fn answered(report: Report) -> Event {
    Event::BranchEnded { branch: 0, was_commit: true, report }
}

fn refused() -> Report {
    Report::Refused(AbortReason {
        kind: AbortKind::VotedNo,
        participant: Some(name("a")),
        sqlstate: "40001".into(),
        message: "could not serialize access".into(),
    })
}

/// One branch, ready; the delegation on its way to the disk.
fn delegating() -> (Transaction, Record) {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a"]));
    let effects = transaction.step(voted("a", 0, ready()));
    assert_eq!(words(&effects), "force Delegated");
    (transaction, forced_record(&effects))
}

/// It is on disk, and the branch was told.
fn handed_over() -> Transaction {
    let (mut transaction, record) = delegating();
    assert_eq!(words(&transaction.step(Event::Durable(record))), "one-phase@a");
    transaction
}

/// The same, in a later life.
fn taken_over() -> Transaction {
    let (_, record) = delegating();
    Transaction::recover([&record]).unwrap()
}

#[test]
fn only_the_only_branch_is_offered_to_be_committed_in_one_phase() {
    let offers = |participants: &[&str]| -> Vec<bool> {
        let effects = begin().step(commit_requested(participants));
        let offer = |effect: &Effect| {
            let Effect::SendPrepare { one_phase, .. } = effect else { panic!("{effect:?}") };
            *one_phase
        };
        effects.iter().map(offer).collect()
    };
    assert_eq!(offers(&["a"]), [true]);
    assert_eq!(offers(&["a", "b"]), [false, false]);
    // One that offers it all the same decides nothing.
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    let effects = words(&transaction.step(voted("a", 0, ready())));
    assert!(effects.starts_with("buffer Decided decided rollback@a"), "{effects}");
    assert!(matches!(transaction.standing(), Standing::Aborted(_)));
}

#[test]
fn i3_the_order_follows_the_forced_delegation_and_the_outcome_the_branch() {
    let mut transaction = handed_over();
    assert_eq!(transaction.standing(), Standing::InProgress("one-phase"));
    let effects = transaction.step(answered(Report::Done));
    assert_eq!(words(&effects), "buffer Decided decided completed buffer Ended");
    assert_eq!(transaction.standing(), Standing::Committed { pending: Vec::new() });
    let Effect::Persist { record, .. } = &effects[0] else { panic!() };
    assert_eq!(words(&transaction.step(Event::Durable(record.clone()))), "");
    assert_eq!(transaction.standing(), Standing::Committed { pending: Vec::new() });
    let ended = Record::Ended { gtid: transaction.gtid().clone() };
    assert_eq!(words(&transaction.step(Event::Durable(ended))), "retire");
}

#[test]
fn a_database_that_refuses_aborts_it_and_memory_keeps_that_until_the_log_has_it() {
    let mut transaction = handed_over();
    let effects = transaction.step(answered(refused()));
    // I10: told at once.
    assert_eq!(words(&effects), "buffer Decided decided completed");
    let Standing::Aborted(reason) = transaction.standing() else { panic!() };
    assert_eq!(reason.sqlstate, "40001");
    assert_eq!(words(&transaction.step(answered(Report::Done))), "");
    let Effect::Persist { record, .. } = &effects[0] else { panic!() };
    assert_eq!(words(&transaction.step(Event::Durable(record.clone()))), "retire");
}

#[test]
fn nothing_but_the_branch_ends_what_was_handed_to_it() {
    let lost = Event::SessionLost {
        participant: name("a"),
        session: SessionName { agent_instance: 9, counter: 1 },
        reason: never_committed_of("a"),
    };
    let claims = vec![BranchClaim {
        participant: name("a"),
        session: SessionName { agent_instance: 9, counter: 1 },
        last_ordinal: 1,
    }];
    for mut transaction in [delegating().0, handed_over(), taken_over()] {
        for event in [
            Event::TimedOut,
            Event::RollbackRequested(never_committed_of("a")),
            lost.clone(),
            voted("a", 0, Vote::No(never_committed_of("a"))),
            voted("a", 0, yes(700)),
            Event::CommitRequested { claims: claims.clone() },
            Event::Enlisted {
                participant: name("a"),
                session: SessionName { agent_instance: 9, counter: 1 },
            },
        ] {
            assert_eq!(words(&transaction.step(event.clone())), "", "{event:?}");
        }
        assert!(matches!(transaction.standing(), Standing::InProgress(_)));
    }
}

#[test]
fn an_agent_that_is_back_hears_the_order_again_once_it_was_forced() {
    let seen = || Event::AgentSeen { participant: name("a"), instance: 77 };
    assert_eq!(words(&delegating().0.step(seen())), "");
    assert_eq!(words(&handed_over().step(seen())), "one-phase@a");
    assert_eq!(words(&taken_over().step(seen())), "one-phase@a");
    let other = Event::AgentSeen { participant: name("b"), instance: 77 };
    assert_eq!(words(&handed_over().step(other)), "");
    assert_eq!(words(&taken_over().step(Event::AskAgain { branch: 0 })), "one-phase@a");
}

#[test]
fn r13_an_answer_that_was_lost_is_what_the_marker_says() {
    for mut transaction in [handed_over(), taken_over()] {
        let effects = transaction.step(settled(Marker::Committed, 1));
        assert_eq!(words(&effects), "buffer Decided decided completed buffer Ended");
    }
    for mut transaction in [handed_over(), taken_over()] {
        let effects = transaction.step(settled(Marker::Aborted, 1));
        assert_eq!(words(&effects), "buffer Decided decided completed");
        assert!(matches!(transaction.standing(), Standing::Aborted(_)));
    }
}

#[test]
fn r13_an_answer_that_settles_nothing_is_asked_again_with_an_alarm() {
    let other_system = Gone {
        system_identifier: 12,
        timeline: 1,
        in_recovery: false,
        status: XidStatus::NotAsked,
        marker: Marker::Aborted,
    };
    let standby = Gone { system_identifier: 11, in_recovery: true, ..other_system };
    for report in [
        Report::Gone(other_system),
        Report::Gone(standby),
        Report::Gone(Gone { system_identifier: 11, marker: Marker::Absent, ..other_system }),
        Report::Gone(Gone { system_identifier: 11, marker: Marker::Unknown, ..other_system }),
        Report::NeverPrepared,
        Report::OtherXid(700),
    ] {
        let mut transaction = handed_over();
        assert_eq!(words(&transaction.step(answered(report.clone()))), "later#0 alarm", "{report:?}");
        assert!(transaction.is_one_phase());
    }
}

#[test]
fn r13_what_an_earlier_life_may_have_told_and_a_failover_may_have_lost_is_a_hazard() {
    // This life has told nobody anything.
    let effects = handed_over().step(settled(Marker::Aborted, 2));
    assert_eq!(words(&effects), "buffer Decided decided completed");
    let effects = taken_over().step(settled(Marker::Committed, 2));
    assert_eq!(words(&effects), "buffer Decided decided completed buffer Ended");

    let mut transaction = taken_over();
    let effects = transaction.step(settled(Marker::Aborted, 2));
    assert_eq!(words(&effects), "force Heuristic heuristic force Decided");
    // Nobody hears of it before it is on disk, and no later answer changes it, nor is anything ordered again.
    let seen = Event::AgentSeen { participant: name("a"), instance: 77 };
    assert_eq!(words(&transaction.step(seen)), "");
    assert_eq!(transaction.standing(), Standing::InProgress("one-phase"));
    assert_eq!(words(&transaction.step(settled(Marker::Aborted, 2))), "");
    let [Effect::Persist { record: hazard, .. }, _, Effect::Persist { record: aborted, .. }] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(words(&transaction.step(Event::Durable(hazard.clone()))), "");
    assert_eq!(words(&transaction.step(Event::Durable(aborted.clone()))), "decided completed retire");
    assert!(matches!(transaction.standing(), Standing::Aborted(_)));
    assert_eq!(transaction.heuristics().len(), 1);
    assert_eq!(transaction.heuristics()[0].kind, HeuristicKind::Hazard);
}

#[test]
fn r11_a_former_primary_settles_nothing() {
    let mut transaction = Transaction::recover([&on_timeline(3)]).unwrap();
    for marker in [Marker::Aborted, Marker::Committed] {
        assert_eq!(words(&transaction.step(settled(marker, 2))), "later#0 alarm");
    }
    assert!(transaction.is_one_phase());
}

fn on_timeline(timeline: u32) -> Record {
    let (_, record) = delegating();
    let Record::Delegated(mut decided) = record else { panic!("{record:?}") };
    decided.branches[0].timeline = timeline;
    Record::Delegated(decided)
}

/// The true log may have gone on, and deleted the marker with its record.
#[test]
fn r10_what_was_written_off_and_left_no_marker_is_a_hazard() {
    let mut transaction = taken_over();
    transaction.doubt();
    assert_eq!(
        words(&transaction.step(settled(Marker::Aborted, 1))),
        "force Heuristic heuristic force Decided"
    );
    let mut transaction = taken_over();
    transaction.doubt();
    let effects = transaction.step(settled(Marker::Committed, 1));
    assert_eq!(words(&effects), "buffer Decided decided completed buffer Ended");
}

#[test]
fn a_crash_after_the_record_of_the_outcome_takes_it_up_from_there() {
    let (_, delegated) = delegating();
    let mut transaction = handed_over();
    let effects = transaction.step(answered(Report::Done));
    let [Effect::Persist { record: decided, .. }, ..] = effects.as_slice() else { panic!() };
    // Where `Ended` was lost, the agent is asked to commit it in two phases, finds it gone, and the marker.
    let mut recovered = Transaction::recover([&delegated, decided]).unwrap();
    assert!(matches!(recovered.standing(), Standing::Committed { .. }));
    let seen = Event::AgentSeen { participant: name("a"), instance: 77 };
    assert_eq!(words(&recovered.step(seen)), "commit@a?");
    let ended = Record::Ended { gtid: transaction.gtid().clone() };
    assert!(Transaction::recover([&delegated, decided, &ended]).is_none());

    let effects = handed_over().step(answered(refused()));
    let [Effect::Persist { record: aborted, .. }, ..] = effects.as_slice() else { panic!() };
    assert!(Transaction::recover([&delegated, aborted]).is_none());
}

fn never_committed_of(participant: &str) -> AbortReason {
    AbortReason {
        kind: AbortKind::BranchLost,
        participant: Some(name(participant)),
        sqlstate: String::new(),
        message: String::new(),
    }
}
