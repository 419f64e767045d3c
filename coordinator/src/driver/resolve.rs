//! The settlement of a branch by hand: where the log leaves it to a person, and nowhere else.

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{Gid, ParticipantName};
use votum_proto::v1;

use super::request::{Answer, RequestError, Resolve};
use super::{Driver, LogState, Pending, wire};
use crate::protocol::event::Report;
use crate::protocol::record::{
    Decided, Decision, Heuristic, HeuristicKind, MAX_LABEL, MAX_TEXT, PreparedBranch, Record, Resolved, cut,
};
use crate::protocol::recovery::{Absence, LogSays, Settled, low_half};

/// A resolution on its way to the disk.
pub(super) struct Resolution {
    resolve: Resolve,
    /// The transaction id that the listing showed: what was judged, and nothing else, is settled.
    xid: u32,
}

/// A resolution whose operator waits for the database's answer.
pub(super) struct Awaited {
    answer: Answer<v1::ResolveResponse>,
    response: v1::ResolveResponse,
    /// The agent was ordered to carry it out. A listing may have had it carried out before (R16): the log's
    /// history shows a record a moment before the driver hears that it is on disk.
    ordered: bool,
    /// It departs from the decision: who waits is told what was recorded in the end.
    departs: bool,
}

impl Awaited {
    /// Of a departure whose record is on its way to the disk.
    pub(super) fn departing(answer: Answer<v1::ResolveResponse>, response: v1::ResolveResponse) -> Self {
        Self { answer, response, ordered: false, departs: true }
    }

    /// It is on disk: the agent is ordered to carry it out.
    pub(super) fn ordered(&mut self) {
        self.ordered = true;
    }

    /// Tells who waits.
    pub(super) fn answer(mut self, result: String) {
        self.response.result = result;
        let _ = self.answer.send(Ok(self.response));
    }

    /// The agent is away. What is recorded is done when it lists the branch again (R16).
    pub(super) fn answer_later(self, why: &str) {
        self.answer(format!("it is done when the agent is back: {why}"));
    }
}

/// What a resolution is, measured against what is known.
enum Judgement {
    /// It contradicts what is known, or concerns what is not ours.
    Refused(String),
    /// It contradicts this decision.
    Departs(Box<Decided>),
    /// It is what happens anyway.
    Agrees(String),
    /// A person decides.
    Decides(String),
}

impl Driver {
    /// What contradicts a known decision, or another person, is refused. A resolution is on disk before the
    /// database is told.
    pub(super) fn resolve(&mut self, resolve: Resolve, answer: Answer<v1::ResolveResponse>) {
        if self.is_being_resolved(&resolve) || self.is_departing(&resolve) {
            let why =
                format!("another resolution of {} is under way; look again when it is done", resolve.gid);
            let _ = answer.send(Err(RequestError::Invalid(why)));
            return;
        }
        self.resolve_knowing(resolve, None, answer);
    }

    /// `found` is what the siblings' commit markers say, once they were asked for ([`Driver::inquire`]).
    pub(super) fn resolve_knowing(
        &mut self,
        resolve: Resolve,
        found: Option<String>,
        answer: Answer<v1::ResolveResponse>,
    ) {
        let found = found.or_else(|| resolve.heuristic.then(|| "no commit marker was asked for".into()));
        let result = match self.judge_resolution(&resolve) {
            Judgement::Refused(why) => Err(RequestError::Invalid(why)),
            Judgement::Departs(decided) => return self.resolve_against(resolve, &decided, answer),
            Judgement::Agrees(why) => {
                let mut response = response(&resolve, why);
                response.result = "nothing was added: it happens by itself".into();
                Ok(response)
            }
            Judgement::Decides(why) => match (found, self.may_settle(&resolve)) {
                (_, Err(error)) if resolve.apply => Err(error),
                (None, _) => return self.inquire(resolve, answer),
                (Some(_), Ok(xid)) if resolve.apply => return self.settle(resolve, xid, answer),
                (Some(found), _) => {
                    let mut response = response(&resolve, format!("{why}; {found}"));
                    response.result = "nothing was done (dry run)".into();
                    Ok(response)
                }
            },
        };
        let _ = answer.send(result);
    }

