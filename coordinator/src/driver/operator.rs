//! What votumctl asks: status, lists, one transaction.

use std::time::Duration;

use votum_proto::names::{Gtid, ParticipantName};
use votum_proto::v1;

use super::request::{Outcome, RequestError};
use super::{Driver, Live, LocalId, LogState};
use crate::log::TransactionHistory;
use crate::protocol::record::{Decision, Heuristic, Record};

/// How many transactions a list holds when nobody says.
const DEFAULT_LIMIT: usize = 100;

impl Driver {
    pub(super) fn status(&self) -> v1::GetStatusResponse {
        let now = self.seams.clock.now();
        let undelivered = self.live.values().filter(|live| !live.transaction.is_undecided()).count();
        v1::GetStatusResponse {
            coordinator_id: self.coordinator_id.to_string(),
            epoch: self.life.epoch.0,
            incarnation: self.life.incarnation.to_string(),
            log_position: self.position,
            log_state: self.log_state_word().to_owned(),
            stale: self.stale.is_some(),
            stale_detail: self.stale.clone().unwrap_or_default(),
            participants: self.participant_statuses(),
            in_flight: self.undecided as u64,
            undelivered: undelivered as u64,
            alarms: self.alarms.to_wire(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            retention_reach_ms: match &self.log_state {
                LogState::Ready(history) => history.reach_ms(),
                LogState::Counting | LogState::Unreadable(_) | LogState::Doubtful(_) => 0,
            },
            up_ms: milliseconds(now.since(self.started)),
            counts: Some(self.settings.counted.to_wire()),
        }
    }

    fn log_state_word(&self) -> &'static str {
        match self.log_state {
            LogState::Counting => "counting",
            LogState::Ready(_) => "ready",
            LogState::Unreadable(_) => "unreadable",
            LogState::Doubtful(_) => "latched",
        }
    }

    fn participant_statuses(&self) -> Vec<v1::ParticipantStatus> {
        let now = self.seams.clock.now();
        let status = |(name, known): (&ParticipantName, &super::Participant)| {
            let link = self.links.get(known.agent);
            let connected = link.is_some_and(|link| link.generation.is_some());
            v1::ParticipantStatus {
                participant: name.to_string(),
                agent_address: link.map(|link| link.address.clone()).unwrap_or_default(),
                connected,
                heard: known.heard,
                in_doubt: known.in_doubt,
                oldest_in_doubt_ms: known.oldest_in_doubt_ms,
                quarantined: known.quarantined.len() as u64,
                detail: if connected {
                    known.failure.clone()
                } else {
                    link.map(|link| link.down.clone()).unwrap_or_default()
                },
                unproven: known.unproven.as_ref().map(super::unproven::Unproven::to_wire),
                link_ms: link.map(|link| milliseconds(now.since(link.since))).unwrap_or_default(),
            }
        };
        self.participants.iter().map(status).collect()
    }

