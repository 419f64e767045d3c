//! Reading the log of a stopped coordinator, or a copy of one, without changing a byte of it: sled writes
//! when it is opened, so its folder is copied first.

use std::fs::{File, TryLockError};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::Archive;
use super::config::{LOCK_FILE, STORE_FOLDER};
use super::discipline::fold;
use super::disk::{Disk, DiskError, Half};
use super::files::{Files, entries, refused};
use super::image::Image;
use super::journal::Journal;
use super::judge::{Kept, Recovered};
use super::refusal::{Refusal, RefusalKind};
use super::sled_store::SledStore;
use super::start::{check_there, open_store};
use super::store::{Store, StoreError, key, open_record, u64_be};
use super::{History, KnownLife, LogPosition, TransactionHistory, codec};
use crate::protocol::record::{Identity, Record};

/// sled's page cache for a look, in bytes.
const CACHE: u64 = 16 << 20;

/// How often a journal is read that may be written to meanwhile.
const READS: u32 = 5;

/// Keeps the coordinator out while its directory is read. A copy without a lock file needs none.
pub(super) fn keep_out(directory: &Path) -> Result<Option<File>, Refusal> {
    let path = directory.join(LOCK_FILE);
    let Ok(file) = File::open(&path) else { return Ok(None) };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let found = "a coordinator is running on it; ask that one, or copy the directory";
            Err(Refusal::new(RefusalKind::InUse, path, found))
        }
        Err(TryLockError::Error(error)) => Err(refused(&path, "locking", &error)),
    }
}

/// The journal as it stands.
struct Journaled {
    image: Image,
    identity: Identity,
    recovered: Recovered,
    newest: PathBuf,
    position: LogPosition,
}

fn journal(directory: &Path) -> Result<Journaled, Refusal> {
    check_there(directory)?;
    let (journal, recovered) = Journal::recover(Files::open_read_only(directory)?)?;
    let (image, identity) = fold(&journal, &recovered)?;
    let position = journal.next_position().saturating_sub(1);
    Ok(Journaled { image, identity, recovered, newest: journal.path(), position })
}

/// A copy of the store's folder, opened there and removed when this is dropped.
pub(super) struct Copied {
    archive: Archive<SledStore>,
    _folder: tempfile::TempDir,
}

impl Copied {
    /// Copies, opens and counts the store.
    fn counted(directory: &Path, identity: &Identity, kept: &[Kept]) -> Result<Self, Refusal> {
        let from = directory.join(STORE_FOLDER);
        let folder = copy_of(&from)?;
        let archive = open_store(folder.path(), CACHE, identity, kept)
            .map_err(|refusal| of_original(refusal, folder.path(), &from))?;
        Ok(Self { archive, _folder: folder })
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.archive.close();
    }
}

/// Copies and opens the store without counting it; the folder goes when the guard is dropped.
pub(super) fn uncounted(directory: &Path) -> Result<(Arc<SledStore>, tempfile::TempDir), Refusal> {
    let from = directory.join(STORE_FOLDER);
    let folder = copy_of(&from)?;
    let store = SledStore::open(folder.path(), CACHE)
        .map_err(|error| Refusal::new(RefusalKind::StoreUnreadable, &from, error.0))
        .map_err(|refusal| of_original(refusal, folder.path(), &from))?;
    Ok((Arc::new(store), folder))
}

/// What was found in a copy is true of what was copied, and the copy will be gone when somebody reads of it.
fn of_original(mut refusal: Refusal, copy: &Path, original: &Path) -> Refusal {
    if let Ok(within) = refusal.file.strip_prefix(copy) {
        refusal.file = original.join(within);
    }
    let (copy, original) = (copy.display().to_string(), original.display().to_string());
    refusal.found = refusal.found.replace(&copy, &original);
    refusal
}

fn copy_of(from: &Path) -> Result<tempfile::TempDir, Refusal> {
    let to = tempfile::Builder::new()
        .prefix("votum-log-")
        .tempdir()
        .map_err(|error| refused(&std::env::temp_dir(), "making a folder for a copy in", &error))?;
    copy_folder(from, to.path())?;
    Ok(to)
}

pub(super) fn copy_folder(from: &Path, to: &Path) -> Result<(), Refusal> {
    for path in entries(from)? {
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        if path.is_dir() {
            std::fs::create_dir_all(&target).map_err(|error| refused(&target, "creating", &error))?;
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).map_err(|error| refused(&path, "copying", &error))?;
        }
    }
    Ok(())
}

/// A stopped log, opened for questions.
pub struct OfflineLog {
    /// Whose log it is.
    pub identity: Identity,
    /// Every life that it has seen, oldest first.
    pub lives: Vec<KnownLife>,
    /// The newest position.
    pub position: LogPosition,
    /// Every commit that is still owed.
    pub owed: Vec<TransactionHistory>,
    /// Everything else.
    pub history: Box<dyn History>,
    _copied: Copied,
    _lock: Option<File>,
}

/// Opens the log in `directory` for questions.
///
/// # Errors
/// As [`super::open`], and when the store cannot be read or counted.
pub fn open_history(directory: &Path) -> Result<OfflineLog, Refusal> {
    let lock = keep_out(directory)?;
    let Journaled { image, identity, recovered, position, .. } = journal(directory)?;
    let copied = Copied::counted(directory, &identity, &recovered.kept)?;
    copied.archive.set_running(recovered.running_ms);
    let lives = copied.archive.lives(position).map_err(|error| unreadable(directory, &error))?;
    Ok(OfflineLog {
        identity,
        lives,
        position,
        owed: image.owed().cloned().collect(),
        history: Box::new(copied.archive.reader()),
        _copied: copied,
        _lock: lock,
    })
}

