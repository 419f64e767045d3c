//! The last agent: where a transaction asks for it, one branch of several is not prepared. When all others are, the
//! decision is handed to it, with its work: it commits, and that decides for all of them; or it does not, and never
//! will (R13). From the record of that on it is a commit in one phase (`one_phase`) that has siblings.

use votum_proto::names::BranchNumber;

use super::event::Effect;
use super::one_phase::{Handed, delegation};
use super::record::{AbortReason, Decided, Decision, PreparedBranch};
use super::transaction::{Delivery, Phase, Transaction, Undo, Voter};

/// The branch that decides for its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LastAgent {
    /// Its place in Commit's list.
    pub number: BranchNumber,
    /// The server's own name, as it was listed. The branch runs nowhere else.
    pub system_identifier: u64,
    /// Its timeline.
    pub timeline: u32,
}

impl Transaction {
    /// Has a branch decide for the others. To be said before Commit, which names at least two.
    pub fn let_decide(&mut self, last: LastAgent) {
        if matches!(self.phase, Phase::Active { .. }) {
            self.last = Some(last);
        }
    }

    /// Whether this branch decides, and is asked for no vote.
    pub(super) fn decides(&self, number: BranchNumber) -> bool {
        self.last.is_some_and(|last| last.number == number)
    }

    /// Whether others wait for what was handed to a branch.
    pub(super) fn has_siblings(&self) -> bool {
        matches!(&self.phase, Phase::OnePhase { decided, .. } if has_siblings(decided))
    }

    /// How many branches are asked for a vote.
    pub fn voters(&self) -> usize {
        self.branches().len().saturating_sub(usize::from(self.last.is_some()))
    }

    /// All others have voted yes or read-only: the decision is the last branch's own.
    pub(super) fn delegate_to(&mut self, last: LastAgent) -> Vec<Effect> {
        let Phase::Preparing { branches } = &self.phase else { return Vec::new() };
        let Some(Voter { participant, .. }) = branches.get(usize::from(last.number)) else {
            return Vec::new();
        };
        let deciding = PreparedBranch {
            number: last.number,
            participant: participant.clone(),
            xid8: 0,
            system_identifier: last.system_identifier,
            timeline: last.timeline,
            marker: true,
        };
        let mut decided = self.decision(Decision::Commit, branches);
        decided.branches.push(deciding);
        self.phase = Phase::Delegating { decided: decided.clone() };
        delegation(&decided)
    }

    /// The branch has committed: its siblings follow. They were prepared by this life, or by an earlier one.
    pub(super) fn siblings_follow(&mut self, decided: Decided, handed: Handed) -> Vec<Effect> {
        let delivered = deliveries(&decided);
        self.phase = Phase::Committing { decided, delivered };
        self.commit_orders(handed != Handed::Now, |_| true)
    }

    /// It has not, and never will: they are rolled back. `decided` is the abort.
    pub(super) fn siblings_roll_back(&mut self, decided: Decided) -> Vec<Effect> {
        let undone = decided.branches.iter().map(Undo::owed).collect();
        self.phase = Phase::Aborting { decided, undone };
        self.rollback_orders(|_| true)
    }
}

/// How far the branches of a commit are before anything is ordered: the one that decided it has ended.
pub(super) fn deliveries(decided: &Decided) -> Vec<Delivery> {
    let delivery = |branch: &PreparedBranch| {
        if branch.was_never_prepared() { Delivery::Acknowledged } else { Delivery::Owed }
    };
    decided.branches.iter().map(delivery).collect()
}

/// What is recorded where it does not commit: an abort names the branches that had voted yes. A branch that offered
/// to be committed in one phase had.
pub(super) fn aborted(decided: &Decided, reason: AbortReason) -> Decided {
    let mut aborted = Decided { decision: Decision::Abort(reason), ..decided.clone() };
    aborted.branches.retain(|branch| !branch.was_never_prepared());
    aborted
}

/// Whether others wait for what was handed to a branch.
pub(super) fn has_siblings(decided: &Decided) -> bool {
    decided.deciding().is_some_and(PreparedBranch::was_never_prepared)
}

#[cfg(test)]
#[path = "last_agent_tests.rs"]
mod tests;
