//! Schedules, one a test: what goes in, what comes out.

use super::super::event::{BranchClaim, Effect, Event, Prepared, Report, Vote};
use super::super::gone::{Gone, Marker, XidStatus};
use super::super::record::{AbortKind, AbortReason, Decision, HeuristicKind, Record};
use super::super::standing::Standing;
use super::*;

const AGENT: u64 = 9;

pub(in crate::protocol) fn name(text: &str) -> ParticipantName {
    text.parse().unwrap()
}

fn session(counter: u64) -> SessionName {
    SessionName { agent_instance: AGENT, counter }
}

pub(in crate::protocol) fn begin() -> Transaction {
    Transaction::begin("acme-7-3f9ac2-1".parse().unwrap(), "transfer".into(), None)
}

fn claim(participant: &str) -> BranchClaim {
    BranchClaim { participant: name(participant), session: session(1), last_ordinal: 1 }
}

pub(in crate::protocol) fn commit_requested(participants: &[&str]) -> Event {
    Event::CommitRequested { claims: participants.iter().map(|p| claim(p)).collect() }
}

pub(in crate::protocol) fn yes(xid8: u64) -> Vote {
    Vote::Yes(Prepared { xid8, system_identifier: 11, timeline: 1, marker: false })
}

pub(in crate::protocol) fn voted(participant: &str, branch: u16, vote: Vote) -> Event {
    Event::Voted { participant: name(participant), branch, vote }
}

fn reason(kind: AbortKind) -> AbortReason {
    AbortReason { kind, participant: None, sqlstate: String::new(), message: String::new() }
}

fn done(branch: u16, was_commit: bool) -> Event {
    Event::BranchEnded { branch, was_commit, report: Report::Done }
}

fn gone(status: XidStatus) -> Report {
    Report::Gone(Gone {
        system_identifier: 11,
        timeline: 1,
        in_recovery: false,
        status,
        marker: Marker::Unknown,
    })
}

/// Effects in a word each, for transcripts that a person can read.
pub(in crate::protocol) fn words(effects: &[Effect]) -> String {
    let word = |effect: &Effect| match effect {
        Effect::Persist { record, forced } => {
            format!("{} {}", if *forced { "force" } else { "buffer" }, record.kind())
        }
        Effect::SendPrepare { participant, .. } => format!("prepare@{participant}"),
        Effect::SendVerifyAttached { participant, .. } => format!("attached@{participant}"),
        Effect::SendCommit { participant, compare_first, .. } => {
            format!("commit@{participant}{}", if *compare_first { "?" } else { "" })
        }
        Effect::SendRollback { participant, gid, xid8, .. } => {
            format!("rollback@{participant}({},{xid8})", if gid.is_some() { "gid" } else { "session" })
        }
        Effect::SendCommitOnePhase { participant, .. } => format!("one-phase@{participant}"),
        Effect::SendHold { participant, .. } => format!("hold@{participant}"),
        Effect::EndSession { participant } => format!("end@{participant}"),
        Effect::TellDecided => "decided".into(),
        Effect::TellCompleted => "completed".into(),
        Effect::Refuse(_) => "refuse".into(),
        Effect::AskAgainLater { branch } => format!("later#{branch}"),
        Effect::Alarm { .. } => "alarm".into(),
        Effect::NoteHeuristic(_) => "heuristic".into(),
        Effect::Retire => "retire".into(),
    };
    effects.iter().map(word).collect::<Vec<_>>().join(" ")
}

pub(in crate::protocol) fn forced_record(effects: &[Effect]) -> Record {
    match effects {
        [Effect::Persist { record, forced: true }, ..] => record.clone(),
        other => panic!("expected a forced record first, got {other:?}"),
    }
}

/// Two branches, both yes, the decision on its way to the disk.
fn deciding() -> (Transaction, Record) {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    transaction.step(voted("a", 0, yes(700)));
    let effects = transaction.step(voted("b", 1, yes(800)));
    (transaction, forced_record(&effects))
}

fn committing() -> Transaction {
    let (mut transaction, record) = deciding();
    transaction.step(Event::Durable(record));
    transaction
}

