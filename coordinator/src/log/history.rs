//! Reading the history, from any thread, while the writer goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use votum_proto::names::{CoordinatorId, Gtid, ParticipantName};

use super::archive::{Archive, Times};
use super::codec;
use super::store::{Store, StoreError, gtid_of, key, open_record, u64_be};
use super::{ComparedAt, History, HistoryError, LogPosition, TransactionHistory, VerifiedOn};
use crate::protocol::record::{Decision, Heuristic, KeyRecord, Record};

/// A reading end of the history.
pub struct Reader<S> {
    store: Arc<S>,
    coordinator_id: CoordinatorId,
    times: Arc<Times>,
}

impl<S: Store> Archive<S> {
    /// A reading end.
    pub fn reader(&self) -> Reader<S> {
        Reader {
            store: Arc::clone(&self.store),
            coordinator_id: self.coordinator_id.clone(),
            times: Arc::clone(&self.times),
        }
    }
}

impl<S: Store> Reader<S> {
    /// A reading end of a store that nobody writes to.
    pub fn of(store: Arc<S>, coordinator_id: CoordinatorId) -> Self {
        // Nothing is on its way there.
        let times = Times {
            through: AtomicU64::new(LogPosition::MAX),
            running: AtomicU64::new(0),
            dropped_until: AtomicU64::new(0),
        };
        Self { store, coordinator_id, times: Arc::new(times) }
    }

    /// The record at `position`, with its running time; `None` when it is not there.
    pub(super) fn record(&self, position: LogPosition) -> Result<Option<(u64, Record)>, StoreError> {
        let Some(value) = self.store.get(&key::record(position))? else { return Ok(None) };
        let (running_ms, bytes) = open_record(position, &value).ok_or_else(|| {
            StoreError(format!("the record at position {position} is not what was written"))
        })?;
        let record = codec::decode(bytes)
            .map_err(|error| StoreError(format!("the record at position {position}: {error}")))?;
        Ok(Some((running_ms, record)))
    }

    pub(super) fn positions(&self, gtid: &Gtid) -> Result<Vec<LogPosition>, StoreError> {
        let (from, to) = key::all_of_transaction(key::TRANSACTIONS, gtid);
        let pairs = self.store.scan(&from, &to, usize::MAX)?;
        Ok(pairs.iter().filter_map(|(key, _)| u64_be(key, 21)).collect())
    }

    pub(super) fn load(&self, gtid: &Gtid) -> Result<TransactionHistory, StoreError> {
        let mut history = TransactionHistory::default();
        for position in self.positions(gtid)? {
            if let Some((running_ms, record)) = self.led_to(gtid, position)? {
                history.add(position, running_ms, record);
            }
        }
        Ok(history)
    }

    /// The record that the entry of `gtid` leads to; `None` when the writer is just putting it there, and so
    /// has not reported it durable, or is just taking it away.
    fn led_to(&self, gtid: &Gtid, position: LogPosition) -> Result<Option<(u64, Record)>, StoreError> {
        let found = self.record(position)?;
        if found.is_some() || position > self.times.through.load(Ordering::Acquire) {
            return Ok(found);
        }
        // The writer may have ended in between.
        if let Some(found) = self.record(position)? {
            return Ok(Some(found));
        }
        // It takes the way to a record away before the record. If the way is still there, the record is lost.
        match self.store.get(&key::of_transaction(key::TRANSACTIONS, gtid, position))? {
            None => Ok(None),
            Some(_) => Err(StoreError(format!("the record at position {position}, of {gtid}, is not there"))),
        }
    }

    fn key_bearer(&self, client: &str, key: &str) -> Result<Option<(Gtid, KeyRecord)>, StoreError> {
        let Some(value) = self.store.get(&key::idempotency(client, key))? else { return Ok(None) };
        let position = u64_be(&value, 0)
            .ok_or_else(|| StoreError(format!("the entry of key {key:?} is not of its form")))?;
        match self.record(position)? {
            Some((_, Record::Decided(decided))) if decided.decision == Decision::Commit => {
                Ok(decided.key.map(|key| (decided.gtid, key)))
            }
            // Retention took the record just now.
            None => Ok(None),
            Some(_) => Err(StoreError(format!("position {position}, of key {key:?}, holds no such commit"))),
        }
    }

    fn newest_gtids(&self, before: Option<&Gtid>, limit: usize) -> Result<Vec<Gtid>, StoreError> {
        let (from, mut to) = key::table(key::TRANSACTIONS);
        if let Some(before) = before {
            (to, _) = key::all_of_transaction(key::TRANSACTIONS, before);
        }
        let mut newest: Vec<Gtid> = Vec::new();
        while newest.len() < limit {
            let pairs = self.store.scan_back(&from, &to, 4 * limit.min(1024))?;
            let Some((last, _)) = pairs.last() else { break };
            to.clone_from(last);
            for (key, _) in &pairs {
                if let Some(gtid) = key.get(1..).and_then(|bytes| gtid_of(&self.coordinator_id, bytes))
                    && newest.last() != Some(&gtid)
                    && newest.len() < limit
                {
                    newest.push(gtid);
                }
            }
        }
        Ok(newest)
    }

