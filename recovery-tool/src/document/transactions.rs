//! Transactions: many in a line each, or one with all that is known.

use serde::Serialize;
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as ReasonKind;
use votum_proto::v1::heuristic_branch::Kind as HeuristicKind;
use votum_proto::v1::outcome::Kind;

use super::known;
use super::records::LogRecord;
use crate::failure::Exit;

/// The answer of `votumctl list`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct List {
    pub(crate) transactions: Vec<Summary>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) gtid: String,
    pub(crate) state: String,
    pub(crate) label: Option<String>,
    pub(crate) participants: Vec<String>,
    /// Of live transactions only.
    pub(crate) age_ms: Option<u64>,
    pub(crate) live: bool,
}

/// The answer of `votumctl show`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    pub(crate) outcome: Outcome,
    pub(crate) branches: Vec<Branch>,
    pub(crate) records: Vec<LogRecord>,
    pub(crate) next: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Branch {
    pub(crate) participant: String,
    pub(crate) gid: Option<String>,
    pub(crate) state: String,
    pub(crate) xid8: Option<u64>,
    pub(crate) trouble: Option<String>,
}

/// How it ended, or when to ask again.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    /// committed, read_only, aborted, in_progress, unknown, expired.
    pub(crate) kind: &'static str,
    /// Of a commit: every branch has acknowledged.
    pub(crate) completed: Option<bool>,
    pub(crate) pending: Vec<String>,
    pub(crate) heuristics: Vec<Heuristic>,
    pub(crate) reason: Option<Reason>,
    /// The state it is in, or why it is not known.
    pub(crate) detail: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Heuristic {
    /// rollback, commit, hazard.
    pub(crate) kind: &'static str,
    pub(crate) participant: String,
    pub(crate) gid: Option<String>,
    pub(crate) detail: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reason {
    /// rolled_back, timeout, voted_no, branch_lost, presumed, coordinator.
    pub(crate) kind: &'static str,
    pub(crate) participant: Option<String>,
    pub(crate) sqlstate: Option<String>,
    pub(crate) message: String,
    pub(crate) retryable: bool,
}

impl Shown {
    /// A branch that departed from the decision, or does not get on, asks for a person.
    pub(crate) fn exit(&self) -> Exit {
        let calm = self.outcome.heuristics.is_empty()
            && self.branches.iter().all(|branch| {
                branch.trouble.is_none() && !["heuristic", "quarantined"].contains(&branch.state.as_str())
            });
        if calm { Exit::Fine } else { Exit::Attention }
    }
}

impl From<v1::TransactionSummary> for Summary {
    fn from(summary: v1::TransactionSummary) -> Self {
        Self {
            gtid: summary.gtid,
            state: summary.state,
            label: known(summary.label),
            participants: summary.participants,
            age_ms: summary.live.then_some(summary.age_ms),
            live: summary.live,
        }
    }
}

impl From<v1::ListTransactionsResponse> for List {
    fn from(answer: v1::ListTransactionsResponse) -> Self {
        Self { transactions: answer.transactions.into_iter().map(Summary::from).collect() }
    }
}

impl From<v1::ShowTransactionResponse> for Shown {
    fn from(answer: v1::ShowTransactionResponse) -> Self {
        Self {
            summary: answer.summary.unwrap_or_default().into(),
            outcome: answer.outcome.unwrap_or_default().into(),
            branches: answer.branches.into_iter().map(Branch::from).collect(),
            records: answer.records.into_iter().map(LogRecord::from).collect(),
            next: answer.next,
        }
    }
}

impl From<v1::BranchState> for Branch {
    fn from(branch: v1::BranchState) -> Self {
        Self {
            participant: branch.participant,
            gid: known(branch.gid),
            state: branch.state,
            xid8: (branch.xid8 != 0).then_some(branch.xid8),
            trouble: known(branch.trouble),
        }
    }
}

impl Outcome {
    fn plain(kind: &'static str, detail: Option<String>) -> Self {
        Self { kind, completed: None, pending: Vec::new(), heuristics: Vec::new(), reason: None, detail }
    }
}

impl From<v1::Outcome> for Outcome {
    fn from(outcome: v1::Outcome) -> Self {
        match outcome.kind {
            Some(Kind::Committed(committed)) => Self {
                completed: Some(committed.completed),
                pending: committed.pending,
                heuristics: committed.heuristics.into_iter().map(Heuristic::from).collect(),
                ..Self::plain("committed", None)
            },
            Some(Kind::ReadOnly(_)) => Self::plain("read_only", None),
            Some(Kind::Aborted(aborted)) => Self {
                heuristics: aborted.heuristics.into_iter().map(Heuristic::from).collect(),
                reason: aborted.reason.map(Reason::from),
                ..Self::plain("aborted", None)
            },
            Some(Kind::InProgress(progress)) => Self::plain("in_progress", known(progress.state)),
            Some(Kind::Unknown(unknown)) => Self::plain("unknown", known(unknown.detail)),
            Some(Kind::Expired(_)) => Self::plain("expired", None),
            None => Self::plain("unknown", Some("the coordinator speaks a newer protocol".into())),
        }
    }
}

impl From<v1::HeuristicBranch> for Heuristic {
    fn from(branch: v1::HeuristicBranch) -> Self {
        let kind = match branch.kind() {
            HeuristicKind::Rollback => "rollback",
            HeuristicKind::Commit => "commit",
            HeuristicKind::Hazard | HeuristicKind::Unspecified => "hazard",
        };
        Self { kind, participant: branch.participant, gid: known(branch.gid), detail: branch.detail }
    }
}

impl From<v1::AbortReason> for Reason {
    fn from(reason: v1::AbortReason) -> Self {
        let kind = match reason.kind() {
            ReasonKind::RolledBack => "rolled_back",
            ReasonKind::Timeout => "timeout",
            ReasonKind::VotedNo => "voted_no",
            ReasonKind::BranchLost => "branch_lost",
            ReasonKind::Presumed => "presumed",
            ReasonKind::Coordinator => "coordinator",
            ReasonKind::Unspecified => "unspecified",
        };
        Self {
            kind,
            participant: known(reason.participant),
            sqlstate: known(reason.sqlstate),
            message: reason.message,
            retryable: reason.retryable,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A commit that bank-b still owes an acknowledgement.
    pub(crate) fn committing() -> v1::ShowTransactionResponse {
        let branch = |participant: &str, number: u16, state: &str, xid8| v1::BranchState {
            participant: participant.into(),
            gid: format!("votum_acme_7_3f9ac2_1042_{number}_2"),
            state: state.into(),
            xid8,
            trouble: String::new(),
        };
        let record = |position, kind: &str, text: &str| v1::LogRecord {
            position,
            kind: kind.into(),
            running_ms: 65_000 + position,
            text: text.into(),
        };
        let committed = v1::Committed { pending: vec!["bank-b".into()], ..Default::default() };
        v1::ShowTransactionResponse {
            summary: Some(summary("committing")),
            outcome: Some(v1::Outcome { kind: Some(Kind::Committed(committed)) }),
            branches: vec![branch("bank-a", 0, "acknowledged", 731), branch("bank-b", 1, "committing", 742)],
            records: vec![
                record(4709, "Begun", "label transfer, timeout 30 s"),
                record(4710, "Decided", "commit: bank-a xid8 731, bank-b xid8 742"),
            ],
            next: "COMMIT PREPARED at bank-b, again and again until it is acknowledged".into(),
        }
    }

    pub(crate) fn summary(state: &str) -> v1::TransactionSummary {
        v1::TransactionSummary {
            gtid: "acme-7-3f9ac2-1042".into(),
            state: state.into(),
            label: "transfer".into(),
            participants: vec!["bank-a".into(), "bank-b".into()],
            age_ms: 3_240,
            live: true,
        }
    }

    fn heuristic() -> v1::HeuristicBranch {
        v1::HeuristicBranch {
            kind: HeuristicKind::Rollback.into(),
            participant: "bank-a".into(),
            gid: "votum_acme_7_3f9ac2_1042_0_2".into(),
            detail: "the server says that transaction id 731 aborted".into(),
        }
    }

    /// An abort that could not be kept everywhere: every key of the document has a value.
    pub(crate) fn departed() -> v1::ShowTransactionResponse {
        let reason = v1::AbortReason {
            kind: ReasonKind::VotedNo.into(),
            participant: "bank-b".into(),
            sqlstate: "23505".into(),
            message: "duplicate key".into(),
            retryable: false,
        };
        let aborted = v1::Aborted { reason: Some(reason), heuristics: vec![heuristic()] };
        v1::ShowTransactionResponse {
            outcome: Some(v1::Outcome { kind: Some(Kind::Aborted(aborted)) }),
            ..committing()
        }
    }

    #[test]
    fn a_branch_that_departed_or_is_stuck_asks_for_attention() {
        assert_eq!(Shown::from(committing()).exit(), Exit::Fine);
        assert_eq!(Shown::from(departed()).exit(), Exit::Attention);
        let mut stuck = committing();
        stuck.branches[1].trouble = "55000: busy".into();
        assert_eq!(Shown::from(stuck).exit(), Exit::Attention);
    }

    #[test]
    fn the_age_of_a_transaction_that_is_not_live_is_not_known() {
        let recorded = v1::TransactionSummary { live: false, age_ms: 0, ..summary("committed") };
        assert_eq!(Summary::from(recorded).age_ms, None);
    }
}
