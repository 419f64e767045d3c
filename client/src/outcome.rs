//! How a transaction ended.

use std::fmt;

use votum_proto::v1;
use votum_proto::v1::outcome::Kind;

/// How a transaction ended, as [`Transaction::commit`](crate::Transaction::commit) reports it.
///
/// An abort is an outcome, not an error: the transaction did what a transaction may do.
///
/// ```no_run
/// # async fn example(tx: votum_client::Transaction) -> Result<(), votum_client::Error> {
/// use votum_client::Outcome;
/// match tx.commit().await? {
///     Outcome::Committed(_) | Outcome::ReadOnly => println!("done"),
///     Outcome::Aborted(abort) => println!("nothing happened anywhere: {abort}"),
///     Outcome::Unknown { gtid, detail } => println!("ask later what became of {gtid}: {detail}"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every branch commits, or has.
    Committed(Committed),
    /// Committed at every participant; nothing was written at any of them.
    ReadOnly,
    /// No branch has committed, and none ever will.
    Aborted(Abort),
    /// It could not be learnt in time. It may have committed: do not run it again, ask with
    /// [`Votum::transaction`](crate::Votum::transaction).
    Unknown {
        /// Which transaction to ask about; empty where a request without an idempotency key was answered by nobody.
        gtid: String,
        /// Why it is not known.
        detail: String,
    },
}

impl Outcome {
    /// Whether the transaction's work is done for good: committed, or nothing was to be written.
    pub fn is_committed(&self) -> bool {
        match self {
            Self::Committed(_) | Self::ReadOnly => true,
            Self::Aborted(_) | Self::Unknown { .. } => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed(committed) => committed.fmt(f),
            Self::ReadOnly => f.write_str("committed; nothing was written"),
            Self::Aborted(abort) => abort.fmt(f),
            Self::Unknown { gtid, detail } if gtid.is_empty() => {
                write!(f, "the outcome is not known: {detail}; look before you run it again")
            }
            Self::Unknown { gtid, detail } => {
                write!(f, "the outcome of {gtid} is not known: {detail}; ask again before running it again")
            }
        }
    }
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Whether every branch has acknowledged, so that its writes can be read everywhere.
    pub completed: bool,
    /// The participants whose acknowledgement is still owed. They will commit.
    pub pending: Vec<String>,
    /// Branches that are known to have ended otherwise, by somebody's hand or a failover.
    pub heuristics: Vec<HeuristicBranch>,
}

impl fmt::Display for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("committed")?;
        if !self.completed {
            write!(f, "; not yet acknowledged by {}", self.pending.join(", "))?;
        }
        heuristics(f, &self.heuristics)
    }
}

/// An abort, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abort {
    /// What kind of cause.
    pub kind: AbortKind,
    /// The participant whose branch was the cause, when there is one.
    pub participant: Option<String>,
    /// The SQLSTATE, when a database's answer was the cause.
    pub sqlstate: Option<String>,
    /// For people.
    pub message: String,
    /// Whether the same transaction may succeed if it is run again: after a serialization failure, a deadlock,
    /// or the loss of a session.
    pub retryable: bool,
    /// Branches that are known to have committed all the same, by somebody's hand.
    pub heuristics: Vec<HeuristicBranch>,
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aborted ({}", self.kind)?;
        if let Some(participant) = &self.participant {
            write!(f, ", {participant}")?;
        }
        if let Some(sqlstate) = &self.sqlstate {
            write!(f, ", SQLSTATE {sqlstate}")?;
        }
        f.write_str(")")?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        heuristics(f, &self.heuristics)
    }
}

/// What kind of cause aborted a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortKind {
    /// The client asked for it, or dropped the transaction.
    RolledBack,
    /// The transaction's timeout passed before every vote was in.
    Timeout,
    /// A participant refused to prepare its branch.
    VotedNo,
    /// A branch was lost before it was prepared: its session, connection or agent ended.
    BranchLost,
    /// No decision was found after a restart.
    Presumed,
    /// The coordinator ended it: it was stopping, or an operator asked for it.
    Coordinator,
    /// A cause that this version of the client has no word for.
    Other,
}

impl fmt::Display for AbortKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RolledBack => "rolled back",
            Self::Timeout => "timeout",
            Self::VotedNo => "a participant voted no",
            Self::BranchLost => "a branch was lost",
            Self::Presumed => "presumed after a restart",
            Self::Coordinator => "ended by the coordinator",
            Self::Other => "another reason",
        })
    }
}

/// A branch that ended otherwise than decided, or of which nobody can say how it ended. An operator has to
/// look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeuristicBranch {
    /// In which way.
    pub kind: HeuristicKind,
    /// Where it is.
    pub participant: String,
    /// Its name in `pg_prepared_xacts`.
    pub gid: String,
    /// What is known, for people.
    pub detail: String,
}

/// In which way a branch departed from the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeuristicKind {
    /// Decided commit, rolled back.
    Rollback,
    /// Decided abort, committed.
    Commit,
    /// Nobody can say how it ended.
    Hazard,
}

fn heuristics(f: &mut fmt::Formatter<'_>, branches: &[HeuristicBranch]) -> fmt::Result {
    for branch in branches {
        let how = match branch.kind {
            HeuristicKind::Rollback => "was rolled back",
            HeuristicKind::Commit => "was committed",
            HeuristicKind::Hazard => "ended in a way that nobody can tell",
        };
        write!(f, "; BUT the branch at {} {how} ({}): {}", branch.participant, branch.gid, branch.detail)?;
    }
    Ok(())
}

