//! One test for each row of the recovery table, by name.

use super::super::record::{AbortKind, AbortReason};
use super::*;

fn bank_a() -> ParticipantName {
    "bank_a".parse().unwrap()
}

fn branch() -> PreparedBranch {
    PreparedBranch {
        number: 0,
        participant: "bank_a".parse().unwrap(),
        xid8: (3 << 32) | 700,
        system_identifier: 11,
        timeline: 1,
        marker: false,
    }
}

fn decided(decision: Decision) -> Box<Decided> {
    Box::new(Decided {
        gtid: "acme-7-3f9ac2-1042".parse().unwrap(),
        decision,
        branches_named: 2,
        branches: vec![branch()],
        key: None,
        label: String::new(),
    })
}

fn commit(acknowledged: bool) -> LogSays {
    LogSays::Decided { decision: decided(Decision::Commit), acknowledged }
}

fn abort() -> Decision {
    Decision::Abort(AbortReason {
        kind: AbortKind::Timeout,
        participant: None,
        sqlstate: String::new(),
        message: String::new(),
    })
}

fn gone(status: XidStatus) -> Gone {
    Gone { system_identifier: 11, timeline: 1, in_recovery: false, status, marker: Marker::Unknown }
}

fn row_and_action(branch: u16, xid: u32, log: &LogSays) -> (Row, Action) {
    let Verdict { row, action } = judge_prepared(&bank_a(), branch, xid, log);
    (row, action)
}

#[test]
fn r12_a_gid_that_is_not_ours_is_never_touched() {
    let foreign = LogSays::NotOurs { looks_like_ours: false };
    assert_eq!(row_and_action(0, 700, &foreign), (Row::R12, Action::Leave));
    let forged = judge_prepared(&bank_a(), 0, 700, &LogSays::NotOurs { looks_like_ours: true });
    assert!(matches!(forged, Verdict { row: Row::R12, action: Action::LeaveAndAlarm(_) }));
}

#[test]
fn r16_what_was_settled_is_done_as_recorded() {
    let resolved = |commit| LogSays::Settled { how: Settled::Resolved { commit } };
    assert_eq!(row_and_action(0, 700, &resolved(true)), (Row::R16, Action::Commit { xid8: 0, mends: false }));
    assert_eq!(row_and_action(0, 700, &resolved(false)), (Row::R16, Action::Rollback { alarm: None }));
}

#[test]
fn r16_a_hazard_that_is_prepared_again_ends_as_decided_and_is_recorded_as_mended() {
    let hazard = |decided_commit| LogSays::Settled {
        how: Settled::Heuristic { kind: HeuristicKind::Hazard, decided_commit },
    };
    assert_eq!(row_and_action(0, 700, &hazard(true)), (Row::R16, Action::Commit { xid8: 0, mends: true }));
    assert_eq!(row_and_action(0, 700, &hazard(false)), (Row::R16, Action::Rollback { alarm: None }));
}

#[test]
fn r1_a_prepared_branch_of_a_commit_is_committed() {
    let xid8 = branch().xid8;
    assert_eq!(row_and_action(0, 700, &commit(false)), (Row::R1, Action::Commit { xid8, mends: false }));
}

#[test]
fn r1_a_branch_that_had_acknowledged_and_is_prepared_again_is_committed_and_recorded() {
    let xid8 = branch().xid8;
    assert_eq!(row_and_action(0, 700, &commit(true)), (Row::R1, Action::Commit { xid8, mends: true }));
}

#[test]
fn r1x_another_xid_or_an_unlisted_branch_under_a_commit_is_rolled_back_with_an_alarm() {
    for (branch, xid) in [(0, 701), (1, 700)] {
        let verdict = judge_prepared(&bank_a(), branch, xid, &commit(false));
        assert!(
            matches!(verdict, Verdict { row: Row::R1x, action: Action::Rollback { alarm: Some(_) } }),
            "{verdict:?}"
        );
    }
}

#[test]
fn r1x_a_listed_branch_at_another_participant_is_not_the_one_that_was_decided() {
    let verdict = judge_prepared(&"bank_b".parse().unwrap(), 0, 700, &commit(false));
    assert!(matches!(verdict, Verdict { row: Row::R1x, action: Action::Rollback { alarm: Some(_) } }));
}

#[test]
fn r14_a_prepared_branch_of_an_abort_is_rolled_back() {
    let log = LogSays::Decided { decision: decided(abort()), acknowledged: false };
    assert_eq!(row_and_action(0, 700, &log), (Row::R14, Action::Rollback { alarm: None }));
}

