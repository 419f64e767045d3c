//! How a transaction stands, for those who ask.

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{BranchNumber, ParticipantName};

use super::record::{AbortReason, Decided, Decision};
use super::transaction::{Delivery, Phase, Transaction, Voted, Voter};

/// The outcome, as far as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Not decided: the state's name.
    InProgress(&'static str),
    /// Decided commit, on disk: where acknowledgements are owed.
    Committed {
        /// The participants that owe one.
        pending: Vec<ParticipantName>,
    },
    /// No branch can ever commit.
    Aborted(AbortReason),
    /// Committed everywhere, nothing written.
    ReadOnly,
}

/// One branch, for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BranchView {
    /// Where.
    pub participant: ParticipantName,
    /// Its number, once it has one.
    pub number: Option<BranchNumber>,
    /// Its state in a word.
    pub state: &'static str,
    /// Its xid8, or 0.
    pub xid8: u64,
}

impl Transaction {
    /// The state's name, in the protocol's words.
    pub fn state(&self) -> &'static str {
        match &self.phase {
            Phase::Active { .. } => "active",
            Phase::Preparing { .. } => "preparing",
            Phase::Deciding { .. } => "deciding",
            Phase::Delegating { .. } => "delegating",
            Phase::OnePhase { .. } => "one-phase",
            Phase::Committing { .. } => "committing",
            Phase::Committed { .. } => "committed",
            Phase::Aborting { .. } => "aborting",
            Phase::Aborted { .. } => "aborted",
            Phase::ReadOnly => "read-only",
        }
    }

    /// Whether its Commit is still to come.
    pub fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active { .. })
    }

    /// Whether its timeout still acts, and it counts against the limit of live transactions.
    pub fn is_undecided(&self) -> bool {
        match self.phase {
            Phase::Active { .. }
            | Phase::Preparing { .. }
            | Phase::Deciding { .. }
            | Phase::Delegating { .. } => true,
            Phase::OnePhase { .. }
            | Phase::Committing { .. }
            | Phase::Committed { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => false,
        }
    }

    /// The outcome, as far as it stands.
    pub fn standing(&self) -> Standing {
        match &self.phase {
            Phase::Deciding { .. } if sings(Canary::AnswerBeforeForced) => {
                Standing::Committed { pending: Vec::new() }
            }
            Phase::Active { .. }
            | Phase::Preparing { .. }
            | Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. } => Standing::InProgress(self.state()),
            Phase::Committing { decided, delivered } => {
                let owed = decided.branches.iter().zip(delivered).filter(|(_, d)| d.is_awaited());
                Standing::Committed { pending: owed.map(|(b, _)| b.participant.clone()).collect() }
            }
            Phase::Committed { .. } => Standing::Committed { pending: Vec::new() },
            Phase::Aborting { decided: Decided { decision: Decision::Abort(reason), .. }, .. }
            | Phase::Aborted { reason } => Standing::Aborted(reason.clone()),
            // `Aborting` is entered with an abort only.
            Phase::Aborting { .. } => Standing::InProgress(self.state()),
            Phase::ReadOnly => Standing::ReadOnly,
        }
    }

    /// Whether its commit is decided, and this participant has yet to acknowledge it.
    pub fn owes(&self, participant: &ParticipantName) -> bool {
        match &self.phase {
            Phase::Committing { decided, delivered } => {
                let mut owed = decided.branches.iter().zip(delivered).filter(|(_, d)| d.is_awaited());
                owed.any(|(branch, _)| branch.participant == *participant)
            }
            Phase::Active { .. }
            | Phase::Preparing { .. }
            | Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committed { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => false,
        }
    }

    /// Its branches, for people.
    pub fn branches(&self) -> Vec<BranchView> {
        match &self.phase {
            Phase::Active { sessions } => {
                let attached = self
                    .attached_gids()
                    .map(|(participant, gid)| (participant, Some(gid.branch), "attached"));
                let enlisted = sessions.keys().map(|participant| (participant, None, "enlisted"));
                let view = |(participant, number, state): (&ParticipantName, _, _)| BranchView {
                    participant: participant.clone(),
                    number,
                    state,
                    xid8: 0,
                };
                attached.chain(enlisted).map(view).collect()
            }
            Phase::Preparing { branches } => (0..).zip(branches).map(|(n, b)| b.view(n)).collect(),
            Phase::Deciding { decided } => views(decided, |_| "yes"),
            Phase::Delegating { decided } => views(decided, |place| waiting(decided, place, "ready")),
            Phase::OnePhase { decided, .. } => views(decided, |place| waiting(decided, place, "committing")),
            Phase::Committing { decided, delivered } => views(decided, |place| match delivered.get(place) {
                Some(Delivery::Owed | Delivery::Departing) | None => "committing",
                Some(Delivery::Acknowledged) => "acknowledged",
                Some(Delivery::Heuristic) => "heuristic",
                Some(Delivery::Overruled(_)) => "overruled",
            }),
            Phase::Committed { decided } => views(decided, |_| "acknowledged"),
            Phase::Aborting { undone, .. } => undone
                .iter()
                .map(|undo| BranchView {
                    participant: undo.participant.clone(),
                    number: Some(undo.number),
                    state: match (undo.done, undo.overruling) {
                        (false, Some(_)) => "overruled",
                        (true, _) => "rolled back",
                        (false, None) => "rolling back",
                    },
                    xid8: 0,
                })
                .collect(),
            Phase::Aborted { .. } | Phase::ReadOnly => Vec::new(),
        }
    }
}

impl Voter {
    fn view(&self, number: BranchNumber) -> BranchView {
        let (state, xid8) = match self.vote {
            None => ("preparing", 0),
            Some(Voted::Yes(prepared)) => ("yes", prepared.xid8),
            Some(Voted::ReadOnly) => ("read-only", 0),
        };
        BranchView { participant: self.participant.clone(), number: Some(number), state, xid8 }
    }
}

/// What a branch is in a transaction that was handed to one of them.
fn waiting(decided: &Decided, place: usize, deciding: &'static str) -> &'static str {
    let decides = decided.branches.get(place).zip(decided.deciding()).is_some_and(|(at, it)| at == it);
    if decides { deciding } else { "yes" }
}

fn views(decided: &Decided, state: impl Fn(usize) -> &'static str) -> Vec<BranchView> {
    decided
        .branches
        .iter()
        .enumerate()
        .map(|(place, branch)| BranchView {
            participant: branch.participant.clone(),
            number: Some(branch.number),
            state: state(place),
            xid8: branch.xid8,
        })
        .collect()
}
