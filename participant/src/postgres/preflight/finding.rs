//! What preflight has to say.

use std::fmt;

use votum_proto::names::ParticipantName;

use super::checks::Check;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It works, and some day it will not.
    Warning,
    /// Transactions fail there, or what they promise does not hold.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Where a remedy belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Statements, for a superuser of the server in the participant's database.
    Database,
    /// Options of the command that starts the server.
    StartCommand,
    /// A line of the server's `pg_hba.conf`.
    HostBasedAuthentication,
    /// The agent's configuration.
    AgentFile,
    /// The coordinator's configuration.
    CoordinatorFile,
    /// A shell.
    Shell,
    /// No line mends it: a person does.
    Person,
}

impl Place {
    /// As documents name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::StartCommand => "start command",
            Self::HostBasedAuthentication => "pg_hba.conf",
            Self::AgentFile => "agent configuration",
            Self::CoordinatorFile => "coordinator configuration",
            Self::Shell => "shell",
            Self::Person => "person",
        }
    }
}

/// What mends a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// Where its lines belong.
    pub place: Place,
    /// Statements or lines, to be taken as they are.
    pub lines: Vec<String>,
    /// What else is to be done, or to be considered before; may be empty.
    pub advice: String,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `VOTUM-22…`; `votumctl explain` has a page for it.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Whom it is about: several, where they share a server.
    pub participants: Vec<ParticipantName>,
    /// What was seen.
    pub seen: String,
    /// Why it matters.
    pub why: &'static str,
    /// What mends it.
    pub remedy: Remedy,
}

impl Finding {
    pub(super) fn new(
        check: &Check,
        severity: Severity,
        participants: Vec<ParticipantName>,
        seen: impl Into<String>,
        remedy: Remedy,
    ) -> Self {
        Self { code: check.code, severity, participants, seen: seen.into(), why: check.why, remedy }
    }

    /// The names of the participants, for people.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.participants.iter().map(ParticipantName::as_str).collect();
        names.join(", ")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. Remedy", self.seen, self.why)?;
        let Remedy { place, lines, advice } = &self.remedy;
        if !lines.is_empty() {
            write!(f, " ({}): {}", place.name(), lines.join("; "))?;
        }
        match (lines.is_empty(), advice.is_empty()) {
            (_, true) => Ok(()),
            (true, false) => write!(f, ": {advice}"),
            (false, false) => write!(f, " ({advice})"),
        }
    }
}
