//! The store, as the discipline sees it: ordered bytes by key, durable when asked. And the keys in it.

use votum_proto::names::{CoordinatorId, Epoch, Gtid, Incarnation, Life, ParticipantName};

use super::LogPosition;

/// The store refused an operation, or what it holds cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Ordered bytes by key. Writes are seen by later reads at once, and are on disk after
/// [`Store::make_durable`]. Values stay under 4.2 KiB.
pub trait Store: Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Sets the value of `key`.
    ///
    /// # Errors
    /// When it cannot be written; the store is then in doubt.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;
    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// When it cannot be written; the store is then in doubt.
    fn remove(&self, key: &[u8]) -> Result<(), StoreError>;
    /// At most `limit` pairs with `from <= key < to`, in ascending order.
    ///
    /// # Errors
    /// When they cannot be read.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;
    /// The same, in descending order from `to` down.
    ///
    /// # Errors
    /// When they cannot be read.
    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;
    /// Everything written before is on disk when this returns.
    ///
    /// # Errors
    /// When the disk refuses; the store is then in doubt.
    fn make_durable(&self) -> Result<(), StoreError>;
    /// Writes out what it can and lets go of its files. Later operations fail.
    fn close(&self);
}

/// Keys: one letter for the table, then big-endian numbers, so that the order of bytes is theirs.
pub(super) mod key {
    use super::{Gtid, Life, LogPosition, ParticipantName};

    /// `R` position: checksum, running time, record.
    pub(in crate::log) const RECORDS: u8 = b'R';
    /// `T` gtid position: nothing.
    pub(in crate::log) const TRANSACTIONS: u8 = b'T';
    /// `K` client key: the position of the commit that bears it.
    pub(in crate::log) const KEYS: u8 = b'K';
    /// `L` life: first position, leased until. Kept for ever.
    pub(in crate::log) const LIVES: u8 = b'L';
    /// `M` participant: the highest gtid dropped that named it, aborts aside.
    pub(in crate::log) const MARKS: u8 = b'M';
    /// `G` first position of a run that holds nothing any more: its last position.
    pub(in crate::log) const GAPS: u8 = b'G';
    /// `U` gtid position of a heuristic: nothing.
    pub(in crate::log) const HEURISTICS: u8 = b'U';
    /// `V` participant: system identifier and timeline on which its commits were verified, how many could not
    /// be proven, and the running time of that.
    pub(in crate::log) const VERIFIED: u8 = b'V';
    /// `C` participant: the position of the newest word of a person who has compared it after a change of
    /// timeline. That record is kept.
    pub(in crate::log) const COMPARED: u8 = b'C';
    /// `H`: the highest gtid dropped at all.
    pub(in crate::log) const HORIZON: &[u8] = b"H";
    /// `D`: the running time at which the youngest transaction that was dropped had ended.
    pub(in crate::log) const DROPPED_UNTIL: &[u8] = b"D";

    pub(in crate::log) fn record(position: LogPosition) -> Vec<u8> {
        number(RECORDS, position)
    }

    pub(in crate::log) fn gap(first: LogPosition) -> Vec<u8> {
        number(GAPS, first)
    }

    fn number(table: u8, number: u64) -> Vec<u8> {
        let mut key = vec![table];
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    pub(in crate::log) fn life(life: Life) -> Vec<u8> {
        let mut key = vec![LIVES];
        key.extend_from_slice(&life_bytes(life));
        key
    }

    fn life_bytes(life: Life) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (epoch, incarnation) = bytes.split_at_mut(8);
        epoch.copy_from_slice(&life.epoch.0.to_be_bytes());
        incarnation.copy_from_slice(&life.incarnation.get().to_be_bytes());
        bytes
    }

    /// A gtid without its coordinator, which is the same for the whole log.
    pub(in crate::log) fn gtid(gtid: &Gtid) -> Vec<u8> {
        let mut bytes = life_bytes(gtid.life).to_vec();
        bytes.extend_from_slice(&gtid.seq.to_be_bytes());
        bytes
    }

    pub(in crate::log) fn of_transaction(table: u8, of: &Gtid, position: LogPosition) -> Vec<u8> {
        let mut key = vec![table];
        key.extend(gtid(of));
        key.extend_from_slice(&position.to_be_bytes());
        key
    }

    /// The bounds of all keys of one transaction in `table`.
    pub(in crate::log) fn all_of_transaction(table: u8, of: &Gtid) -> (Vec<u8>, Vec<u8>) {
        let mut from = vec![table];
        from.extend(gtid(of));
        let mut to = from.clone();
        to.extend_from_slice(&[0xff; 9]);
        (from, to)
    }

    pub(in crate::log) fn idempotency(client: &str, key: &str) -> Vec<u8> {
        let mut bytes = vec![KEYS];
        bytes.extend_from_slice(&(client.len() as u64).to_be_bytes());
        bytes.extend_from_slice(client.as_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes
    }

    pub(in crate::log) fn mark(participant: &ParticipantName) -> Vec<u8> {
        of_participant(MARKS, participant)
    }

    pub(in crate::log) fn verified(participant: &ParticipantName) -> Vec<u8> {
        of_participant(VERIFIED, participant)
    }

    pub(in crate::log) fn compared(participant: &ParticipantName) -> Vec<u8> {
        of_participant(COMPARED, participant)
    }

    fn of_participant(table: u8, participant: &ParticipantName) -> Vec<u8> {
        let mut key = vec![table];
        key.extend_from_slice(participant.as_str().as_bytes());
        key
    }

    /// The bounds of a whole table.
    pub(in crate::log) fn table(table: u8) -> (Vec<u8>, Vec<u8>) {
        (vec![table], vec![table + 1])
    }
}

/// A gtid from its bytes in a key.
pub(super) fn gtid_of(coordinator_id: &CoordinatorId, bytes: &[u8]) -> Option<Gtid> {
    Some(Gtid { coordinator_id: coordinator_id.clone(), life: life_of(bytes)?, seq: u64_be(bytes, 12)? })
}

/// A life from its bytes in a key.
pub(super) fn life_of(bytes: &[u8]) -> Option<Life> {
    let incarnation = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    Some(Life { epoch: Epoch(u64_be(bytes, 0)?), incarnation: Incarnation::from_low_bits(incarnation) })
}

/// A number from its bytes in a key or value.
pub(super) fn u64_be(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The value of a record: a checksum over position, running time and record; the running time; the record.
pub(super) fn record_value(position: LogPosition, running_ms: u64, bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(12 + bytes.len());
    value.extend_from_slice(&record_checksum(position, running_ms, bytes).to_be_bytes());
    value.extend_from_slice(&running_ms.to_be_bytes());
    value.extend_from_slice(bytes);
    value
}

/// Running time and record of a value; `None` when it is not what was put there.
pub(super) fn open_record(position: LogPosition, value: &[u8]) -> Option<(u64, &[u8])> {
    let running_ms = u64_be(value, 4)?;
    let bytes = value.get(12..)?;
    let checksum = u32::from_be_bytes(value.get(..4)?.try_into().ok()?);
    (checksum == record_checksum(position, running_ms, bytes)).then_some((running_ms, bytes))
}

fn record_checksum(position: LogPosition, running_ms: u64, bytes: &[u8]) -> u32 {
    let seeded = crc32c::crc32c_append(crc32c::crc32c(&position.to_be_bytes()), &running_ms.to_be_bytes());
    crc32c::crc32c_append(seeded, bytes)
}
