//! From the decision to the end of every branch.

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{BranchNumber, Gid, ParticipantName};

use super::event::{Effect, Report, Vote};
use super::gone::{GoneVerdict, judge_gone_after_abort, judge_gone_after_commit};
use super::record::{Decided, Heuristic, HeuristicKind, MAX_TEXT, PreparedBranch, Record, cut};
use super::recovery;
use super::transaction::{Delivery, Phase, Transaction, Undo};

impl Undo {
    /// One that is owed.
    pub(super) fn owed(branch: &PreparedBranch) -> Self {
        Self {
            number: branch.number,
            participant: branch.participant.clone(),
            done: false,
            departing: false,
            ask_server: false,
            overruling: None,
        }
    }

    /// Whether its rollback is still owed, and nothing else is under way.
    pub(super) fn is_owed(&self) -> bool {
        !self.done && !self.departing && self.overruling.is_none()
    }
}

impl Transaction {
    /// A record of this transaction is on disk.
    pub(super) fn durable(&mut self, record: &Record) -> Vec<Effect> {
        let was_deciding = matches!(self.phase, Phase::Deciding { .. });
        let (was_closing, had_siblings) = (self.is_one_phase(), self.has_siblings());
        self.apply(record);
        match record {
            Record::Decided(_) if was_deciding => {
                let mut effects = vec![Effect::TellDecided];
                effects.extend(self.commit_orders(false, |_| true));
                effects
            }
            Record::Delegated(decided) => {
                let mut effects = self.one_phase_orders(true, |_| true);
                if sings(Canary::SiblingsGoFirst) {
                    let siblings = decided.branches.iter().filter(|branch| !branch.was_never_prepared());
                    effects.extend(siblings.map(|branch| commit_order(decided, branch, false)));
                }
                effects
            }
            Record::Decided(decided) => self.delegation_closed(decided, was_closing, had_siblings),
            Record::Ended { .. } => vec![Effect::Retire],
            Record::Heuristic(heuristic) => {
                let mut effects = self.finish_if_settled();
                effects.extend(self.retire_if_undone());
                effects.extend(self.overruled_orders(|branch| branch.number == heuristic.gid.branch));
                effects
            }
            Record::Resolved(resolved) => {
                self.overruled_orders(|branch| branch.number == resolved.gid.branch)
            }
            Record::Begun(_)
            | Record::Acknowledged(_)
            | Record::WrittenOff(_)
            | Record::Compared(_)
            | Record::Identity(_)
            | Record::Epoch(_)
            | Record::Lease { .. }
            | Record::Carried(_) => Vec::new(),
        }
    }

    /// After recovery: what is left to do when nothing is owed any more, but no record says so yet.
    pub fn resume(&mut self) -> Vec<Effect> {
        self.finish_if_settled()
    }

    /// Orders to commit what is owed, for the branches that `choose` picks.
    pub(super) fn commit_orders(
        &self,
        compare_first: bool,
        choose: impl Fn(&PreparedBranch) -> bool,
    ) -> Vec<Effect> {
        let Phase::Committing { decided, delivered } = &self.phase else { return Vec::new() };
        let owed = decided.branches.iter().zip(delivered).filter(|(_, d)| **d == Delivery::Owed);
        let chosen = owed.filter(|(branch, _)| choose(branch));
        chosen.map(|(branch, _)| commit_order(decided, branch, compare_first)).collect()
    }

    /// Orders to roll back what voted yes, for the branches that `choose` picks.
    pub(super) fn rollback_orders(&self, choose: impl Fn(&Undo) -> bool) -> Vec<Effect> {
        let Phase::Aborting { decided, undone } = &self.phase else { return Vec::new() };
        undone
            .iter()
            .filter(|undo| undo.is_owed() && choose(undo))
            .map(|undo| {
                let xid8 = prepared(decided, undo.number).map_or(0, |branch| branch.xid8);
                // A listed id makes the agent look at the server, whatever it knows of the session.
                let listed_xid = if undo.ask_server { recovery::low_half(xid8) } else { 0 };
                let (participant, gid) = (undo.participant.clone(), Some(decided.gid(undo.number)));
                Effect::SendRollback { participant, gid, xid8, listed_xid }
            })
            .collect()
    }

