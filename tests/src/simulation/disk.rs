//! The two files of a journal on a disk that forgets what was not forced, sector by sector as it likes, and
//! fails when told to.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use votum_coordinator::log::disk::{Disk, DiskError, Half};
use votum_coordinator::log::forgetful::ForgetfulFile;

use super::random::Random;

/// How a machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// The process dies: what it wrote is with the operating system.
    Killed,
    /// The power goes: of what was not forced, any sectors may have reached the disk.
    PowerLost,
}

/// What an operation that fails says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// EIO.
    InputOutput,
    /// ENOSPC, at a growing file only.
    Full,
}

/// The power goes: of what was not forced, some sectors are on the disk.
fn tear(file: &mut ForgetfulFile, random: &mut Random) {
    // All, none and some are equally worth a look.
    let share = *random.pick(&[0, 250, 500, 750, 1000]).unwrap_or(&0);
    file.tear(|write| write.sectors().filter(|_| random.chance(share)).collect::<Vec<_>>());
}

#[derive(Debug)]
struct Inner {
    a: ForgetfulFile,
    b: ForgetfulFile,
    /// The handle that may write; older ones are detached.
    holder: u64,
    /// After so many more operations one fails.
    failing: Option<(u64, Failure)>,
    random: Random,
}

impl Inner {
    fn file(&mut self, half: Half) -> &mut ForgetfulFile {
        match half {
            Half::A => &mut self.a,
            Half::B => &mut self.b,
        }
    }
}

/// The disk, as one process holds it. Clones are the same disk and the same holder.
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Inner>>,
    holder: u64,
}

impl SimulatedDisk {
    /// Two empty files.
    pub fn new(random: Random) -> Self {
        let inner = Inner {
            a: ForgetfulFile::default(),
            b: ForgetfulFile::default(),
            holder: 0,
            failing: None,
            random,
        };
        Self { inner: Arc::new(Mutex::new(inner)), holder: 0 }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle for a process that starts now. Every earlier one is detached: its operations fail.
    #[must_use]
    pub fn attach(&self) -> Self {
        let holder = {
            let mut inner = self.inner();
            inner.holder += 1;
            inner.failing = None;
            inner.holder
        };
        Self { inner: Arc::clone(&self.inner), holder }
    }

    /// The machine goes down.
    pub fn go_down(&self, how: Down) {
        let mut inner = self.inner();
        let Inner { a, b, random, .. } = &mut *inner;
        for file in [a, b] {
            match how {
                Down::Killed => file.force(),
                Down::PowerLost => tear(file, random),
            }
        }
    }

    /// The operation after `operations` more fails.
    pub fn fail_after(&self, operations: u64, how: Failure) {
        self.inner().failing = Some((operations, how));
    }

    /// Nothing is due to fail any more.
    pub fn heal(&self) {
        self.inner().failing = None;
    }

    /// A disk of its own that holds what would be there if the power went now, at worst.
    #[must_use]
    pub fn forced_copy(&self) -> Self {
        let inner = self.inner();
        let copy = Inner {
            a: inner.a.forced(),
            b: inner.b.forced(),
            holder: 0,
            failing: None,
            random: inner.random.clone(),
        };
        Self { inner: Arc::new(Mutex::new(copy)), holder: 0 }
    }

    fn operate(
        &self,
        doing: &'static str,
        half: Half,
        work: impl FnOnce(&mut ForgetfulFile),
    ) -> Result<(), DiskError> {
        let error = |why: &str| DiskError { doing, file: self.path(half), why: why.to_owned() };
        let mut inner = self.inner();
        if inner.holder != self.holder {
            return Err(error("the disk is attached elsewhere"));
        }
        let failing = match &mut inner.failing {
            None => None,
            Some((0, how)) => Some(*how),
            Some((left, _)) => {
                *left -= 1;
                None
            }
        };
        match failing {
            Some(Failure::Full) if doing == "extending" => {
                inner.failing = None;
                return Err(error("no space left on device"));
            }
            // A file that does not grow needs no space.
            Some(Failure::Full) | None => {}
            Some(Failure::InputOutput) => {
                inner.failing = None;
                work(inner.file(half));
                // The kernel gives up on what it could not write, and may have written some of it.
                let Inner { a, b, random, .. } = &mut *inner;
                for file in [a, b] {
                    tear(file, random);
                }
                return Err(error("input/output error"));
            }
        }
        work(inner.file(half));
        if doing == "forcing" || doing == "extending" {
            inner.file(half).force();
        }
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn path(&self, half: Half) -> PathBuf {
        half.file_name().into()
    }

    fn size(&mut self, half: Half) -> Result<u64, DiskError> {
        Ok(self.inner().file(half).view().len() as u64)
    }

    fn read(&mut self, half: Half) -> Result<Vec<u8>, DiskError> {
        Ok(self.inner().file(half).view())
    }

    fn write(&mut self, half: Half, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.operate("writing", half, |file| file.write(offset, bytes.to_vec()))
    }

    fn force(&mut self, half: Half) -> Result<(), DiskError> {
        self.operate("forcing", half, |_| {})
    }

    fn extend(&mut self, half: Half, size: u64) -> Result<(), DiskError> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.operate("extending", half, |file| file.extend(size))
    }
}