    /// What contradicts a known decision is refused, unless it is meant.
    fn resolve_against(&mut self, resolve: Resolve, decided: &Decided, answer: Answer<v1::ResolveResponse>) {
        let judged = if resolve.heuristic {
            self.may_depart(&resolve, decided)
        } else {
            let word = decision_word(&decided.decision).to_uppercase();
            let others = if resolve.commit { "roll back or have" } else { "commit or have" };
            Err(RequestError::Invalid(format!(
                "refused: the decision is {word}; other branches {others} (--heuristic departs from it knowingly)"
            )))
        };
        let (branch, consequence) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        let word = decision_word(&decided.decision);
        let mut response = response(
            &resolve,
            format!(
                "departs from the decision, which is {word} and owed at {}: once its agent has let go of that \
                 and has found it prepared with transaction id {}, this is recorded and done",
                resolve.participant,
                low_half(branch.xid8)
            ),
        );
        word.clone_into(&mut response.decision);
        response.consequence = consequence;
        if resolve.apply {
            return self.depart(resolve, branch, response, answer);
        }
        response.result = "nothing was done (dry run)".into();
        let _ = answer.send(Ok(response));
    }

    /// Whether a resolution of the branch is on its way to the disk, or to the database.
    fn is_being_resolved(&self, resolve: &Resolve) -> bool {
        let key = (resolve.participant.clone(), resolve.gid.to_string());
        if self.resolving.get(&key).is_some_and(|awaited| awaited.departs) {
            return true;
        }
        self.pending.iter().any(|(_, pending)| match pending {
            Pending::Resolution(other) => {
                (&other.resolve.gid, &other.resolve.participant) == (&resolve.gid, &resolve.participant)
            }
            Pending::Transaction(..)
            | Pending::Lease(_)
            | Pending::Acknowledgement(_)
            | Pending::WriteOff(_)
            | Pending::Comparison(_)
            | Pending::Departure(_)
            | Pending::Note => false,
        })
    }

    /// The transaction id under which the branch waits for a person.
    fn may_settle(&self, resolve: &Resolve) -> Result<u32, RequestError> {
        match &self.log_state {
            LogState::Ready(_) | LogState::Counting => {}
            LogState::Unreadable(why) | LogState::Doubtful(why) => {
                return Err(RequestError::LogFailed(why.clone()));
            }
        }
        let Resolve { gid, participant, .. } = resolve;
        self.participants
            .get(participant)
            .and_then(|known| known.quarantined.get(&gid.to_string()).copied())
            .or_else(|| self.handed_over(gid, participant).map(|(_, branch)| low_half(branch.xid8)))
            .or(sings(Canary::ResolveAgainstDecision).then_some(0))
            .ok_or_else(|| {
                RequestError::Invalid(format!(
                    "{} does not wait for a decision at {}: see votumctl in-doubt for what does",
                    resolve.gid, resolve.participant
                ))
            })
    }

    fn settle(&mut self, resolve: Resolve, xid: u32, answer: Answer<v1::ResolveResponse>) {
        let settled = Resolved {
            gid: resolve.gid.clone(),
            participant: resolve.participant.clone(),
            xid,
            commit: resolve.commit,
            operator: cut(&resolve.operator, MAX_LABEL),
            reason: cut(&resolve.reason, MAX_TEXT),
        };
        let record = Record::Resolved(settled.clone());
        tracing::warn!(gtid = %resolve.gid.gtid, participant = %resolve.participant, gid = %resolve.gid,
            commit = resolve.commit, operator = %resolve.operator, reason = %resolve.reason,
            "an operator settles a branch");
        let mut response = response(&resolve, "recorded in the log".into());
        response.applied = true;
        let key = (resolve.participant.clone(), resolve.gid.to_string());
        self.resolving.insert(key, Awaited { answer, response, ordered: false, departs: false });
        let hazard = self.handed_over(&resolve.gid, &resolve.participant).map(|(_, branch)| Heuristic {
            gid: resolve.gid.clone(),
            participant: resolve.participant.clone(),
            xid8: branch.xid8,
            kind: HeuristicKind::Hazard,
            detail: cut(&format!("nobody knows how the branch that decided ended; {settled}"), MAX_TEXT),
        });
        let resolution = Resolution { resolve, xid };
        self.persist(record, true, Pending::Resolution(Box::new(resolution)));
        if let Some(hazard) = hazard {
            let record = Record::Heuristic(hazard.clone());
            self.persist(record, true, Pending::Departure(Box::new(hazard)));
        }
    }

