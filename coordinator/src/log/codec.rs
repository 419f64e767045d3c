//! The stable binary form of a record: a version byte, a kind byte, a postcard body; at most 4 KiB.
//!
//! A record that this version does not know is an error with its reason, never skipped: what was not read
//! may have been a decision.

use postcard::{take_from_bytes, to_extend};
use serde::Serialize;
use serde::de::DeserializeOwned;
use votum_proto::names::{Gtid, Life};

use crate::protocol::record::{Carried, Record};

/// The most bytes that an encoded record has. Larger values would become files of their own in the store,
/// which it never forces.
pub const MAX_RECORD: usize = 4096;
/// What `Carried` may add to the record within: version, kind, and two numbers of at most ten bytes each.
const CARRIED_EXTRA: usize = 22;
/// The form of all kinds below.
const VERSION: u8 = 1;

/// A record that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Its names, branches and texts are together too long.
    #[error(
        "a {kind} record of {bytes} bytes does not fit in {MAX_RECORD}: branches, keys and labels must be bounded"
    )]
    TooLarge {
        /// Which kind.
        kind: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// A `Carried` within a `Carried`.
    #[error("a Carried record cannot carry another one")]
    Nested,
    /// The encoder failed.
    #[error("a {kind} record cannot be encoded: {why}")]
    Unencodable {
        /// Which kind.
        kind: &'static str,
        /// As the encoder says it.
        why: String,
    },
}

/// Bytes that are no record of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A form that this version does not know.
    #[error("a record of form {0}, which this version does not know (it knows {VERSION})")]
    UnknownVersion(u8),
    /// A kind that this version does not know.
    #[error("a record of kind {0}, which this version does not know")]
    UnknownKind(u8),
    /// The body is not that of its kind.
    #[error("a record of kind {kind} whose body cannot be read: {why}")]
    Malformed {
        /// The kind byte.
        kind: u8,
        /// As the decoder says it.
        why: String,
    },
    /// Fewer than two bytes.
    #[error("a record without version and kind")]
    Empty,
}

/// The kind bytes. Stable for ever.
mod kind {
    pub(super) const IDENTITY: u8 = 1;
    pub(super) const EPOCH: u8 = 2;
    pub(super) const LEASE: u8 = 3;
    pub(super) const BEGUN: u8 = 4;
    pub(super) const DECIDED: u8 = 5;
    pub(super) const DELEGATED: u8 = 6;
    pub(super) const ENDED: u8 = 7;
    pub(super) const HEURISTIC: u8 = 8;
    pub(super) const RESOLVED: u8 = 9;
    pub(super) const CARRIED: u8 = 10;
    pub(super) const ACKNOWLEDGED: u8 = 11;
    pub(super) const WRITTEN_OFF: u8 = 12;
    pub(super) const COMPARED: u8 = 13;
}

/// The stable form of `record`.
///
/// # Errors
/// When it would be longer than [`MAX_RECORD`], or cannot be encoded at all.
pub fn encode(record: &Record) -> Result<Vec<u8>, EncodeError> {
    let bytes = body(record)?;
    let room = match record {
        Record::Carried(_) => MAX_RECORD,
        Record::Identity(_)
        | Record::Epoch(_)
        | Record::Lease { .. }
        | Record::Begun(_)
        | Record::Decided(_)
        | Record::Delegated(_)
        | Record::Ended { .. }
        | Record::Heuristic(_)
        | Record::Resolved(_)
        | Record::Acknowledged(_)
        | Record::WrittenOff(_)
        | Record::Compared(_) => MAX_RECORD - CARRIED_EXTRA,
    };
    if bytes.len() > room {
        return Err(EncodeError::TooLarge { kind: record.kind(), bytes: bytes.len() });
    }
    Ok(bytes)
}

