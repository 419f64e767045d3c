//! A person has a branch ended otherwise than decided, knowingly (docs/protocol.md, departures).
//!
//! An order to end it as decided may be at its agent, and be tried there again and again. So nothing is
//! recorded before the agent has let go of it and has found the branch prepared: what is recorded would
//! otherwise be untrue a moment later (I1). Then what the person said is forced, then the order goes out, and
//! how the branch ended is recorded from what the database answers, never from what was wanted.

use votum_proto::names::{BranchNumber, Gid, ParticipantName};

use super::ending::{ask_again_with, prepared, roll_back_other_work};
use super::event::{Effect, Report};
use super::gone::{GoneVerdict, XidStatus, judge_gone_after_abort, judge_gone_after_commit};
use super::record::{
    Decided, Decision, Heuristic, HeuristicKind, MAX_TEXT, PreparedBranch, Record, Resolved, cut,
};
use super::recovery::low_half;
use super::transaction::{Delivery, Overruling, Phase, Transaction, Undo};

impl Transaction {
    /// What was decided of a branch that a person may have ended the other way: still owed, and nothing else
    /// under way.
    ///
    /// # Errors
    /// Why it may not, for people.
    pub fn may_depart(
        &self,
        participant: &ParticipantName,
        number: BranchNumber,
    ) -> Result<&PreparedBranch, &'static str> {
        let decided = self.decided().ok_or("its transaction is live and not decided: let it end")?;
        let branch = prepared(decided, number).filter(|branch| branch.participant == *participant);
        let branch = branch.ok_or("the decision does not name this branch there: nothing of it is owed")?;
        if self.overruling(number).is_some() {
            return Err("another departure of it is under way; look again when it is done");
        }
        match &self.phase {
            Phase::Committing { .. } => match self.delivery(number) {
                Some(Delivery::Owed) => Ok(branch),
                Some(Delivery::Departing | Delivery::Heuristic) => Err("how it ended is recorded already"),
                Some(Delivery::Acknowledged | Delivery::Overruled(_)) | None => Err(COMMITTED),
            },
            Phase::Committed { .. } => Err(COMMITTED),
            Phase::Aborting { .. } => match self.undo(number) {
                Some(undo) if undo.ask_server => {
                    Err("other work was found prepared under its name: how it ended is being found out")
                }
                Some(undo) if undo.is_owed() => Ok(branch),
                Some(_) | None => Err("it has been rolled back, or how it ended is recorded already"),
            },
            Phase::Active { .. }
            | Phase::Preparing { .. }
            | Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => Err("nothing of it is owed"),
        }
    }

    /// Whether the agent was asked to let go of a branch, and has not answered.
    pub fn is_held(&self, number: BranchNumber) -> bool {
        self.overruling(number) == Some(Overruling::Held)
    }

    /// Whether a departure of the branch is recorded, and how it ended is not.
    pub fn is_overruled(&self, number: BranchNumber) -> bool {
        matches!(self.overruling(number), Some(Overruling::Owed { .. }))
    }

    /// What people settled of it, on disk.
    pub fn resolved(&self) -> &[Resolved] {
        &self.resolved
    }

    pub(super) fn hold(&mut self, number: BranchNumber) -> Vec<Effect> {
        let held = self.decided().and_then(|decided| {
            let branch = prepared(decided, number)?;
            self.may_depart(&branch.participant, number).ok()?;
            Some((branch.participant.clone(), decided.gid(number)))
        });
        let Some((participant, gid)) = held else { return Vec::new() };
        self.set_overruling(number, Some(Overruling::Held));
        vec![Effect::SendHold { participant, gid }]
    }

    /// What had been ordered is ordered again: the agent may have let go of it.
    pub(super) fn release(&mut self, number: BranchNumber) -> Vec<Effect> {
        if !self.is_held(number) {
            return Vec::new();
        }
        self.set_overruling(number, None);
        self.ask_again(number)
    }

    pub(super) fn overrule(&mut self, resolved: Resolved) -> Vec<Effect> {
        let number = resolved.gid.branch;
        let Some((decision, branch)) = self.held_branch(number) else { return Vec::new() };
        if (decision == Decision::Commit) == resolved.commit || low_half(branch.xid8) != resolved.xid {
            return self.release(number);
        }
        self.set_overruling(number, Some(Overruling::Recording));
        let mut effects = Vec::new();
        // A commit is owed in the journal until its branches have ended. An abort is not: what is never
        // answered would be forgotten with this life. So it is a hazard, on disk, before it is ordered.
        let hazard = resolved.commit.then(|| Heuristic {
            gid: resolved.gid.clone(),
            participant: resolved.participant.clone(),
            xid8: branch.xid8,
            kind: HeuristicKind::Hazard,
            detail: cut(
                &format!(
                    "{} ordered COMMIT PREPARED although the decision was abort, and how that ended is not \
                     recorded: {}",
                    resolved.operator, resolved.reason
                ),
                MAX_TEXT,
            ),
        });
        effects.push(Effect::Persist { record: Record::Resolved(resolved), forced: true });
        effects.extend(hazard.map(|it| Effect::Persist { record: Record::Heuristic(it), forced: true }));
        effects
    }

    fn held_branch(&self, number: BranchNumber) -> Option<(Decision, PreparedBranch)> {
        let decided = self.decided().filter(|_| self.is_held(number))?;
        Some((decided.decision.clone(), prepared(decided, number)?.clone()))
    }

    /// A person's word is on disk: in the live path it is about a branch that is held, in recovery about one
    /// that is owed.
    pub(super) fn apply_resolved(&mut self, resolved: &Resolved) {
        if !self.resolved.contains(resolved) {
            self.resolved.push(resolved.clone());
        }
        let Phase::Committing { decided, delivered } = &mut self.phase else { return };
        for (branch, delivery) in decided.branches.iter().zip(delivered) {
            let meant = branch.number == resolved.gid.branch
                && branch.participant == resolved.participant
                && low_half(branch.xid8) == resolved.xid;
            if meant && !resolved.commit && matches!(delivery, Delivery::Owed | Delivery::Overruled(_)) {
                *delivery = Delivery::Overruled(Overruling::Owed { ask_server: false });
            }
        }
    }

    /// Orders to end branches as people said, for those that `choose` picks.
    pub(super) fn overruled_orders(&self, choose: impl Fn(&PreparedBranch) -> bool) -> Vec<Effect> {
        let Some(decided) = self.decided() else { return Vec::new() };
        let owed =
            decided.branches.iter().filter(|branch| self.is_overruled(branch.number) && choose(branch));
        owed.map(|branch| overruled_order(decided, branch)).collect()
    }

    /// An agent's answer about a branch that a person departs with; `None` where none does.
    pub(super) fn overruled_answered(
        &mut self,
        number: BranchNumber,
        was_commit: bool,
        report: &Report,
    ) -> Option<Vec<Effect>> {
        match self.overruling(number)? {
            Overruling::Held => Some(self.answered_while_held(number, was_commit, report)),
            // What the order finds once it is out is what counts.
            Overruling::Recording => Some(Vec::new()),
            Overruling::Owed { ask_server } => {
                Some(self.departure_answered(number, ask_server, was_commit, report))
            }
        }
    }

    /// The answer to an order from before the hold counts as ever. Where the branch is still owed after it, it
    /// is still held.
    fn answered_while_held(
        &mut self,
        number: BranchNumber,
        was_commit: bool,
        report: &Report,
    ) -> Vec<Effect> {
        self.set_overruling(number, None);
        let effects = self.branch_ended(number, was_commit, report);
        let owed = self.delivery(number) == Some(&Delivery::Owed);
        if owed || self.undo(number).is_some_and(Undo::is_owed) {
            self.set_overruling(number, Some(Overruling::Held));
        }
        effects
    }

    fn departure_answered(
        &mut self,
        number: BranchNumber,
        ask_server: bool,
        was_commit: bool,
        report: &Report,
    ) -> Vec<Effect> {
        let Some(decided) = self.decided() else { return Vec::new() };
        let Some(branch) = prepared(decided, number).cloned() else { return Vec::new() };
        let (gid, decided_commit) = (decided.gid(number), decided.decision == Decision::Commit);
        // I9: the late answer to an order of before. What stands is found out by the order that is out.
        if was_commit == decided_commit {
            return Vec::new();
        }
        let departed = if decided_commit { HeuristicKind::Rollback } else { HeuristicKind::Commit };
        match report {
            // It may be the answer to the rollback of other work, and then says nothing of this branch.
            Report::Done if ask_server => ask_again_with(&branch, None),
            Report::Done => self.departed(&gid, &branch, departed, &self.in_whose_name(&gid)),
            Report::NeverPrepared | Report::Refused(_) => {
                self.set_overruling(number, Some(Overruling::Owed { ask_server: true }));
                ask_again_with(&branch, None)
            }
            Report::OtherXid(xid) => {
                self.set_overruling(number, Some(Overruling::Owed { ask_server: true }));
                roll_back_other_work(gid, &branch, *xid)
            }
            Report::Gone(gone) => {
                let (_, verdict) = if decided_commit {
                    judge_gone_after_commit(&branch, false, gone)
                } else {
                    judge_gone_after_abort(&branch, gone)
                };
                match verdict {
                    GoneVerdict::Heuristic { kind, detail } => {
                        let detail = format!("{detail}; {}", self.in_whose_name(&gid));
                        self.departed(&gid, &branch, kind, &detail)
                    }
                    // An order to commit was out: that it was not decided says nothing here.
                    GoneVerdict::Acknowledge
                        if !decided_commit
                            && gone.status == XidStatus::Forgotten
                            && !gone.unmarked(&branch) =>
                    {
                        let xid8 = branch.xid8;
                        let detail = format!(
                            "the server no longer remembers transaction id {xid8}; {}",
                            self.in_whose_name(&gid)
                        );
                        self.departed(&gid, &branch, HeuristicKind::Hazard, &detail)
                    }
                    GoneVerdict::Nothing | GoneVerdict::Acknowledge => {
                        let detail = format!("it had ended as decided before; {}", self.in_whose_name(&gid));
                        self.departed(&gid, &branch, HeuristicKind::Mended, &detail)
                    }
                    // Nobody looked: the answer to an order that a listing caused.
                    GoneVerdict::AskAgain { .. } if gone.status == XidStatus::NotAsked => {
                        ask_again_with(&branch, None)
                    }
                    GoneVerdict::AskAgain { alarm } => ask_again_with(&branch, alarm),
                }
            }
        }
    }

    /// Records how a branch ended that a person departed with. Forced, as every departure is.
    fn departed(
        &mut self,
        gid: &Gid,
        branch: &PreparedBranch,
        kind: HeuristicKind,
        detail: &str,
    ) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Committing { decided, delivered } => {
                for (_, delivery) in with_number(decided, delivered, branch.number) {
                    *delivery = Delivery::Departing;
                }
            }
            Phase::Aborting { undone, .. } => {
                for undo in undone.iter_mut().filter(|undo| undo.number == branch.number) {
                    (undo.overruling, undo.departing) = (None, true);
                }
            }
            Phase::Active { .. }
            | Phase::Preparing { .. }
            | Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committed { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => return Vec::new(),
        }
        Self::depart(gid.clone(), branch, kind, detail)
    }

    /// Who departed, and why.
    fn in_whose_name(&self, gid: &Gid) -> String {
        let Some(Resolved { commit, operator, reason, xid, .. }) =
            self.resolved.iter().rev().find(|resolved| resolved.gid == *gid)
        else {
            return String::new();
        };
        let (decided, done) = if *commit { ("abort", "COMMIT") } else { ("commit", "ROLLBACK") };
        format!(
            "prepared with transaction id {xid}, decided {decided}; {operator} had it ended by {done} PREPARED: \
             {reason}"
        )
    }

    pub(super) fn overruling(&self, number: BranchNumber) -> Option<Overruling> {
        match self.delivery(number) {
            Some(Delivery::Overruled(overruling)) => Some(*overruling),
            Some(Delivery::Owed | Delivery::Acknowledged | Delivery::Departing | Delivery::Heuristic)
            | None => self.undo(number).filter(|undo| !undo.done).and_then(|undo| undo.overruling),
        }
    }

    /// `None`: it is owed as decided.
    fn set_overruling(&mut self, number: BranchNumber, overruling: Option<Overruling>) {
        match &mut self.phase {
            Phase::Committing { decided, delivered } => {
                for (_, delivery) in with_number(decided, delivered, number) {
                    *delivery = overruling.map_or(Delivery::Owed, Delivery::Overruled);
                }
            }
            Phase::Aborting { undone, .. } => {
                for undo in undone.iter_mut().filter(|undo| undo.number == number) {
                    undo.overruling = overruling;
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

    fn undo(&self, number: BranchNumber) -> Option<&Undo> {
        let Phase::Aborting { undone, .. } = &self.phase else { return None };
        undone.iter().find(|undo| undo.number == number)
    }
}

const COMMITTED: &str =
    "it has been committed, and has acknowledged that: what is committed cannot be rolled back";

fn with_number<'a>(
    decided: &'a Decided,
    delivered: &'a mut [Delivery],
    number: BranchNumber,
) -> impl Iterator<Item = (&'a PreparedBranch, &'a mut Delivery)> {
    decided.branches.iter().zip(delivered).filter(move |(branch, _)| branch.number == number)
}

fn overruled_order(decided: &Decided, branch: &PreparedBranch) -> Effect {
    let (participant, gid, xid8) = (branch.participant.clone(), decided.gid(branch.number), branch.xid8);
    match decided.decision {
        // A listed id makes the agent look at the server, whatever it knows of the session.
        Decision::Commit => {
            Effect::SendRollback { participant, gid: Some(gid), xid8, listed_xid: low_half(xid8) }
        }
        Decision::Abort(_) => Effect::SendCommit { participant, gid, xid8, compare_first: true },
    }
}
