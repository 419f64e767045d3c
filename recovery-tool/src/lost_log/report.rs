//! The report: one JSON document on each line, forced before what it tells of is done, and after. It is what an
//! interrupted run is continued from, and evidence of who decided what, and why.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use votum_participant::postgres::lost_log::Action;
use votum_proto::names::{CoordinatorId, Gtid};

use super::evidence::{Branch, Database, Evidence, Mark, Sight};
use crate::failure::Failure;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A run begins: everything behind it up to the next one is its.
    Run { coordinator_id: String, version: String, operator: String, reason: String, databases: Vec<Looked> },
    /// How a transaction is to end. Stands for ever.
    Decided {
        #[serde(with = "as_text")]
        gtid: Gtid,
        action: String,
        verdict: String,
        /// Nobody where the evidence proves it.
        operator: Option<String>,
        reason: Option<String>,
        known: String,
        prepared: Vec<Prepared>,
        markers: Vec<Marker>,
    },
    /// A statement is about to be sent.
    Attempt {
        #[serde(with = "as_text")]
        gtid: Gtid,
        branch: Prepared,
        statement: String,
    },
    /// What became of it.
    Result {
        #[serde(with = "as_text")]
        gtid: Gtid,
        branch: Prepared,
        result: Outcome,
        detail: Option<String>,
    },
    /// A transaction was left alone although it was to be settled.
    Held {
        #[serde(with = "as_text")]
        gtid: Gtid,
        why: String,
    },
    /// A run ended.
    End { settled: usize, left: usize },
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The database carried it out.
    Done,
    /// It is gone, and its marker says that it committed.
    FoundCommitted,
    /// It is gone, and its marker says that it never can commit.
    FoundNeverCommits,
    /// It is gone, and nothing says how it ended.
    Unknown,
    /// Other work is prepared under its name: nothing was done.
    OtherWork,
    /// The database refused: nothing was done.
    Refused,
}

impl Outcome {
    /// As it stands in reports and documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::FoundCommitted => "found_committed",
            Self::FoundNeverCommits => "found_never_commits",
            Self::Unknown => "unknown",
            Self::OtherWork => "other_work",
            Self::Refused => "refused",
        }
    }
}

/// A database as a run saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Looked {
    participant: String,
    server: String,
    database: String,
    /// Why it was not read.
    trouble: Option<String>,
}

/// A prepared branch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Prepared {
    pub(crate) participant: String,
    /// As text: it has more digits than programs keep of a number.
    pub(crate) system_identifier: String,
    pub(crate) gid: String,
    pub(crate) xid: u32,
    owner: String,
    prepared_at: String,
}

/// A commit marker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) participant: String,
    pub(crate) branch: u16,
    pub(crate) committed: bool,
}

impl From<&Database> for Looked {
    fn from(database: &Database) -> Self {
        let trouble = match &database.sight {
            Sight::Unread(why) => Some(why.clone()),
            Sight::Read { .. } | Sight::SameAs(_) => None,
        };
        Self {
            participant: database.participant.clone(),
            server: database.server.clone(),
            database: database.database.clone(),
            trouble,
        }
    }
}

impl From<&Branch> for Prepared {
    fn from(branch: &Branch) -> Self {
        Self {
            participant: branch.participant.clone(),
            system_identifier: branch.system_identifier.to_string(),
            gid: branch.gid.to_string(),
            xid: branch.xid,
            owner: branch.owner.clone(),
            prepared_at: branch.prepared_at.clone(),
        }
    }
}

impl From<&Mark> for Marker {
    fn from(mark: &Mark) -> Self {
        let Mark { participant, branch, committed } = mark;
        Self { participant: participant.clone(), branch: *branch, committed: *committed }
    }
}

/// What was decided of a transaction in an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) action: Action,
    pub(crate) operator: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) markers: BTreeSet<Marker>,
}

/// What the runs before this one wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Earlier {
    pub(crate) decided: BTreeMap<Gtid, Decided>,
    /// The transaction ids under which each branch was ever seen, by participant and name.
    pub(crate) xids: BTreeMap<(String, String), BTreeSet<u32>>,
    /// Attempts of which nobody wrote how they ended.
    pub(crate) open: Vec<(Gtid, Prepared)>,
}

/// A report that is written to.
#[derive(Debug)]
pub(crate) struct Report {
    file: File,
    path: PathBuf,
}

/// A report that cannot be gone on with.
fn broken(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::broken("", format!("the report {}: {what}", path.display()))
}

/// What stands in a report, if there is one.
///
/// # Errors
/// When it cannot be read, or is another coordinator's, or no report.
pub(crate) fn earlier(path: &Path, coordinator: &CoordinatorId) -> Result<Earlier, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => read(&text(&bytes), coordinator).map_err(|what| broken(path, what)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Earlier::default()),
        Err(error) => Err(broken(path, format!("it cannot be read: {error}"))),
    }
}

