//! Outcomes, from the driver's words to the wire's.

use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as ReasonKind;
use votum_proto::v1::heuristic_branch::Kind as BranchKind;
use votum_proto::v1::outcome::Kind;

use crate::driver::request::Outcome;
use crate::protocol::record::{AbortKind, AbortReason, Heuristic, HeuristicKind};

/// An outcome for the wire.
pub fn outcome(outcome: Outcome) -> v1::Outcome {
    let kind = match outcome {
        Outcome::Committed { pending, heuristics } => Kind::Committed(v1::Committed {
            completed: pending.is_empty(),
            pending: pending.into_iter().map(Into::into).collect(),
            heuristics: departures(&heuristics),
        }),
        Outcome::ReadOnly => Kind::ReadOnly(v1::ReadOnly {}),
        Outcome::Aborted { reason, heuristics } => Kind::Aborted(v1::Aborted {
            reason: Some(reason.map_or_else(presumed, abort_reason)),
            heuristics: departures(&heuristics),
        }),
        Outcome::InProgress(state) => Kind::InProgress(v1::InProgress { state: state.to_owned() }),
        Outcome::Unknown(detail) => Kind::Unknown(v1::Unknown { detail }),
        Outcome::Expired => Kind::Expired(v1::Expired {}),
    };
    v1::Outcome { kind: Some(kind) }
}

fn presumed() -> v1::AbortReason {
    v1::AbortReason {
        kind: ReasonKind::Presumed.into(),
        message: "the log holds no decision: the transaction was aborted, or had not been decided when the \
                  coordinator stopped"
            .into(),
        retryable: true,
        ..Default::default()
    }
}

fn abort_reason(reason: AbortReason) -> v1::AbortReason {
    let kind = match reason.kind {
        AbortKind::RolledBack => ReasonKind::RolledBack,
        AbortKind::Timeout => ReasonKind::Timeout,
        AbortKind::VotedNo => ReasonKind::VotedNo,
        AbortKind::BranchLost => ReasonKind::BranchLost,
        AbortKind::Coordinator => ReasonKind::Coordinator,
    };
    v1::AbortReason {
        retryable: retryable(&reason),
        kind: kind.into(),
        participant: reason.participant.map(Into::into).unwrap_or_default(),
        sqlstate: reason.sqlstate,
        message: reason.message,
    }
}

/// Whether the same work may succeed if it is run again: serialization failures, deadlocks, and branches
/// that were lost through no fault of the work. Not timeouts: the next run would take as long.
fn retryable(reason: &AbortReason) -> bool {
    match reason.kind {
        AbortKind::BranchLost | AbortKind::Coordinator => true,
        AbortKind::RolledBack | AbortKind::Timeout | AbortKind::VotedNo => {
            matches!(reason.sqlstate.as_str(), "40001" | "40P01")
        }
    }
}

/// The branches that are known to have departed from the decision. A hazard that was mended has not.
pub(super) fn departures(heuristics: &[Heuristic]) -> Vec<v1::HeuristicBranch> {
    Heuristic::departures(heuristics)
        .filter_map(|heuristic| Some((branch_kind(heuristic.kind)?, heuristic)))
        .map(|(kind, heuristic)| v1::HeuristicBranch {
            kind: kind.into(),
            participant: heuristic.participant.to_string(),
            gid: heuristic.gid.to_string(),
            detail: heuristic.detail.clone(),
        })
        .collect()
}

fn branch_kind(kind: HeuristicKind) -> Option<BranchKind> {
    match kind {
        HeuristicKind::Rollback => Some(BranchKind::Rollback),
        HeuristicKind::Commit => Some(BranchKind::Commit),
        HeuristicKind::Hazard => Some(BranchKind::Hazard),
        HeuristicKind::Mended => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason_of(kind: AbortKind, sqlstate: &str) -> v1::AbortReason {
        let reason = AbortReason {
            kind,
            participant: Some("bank".parse().unwrap()),
            sqlstate: sqlstate.into(),
            message: "why".into(),
        };
        let aborted = outcome(Outcome::Aborted { reason: Some(reason), heuristics: Vec::new() });
        let Some(Kind::Aborted(aborted)) = aborted.kind else { panic!("not aborted") };
        aborted.reason.unwrap()
    }

    #[test]
    fn only_what_may_succeed_on_another_run_is_called_retryable() {
        assert!(reason_of(AbortKind::VotedNo, "40001").retryable);
        assert!(reason_of(AbortKind::VotedNo, "40P01").retryable);
        assert!(!reason_of(AbortKind::VotedNo, "23505").retryable);
        assert!(!reason_of(AbortKind::Timeout, "").retryable);
        assert!(reason_of(AbortKind::BranchLost, "").retryable);
        assert_eq!(reason_of(AbortKind::VotedNo, "23505").participant, "bank");
    }

    #[test]
    fn an_abort_without_a_record_is_presumed() {
        let aborted = outcome(Outcome::Aborted { reason: None, heuristics: Vec::new() });
        let Some(Kind::Aborted(aborted)) = aborted.kind else { panic!("not aborted") };
        assert_eq!(aborted.reason.unwrap().kind(), ReasonKind::Presumed);
    }

    #[test]
    fn a_commit_is_completed_when_nothing_is_pending_and_names_unmended_departures() {
        let heuristic = |branch, kind| Heuristic {
            gid: format!("votum_acme_7_3f9ac2_1_{branch}_2").parse().unwrap(),
            participant: "bank".parse().unwrap(),
            xid8: 700,
            kind,
            detail: "seen".into(),
        };
        let heuristics = vec![
            heuristic(0, HeuristicKind::Hazard),
            heuristic(1, HeuristicKind::Rollback),
            heuristic(0, HeuristicKind::Mended),
        ];
        let Some(Kind::Committed(committed)) =
            outcome(Outcome::Committed { pending: Vec::new(), heuristics }).kind
        else {
            panic!("not committed")
        };
        assert!(committed.completed);
        assert_eq!(committed.heuristics.len(), 1);
        assert_eq!(committed.heuristics[0].kind(), BranchKind::Rollback);
        let pending = vec!["bank".parse().unwrap()];
        let Some(Kind::Committed(committed)) =
            outcome(Outcome::Committed { pending, heuristics: Vec::new() }).kind
        else {
            panic!("not committed")
        };
        assert!(!committed.completed);
    }
}
