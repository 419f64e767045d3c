//! Schedules in which the last of several branches decides.

use super::super::event::{Effect, Event, Prepared, Report, Vote};
use super::super::gone::{Gone, Marker, XidStatus};
use super::super::record::{AbortKind, HeuristicKind, Record};
use super::super::standing::Standing;
use super::super::transaction::tests::{begin, commit_requested, forced_record, name, voted, words, yes};
use super::*;

const LAST: LastAgent = LastAgent { number: 1, system_identifier: 12, timeline: 3 };

/// Branches at a, b and c, of which b decides.
fn preparing() -> Transaction {
    let mut transaction = begin();
    transaction.let_decide(LAST);
    assert_eq!(words(&transaction.step(commit_requested(&["a", "b", "c"]))), "prepare@a prepare@c");
    transaction
}

/// The delegation is on its way to the disk.
fn delegating() -> (Transaction, Record) {
    let mut transaction = preparing();
    assert_eq!(words(&transaction.step(voted("a", 0, yes(700)))), "");
    let effects = transaction.step(voted("c", 2, yes(702)));
    assert_eq!(words(&effects), "force Delegated");
    (transaction, forced_record(&effects))
}

/// It is on disk, and the branch was told.
fn handed_over() -> Transaction {
    let (mut transaction, record) = delegating();
    let effects = transaction.step(Event::Durable(record));
    assert_eq!(words(&effects), "one-phase@b");
    assert!(matches!(&effects[0], Effect::SendCommitOnePhase { first: true, .. }));
    transaction
}

/// The same, in a later life.
fn taken_over() -> Transaction {
    Transaction::recover([&delegating().1]).unwrap()
}

fn answered(report: Report) -> Event {
    Event::BranchEnded { branch: 1, was_commit: true, report }
}

fn settled(marker: Marker, timeline: u32) -> Event {
    let status = XidStatus::NotAsked;
    answered(Report::Gone(Gone { system_identifier: 12, timeline, in_recovery: false, status, marker }))
}

fn reason() -> AbortReason {
    AbortReason {
        kind: AbortKind::VotedNo,
        participant: Some(name("b")),
        sqlstate: "23514".into(),
        message: "the balance would be negative".into(),
    }
}

fn done(branch: BranchNumber, was_commit: bool) -> Event {
    Event::BranchEnded { branch, was_commit, report: Report::Done }
}

fn persisted(effects: &[Effect]) -> Record {
    let record = |effect: &Effect| {
        if let Effect::Persist { record, .. } = effect { Some(record.clone()) } else { None }
    };
    effects.iter().find_map(record).unwrap()
}

#[test]
fn i2_the_last_branch_is_asked_for_no_vote_and_told_of_nothing_before_all_others_have_voted() {
    let mut transaction = preparing();
    // A vote that nobody asked for is none.
    let ready = Vote::Ready(Prepared { xid8: 701, system_identifier: 12, timeline: 3, marker: true });
    for vote in [yes(701), ready, Vote::ReadOnly, Vote::No(reason())] {
        assert_eq!(words(&transaction.step(voted("b", 1, vote))), "");
    }
    let seen = Event::AgentSeen { participant: name("b"), instance: 9 };
    assert_eq!(words(&transaction.step(seen)), "");
    assert_eq!(words(&transaction.step(voted("a", 0, yes(700)))), "");
    assert_eq!(words(&transaction.step(voted("c", 2, Vote::ReadOnly))), "force Delegated");
}

#[test]
fn the_record_names_the_branches_that_are_prepared_and_where_the_one_is_that_decides() {
    let Record::Delegated(decided) = delegating().1 else { panic!("no delegation") };
    let named: Vec<_> = decided.branches.iter().map(|branch| (branch.number, branch.xid8)).collect();
    assert_eq!(named, [(0, 700), (2, 702), (1, 0)]);
    let deciding = decided.deciding().unwrap();
    assert_eq!((deciding.number, deciding.system_identifier, deciding.timeline), (1, 12, 3));
    assert!(deciding.marker && decided.branches_named == 3);
}

