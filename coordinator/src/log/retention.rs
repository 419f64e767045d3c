//! Retention: which records may go, and how they go.
//!
//! A transaction's records are dropped together, when it has ended, its retention is over, and every
//! participant that it names has since given a complete listing, so that nothing of it can be prepared any
//! more. Marks and horizon are on disk before anything goes: a reader who finds nothing there knows why.
//!
//! At or below a participant's mark the absence of a commit proves nothing (R10). So what would raise a mark
//! waits while anything older may be prepared there without a decision: once the mark has passed that, only a
//! person could say how it ends. The bound on bytes goes first: beyond it nothing waits for that.

use std::collections::BTreeMap;

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{Gtid, Life, ParticipantName};

use super::archive::Archive;
use super::history::Reader;
use super::store::{Store, StoreError, key, open_record, u64_be};
use super::{LogPosition, TransactionHistory, codec};
use crate::crash::{self, CrashPoint};
use crate::protocol::record::{Decision, Record};

/// What a slice of retention goes by. Times are running times in milliseconds.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    /// Now.
    pub(super) now_ms: u64,
    /// How long an ended transaction is remembered.
    pub(super) retention_ms: u64,
    /// How many bytes are remembered; beyond, age does not protect.
    pub(super) retention_bytes: u64,
    /// The life that goes on: its transactions may still be alive without a decision.
    pub(super) life: Life,
    /// Each participant's last complete listing.
    pub(super) listed: &'a BTreeMap<ParticipantName, Listed>,
    /// How many records are looked at.
    pub(super) slice: usize,
}

/// A participant's complete listing, as far as retention goes.
#[derive(Debug)]
pub(super) struct Listed {
    /// When it came, in milliseconds of running time.
    pub(super) at_ms: u64,
    /// The oldest transaction that may be, or may yet come to be, prepared there without a decision.
    pub(super) unsettled: Option<Gtid>,
}

/// A transaction that may go.
struct Dropping {
    history: TransactionHistory,
    ended_ms: u64,
}

/// What may go.
#[derive(Default)]
struct Found {
    transactions: BTreeMap<Gtid, Dropping>,
    /// Positions of records that are about no transaction.
    alone: Vec<LogPosition>,
}

/// How many records are read at once.
const PAGE: usize = 64;

impl<S: Store> Archive<S> {
    /// Looks at some records, oldest first, and drops what may go.
    ///
    /// # Errors
    /// As the store has it.
    pub(super) fn retain(&mut self, terms: &Terms<'_>) -> Result<(), StoreError> {
        let mut found = Found::default();
        let reader = self.reader();
        let (_, to) = key::table(key::RECORDS);
        let mut looked = 0;
        while looked < terms.slice {
            let page = self.store.scan(&key::record(self.cursor), &to, PAGE)?;
            for (key, value) in &page {
                let position = u64_be(key, 1)
                    .ok_or_else(|| StoreError("the key of a record is not of its form".into()))?;
                if !self.look(position, value, &reader, terms, &mut found)? {
                    looked = usize::MAX;
                    break;
                }
                self.cursor = position.saturating_add(1);
            }
            if page.len() < PAGE || looked == usize::MAX {
                // The end of this pass: the next one begins with the oldest again.
                self.cursor = 0;
                break;
            }
            looked += PAGE;
        }
        self.drop_all(&found)
    }

    /// Judges one record; false when it, and so everything behind it, is too young to look at.
    fn look(
        &self,
        position: LogPosition,
        value: &[u8],
        reader: &Reader<S>,
        terms: &Terms<'_>,
        found: &mut Found,
    ) -> Result<bool, StoreError> {
        let (running_ms, bytes) = open_record(position, value)
            .ok_or_else(|| StoreError(format!("the record at position {position} is damaged")))?;
        if !self.is_over(running_ms, terms) {
            return Ok(false);
        }
        let record = codec::decode(bytes)
            .map_err(|error| StoreError(format!("the record at position {position}: {error}")))?;
        match record.gtid() {
            Some(gtid) if found.transactions.contains_key(gtid) => {}
            Some(gtid) => {
                if let Some(dropping) = self.droppable(reader, gtid, terms)? {
                    found.transactions.insert(gtid.clone(), dropping);
                }
            }
            None if !self.is_kept(position, &record)? => found.alone.push(position),
            None => {}
        }
        Ok(true)
    }

