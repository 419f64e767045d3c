//! The two files of the journal, as the discipline sees them.

use std::path::PathBuf;

/// One half of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// `journal-a`.
    A,
    /// `journal-b`.
    B,
}

impl Half {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The name of its file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::A => "journal-a",
            Self::B => "journal-b",
        }
    }
}

/// An operation on a file that the operating system refused. Nobody knows what is on the disk then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing} {} failed: {why}", file.display())]
pub struct DiskError {
    /// What was attempted: "writing", "forcing".
    pub doing: &'static str,
    /// The file.
    pub file: PathBuf,
    /// As the operating system says it.
    pub why: String,
}

/// The two files of the journal. Nothing written counts until [`Disk::force`] has returned.
pub trait Disk {
    /// The name of a half's file, for people.
    fn path(&self, half: Half) -> PathBuf;
    /// The size of a half's file, in bytes.
    ///
    /// # Errors
    /// As the operating system has it.
    fn size(&mut self, half: Half) -> Result<u64, DiskError>;
    /// All bytes of a half.
    ///
    /// # Errors
    /// As the operating system has it.
    fn read(&mut self, half: Half) -> Result<Vec<u8>, DiskError>;
    /// Overwrites bytes within the file's size.
    ///
    /// # Errors
    /// As the operating system has it.
    fn write(&mut self, half: Half, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Everything written to this half is on disk when this returns. One fdatasync.
    ///
    /// # Errors
    /// As the operating system has it; what was written since the last success is then unknown for ever.
    fn force(&mut self, half: Half) -> Result<(), DiskError>;
    /// Makes the file `size` bytes long by writing zeros behind its end, and forces them with the new size.
    ///
    /// # Errors
    /// As the operating system has it.
    fn extend(&mut self, half: Half, size: u64) -> Result<(), DiskError>;
}
