//! Departures from a decision, one schedule a test.

use super::super::super::record::Resolved;
use super::*;

/// Decided commit, both branches ordered, a's commit owed.
fn committing() -> Transaction {
    let (mut transaction, record) = deciding();
    assert_eq!(words(&transaction.step(Event::Durable(record))), "decided commit@a commit@b");
    transaction
}

/// Decided abort with a's yes in hand, its rollback owed.
fn aborting() -> Transaction {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    transaction.step(voted("a", 0, yes(700)));
    transaction.step(voted("b", 1, Vote::No(reason(AbortKind::VotedNo))));
    transaction
}

fn said(commit: bool) -> Resolved {
    Resolved {
        gid: "votum_acme_7_3f9ac2_1_0_2".parse().unwrap(),
        participant: name("a"),
        xid: 700,
        commit,
        operator: "ada".into(),
        reason: "the shop must open".into(),
    }
}

fn records(effects: &[Effect]) -> Vec<Record> {
    let persisted = |effect: &&Effect| matches!(effect, Effect::Persist { .. });
    let each = effects.iter().filter(persisted).map(std::slice::from_ref);
    each.map(forced_record).collect()
}

/// Held, said, on disk: its rollback is ordered.
fn overruled() -> Transaction {
    let mut transaction = committing();
    assert_eq!(words(&transaction.step(Event::Hold { branch: 0 })), "hold@a");
    let effects = transaction.step(Event::Overrule(said(false)));
    assert_eq!(words(&effects), "force Resolved");
    let ordered = transaction.step(Event::Durable(forced_record(&effects)));
    assert_eq!(words(&ordered), "rollback@a(gid,700)");
    transaction
}

#[test]
fn i1_a_departure_is_recorded_when_the_agent_has_let_go_and_ordered_when_that_is_on_disk() {
    let mut transaction = overruled();
    assert_eq!(words(&transaction.step(done(1, true))), "", "b commits; a is still owed its end");
    let effects = transaction.step(done(0, false));
    assert_eq!(words(&effects), "force Heuristic heuristic");
    let Record::Heuristic(heuristic) = forced_record(&effects) else { panic!("{effects:?}") };
    assert_eq!(heuristic.kind, HeuristicKind::Rollback);
    assert!(heuristic.detail.contains("ada") && heuristic.detail.contains("the shop"), "{heuristic}");
    assert!(
        heuristic.detail.contains("decided commit") && heuristic.detail.contains("id 700"),
        "{heuristic}"
    );
    assert!(transaction.heuristics().is_empty(), "not told before it is on disk");
    let ended = transaction.step(Event::Durable(Record::Heuristic(heuristic)));
    assert_eq!(words(&ended), "completed buffer Ended");
    assert_eq!(transaction.heuristics().len(), 1);
}

#[test]
fn what_is_held_is_ordered_by_nothing_until_it_is_released() {
    let mut transaction = committing();
    transaction.step(Event::Hold { branch: 0 });
    assert_eq!(words(&transaction.step(Event::AskAgain { branch: 0 })), "");
    let seen = Event::AgentSeen { participant: name("a"), instance: AGENT };
    assert_eq!(words(&transaction.step(seen.clone())), "");
    assert!(transaction.is_departing(0) && !transaction.is_departing(1));
    assert!(transaction.may_depart(&name("a"), 0).is_err(), "one at a time");
    assert_eq!(words(&transaction.step(Event::Hold { branch: 0 })), "");
    assert_eq!(words(&transaction.step(Event::Release { branch: 0 })), "commit@a?");
    assert_eq!(words(&transaction.step(seen)), "commit@a?", "as decided, as ever");
    assert_eq!(words(&transaction.step(Event::Overrule(said(false)))), "", "it is not held any more");
}

#[test]
fn while_its_record_is_on_the_way_to_the_disk_nothing_is_ordered_of_the_branch() {
    let mut transaction = committing();
    transaction.step(Event::Hold { branch: 0 });
    transaction.step(Event::Overrule(said(false)));
    assert_eq!(words(&transaction.step(Event::AskAgain { branch: 0 })), "");
    assert_eq!(words(&transaction.step(Event::AgentSeen { participant: name("a"), instance: 8 })), "");
    assert_eq!(words(&transaction.step(done(0, false))), "", "nobody was ordered to: it is asked again");
    assert_eq!(words(&transaction.step(Event::Release { branch: 0 })), "");
}

