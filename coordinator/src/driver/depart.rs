//! A person has a branch ended otherwise than decided (docs/protocol.md, departures): its agent is asked to let
//! go of it, then what the person said is forced, then it is ordered. What cannot be confirmed is refused.

use std::time::Duration;

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{Gid, ParticipantName};
use votum_proto::runtime::Monotonic;
use votum_proto::v1;
use votum_proto::v1::branch_held::Kind as Held;

use super::request::{Answer, RequestError, Resolve};
use super::resolve::Awaited;
use super::timers::Timer;
use super::{Driver, LocalId, wire};
use crate::crash::{self, CrashPoint};
use crate::protocol::event::Event;
use crate::protocol::record::{
    Decided, Decision, Heuristic, HeuristicKind, MAX_LABEL, MAX_TEXT, PreparedBranch, Record, Resolved, cut,
};
use crate::protocol::recovery::low_half;

/// How long an agent waits for what is at the database, before it says that it cannot let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long its answer may take in all.
const LIMIT: Duration = Duration::from_secs(15);

/// A departure whose agent is asked to let go of the branch.
pub(super) struct Departure {
    resolve: Resolve,
    branch: PreparedBranch,
    response: v1::ResolveResponse,
    answer: Answer<v1::ResolveResponse>,
    until: Monotonic,
}

/// What is said of a branch whose transaction has left memory. One that was aborted leaves with its last
/// acknowledgement, or with the life: no later life is owed anything of it.
fn nothing_owed(Resolve { gid, participant, .. }: &Resolve, decided: &Decided) -> String {
    let commonly = "nothing of its transaction is owed any more; what is prepared of it again is ended as decided \
                    whenever its agent lists it";
    match decided.decision {
        Decision::Commit => commonly.to_owned(),
        Decision::Abort(_) => format!(
            "{commonly}. Where the work of an aborted transaction must stay, stop the agent of {participant} before \
             it lists the branch, and commit it in the database, as the role that owns it: COMMIT PREPARED '{gid}'. \
             No record will say so, and who asks is told that it was aborted: keep a note of your own"
        ),
    }
}

impl Driver {
    /// Whether a branch may be ended otherwise than `decided`; what that would come to.
    pub(super) fn may_depart(
        &self,
        resolve: &Resolve,
        decided: &Decided,
    ) -> Result<(PreparedBranch, String), RequestError> {
        let Resolve { gid, participant, .. } = resolve;
        let refused = |why: &str| Err(RequestError::Invalid(format!("refused: {why}")));
        if self.drain.is_some() {
            return Err(RequestError::Unavailable("the coordinator is stopping".into()));
        }
        self.counted()?;
        if let Some(why) = &self.stale {
            return refused(&format!("this log is stale, and may lack how the branch ended: {why}"));
        }
        let Some(live) = self.live.get(&LocalId::from(&gid.gtid)) else {
            return refused(&nothing_owed(resolve, decided));
        };
        let branch = match live.transaction.may_depart(participant, gid.branch) {
            Ok(branch) => branch.clone(),
            Err(why) => return refused(why),
        };
        if let Some(why) = self.unreachable(participant) {
            return Err(RequestError::Unavailable(format!(
                "what was ordered of {gid} cannot be taken back: {why}; bring the agent back first"
            )));
        }
        let agent = self.participants.get(participant).map(|known| known.agent);
        if !agent.and_then(|agent| self.links.get(agent)).is_some_and(|link| link.can_hold) {
            return refused(
                "its agent is of a version that cannot let go of an order; install the coordinator's version \
                 there first",
            );
        }
        Ok((branch, consequence(decided, resolve)))
    }

    /// Whether the branch's agent is asked to let go of it, for another departure.
    pub(super) fn is_departing(&self, resolve: &Resolve) -> bool {
        let same = |it: &Departure| {
            (&it.resolve.gid, &it.resolve.participant) == (&resolve.gid, &resolve.participant)
        };
        self.departures.values().any(same)
    }

