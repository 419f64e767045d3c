//! The journal: two halves, of which the newest alone holds every decision that is still owed.
//!
//! A batch is appended behind the chain of the newest half, with one force; a new life goes on behind the
//! chain of the life before. When the half is full, what is owed is written as the first batch of the other
//! half, which is newest from the moment when that batch is forced; then a closing batch in the half that was
//! left says so, and a lost first batch can be told from one that was never completed. The caller sees to it
//! that the store holds, durably, all that stood in the half left before the other one is overwritten.

use votum_proto::names::{Epoch, Incarnation, Life};

use super::LogPosition;
use super::batch::{self, Header};
use super::disk::{Disk, DiskError, Half};
use super::half::HalfView;
use super::judge::{self, Recovered};
use super::refusal::Refusal;
use crate::crash::{self, CrashPoint};

/// One part in so many of each half is kept for batches that come while the store cannot take over: a life
/// begins, delivers what is owed and notes that it did, also where the disk has no room for a larger file.
const KEPT: u64 = 8;

/// A batch that was written and waits to be forced.
#[derive(Debug, Clone, Copy)]
struct Written {
    header: Header,
    end: u64,
}

/// The writing end of the journal.
pub(super) struct Journal<D> {
    disk: D,
    newest: Half,
    sizes: [u64; 2],
    end: u64,
    last: Header,
    life: Life,
    written: Option<Written>,
    unclosed: Option<(u64, Header)>,
}

/// The life that wrote the first batch of a log: before the first start.
pub(super) fn before_all() -> Life {
    Life { epoch: Epoch(0), incarnation: Incarnation::from_low_bits(0) }
}

impl<D: Disk> Journal<D> {
    /// Writes the first batch of a new log into half A; half B stays zeros.
    ///
    /// # Errors
    /// As the operating system has it.
    pub(super) fn format(mut disk: D, half_bytes: u64, first: &[Vec<u8>]) -> Result<(), DiskError> {
        let size = half_bytes.next_multiple_of(batch::PAGE);
        for half in Half::BOTH {
            disk.extend(half, size)?;
        }
        let before = Header {
            closing: false,
            life: before_all(),
            first_position: 1,
            running_ms: 0,
            count: 0,
            body_len: 0,
            own_pages: 0,
            other_pages: 0,
            previous: 0,
            checksum: 0,
        };
        let mut journal = Self {
            disk,
            newest: Half::A,
            sizes: [size; 2],
            end: 0,
            last: before,
            life: before_all(),
            written: None,
            unclosed: None,
        };
        journal.write(first, 0)?;
        journal.force()
    }

    /// Reads both halves, judges which is newest, and stands behind its chain. Writes nothing.
    ///
    /// # Errors
    /// Whenever something that was forced cannot be read, or may be missing. A crash never leads here.
    pub(super) fn recover(mut disk: D) -> Result<(Self, Recovered), Refusal> {
        let judged = judge::both(&mut disk)?;
        let (newest, view, older) = (judged.newest, &judged.view, &judged.older);
        let size = |view: &HalfView| view.bytes.len() as u64 - view.bytes.len() as u64 % batch::PAGE;
        let sizes = match newest {
            Half::A => [size(view), size(older)],
            Half::B => [size(older), size(view)],
        };
        // A crash may have come between the first batch of the newest half and the closing batch of the
        // other.
        let unclosed = match (older.last(), older.closed) {
            (Some(last), None) if judged.older_is_whole => Some((older.end, last)),
            (Some(_) | None, Some(_) | None) => None,
        };
        let last = judged.last;
        let kept = judge::kept(&disk, newest, view)?;
        let recovered = Recovered { kept, running_ms: last.running_ms, warnings: judged.warnings };
        let journal =
            Self { disk, newest, sizes, end: view.end, last, life: last.life, written: None, unclosed };
        Ok((journal, recovered))
    }

    /// Further batches belong to `life`. Completes a change of halves that a crash interrupted.
    ///
    /// # Errors
    /// As the operating system has it.
    pub(super) fn begin_life(&mut self, life: Life) -> Result<(), DiskError> {
        if let Some((end, last)) = self.unclosed.take() {
            self.close_half(self.newest.other(), end, last)?;
        }
        self.life = life;
        Ok(())
    }

    /// The life that wrote the last batch.
    pub(super) fn last_life(&self) -> Life {
        self.last.life
    }

    /// The position of the next record.
    pub(super) fn next_position(&self) -> LogPosition {
        self.last.next_position()
    }

    /// Whether the last batch holds no record, so that damage to the one before it would be noticed.
    pub(super) fn is_sealed(&self) -> bool {
        self.last.count == 0
    }