    /// Whether a record that is about no transaction is kept for ever. Lives and leases have entries of their
    /// own. Identity says whose store it is; what a person wrote off explains why absence proves nothing; and
    /// the newest word of a person who has compared a participant keeps an alarm from coming back.
    fn is_kept(&self, position: LogPosition, record: &Record) -> Result<bool, StoreError> {
        match record {
            Record::Identity(_) | Record::WrittenOff(_) => Ok(true),
            Record::Compared(compared) => {
                let newest = self.store.get(&key::compared(&compared.participant))?;
                Ok(newest.as_deref() == Some(position.to_be_bytes().as_slice()))
            }
            Record::Epoch(_)
            | Record::Lease { .. }
            | Record::Begun(_)
            | Record::Decided(_)
            | Record::Delegated(_)
            | Record::Ended { .. }
            | Record::Heuristic(_)
            | Record::Resolved(_)
            | Record::Carried(_)
            | Record::Acknowledged(_) => Ok(false),
        }
    }

    /// Whether what was written, or ended, at `at_ms` is no longer protected by its age.
    fn is_over(&self, at_ms: u64, terms: &Terms<'_>) -> bool {
        sings(Canary::DeleteBeforeRetention)
            || self.is_crowded(terms)
            || at_ms.saturating_add(terms.retention_ms) <= terms.now_ms
    }

    fn is_crowded(&self, terms: &Terms<'_>) -> bool {
        self.bytes > terms.retention_bytes
    }

    fn droppable(
        &self,
        reader: &Reader<S>,
        gtid: &Gtid,
        terms: &Terms<'_>,
    ) -> Result<Option<Dropping>, StoreError> {
        let history = reader.load(gtid)?;
        let Some(ended_ms) = ended_at(&history, gtid.life == terms.life, terms) else { return Ok(None) };
        let passes_nothing = |listed: &Listed| {
            let oldest = listed.unsettled.as_ref().filter(|_| !sings(Canary::MarksPassTheUnsettled));
            !marks(&history) || self.is_crowded(terms) || oldest.is_none_or(|oldest| gtid < oldest)
        };
        let listed = participants(&history).all(|participant| {
            let listed = terms.listed.get(participant);
            listed.is_some_and(|listed| listed.at_ms > ended_ms && passes_nothing(listed))
        });
        let dealt_with = history.unacknowledged().next().is_none() || sings(Canary::ForgetHeuristic);
        let may_go = self.is_over(ended_ms, terms) && listed && dealt_with;
        Ok(may_go.then_some(Dropping { history, ended_ms }))
    }

    /// Marks and gaps first, on disk; then everything that leads to the records; then the records.
    fn drop_all(&mut self, found: &Found) -> Result<(), StoreError> {
        if found.transactions.is_empty() && found.alone.is_empty() {
            return Ok(());
        }
        if !sings(Canary::DeleteBeforeRetention) {
            self.raise_marks(found)?;
        }
        for transaction in found.transactions.values() {
            for (position, _, _) in &transaction.history.records {
                self.add_gap(*position)?;
            }
        }
        for position in &found.alone {
            self.add_gap(*position)?;
        }
        self.store.make_durable()?;
        crash::here(CrashPoint::RetentionMarked);
        for transaction in found.transactions.values() {
            for (position, _, record) in &transaction.history.records {
                self.forget(*position, record)?;
                crash::here(CrashPoint::RetentionDropping);
            }
        }
        for position in &found.alone {
            self.remove_record(*position)?;
        }
        crash::here(CrashPoint::RetentionDropped);
        Ok(())
    }