/// Every commit that the journal in `directory` owes, also while a coordinator runs on it.
///
/// # Errors
/// As [`super::open`]. A journal that is written to may change halves while it is read: it is then read again.
pub fn owed(directory: &Path) -> Result<Vec<TransactionHistory>, Refusal> {
    let read = || journal(directory).map(|journaled| journaled.image.owed().cloned().collect());
    (1..READS).find_map(|_| read().ok()).map_or_else(read, Ok)
}

/// What a look at a whole log found.
#[derive(Debug, Default)]
pub struct Report {
    /// Whose log it is; `None` when the journal cannot be read.
    pub identity: Option<Identity>,
    /// The newest half of the journal.
    pub newest: Option<PathBuf>,
    /// The sizes of the two halves, in bytes.
    pub half_bytes: Vec<(PathBuf, u64)>,
    /// The newest position.
    pub position: LogPosition,
    /// Running time over all lives, in milliseconds.
    pub running_ms: u64,
    /// How many commits are still owed.
    pub owed: usize,
    /// Every life that it has seen, oldest first.
    pub lives: Vec<KnownLife>,
    /// How many bytes of records the store keeps.
    pub store_bytes: u64,
    /// Damage that does no harm.
    pub warnings: Vec<String>,
    /// What keeps the log, or its store, from being opened. Empty: all is well.
    pub problems: Vec<Refusal>,
}

/// Reads everything and judges it as a start would.
pub fn verify(directory: &Path) -> Report {
    let mut report = Report::default();
    if let Err(problem) = verify_into(directory, &mut report) {
        report.problems.push(problem);
    }
    report
}

fn verify_into(directory: &Path, report: &mut Report) -> Result<(), Refusal> {
    let _lock = keep_out(directory)?;
    check_there(directory)?;
    let mut files = Files::open_read_only(directory)?;
    for half in Half::BOTH {
        let size = files.size(half).map_err(|error: DiskError| super::judge::io(&error))?;
        report.half_bytes.push((files.path(half), size));
    }
    let Journaled { image, identity, recovered, newest, position } = journal(directory)?;
    report.newest = Some(newest);
    report.position = position;
    report.running_ms = recovered.running_ms;
    report.owed = image.owed().count();
    report.lives = image.lives(position);
    report.warnings.clone_from(&recovered.warnings);
    report.identity = Some(identity.clone());
    let copied = Copied::counted(directory, &identity, &recovered.kept)?;
    report.store_bytes = copied.archive.bytes();
    report.lives = copied.archive.lives(position).map_err(|error| unreadable(directory, &error))?;
    Ok(())
}

/// One record of a dump.
#[derive(Debug, Clone)]
pub struct Dumped {
    /// Its position.
    pub position: LogPosition,
    /// The running time at which it was written, in milliseconds.
    pub running_ms: u64,
    /// The file that holds it: a half of the journal, or the store's folder.
    pub source: PathBuf,
    /// The record.
    pub record: Record,
}

/// Gives every record of the log to `each`, in order of position, until it breaks off. What comes back are
/// the problems met: with an unreadable store, the records of the journal's newest half are given all the
/// same.
///
/// # Errors
/// When the journal cannot be read.
pub fn dump(
    directory: &Path,
    mut each: impl FnMut(Dumped) -> ControlFlow<()>,
) -> Result<Vec<Refusal>, Refusal> {
    let _lock = keep_out(directory)?;
    let Journaled { identity, recovered, newest, .. } = journal(directory)?;
    let first = recovered.kept.first().map_or(LogPosition::MAX, |kept| kept.position);
    let mut problems = Vec::new();
    match Copied::counted(directory, &identity, &recovered.kept) {
        Ok(copied) => {
            let source = directory.join(STORE_FOLDER);
            let walked = walk(&*copied.archive.store, first, |position, value| {
                let read = read(position, value)?;
                let (running_ms, record) = read;
                Ok(each(Dumped { position, running_ms, source: source.clone(), record }))
            });
            match walked {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Ok(problems),
                Err(error) => problems.push(unreadable(directory, &error)),
            }
        }
        Err(problem) => problems.push(problem),
    }
    for Kept { position, running_ms, record, .. } in recovered.kept {
        if each(Dumped { position, running_ms, source: newest.clone(), record }).is_break() {
            break;
        }
    }
    Ok(problems)
}

fn read(position: LogPosition, value: &[u8]) -> Result<(u64, Record), StoreError> {
    let (running_ms, bytes) = open_record(position, value)
        .ok_or_else(|| StoreError(format!("the record at position {position} is not what was written")))?;
    let record = codec::decode(bytes)
        .map_err(|error| StoreError(format!("the record at position {position}: {error}")))?;
    Ok((running_ms, record))
}

/// Gives the position and value of every record below `end` to `each`, in order.
pub(super) fn walk<S: Store>(
    store: &S,
    end: LogPosition,
    mut each: impl FnMut(LogPosition, &[u8]) -> Result<ControlFlow<()>, StoreError>,
) -> Result<ControlFlow<()>, StoreError> {
    let (mut from, _) = key::table(key::RECORDS);
    let to = key::record(end);
    loop {
        let page = store.scan(&from, &to, 1024)?;
        let Some((last, _)) = page.last() else { return Ok(ControlFlow::Continue(())) };
        from.clone_from(last);
        from.push(0);
        for (key, value) in &page {
            let position =
                u64_be(key, 1).ok_or_else(|| StoreError("the key of a record is not of its form".into()))?;
            if each(position, value)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

pub(super) fn unreadable(directory: &Path, error: &StoreError) -> Refusal {
    Refusal::new(RefusalKind::StoreUnreadable, directory.join(STORE_FOLDER), error.0.clone())
}
