//! One-phase commit: where a transaction has one branch, and its database keeps commit markers, the decision is
//! handed to that branch; or where it has several, and asks for that, to the last of them (`last_agent`). That is on disk before the branch hears of it (I3); then its own COMMIT is the decision.
//! An answer that is lost is never guessed: the marker says how it ended, or is made to say that it never will
//! have committed (R13).

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{BranchNumber, ParticipantName};

use super::event::{Effect, Prepared, Report};
use super::gone::{Gone, Marker, not_the_participant};
use super::last_agent::{aborted, has_siblings};
use super::record::{
    AbortKind, AbortReason, Decided, Decision, HeuristicKind, MAX_TEXT, PreparedBranch, Record, cut,
};
use super::recovery::Row;
use super::transaction::{Phase, Transaction, Voted};

/// How far a decision is that was handed to its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Handed {
    /// By this life: nobody has been told of an outcome.
    Now,
    /// By an earlier life: somebody may have been told of one that is not on disk.
    Before,
    /// The same, in what a person has written off: its marker may have been deleted, and its record with it.
    Doubted,
    /// It ended, and what that says is on its way to the disk.
    Closing,
}

/// What is known of the end of a branch to which the decision was handed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnePhaseEnd {
    /// It committed: that is the decision.
    Committed,
    /// It did not, and never will.
    Aborted,
    /// The same; but it may have committed, and been told of, on a timeline that a failover has left: with what was
    /// seen.
    PerhapsLost(String),
    /// Nothing yet: ask again.
    NotYet {
        /// Why that deserves a person's look, if it does.
        alarm: Option<String>,
    },
}

/// What an earlier life may have told of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it is this life's own.
    Nothing,
    /// Perhaps, within the second before its end.
    Perhaps,
    /// Perhaps, and long ago: its marker may have been deleted since.
    LongAgo,
}

/// Judges what an agent found out of a branch to which the decision was handed (R13; R11 where the server is not the
/// participant).
pub fn judge_one_phase(branch: &PreparedBranch, told: Told, gone: &Gone) -> (Row, OnePhaseEnd) {
    if let Some(alarm) = not_the_participant(branch, gone) {
        return (Row::R11, OnePhaseEnd::NotYet { alarm: Some(alarm) });
    }
    if gone.timeline < branch.timeline {
        let alarm = format!(
            "the server is on timeline {}, and the branch was on {}: it is a former primary; stop it, and see that \
             the agent's connection leads to the present one",
            gone.timeline, branch.timeline
        );
        return (Row::R11, OnePhaseEnd::NotYet { alarm: Some(alarm) });
    }
    let end = match gone.marker {
        Marker::Committed => OnePhaseEnd::Committed,
        Marker::Aborted if told == Told::LongAgo => OnePhaseEnd::PerhapsLost(
            "its commit was handed to it in an epoch of which something was written off, and it left no marker: if \
             it had committed, and was answered, its marker may have been deleted with its record"
                .into(),
        ),
        Marker::Aborted if told == Told::Perhaps && gone.timeline != branch.timeline => {
            OnePhaseEnd::PerhapsLost(format!(
                "its commit was handed to it on timeline {}, and the server is on {} now, where it never committed: \
                 if it had, and was answered, a failover has lost it",
                branch.timeline, gone.timeline
            ))
        }
        Marker::Aborted => OnePhaseEnd::Aborted,
        Marker::Absent | Marker::Unknown => OnePhaseEnd::NotYet {
            alarm: Some("the agent did not settle how it ended: its marker says nothing".into()),
        },
    };
    (Row::R13, end)
}

impl Transaction {
    /// The only branch offers to be committed in one phase.
    pub(super) fn offered(&mut self, prepared: Prepared) -> Vec<Effect> {
        let Phase::Preparing { branches } = &mut self.phase else { return Vec::new() };
        let [voter] = branches.as_mut_slice() else { return Vec::new() };
        voter.vote = Some(Voted::Yes(prepared));
        let branches = branches.clone();
        let decided = self.decision(Decision::Commit, &branches);
        self.phase = Phase::Delegating { decided: decided.clone() };
        delegation(&decided)
    }

    /// The decision is handed over: what of it is on disk says so, in the live path and in recovery alike.
    pub(super) fn apply_delegation(&mut self, decided: &Decided) {
        let is_ours = matches!(self.phase, Phase::Delegating { .. });
        let handed = if is_ours { Handed::Now } else { Handed::Before };
        self.label.clone_from(&decided.label);
        self.key.clone_from(&decided.key);
        self.phase = Phase::OnePhase { decided: decided.clone(), handed };
    }

    /// Orders to commit in one phase, or to settle how that ended, where `choose` picks the participant.
    pub(super) fn one_phase_orders(
        &self,
        first: bool,
        choose: impl Fn(&ParticipantName) -> bool,
    ) -> Vec<Effect> {
        let Phase::OnePhase { decided, handed } = &self.phase else { return Vec::new() };
        if *handed == Handed::Closing { Vec::new() } else { orders(decided, first, choose) }
    }

    /// Whether an earlier life handed the decision over: what is found out rests on the absence of its marker.
    pub fn was_handed_before(&self) -> bool {
        matches!(self.phase, Phase::OnePhase { handed: Handed::Before | Handed::Doubted, .. })
    }

    /// Something of its epoch was written off.
    pub fn doubt(&mut self) {
        if let Phase::OnePhase { handed, .. } = &mut self.phase
            && *handed == Handed::Before
        {
            *handed = Handed::Doubted;
        }
    }

    /// Whether the decision was handed to the branch, and its answer is awaited.
    pub fn is_one_phase(&self) -> bool {
        matches!(self.phase, Phase::OnePhase { .. })
    }