#[test]
fn a_commit_that_was_carried_out_before_the_agent_let_go_is_acknowledged() {
    let mut transaction = committing();
    transaction.step(Event::Hold { branch: 0 });
    assert_eq!(words(&transaction.step(done(0, true))), "");
    assert!(transaction.acknowledged(0) && !transaction.is_held(0));
    assert_eq!(words(&transaction.step(Event::Overrule(said(false)))), "");
    assert_eq!(words(&transaction.step(done(1, true))), "completed buffer Ended");
    assert!(transaction.may_depart(&name("a"), 0).unwrap_err().contains("cannot be rolled back"));
}

#[test]
fn an_answer_that_settles_nothing_leaves_the_branch_held() {
    let mut transaction = committing();
    transaction.step(Event::Hold { branch: 0 });
    let in_progress = Event::BranchEnded { branch: 0, was_commit: true, report: gone(XidStatus::InProgress) };
    assert_eq!(words(&transaction.step(in_progress)), "later#0");
    assert!(transaction.is_held(0));
    assert_eq!(words(&transaction.step(Event::Overrule(said(false)))), "force Resolved");
}

#[test]
fn other_work_than_what_voted_is_never_departed_with() {
    let mut transaction = committing();
    transaction.step(Event::Hold { branch: 0 });
    let other = Resolved { xid: 701, ..said(false) };
    assert_eq!(words(&transaction.step(Event::Overrule(other))), "commit@a?");
    transaction.step(Event::Hold { branch: 0 });
    assert_eq!(words(&transaction.step(Event::Overrule(said(true)))), "commit@a?", "that is no departure");
}

/// The record says what happened, not what was wanted.
#[test]
fn r3_a_departure_that_finds_the_branch_committed_is_recorded_as_having_come_to_nothing() {
    let mut transaction = overruled();
    transaction.step(done(1, true));
    let committed = Event::BranchEnded { branch: 0, was_commit: false, report: gone(XidStatus::Committed) };
    let effects = transaction.step(committed);
    assert_eq!(words(&effects), "force Heuristic", "and no alarm");
    let Record::Heuristic(heuristic) = forced_record(&effects) else { panic!("{effects:?}") };
    assert_eq!(heuristic.kind, HeuristicKind::Mended);
    let ended = transaction.step(Event::Durable(Record::Heuristic(heuristic)));
    assert_eq!(words(&ended), "completed buffer Ended");
    assert!(transaction.acknowledged(0));
    assert_eq!(crate::protocol::record::Heuristic::departures(transaction.heuristics()).count(), 0);
}

#[test]
fn r3_a_departure_that_finds_the_branch_gone_is_recorded_as_the_server_says() {
    for (status, expected) in
        [(XidStatus::Aborted, HeuristicKind::Rollback), (XidStatus::Forgotten, HeuristicKind::Hazard)]
    {
        let mut transaction = overruled();
        let event = Event::BranchEnded { branch: 0, was_commit: false, report: gone(status) };
        let effects = transaction.step(event);
        let Record::Heuristic(heuristic) = forced_record(&effects) else { panic!("{effects:?}") };
        assert_eq!(heuristic.kind, expected);
    }
    let mut transaction = overruled();
    for status in [XidStatus::InProgress, XidStatus::NotAsked] {
        let event = Event::BranchEnded { branch: 0, was_commit: false, report: gone(status) };
        assert_eq!(words(&transaction.step(event)), "later#0");
    }
    assert_eq!(words(&transaction.step(Event::AskAgain { branch: 0 })), "rollback@a(gid,700)");
}

#[test]
fn i9_the_late_answer_to_the_order_of_before_says_nothing_of_a_departure() {
    let mut transaction = overruled();
    assert_eq!(words(&transaction.step(done(0, true))), "");
    assert_eq!(words(&transaction.step(Event::AskAgain { branch: 0 })), "rollback@a(gid,700)");
}

#[test]
fn the_rollback_of_other_work_is_not_taken_for_the_departures_own() {
    let mut transaction = overruled();
    let other = Event::BranchEnded { branch: 0, was_commit: false, report: Report::OtherXid(9) };
    assert_eq!(words(&transaction.step(other)), "rollback@a(gid,0) alarm later#0");
    assert_eq!(words(&transaction.step(done(0, false))), "later#0", "that may have been the other's");
    let gone = Event::BranchEnded { branch: 0, was_commit: false, report: gone(XidStatus::Committed) };
    assert_eq!(records(&transaction.step(gone)).len(), 1);
}

