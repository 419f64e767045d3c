//! A log that is in memory: what is appended waits until a test says that it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use votum_proto::names::{Gtid, ParticipantName};

use crate::log::{ComparedAt, DecisionLog, Entry, History, HistoryError, TransactionHistory, VerifiedOn};
use crate::protocol::record::{Decision, Heuristic, KeyRecord, Record};

/// A log in memory.
#[derive(Default)]
pub(super) struct MemoryLog {
    pub(super) queued: Mutex<Vec<Entry>>,
    pub(super) durable: Arc<MemoryHistory>,
    pub(super) closed: Mutex<bool>,
    /// The last word of each participant's listing.
    pub(super) listed: Mutex<BTreeMap<ParticipantName, Option<Gtid>>>,
}

impl DecisionLog for MemoryLog {
    fn append(&self, entries: Vec<Entry>) {
        self.queued.lock().unwrap().extend(entries);
    }
    fn listed(&self, participant: ParticipantName, unsettled: Option<Gtid>) {
        self.listed.lock().unwrap().insert(participant, unsettled);
    }
    fn verified(&self, participant: ParticipantName, on: VerifiedOn) {
        self.durable.verified.lock().unwrap().insert(participant, on);
    }
    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }
}

/// What a log in memory holds.
#[derive(Default)]
pub(super) struct MemoryHistory {
    pub(super) records: Mutex<Vec<Record>>,
    pub(super) mark: Mutex<Option<Gtid>>,
    pub(super) horizon: Mutex<Option<Gtid>>,
    /// It cannot be read.
    pub(super) broken: AtomicBool,
    pub(super) verified: Mutex<BTreeMap<ParticipantName, VerifiedOn>>,
    /// How far back it remembers, in milliseconds.
    pub(super) reach_ms: AtomicU64,
}

impl History for MemoryHistory {
    fn transaction(&self, gtid: &Gtid) -> Result<TransactionHistory, HistoryError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(HistoryError("damaged at 5".into()));
        }
        let mut found = TransactionHistory::default();
        for record in self.records.lock().unwrap().iter().filter(|r| r.gtid() == Some(gtid)) {
            match record {
                Record::Decided(decided) => found.decided = Some(decided.clone()),
                Record::Ended { .. } => found.ended = true,
                Record::Heuristic(heuristic) => found.heuristics.push(heuristic.clone()),
                Record::Resolved(resolved) => found.resolved.push(resolved.clone()),
                Record::Delegated(delegated) => found.delegated = Some(delegated.clone()),
                Record::Identity(_)
                | Record::Epoch(_)
                | Record::Lease { .. }
                | Record::Begun(_)
                | Record::Carried(_)
                | Record::Acknowledged(_)
                | Record::WrittenOff(_)
                | Record::Compared(_) => {}
            }
            found.records.push((0, 0, record.clone()));
        }
        Ok(found)
    }
    fn by_key(&self, client: &str, key: &str) -> Result<Option<(Gtid, KeyRecord)>, HistoryError> {
        let records = self.records.lock().unwrap();
        Ok(records.iter().find_map(|record| {
            let Record::Decided(decided) = record else { return None };
            let known = decided.key.clone().filter(|k| k.client == client && k.key == key)?;
            (decided.decision == Decision::Commit).then(|| (decided.gtid.clone(), known))
        }))
    }
    fn newest(&self, _: usize) -> Result<Vec<Gtid>, HistoryError> {
        Ok(self.records.lock().unwrap().iter().filter_map(|r| r.gtid().cloned()).collect())
    }
    fn newest_before(&self, before: Option<&Gtid>, limit: usize) -> Result<Vec<Gtid>, HistoryError> {
        let gtids: BTreeSet<Gtid> = self.newest(usize::MAX)?.into_iter().collect();
        let below = |gtid: &Gtid| before.is_none_or(|before| gtid < before);
        Ok(gtids.into_iter().rev().filter(below).take(limit).collect())
    }
    fn oldest(&self) -> Result<Option<Gtid>, HistoryError> {
        Ok(self.newest(usize::MAX)?.into_iter().min())
    }
    fn verified(&self, participant: &ParticipantName) -> Result<Option<VerifiedOn>, HistoryError> {
        Ok(self.verified.lock().unwrap().get(participant).copied())
    }
    fn compared(&self, participant: &ParticipantName) -> Result<Option<ComparedAt>, HistoryError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(HistoryError("damaged at 5".into()));
        }
        let records = self.records.lock().unwrap();
        let of_it = records.iter().rev().find_map(|record| {
            let Record::Compared(compared) = record else { return None };
            (compared.participant == *participant).then(|| compared.clone())
        });
        Ok(of_it.map(|compared| ComparedAt { position: 5, running_ms: 7, compared }))
    }
    fn mark(&self, _: &ParticipantName) -> Result<Option<Gtid>, HistoryError> {
        Ok(self.mark.lock().unwrap().clone())
    }
    fn horizon(&self) -> Result<Option<Gtid>, HistoryError> {
        Ok(self.horizon.lock().unwrap().clone())
    }
    fn heuristics(&self) -> Result<Vec<Heuristic>, HistoryError> {
        let gtids: BTreeSet<Gtid> =
            self.records.lock().unwrap().iter().filter_map(|r| r.gtid().cloned()).collect();
        let mut open = Vec::new();
        for gtid in gtids {
            open.extend(self.transaction(&gtid)?.unacknowledged().cloned());
        }
        Ok(open)
    }
    fn reach_ms(&self) -> u64 {
        self.reach_ms.load(Ordering::Relaxed)
    }
}