    /// A stream to the agent stands again: everything that is owed there is ordered again.
    pub(super) fn agent_seen(&mut self, participant: &ParticipantName, instance: u64) -> Vec<Effect> {
        let mut effects = self.undecided_agent_seen(participant, instance);
        effects.extend(self.commit_orders(true, |branch| branch.participant == *participant));
        effects.extend(self.rollback_orders(|undo| undo.participant == *participant));
        effects.extend(self.overruled_orders(|branch| branch.participant == *participant));
        effects.extend(self.one_phase_orders(false, |at| at == participant));
        effects
    }

    pub(super) fn ask_again(&mut self, number: BranchNumber) -> Vec<Effect> {
        let mut effects = self.commit_orders(true, |branch| branch.number == number);
        effects.extend(self.rollback_orders(|undo| undo.number == number));
        effects.extend(self.overruled_orders(|branch| branch.number == number));
        effects.extend(self.one_phase_orders(false, |_| true));
        effects
    }

    /// A yes that crossed the abort: the branch is prepared, and has to be undone.
    pub(super) fn voted_too_late(&mut self, number: BranchNumber, vote: &Vote) -> Vec<Effect> {
        let Phase::Aborting { undone, .. } = &self.phase else { return Vec::new() };
        match vote {
            Vote::Yes(_) if undone.iter().any(|undo| undo.number == number) => {
                self.rollback_orders(|undo| undo.number == number)
            }
            // Not tracked: its order to roll back is on its way, and the sweep reports it if that is lost.
            Vote::Yes(_) | Vote::ReadOnly | Vote::Ready(_) | Vote::No(_) => Vec::new(),
        }
    }

    pub(super) fn branch_ended(
        &mut self,
        number: BranchNumber,
        was_commit: bool,
        report: &Report,
    ) -> Vec<Effect> {
        if let Some(effects) = self.overruled_answered(number, was_commit, report) {
            return effects;
        }
        if was_commit && let Some(effects) = self.one_phase_answered(number, report) {
            return effects;
        }
        if was_commit { self.commit_answered(number, report) } else { self.rollback_answered(number, report) }
    }

    fn commit_answered(&mut self, number: BranchNumber, report: &Report) -> Vec<Effect> {
        let Phase::Committing { decided, delivered } = &mut self.phase else { return Vec::new() };
        let found = decided.branches.iter().zip(delivered).find(|(branch, _)| branch.number == number);
        let Some((branch, delivery)) = found else { return Vec::new() };
        let acknowledged = match delivery {
            Delivery::Owed => false,
            Delivery::Acknowledged => true,
            Delivery::Departing | Delivery::Heuristic | Delivery::Overruled(_) => return Vec::new(),
        };
        match report {
            Report::Gone(gone) => match judge_gone_after_commit(branch, acknowledged, gone).1 {
                GoneVerdict::Nothing => Vec::new(),
                GoneVerdict::Acknowledge => {
                    *delivery = Delivery::Acknowledged;
                    self.finish_if_settled()
                }
                GoneVerdict::Heuristic { kind, detail } => {
                    *delivery = Delivery::Departing;
                    Self::depart(decided.gid(number), branch, kind, &detail)
                }
                GoneVerdict::AskAgain { alarm } => ask_again_with(branch, alarm),
            },
            // I9: whatever else comes after the acknowledgement is an answer that was late.
            Report::Done | Report::OtherXid(_) | Report::NeverPrepared if acknowledged => Vec::new(),
            // Nobody is asked to commit in one phase what voted yes.
            Report::Refused(_) => Vec::new(),
            Report::Done => {
                *delivery = Delivery::Acknowledged;
                self.finish_if_settled()
            }
            Report::OtherXid(xid) => roll_back_other_work(decided.gid(number), branch, *xid),
            // An agent that knows nothing of a yes that it gave: its database is the one to ask.
            Report::NeverPrepared => {
                ask_again_with(branch, Some("the agent says that the branch was never prepared".into()))
            }
        }
    }