#[test]
fn i3_its_commit_is_the_decision_and_its_siblings_follow() {
    let mut transaction = handed_over();
    assert_eq!(transaction.standing(), Standing::InProgress("one-phase"));
    let effects = transaction.step(answered(Report::Done));
    assert_eq!(words(&effects), "buffer Decided decided commit@a commit@c");
    let pending = vec![name("a"), name("c")];
    assert_eq!(transaction.standing(), Standing::Committed { pending });
    assert_eq!(words(&transaction.step(done(0, true))), "");
    // The record comes when one has acknowledged: it is not asked again.
    assert_eq!(words(&transaction.step(Event::Durable(persisted(&effects)))), "");
    assert_eq!(transaction.standing(), Standing::Committed { pending: vec![name("c")] });
    assert_eq!(words(&transaction.step(done(2, true))), "completed buffer Ended");
}

#[test]
fn where_all_others_wrote_nothing_its_commit_ends_it() {
    let mut transaction = preparing();
    transaction.step(voted("a", 0, Vote::ReadOnly));
    let effects = transaction.step(voted("c", 2, Vote::ReadOnly));
    let record = forced_record(&effects);
    transaction.step(Event::Durable(record.clone()));
    let effects = transaction.step(answered(Report::Done));
    assert_eq!(words(&effects), "buffer Decided decided completed buffer Ended");
    let decided = persisted(&effects);
    assert_eq!(words(&Transaction::recover([&record, &decided]).unwrap().resume()), "completed buffer Ended");
}

#[test]
fn i4_what_it_refuses_is_rolled_back_everywhere_and_remembered_until_the_log_has_it() {
    let mut transaction = handed_over();
    let effects = transaction.step(answered(Report::Refused(reason())));
    // I10: told at once.
    assert_eq!(words(&effects), "buffer Decided decided rollback@a(gid,700) rollback@c(gid,702)");
    assert_eq!(transaction.standing(), Standing::Aborted(reason()));
    assert_eq!(words(&transaction.step(answered(Report::Done))), "");
    let Record::Decided(aborted) = persisted(&effects) else { panic!("no decision") };
    assert_eq!(aborted.branches.len(), 2, "those that had voted yes");
    assert_eq!(words(&transaction.step(done(0, false))), "");
    // The log says that the decision was handed over: memory has to know better until the record is there.
    assert_eq!(words(&transaction.step(done(2, false))), "");
    assert_eq!(words(&transaction.step(Event::Durable(Record::Decided(aborted)))), "completed retire");
}

#[test]
fn nothing_but_its_answer_ends_what_was_handed_over() {
    for mut transaction in [delegating().0, handed_over(), taken_over()] {
        for event in [
            Event::TimedOut,
            Event::RollbackRequested(reason()),
            voted("a", 0, Vote::No(reason())),
            voted("b", 1, yes(701)),
            done(0, true),
            done(0, false),
            Event::AgentSeen { participant: name("a"), instance: 77 },
        ] {
            assert_eq!(words(&transaction.step(event.clone())), "", "{event:?}");
        }
        assert!(matches!(transaction.standing(), Standing::InProgress(_)));
    }
}

/// I9: the work goes out once; whoever asks later settles how that ended.
#[test]
fn an_order_that_is_repeated_carries_no_work() {
    let seen = || Event::AgentSeen { participant: name("b"), instance: 77 };
    for mut transaction in [handed_over(), taken_over()] {
        for event in [seen(), Event::AskAgain { branch: 1 }] {
            let effects = transaction.step(event);
            assert!(matches!(&effects[..], [Effect::SendCommitOnePhase { first: false, .. }]), "{effects:?}");
        }
    }
    assert_eq!(words(&delegating().0.step(seen())), "", "it is not on disk");
}