    pub(super) fn depart(
        &mut self,
        resolve: Resolve,
        branch: PreparedBranch,
        response: v1::ResolveResponse,
        answer: Answer<v1::ResolveResponse>,
    ) {
        let request = self.next_listing;
        self.next_listing += 1;
        let id = LocalId::from(&resolve.gid.gtid);
        let number = branch.number;
        tracing::warn!(gtid = %resolve.gid.gtid, participant = %resolve.participant, gid = %resolve.gid,
            commit = resolve.commit, operator = %resolve.operator, reason = %resolve.reason,
            "an operator departs from a decision: its agent is asked to let go of the branch");
        let until = self.seams.clock.now().after(LIMIT);
        let xid = low_half(branch.xid8);
        let system_identifier = branch.system_identifier;
        let gid = resolve.gid.clone();
        let participant = resolve.participant.clone();
        self.departures.insert(request, Departure { resolve, branch, response, answer, until });
        self.timers.set(until, Timer::Held(request));
        self.step(id, Event::Hold { branch: number });
        if sings(Canary::DepartWithoutHold) {
            self.on_held(v1::BranchHeld {
                gtid: gid.gtid.to_string(),
                participant: participant.to_string(),
                gid: gid.to_string(),
                request,
                kind: Some(Held::Prepared(v1::HeldPrepared { xid, system_identifier })),
            });
        }
    }

    pub(super) fn send_hold(&mut self, participant: &ParticipantName, gid: &Gid) {
        let this = |it: &Departure| (&it.resolve.gid, &it.resolve.participant) == (gid, participant);
        let Some(request) = self.departures.iter().find(|(_, it)| this(it)).map(|(request, _)| *request)
        else {
            return;
        };
        if !sings(Canary::DepartWithoutHold) {
            self.send(participant, wire::hold(participant, gid, request, PATIENCE));
        }
    }

    /// An agent has let go of a branch, or says why not.
    pub(super) fn on_held(&mut self, held: v1::BranchHeld) {
        let Some(departure) = self.departures.get(&held.request) else { return };
        let Departure { resolve, branch, .. } = departure;
        if (resolve.gid.to_string(), resolve.participant.as_str()) != (held.gid, held.participant.as_str()) {
            return;
        }
        let refused = match held.kind {
            Some(Held::Prepared(v1::HeldPrepared { xid, system_identifier })) => {
                if system_identifier != branch.system_identifier {
                    Some(format!("the server there calls itself {system_identifier}: it is another one"))
                } else if xid != low_half(branch.xid8) {
                    Some(format!("other work is prepared under its name, with transaction id {xid}"))
                } else {
                    None
                }
            }
            Some(Held::NotPrepared(v1::NotPrepared {})) => {
                Some("it is not prepared any more: how it ended is being found out".into())
            }
            Some(Held::NotHeld(v1::NotHeld { reason })) => Some(reason),
            None => Some("its agent gave an answer that this coordinator does not know".into()),
        };
        match refused {
            Some(why) => self.let_be(held.request, &why),
            None => self.record_what_was_said(held.request),
        }
    }

    /// Nobody ends the branch any more, and it is prepared: what the person said is forced.
    fn record_what_was_said(&mut self, request: u64) {
        crash::here(CrashPoint::BranchHeld);
        let Some(Departure { resolve, branch, mut response, answer, until }) =
            self.departures.remove(&request)
        else {
            return;
        };
        self.timers.cancel(until, Timer::Held(request));
        let id = LocalId::from(&resolve.gid.gtid);
        if !self.live.get(&id).is_some_and(|live| live.transaction.is_held(branch.number)) {
            let _ = answer.send(Err(not_done(&resolve, "it ended as decided before its agent had let go")));
            return;
        }
        tracing::warn!(gtid = %resolve.gid.gtid, participant = %resolve.participant, gid = %resolve.gid,
            "the agent has let go of the branch: what the operator said is recorded");
        response.applied = true;
        let key = (resolve.participant.clone(), resolve.gid.to_string());
        self.resolving.insert(key, Awaited::departing(answer, response));
        let resolved = Resolved {
            gid: resolve.gid,
            participant: resolve.participant,
            xid: low_half(branch.xid8),
            commit: resolve.commit,
            operator: cut(&resolve.operator, MAX_LABEL),
            reason: cut(&resolve.reason, MAX_TEXT),
        };
        self.step(id, Event::Overrule(resolved));
    }

    /// Nothing comes of a departure: nothing is recorded, and the branch is ended as decided.
    fn let_be(&mut self, request: u64, why: &str) {
        let Some(Departure { resolve, branch, answer, until, .. }) = self.departures.remove(&request) else {
            return;
        };
        self.timers.cancel(until, Timer::Held(request));
        tracing::warn!(gtid = %resolve.gid.gtid, participant = %resolve.participant, gid = %resolve.gid, why,
            "nothing comes of the departure");
        self.step(LocalId::from(&resolve.gid.gtid), Event::Release { branch: branch.number });
        let _ = answer.send(Err(not_done(&resolve, why)));
    }