#[test]
fn r13_a_delegated_branch_whose_answer_cannot_come_is_left_with_an_alarm() {
    let log = LogSays::Delegated { deciding: true, answer_may_come: false };
    let verdict = judge_prepared(&bank_a(), 0, 700, &log);
    assert!(matches!(verdict, Verdict { row: Row::R13, action: Action::LeaveAndAlarm(_) }));
}

#[test]
fn r13s_a_sibling_of_a_delegated_branch_is_left() {
    for (deciding, answer_may_come) in [(false, false), (false, true), (true, true)] {
        let log = LogSays::Delegated { deciding, answer_may_come };
        assert_eq!(row_and_action(0, 700, &log), (Row::R13s, Action::Leave));
    }
}

#[test]
fn r6_an_undecided_live_branch_is_left_to_the_live_protocol() {
    assert_eq!(row_and_action(0, 700, &LogSays::Nothing(Absence::Live)), (Row::R6, Action::Leave));
}

#[test]
fn r8_absence_that_proves_nothing_leaves_the_branch_with_an_alarm() {
    let log = LogSays::Nothing(Absence::Unproven("the log is stale".into()));
    let verdict = judge_prepared(&bank_a(), 0, 700, &log);
    assert!(matches!(verdict, Verdict { row: Row::R8, action: Action::LeaveAndAlarm(_) }));
}

#[test]
fn r10_below_the_mark_and_in_what_was_written_off_a_person_decides() {
    for (absence, because) in [(Absence::BelowMark, "retention"), (Absence::WrittenOff, "written off")] {
        let (row, action) = row_and_action(0, 700, &LogSays::Nothing(absence));
        let quarantined = matches!(action, Action::Quarantine { why } if why.contains(because));
        assert!(row == Row::R10 && quarantined, "{row} {action:?}");
    }
}

#[test]
fn r5_r7_without_a_record_abort_is_presumed() {
    let log = LogSays::Nothing(Absence::Proven);
    assert_eq!(row_and_action(0, 700, &log), (Row::R5, Action::Rollback { alarm: None }));
}

#[test]
fn r2_an_acknowledged_branch_that_is_gone_needs_nothing_whatever_the_server_remembers() {
    for status in [XidStatus::Committed, XidStatus::Aborted, XidStatus::Forgotten, XidStatus::NotReached] {
        let verdict = judge_gone_after_commit(&branch(), true, &gone(status));
        assert_eq!(verdict, (Row::R2, GoneVerdict::Nothing));
    }
}

#[test]
fn r3_a_committed_xid_on_the_same_timeline_acknowledges() {
    let (row, verdict) = judge_gone_after_commit(&branch(), false, &gone(XidStatus::Committed));
    assert_eq!((row, verdict), (Row::R3, GoneVerdict::Acknowledge));
}

#[test]
fn r3_a_committed_xid_on_another_timeline_is_a_hazard() {
    let moved = Gone { timeline: 2, ..gone(XidStatus::Committed) };
    let (_, verdict) = judge_gone_after_commit(&branch(), false, &moved);
    assert!(matches!(verdict, GoneVerdict::Heuristic { kind: HeuristicKind::Hazard, .. }));
}

#[test]
fn r3_an_aborted_or_unreached_xid_is_a_heuristic_rollback() {
    for status in [XidStatus::Aborted, XidStatus::NotReached] {
        let (_, verdict) = judge_gone_after_commit(&branch(), false, &gone(status));
        assert!(matches!(verdict, GoneVerdict::Heuristic { kind: HeuristicKind::Rollback, .. }));
    }
}

#[test]
fn r3_a_forgotten_xid_is_a_hazard_and_one_in_progress_is_asked_again() {
    let (_, forgotten) = judge_gone_after_commit(&branch(), false, &gone(XidStatus::Forgotten));
    assert!(matches!(forgotten, GoneVerdict::Heuristic { kind: HeuristicKind::Hazard, .. }));
    let (_, running) = judge_gone_after_commit(&branch(), false, &gone(XidStatus::InProgress));
    assert_eq!(running, GoneVerdict::AskAgain { alarm: None });
}

/// Prepared on timeline 1 with a commit marker.
fn marked() -> PreparedBranch {
    PreparedBranch { marker: true, ..branch() }
}

fn promoted(status: XidStatus, marker: Marker) -> Gone {
    Gone { timeline: 2, marker, ..gone(status) }
}

