//! The directory of a stopped coordinator's log, or a copy: read without changing a byte of it.
//!
//! What it says is what this directory holds. A coordinator that goes on elsewhere may hold more, so the
//! absence of a decision is never called an abort here.

use std::collections::BTreeMap;
use std::path::Path;

use votum_coordinator::driver::HEURISTIC;
use votum_coordinator::driver::lookup::recorded;
use votum_coordinator::driver::operator::{log_record, next_sentence, recorded_branches, recorded_summary};
use votum_coordinator::driver::request::Outcome;
use votum_coordinator::log::offline::{OfflineLog, open_history};
use votum_coordinator::log::refusal::Refusal;
use votum_coordinator::log::{History, HistoryError, TransactionHistory};
use votum_coordinator::server::outcome::outcome as wire_outcome;
use votum_proto::names::Gtid;
use votum_proto::v1;

use crate::document::STOPPED;
use crate::failure::Failure;

/// How many of a log's transactions are looked at in one go.
const PAGE: usize = 4_096;

/// A log that is not opened, as a failure.
pub(crate) fn refused(refusal: &Refusal) -> Failure {
    Failure::broken(refusal.code(), refusal.to_string())
}

fn open(directory: &Path) -> Result<OfflineLog, Failure> {
    open_history(directory).map_err(|refusal| refused(&refusal))
}

fn unreadable(error: &HistoryError) -> Failure {
    let message = format!(
        "{error}. `votumctl log verify` names what is wrong, `votumctl log salvage` lists what is intact"
    );
    Failure::broken("VOTUM-1111", message)
}

/// The health of a log that nobody serves: what it owes, and to whom.
pub(crate) fn status(directory: &Path) -> Result<v1::GetStatusResponse, Failure> {
    let log = open(directory)?;
    let mut participants: BTreeMap<String, v1::ParticipantStatus> = BTreeMap::new();
    let decided = log.owed.iter().filter_map(|owed| owed.decided.as_ref().or(owed.delegated.as_ref()));
    for branch in decided.flat_map(|decided| &decided.branches) {
        let name = branch.participant.to_string();
        let empty = v1::ParticipantStatus { participant: name.clone(), ..Default::default() };
        participants.entry(name).or_insert(empty).in_doubt += 1;
    }
    let heuristics = log.history.heuristics().map_err(|error| unreadable(&error))?;
    let alarms = heuristics.iter().map(|heuristic| v1::Alarm {
        code: HEURISTIC.to_owned(),
        gtid: heuristic.gid.gtid.to_string(),
        participant: heuristic.participant.to_string(),
        detail: heuristic.to_string(),
    });
    let newest = log.lives.last().map(|known| known.begun.life);
    Ok(v1::GetStatusResponse {
        coordinator_id: log.identity.coordinator_id.to_string(),
        epoch: newest.map_or(0, |life| life.epoch.0),
        incarnation: newest.map(|life| life.incarnation.to_string()).unwrap_or_default(),
        log_position: log.position,
        log_state: STOPPED.to_owned(),
        participants: participants.into_values().collect(),
        undelivered: log.owed.len() as u64,
        alarms: alarms.collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        retention_reach_ms: log.history.reach_ms(),
        ..Default::default()
    })
}

/// The transactions of a log, newest first.
pub(crate) fn list(
    directory: &Path,
    request: &v1::ListTransactionsRequest,
) -> Result<v1::ListTransactionsResponse, Failure> {
    let log = open(directory)?;
    listed(&*log.history, request).map_err(|error| unreadable(&error))
}

fn listed(
    history: &dyn History,
    request: &v1::ListTransactionsRequest,
) -> Result<v1::ListTransactionsResponse, HistoryError> {
    let limit = request.limit as usize;
    let keep = |summary: &v1::TransactionSummary| {
        (request.state.is_empty() || summary.state == request.state)
            && (request.participant.is_empty() || summary.participants.contains(&request.participant))
    };
    let mut transactions = Vec::new();
    let (mut looked_at, mut page) = (0, PAGE.min(limit));
    while transactions.len() < limit {
        // The newest are read again in each round; each round takes twice as many.
        let newest = history.newest(page)?;
        for gtid in newest.iter().skip(looked_at) {
            let summary = recorded_summary(gtid, &history.transaction(gtid)?);
            if transactions.len() < limit && keep(&summary) {
                transactions.push(summary);
            }
        }
        if newest.len() < page {
            break;
        }
        looked_at = newest.len();
        page = page.saturating_mul(2);
    }
    Ok(v1::ListTransactionsResponse { transactions })
}

/// One transaction of a log.
pub(crate) fn show(directory: &Path, gtid: &Gtid) -> Result<v1::ShowTransactionResponse, Failure> {
    let log = open(directory)?;
    let owner = &log.identity.coordinator_id;
    if gtid.coordinator_id != *owner {
        return Err(Failure::broken(
            "VOTUM-1204",
            format!("{gtid} was never begun here: this is the log of coordinator {owner}"),
        ));
    }
    let history = log.history.transaction(gtid).map_err(|error| unreadable(&error))?;
    let (outcome, next) = match recorded(&history) {
        Some(outcome) => {
            let next = after_start(next_sentence(&outcome, &history));
            (outcome, next)
        }
        None => undecided(&log, gtid, &history)?,
    };
    Ok(v1::ShowTransactionResponse {
        summary: Some(recorded_summary(gtid, &history)),
        outcome: Some(wire_outcome(outcome)),
        branches: recorded_branches(&history),
        records: history.records.iter().map(log_record).collect(),
        next,
    })
}

/// Nothing happens while the coordinator is stopped.
fn after_start(next: String) -> String {
    if next.starts_with("nothing") { next } else { format!("when the coordinator is started: {next}") }
}

/// What the absence of a decision in this directory says.
fn undecided(
    log: &OfflineLog,
    gtid: &Gtid,
    history: &TransactionHistory,
) -> Result<(Outcome, String), Failure> {
    let elsewhere = "ask the coordinator, or look into a newer copy of its log".to_owned();
    let unknown = |why: String, next: String| Ok((Outcome::Unknown(why), next));
    let Some(life) = log.lives.iter().find(|known| known.begun.life == gtid.life) else {
        return unknown(format!("this log has no epoch {}", gtid.life), elsewhere);
    };
    if gtid.seq == 0 || gtid.seq > life.leased_until {
        return unknown("it lies beyond what this log leased in its epoch".into(), elsewhere);
    }
    if history.delegated.is_some() {
        let next = "when the coordinator is started: it asks how the branch ended".into();
        return unknown(
            "the decision was left to its one branch, and the answer is not recorded".into(),
            next,
        );
    }
    let horizon = log.history.horizon().map_err(|error| unreadable(&error))?;
    if horizon.is_some_and(|horizon| *gtid <= horizon) {
        let next = next_sentence(&Outcome::Expired, history);
        return Ok((Outcome::Expired, next));
    }
    unknown(
        "this log holds no decision of it. If this is the coordinator's newest log, that means abort \
         (presumed abort)"
            .into(),
        "when the coordinator is started on this log: what is still prepared is rolled back".into(),
    )
}