fn body(record: &Record) -> Result<Vec<u8>, EncodeError> {
    let name = record.kind();
    match record {
        Record::Identity(identity) => extend(name, kind::IDENTITY, identity),
        Record::Epoch(begun) => extend(name, kind::EPOCH, begun),
        Record::Lease { life, until } => extend(name, kind::LEASE, &(life, until)),
        Record::Begun(begun) => extend(name, kind::BEGUN, begun),
        Record::Decided(decided) => extend(name, kind::DECIDED, decided),
        Record::Delegated(decided) => extend(name, kind::DELEGATED, decided),
        Record::Ended { gtid } => extend(name, kind::ENDED, gtid),
        Record::Heuristic(heuristic) => extend(name, kind::HEURISTIC, heuristic),
        Record::Resolved(resolved) => extend(name, kind::RESOLVED, resolved),
        Record::Acknowledged(acknowledged) => extend(name, kind::ACKNOWLEDGED, acknowledged),
        Record::WrittenOff(written_off) => extend(name, kind::WRITTEN_OFF, written_off),
        Record::Compared(compared) => extend(name, kind::COMPARED, compared),
        Record::Carried(carried) => {
            if matches!(carried.record, Record::Carried(_)) {
                return Err(EncodeError::Nested);
            }
            let mut bytes = extend(name, kind::CARRIED, &(carried.position, carried.running_ms))?;
            bytes.extend(encode(&carried.record)?);
            Ok(bytes)
        }
    }
}

fn extend<T: Serialize>(name: &'static str, kind: u8, value: &T) -> Result<Vec<u8>, EncodeError> {
    to_extend(value, vec![VERSION, kind])
        .map_err(|error| EncodeError::Unencodable { kind: name, why: error.to_string() })
}

/// The record whose stable form `bytes` is: all of them, nothing behind.
///
/// # Errors
/// When they are not that of a record of this version.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    match open(bytes)? {
        (kind::CARRIED, body) => {
            let ((position, running_ms), inner) =
                take_from_bytes::<(u64, u64)>(body).map_err(|error| malformed(kind::CARRIED, &error))?;
            let record = match open(inner)? {
                (kind::CARRIED, _) => {
                    return Err(DecodeError::Malformed {
                        kind: kind::CARRIED,
                        why: "it carries another Carried".into(),
                    });
                }
                (kind, body) => plain(kind, body)?,
            };
            Ok(Record::Carried(Box::new(Carried { position, running_ms, record })))
        }
        (kind, body) => plain(kind, body),
    }
}

/// Version and kind taken off.
fn open(bytes: &[u8]) -> Result<(u8, &[u8]), DecodeError> {
    match bytes {
        [VERSION, kind, body @ ..] => Ok((*kind, body)),
        [other, _, ..] => Err(DecodeError::UnknownVersion(*other)),
        [] | [_] => Err(DecodeError::Empty),
    }
}

fn plain(kind: u8, body: &[u8]) -> Result<Record, DecodeError> {
    Ok(match kind {
        kind::IDENTITY => Record::Identity(whole(kind, body)?),
        kind::EPOCH => Record::Epoch(whole(kind, body)?),
        kind::LEASE => {
            let (life, until) = whole::<(Life, u64)>(kind, body)?;
            Record::Lease { life, until }
        }
        kind::BEGUN => Record::Begun(whole(kind, body)?),
        kind::DECIDED => Record::Decided(whole(kind, body)?),
        kind::DELEGATED => Record::Delegated(whole(kind, body)?),
        kind::ENDED => Record::Ended { gtid: whole::<Gtid>(kind, body)? },
        kind::HEURISTIC => Record::Heuristic(whole(kind, body)?),
        kind::RESOLVED => Record::Resolved(whole(kind, body)?),
        kind::ACKNOWLEDGED => Record::Acknowledged(whole(kind, body)?),
        kind::WRITTEN_OFF => Record::WrittenOff(whole(kind, body)?),
        kind::COMPARED => Record::Compared(whole(kind, body)?),
        unknown => return Err(DecodeError::UnknownKind(unknown)),
    })
}

fn whole<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = take_from_bytes(body).map_err(|error| malformed(kind, &error))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Malformed { kind, why: format!("{} bytes too many", rest.len()) })
    }
}

fn malformed(kind: u8, error: &postcard::Error) -> DecodeError {
    DecodeError::Malformed { kind, why: error.to_string() }
}
