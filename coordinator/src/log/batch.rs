//! The unit of the journal: a header of 64 bytes, then records, one checksum over both.
//!
//! The checksum is seeded with that of the batch before, which the header repeats: a chain can be followed,
//! and an intact batch can still be recognized by itself, wherever it stands.
//!
//! ```text
//!  0  magic            4 bytes, of which two occur in no UTF-8 text: no name or key can pose as a batch
//!  4  version          1
//!  5  flags            bit 0: closing, the journal goes on in the other half
//!  6  zero             2
//!  8  epoch            8   the life that wrote it
//! 16  first position   8   of its records; of an empty batch, the next one to come
//! 24  running time     8   in ms, over all lives
//! 32  incarnation      4
//! 36  records          4
//! 40  body length      4
//! 44  own size         4   of this half's file when it was written, in pages of 4096 bytes
//! 48  other size       4   of the other half's file
//! 52  previous         4   the seed
//! 56  checksum         4   CRC-32C over bytes 0..56 and the body, seeded with `previous`
//! 60  header checksum  4   CRC-32C over bytes 0..60
//! 64  body: for each record its length (2 bytes), then its bytes
//! ```
//! All numbers are little-endian.

use crc32c::{crc32c, crc32c_append};
use votum_proto::names::{Epoch, Incarnation, Life};

use super::LogPosition;

/// Batches begin at multiples of this.
pub(super) const ALIGN: u64 = 64;
/// The bytes of a header.
pub(super) const HEADER: usize = 64;
/// Sizes of files are counted in these.
pub(super) const PAGE: u64 = 4096;

/// No log comes as far as this, in positions, epochs or milliseconds: numbers beyond are not what we wrote, and
/// below it no sum overflows.
pub(super) const MOST: u64 = 1 << 62;

const MAGIC: [u8; 4] = [0xff, b'V', b'T', 0xfe];
const VERSION: u8 = 1;
const CLOSING: u8 = 1;

/// What stands before the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// True: the last batch of this half; the journal goes on in the other.
    pub(super) closing: bool,
    /// The life that wrote it.
    pub(super) life: Life,
    /// The position of its first record; of an empty batch, that of the next record to come.
    pub(super) first_position: LogPosition,
    /// Running time over all lives, in milliseconds.
    pub(super) running_ms: u64,
    /// How many records it holds.
    pub(super) count: u32,
    /// The bytes behind the header.
    pub(super) body_len: u32,
    /// The size of this half's file when it was written, in pages.
    pub(super) own_pages: u32,
    /// The size of the other half's file then, in pages.
    pub(super) other_pages: u32,
    /// The seed of the checksum.
    pub(super) previous: u32,
    /// The checksum, which seeds the next batch. Computed by [`write`].
    pub(super) checksum: u32,
}

impl Header {
    /// The position after its last record.
    pub(super) fn next_position(&self) -> LogPosition {
        self.first_position.saturating_add(u64::from(self.count))
    }

    /// The bytes that it takes in the file, up to where the next batch begins.
    pub(super) fn extent(&self) -> u64 {
        extent(self.body_len as usize)
    }
}

/// The bytes that a batch with such a body takes in the file.
pub(super) fn extent(body_len: usize) -> u64 {
    ((HEADER + body_len) as u64).next_multiple_of(ALIGN)
}

/// The seed of a life's first batch: that of the batch before, and the life's own random bits, so that bytes
/// of another life never join the chain.
pub(super) fn seed_of_life(checksum_before: u32, life: Life) -> u32 {
    crc32c_append(checksum_before, &life.incarnation.get().to_le_bytes())
}

/// Adds one encoded record to a body. Records are at most 4 KiB, so a length fits in two bytes.
pub(super) fn push(body: &mut Vec<u8>, record: &[u8]) {
    let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(record);
}