#[test]
fn r3_on_another_timeline_the_commit_marker_says_how_a_branch_ended() {
    for status in [XidStatus::Committed, XidStatus::Forgotten] {
        for branch in [marked(), branch()] {
            let (_, found) = judge_gone_after_commit(&branch, false, &promoted(status, Marker::Committed));
            assert_eq!(found, GoneVerdict::Acknowledge, "a marker stands for the branch alone");
        }
        let (_, lost) = judge_gone_after_commit(&marked(), false, &promoted(status, Marker::Absent));
        let GoneVerdict::Heuristic { kind: HeuristicKind::Rollback, detail } = lost else {
            panic!("{lost:?}")
        };
        assert!(detail.contains("commit marker"), "{detail}");
        for marker in [Marker::Unknown, Marker::Absent] {
            let (_, unmarked) = judge_gone_after_commit(&branch(), false, &promoted(status, marker));
            assert!(matches!(unmarked, GoneVerdict::Heuristic { kind: HeuristicKind::Hazard, .. }));
        }
        let (_, unread) = judge_gone_after_commit(&marked(), false, &promoted(status, Marker::Unknown));
        assert!(matches!(unread, GoneVerdict::Heuristic { kind: HeuristicKind::Hazard, .. }));
    }
}

#[test]
fn r3_on_its_own_timeline_the_transaction_id_says_it_whatever_the_marker() {
    for marker in [Marker::Unknown, Marker::Absent, Marker::Committed, Marker::Aborted] {
        let seen = |status| Gone { marker, ..gone(status) };
        let (_, committed) = judge_gone_after_commit(&marked(), false, &seen(XidStatus::Committed));
        assert_eq!(committed, GoneVerdict::Acknowledge);
        let (_, aborted) = judge_gone_after_commit(&marked(), false, &seen(XidStatus::Aborted));
        assert!(matches!(aborted, GoneVerdict::Heuristic { kind: HeuristicKind::Rollback, .. }));
        let (_, running) = judge_gone_after_commit(&marked(), false, &seen(XidStatus::InProgress));
        assert_eq!(running, GoneVerdict::AskAgain { alarm: None });
    }
}

#[test]
fn r3_r15_a_marker_against_the_servers_word_is_a_hazard() {
    for status in [XidStatus::Aborted, XidStatus::NotReached] {
        let seen = promoted(status, Marker::Committed);
        for (_, verdict) in
            [judge_gone_after_commit(&marked(), false, &seen), judge_gone_after_abort(&marked(), &seen)]
        {
            assert!(matches!(verdict, GoneVerdict::Heuristic { kind: HeuristicKind::Hazard, .. }));
        }
    }
}

#[test]
fn r15_on_another_timeline_the_commit_marker_says_how_a_branch_ended() {
    for status in [XidStatus::Committed, XidStatus::Forgotten] {
        let (_, committed) = judge_gone_after_abort(&marked(), &promoted(status, Marker::Committed));
        assert!(matches!(committed, GoneVerdict::Heuristic { kind: HeuristicKind::Commit, .. }));
        let (_, rolled_back) = judge_gone_after_abort(&marked(), &promoted(status, Marker::Absent));
        assert_eq!(rolled_back, GoneVerdict::Acknowledge);
    }
}

#[test]
fn r11_a_standby_or_another_system_proves_nothing() {
    let standby = Gone { in_recovery: true, ..gone(XidStatus::Committed) };
    let other = Gone { system_identifier: 12, ..gone(XidStatus::Aborted) };
    for gone in [standby, other] {
        for (row, verdict) in
            [judge_gone_after_commit(&branch(), false, &gone), judge_gone_after_abort(&branch(), &gone)]
        {
            assert_eq!(row, Row::R11);
            assert!(matches!(verdict, GoneVerdict::AskAgain { alarm: Some(_) }));
        }
    }
}

#[test]
fn r15_an_aborted_transactions_branch_that_committed_is_a_heuristic_commit() {
    let (row, verdict) = judge_gone_after_abort(&branch(), &gone(XidStatus::Committed));
    assert_eq!(row, Row::R15);
    assert!(matches!(verdict, GoneVerdict::Heuristic { kind: HeuristicKind::Commit, .. }));
}

#[test]
fn r15_anything_but_committed_or_not_yet_known_acknowledges_the_rollback() {
    for status in [XidStatus::Aborted, XidStatus::NotReached, XidStatus::Forgotten] {
        let (_, verdict) = judge_gone_after_abort(&branch(), &gone(status));
        assert_eq!(verdict, GoneVerdict::Acknowledge);
    }
    for status in [XidStatus::InProgress, XidStatus::NotAsked] {
        let (_, verdict) = judge_gone_after_abort(&branch(), &gone(status));
        assert_eq!(verdict, GoneVerdict::AskAgain { alarm: None });
    }
}
