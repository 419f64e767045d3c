//! Why a log is not opened: a stable code, the file, the place in it, what it means, what to do.

use std::fmt;
use std::path::PathBuf;

/// What kind of trouble keeps a log closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The directory is missing, empty, or its initialization was interrupted.
    NotInitialized,
    /// `initialize` met a directory that is not empty.
    NotEmpty,
    /// Another process has the directory.
    InUse,
    /// The operating system refused an operation.
    Io,
    /// A file of the log is not there.
    MissingFile,
    /// A file is shorter than the log itself says it was.
    Truncated,
    /// Bytes that were once forced are not what was written.
    Damaged,
    /// The two halves of the journal are not of one log, or not of one time.
    HalvesDisagree,
    /// The log belongs to another coordinator.
    OtherCoordinator,
    /// The log was written by a newer version, or holds a record of an unknown kind.
    UnknownFormat,
    /// The store cannot be opened or read.
    StoreUnreadable,
    /// The store lacks records that the journal no longer holds, or does not belong to this journal.
    StoreIncomplete,
}

impl RefusalKind {
    /// The stable code, which `votumctl explain` opens.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotInitialized => "VOTUM-1101",
            Self::NotEmpty => "VOTUM-1102",
            Self::InUse => "VOTUM-1103",
            Self::Io => "VOTUM-1104",
            Self::MissingFile => "VOTUM-1105",
            Self::Truncated => "VOTUM-1106",
            Self::Damaged => "VOTUM-1107",
            Self::HalvesDisagree => "VOTUM-1108",
            Self::OtherCoordinator => "VOTUM-1109",
            Self::UnknownFormat => "VOTUM-1110",
            Self::StoreUnreadable => "VOTUM-1111",
            Self::StoreIncomplete => "VOTUM-1112",
        }
    }

    /// What it means for the transactions.
    fn meaning(self) -> &'static str {
        match self {
            Self::NotInitialized => {
                "there is no log here; a log begun by mistake would presume every transaction in doubt aborted"
            }
            Self::NotEmpty => "something is here already, and a new log must never be laid over an old one",
            Self::InUse => "another coordinator is running on this log; two would decide against each other",
            Self::Io => "the log cannot be trusted until the disk works; nothing was decided by this attempt",
            Self::MissingFile => "decisions that were forced may be in that file",
            Self::Truncated => "decisions that were forced stood in the part that is gone",
            Self::Damaged => "decisions that were forced can no longer be read there",
            Self::HalvesDisagree => "the two files are not of one log at one time; one was replaced",
            Self::OtherCoordinator => {
                "its decisions are those of another coordinator and say nothing about this one's transactions"
            }
            Self::UnknownFormat => "reading on would skip a record, and a record skipped is a decision lost",
            Self::StoreUnreadable | Self::StoreIncomplete => {
                "decisions still owed are delivered from the journal; of everything else absence means nothing, \
                 so nothing is presumed aborted and nothing is begun"
            }
        }
    }

    /// What to do.
    fn remedy(self) -> &'static str {
        match self {
            Self::NotInitialized => {
                "check the configured directory; for a new coordinator run `votum-coordinator init`"
            }
            Self::NotEmpty => "choose an empty directory, or move what is in this one away",
            Self::InUse => "stop the other process, or configure another directory",
            Self::Io => "repair the disk, its space or its permissions, then start again",
            Self::MissingFile => "put the file back, or restore the whole directory from a backup",
            Self::Truncated | Self::Damaged => {
                "restore the directory from a backup; `votumctl log salvage` lists every record that is intact"
            }
            Self::HalvesDisagree => {
                "put the right file back, or restore the whole directory from one backup; `votumctl log \
                 salvage` lists every record that is intact"
            }
            Self::OtherCoordinator => "correct coordinator_id or the directory in the configuration",
            Self::UnknownFormat => "start the version of Votum that wrote this log, or a newer one",
            Self::StoreUnreadable | Self::StoreIncomplete => {
                "see that the disk can be read and has room, and start again; if that does not help, stop the \
                 coordinator, keep a copy of the directory, and restore the whole directory from one backup; \
                 `votumctl log verify` names what is wrong, `votumctl log salvage` lists what is intact"
            }
        }
    }
}

/// A log that is not opened, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// What kind of trouble.
    pub kind: RefusalKind,
    /// The file or directory.
    pub file: PathBuf,
    /// Where in it, in bytes, when one place is to blame.
    pub offset: Option<u64>,
    /// What was found there.
    pub found: String,
}

impl Refusal {
    /// A refusal about a whole file.
    pub fn new(kind: RefusalKind, file: impl Into<PathBuf>, found: impl Into<String>) -> Self {
        Self { kind, file: file.into(), offset: None, found: found.into() }
    }

    /// The same, about one place in the file.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        write!(
            f,
            ": {}. That means: {}. What to do: {}.",
            self.found,
            self.kind.meaning(),
            self.kind.remedy()
        )
    }
}