/// The bytes of a batch, without the padding behind it, and its checksum.
pub(super) fn write(header: &Header, body: &[u8]) -> (Vec<u8>, u32) {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, if header.closing { CLOSING } else { 0 }, 0, 0]);
    bytes.extend_from_slice(&header.life.epoch.0.to_le_bytes());
    bytes.extend_from_slice(&header.first_position.to_le_bytes());
    bytes.extend_from_slice(&header.running_ms.to_le_bytes());
    bytes.extend_from_slice(&header.life.incarnation.get().to_le_bytes());
    bytes.extend_from_slice(&header.count.to_le_bytes());
    bytes.extend_from_slice(&header.body_len.to_le_bytes());
    bytes.extend_from_slice(&header.own_pages.to_le_bytes());
    bytes.extend_from_slice(&header.other_pages.to_le_bytes());
    bytes.extend_from_slice(&header.previous.to_le_bytes());
    let checksum = crc32c_append(crc32c_append(header.previous, &bytes), body);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes.extend_from_slice(body);
    (bytes, checksum)
}

/// What stands at one place of a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A batch that is intact by itself.
    Batch(Header, &'a [u8]),
    /// An intact header of a format that this version does not know.
    UnknownVersion(u8),
    /// Anything else.
    Nothing,
}

/// The header at `offset`, if one stands there and is intact; its body may be torn.
fn header_at(half: &[u8], offset: u64) -> Option<(u8, Header, u64)> {
    let start = usize::try_from(offset).ok()?;
    let bytes = half.get(start..start.checked_add(HEADER)?)?;
    if bytes.get(..4)? != MAGIC || crc32c(bytes.get(..60)?) != u32_at(bytes, 60)? {
        return None;
    }
    let header = Header {
        closing: bytes.get(5)? & CLOSING != 0,
        life: Life {
            epoch: Epoch(u64_at(bytes, 8)?),
            incarnation: Incarnation::from_low_bits(u32_at(bytes, 32)?),
        },
        first_position: u64_at(bytes, 16)?,
        running_ms: u64_at(bytes, 24)?,
        count: u32_at(bytes, 36)?,
        body_len: u32_at(bytes, 40)?,
        own_pages: u32_at(bytes, 44)?,
        other_pages: u32_at(bytes, 48)?,
        previous: u32_at(bytes, 52)?,
        checksum: u32_at(bytes, 56)?,
    };
    let [epoch, position, running] = [header.life.epoch.0, header.first_position, header.running_ms];
    if [epoch, position, running].iter().any(|number| *number > MOST) {
        return None;
    }
    Some((*bytes.get(4)?, header, (start + HEADER) as u64))
}

/// What stands at `offset`. Bodies of batches whose first position is below `from` are not looked at: the
/// answer is `Nothing`.
pub(super) fn read(half: &[u8], offset: u64, from: LogPosition) -> Found<'_> {
    let Some((version, header, body_at)) = header_at(half, offset) else { return Found::Nothing };
    if version != VERSION {
        return Found::UnknownVersion(version);
    }
    if header.first_position < from {
        return Found::Nothing;
    }
    let start = usize::try_from(body_at).unwrap_or(usize::MAX);
    let end = start.saturating_add(header.body_len as usize);
    let checked = start.saturating_sub(HEADER)..start.saturating_sub(HEADER - 56);
    let (Some(body), Some(checked)) = (half.get(start..end), half.get(checked)) else {
        return Found::Nothing;
    };
    if crc32c_append(crc32c_append(header.previous, checked), body) == header.checksum {
        Found::Batch(header, body)
    } else {
        Found::Nothing
    }
}

/// The encoded records of a body; `None` when lengths and count do not agree with it.
pub(super) fn records(count: u32, body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    let mut rest = body;
    while let [low, high, behind @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        records.push(behind.get(..length)?);
        rest = behind.get(length..)?;
    }
    (rest.is_empty() && records.len() == count as usize).then_some(records)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