#[test]
fn a_commit_goes_from_prepare_through_the_disk_to_every_branch() {
    let mut transaction = begin();
    let transcript: Vec<String> = [
        Event::Enlisted { participant: name("a"), session: session(1) },
        commit_requested(&["a", "b"]),
        voted("b", 1, yes(800)),
        voted("a", 0, yes(700)),
    ]
    .into_iter()
    .map(|event| words(&transaction.step(event)))
    .collect();
    assert_eq!(transcript, ["", "prepare@a prepare@b", "", "force Decided"]);
    let (mut transaction, record) = deciding();
    assert_eq!(words(&transaction.step(Event::Durable(record))), "decided commit@a commit@b");
    assert_eq!(words(&transaction.step(done(0, true))), "");
    assert_eq!(words(&transaction.step(done(1, true))), "completed buffer Ended");
    let ended = Record::Ended { gtid: transaction.gtid().clone() };
    assert_eq!(words(&transaction.step(Event::Durable(ended))), "retire");
}

#[test]
fn i3_a_commit_record_that_was_not_forced_never_reaches_a_participant() {
    let (mut transaction, _) = deciding();
    for event in [
        Event::AgentSeen { participant: name("a"), instance: AGENT },
        Event::AskAgain { branch: 0 },
        voted("a", 0, yes(700)),
        done(0, true),
        commit_requested(&["a", "b"]),
    ] {
        assert_eq!(words(&transaction.step(event)), "");
    }
    assert_eq!(transaction.standing(), Standing::InProgress("deciding"));
}

#[test]
fn i2_one_vote_is_missing_and_nothing_is_decided() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    assert_eq!(words(&transaction.step(voted("a", 0, yes(700)))), "");
    assert_eq!(words(&transaction.step(voted("a", 0, yes(700)))), "", "the same vote twice is one vote");
    assert_eq!(words(&transaction.step(voted("a", 1, yes(700)))), "", "a's vote is not b's");
    assert_eq!(transaction.standing(), Standing::InProgress("preparing"));
}

#[test]
fn the_first_no_aborts_and_rolls_back_every_branch() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    transaction.step(voted("a", 0, yes(700)));
    let effects = transaction.step(voted("b", 1, Vote::No(reason(AbortKind::VotedNo))));
    assert_eq!(words(&effects), "buffer Decided decided rollback@a(gid,700) rollback@b(gid,0)");
    assert_eq!(words(&transaction.step(done(0, false))), "completed retire");
}

#[test]
fn a_timeout_aborts_until_the_decision_and_never_after() {
    let mut active = begin();
    active.step(Event::Enlisted { participant: name("a"), session: session(1) });
    assert_eq!(
        words(&active.step(Event::TimedOut)),
        "buffer Decided decided rollback@a(session,0) completed retire"
    );
    let (mut deciding, _) = deciding();
    assert_eq!(words(&deciding.step(Event::TimedOut)), "");
    assert_eq!(words(&deciding.step(Event::RollbackRequested(reason(AbortKind::RolledBack)))), "");
    let mut committing = committing();
    assert_eq!(words(&committing.step(Event::TimedOut)), "");
}

#[test]
fn i10_a_read_only_transaction_and_an_abort_force_nothing() {
    let mut read_only = begin();
    read_only.step(commit_requested(&["a", "b"]));
    read_only.step(voted("a", 0, Vote::ReadOnly));
    let effects = read_only.step(voted("b", 1, Vote::ReadOnly));
    assert_eq!(words(&effects), "decided completed retire");
    assert_eq!(read_only.standing(), Standing::ReadOnly);
    let mut aborted = begin();
    let effects = aborted.step(Event::RollbackRequested(reason(AbortKind::RolledBack)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Persist { forced: true, .. })));
}

#[test]
fn a_read_only_branch_is_in_no_decision_and_gets_no_order() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    transaction.step(voted("a", 0, Vote::ReadOnly));
    let effects = transaction.step(voted("b", 1, yes(800)));
    let record = forced_record(&effects);
    let Record::Decided(decided) = &record else { panic!("{record:?}") };
    assert_eq!(decided.branches.len(), 1);
    assert_eq!(decided.branches_named, 2, "the gid still counts every branch");
    assert_eq!(words(&transaction.step(Event::Durable(record))), "decided commit@b");
}