    fn raise_marks(&self, found: &Found) -> Result<(), StoreError> {
        for (gtid, transaction) in &found.transactions {
            let gtid = key::gtid(gtid);
            let marking = Some(&transaction.history).filter(|history| marks(history));
            for participant in marking.into_iter().flat_map(participants) {
                self.raise(&key::mark(participant), &gtid)?;
            }
            self.raise(key::HORIZON, &gtid)?;
        }
        if let Some(until) = found.transactions.values().map(|transaction| transaction.ended_ms).max() {
            self.raise(key::DROPPED_UNTIL, &until.to_be_bytes())?;
            let raised = self.store.get(key::DROPPED_UNTIL)?.and_then(|value| u64_be(&value, 0));
            self.set_dropped_until(raised.unwrap_or(until));
        }
        Ok(())
    }

    /// Sets `key` to `value` unless it stands higher.
    fn raise(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match self.store.get(key)? {
            Some(stands) if stands.as_slice() >= value => Ok(()),
            Some(_) | None => self.store.put(key, value),
        }
    }

    /// Takes away what leads to a record, then the record.
    fn forget(&mut self, position: LogPosition, record: &Record) -> Result<(), StoreError> {
        if let Some(gtid) = record.gtid() {
            self.store.remove(&key::of_transaction(key::TRANSACTIONS, gtid, position))?;
            self.store.remove(&key::of_transaction(key::HEURISTICS, gtid, position))?;
        }
        if let Record::Decided(decided) = record
            && let Some(named) = &decided.key
        {
            // The key may have been used again since.
            let key = key::idempotency(&named.client, &named.key);
            if self.store.get(&key)?.as_deref() == Some(position.to_be_bytes().as_slice()) {
                self.store.remove(&key)?;
            }
        }
        self.remove_record(position)
    }

    fn remove_record(&mut self, position: LogPosition) -> Result<(), StoreError> {
        if let Some(value) = self.store.get(&key::record(position))? {
            self.store.remove(&key::record(position))?;
            self.bytes = self.bytes.saturating_sub(value.len() as u64);
        }
        Ok(())
    }

    /// A crash came between a gap and the record that it stands for.
    pub(super) fn finish_drop(&mut self, position: LogPosition, value: &[u8]) -> Result<(), StoreError> {
        let record = open_record(position, value).and_then(|(_, bytes)| codec::decode(bytes).ok());
        // `forget` takes the bytes off, which were not added for a record in a gap.
        self.bytes += value.len() as u64;
        match record {
            Some(record) => self.forget(position, &record),
            None => Err(StoreError(format!("the record at position {position} is not what was written"))),
        }
    }
}

/// When a transaction ended, as far as retention goes; `None` while it has not.
fn ended_at(history: &TransactionHistory, lives: bool, terms: &Terms<'_>) -> Option<u64> {
    let of = |wanted: fn(&Record) -> bool| {
        history.records.iter().filter(|(_, _, record)| wanted(record)).map(|(_, ms, _)| *ms).max()
    };
    if history.ended {
        return of(|record| matches!(record, Record::Ended { .. }));
    }
    match (&history.decided, &history.delegated) {
        (Some(decided), _) => match decided.decision {
            Decision::Commit => None,
            Decision::Abort(_) => of(|record| matches!(record, Record::Decided(_))),
        },
        (None, Some(_)) => None,
        (None, None) => {
            let written = of(|_| true)?;
            let may_be_alive = lives && written.saturating_add(terms.retention_ms) > terms.now_ms;
            (!may_be_alive).then_some(written)
        }
    }
}

/// Whether its going raises marks: what was aborted by the protocol alone is rolled back by its absence too.
fn marks(history: &TransactionHistory) -> bool {
    let decided = history.decided.as_ref().map(|decided| &decided.decision);
    !matches!(decided, Some(Decision::Abort(_)))
        || !history.heuristics.is_empty()
        || !history.resolved.is_empty()
}

/// Everyone whom a transaction's records name.
fn participants(history: &TransactionHistory) -> impl Iterator<Item = &ParticipantName> {
    let decided = history.decided.iter().chain(history.delegated.iter());
    decided
        .flat_map(|decided| decided.branches.iter().map(|branch| &branch.participant))
        .chain(history.heuristics.iter().map(|heuristic| &heuristic.participant))
        .chain(history.resolved.iter().map(|resolved| &resolved.participant))
}
