//! A disk and a store in memory, for simulations and tests: the disk forgets what was not forced, tears what
//! was being written, and fails when told to.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskError, Half};
use super::forgetful::{ForgetfulFile, ForgetfulMap, Unforced};
use super::store::{Pair, Store, StoreError};

/// What happens to the operation that is due to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes before it; nothing that was not forced is left.
    PowerLost,
    /// The power goes during it: so many bytes of the last write reached the disk.
    Torn(usize),
    /// The power goes during it: of the last write, every second sector of 512 bytes reached the disk, the
    /// first one or not.
    Holes(bool),
    /// The power goes during it: so many bytes at the beginning of the last write did not reach the disk,
    /// the others did.
    Headless(usize),
    /// The process dies after it was handed to the system; everything written survives.
    Killed,
    /// The operation fails and the process goes on.
    Error,
}

impl Fault {
    /// What of a write that was not forced is on the disk afterwards; `torn`: it is the one that was going on.
    fn reached(self, write: Unforced, torn: bool) -> Vec<Range<usize>> {
        let only = |part: Range<usize>| std::iter::once(part).collect();
        match self {
            Self::Killed => only(0..write.length),
            Self::Torn(length) if torn => only(0..length.min(write.length)),
            Self::Headless(missing) if torn => only(missing.min(write.length)..write.length),
            // Every second sector.
            Self::Holes(first) if torn => write.sectors().skip(usize::from(!first)).step_by(2).collect(),
            Self::PowerLost | Self::Torn(_) | Self::Headless(_) | Self::Holes(_) | Self::Error => Vec::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    a: ForgetfulFile,
    b: ForgetfulFile,
    operations: usize,
    fault: Option<(usize, Fault)>,
    /// After a loss of power or a kill nothing works until [`MemoryDisk::restart`].
    down: bool,
}

impl Inner {
    fn file(&mut self, half: Half) -> &mut ForgetfulFile {
        match half {
            Half::A => &mut self.a,
            Half::B => &mut self.b,
        }
    }
}

/// Two files in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Inner>>);

impl MemoryDisk {
    /// Two empty files.
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operation (write, force or extension) with this number, counted from 0 since the disk was made
    /// or restarted, meets `fault`.
    pub fn fail_at(&self, operation: usize, fault: Fault) {
        self.inner().fault = Some((operation, fault));
    }

    /// How many operations there were since the disk was made or restarted.
    pub fn operations(&self) -> usize {
        self.inner().operations
    }

    /// Whether a fault has taken the machine down.
    pub fn is_down(&self) -> bool {
        self.inner().down
    }

    /// The power goes now, or comes back: what was not forced is gone.
    pub fn restart(&self) {
        let mut inner = self.inner();
        for half in Half::BOTH {
            inner.file(half).tear(|_| None);
        }
        inner.operations = 0;
        inner.fault = None;
        inner.down = false;
    }

    /// The process dies and comes back: everything written is still there.
    pub fn restart_process(&self) {
        {
            let mut inner = self.inner();
            for half in Half::BOTH {
                inner.file(half).force();
            }
        }
        self.restart();
    }

    /// A copy of what is on disk, for damage to be done to.
    pub fn bytes(&self, half: Half) -> Vec<u8> {
        self.inner().file(half).view()
    }

    /// Replaces what is on disk.
    pub fn set_bytes(&self, half: Half, bytes: Vec<u8>) {
        *self.inner().file(half) = ForgetfulFile::holding(bytes);
    }

    /// A disk of its own with the same bytes.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        for half in Half::BOTH {
            copy.set_bytes(half, self.bytes(half));
        }
        copy
    }

