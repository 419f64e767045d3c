//! What the log, and memory, say of a prepared branch, in the terms of the recovery table.

use votum_proto::names::{Gid, ParticipantName};
use votum_proto::v1;

use super::{Driver, LocalId, LogState};
use crate::log::TransactionHistory;
use crate::protocol::record::{Decided, Decision};
use crate::protocol::recovery::{Absence, LogSays, Settled, low_half};

/// Whose a prepared transaction is, as the listing shows it.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    /// The agent's own role, or one declared for attached work.
    by_agent: bool,
    /// It is in the participant's own database.
    in_database: bool,
}

impl Owner {
    pub(super) fn of(row: &v1::PreparedTransaction, listing: &v1::Listing) -> Self {
        Self {
            by_agent: row.owner == listing.role || listing.attached_roles.contains(&row.owner),
            in_database: row.database == listing.database,
        }
    }

    /// Whether the agent, or somebody who works for it, prepared it here. A name proves nothing: anyone may
    /// forge one.
    pub(super) fn is_the_agents(&self) -> bool {
        self.by_agent && self.in_database
    }
}

impl Driver {
    /// `owner` is `None` where the agent itself vouches for the branch (a vote).
    pub(super) fn log_says(
        &self,
        participant: &ParticipantName,
        gid: &Gid,
        xid: u32,
        owner: Option<&Owner>,
    ) -> LogSays {
        if gid.gtid.coordinator_id != self.coordinator_id {
            return LogSays::NotOurs { looks_like_ours: false };
        }
        let history = match self.history_of(&gid.gtid) {
            Ok(history) => history.unwrap_or_default(),
            Err(error) => return LogSays::Nothing(Absence::Unproven(error.to_string())),
        };
        let decided = self.decision_of(gid, &history);
        let by_agent = owner.is_none_or(Owner::is_the_agents);
        // A gid that the log lists with that xid is ours, whatever its owner has become.
        if !by_agent && !decided.as_ref().is_some_and(|decided| lists(decided, participant, gid, xid)) {
            return LogSays::NotOurs { looks_like_ours: false };
        }
        if let Some(settled) = settled(participant, gid, &history) {
            return settled;
        }
        if let Some(decision) = decided {
            let live = self.live.get(&LocalId::from(&gid.gtid));
            let acknowledged = live.map_or(history.ended, |live| live.transaction.acknowledged(gid.branch));
            return LogSays::Decided { decision: Box::new(decision), acknowledged };
        }
        if history.delegated.is_some() {
            return LogSays::Delegated { deciding: false, answer_may_come: false };
        }
        self.nothing(participant, gid)
    }

    fn decision_of(&self, gid: &Gid, history: &TransactionHistory) -> Option<Decided> {
        let live = self.live.get(&LocalId::from(&gid.gtid));
        live.and_then(|live| live.transaction.decided()).cloned().or_else(|| history.decided.clone())
    }

    /// No decision is known: what that is worth.
    fn nothing(&self, participant: &ParticipantName, gid: &Gid) -> LogSays {
        let unproven = |why: String| LogSays::Nothing(Absence::Unproven(why));
        if self.lives.get(gid.gtid.life).is_none() {
            return if self.lives.is_complete() {
                LogSays::NotOurs { looks_like_ours: true }
            } else {
                unproven("the coordinator is still reading its log".into())
            };
        }
        if self.live.contains_key(&LocalId::from(&gid.gtid)) {
            return LogSays::Nothing(Absence::Live);
        }
        if let Some(why) = self.absence_unproven() {
            return unproven(why);
        }
        let LogState::Ready(history) = &self.log_state else {
            return unproven("the coordinator is still reading its log".into());
        };
        match history.mark(participant) {
            Ok(Some(mark)) if LocalId::from(&gid.gtid) <= LocalId::from(&mark) => {
                LogSays::Nothing(Absence::BelowMark)
            }
            Ok(_) => LogSays::Nothing(Absence::Proven),
            Err(error) => unproven(error.to_string()),
        }
    }
}

fn lists(decided: &Decided, participant: &ParticipantName, gid: &Gid, xid: u32) -> bool {
    decided.branches.iter().any(|branch| {
        branch.number == gid.branch && branch.participant == *participant && low_half(branch.xid8) == xid
    })
}

/// What was recorded of this branch outside the protocol: the newest record counts.
fn settled(participant: &ParticipantName, gid: &Gid, history: &TransactionHistory) -> Option<LogSays> {
    let here = |settled: &Gid, at: &ParticipantName| settled == gid && at == participant;
    if let Some(resolved) = history.resolved.iter().rev().find(|r| here(&r.gid, &r.participant)) {
        let how = Settled::Resolved { commit: resolved.commit };
        return Some(LogSays::Settled { how, xid: resolved.xid });
    }
    let heuristic = history.heuristics.iter().rev().find(|h| here(&h.gid, &h.participant))?;
    let decided_commit = history.decided.as_ref().is_some_and(|decided| decided.decision == Decision::Commit);
    let how = Settled::Heuristic { kind: heuristic.kind, decided_commit };
    Some(LogSays::Settled { how, xid: low_half(heuristic.xid8) })
}
