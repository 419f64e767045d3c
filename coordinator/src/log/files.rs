//! The real files: the two halves of the journal, the lock, and what is done to them before they are read.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::config::LOCK_FILE;
use super::disk::{Disk, DiskError, Half};
use super::refusal::{Refusal, RefusalKind};

/// The journal's files in a directory.
pub(super) struct Files {
    directory: PathBuf,
    a: File,
    b: File,
}

impl Files {
    /// Opens both halves.
    pub(super) fn open(directory: &Path) -> Result<Self, Refusal> {
        Self::with(directory, OpenOptions::new().read(true).write(true))
    }

    /// Opens both halves for reading alone: writing to them is an error.
    pub(super) fn open_read_only(directory: &Path) -> Result<Self, Refusal> {
        Self::with(directory, OpenOptions::new().read(true))
    }

    /// Creates both halves, empty.
    pub(super) fn create(directory: &Path) -> Result<Self, Refusal> {
        // Secrets are derived from a key in the log: nobody else reads it.
        let mut options = OpenOptions::new();
        Self::with(directory, options.read(true).write(true).create(true).truncate(true).mode(0o600))
    }

    fn with(directory: &Path, options: &OpenOptions) -> Result<Self, Refusal> {
        let open = |half: Half| {
            let path = directory.join(half.file_name());
            options.open(&path).map_err(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    Refusal::new(RefusalKind::MissingFile, path, "it is not there")
                } else {
                    refused(&path, "opening", &error)
                }
            })
        };
        Ok(Self { a: open(Half::A)?, b: open(Half::B)?, directory: directory.to_owned() })
    }

    fn file(&mut self, half: Half) -> &mut File {
        match half {
            Half::A => &mut self.a,
            Half::B => &mut self.b,
        }
    }

    fn tried<T>(&self, doing: &'static str, half: Half, result: io::Result<T>) -> Result<T, DiskError> {
        result.map_err(|error| DiskError { doing, file: self.path(half), why: error.to_string() })
    }
}

/// Zeros are written in pieces of this many bytes.
const PIECE: usize = 1 << 20;

impl Disk for Files {
    fn path(&self, half: Half) -> PathBuf {
        self.directory.join(half.file_name())
    }

    fn size(&mut self, half: Half) -> Result<u64, DiskError> {
        let size = self.file(half).metadata().map(|metadata| metadata.len());
        self.tried("measuring", half, size)
    }

    fn read(&mut self, half: Half) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::new();
        let file = self.file(half);
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
        self.tried("reading", half, read)?;
        Ok(bytes)
    }

    fn write(&mut self, half: Half, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let written = self.file(half).write_all_at(bytes, offset);
        self.tried("writing", half, written)
    }

    fn force(&mut self, half: Half) -> Result<(), DiskError> {
        let forced = self.file(half).sync_data();
        self.tried("forcing", half, forced)
    }

    fn extend(&mut self, half: Half, size: u64) -> Result<(), DiskError> {
        let mut at = self.size(half)?;
        let zeros = vec![0; PIECE];
        while at < size {
            let piece = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
            self.write(half, at, zeros.get(..piece).unwrap_or(&zeros))?;
            at += piece as u64;
        }
        let forced = self.file(half).sync_all();
        self.tried("extending", half, forced)
    }
}

/// Creates a folder that only its owner may enter, with its parents; one that exists is left as it is.
pub(super) fn create_private(folder: &Path) -> Result<(), Refusal> {
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|error| refused(folder, "creating", &error))
}

/// Takes the directory for this process, until the file is dropped.
pub(super) fn lock(directory: &Path) -> Result<File, Refusal> {
    let path = directory.join(LOCK_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| refused(&path, "opening", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Refusal::new(
            RefusalKind::InUse,
            path,
            "it is locked by another process, or another log here",
        )),
        Err(TryLockError::Error(error)) => Err(refused(&path, "locking", &error)),
    }
}

/// Forces a file, or every file in a folder, and lets the system forget what it has cached of it: after an
/// error the page cache shows what the disk does not hold.
pub(super) fn force_and_forget(path: &Path) -> Result<(), Refusal> {
    if path.is_dir() {
        for inner in entries(path)? {
            force_and_forget(&inner)?;
        }
        return force_directory(path);
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| refused(path, "opening", &error))?;
    file.sync_all().map_err(|error| refused(path, "forcing", &error))?;
    // A file system without a page cache has nothing to forget.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(())
}

/// Forces the names in `directory`.
pub(super) fn force_directory(directory: &Path) -> Result<(), Refusal> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| refused(directory, "forcing the directory", &error))
}

/// What is in `directory`.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            paths.push(entry?.path());
        }
        paths.sort();
        Ok(paths)
    };
    read().map_err(|error| refused(directory, "listing", &error))
}

/// A refused operation, as a refusal.
pub(super) fn refused(path: &Path, doing: &str, error: &io::Error) -> Refusal {
    Refusal::new(RefusalKind::Io, path, format!("{doing} it failed: {error}"))
}