#[test]
fn a_commit_that_omits_a_reported_branch_is_refused_and_changes_nothing() {
    let mut transaction = begin();
    transaction.step(Event::Enlisted { participant: name("b"), session: session(2) });
    assert_eq!(words(&transaction.step(commit_requested(&["a"]))), "refuse");
    assert_eq!(transaction.standing(), Standing::InProgress("active"));
    assert_eq!(words(&transaction.step(commit_requested(&["a", "a"]))), "refuse");
    assert_eq!(words(&transaction.step(commit_requested(&["a", "b"]))), "prepare@a prepare@b");
}

#[test]
fn i15_a_branch_that_commit_did_not_name_is_ended() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a"]));
    let late = Event::Enlisted { participant: name("b"), session: session(2) };
    assert_eq!(words(&transaction.step(late)), "end@b");
}

#[test]
fn the_first_commits_list_stands() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    assert_eq!(words(&transaction.step(commit_requested(&["a"]))), "");
    assert_eq!(transaction.branches().len(), 2);
}

#[test]
fn an_agent_that_restarted_before_its_vote_is_a_no_and_one_that_did_not_is_asked_again() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    let back = Event::AgentSeen { participant: name("a"), instance: AGENT };
    assert_eq!(words(&transaction.step(back)), "prepare@a");
    transaction.step(voted("a", 0, yes(700)));
    let restarted = |p| Event::AgentSeen { participant: name(p), instance: AGENT + 1 };
    assert_eq!(words(&transaction.step(restarted("a"))), "", "a prepared branch survives its agent");
    let effects = transaction.step(restarted("b"));
    assert_eq!(words(&effects), "buffer Decided decided rollback@a(gid,700) rollback@b(gid,0)");
}

#[test]
fn an_agent_restarted_between_two_statements_kills_the_branch() {
    let mut transaction = begin();
    transaction.step(Event::Enlisted { participant: name("a"), session: session(1) });
    let effects = transaction.step(Event::AgentSeen { participant: name("a"), instance: AGENT + 1 });
    assert_eq!(words(&effects), "buffer Decided decided rollback@a(session,0) completed retire");
}

#[test]
fn a_lost_session_aborts_only_the_transaction_that_has_it() {
    let lost = |counter| Event::SessionLost {
        participant: name("a"),
        session: session(counter),
        reason: reason(AbortKind::BranchLost),
    };
    let mut transaction = begin();
    transaction.step(Event::Enlisted { participant: name("a"), session: session(1) });
    assert_eq!(words(&transaction.step(lost(2))), "");
    assert!(words(&transaction.step(lost(1))).starts_with("buffer Decided decided"));
}

#[test]
fn commits_are_ordered_again_with_a_comparison_when_an_agent_is_back() {
    let mut transaction = committing();
    transaction.step(done(0, true));
    let seen = |p| Event::AgentSeen { participant: name(p), instance: AGENT + 1 };
    assert_eq!(words(&transaction.step(seen("a"))), "", "acknowledged");
    assert_eq!(words(&transaction.step(seen("b"))), "commit@b?");
}

#[test]
fn r3_a_branch_that_was_rolled_back_behind_our_back_is_recorded_and_ends_the_wait() {
    let mut transaction = committing();
    transaction.step(done(0, true));
    let report = gone(XidStatus::Aborted);
    let effects = transaction.step(Event::BranchEnded { branch: 1, was_commit: true, report });
    assert_eq!(words(&effects), "force Heuristic heuristic");
    let record = forced_record(&effects);
    assert_eq!(words(&transaction.step(Event::Durable(record))), "completed buffer Ended");
    assert_eq!(transaction.heuristics()[0].kind, HeuristicKind::Rollback);
}