/// What the coordinator knows of a transaction, as [`Votum::transaction`](crate::Votum::transaction) and
/// [`Votum::transaction_by_key`](crate::Votum::transaction_by_key) report it.
///
/// ```no_run
/// # async fn example(votum: votum_client::Votum) -> Result<(), votum_client::Error> {
/// use votum_client::Status;
/// let found = votum.transaction("acme-7-3f9ac2-1042").await?;
/// if let Status::Committed(committed) = found.status {
///     println!("{}: {committed}", found.gtid);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Every branch commits, or has.
    Committed(Committed),
    /// Committed at every participant; nothing was written at any of them.
    ReadOnly,
    /// No branch has committed, and none ever will.
    Aborted(Abort),
    /// Begun, and not yet decided.
    InProgress {
        /// A word of the protocol's states: active, preparing, deciding, delegating.
        state: String,
    },
    /// Not known now; a later answer will be an outcome.
    Unknown {
        /// Why, and what would change that.
        detail: String,
    },
    /// It ended longer ago than the log remembers.
    Expired,
}

impl Status {
    /// As an outcome; or why it is none yet.
    pub(crate) fn outcome(self) -> Result<Outcome, String> {
        match self {
            Self::Committed(committed) => Ok(Outcome::Committed(committed)),
            Self::ReadOnly => Ok(Outcome::ReadOnly),
            Self::Aborted(abort) => Ok(Outcome::Aborted(abort)),
            Self::InProgress { state } => Err(format!("the transaction is still {state}")),
            Self::Unknown { detail } => Err(detail),
            Self::Expired => Err("it ended longer ago than the log remembers".to_owned()),
        }
    }
}

/// A transaction that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its gtid.
    pub gtid: String,
    /// What is known of it.
    pub status: Status,
}

impl From<v1::Outcome> for Status {
    fn from(outcome: v1::Outcome) -> Self {
        match outcome.kind {
            Some(Kind::Committed(committed)) => Self::Committed(Committed {
                completed: committed.completed,
                pending: committed.pending,
                heuristics: committed.heuristics.into_iter().map(Into::into).collect(),
            }),
            Some(Kind::ReadOnly(v1::ReadOnly {})) => Self::ReadOnly,
            Some(Kind::Aborted(aborted)) => {
                let mut abort = Abort::from(aborted.reason.unwrap_or_default());
                abort.heuristics = aborted.heuristics.into_iter().map(Into::into).collect();
                Self::Aborted(abort)
            }
            Some(Kind::InProgress(progress)) => Self::InProgress { state: progress.state },
            Some(Kind::Unknown(unknown)) => Self::Unknown { detail: unknown.detail },
            Some(Kind::Expired(v1::Expired {})) => Self::Expired,
            None => Self::Unknown {
                detail: "the coordinator's answer named no outcome that is known here".into(),
            },
        }
    }
}

impl From<v1::AbortReason> for Abort {
    fn from(reason: v1::AbortReason) -> Self {
        use v1::abort_reason::Kind;
        let kind = match reason.kind() {
            Kind::Unspecified => AbortKind::Other,
            Kind::RolledBack => AbortKind::RolledBack,
            Kind::Timeout => AbortKind::Timeout,
            Kind::VotedNo => AbortKind::VotedNo,
            Kind::BranchLost => AbortKind::BranchLost,
            Kind::Presumed => AbortKind::Presumed,
            Kind::Coordinator => AbortKind::Coordinator,
        };
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            kind,
            participant: some(reason.participant),
            sqlstate: some(reason.sqlstate),
            message: reason.message,
            retryable: reason.retryable,
            heuristics: Vec::new(),
        }
    }
}

impl From<v1::HeuristicBranch> for HeuristicBranch {
    fn from(branch: v1::HeuristicBranch) -> Self {
        use v1::heuristic_branch::Kind;
        let kind = match branch.kind() {
            Kind::Rollback => HeuristicKind::Rollback,
            Kind::Commit => HeuristicKind::Commit,
            // A kind that is not known here is one of which nothing can be said.
            Kind::Hazard | Kind::Unspecified => HeuristicKind::Hazard,
        };
        Self { kind, participant: branch.participant, gid: branch.gid, detail: branch.detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heuristic_branch_is_never_hidden() {
        let branch = v1::HeuristicBranch {
            kind: v1::heuristic_branch::Kind::Commit.into(),
            participant: "bank_b".into(),
            gid: "votum_acme_7_3f9ac2_1042_1_2".into(),
            detail: "committed by hand".into(),
        };
        let aborted = v1::Aborted { reason: None, heuristics: vec![branch] };
        let status = Status::from(v1::Outcome { kind: Some(Kind::Aborted(aborted)) });
        let text = status.outcome().unwrap().to_string();
        assert!(text.contains("BUT the branch at bank_b was committed"), "{text}");
    }

    #[test]
    fn what_is_not_an_outcome_does_not_become_one() {
        for kind in [
            None,
            Some(Kind::InProgress(v1::InProgress { state: "preparing".into() })),
            Some(Kind::Unknown(v1::Unknown { detail: "delegated".into() })),
            Some(Kind::Expired(v1::Expired {})),
        ] {
            assert!(Status::from(v1::Outcome { kind }).outcome().is_err());
        }
    }
}
