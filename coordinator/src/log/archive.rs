//! The history that outlives the journal, kept in the store: every position is there as a record or lies in
//! a gap, so that a store which lost something in silence can be told from one that did not.
//!
//! Order of writing: what leads to a record before the record; a gap before what it stands for goes. A crash
//! between two writes then leaves a position that is missing (and filled from the journal) or a record that
//! lies in a gap (and is removed at the next start), never a hole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use votum_proto::names::{CoordinatorId, Gtid, Life, ParticipantName};

use super::image::known_lives;
use super::store::{Store, StoreError, key, life_of, record_value, u64_be};
use super::{KnownLife, LogPosition, VerifiedOn};
use crate::protocol::record::{Decision, EpochBegun, Record};

/// The writing end of the history.
pub struct Archive<S> {
    pub(super) store: Arc<S>,
    pub(super) coordinator_id: CoordinatorId,
    /// First and last position of every run that holds nothing any more.
    pub(super) gaps: BTreeMap<LogPosition, LogPosition>,
    /// The bytes of all records.
    pub(super) bytes: u64,
    pub(super) times: Arc<Times>,
    /// Where retention looks next.
    pub(super) cursor: LogPosition,
}

/// What readers share with the writer; times are running times in milliseconds.
#[derive(Debug)]
pub struct Times {
    /// Every position up to here is in the store, or in a gap. Beyond it the writer is at work: of what it
    /// leads to first, the record may not be there yet.
    pub through: AtomicU64,
    /// Now.
    pub running: AtomicU64,
    /// When the youngest transaction that was dropped had ended.
    pub dropped_until: AtomicU64,
}

impl<S: Store> Archive<S> {
    /// Puts one record where it belongs. Doing so again changes nothing.
    ///
    /// # Errors
    /// As the store has it.
    pub fn put(
        &mut self,
        position: LogPosition,
        running_ms: u64,
        bytes: &[u8],
        record: &Record,
    ) -> Result<(), StoreError> {
        match record {
            // What it carries is here under its own position.
            Record::Carried(_) => self.add_gap(position)?,
            Record::Identity(_) => self.put_record(position, running_ms, bytes)?,
            Record::Epoch(begun) => {
                let leased = self.life(begun.life)?.map_or(0, |(_, leased)| leased);
                self.put_life(begun.life, begun.first_position, leased)?;
                self.put_record(position, running_ms, bytes)?;
            }
            Record::Lease { life, until } => {
                if let Some((first_position, leased)) = self.life(*life)? {
                    self.put_life(*life, first_position, leased.max(*until))?;
                }
                self.put_record(position, running_ms, bytes)?;
            }
            Record::Decided(decided) => {
                if let (Decision::Commit, Some(named)) = (&decided.decision, &decided.key) {
                    let key = key::idempotency(&named.client, &named.key);
                    self.store.put(&key, &position.to_be_bytes())?;
                }
                self.put_of(&decided.gtid, position, running_ms, bytes)?;
            }
            Record::Begun(begun) => self.put_of(&begun.gtid, position, running_ms, bytes)?,
            Record::Delegated(decided) => self.put_of(&decided.gtid, position, running_ms, bytes)?,
            Record::Ended { gtid } => self.put_of(gtid, position, running_ms, bytes)?,
            Record::Heuristic(heuristic) => {
                let gtid = &heuristic.gid.gtid;
                self.store.put(&key::of_transaction(key::HEURISTICS, gtid, position), &[])?;
                self.put_of(gtid, position, running_ms, bytes)?;
            }
            Record::Resolved(resolved) => self.put_of(&resolved.gid.gtid, position, running_ms, bytes)?,
            Record::Acknowledged(acknowledged) => {
                self.put_of(&acknowledged.gid.gtid, position, running_ms, bytes)?;
            }
            Record::WrittenOff(_) => self.put_record(position, running_ms, bytes)?,
            Record::Compared(compared) => {
                self.put_record(position, running_ms, bytes)?;
                self.store.put(&key::compared(&compared.participant), &position.to_be_bytes())?;
            }
        }
        // After the record: who sees the number sees what it counts.
        self.times.through.fetch_max(position, Ordering::Release);
        Ok(())
    }