    fn judge_resolution(&self, resolve: &Resolve) -> Judgement {
        use Judgement::{Agrees, Decides, Departs, Refused};
        let Some(known) = self.participants.get(&resolve.participant) else {
            return Refused(format!("participant {} is not configured", resolve.participant));
        };
        // 0: it waits for nobody any more.
        let xid = known.quarantined.get(&resolve.gid.to_string()).copied().unwrap_or(0);
        match self.log_says(&resolve.participant, &resolve.gid, xid, None) {
            LogSays::NotOurs { .. } => {
                Refused("refused: the gid is not this coordinator's, which never touches it".into())
            }
            LogSays::Decided { .. } if sings(Canary::ResolveAgainstDecision) => {
                Decides("an operator's order counts for more than the decision".into())
            }
            LogSays::Decided { decision, .. } => match (&decision.decision, resolve.commit) {
                (Decision::Commit, true) => {
                    Agrees("the decision is commit, and is being delivered: this agrees with it".into())
                }
                (Decision::Abort(_), false) => {
                    Agrees("the decision is abort, and is being delivered: this agrees with it".into())
                }
                (Decision::Commit, false) | (Decision::Abort(_), true) => Departs(decision),
            },
            LogSays::Settled { how } => already_settled(how, resolve.commit),
            LogSays::Delegated { .. } => self.judge_handed_over(resolve),
            LogSays::Nothing(Absence::Live) => {
                Refused("refused: its transaction is live; let it end, or roll it back".into())
            }
            LogSays::Nothing(Absence::Unproven(why)) => {
                Decides(format!("no decision is known, and absence proves nothing now: {why}"))
            }
            LogSays::Nothing(Absence::BelowMark) => {
                Decides("its record may have been dropped after retention".into())
            }
            LogSays::Nothing(Absence::WrittenOff) => {
                Decides("its record may be among what was lost with the log, and written off".into())
            }
            LogSays::Nothing(Absence::Proven) if resolve.commit => {
                Refused("refused: it was never decided, which means abort (presumed abort)".into())
            }
            LogSays::Nothing(Absence::Proven) => {
                Agrees("it was never decided, and is being rolled back: this agrees with that".into())
            }
        }
    }

    /// Only the branch that decides knows how that ended. A person's word counts in its place where it is gone for
    /// good, and stays on record as a hazard.
    fn judge_handed_over(&self, resolve: &Resolve) -> Judgement {
        let refused = |why: String| Judgement::Refused(format!("refused: {why}"));
        let Some((decided, _)) = self.handed_over(&resolve.gid, &resolve.participant) else {
            return refused("its decision was delegated".into());
        };
        let Some(at) = decided.deciding().map(|deciding| deciding.participant.clone()) else {
            return refused("its decision was delegated".into());
        };
        if self.participants.contains_key(&at) {
            return refused(format!(
                "its decision was handed to its branch at {at}, which is asked again and again how it ended: see to it \
                 that agent and database of {at} answer; where they are gone for good, take {at} out of the configuration"
            ));
        }
        if !resolve.heuristic {
            return refused(format!(
                "its decision was handed to its branch at {at}, which is not configured any more, and nobody here can \
                 know how that ended: look for its commit marker there; --heuristic settles this branch by your word, \
                 with a hazard on record"
            ));
        }
        Judgement::Decides(format!(
            "its decision was handed to its branch at {at}, which is not configured any more: nobody here knows it"
        ))
    }