#[test]
fn r16_recovery_owes_a_departure_that_is_on_disk() {
    let (_, decided) = deciding();
    let mut transaction = Transaction::recover(&[decided.clone(), Record::Resolved(said(false))]).unwrap();
    assert_eq!(words(&transaction.resume()), "");
    let seen = |participant| Event::AgentSeen { participant: name(participant), instance: 8 };
    assert_eq!(words(&transaction.step(seen("a"))), "rollback@a(gid,700)");
    assert_eq!(words(&transaction.step(seen("b"))), "commit@b?");
    // Of other work that bore the name before, what was said does not count.
    let other = Record::Resolved(Resolved { xid: 701, ..said(false) });
    let mut transaction = Transaction::recover(&[decided, other]).unwrap();
    assert_eq!(words(&transaction.step(seen("a"))), "commit@a?");
}

/// An abort is owed by no journal: what is ordered against it is a hazard on disk first.
#[test]
fn a_commit_against_an_abort_is_a_hazard_on_disk_before_it_is_ordered() {
    let mut transaction = aborting();
    assert_eq!(words(&transaction.step(Event::Hold { branch: 0 })), "hold@a");
    let seen = Event::AgentSeen { participant: name("a"), instance: AGENT };
    assert_eq!(words(&transaction.step(seen.clone())), "");
    let effects = transaction.step(Event::Overrule(said(true)));
    assert_eq!(words(&effects), "force Resolved force Heuristic");
    let [resolved, hazard] = records(&effects).try_into().unwrap();
    assert_eq!(words(&transaction.step(Event::Durable(resolved))), "");
    assert_eq!(words(&transaction.step(Event::Durable(hazard))), "commit@a?");
    assert_eq!(words(&transaction.step(seen)), "commit@a?");
    let effects = transaction.step(done(0, true));
    assert_eq!(words(&effects), "force Heuristic heuristic");
    let record = forced_record(&effects);
    assert!(matches!(&record, Record::Heuristic(it) if it.kind == HeuristicKind::Commit), "{record:?}");
    assert_eq!(words(&transaction.step(Event::Durable(record))), "completed retire");
    let told: Vec<_> = crate::protocol::record::Heuristic::departures(transaction.heuristics()).collect();
    assert_eq!(told.len(), 1, "the hazard is over");
    assert_eq!(told[0].kind, HeuristicKind::Commit);
}

#[test]
fn r15_a_commit_against_an_abort_that_finds_the_branch_rolled_back_comes_to_nothing() {
    let mut transaction = aborting();
    transaction.step(Event::Hold { branch: 0 });
    for record in records(&transaction.step(Event::Overrule(said(true)))) {
        transaction.step(Event::Durable(record));
    }
    let aborted = Event::BranchEnded { branch: 0, was_commit: true, report: gone(XidStatus::Aborted) };
    let record = forced_record(&transaction.step(aborted));
    assert!(matches!(&record, Record::Heuristic(it) if it.kind == HeuristicKind::Mended), "{record:?}");
    assert_eq!(words(&transaction.step(Event::Durable(record))), "completed retire");
    assert_eq!(crate::protocol::record::Heuristic::departures(transaction.heuristics()).count(), 0);
}

#[test]
fn an_abort_that_is_released_is_rolled_back_and_what_never_voted_is_not_departed_with() {
    let mut transaction = aborting();
    transaction.step(Event::Hold { branch: 0 });
    assert_eq!(words(&transaction.step(Event::Release { branch: 0 })), "rollback@a(gid,700)");
    assert!(transaction.may_depart(&name("b"), 1).is_err());
    transaction.step(Event::Hold { branch: 0 });
    assert_eq!(words(&transaction.step(done(0, false))), "completed retire", "it was rolled back before");
}

#[test]
fn what_is_not_decided_is_not_departed_with() {
    let (transaction, _) = deciding();
    assert!(transaction.may_depart(&name("a"), 0).unwrap_err().contains("live"));
    let mut transaction = committing();
    assert!(transaction.may_depart(&name("b"), 0).is_err(), "a's branch is not at b");
    let lost = Event::BranchEnded { branch: 0, was_commit: true, report: gone(XidStatus::Aborted) };
    transaction.step(lost);
    assert!(transaction.may_depart(&name("a"), 0).unwrap_err().contains("recorded"));
}