impl Report {
    /// Opens a report to go on with, or begins one; nobody else writes to it meanwhile. Answers also what stood
    /// there.
    ///
    /// # Errors
    /// As [`earlier`]; or when it cannot be written, or another run writes to it.
    pub(crate) fn open(path: &Path, coordinator: &CoordinatorId) -> Result<(Self, Earlier), Failure> {
        let unwritable = |error: std::io::Error| broken(path, format!("it cannot be written: {error}"));
        let mut file = File::options().read(true).append(true).create(true).open(path).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(broken(path, "another run writes to it at this moment: wait for its end"));
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| broken(path, format!("it cannot be read: {error}")))?;
        let earlier = read(&text(&bytes), coordinator).map_err(|what| broken(path, what))?;
        if bytes.last().is_some_and(|last| *last != b'\n') {
            // What an interrupted run left of its last line stays as it is.
            file.write_all(b"\n").map_err(unwritable)?;
        }
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritable)?;
        Ok((Self { file, path: path.to_owned() }, earlier))
    }

    /// Appends a line, and forces it. `at_ms` is the wall clock, for people.
    ///
    /// # Errors
    /// When that fails: nothing may be done then.
    pub(crate) fn append(&mut self, entry: &Entry, at_ms: u64) -> Result<(), Failure> {
        let written = serde_json::to_string(&Line { at_ms, entry: entry.clone() })
            .map_err(std::io::Error::from)
            .and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()))
            .and_then(|()| self.file.sync_all());
        written.map_err(|error| {
            broken(
                &self.path,
                format!(
                    "a line could not be written: {error}. Nothing is done that does not stand there: make room, \
                     and run the same command again"
                ),
            )
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    at_ms: u64,
    #[serde(flatten)]
    entry: Entry,
}

/// What was cut off within a character is not read in any case.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// How every line begins.
const BEGINNING: &str = "{\"at_ms\":";

/// Reads the lines. What a run that was interrupted left of a line is passed over: it is the last one, or a new
/// run begins behind it.
fn read(text: &str, coordinator: &CoordinatorId) -> Result<Earlier, String> {
    let mut earlier = Earlier::default();
    let mut torn = None;
    for (number, line) in text.lines().enumerate() {
        let Ok(Line { entry, .. }) = serde_json::from_str(line) else {
            let begun = line.starts_with(BEGINNING) || BEGINNING.starts_with(line);
            if torn.is_some() || !begun {
                return Err(no_report(number + 1));
            }
            torn = Some(number + 1);
            continue;
        };
        let begins = matches!(entry, Entry::Run { .. });
        match torn.take() {
            Some(number) if !begins => return Err(no_report(number)),
            None if number == 0 && !begins => return Err(no_report(1)),
            Some(_) | None => earlier.note(entry, coordinator)?,
        }
    }
    Ok(earlier)
}

fn no_report(line: usize) -> String {
    format!("line {line} is none that this command wrote; take another file, or the report as it was")
}

impl Earlier {
    fn note(&mut self, entry: Entry, coordinator: &CoordinatorId) -> Result<(), String> {
        match entry {
            Entry::Run { coordinator_id, .. } if coordinator_id != coordinator.as_str() => {
                return Err(format!("it is of coordinator {coordinator_id}: take another file"));
            }
            Entry::Decided { gtid, action, operator, reason, prepared, markers, .. } => {
                let action = super::action(&action).ok_or_else(|| format!("{action:?} is no decision"))?;
                prepared.iter().for_each(|branch| self.seen(branch));
                let decided = Decided { action, operator, reason, markers: markers.into_iter().collect() };
                // The first one stands.
                self.decided.entry(gtid).or_insert(decided);
            }
            Entry::Attempt { gtid, branch, .. } => {
                self.seen(&branch);
                self.open.retain(|(_, open)| *open != branch);
                self.open.push((gtid, branch));
            }
            Entry::Result { branch, .. } => self.open.retain(|(_, open)| *open != branch),
            Entry::Run { .. } | Entry::Held { .. } | Entry::End { .. } => {}
        }
        Ok(())
    }

    fn seen(&mut self, branch: &Prepared) {
        let name = (branch.participant.clone(), branch.gid.clone());
        self.xids.entry(name).or_default().insert(branch.xid);
    }
}

/// A transaction's name as people write it.
mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de};
    use votum_proto::names::Gtid;

    pub(super) fn serialize<S: Serializer>(gtid: &Gtid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(gtid)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Gtid, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// What a transaction looked like when it was decided.
pub(crate) fn seen(evidence: &Evidence) -> (Vec<Prepared>, Vec<Marker>) {
    (
        evidence.prepared.iter().map(Prepared::from).collect(),
        evidence.marks.iter().map(Marker::from).collect(),
    )
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