    /// Counts an operation, and lets its fault happen.
    fn operate(
        &self,
        doing: &'static str,
        half: Half,
        work: impl FnOnce(&mut ForgetfulFile),
    ) -> Result<(), DiskError> {
        let error = |why: &str| DiskError { doing, file: self.path(half), why: why.to_owned() };
        let mut inner = self.inner();
        if inner.down {
            return Err(error("the machine is down"));
        }
        let number = inner.operations;
        inner.operations += 1;
        match inner.fault {
            Some((at, fault)) if at == number => {
                if fault == Fault::Error {
                    return Err(error("input/output error"));
                }
                if fault != Fault::PowerLost {
                    work(inner.file(half));
                }
                for each in Half::BOTH {
                    // Of everything but the last write to this file nothing reaches the disk.
                    let is_here = each == half;
                    inner.file(each).tear(|write| fault.reached(write, is_here && write.is_last));
                }
                inner.down = true;
                Err(error("the machine went down"))
            }
            Some(_) | None => {
                work(inner.file(half));
                Ok(())
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn path(&self, half: Half) -> PathBuf {
        half.file_name().into()
    }

    fn size(&mut self, half: Half) -> Result<u64, DiskError> {
        Ok(self.bytes(half).len() as u64)
    }

    fn read(&mut self, half: Half) -> Result<Vec<u8>, DiskError> {
        Ok(self.bytes(half))
    }

    fn write(&mut self, half: Half, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.operate("writing", half, |file| file.write(offset, bytes.to_vec()))
    }

    fn force(&mut self, half: Half) -> Result<(), DiskError> {
        self.operate("forcing", half, ForgetfulFile::force)
    }

    fn extend(&mut self, half: Half, size: u64) -> Result<(), DiskError> {
        self.operate("extending", half, |file| {
            file.extend(usize::try_from(size).unwrap_or(usize::MAX));
            file.force();
        })
    }
}

/// A store in memory. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Shelves>>);

#[derive(Debug, Default)]
struct Shelves {
    map: ForgetfulMap,
    broken: Option<String>,
    /// How many more writes succeed.
    writes_left: Option<usize>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes: what was not made durable is gone.
    pub fn restart(&self) {
        let mut shelves = self.shelves();
        shelves.map.lose_all_but(0);
        shelves.broken = None;
        shelves.writes_left = None;
    }

    /// So many more writes succeed; then every operation fails, until a restart.
    pub fn stop_after(&self, writes: usize) {
        self.shelves().writes_left = Some(writes);
    }

    /// Whether [`MemoryStore::stop_after`] has come about, or [`MemoryStore::break_down`].
    pub fn is_stopped(&self) -> bool {
        self.shelves().broken.is_some()
    }

    /// The process dies and comes back: everything written is still there.
    pub fn restart_process(&self) {
        let mut shelves = self.shelves();
        shelves.map.force();
        shelves.broken = None;
        shelves.writes_left = None;
    }

    /// Every later operation fails, until a restart.
    pub fn break_down(&self, why: &str) {
        self.shelves().broken = Some(why.to_owned());
    }

    /// A store of its own with the same contents.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Shelves { map: self.shelves().map.clone(), ..Shelves::default() };
        Self(Arc::new(Mutex::new(copy)))
    }

    fn whole(&self) -> Result<MutexGuard<'_, Shelves>, StoreError> {
        let shelves = self.shelves();
        match &shelves.broken {
            Some(why) => Err(StoreError(why.clone())),
            None => Ok(shelves),
        }
    }

    /// For a write: the count goes down.
    fn writable(&self) -> Result<MutexGuard<'_, Shelves>, StoreError> {
        let mut shelves = self.whole()?;
        match shelves.writes_left {
            Some(0) => {
                let why = "the process died".to_owned();
                shelves.broken = Some(why.clone());
                Err(StoreError(why))
            }
            Some(left) => {
                shelves.writes_left = Some(left - 1);
                Ok(shelves)
            }
            None => Ok(shelves),
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.whole()?.map.get(key))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.writable()?.map.set(key, Some(value));
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.writable()?.map.set(key, None);
        Ok(())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(self.whole()?.map.range(from, to).take(limit).collect())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(self.whole()?.map.range(from, to).rev().take(limit).collect())
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        self.writable()?.map.force();
        Ok(())
    }

    fn close(&self) {}
}
