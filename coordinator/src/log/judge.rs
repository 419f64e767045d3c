//! Which half is newest, and whether what the two hold can be what a crash left.
//!
//! A crash leaves a torn last batch, a torn first batch in the half that was about to become newest, or a
//! missing closing batch; nothing else. Everything else is damage, and refused: unless it is in the older
//! half, of which nothing is needed any more.

use super::LogPosition;
use super::batch::{self, Header};
use super::codec;
use super::disk::{Disk, DiskError, Half};
use super::half::{HalfView, UnknownBatch, follows};
use super::refusal::{Refusal, RefusalKind};
use crate::protocol::record::Record;

/// One record as the journal holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its position.
    pub position: LogPosition,
    /// The running time of its batch, in milliseconds.
    pub running_ms: u64,
    /// Its stable form.
    pub bytes: Vec<u8>,
    /// What it says.
    pub record: Record,
}

/// What the newest half holds, and what was noticed on the way.
#[derive(Debug)]
pub struct Recovered {
    /// Every record of the newest half, in order.
    pub kept: Vec<Kept>,
    /// The running time of the last batch, in milliseconds.
    pub running_ms: u64,
    /// Damage where nothing is needed any more: the disk deserves a look.
    pub warnings: Vec<String>,
}

/// The judgement over both halves.
pub(super) struct Judged {
    pub(super) newest: Half,
    pub(super) view: HalfView,
    pub(super) older: HalfView,
    pub(super) last: Header,
    /// The older half's chain leads up to the newest half.
    pub(super) older_is_whole: bool,
    pub(super) warnings: Vec<String>,
}

/// Reads and judges both halves.
///
/// # Errors
/// Whenever something that was forced cannot be read, or may be missing.
pub(super) fn both<D: Disk>(disk: &mut D) -> Result<Judged, Refusal> {
    let a = view(disk, Half::A)?;
    let b = view(disk, Half::B)?;
    check_sizes(disk, &a, &b)?;
    let position = |view: &HalfView| view.first().map(|first| first.first_position);
    let (newest, view, older) = match (position(&a), position(&b)) {
        (Some(in_a), Some(in_b)) if in_a == in_b => {
            let found = format!("both halves begin with position {in_a}");
            return Err(Refusal::new(RefusalKind::HalvesDisagree, disk.path(Half::B), found));
        }
        // None is below every position.
        (in_a, in_b) if in_a > in_b => (Half::A, a, b),
        (_, _) => (Half::B, b, a),
    };
    let Some(last) = view.last() else {
        let found = "neither half begins with an intact batch";
        return Err(Refusal::new(RefusalKind::Damaged, disk.path(Half::A), found).at(0));
    };
    let mut judged = Judged { newest, view, older, last, older_is_whole: false, warnings: Vec::new() };
    judged.check_newest(disk)?;
    judged.check_older(disk)?;
    Ok(judged)
}

impl Judged {
    fn check_newest<D: Disk>(&self, disk: &D) -> Result<(), Refusal> {
        let path = disk.path(self.newest);
        let next = self.last.next_position();
        let end = self.view.end;
        let later = self.view.later(next).map_err(|unknown| unknown_batch(disk, self.newest, unknown))?;
        if let Some(later) = later {
            let found = format!(
                "the chain of batches breaks at position {next}, though a later batch is intact at byte {later}"
            );
            return Err(Refusal::new(RefusalKind::Damaged, path, found).at(end));
        }
        if self.view.closed.is_some() {
            let found = format!(
                "{} says that the journal goes on here with position {next}, and it does not",
                self.newest.file_name()
            );
            return Err(Refusal::new(RefusalKind::Damaged, disk.path(self.newest.other()), found).at(0));
        }
        Ok(())
    }

    fn check_older<D: Disk>(&mut self, disk: &D) -> Result<(), Refusal> {
        let half = self.newest.other();
        let unknown = |unknown| unknown_batch(disk, half, unknown);
        let next = self.last.next_position();
        if let Some(later) = self.older.later(next).map_err(unknown)? {
            let found = format!(
                "the batch at byte {later} comes after everything in {}, but what leads to it cannot be read",
                self.newest.file_name()
            );
            return Err(Refusal::new(RefusalKind::Damaged, disk.path(half), found).at(self.older.end));
        }
        let (Some(older_last), Some(first)) = (self.older.last(), self.view.first()) else {
            // Never used, or a crash came while its first batch was being written.
            return Ok(());
        };
        if follows(&older_last, &first) {
            self.older_is_whole = true;
            return Ok(());
        }
        let breaks_off = older_last.next_position();
        if breaks_off >= first.first_position {
            let found = format!(
                "it ends with position {}, and {} begins with {}, not as its continuation",
                breaks_off.saturating_sub(1),
                self.newest.file_name(),
                first.first_position
            );
            return Err(Refusal::new(RefusalKind::HalvesDisagree, disk.path(half), found));
        }
        // What is left when a crash came while the half was being overwritten, or damage. Either way nothing
        // of it is needed: its records are all in the store.
        self.warnings.push(format!(
            "{} breaks off at byte {}: a crash came while it was being overwritten, or the disk has damaged \
             it. Nothing is lost by that, and it will be overwritten; if no crash came, look at the disk",
            disk.path(half).display(),
            self.older.end
        ));
        Ok(())
    }
}

fn view<D: Disk>(disk: &mut D, half: Half) -> Result<HalfView, Refusal> {
    let bytes = disk.read(half).map_err(|error| io(&error))?;
    HalfView::read(bytes).map_err(|unknown| unknown_batch(disk, half, unknown))
}

/// Files only grow, and every header says how long both were.
fn check_sizes<D: Disk>(disk: &D, a: &HalfView, b: &HalfView) -> Result<(), Refusal> {
    for (half, view, other) in [(Half::A, a, b), (Half::B, b, a)] {
        let was = view.sizes().0.max(other.sizes().1);
        let is = view.bytes.len() as u64;
        if is < was {
            let found = format!("it is {is} bytes long, and was {was}");
            return Err(Refusal::new(RefusalKind::Truncated, disk.path(half), found).at(is));
        }
    }
    Ok(())
}

/// Every record of a half's chain, in order.
pub(super) fn kept<D: Disk>(disk: &D, half: Half, view: &HalfView) -> Result<Vec<Kept>, Refusal> {
    let mut kept = Vec::new();
    for (offset, header) in &view.chain {
        let Some(records) = batch::records(header.count, view.body(*offset, header)) else {
            let found = "the batch has the right checksum, but not the records that it counts";
            return Err(Refusal::new(RefusalKind::UnknownFormat, disk.path(half), found).at(*offset));
        };
        for (position, bytes) in (header.first_position..).zip(records) {
            let record = codec::decode(bytes).map_err(|error| {
                let found = format!("position {position} holds {error}");
                Refusal::new(RefusalKind::UnknownFormat, disk.path(half), found).at(*offset)
            })?;
            kept.push(Kept { position, running_ms: header.running_ms, bytes: bytes.to_vec(), record });
        }
    }
    Ok(kept)
}

fn unknown_batch<D: Disk>(disk: &D, half: Half, unknown: UnknownBatch) -> Refusal {
    let found = format!("a batch of format {}, which this version does not know", unknown.version);
    Refusal::new(RefusalKind::UnknownFormat, disk.path(half), found).at(unknown.offset)
}

/// A refused operation, as a refusal.
pub(super) fn io(error: &DiskError) -> Refusal {
    Refusal::new(RefusalKind::Io, &error.file, error.to_string())
}