    /// The agent's answer; `None` where the decision was not handed over.
    pub(super) fn one_phase_answered(
        &mut self,
        number: BranchNumber,
        report: &Report,
    ) -> Option<Vec<Effect>> {
        let Phase::OnePhase { decided, handed } = &self.phase else { return None };
        let told = match handed {
            Handed::Now => Told::Nothing,
            Handed::Before => Told::Perhaps,
            Handed::Doubted => Told::LongAgo,
            Handed::Closing => return Some(Vec::new()),
        };
        let deciding = decided.deciding().filter(|branch| branch.number == number);
        let Some(branch) = deciding else { return Some(Vec::new()) };
        let (decided, branch, handed) = (decided.clone(), branch.clone(), *handed);
        let end = match report {
            Report::Done => OnePhaseEnd::Committed,
            Report::Refused(reason) => return Some(self.close_aborted(decided, reason.clone(), None)),
            Report::Gone(gone) => judge_one_phase(&branch, told, gone).1,
            Report::NeverPrepared | Report::OtherXid(_) => OnePhaseEnd::NotYet {
                alarm: Some("the agent gave an answer that does not settle how its commit ended".into()),
            },
        };
        Some(match end {
            OnePhaseEnd::Committed => self.close_committed(decided, handed),
            OnePhaseEnd::Aborted => self.close_aborted(decided, never_committed(&branch), None),
            OnePhaseEnd::PerhapsLost(seen) => {
                let reason = never_committed(&branch);
                self.close_aborted(decided, reason, Some((branch, seen)))
            }
            OnePhaseEnd::NotYet { alarm } => super::ending::ask_again_with(&branch, alarm),
        })
    }

    /// The database's commit is the decision, and durable there: the record of it waits for nothing. Where a crash
    /// takes it, it is found out again.
    fn close_committed(&mut self, decided: Decided, handed: Handed) -> Vec<Effect> {
        if has_siblings(&decided) {
            let record = Record::Decided(decided.clone());
            let orders = self.siblings_follow(decided, handed);
            let mut effects = vec![Effect::Persist { record, forced: false }, Effect::TellDecided];
            effects.extend(orders);
            effects.extend(self.resume());
            return effects;
        }
        let ended = Record::Ended { gtid: self.gtid.clone() };
        self.phase = Phase::Committed { decided: decided.clone() };
        vec![
            Effect::Persist { record: Record::Decided(decided), forced: false },
            Effect::TellDecided,
            Effect::TellCompleted,
            Effect::Persist { record: ended, forced: false },
        ]
    }

    /// It never committed, and never will: told at once, as any abort (I10). What a failover may have lost is on
    /// disk first: whoever asks is to hear of it.
    fn close_aborted(
        &mut self,
        decided: Decided,
        reason: AbortReason,
        lost: Option<(PreparedBranch, String)>,
    ) -> Vec<Effect> {
        let aborted = aborted(&decided, reason.clone());
        let record = Effect::Persist { record: Record::Decided(aborted.clone()), forced: lost.is_some() };
        let Some((branch, seen)) = lost else {
            if has_siblings(&decided) && !aborted.branches.is_empty() {
                self.unrecorded = true;
                let orders = self.siblings_roll_back(aborted);
                return [vec![record, Effect::TellDecided], orders].concat();
            }
            self.phase = Phase::Aborted { reason };
            return vec![record, Effect::TellDecided, Effect::TellCompleted];
        };
        let gid = decided.gid(branch.number);
        self.phase = Phase::OnePhase { decided, handed: Handed::Closing };
        let mut effects = Self::depart(gid, &branch, HeuristicKind::Hazard, &seen);
        effects.push(record);
        effects
    }

    /// The record of an abort is on disk. Until then the log says that the decision was handed over, and memory
    /// has to know better.
    pub(super) fn delegation_closed(
        &mut self,
        decided: &Decided,
        was_closing: bool,
        had_siblings: bool,
    ) -> Vec<Effect> {
        self.unrecorded = false;
        if had_siblings && !decided.branches.is_empty() {
            let orders = self.siblings_roll_back(decided.clone());
            return [vec![Effect::TellDecided], orders].concat();
        }
        if !matches!(self.phase, Phase::Aborted { .. }) {
            return self.retire_if_undone();
        }
        let mut effects =
            if was_closing { vec![Effect::TellDecided, Effect::TellCompleted] } else { Vec::new() };
        effects.push(Effect::Retire);
        effects
    }
}

/// I3: the record, alone. The order is an effect of its return.
pub(super) fn delegation(decided: &Decided) -> Vec<Effect> {
    let mut effects = vec![Effect::Persist { record: Record::Delegated(decided.clone()), forced: true }];
    if sings(Canary::DelegateBeforeForced) {
        effects.extend(orders(decided, true, |_| true));
    }
    effects
}

fn orders(decided: &Decided, first: bool, choose: impl Fn(&ParticipantName) -> bool) -> Vec<Effect> {
    let order = |branch: &PreparedBranch| Effect::SendCommitOnePhase {
        participant: branch.participant.clone(),
        gid: decided.gid(branch.number),
        first,
    };
    decided.deciding().into_iter().filter(|branch| choose(&branch.participant)).map(order).collect()
}

fn never_committed(branch: &PreparedBranch) -> AbortReason {
    let message =
        "its session ended before its commit in one phase came; its marker says that it never committed";
    AbortReason {
        kind: AbortKind::BranchLost,
        participant: Some(branch.participant.clone()),
        sqlstate: String::new(),
        message: cut(message, MAX_TEXT),
    }
}

#[cfg(test)]
#[path = "one_phase_tests.rs"]
mod tests;