    fn gtid_at(&self, key: &[u8]) -> Result<Option<Gtid>, StoreError> {
        let Some(value) = self.store.get(key)? else { return Ok(None) };
        match gtid_of(&self.coordinator_id, &value) {
            Some(gtid) => Ok(Some(gtid)),
            None => Err(StoreError("a mark or the horizon is not of its form".into())),
        }
    }

    fn open_heuristics(&self) -> Result<Vec<Heuristic>, StoreError> {
        let (from, to) = key::table(key::HEURISTICS);
        let mut open = Vec::new();
        let mut last: Option<Gtid> = None;
        for (key, _) in self.store.scan(&from, &to, usize::MAX)? {
            let gtid = key.get(1..).and_then(|bytes| gtid_of(&self.coordinator_id, bytes));
            if gtid.is_some() && gtid != last {
                if let Some(gtid) = &gtid {
                    open.extend(self.load(gtid)?.unacknowledged().cloned());
                }
                last = gtid;
            }
        }
        Ok(open)
    }
}

impl<S: Store> History for Reader<S> {
    fn transaction(&self, gtid: &Gtid) -> Result<TransactionHistory, HistoryError> {
        Ok(self.load(gtid)?)
    }

    fn by_key(&self, client: &str, key: &str) -> Result<Option<(Gtid, KeyRecord)>, HistoryError> {
        Ok(self.key_bearer(client, key)?)
    }

    fn newest(&self, limit: usize) -> Result<Vec<Gtid>, HistoryError> {
        Ok(self.newest_gtids(None, limit)?)
    }

    fn newest_before(&self, before: Option<&Gtid>, limit: usize) -> Result<Vec<Gtid>, HistoryError> {
        Ok(self.newest_gtids(before, limit)?)
    }

    fn oldest(&self) -> Result<Option<Gtid>, HistoryError> {
        let (from, to) = key::table(key::TRANSACTIONS);
        let first = self.store.scan(&from, &to, 1)?;
        let gtid = |key: &[u8]| key.get(1..).and_then(|bytes| gtid_of(&self.coordinator_id, bytes));
        Ok(first.first().and_then(|(key, _)| gtid(key)))
    }

    fn verified(&self, participant: &ParticipantName) -> Result<Option<VerifiedOn>, HistoryError> {
        let Some(value) = self.store.get(&key::verified(participant))? else { return Ok(None) };
        let read = || {
            let number = |place: usize| u64_be(&value, 8 * place);
            let timeline = u32::try_from(number(1)?).ok()?;
            // What had ended by then is forgotten: nobody asks after it any more.
            let over = self.times.dropped_until.load(Ordering::Relaxed) >= number(3)?;
            let unproven = if over { 0 } else { number(2)? };
            Some(VerifiedOn { system_identifier: number(0)?, timeline, unproven })
        };
        read().map(Some).ok_or_else(|| HistoryError("what was verified is not of its form".into()))
    }

    fn compared(&self, participant: &ParticipantName) -> Result<Option<ComparedAt>, HistoryError> {
        let Some(value) = self.store.get(&key::compared(participant))? else { return Ok(None) };
        let position = u64_be(&value, 0)
            .ok_or_else(|| HistoryError(format!("what was compared of {participant} is not of its form")))?;
        match self.record(position)? {
            Some((running_ms, Record::Compared(compared))) => {
                Ok(Some(ComparedAt { position, running_ms, compared }))
            }
            Some(_) | None => {
                Err(HistoryError(format!("position {position} does not say who has compared {participant}")))
            }
        }
    }

    fn mark(&self, participant: &ParticipantName) -> Result<Option<Gtid>, HistoryError> {
        Ok(self.gtid_at(&key::mark(participant))?)
    }

    fn horizon(&self) -> Result<Option<Gtid>, HistoryError> {
        Ok(self.gtid_at(key::HORIZON)?)
    }

    fn heuristics(&self) -> Result<Vec<Heuristic>, HistoryError> {
        Ok(self.open_heuristics()?)
    }

    fn reach_ms(&self) -> u64 {
        let dropped_until = self.times.dropped_until.load(Ordering::Relaxed);
        self.times.running.load(Ordering::Relaxed).saturating_sub(dropped_until)
    }
}

impl From<StoreError> for HistoryError {
    fn from(error: StoreError) -> Self {
        Self(error.0)
    }
}