    pub(super) fn list(
        &self,
        request: &v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, RequestError> {
        let limit = if request.limit == 0 { DEFAULT_LIMIT } else { request.limit as usize };
        let keep = |summary: &v1::TransactionSummary| {
            (request.state.is_empty() || summary.state == request.state)
                && (request.participant.is_empty() || summary.participants.contains(&request.participant))
        };
        let mut transactions: Vec<v1::TransactionSummary> =
            self.live.values().rev().map(|live| self.live_summary(live)).filter(keep).take(limit).collect();
        if let LogState::Ready(history) = &self.log_state {
            let newest = history.newest(limit.saturating_mul(4)).map_err(|e| unreadable(&e))?;
            for gtid in newest {
                if transactions.len() >= limit {
                    break;
                }
                if self.live.contains_key(&LocalId::from(&gtid)) {
                    continue;
                }
                let summary =
                    recorded_summary(&gtid, &history.transaction(&gtid).map_err(|e| unreadable(&e))?);
                if keep(&summary) {
                    transactions.push(summary);
                }
            }
        }
        Ok(v1::ListTransactionsResponse { transactions })
    }

    fn live_summary(&self, live: &Live) -> v1::TransactionSummary {
        let age = self.seams.clock.now().since(live.begun);
        v1::TransactionSummary {
            gtid: live.transaction.gtid().to_string(),
            state: live.transaction.state().to_owned(),
            label: live.transaction.label().to_owned(),
            participants: live.transaction.branches().iter().map(|b| b.participant.to_string()).collect(),
            age_ms: milliseconds(age),
            live: true,
        }
    }

    pub(super) fn show(&self, gtid: &Gtid) -> Result<(v1::ShowTransactionResponse, Outcome), RequestError> {
        let outcome = self.lookup(gtid)?;
        let history = self.history_of(gtid)?.unwrap_or_default();
        let live = self.live.get(&LocalId::from(gtid));
        let (summary, branches) = match live {
            Some(live) => (self.live_summary(live), live_branches(live)),
            None => (recorded_summary(gtid, &history), recorded_branches(&history)),
        };
        let response = v1::ShowTransactionResponse {
            summary: Some(summary),
            next: next_sentence(&outcome, &history),
            outcome: None,
            branches,
            records: history.records.iter().map(log_record).collect(),
        };
        Ok((response, outcome))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unreadable(error: &crate::log::HistoryError) -> RequestError {
    RequestError::Unavailable(error.to_string())
}

/// A transaction of the log, for people.
pub fn recorded_summary(gtid: &Gtid, history: &TransactionHistory) -> v1::TransactionSummary {
    let state = match (&history.decided, history.ended) {
        (Some(decided), ended) => match (&decided.decision, ended) {
            (Decision::Commit, true) => "committed",
            (Decision::Commit, false) => "committing",
            (Decision::Abort(_), _) => "aborted",
        },
        (None, _) if history.delegated.is_some() => "one-phase",
        (None, _) => "undecided",
    };
    let label = history.records.iter().find_map(|(_, _, record)| match record {
        Record::Begun(begun) => Some(begun.label.clone()),
        Record::Decided(decided) | Record::Delegated(decided) => Some(decided.label.clone()),
        Record::Identity(_)
        | Record::Epoch(_)
        | Record::Lease { .. }
        | Record::Ended { .. }
        | Record::Heuristic(_)
        | Record::Resolved(_)
        | Record::Carried(_)
        | Record::Acknowledged(_)
        | Record::WrittenOff(_)
        | Record::Compared(_) => None,
    });
    v1::TransactionSummary {
        gtid: gtid.to_string(),
        state: state.to_owned(),
        label: label.unwrap_or_default(),
        participants: recorded_branches(history).into_iter().map(|branch| branch.participant).collect(),
        age_ms: 0,
        live: false,
    }
}

/// The branches that a recorded decision names, for people.
pub fn recorded_branches(history: &TransactionHistory) -> Vec<v1::BranchState> {
    let Some(decided) = history.decided.as_ref().or(history.delegated.as_ref()) else { return Vec::new() };
    let state = match (&decided.decision, history.ended) {
        (Decision::Commit, true) => "acknowledged",
        (Decision::Commit, false) => "committing",
        (Decision::Abort(_), _) => "rolled back",
    };
    let branch = |branch: &crate::protocol::record::PreparedBranch| v1::BranchState {
        participant: branch.participant.to_string(),
        gid: decided.gid(branch.number).to_string(),
        state: if history.heuristics.iter().any(|h| h.gid.branch == branch.number) {
            "heuristic".to_owned()
        } else {
            state.to_owned()
        },
        xid8: branch.xid8,
        trouble: String::new(),
    };
    decided.branches.iter().map(branch).collect()
}

/// One record, for people.
pub fn log_record((position, running_ms, record): &(u64, u64, Record)) -> v1::LogRecord {
    v1::LogRecord {
        position: *position,
        kind: record.kind().to_owned(),
        running_ms: *running_ms,
        text: record.to_string(),
    }
}

fn live_branches(live: &Live) -> Vec<v1::BranchState> {
    let views = live.transaction.branches();
    let decided = live.transaction.decided();
    let branch = |view: crate::protocol::standing::BranchView| v1::BranchState {
        gid: view
            .number
            .and_then(|number| decided.map(|decided| decided.gid(number).to_string()))
            .unwrap_or_default(),
        state: view.state.to_owned(),
        xid8: view.xid8,
        trouble: live.trouble.get(&view.participant).cloned().unwrap_or_default(),
        participant: view.participant.to_string(),
    };
    views.into_iter().map(branch).collect()
}

/// What will happen next, in a sentence.
pub fn next_sentence(outcome: &Outcome, history: &TransactionHistory) -> String {
    match outcome {
        Outcome::Committed { pending, heuristics } if pending.is_empty() => departed(heuristics, history)
            .unwrap_or_else(|| "nothing: every branch has ended as decided".into()),
        Outcome::Committed { pending, .. } => {
            let overruled = |at: &&ParticipantName| {
                history.resolved.iter().any(|resolved| resolved.participant == **at && !resolved.commit)
            };
            let (overruled, owed): (Vec<_>, Vec<_>) = pending.iter().partition(overruled);
            let order = |command: &str, at: &[&ParticipantName], until: &str| {
                let names: Vec<&str> = at.iter().map(|name| name.as_str()).collect();
                (!at.is_empty()).then(|| format!("{command} PREPARED at {}, {until}", names.join(", ")))
            };
            let commits = order("COMMIT", &owed, "again and again until it is acknowledged");
            let departs = order("ROLLBACK", &overruled, "as a person ordered against the decision");
            commits.into_iter().chain(departs).collect::<Vec<_>>().join("; ")
        }
        Outcome::ReadOnly => "nothing: every branch has ended, nothing was written".into(),
        Outcome::Aborted { heuristics, .. } => departed(heuristics, history)
            .unwrap_or_else(|| "what is still prepared is rolled back when its agent lists it".into()),
        Outcome::InProgress("delegating" | "one-phase") => {
            "its only branch decides: it is asked again and again how its commit ended".into()
        }
        Outcome::InProgress(state) => {
            format!("it is {state}: the client's Commit or Rollback, a vote, or the timeout ends it")
        }
        Outcome::Unknown(why) => format!("unknown for now: {why}"),
        Outcome::Expired => "nothing: it ended longer ago than the log remembers".into(),
    }
}

/// Where branches departed from the decision: only a person can make the databases agree again.
fn departed(heuristics: &[Heuristic], history: &TransactionHistory) -> Option<String> {
    let acknowledged = |heuristic: &&Heuristic| {
        let of_it = |record: &Record| matches!(record, Record::Acknowledged(it) if it.gid == heuristic.gid);
        history.records.iter().any(|(_, _, record)| of_it(record))
    };
    let (dealt_with, open): (Vec<_>, Vec<_>) = Heuristic::departures(heuristics).partition(acknowledged);
    let names = |of: &[&Heuristic]| of.iter().map(|h| h.participant.as_str()).collect::<Vec<_>>().join(", ");
    if !open.is_empty() {
        return Some(format!(
            "nothing by itself: the branch at {} departed from the decision, and a person has to make the \
             databases agree (votumctl explain VOTUM-1407)",
            names(&open)
        ));
    }
    let what = "departed from the decision, and a person has dealt with it";
    (!dealt_with.is_empty()).then(|| format!("nothing: the branch at {} {what}", names(&dealt_with)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record::HeuristicKind;

    #[test]
    fn what_comes_next_names_where_a_branch_departed_unless_it_was_mended() {
        let seen = |kind| Heuristic {
            gid: "votum_acme_7_3f9ac2_1042_0_2".parse().unwrap(),
            participant: "bank-a".parse().unwrap(),
            xid8: 731,
            kind,
            detail: "gone".into(),
        };
        let none = TransactionHistory::default();
        let next = |heuristics| next_sentence(&Outcome::Committed { pending: Vec::new(), heuristics }, &none);
        assert_eq!(next(Vec::new()), "nothing: every branch has ended as decided");
        let departed = next(vec![seen(HeuristicKind::Hazard)]);
        assert!(departed.contains("bank-a departed") && departed.contains("VOTUM-1407"), "{departed}");
        assert!(!departed.contains("every branch has ended"), "{departed}");
        let mended = next(vec![seen(HeuristicKind::Hazard), seen(HeuristicKind::Mended)]);
        assert_eq!(mended, "nothing: every branch has ended as decided");
        let said = crate::protocol::record::Resolved {
            gid: "votum_acme_7_3f9ac2_1042_0_2".parse().unwrap(),
            participant: "bank-a".parse().unwrap(),
            xid: 731,
            commit: false,
            operator: "ada".into(),
            reason: "4714".into(),
        };
        let overruled = TransactionHistory { resolved: vec![said], ..TransactionHistory::default() };
        let pending = vec!["bank-a".parse().unwrap(), "bank-b".parse().unwrap()];
        let next = next_sentence(&Outcome::Committed { pending, heuristics: Vec::new() }, &overruled);
        assert!(next.starts_with("COMMIT PREPARED at bank-b, again"), "{next}");
        assert!(next.contains("; ROLLBACK PREPARED at bank-a, as a person"), "{next}");
        let aborted = next_sentence(
            &Outcome::Aborted { reason: None, heuristics: vec![seen(HeuristicKind::Commit)] },
            &none,
        );
        assert!(aborted.contains("bank-a departed"), "{aborted}");
    }
}
