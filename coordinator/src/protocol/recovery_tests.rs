//! One test for each row of the recovery table, by name.

use super::super::record::{AbortKind, AbortReason, PreparedBranch};
use super::*;

fn bank_a() -> ParticipantName {
    "bank_a".parse().unwrap()
}

pub(in crate::protocol) fn branch() -> PreparedBranch {
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