#[test]
fn r13_an_answer_that_was_lost_is_what_the_marker_says_and_the_siblings_follow() {
    for (mut transaction, again) in [(handed_over(), ""), (taken_over(), "?")] {
        let effects = transaction.step(settled(Marker::Committed, 3));
        assert_eq!(words(&effects), format!("buffer Decided decided commit@a{again} commit@c{again}"));
    }
    for mut transaction in [handed_over(), taken_over()] {
        let effects = transaction.step(settled(Marker::Aborted, 3));
        assert_eq!(words(&effects), "buffer Decided decided rollback@a(gid,700) rollback@c(gid,702)");
        assert!(matches!(transaction.standing(), Standing::Aborted(_)));
    }
}

#[test]
fn r11_a_server_that_is_not_the_one_of_the_record_settles_nothing() {
    let other = Gone {
        system_identifier: 11,
        timeline: 3,
        in_recovery: false,
        status: XidStatus::NotAsked,
        marker: Marker::Committed,
    };
    for event in [answered(Report::Gone(other)), settled(Marker::Committed, 2), settled(Marker::Aborted, 2)] {
        let mut transaction = handed_over();
        assert_eq!(words(&transaction.step(event)), "later#1 alarm");
        assert!(transaction.is_one_phase());
    }
}

#[test]
fn r13_what_a_failover_may_have_lost_is_a_hazard_on_disk_before_its_siblings_are_rolled_back() {
    let mut transaction = taken_over();
    let effects = transaction.step(settled(Marker::Aborted, 4));
    assert_eq!(words(&effects), "force Heuristic heuristic force Decided");
    assert_eq!(transaction.standing(), Standing::InProgress("one-phase"));
    let [Effect::Persist { record: hazard, .. }, _, Effect::Persist { record: aborted, .. }] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(words(&transaction.step(Event::Durable(hazard.clone()))), "");
    let effects = transaction.step(Event::Durable(aborted.clone()));
    assert_eq!(words(&effects), "decided rollback@a(gid,700) rollback@c(gid,702)");
    let [heuristic] = transaction.heuristics() else { panic!("no departure") };
    assert_eq!((heuristic.kind, heuristic.gid.branch), (HeuristicKind::Hazard, 1));
    assert_eq!(words(&transaction.step(done(0, false))), "");
    assert_eq!(words(&transaction.step(done(2, false))), "completed retire");
}

#[test]
fn a_crash_after_the_record_of_the_outcome_takes_it_up_from_there() {
    let (_, delegated) = delegating();
    let decided = persisted(&handed_over().step(answered(Report::Done)));
    let mut recovered = Transaction::recover([&delegated, &decided]).unwrap();
    assert_eq!(words(&recovered.resume()), "");
    assert_eq!(recovered.standing(), Standing::Committed { pending: vec![name("a"), name("c")] });
    let seen = |at: &str| Event::AgentSeen { participant: name(at), instance: 77 };
    assert_eq!(words(&recovered.step(seen("a"))), "commit@a?");
    assert_eq!(words(&recovered.step(seen("b"))), "", "it has decided");
    // R14: rollbacks are by listing.
    let aborted = persisted(&handed_over().step(answered(Report::Refused(reason()))));
    assert!(Transaction::recover([&delegated, &aborted]).is_none());
}

#[test]
fn a_no_or_the_timeout_before_the_delegation_tells_the_last_branch_nothing() {
    let mut transaction = preparing();
    transaction.step(voted("a", 0, yes(700)));
    let effects = transaction.step(voted("c", 2, Vote::No(reason())));
    assert_eq!(words(&effects), "buffer Decided decided rollback@a(gid,700) rollback@c(gid,0)");
    let mut transaction = preparing();
    assert_eq!(
        words(&transaction.step(Event::TimedOut)),
        "buffer Decided decided rollback@a(gid,0) rollback@c(gid,0) completed retire"
    );
}