#[test]
fn r2_i9_an_answer_about_a_branch_that_has_acknowledged_changes_nothing() {
    let mut transaction = committing();
    transaction.step(done(0, true));
    for report in [gone(XidStatus::Forgotten), Report::Done, Report::OtherXid(701), Report::NeverPrepared] {
        let effects = transaction.step(Event::BranchEnded { branch: 0, was_commit: true, report });
        assert_eq!(words(&effects), "");
    }
    assert_eq!(words(&transaction.step(done(1, true))), "completed buffer Ended");
    assert_eq!(words(&transaction.step(done(1, true))), "", "it has ended once");
}

#[test]
fn r3_gone_and_committed_acknowledges_and_in_progress_is_asked_again() {
    let mut transaction = committing();
    let report = |status| Event::BranchEnded { branch: 0, was_commit: true, report: gone(status) };
    assert_eq!(words(&transaction.step(report(XidStatus::InProgress))), "later#0");
    assert_eq!(words(&transaction.step(Event::AskAgain { branch: 0 })), "commit@a?");
    assert_eq!(words(&transaction.step(report(XidStatus::Committed))), "");
    assert!(transaction.acknowledged(0));
}

#[test]
fn r1x_another_xid_under_our_gid_is_rolled_back_and_ours_asked_about_again() {
    let mut transaction = committing();
    let report = Report::OtherXid(701);
    let effects = transaction.step(Event::BranchEnded { branch: 0, was_commit: true, report });
    assert_eq!(words(&effects), "rollback@a(gid,0) alarm later#0");
}

#[test]
fn r15_a_branch_of_an_abort_that_committed_behind_our_back_is_recorded() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    transaction.step(voted("a", 0, yes(700)));
    transaction.step(Event::TimedOut);
    let report = gone(XidStatus::Committed);
    let effects = transaction.step(Event::BranchEnded { branch: 0, was_commit: false, report });
    assert_eq!(words(&effects), "force Heuristic heuristic");
    let record = forced_record(&effects);
    assert_eq!(words(&transaction.step(Event::Durable(record))), "completed retire");
    assert_eq!(transaction.heuristics()[0].kind, HeuristicKind::Commit);
}

/// The order is repeated, and answered twice; who asks afterwards must not be told less than is on record.
#[test]
fn an_answer_that_comes_while_a_departure_is_on_its_way_to_the_disk_does_not_end_the_wait_for_it() {
    for (decides, was_commit, status) in
        [(Event::TimedOut, false, XidStatus::Committed), (voted("b", 1, yes(701)), true, XidStatus::Aborted)]
    {
        let mut transaction = begin();
        transaction.step(commit_requested(&["a", "b"]));
        transaction.step(voted("a", 0, yes(700)));
        let decided = transaction.step(decides);
        if was_commit {
            transaction.step(Event::Durable(forced_record(&decided)));
            transaction.step(done(1, true));
        }
        let answered = |report| Event::BranchEnded { branch: 0, was_commit, report };
        let departed = forced_record(&transaction.step(answered(gone(status))));
        for late in [gone(XidStatus::NotAsked), gone(status), Report::Done, Report::OtherXid(999)] {
            assert_eq!(words(&transaction.step(answered(late.clone()))), "", "{late:?}");
        }
        let agent_is_back = Event::AgentSeen { participant: name("a"), instance: 2 };
        assert_eq!(words(&transaction.step(agent_is_back)), "", "there is nothing to be ordered");
        let ends = if was_commit { "completed buffer Ended" } else { "completed retire" };
        assert_eq!(words(&transaction.step(Event::Durable(departed))), ends);
        assert_eq!(transaction.heuristics().len(), 1);
    }
}

/// A listing that was late has the branch rolled back once more, by an order that names no id to ask about.
#[test]
fn r15_that_a_branch_is_gone_says_nothing_as_long_as_nobody_asked_about_its_id() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    transaction.step(voted("a", 0, yes(700)));
    transaction.step(Event::TimedOut);
    let ended = |status| Event::BranchEnded { branch: 0, was_commit: false, report: gone(status) };
    assert_eq!(words(&transaction.step(ended(XidStatus::NotAsked))), "later#0");
    assert_eq!(words(&transaction.step(ended(XidStatus::Committed))), "force Heuristic heuristic");
}