    /// The size of the newest half's file, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size_of(self.newest)
    }

    /// The newest half's file.
    pub(super) fn path(&self) -> std::path::PathBuf {
        self.disk.path(self.newest)
    }

    /// Whether a batch with such a body fits into the newest half, and leaves free what is kept there for
    /// lives that cannot change halves.
    pub(super) fn fits(&self, body_len: usize) -> bool {
        self.fits_before(self.size() - self.size() / KEPT, body_len)
    }

    /// Whether it fits into the newest half at all.
    pub(super) fn fits_at_all(&self, body_len: usize) -> bool {
        self.fits_before(self.size(), body_len)
    }

    /// With room for the closing batch behind it.
    fn fits_before(&self, limit: u64, body_len: usize) -> bool {
        self.end + batch::extent(body_len) + batch::extent(0) <= limit
    }

    /// Makes the newest half large enough for a batch with such a body, and a quarter of `half_bytes` more.
    ///
    /// # Errors
    /// As the operating system has it.
    pub(super) fn grow(&mut self, body_len: usize, half_bytes: u64) -> Result<(), DiskError> {
        let size = self.end + batch::extent(body_len) + batch::extent(0) + half_bytes / 4;
        self.extend(self.newest, size)
    }

    /// Writes one batch without forcing it. Only one may be in this state.
    ///
    /// # Errors
    /// As the operating system has it; then nothing may be written any more.
    pub(super) fn write(&mut self, records: &[Vec<u8>], running_ms: u64) -> Result<(), DiskError> {
        let previous = if self.life == self.last.life {
            self.last.checksum
        } else {
            batch::seed_of_life(self.last.checksum, self.life)
        };
        let body = body(records);
        let header = self.header(records.len(), &body, running_ms, previous, self.newest);
        self.write_batch(self.newest, self.end, header, &body)
    }

    /// The batch written last is on disk when this returns.
    ///
    /// # Errors
    /// As the operating system has it; then nothing may be written any more.
    pub(super) fn force(&mut self) -> Result<(), DiskError> {
        if let Some(Written { header, end }) = self.written.take() {
            crash::here(CrashPoint::BatchWritten);
            self.disk.force(self.newest)?;
            (self.last, self.end) = (header, end);
            crash::here(CrashPoint::BatchForced);
        }
        Ok(())
    }

    /// Goes on in the other half, which begins with `carried`. The caller has made everything before it
    /// durable in the store. When this returns an error, nothing may be written any more.
    ///
    /// # Errors
    /// As the operating system has it.
    pub(super) fn change(
        &mut self,
        carried: &[Vec<u8>],
        running_ms: u64,
        half_bytes: u64,
    ) -> Result<(), DiskError> {
        let (left, left_end, left_last) = (self.newest, self.end, self.last);
        let target = left.other();
        let body = body(carried);
        let taken = batch::extent(body.len()) + batch::extent(0);
        if taken > self.size_of(target) / 2 {
            self.extend(target, taken + half_bytes)?;
        }
        let header = self.header(carried.len(), &body, running_ms, left_last.checksum, target);
        self.write_batch(target, 0, header, &body)?;
        self.newest = target;
        self.force()?;
        crash::here(CrashPoint::HalfCarried);
        self.close_half(left, left_end, left_last)?;
        crash::here(CrashPoint::HalfClosed);
        Ok(())
    }

    /// Says at the end of a half that the journal goes on in the other.
    fn close_half(&mut self, half: Half, at: u64, last: Header) -> Result<(), DiskError> {
        let closing = Header {
            closing: true,
            first_position: last.next_position(),
            count: 0,
            body_len: 0,
            own_pages: pages(self.size_of(half)),
            other_pages: pages(self.size_of(half.other())),
            previous: last.checksum,
            ..last
        };
        let (bytes, _) = batch::write(&closing, &[]);
        self.disk.write(half, at, &bytes)?;
        crash::here(CrashPoint::BatchWritten);
        self.disk.force(half)?;
        crash::here(CrashPoint::BatchForced);
        Ok(())
    }

    fn header(&self, count: usize, body: &[u8], running_ms: u64, previous: u32, half: Half) -> Header {
        Header {
            closing: false,
            life: self.life,
            first_position: self.next_position(),
            running_ms,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            own_pages: pages(self.size_of(half)),
            other_pages: pages(self.size_of(half.other())),
            previous,
            checksum: 0,
        }
    }

    fn write_batch(&mut self, half: Half, at: u64, header: Header, body: &[u8]) -> Result<(), DiskError> {
        if u32::try_from(body.len()).is_err() {
            let why = format!("{} bytes are more than one batch can hold", body.len());
            return Err(DiskError { doing: "writing", file: self.disk.path(half), why });
        }
        let (bytes, checksum) = batch::write(&header, body);
        self.disk.write(half, at, &bytes)?;
        self.written = Some(Written { header: Header { checksum, ..header }, end: at + header.extent() });
        Ok(())
    }

    fn extend(&mut self, half: Half, size: u64) -> Result<(), DiskError> {
        let size = size.next_multiple_of(batch::PAGE);
        if size > self.size_of(half) {
            self.disk.extend(half, size)?;
            match half {
                Half::A => self.sizes = [size, self.size_of(Half::B)],
                Half::B => self.sizes = [self.size_of(Half::A), size],
            }
        }
        Ok(())
    }

    fn size_of(&self, half: Half) -> u64 {
        let [a, b] = self.sizes;
        match half {
            Half::A => a,
            Half::B => b,
        }
    }
}

fn body(records: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::with_capacity(body_len(records));
    for record in records {
        batch::push(&mut body, record);
    }
    body
}

/// The bytes that these records take as a body.
pub(super) fn body_len(records: &[Vec<u8>]) -> usize {
    records.iter().map(|record| record.len() + 2).sum()
}

fn pages(size: u64) -> u32 {
    u32::try_from(size / batch::PAGE).unwrap_or(u32::MAX)
}
