//! Counting the store at the start: every position from the first on is there as a record, lies in a gap, or
//! can be filled from the journal. Until that is known, absence means nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use votum_proto::names::CoordinatorId;

use super::LogPosition;
use super::archive::{Archive, Times};
use super::codec;
use super::judge::Kept;
use super::store::{Store, StoreError, key, open_record, record_value, u64_be};
use crate::protocol::record::{Identity, Record};

/// How many pairs are read at once.
const PAGE: usize = 1024;

/// Why a store is not what the journal needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] StoreError),
    /// It lacks records, or is another log's.
    #[error("{0}")]
    Incomplete(String),
}

/// Counts `store` against the newest half of the journal, which holds `kept`, and fills its missing end.
///
/// # Errors
/// When something is missing that the journal no longer holds, or differs from what the journal holds.
pub fn count<S: Store>(store: Arc<S>, identity: &Identity, kept: &[Kept]) -> Result<Archive<S>, CountError> {
    let mut archive = open(store, identity.coordinator_id.clone())?;
    check_identity(&archive, identity)?;
    let journal: BTreeMap<LogPosition, &Kept> = kept.iter().map(|kept| (kept.position, kept)).collect();
    let missing = tally(&mut archive, &journal)?;
    for position in missing {
        let Some(kept) = journal.get(&position) else {
            let first = kept.first().map_or(0, |kept| kept.position);
            return Err(CountError::Incomplete(format!(
                "position {position} is not there, and the newest half of the journal begins with {first}"
            )));
        };
        archive.put(kept.position, kept.running_ms, &kept.bytes, &kept.record)?;
    }
    if let Some(last) = kept.last() {
        archive.times.through.store(last.position, Ordering::Release);
    }
    Ok(archive)
}

fn open<S: Store>(store: Arc<S>, coordinator_id: CoordinatorId) -> Result<Archive<S>, CountError> {
    let dropped_until = store.get(key::DROPPED_UNTIL)?.and_then(|value| u64_be(&value, 0)).unwrap_or(0);
    let times = Times {
        through: AtomicU64::new(0),
        running: AtomicU64::new(0),
        dropped_until: AtomicU64::new(dropped_until),
    };
    let mut gaps = BTreeMap::new();
    let (from, to) = key::table(key::GAPS);
    for (key, value) in store.scan(&from, &to, usize::MAX)? {
        let (Some(first), Some(last)) = (u64_be(&key, 1), u64_be(&value, 0)) else {
            return Err(StoreError("the entry of a gap is not of its form".into()).into());
        };
        // A crash may have left the part that was joined beside the whole.
        match gaps.last_entry() {
            Some(before) if *before.get() >= last => store.remove(&key)?,
            Some(_) | None => {
                gaps.insert(first, last);
            }
        }
    }
    let times = Arc::new(times);
    Ok(Archive { store, coordinator_id, gaps, bytes: 0, times, cursor: 0 })
}

/// The first record says whose store it is. It may be missing only from a store that has nothing yet.
fn check_identity<S: Store>(archive: &Archive<S>, identity: &Identity) -> Result<(), CountError> {
    match archive.reader().record(1)? {
        None => Ok(()),
        Some((_, Record::Identity(found))) if found == *identity => Ok(()),
        Some((_, Record::Identity(found))) => Err(CountError::Incomplete(format!(
            "the store is of another log of coordinator {}, not of this journal's",
            found.coordinator_id
        ))),
        Some((_, other)) => {
            Err(CountError::Incomplete(format!("position 1 holds {} and not Identity", other.kind())))
        }
    }
}

/// Walks all records: adds up their bytes, compares them with the journal's, and tells what is missing.
fn tally<S: Store>(
    archive: &mut Archive<S>,
    journal: &BTreeMap<LogPosition, &Kept>,
) -> Result<Vec<LogPosition>, CountError> {
    let end = journal.keys().next_back().copied().unwrap_or(0);
    let mut missing = Vec::new();
    let mut expected: LogPosition = 1;
    let (mut from, to) = key::table(key::RECORDS);
    loop {
        let page = archive.store.scan(&from, &to, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        from.clone_from(last);
        from.push(0);
        for (key, value) in &page {
            let position =
                u64_be(key, 1).ok_or_else(|| StoreError("the key of a record is not of its form".into()))?;
            note_missing(archive, expected, position, &mut missing)?;
            expected = position.saturating_add(1);
            if archive.is_gap(position) {
                archive.finish_drop(position, value)?;
            } else {
                archive.bytes += value.len() as u64;
                check(position, value, journal.get(&position).copied())?;
            }
        }
    }
    let gaps_end = archive.gaps.last_key_value().map_or(0, |(_, last)| *last);
    let through = gaps_end.max(expected.saturating_sub(1));
    if through > end {
        return Err(CountError::Incomplete(format!(
            "it holds position {through}, and the journal ends with {end}: the journal lost what was forced"
        )));
    }
    archive.times.through.store(through, Ordering::Release);
    note_missing(archive, expected, end.saturating_add(1), &mut missing)?;
    Ok(missing)
}

/// The positions from `from` up to but without `to` that lie in no gap. A hole that is larger than any half
/// of a journal is not listed further.
fn note_missing<S>(
    archive: &Archive<S>,
    from: LogPosition,
    to: LogPosition,
    missing: &mut Vec<LogPosition>,
) -> Result<(), CountError> {
    const TOO_MANY: usize = 64 << 20;
    let mut at = from;
    while at < to {
        match archive.gaps.range(..=at).next_back() {
            Some((_, last)) if *last >= at => at = last.saturating_add(1),
            Some(_) | None => {
                missing.push(at);
                at += 1;
            }
        }
        if missing.len() > TOO_MANY {
            return Err(CountError::Incomplete(format!(
                "everything from position {from} to {to} is missing"
            )));
        }
    }
    Ok(())
}

/// What the store holds is what was written, and what the journal holds at that position.
fn check(position: LogPosition, value: &[u8], journal: Option<&Kept>) -> Result<(), CountError> {
    let Some((_, bytes)) = open_record(position, value) else {
        return Err(StoreError(format!("the record at position {position} is not what was written")).into());
    };
    match journal {
        None => Ok(()),
        Some(kept) if record_value(position, kept.running_ms, &kept.bytes) == value => Ok(()),
        Some(_) => {
            let holds = codec::decode(bytes).map_or("something unreadable", |record| record.kind());
            Err(CountError::Incomplete(format!(
                "position {position} holds {holds}, and the journal something else: they are not of one log"
            )))
        }
    }
}

impl<S> Archive<S> {
    /// The times that readers share.
    pub(super) fn set_dropped_until(&self, ms: u64) {
        self.times.dropped_until.store(ms, Ordering::Relaxed);
    }
}