/// The agent has restarted since it voted, and serves a statement of the branch that came once more.
#[test]
fn r15_an_agent_that_knows_nothing_of_its_yes_is_made_to_look_at_the_server() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    transaction.step(voted("a", 0, yes(700)));
    transaction.step(Event::TimedOut);
    let ended = |report| Event::BranchEnded { branch: 0, was_commit: false, report };
    assert_eq!(words(&transaction.step(ended(Report::NeverPrepared))), "later#0");
    let again = transaction.step(Event::AskAgain { branch: 0 });
    assert!(matches!(again[..], [Effect::SendRollback { xid8: 700, listed_xid: 700, .. }]), "{again:?}");
    assert_eq!(words(&transaction.step(ended(gone(XidStatus::Aborted)))), "completed retire");
}

/// Aborted after a's yes with transaction id 700; then 701 was found under a's name.
fn aborting_with_other_work() -> Transaction {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    transaction.step(voted("a", 0, yes(700)));
    transaction.step(Event::TimedOut);
    let report = Report::OtherXid(701);
    let effects = transaction.step(Event::BranchEnded { branch: 0, was_commit: false, report });
    assert_eq!(words(&effects), "rollback@a(gid,0) alarm later#0");
    transaction
}

#[test]
fn r15_the_rollback_of_other_work_under_our_name_is_not_taken_for_the_branchs_own() {
    let mut transaction = aborting_with_other_work();
    for report in [Report::Done, Report::Done, Report::NeverPrepared, gone(XidStatus::NotAsked)] {
        let effects = transaction.step(Event::BranchEnded { branch: 0, was_commit: false, report });
        assert_eq!(words(&effects), "later#0", "it may be the answer about 701");
    }
    assert_eq!(words(&transaction.step(Event::AskAgain { branch: 0 })), "rollback@a(gid,700)");
    let report = gone(XidStatus::Aborted);
    let effects = transaction.step(Event::BranchEnded { branch: 0, was_commit: false, report });
    assert_eq!(words(&effects), "completed retire");
}

#[test]
fn r15_a_branch_that_committed_is_recorded_also_when_other_work_took_its_name() {
    let mut transaction = aborting_with_other_work();
    transaction.step(done(0, false));
    let report = gone(XidStatus::Committed);
    let effects = transaction.step(Event::BranchEnded { branch: 0, was_commit: false, report });
    assert_eq!(words(&effects), "force Heuristic heuristic");
}

#[test]
fn r15_the_order_after_other_work_makes_the_agent_look_at_the_server() {
    let mut transaction = aborting_with_other_work();
    let effects = transaction.step(Event::AskAgain { branch: 0 });
    assert!(matches!(effects[..], [Effect::SendRollback { xid8: 700, listed_xid: 700, .. }]), "{effects:?}");
}

#[test]
fn recovery_folds_the_same_records_into_the_same_state() {
    let (mut live, record) = deciding();
    live.step(Event::Durable(record.clone()));
    let recovered = Transaction::recover([&record]).unwrap();
    assert_eq!(recovered, live);
    let ended = Record::Ended { gtid: live.gtid().clone() };
    assert_eq!(Transaction::recover([&record, &ended]), None, "nothing is owed");
}

#[test]
fn recovery_owes_every_commit_without_an_end_and_no_abort() {
    let (_, record) = deciding();
    let mut recovered = Transaction::recover([&record]).unwrap();
    assert_eq!(words(&recovered.resume()), "");
    let seen = Event::AgentSeen { participant: name("a"), instance: 1 };
    assert_eq!(words(&recovered.step(seen)), "commit@a?");
    let Record::Decided(mut decided) = record else { panic!() };
    decided.decision = Decision::Abort(reason(AbortKind::Timeout));
    assert_eq!(Transaction::recover([&Record::Decided(decided)]), None);
}

#[test]
fn a_late_yes_of_a_tracked_branch_is_rolled_back_again() {
    let mut transaction = begin();
    transaction.step(commit_requested(&["a", "b"]));
    transaction.step(voted("a", 0, yes(700)));
    transaction.step(Event::TimedOut);
    assert_eq!(words(&transaction.step(voted("a", 0, yes(700)))), "rollback@a(gid,700)");
}

#[path = "departure_tests.rs"]
mod departures;
