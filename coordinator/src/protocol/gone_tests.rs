//! One test for each answer about a branch that is gone, by the row of the recovery table.

use super::super::recovery::tests::branch;
use super::*;

fn gone(status: XidStatus) -> Gone {
    Gone { system_identifier: 11, timeline: 1, in_recovery: false, status, marker: Marker::Unknown }
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
