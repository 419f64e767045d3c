//! Backups of a log: a copy of its directory, which a coordinator may be writing to, judged as a start would
//! judge it; and the way back. What was decided after a backup was made is lacking in it, and no agent may
//! know any more: a log that was restored is stale until a person has written that off.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use votum_proto::names::Epoch;

use super::config::{INITIALIZING_FILE, RESTORED_FILE, STORE_FOLDER};
use super::disk::Half;
use super::files::{self, refused};
use super::offline::{self, Report};
use super::refusal::{Refusal, RefusalKind};
use super::start::{check_there, force_all, take_away_unfinished};
use crate::protocol::record::WrittenOff;

/// How often a copy is made before it is given up: the halves of a busy journal may change while it is made.
const ATTEMPTS: u32 = 5;

/// A coordinator is not started so often between its last backup and the loss of what came after.
const EPOCHS_AFTER: u64 = 100_000;

/// What a log that was restored from a backup may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The newest epoch that may have begun after the backup was made.
    pub through: Epoch,
    /// What was restored, for people.
    pub what: String,
}

/// Copies the log in `from`, whether or not a coordinator runs on it, to `to`, which must not hold anything
/// yet, and says what a start would find there. Nothing in `from` is changed. The copy says of itself that it is
/// a backup: whoever puts it in place, and by whatever means, has a stale log.
///
/// # Errors
/// When there is no log in `from`, `to` is not empty, the disk refuses, or no copy is whole.
pub fn backup(from: &Path, to: &Path) -> Result<Report, Refusal> {
    check_there(from)?;
    files::create_private(to)?;
    take_away_unfinished(to)?;
    let mut attempt = 1;
    loop {
        match fill(from, to).and_then(|()| whole(to)) {
            Ok(report) => return note(to, &report).map(|()| report),
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            Err(refusal) => {
                begin(to)?;
                return Err(refusal);
            }
        }
        begin(to)?;
    }
}

/// Puts the backup in `from`, or a copy that was made by hand, where a coordinator will open it, in `to`, which
/// must not hold anything yet.
///
/// # Errors
/// When the backup is not whole, `to` is not empty or in use, or the disk refuses.
pub fn restore(from: &Path, to: &Path) -> Result<Report, Refusal> {
    let report = whole(from)?;
    files::create_private(to)?;
    let lock = files::lock(to)?;
    take_away_unfinished(to)?;
    begin(to)?;
    note(to, &report)?;
    fill(from, to)?;
    drop(lock);
    whole(to)
}

/// What a start would find in `directory`, if it would find a log that is whole.
fn whole(directory: &Path) -> Result<Report, Refusal> {
    let mut report = offline::verify(directory);
    if report.problems.is_empty() { Ok(report) } else { Err(report.problems.swap_remove(0)) }
}

/// Nothing in `directory` is anybody's log from here on.
fn begin(directory: &Path) -> Result<(), Refusal> {
    let marker = directory.join(INITIALIZING_FILE);
    File::create(&marker)
        .and_then(|file| file.sync_all())
        .map_err(|error| refused(&marker, "creating", &error))?;
    files::force_directory(directory)
}

/// Copies a log over what an interrupted copy left; only when all of it is on disk does it count as one.
///
/// The store goes first: what it lacks then, the journal, which is copied after it, fills in. The other way
/// round the store would hold what the journal does not.
fn fill(from: &Path, to: &Path) -> Result<(), Refusal> {
    begin(to)?;
    let store = to.join(STORE_FOLDER);
    if store.exists() {
        std::fs::remove_dir_all(&store).map_err(|error| refused(&store, "removing", &error))?;
    }
    files::create_private(&store)?;
    offline::copy_folder(&from.join(STORE_FOLDER), &store)?;
    for half in Half::BOTH {
        let name = half.file_name();
        std::fs::copy(from.join(name), to.join(name))
            .map_err(|error| refused(&from.join(name), "copying", &error))?;
    }
    force_all(to)?;
    let marker = to.join(INITIALIZING_FILE);
    std::fs::remove_file(&marker).map_err(|error| refused(&marker, "removing", &error))?;
    files::force_directory(to)?;
    match to.canonicalize().ok().as_deref().and_then(Path::parent) {
        Some(parent) => files::force_directory(parent),
        None => Ok(()),
    }
}

/// Notes, on disk, what was copied: more may have been decided since.
fn note(directory: &Path, report: &Report) -> Result<(), Refusal> {
    let newest = report.lives.last().map_or(Epoch(0), |known| known.begun.life.epoch);
    let through = Epoch(newest.0.saturating_add(EPOCHS_AFTER));
    let what = format!("a backup was put here that ends with epoch {newest}, position {}", report.position);
    let path = directory.join(RESTORED_FILE);
    File::create(&path)
        .and_then(|mut file| file.write_all(format!("{through} {what}\n").as_bytes()).map(|()| file))
        .and_then(|file| file.sync_all())
        .map_err(|error| refused(&path, "writing", &error))?;
    files::force_directory(directory)
}

/// What the log in `directory` lacks because it was restored, unless that was written off: then nothing says
/// any more that it was.
pub(super) fn settle(
    directory: &Path,
    written_off: Option<&WrittenOff>,
) -> Result<Option<Restored>, Refusal> {
    let Some(restored) = read(directory)? else { return Ok(None) };
    if written_off.is_none_or(|written_off| written_off.through < restored.through) {
        return Ok(Some(restored));
    }
    let path = directory.join(RESTORED_FILE);
    std::fs::remove_file(&path).map_err(|error| refused(&path, "removing", &error))?;
    files::force_directory(directory)?;
    Ok(None)
}

fn read(directory: &Path) -> Result<Option<Restored>, Refusal> {
    let path = directory.join(RESTORED_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(&path, "reading", &error)),
    };
    let parsed = text.trim_end().split_once(' ').and_then(|(through, what)| {
        Some(Restored { through: Epoch(through.parse().ok()?), what: what.to_owned() })
    });
    let unreadable = || Refusal::new(RefusalKind::Damaged, &path, "it does not say what was restored here");
    parsed.map(Some).ok_or_else(unreadable)
}
