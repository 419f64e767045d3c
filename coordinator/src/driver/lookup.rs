//! What became of a transaction: memory first, then the log; absence means something only when the log is
//! whole.

use votum_proto::names::Gtid;

use super::request::{Outcome, RequestError};
use super::{Driver, LocalId, LogState};
use crate::log::TransactionHistory;
use crate::protocol::knowledge::{self as protocol, Became};
use crate::protocol::record::Decision;

impl Driver {
    /// What is known is said even by a stale log; what would rest on absence is not.
    pub(super) fn lookup(&self, gtid: &Gtid) -> Result<Outcome, RequestError> {
        if gtid.coordinator_id != self.coordinator_id {
            return Err(RequestError::NotFound(gtid.to_string()));
        }
        let id = LocalId::from(gtid);
        if let Some(live) = self.live.get(&id) {
            let outcome = self.outcome_of(live);
            if !matches!(outcome, Outcome::InProgress(_)) {
                return Ok(outcome);
            }
        }
        if let Some(outcome) = self.recent.outcomes.get(&id) {
            return Ok(outcome.clone());
        }
        let history = self.history_of(gtid)?.unwrap_or_default();
        let unknown = |why: String| Ok(Outcome::Unknown(why));
        let present = (self.life, self.next_seq);
        match self.known(gtid, &history).became(gtid, present, &|| self.horizon()) {
            Became::Recorded => recorded(&history).ok_or_else(|| RequestError::NotFound(gtid.to_string())),
            Became::Unproven(why) => Err(self.unproven(why)),
            Became::UnknownLife => {
                unknown(format!("this log has no epoch {}; ask the coordinator that holds it", gtid.life))
            }
            Became::NeverBegun => Err(RequestError::NotFound(gtid.to_string())),
            Became::Live => self
                .live
                .get(&id)
                .map(|live| self.outcome_of(live))
                .ok_or_else(|| RequestError::NotFound(gtid.to_string())),
            Became::Delegated => unknown("the decision was delegated, and its answer is awaited".into()),
            Became::Expired => Ok(Outcome::Expired),
            Became::PresumedAborted => Ok(Outcome::Aborted { reason: None, heuristics: Vec::new() }),
            Became::BeyondLease => unknown(format!("{gtid} lies beyond what this log leased in its epoch")),
        }
    }

    pub(super) fn lookup_key(&self, client: &str, key: &str) -> Result<(Gtid, Outcome), RequestError> {
        if let Some((id, _)) = self.keys.get(&(client.to_owned(), key.to_owned())) {
            let gtid = self.gtid(*id);
            let outcome = self.lookup(&gtid)?;
            return Ok((gtid, outcome));
        }
        self.refuse_absence()?;
        let LogState::Ready(history) = &self.log_state else {
            return Err(RequestError::NotFound(format!("with key {key}")));
        };
        match history.by_key(client, key) {
            Ok(Some((gtid, _))) => {
                let outcome = self.lookup(&gtid)?;
                Ok((gtid, outcome))
            }
            Ok(None) => Err(RequestError::NotFound(format!("with key {key}"))),
            Err(error) => Err(RequestError::Unavailable(error.to_string())),
        }
    }

    /// The log's records of a transaction; `None` while the store is not open.
    pub(super) fn history_of(&self, gtid: &Gtid) -> Result<Option<TransactionHistory>, RequestError> {
        let LogState::Ready(history) = &self.log_state else { return Ok(None) };
        history.transaction(gtid).map(Some).map_err(|e| RequestError::Unavailable(e.to_string()))
    }

    /// Refuses what may be acted on only once the history is whole.
    pub(super) fn counted(&self) -> Result<(), RequestError> {
        match &self.log_state {
            LogState::Ready(_) => Ok(()),
            LogState::Counting => {
                Err(RequestError::Unavailable("the coordinator is still reading its log".into()))
            }
            LogState::Unreadable(why) | LogState::Doubtful(why) => Err(RequestError::LogFailed(why.clone())),
        }
    }

    /// Why the absence of a record proves nothing now, if it does not.
    fn absence_unproven(&self) -> Option<String> {
        protocol::absence_unproven(self.stale.as_deref(), self.readable())
    }

    pub(super) fn refuse_absence(&self) -> Result<(), RequestError> {
        self.absence_unproven().map_or(Ok(()), |why| Err(self.unproven(why)))
    }

    /// Asking again helps in a while, or only once the log was opened again.
    fn unproven(&self, why: String) -> RequestError {
        match &self.log_state {
            LogState::Doubtful(why) => RequestError::LogFailed(why.clone()),
            LogState::Counting | LogState::Ready(_) | LogState::Unreadable(_) => {
                RequestError::Unavailable(why)
            }
        }
    }
}

/// The outcome that a log's records say, if they say one.
pub fn recorded(history: &TransactionHistory) -> Option<Outcome> {
    let decided = history.decided.as_ref()?;
    let heuristics = history.heuristics.clone();
    Some(match &decided.decision {
        Decision::Commit => {
            let owed = decided.branches.iter().map(|branch| branch.participant.clone());
            let pending = if history.ended { Vec::new() } else { owed.collect() };
            Outcome::Committed { pending, heuristics }
        }
        Decision::Abort(reason) => Outcome::Aborted { reason: Some(reason.clone()), heuristics },
    })
}