    fn put_of(
        &mut self,
        gtid: &Gtid,
        position: LogPosition,
        running_ms: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.store.put(&key::of_transaction(key::TRANSACTIONS, gtid, position), &[])?;
        self.put_record(position, running_ms, bytes)
    }

    fn put_record(&mut self, position: LogPosition, running_ms: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let value = record_value(position, running_ms, bytes);
        self.store.put(&key::record(position), &value)?;
        self.bytes += value.len() as u64;
        Ok(())
    }

    fn life(&self, life: Life) -> Result<Option<(LogPosition, u64)>, StoreError> {
        let value = self.store.get(&key::life(life))?;
        Ok(value.and_then(|value| Some((u64_be(&value, 0)?, u64_be(&value, 8)?))))
    }

    fn put_life(&self, life: Life, first_position: LogPosition, leased_until: u64) -> Result<(), StoreError> {
        let mut value = first_position.to_be_bytes().to_vec();
        value.extend_from_slice(&leased_until.to_be_bytes());
        self.store.put(&key::life(life), &value)
    }

    /// Notes that `position` holds nothing any more, joined with its neighbours.
    pub(super) fn add_gap(&mut self, position: LogPosition) -> Result<(), StoreError> {
        if self.is_gap(position) {
            return Ok(());
        }
        let before = self.gaps.range(..position).next_back().map(|(first, last)| (*first, *last));
        let first = match before {
            Some((first, last)) if last.checked_add(1) == Some(position) => first,
            Some(_) | None => position,
        };
        let after = position.checked_add(1).filter(|next| self.gaps.contains_key(next));
        let last = after.and_then(|next| self.gaps.get(&next).copied()).unwrap_or(position);
        self.store.put(&key::gap(first), &last.to_be_bytes())?;
        self.gaps.insert(first, last);
        if let Some(after) = after {
            self.store.remove(&key::gap(after))?;
            self.gaps.remove(&after);
        }
        Ok(())
    }

    /// Whether `position` holds nothing any more.
    pub(super) fn is_gap(&self, position: LogPosition) -> bool {
        self.gaps.range(..=position).next_back().is_some_and(|(_, last)| *last >= position)
    }

    /// Every life that the log has seen, oldest first; the last one reaches to `position`.
    ///
    /// # Errors
    /// As the store has it.
    pub fn lives(&self, position: LogPosition) -> Result<Vec<KnownLife>, StoreError> {
        let (from, to) = key::table(key::LIVES);
        let pairs = self.store.scan(&from, &to, usize::MAX)?;
        let seen = pairs.iter().map(|(key, value)| {
            let life = key.get(1..).and_then(life_of);
            let first_position = u64_be(value, 0);
            let leased_until = u64_be(value, 8);
            match (life, first_position, leased_until) {
                (Some(life), Some(first_position), Some(leased_until)) => {
                    Ok((EpochBegun { life, first_position }, leased_until))
                }
                (_, _, _) => Err(StoreError("the entry of a life is not of its form".into())),
            }
        });
        Ok(known_lives(seen.collect::<Result<_, _>>()?, position))
    }

    /// Notes on which timeline a participant's commits were verified, and that it was at `running_ms`.
    ///
    /// # Errors
    /// As the store has it.
    pub(super) fn verified(
        &self,
        participant: &ParticipantName,
        on: VerifiedOn,
        running_ms: u64,
    ) -> Result<(), StoreError> {
        let VerifiedOn { system_identifier, timeline, unproven } = on;
        let value = [system_identifier, timeline.into(), unproven, running_ms].map(u64::to_be_bytes).concat();
        self.store.put(&key::verified(participant), &value)
    }

    /// Everything put so far is on disk when this returns.
    ///
    /// # Errors
    /// As the store has it.
    pub fn make_durable(&self) -> Result<(), StoreError> {
        self.store.make_durable()
    }

    /// Lets go of the store's files.
    pub fn close(&self) {
        self.store.close();
    }

    /// How many bytes of records are kept.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sets what readers take as now, in milliseconds of running time.
    pub fn set_running(&self, running_ms: u64) {
        self.times.running.store(running_ms, Ordering::Relaxed);
    }
}
