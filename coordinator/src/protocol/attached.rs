//! Attached branches: the application prepares them on connections of its own, under names that it was given at Begin.
//!
//! They are numbered first, in Begin's order; the hosted ones that Commit names follow. How many that will be nobody
//! knows at Begin, so that every gid of such a transaction says 0 for it. Commit takes all of them or aborts: one that
//! is not prepared then is a no. They are never read-only, and never committed in one phase.

use std::collections::BTreeMap;

use votum_proto::names::{BranchNumber, Gid, ParticipantName, SessionName};

use super::event::{BranchClaim, Effect, Vote};
use super::record::{AbortKind, AbortReason, MAX_BRANCHES};
use super::transaction::{Phase, Transaction, Voter, Work};

impl Transaction {
    /// One whose application prepares branches of its own at these participants.
    #[must_use]
    pub fn with_attached(mut self, participants: Vec<ParticipantName>) -> Self {
        self.attached = participants;
        self
    }

    /// Where the application prepares branches of its own.
    pub fn attached(&self) -> &[ParticipantName] {
        &self.attached
    }

    /// The names of its attached branches, in Begin's order.
    pub fn attached_gids(&self) -> impl Iterator<Item = (&ParticipantName, Gid)> {
        (0..).zip(&self.attached).map(|(number, participant)| {
            (participant, Gid { gtid: self.gtid.clone(), branch: number, branches: 0 })
        })
    }

    /// How many branches its gids say that there are, once Commit has named `branches` in all.
    pub(super) fn branches_named(&self, branches: usize) -> BranchNumber {
        if self.attached.is_empty() {
            BranchNumber::try_from(branches).unwrap_or(BranchNumber::MAX)
        } else {
            0
        }
    }

    pub(super) fn attached_voters(&self) -> impl Iterator<Item = Voter> {
        let voter = |participant: &ParticipantName| Voter {
            participant: participant.clone(),
            work: Work::Attached,
            vote: None,
        };
        self.attached.iter().map(voter)
    }

    /// What may be prepared already is rolled back before Commit was asked for. What is prepared later the agents
    /// list (R14, R5).
    pub(super) fn roll_back_attached(&self) -> Vec<Effect> {
        let order = |(participant, gid): (&ParticipantName, Gid)| Effect::SendRollback {
            participant: participant.clone(),
            gid: Some(gid),
            xid8: 0,
            listed_xid: 0,
        };
        if matches!(self.phase, Phase::Active { .. }) {
            self.attached_gids().map(order).collect()
        } else {
            Vec::new()
        }
    }

    /// Why Commit's list cannot be that of a transaction with these attached branches.
    pub(super) fn mistake_beside_attached(
        &self,
        claims: &[BranchClaim],
        reported: &BTreeMap<ParticipantName, SessionName>,
    ) -> Option<String> {
        let all = self.attached.len() + claims.len();
        if all > MAX_BRANCHES {
            return Some(format!(
                "it has {all} branches, attached ones among them; {MAX_BRANCHES} are allowed"
            ));
        }
        // I15: what ran there through the agent would be lost.
        let both = |participant: &&ParticipantName| {
            reported.contains_key(*participant)
                || claims.iter().any(|claim| claim.participant == **participant)
        };
        self.attached.iter().find(both).map(|participant| {
            format!(
                "the branch at {participant} is attached, and statements ran there through the agent, too; a \
                 transaction has one branch at each participant: roll back"
            )
        })
    }
}

/// An attached branch is prepared, or it is a no.
pub(super) fn not_prepared(participant: &ParticipantName, vote: &Vote) -> Option<AbortReason> {
    let offer = match vote {
        Vote::Yes(_) | Vote::No(_) => return None,
        Vote::ReadOnly => "to have nothing of",
        Vote::Ready(_) => "to commit in one phase",
    };
    Some(AbortReason {
        kind: AbortKind::VotedNo,
        participant: Some(participant.clone()),
        sqlstate: String::new(),
        message: format!("the agent claims {offer} a branch that the application prepares"),
    })
}

#[cfg(test)]
#[path = "attached_tests.rs"]
mod tests;