    fn rollback_answered(&mut self, number: BranchNumber, report: &Report) -> Vec<Effect> {
        let Phase::Aborting { decided, undone } = &mut self.phase else { return Vec::new() };
        let unsettled = |undo: &&mut Undo| undo.number == number && undo.is_owed();
        let Some(undo) = undone.iter_mut().find(unsettled) else { return Vec::new() };
        let Some(branch) = prepared(decided, number) else { return Vec::new() };
        match report {
            // R15: this may be the answer to the rollback of other work (I9), and then says nothing of the
            // branch that voted. Only the server's memory of that one's id does.
            Report::Done if undo.ask_server => ask_again_with(branch, None),
            // An agent that knows nothing of a yes that it gave: its server is the one to ask.
            Report::NeverPrepared => {
                undo.ask_server = true;
                ask_again_with(branch, None)
            }
            Report::Done => {
                undo.done = true;
                self.retire_if_undone()
            }
            Report::Gone(gone) => match judge_gone_after_abort(branch, gone).1 {
                GoneVerdict::Nothing | GoneVerdict::Acknowledge => {
                    undo.done = true;
                    self.retire_if_undone()
                }
                // Done once that is on disk: a transaction that left memory before would be told without it.
                GoneVerdict::Heuristic { kind, detail } => {
                    undo.departing = true;
                    Self::depart(decided.gid(number), branch, kind, &detail)
                }
                GoneVerdict::AskAgain { alarm } => ask_again_with(branch, alarm),
            },
            Report::Refused(_) => Vec::new(),
            Report::OtherXid(xid) => {
                undo.ask_server = true;
                roll_back_other_work(decided.gid(number), branch, *xid)
            }
        }
    }

    /// Records a departure. Forced: a client that asks afterwards is told, and must never be told less.
    pub(super) fn depart(
        gid: Gid,
        branch: &PreparedBranch,
        kind: HeuristicKind,
        detail: &str,
    ) -> Vec<Effect> {
        let heuristic = Heuristic {
            gid,
            participant: branch.participant.clone(),
            xid8: branch.xid8,
            kind,
            detail: cut(detail, MAX_TEXT),
        };
        let mut effects =
            vec![Effect::Persist { record: Record::Heuristic(heuristic.clone()), forced: true }];
        if kind != HeuristicKind::Mended {
            effects.push(Effect::NoteHeuristic(heuristic));
        }
        effects
    }

    fn finish_if_settled(&mut self) -> Vec<Effect> {
        let Phase::Committing { delivered, .. } = &self.phase else { return Vec::new() };
        if delivered.iter().any(Delivery::is_awaited) {
            return Vec::new();
        }
        vec![
            Effect::TellCompleted,
            Effect::Persist { record: Record::Ended { gtid: self.gtid.clone() }, forced: false },
        ]
    }

    pub(super) fn retire_if_undone(&mut self) -> Vec<Effect> {
        let Phase::Aborting { undone, .. } = &self.phase else { return Vec::new() };
        if undone.iter().all(|undo| undo.done) && !self.unrecorded {
            vec![Effect::TellCompleted, Effect::Retire]
        } else {
            Vec::new()
        }
    }
}

/// An order to commit one branch.
pub(super) fn commit_order(decided: &Decided, branch: &PreparedBranch, compare_first: bool) -> Effect {
    Effect::SendCommit {
        participant: branch.participant.clone(),
        gid: decided.gid(branch.number),
        xid8: branch.xid8,
        compare_first,
    }
}

pub(super) fn prepared(decided: &Decided, number: BranchNumber) -> Option<&PreparedBranch> {
    decided.branches.iter().find(|branch| branch.number == number)
}

/// R1x, R15: other work under a branch's name is rolled back, then the server is asked about the transaction
/// that voted.
pub(super) fn roll_back_other_work(gid: Gid, branch: &PreparedBranch, xid: u32) -> Vec<Effect> {
    let detail = format!(
        "{gid} is prepared with transaction id {xid}, and the decision names {}: rolling back work that nobody \
         decided",
        recovery::low_half(branch.xid8)
    );
    let participant = branch.participant.clone();
    vec![
        Effect::SendRollback {
            participant: participant.clone(),
            gid: Some(gid.clone()),
            xid8: 0,
            listed_xid: xid,
        },
        Effect::Alarm { code: "VOTUM-1404", gid: Some(gid), participant, detail },
        Effect::AskAgainLater { branch: branch.number },
    ]
}

pub(super) fn ask_again_with(branch: &PreparedBranch, alarm: Option<String>) -> Vec<Effect> {
    let mut effects = vec![Effect::AskAgainLater { branch: branch.number }];
    effects.extend(alarm.map(|detail| Effect::Alarm {
        code: "VOTUM-1403",
        gid: None,
        participant: branch.participant.clone(),
        detail,
    }));
    effects
}