    /// The decision that was handed to a sibling of a branch, and the branch; `None` where it is not so.
    fn handed_over(&self, gid: &Gid, at: &ParticipantName) -> Option<(Decided, PreparedBranch)> {
        let history = self.history_of(&gid.gtid).ok()??;
        let decided = history.delegated.filter(|_| history.decided.is_none())?;
        let listed = decided.branches.iter().find(|branch| {
            branch.number == gid.branch && branch.participant == *at && !branch.was_never_prepared()
        });
        let branch = listed.cloned()?;
        Some((decided, branch))
    }

    /// The resolution is on disk: the database may be told.
    pub(super) fn resolution_durable(&mut self, resolution: &Resolution) {
        let Resolution { resolve, xid } = resolution;
        let (participant, gid) = (&resolve.participant, &resolve.gid);
        let key = (participant.clone(), gid.to_string());
        if let Some(why) = self.unreachable(participant) {
            if let Some(awaited) = self.resolving.remove(&key) {
                awaited.answer_later(&why);
            }
            return;
        }
        // Not awaited any more: a listing had it carried out.
        let Some(awaited) = self.resolving.get_mut(&key) else { return };
        awaited.ordered = true;
        let order = if resolve.commit {
            wire::commit_again(participant, gid, 0, *xid)
        } else {
            wire::rollback_branch(&gid.gtid, participant, Some(gid), 0, *xid)
        };
        self.send(participant, order);
    }

    /// The database has answered; whoever resolved the branch is told.
    pub(super) fn resolution_answered(&mut self, participant: &ParticipantName, gid: &str, report: &Report) {
        let key = (participant.clone(), gid.to_owned());
        // Of a departure, what is recorded is told.
        if self.resolving.get(&key).is_none_or(|awaited| awaited.departs) {
            return;
        }
        let Some(awaited) = self.resolving.remove(&key) else { return };
        awaited.answer(match report {
            Report::Done => "done".into(),
            Report::NeverPrepared | Report::Gone(_) | Report::Refused(_) => {
                "it was not prepared any more".into()
            }
            Report::OtherXid(xid) => format!("left alone: it is prepared with transaction id {xid}"),
        });
    }

    /// The stream to the participant's agent is gone, and with it, perhaps, the answer: nobody is kept
    /// waiting for it.
    pub(super) fn resolutions_cut_off(&mut self, participant: &ParticipantName) {
        let why = self.unreachable(participant).unwrap_or_default();
        // What is not on disk yet is answered when it is.
        let cut_off = |((at, _), awaited): &(&(ParticipantName, String), &Awaited)| {
            at == participant && awaited.ordered
        };
        let cut: Vec<_> = self.resolving.iter().filter(cut_off).map(|(key, _)| key.clone()).collect();
        for awaited in cut.into_iter().filter_map(|key| self.resolving.remove(&key)) {
            awaited.answer_later(&why);
        }
    }
}

/// What was settled under the same transaction id stays settled.
fn already_settled(how: Settled, commit: bool) -> Judgement {
    match how {
        Settled::Resolved { commit: before } if before == commit => {
            Judgement::Agrees("it was resolved so before: this agrees with it".into())
        }
        Settled::Resolved { .. } => {
            Judgement::Refused("refused: it was resolved the other way before, and has ended so".into())
        }
        Settled::Heuristic { .. } => Judgement::Refused(
            "refused: how it ended is recorded, and what is prepared of it is ended as recorded".into(),
        ),
    }
}

fn response(resolve: &Resolve, judgement: String) -> v1::ResolveResponse {
    let command = if resolve.commit { "COMMIT" } else { "ROLLBACK" };
    v1::ResolveResponse {
        statements: vec![format!("{}: {command} PREPARED '{}'", resolve.participant, resolve.gid)],
        judgement,
        ..Default::default()
    }
}

fn decision_word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Commit => "commit",
        Decision::Abort(_) => "abort",
    }
}
