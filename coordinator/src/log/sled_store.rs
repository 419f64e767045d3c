//! The store on sled 0.34.7: the only file that knows sled.
//!
//! What it is not trusted with: a decision still owed (the journal holds those), forcing (its flush does not
//! sync; a descriptor of our own, opened before its own, does), saying that it lost something (it is
//! counted), or failing without a panic (every call is caught).

use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::store::{Pair, Store, StoreError};

/// sled's data file within its folder.
pub(super) const DATA_FILE: &str = "db";
/// How often, and for how long at most, a lock that a closing store still holds is waited for.
const LOCK_WAIT: (Duration, u32) = (Duration::from_millis(20), 250);

/// sled, held at arm's length.
pub(super) struct SledStore {
    db: RwLock<Option<sled::Db>>,
    data: File,
    path: PathBuf,
}

impl SledStore {
    /// Opens the store in `folder`, which [`SledStore::create`] made, with a page cache of `cache_bytes`.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        remove_unfinished_snapshots(folder)?;
        Self::open_file(folder, cache_bytes, OpenOptions::new().read(true).write(true))
    }

    /// Makes an empty store in `folder`.
    pub(super) fn create(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder)
            .map_err(|error| StoreError(format!("{} cannot be created: {error}", folder.display())))?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).clone();
        Self::open_file(folder, cache_bytes, &options)
    }

    fn open_file(folder: &Path, cache_bytes: u64, options: &OpenOptions) -> Result<Self, StoreError> {
        let path = folder.join(DATA_FILE);
        let data = options
            .open(&path)
            .map_err(|error| StoreError(format!("{} cannot be opened: {error}", path.display())))?;
        read_through(&data, &path)?;
        let config = sled::Config::new()
            .path(folder)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .use_compression(false);
        let (pause, tries) = LOCK_WAIT;
        for _ in 0..tries {
            match guarded(&path, "opening", || config.open()) {
                Err(error) if error.0.contains("could not acquire lock") => std::thread::park_timeout(pause),
                Err(error) => return Err(error),
                Ok(db) => return Ok(Self { db: RwLock::new(Some(db)), data, path }),
            }
        }
        Err(StoreError(format!("{} is locked by another process", path.display())))
    }

    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, StoreError> {
        let held = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = held.as_ref() else { return Err(StoreError("the log is closed".into())) };
        guarded(&self.path, doing, || work(db))
    }
}

/// Runs `work`; damage makes sled panic as often as it makes it return an error.
fn guarded<T>(path: &Path, doing: &str, work: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(StoreError(format!("{doing} {} failed: {error}", path.display()))),
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no words");
            Err(StoreError(format!("{doing} {} met damage: {said}", path.display())))
        }
    }
}

/// What sled cannot read when it is opened it takes for damage, and overwrites: a disk that fails to read for
/// a moment would cost the history. So everything is read before sled may touch it; that also puts it into
/// the page cache, from which sled reads.
fn read_through(data: &File, path: &Path) -> Result<(), StoreError> {
    std::io::copy(&mut BufReader::with_capacity(1 << 20, data), &mut std::io::sink())
        .map(drop)
        .map_err(|error| StoreError(format!("reading {} failed: {error}", path.display())))
}

/// A snapshot that a crash interrupted makes sled refuse to open; it holds nothing that the data file does
/// not.
fn remove_unfinished_snapshots(folder: &Path) -> Result<(), StoreError> {
    let failed =
        |error: std::io::Error| StoreError(format!("{} cannot be listed: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(&path)
                .map_err(|error| StoreError(format!("{} cannot be removed: {error}", path.display())))?;
        }
    }
    Ok(())
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with("reading", |db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.with("writing", |db| db.insert(key, value).map(drop))
    }

    fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.with("writing", |db| db.remove(key).map(drop))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.with("reading", |db| db.range(from..to).take(limit).map(owned).collect())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.with("reading", |db| db.range(from..to).rev().take(limit).map(owned).collect())
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        self.with("flushing", |db| db.flush().map(drop))?;
        self.data
            .sync_data()
            .map_err(|error| StoreError(format!("forcing {} failed: {error}", self.path.display())))
    }

    fn close(&self) {
        let db = self.db.write().unwrap_or_else(PoisonError::into_inner).take();
        // Dropping sled writes what it still has; a panic in there must not end the closing thread.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(db)));
    }
}

fn owned(pair: sled::Result<(sled::IVec, sled::IVec)>) -> sled::Result<Pair> {
    pair.map(|(key, value)| (key.to_vec(), value.to_vec()))
}
