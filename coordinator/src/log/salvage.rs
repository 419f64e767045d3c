//! Every record that is intact, wherever it stands, of a log that can no longer be opened.
//!
//! For people who must piece together what happened. A record outside the chain is doubtful: it may be one
//! that was never acknowledged, or one of an earlier time; it is never a decision.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use votum_proto::names::Life;

use super::LogPosition;
use super::batch::{self, ALIGN, Found, Header};
use super::codec::{self, DecodeError};
use super::config::STORE_FOLDER;
use super::disk::Half;
use super::files::refused;
use super::half::{HalfView, follows};
use super::journal::Journal;
use super::offline::{keep_out, uncounted, unreadable, walk};
use super::refusal::Refusal;
use super::store::{Store as _, open_record};
use crate::protocol::record::Record;

/// How far a salvaged record can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It stands in an unbroken chain from the beginning of its half, in a journal that a start would accept.
    InChain,
    /// It is intact by itself, and nothing says that it was acknowledged, or is of this time.
    Doubtful,
}

/// One intact record.
#[derive(Debug, Clone)]
pub struct Salvaged {
    /// The file, or the store's folder.
    pub source: PathBuf,
    /// Where its batch begins there, in bytes; `None` in the store.
    pub offset: Option<u64>,
    /// The life that wrote it; `None` in the store.
    pub life: Option<Life>,
    /// Its position.
    pub position: LogPosition,
    /// The running time at which it was written, in milliseconds.
    pub running_ms: u64,
    /// How far it can be believed.
    pub trust: Trust,
    /// The record, or why its intact bytes are not understood.
    pub record: Result<Record, DecodeError>,
}

/// Gives every intact record in `directory` to `each`, until it breaks off: the two files of the journal from
/// end to end, then the store, if sled opens a copy of it. What comes back are the problems met.
///
/// # Errors
/// When a coordinator is running on the directory.
pub fn salvage(
    directory: &Path,
    mut each: impl FnMut(Salvaged) -> ControlFlow<()>,
) -> Result<Vec<Refusal>, Refusal> {
    let _lock = keep_out(directory)?;
    let mut problems = Vec::new();
    let files = super::files::Files::open_read_only(directory);
    let accepted = match files.and_then(Journal::recover) {
        Ok(_) => true,
        Err(problem) => {
            problems.push(problem);
            false
        }
    };
    let mut views = Vec::new();
    for half in Half::BOTH {
        let path = directory.join(half.file_name());
        match std::fs::read(&path) {
            Ok(bytes) => views.push((path, bytes)),
            Err(error) => problems.push(refused(&path, "reading", &error)),
        }
    }
    for (path, bytes) in &views {
        let chain = if accepted { chain_of(bytes, &views) } else { Vec::new() };
        if in_half(path, bytes, &chain, &mut each).is_break() {
            return Ok(problems);
        }
    }
    let walked = in_store(directory, each);
    problems.extend(walked.err());
    Ok(problems)
}

/// Where the batches of a half's chain begin, if the half is newest or leads up to the newest.
fn chain_of(bytes: &[u8], views: &[(PathBuf, Vec<u8>)]) -> Vec<u64> {
    let read = |bytes: &[u8]| HalfView::read(bytes.to_vec()).ok();
    let Some(view) = read(bytes) else { return Vec::new() };
    let Some((first, last)) = view.first().zip(view.last()) else { return Vec::new() };
    let other = views.iter().find(|(_, other)| other.as_slice() != bytes).and_then(|(_, other)| read(other));
    let leads_up_or_newest = other
        .and_then(|other| other.first())
        .is_none_or(|other: Header| other.first_position < first.first_position || follows(&last, &other));
    if leads_up_or_newest { view.chain.iter().map(|(offset, _)| *offset).collect() } else { Vec::new() }
}

pub(super) fn in_half(
    path: &Path,
    bytes: &[u8],
    chain: &[u64],
    each: &mut impl FnMut(Salvaged) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut offset = 0;
    while offset < bytes.len() as u64 {
        let Found::Batch(header, body) = batch::read(bytes, offset, 0) else {
            offset += ALIGN;
            continue;
        };
        let trust = if chain.contains(&offset) { Trust::InChain } else { Trust::Doubtful };
        let records = batch::records(header.count, body).unwrap_or_default();
        for (position, record) in (header.first_position..).zip(records) {
            each(Salvaged {
                source: path.to_owned(),
                offset: Some(offset),
                life: Some(header.life),
                position,
                running_ms: header.running_ms,
                trust,
                record: codec::decode(record),
            })?;
        }
        offset += header.extent();
    }
    ControlFlow::Continue(())
}

/// Records of the store are intact by their own checksums; that none is missing is not known here.
fn in_store(directory: &Path, mut each: impl FnMut(Salvaged) -> ControlFlow<()>) -> Result<(), Refusal> {
    let (store, _folder) = uncounted(directory)?;
    let source = directory.join(STORE_FOLDER);
    let walked = walk(&*store, LogPosition::MAX, |position, value| {
        let Some((running_ms, bytes)) = open_record(position, value) else {
            return Ok(ControlFlow::Continue(()));
        };
        Ok(each(Salvaged {
            source: source.clone(),
            offset: None,
            life: None,
            position,
            running_ms,
            trust: Trust::Doubtful,
            record: codec::decode(bytes),
        }))
    });
    store.close();
    walked.map(|_| ()).map_err(|error| unreadable(directory, &error))
}
