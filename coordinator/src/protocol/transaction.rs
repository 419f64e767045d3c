//! One transaction: its state, and what each event makes of it.

use std::collections::BTreeMap;

use votum_proto::names::{BranchNumber, Gid, Gtid, ParticipantName, SessionName};

use super::event::{Effect, Event, Prepared};
use super::last_agent::LastAgent;
use super::one_phase::Handed;
use super::record::{
    AbortReason, Decided, Decision, Heuristic, HeuristicKind, KeyRecord, PreparedBranch, Record, Resolved,
};
use super::recovery::low_half;

/// A global transaction in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transaction {
    pub(super) gtid: Gtid,
    pub(super) label: String,
    pub(super) key: Option<KeyRecord>,
    /// Where the application prepares branches of its own. Not known of one that was recovered.
    pub(super) attached: Vec<ParticipantName>,
    pub(super) heuristics: Vec<Heuristic>,
    /// What people settled, on disk.
    pub(super) resolved: Vec<Resolved>,
    /// The branch that is to decide for the others.
    pub(super) last: Option<LastAgent>,
    /// What was handed to a branch was aborted, and the record of that is on its way: until it is on disk the log says
    /// otherwise, and memory has to know better.
    pub(super) unrecorded: bool,
    pub(super) phase: Phase,
}

/// The state, with what is known in it.
#[allow(clippy::enum_variant_names)] // the protocol's word
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Active {
        sessions: BTreeMap<ParticipantName, SessionName>,
    },
    Preparing {
        branches: Vec<Voter>,
    },
    /// The record is on its way to the disk.
    Deciding {
        decided: Decided,
    },
    /// The record that the decision is one branch's own is on its way to the disk.
    Delegating {
        decided: Decided,
    },
    /// It is on disk, and the branch's answer is awaited. `decided` is what its commit would decide.
    OnePhase {
        decided: Decided,
        handed: Handed,
    },
    Committing {
        decided: Decided,
        delivered: Vec<Delivery>,
    },
    Aborting {
        decided: Decided,
        undone: Vec<Undo>,
    },
    /// `Ended` is on its way to the disk.
    Committed {
        decided: Decided,
    },
    Aborted {
        reason: AbortReason,
    },
    ReadOnly,
}

/// A branch that was asked to prepare.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Voter {
    pub(super) participant: ParticipantName,
    pub(super) work: Work,
    pub(super) vote: Option<Voted>,
}

/// Who has worked in a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// The agent, as the client claims it.
    Hosted { session: SessionName, last_ordinal: u64 },
    /// The application, on a connection of its own.
    Attached,
}

impl Voter {
    /// The session that the client claimed.
    pub(super) fn session(&self) -> Option<SessionName> {
        match self.work {
            Work::Hosted { session, .. } => Some(session),
            Work::Attached => None,
        }
    }
}

/// A vote that lets the transaction go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Voted {
    Yes(Prepared),
    ReadOnly,
}

/// How far one branch of `Decided::branches` (same place) is with its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Delivery {
    Owed,
    Acknowledged,
    /// Ended otherwise, or nobody knows; the record of it is on its way to the disk. No later answer changes
    /// that.
    Departing,
    /// As before, and recorded.
    Heuristic,
    /// A person departs from the decision.
    Overruled(Overruling),
}

/// How far a person's departure from the decision is (`departure`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Overruling {
    /// The agent was asked to let go of its orders. Nothing is recorded.
    Held,
    /// What the person said is on its way to the disk.
    Recording,
    /// It is on disk: it is owed.
    Owed {
        /// From now on nothing but the server's memory of the id that voted says how it ended: other work was
        /// found prepared under its name, or the agent knows nothing of its vote.
        ask_server: bool,
    },
}

impl Delivery {
    /// Whether the transaction's end waits for this branch.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Owed | Self::Departing | Self::Overruled(_) => true,
            Self::Acknowledged | Self::Heuristic => false,
        }
    }
}

/// How far a branch is with its rollback.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Undo {
    pub(super) number: BranchNumber,
    pub(super) participant: ParticipantName,
    pub(super) done: bool,
    /// As [`Delivery::Departing`].
    pub(super) departing: bool,
    /// From now on nothing but the server's memory of the id that voted says how it ended: other work was
    /// found prepared under its name, or the agent knows nothing of its vote.
    pub(super) ask_server: bool,
    /// A person departs from the decision.
    pub(super) overruling: Option<Overruling>,
}