    pub(super) fn not_held_in_time(&mut self, request: u64) {
        self.let_be(request, "its agent has not answered in time whether it has let go of the branch");
    }

    /// The stream to the participant's agent is gone, and with it the answer.
    pub(super) fn departures_cut_off(&mut self, participant: &ParticipantName) {
        let at = |it: &Departure| it.resolve.participant == *participant;
        let cut: Vec<u64> =
            self.departures.iter().filter(|(_, it)| at(it)).map(|(request, _)| *request).collect();
        let why = self.unreachable(participant).unwrap_or_default();
        for request in cut {
            self.let_be(request, &why);
        }
    }

    /// A record of a transaction is on disk: what that means for who departs with one of its branches.
    pub(super) fn departing_durable(&mut self, id: LocalId, record: &Record) {
        match record {
            Record::Resolved(Resolved { gid, participant, .. }) => {
                let key = (participant.clone(), gid.to_string());
                let away = self.unreachable(participant);
                let Some(awaited) = self.resolving.get_mut(&key) else { return };
                awaited.ordered();
                if let Some(why) = away
                    && let Some(awaited) = self.resolving.remove(&key)
                {
                    awaited.answer_later(&why);
                }
            }
            Record::Heuristic(heuristic) => {
                let live = self.live.get(&id);
                // The hazard that a departure is until it has been carried out.
                if !live.is_some_and(|live| live.transaction.is_overruled(heuristic.gid.branch)) {
                    self.departure_recorded(heuristic);
                }
            }
            Record::Identity(_)
            | Record::Epoch(_)
            | Record::Lease { .. }
            | Record::Begun(_)
            | Record::Decided(_)
            | Record::Delegated(_)
            | Record::Ended { .. }
            | Record::Carried(_)
            | Record::Acknowledged(_)
            | Record::WrittenOff(_)
            | Record::Compared(_) => {}
        }
    }

    /// How the branch ended is on disk: who departed is told.
    fn departure_recorded(&mut self, Heuristic { gid, participant, kind, detail, .. }: &Heuristic) {
        let key = (participant.clone(), gid.to_string());
        let Some(awaited) = self.resolving.remove(&key) else { return };
        awaited.answer(match kind {
            HeuristicKind::Rollback | HeuristicKind::Commit => "done".to_owned(),
            HeuristicKind::Mended => format!("nothing departed: {detail}"),
            HeuristicKind::Hazard => format!("nobody can say how it ended: {detail}"),
        });
    }

    /// R16: a branch of a transaction that is over is ended as a person said in an earlier life, against the
    /// decision: what is to be recorded once it has.
    pub(super) fn note_departing(&mut self, participant: &ParticipantName, gid: &Gid, xid: u32) {
        if self.live.contains_key(&LocalId::from(&gid.gtid)) {
            return;
        }
        let Ok(Some(history)) = self.history_of(&gid.gtid) else { return };
        if let Some(departs) = self.known(&gid.gtid, &history).departs(participant, gid, xid) {
            self.mending.insert(gid.to_string(), departs);
        }
    }
}

fn not_done(resolve: &Resolve, why: &str) -> RequestError {
    RequestError::Unavailable(format!(
        "nothing was recorded and nothing was done about {} at {}: {why}; it is ended as decided, again and again",
        resolve.gid, resolve.participant
    ))
}

/// How the transaction would stand, branch by branch.
fn consequence(decided: &Decided, resolve: &Resolve) -> String {
    let others = |word: &str| {
        let others = decided.branches.iter().filter(|branch| branch.number != resolve.gid.branch);
        let names: Vec<&str> = others.map(|branch| branch.participant.as_str()).collect();
        if names.is_empty() { String::new() } else { format!(", {word} at {}", names.join(", ")) }
    };
    let here = &resolve.participant;
    match decided.decision {
        Decision::Commit => format!("this transaction is torn: rolled back at {here}{}", others("committed")),
        Decision::Abort(_) => {
            format!("this transaction is torn: committed at {here}{}", others("rolled back"))
        }
    }
}
