//! From Begin to the decision.

use std::collections::BTreeMap;

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{BranchNumber, ParticipantName, SessionName};

use super::attached::not_prepared;
use super::ending::commit_order;
use super::event::{BranchClaim, Effect, Vote};
use super::record::{AbortKind, AbortReason, Decided, Decision, MAX_BRANCHES, PreparedBranch, Record};
use super::transaction::{Phase, Transaction, Undo, Voted, Voter, Work};

impl Transaction {
    pub(super) fn enlisted(&mut self, participant: ParticipantName, session: SessionName) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Active { sessions } => {
                sessions.insert(participant, session);
                Vec::new()
            }
            Phase::Preparing { branches }
                if branches.iter().any(|b| b.participant == participant && b.session().is_some()) =>
            {
                // Whether it is the session that Commit named is the agent's vote to say.
                Vec::new()
            }
            // Its session waits for the word that is on its way.
            Phase::Delegating { decided } | Phase::OnePhase { decided, .. }
                if decided.branches.iter().any(|branch| branch.participant == participant) =>
            {
                Vec::new()
            }
            // The list of Commit stands: what it does not name is no part of the transaction (I15).
            Phase::Preparing { .. }
            | Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committing { .. }
            | Phase::Committed { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => vec![Effect::EndSession { participant }],
        }
    }

    pub(super) fn commit_requested(&mut self, claims: Vec<BranchClaim>) -> Vec<Effect> {
        // The first Commit's list stands: a repeated one only waits.
        let Phase::Active { sessions } = &self.phase else { return Vec::new() };
        let mistake = self.mistake_beside_attached(&claims, sessions);
        if let Some(mistake) = mistake.or_else(|| mistake_in(&claims, sessions)) {
            return vec![Effect::Refuse(mistake)];
        }
        if claims.is_empty() && self.attached.is_empty() {
            return self.end_read_only();
        }
        let hosted = claims.into_iter().map(|claim| Voter {
            participant: claim.participant,
            work: Work::Hosted { session: claim.session, last_ordinal: claim.last_ordinal },
            vote: None,
        });
        let branches = self.attached_voters().chain(hosted).collect();
        self.phase = Phase::Preparing { branches };
        self.prepare_orders(|_| true)
    }

    /// Orders to prepare for the branches without a vote that `choose` picks.
    fn prepare_orders(&self, choose: impl Fn(&Voter) -> bool) -> Vec<Effect> {
        let Phase::Preparing { branches } = &self.phase else { return Vec::new() };
        (0..)
            .zip(branches)
            .filter(|(number, voter)| voter.vote.is_none() && !self.decides(*number) && choose(voter))
            .map(|(number, voter)| {
                let (participant, gid) = (voter.participant.clone(), self.gid(number, branches.len()));
                match voter.work {
                    Work::Hosted { session, last_ordinal } => {
                        let one_phase = branches.len() == 1;
                        Effect::SendPrepare { participant, gid, session, last_ordinal, one_phase }
                    }
                    Work::Attached => Effect::SendVerifyAttached { participant, gid },
                }
            })
            .collect()
    }

    pub(super) fn voted(
        &mut self,
        participant: &ParticipantName,
        branch: BranchNumber,
        vote: Vote,
    ) -> Vec<Effect> {
        if let Phase::Aborting { .. } = self.phase {
            return self.voted_too_late(branch, &vote);
        }
        // Nobody has asked for its vote.
        if self.decides(branch) {
            return Vec::new();
        }
        let Phase::Preparing { branches } = &mut self.phase else { return Vec::new() };
        let alone = branches.len() == 1;
        let Some(voter) = branches.get_mut(usize::from(branch)) else { return Vec::new() };
        if voter.vote.is_some() || voter.participant != *participant {
            return Vec::new();
        }
        let unexpected = match voter.work {
            Work::Hosted { .. } => None,
            Work::Attached => not_prepared(participant, &vote),
        };
        if let Some(reason) = unexpected {
            return self.abort(reason);
        }
        match vote {
            Vote::No(reason) => return self.abort(reason),
            Vote::Ready(prepared) if alone => return self.offered(prepared),
            Vote::Ready(_) => return self.abort(offered_one_of_several(participant)),
            Vote::Yes(prepared) => voter.vote = Some(Voted::Yes(prepared)),
            Vote::ReadOnly => voter.vote = Some(Voted::ReadOnly),
        }
        self.decide_if_all_voted()
    }

    fn decide_if_all_voted(&mut self) -> Vec<Effect> {
        let Phase::Preparing { branches } = &self.phase else { return Vec::new() };
        // I2: only when every branch has voted yes or read-only.
        let asked = (0..).zip(branches).filter(|(number, _)| !self.decides(*number));
        let missing = asked.filter(|(_, voter)| voter.vote.is_none()).count();
        if missing > usize::from(sings(Canary::DecideWithoutLastVote)) {
            return Vec::new();
        }
        if let Some(last) = self.last {
            return self.delegate_to(last);
        }
        let decided = self.decision(Decision::Commit, branches);
        if decided.branches.is_empty() {
            return self.end_read_only();
        }
        self.phase = Phase::Deciding { decided: decided.clone() };
        let mut effects = Vec::new();
        if sings(Canary::CommitBeforeForced) {
            effects.extend(decided.branches.iter().map(|branch| commit_order(&decided, branch, false)));
        }
        // I3: alone. Everything that rests on it is an effect of its return.
        effects.push(Effect::Persist { record: Record::Decided(decided), forced: true });
        if sings(Canary::AnswerBeforeForced) {
            effects.push(Effect::TellDecided);
        }
        effects
    }

    pub(super) fn decision(&self, decision: Decision, branches: &[Voter]) -> Decided {
        let prepared = (0..).zip(branches).filter_map(|(number, voter)| match voter.vote {
            Some(Voted::Yes(prepared)) => Some(PreparedBranch {
                number,
                participant: voter.participant.clone(),
                xid8: prepared.xid8,
                system_identifier: prepared.system_identifier,
                timeline: prepared.timeline,
                marker: prepared.marker,
            }),
            Some(Voted::ReadOnly) | None => None,
        });
        Decided {
            gtid: self.gtid.clone(),
            decision,
            branches_named: self.branches_named(branches.len()),
            branches: prepared.collect(),
            key: self.key.clone(),
            label: self.label.clone(),
        }
    }

    fn end_read_only(&mut self) -> Vec<Effect> {
        // I10: nothing was written anywhere, so nothing is logged.
        self.phase = Phase::ReadOnly;
        vec![Effect::TellDecided, Effect::TellCompleted, Effect::Retire]
    }

    pub(super) fn timed_out(&mut self) -> Vec<Effect> {
        let reason = AbortReason {
            kind: AbortKind::Timeout,
            participant: None,
            sqlstate: String::new(),
            message: format!("the transaction's time was over while it was {}", self.state()),
        };
        if sings(Canary::TimeoutWhileDeciding) && matches!(self.phase, Phase::Deciding { .. }) {
            self.phase = Phase::Aborted { reason };
            return vec![Effect::TellDecided, Effect::TellCompleted, Effect::Retire];
        }
        self.abort_if_undecided(reason)
    }

    /// From Deciding on no timer and no Rollback acts.
    pub(super) fn abort_if_undecided(&mut self, reason: AbortReason) -> Vec<Effect> {
        match &self.phase {
            Phase::Active { .. } | Phase::Preparing { .. } => self.abort(reason),
            Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committing { .. }
            | Phase::Committed { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => Vec::new(),
        }
    }

    pub(super) fn session_lost(
        &mut self,
        participant: &ParticipantName,
        session: SessionName,
        reason: AbortReason,
    ) -> Vec<Effect> {
        let lost = match &self.phase {
            Phase::Active { sessions } => sessions.get(participant) == Some(&session),
            Phase::Preparing { branches } => branches
                .iter()
                .any(|b| b.participant == *participant && b.session() == Some(session) && b.vote.is_none()),
            Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committing { .. }
            | Phase::Committed { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => false,
        };
        if lost { self.abort(reason) } else { Vec::new() }
    }

    /// What an agent that is back means for branches that are not decided: the same life of it is asked
    /// again, another life has lost its sessions, which is a no. Of an attached branch any life of it may be asked.
    pub(super) fn undecided_agent_seen(
        &mut self,
        participant: &ParticipantName,
        instance: u64,
    ) -> Vec<Effect> {
        let restarted = |session: &SessionName| session.agent_instance != instance;
        let lost = match &self.phase {
            Phase::Active { sessions } => sessions.get(participant).is_some_and(restarted),
            Phase::Preparing { branches } => branches.iter().any(|b| {
                b.participant == *participant
                    && b.vote.is_none()
                    && b.session().is_some_and(|s| restarted(&s))
            }),
            Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committing { .. }
            | Phase::Committed { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => return Vec::new(),
        };
        if lost && !sings(Canary::PrepareAfterRestart) {
            return self.abort(AbortReason {
                kind: AbortKind::BranchLost,
                participant: Some(participant.clone()),
                sqlstate: String::new(),
                message: "the agent restarted before its branch was prepared".into(),
            });
        }
        self.prepare_orders(|voter| voter.participant == *participant)
    }

    /// Aborts an undecided transaction. No commit record of it can be written from here on, so that
    /// "aborted" may be said at once (I4); the record is for people, and waits for nothing (I10).
    fn abort(&mut self, reason: AbortReason) -> Vec<Effect> {
        let (branches, rollbacks) = match &self.phase {
            Phase::Active { sessions } => {
                (Vec::new(), [self.end_sessions(sessions), self.roll_back_attached()].concat())
            }
            Phase::Preparing { branches } => (branches.clone(), self.roll_back_all(branches)),
            Phase::Deciding { .. }
            | Phase::Delegating { .. }
            | Phase::OnePhase { .. }
            | Phase::Committing { .. }
            | Phase::Committed { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::ReadOnly => return Vec::new(),
        };
        let decided = self.decision(Decision::Abort(reason.clone()), &branches);
        let undone: Vec<Undo> = decided.branches.iter().map(Undo::owed).collect();
        let mut effects = vec![Effect::Persist { record: Record::Decided(decided.clone()), forced: false }];
        effects.push(Effect::TellDecided);
        effects.extend(rollbacks);
        if undone.is_empty() {
            self.phase = Phase::Aborted { reason };
            effects.extend([Effect::TellCompleted, Effect::Retire]);
        } else {
            self.phase = Phase::Aborting { decided, undone };
        }
        effects
    }

    fn end_sessions(&self, sessions: &BTreeMap<ParticipantName, SessionName>) -> Vec<Effect> {
        let rollback = |participant: &ParticipantName| Effect::SendRollback {
            participant: participant.clone(),
            gid: None,
            xid8: 0,
            listed_xid: 0,
        };
        sessions.keys().map(rollback).collect()
    }

    fn roll_back_all(&self, branches: &[Voter]) -> Vec<Effect> {
        let unfinished = (0..).zip(branches).filter(|(number, voter)| {
            // What was to decide has not been told of anything.
            !matches!(voter.vote, Some(Voted::ReadOnly)) && !self.decides(*number)
        });
        unfinished
            .map(|(number, voter)| Effect::SendRollback {
                participant: voter.participant.clone(),
                gid: Some(self.gid(number, branches.len())),
                xid8: match voter.vote {
                    Some(Voted::Yes(prepared)) => prepared.xid8,
                    Some(Voted::ReadOnly) | None => 0,
                },
                listed_xid: 0,
            })
            .collect()
    }
}

fn offered_one_of_several(participant: &ParticipantName) -> AbortReason {
    AbortReason {
        kind: AbortKind::VotedNo,
        participant: Some(participant.clone()),
        sqlstate: String::new(),
        message: "the agent offered to commit one of several branches in one phase".into(),
    }
}

/// Why a Commit's list cannot be the transaction's.
fn mistake_in(claims: &[BranchClaim], reported: &BTreeMap<ParticipantName, SessionName>) -> Option<String> {
    if claims.len() > MAX_BRANCHES {
        return Some(format!("{} branches are named; at most {MAX_BRANCHES} are allowed", claims.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = claims.iter().find(|claim| !seen.insert(&claim.participant)) {
        return Some(format!("participant {} is named twice", twice.participant));
    }
    reported.keys().find(|participant| !seen.contains(participant)).map(|omitted| {
        format!(
            "the transaction has a branch at {omitted}, which Commit does not name; name every branch, or \
             roll back"
        )
    })
}