impl Transaction {
    /// A transaction that begins now.
    pub fn begin(gtid: Gtid, label: String, key: Option<KeyRecord>) -> Self {
        let phase = Phase::Active { sessions: BTreeMap::new() };
        let (attached, heuristics, resolved) = (Vec::new(), Vec::new(), Vec::new());
        Self { gtid, label, key, attached, heuristics, resolved, last: None, unrecorded: false, phase }
    }

    /// A transaction as the log's records leave it, when they leave a commit that is owed, or a decision that was
    /// handed to its branch; `None` otherwise.
    pub fn recover<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Self> {
        let mut transaction: Option<Self> = None;
        for record in records {
            let gtid = record.gtid()?.clone();
            transaction.get_or_insert_with(|| Self::begin(gtid, String::new(), None)).apply(record);
        }
        transaction.filter(|found| matches!(found.phase, Phase::Committing { .. } | Phase::OnePhase { .. }))
    }

    /// Folds a durable record into the state: the same function for the live path and for recovery.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Decided(decided) => self.apply_decision(decided),
            Record::Delegated(decided) => self.apply_delegation(decided),
            Record::Ended { .. } => {
                if let Phase::Committing { decided, .. } = &self.phase {
                    self.phase = Phase::Committed { decided: decided.clone() };
                }
            }
            Record::Heuristic(heuristic) => self.apply_heuristic(heuristic),
            Record::Resolved(resolved) => self.apply_resolved(resolved),
            Record::Carried(carried) => self.apply(&carried.record),
            // Begun is for people; the others are not about transactions.
            Record::Begun(_)
            | Record::Acknowledged(_)
            | Record::WrittenOff(_)
            | Record::Compared(_)
            | Record::Identity(_)
            | Record::Epoch(_)
            | Record::Lease { .. } => {}
        }
    }

    fn apply_decision(&mut self, decided: &Decided) {
        self.label.clone_from(&decided.label);
        self.key.clone_from(&decided.key);
        match &decided.decision {
            // A branch has decided it, and memory knows how far the others are.
            Decision::Commit if matches!(self.phase, Phase::Committed { .. } | Phase::Committing { .. }) => {}
            Decision::Commit => {
                let delivered = super::last_agent::deliveries(decided);
                self.phase = Phase::Committing { decided: decided.clone(), delivered };
            }
            // Live, the abort stands before its record is on disk, and rollbacks may be under way.
            Decision::Abort(reason) => {
                if !matches!(self.phase, Phase::Aborting { .. } | Phase::Aborted { .. }) {
                    self.phase = Phase::Aborted { reason: reason.clone() };
                }
            }
        }
    }

    fn apply_heuristic(&mut self, heuristic: &Heuristic) {
        if !self.heuristics.contains(heuristic) {
            self.heuristics.push(heuristic.clone());
        }
        let number = heuristic.gid.branch;
        match &mut self.phase {
            Phase::Committing { decided, delivered } => {
                for (branch, delivery) in decided.branches.iter().zip(delivered) {
                    if branch.number == number && delivery.is_awaited() {
                        *delivery = match heuristic.kind {
                            HeuristicKind::Mended => Delivery::Acknowledged,
                            HeuristicKind::Rollback | HeuristicKind::Commit | HeuristicKind::Hazard => {
                                Delivery::Heuristic
                            }
                        };
                    }
                }
            }
            Phase::Aborting { undone, .. } => {
                for undo in undone.iter_mut().filter(|undo| undo.number == number) {
                    // The hazard that a departure is until it has been carried out: now it is owed.
                    if undo.overruling == Some(Overruling::Recording) {
                        undo.overruling = Some(Overruling::Owed { ask_server: false });
                    } else {
                        undo.done = true;
                    }
                }
            }
            Phase::Active { .. }
            | Phase::Preparing { .. }
            | Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committed { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => {}
        }
    }

    /// What `event` makes of the transaction, and what it asks for.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Enlisted { participant, session } => self.enlisted(participant, session),
            Event::CommitRequested { claims } => self.commit_requested(claims),
            Event::RollbackRequested(reason) => self.abort_if_undecided(reason),
            Event::TimedOut => self.timed_out(),
            Event::Voted { participant, branch, vote } => self.voted(&participant, branch, vote),
            Event::SessionLost { participant, session, reason } => {
                self.session_lost(&participant, session, reason)
            }
            Event::AgentSeen { participant, instance } => self.agent_seen(&participant, instance),
            Event::Durable(record) => self.durable(&record),
            Event::BranchEnded { branch, was_commit, report } => {
                self.branch_ended(branch, was_commit, &report)
            }
            Event::AskAgain { branch } => self.ask_again(branch),
            Event::Hold { branch } => self.hold(branch),
            Event::Release { branch } => self.release(branch),
            Event::Overrule(resolved) => self.overrule(resolved),
        }
    }

    /// Its name.
    pub fn gtid(&self) -> &Gtid {
        &self.gtid
    }

    /// The application's words for it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its idempotency key.
    pub fn key(&self) -> Option<&KeyRecord> {
        self.key.as_ref()
    }

    /// Departures from the decision.
    pub fn heuristics(&self) -> &[Heuristic] {
        &self.heuristics
    }

    /// The decision that stands, on disk for a commit.
    pub fn decided(&self) -> Option<&Decided> {
        match &self.phase {
            Phase::Committing { decided, .. }
            | Phase::Committed { decided }
            | Phase::Aborting { decided, .. } => Some(decided),
            Phase::Active { .. }
            | Phase::Preparing { .. }
            | Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => None,
        }
    }

    /// Whether the branch has acknowledged its commit.
    pub fn acknowledged(&self, branch: BranchNumber) -> bool {
        matches!(self.phase, Phase::Committed { .. })
            || self.delivery(branch) == Some(&Delivery::Acknowledged)
    }

    /// Whether nothing may be done about the branch now, whatever is listed: the record of its departure from
    /// the decision is on its way to the disk, or the agent was asked to let go of it for one.
    pub fn is_departing(&self, branch: BranchNumber) -> bool {
        let under_way = |overruling: Option<Overruling>| match overruling {
            Some(Overruling::Held | Overruling::Recording) => true,
            Some(Overruling::Owed { .. }) | None => false,
        };
        if self.delivery(branch) == Some(&Delivery::Departing) || under_way(self.overruling(branch)) {
            return true;
        }
        let undo = |undo: &Undo| undo.number == branch && undo.departing && !undo.done;
        matches!(&self.phase, Phase::Aborting { undone, .. } if undone.iter().any(undo))
    }

    /// How far a branch is whose commit is being delivered.
    pub(super) fn delivery(&self, branch: BranchNumber) -> Option<&Delivery> {
        let Phase::Committing { decided, delivered } = &self.phase else { return None };
        let mut found = decided.branches.iter().zip(delivered).filter(|(b, _)| b.number == branch);
        found.next().map(|(_, delivery)| delivery)
    }

    /// Whether `xid`, prepared under the name of a branch that is being rolled back, is not that branch.
    pub fn is_other_work(&self, branch: BranchNumber, participant: &ParticipantName, xid: u32) -> bool {
        let Some(decided) = self.decided() else { return false };
        let voted =
            |prepared: &&PreparedBranch| prepared.number == branch && prepared.participant == *participant;
        let other = decided.branches.iter().find(voted).is_some_and(|voted| low_half(voted.xid8) != xid);
        // By an abort, or because a person departs from a commit.
        let is_rolled_back = match &self.phase {
            Phase::Aborting { undone, .. } => undone.iter().any(|undo| {
                undo.number == branch
                    && undo.participant == *participant
                    && !undo.done
                    && undo.overruling.is_none()
            }),
            Phase::Committing { .. } => self.is_overruled(branch),
            Phase::Active { .. }
            | Phase::Preparing { .. }
            | Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committed { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => false,
        };
        other && is_rolled_back
    }

    /// The session that was reported, or claimed, at a participant.
    pub fn session_at(&self, participant: &ParticipantName) -> Option<SessionName> {
        match &self.phase {
            Phase::Active { sessions } => sessions.get(participant).copied(),
            Phase::Preparing { branches } => {
                branches.iter().find(|b| b.participant == *participant).and_then(Voter::session)
            }
            Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committing { .. }
            | Phase::Committed { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => None,
        }
    }

    pub(super) fn gid(&self, branch: BranchNumber, branches: usize) -> Gid {
        Gid { gtid: self.gtid.clone(), branch, branches: self.branches_named(branches) }
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
pub(super) mod tests;
