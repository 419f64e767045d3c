//! The log's records, and what is to be said of its files.

use std::path::{Path, PathBuf};

use serde::Serialize;
use votum_coordinator::log::KnownLife;
use votum_coordinator::log::offline::{Dumped, Report};
use votum_coordinator::log::refusal::Refusal;
use votum_coordinator::log::salvage::{Salvaged, Trust};
use votum_proto::v1;

use crate::failure::Exit;

/// One record, in the history of one transaction.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LogRecord {
    pub(crate) position: u64,
    pub(crate) kind: String,
    /// Running time of the log when it was written.
    pub(crate) running_ms: u64,
    pub(crate) text: String,
}

impl From<v1::LogRecord> for LogRecord {
    fn from(record: v1::LogRecord) -> Self {
        Self {
            position: record.position,
            kind: record.kind,
            running_ms: record.running_ms,
            text: record.text,
        }
    }
}

/// One record of a dump.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DumpedRecord {
    pub(crate) position: u64,
    pub(crate) running_ms: u64,
    pub(crate) kind: &'static str,
    pub(crate) gtid: Option<String>,
    pub(crate) text: String,
    /// The file, or the folder, that holds it.
    pub(crate) source: String,
}

impl From<Dumped> for DumpedRecord {
    fn from(dumped: Dumped) -> Self {
        let Dumped { position, running_ms, source, record } = dumped;
        Self {
            position,
            running_ms,
            kind: record.kind(),
            gtid: record.gtid().map(ToString::to_string),
            text: record.to_string(),
            source: source.display().to_string(),
        }
    }
}

/// One intact record of a log that may be broken.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SalvagedRecord {
    pub(crate) source: String,
    /// Where its batch begins in the file; null in the store.
    pub(crate) offset: Option<u64>,
    /// The epoch and incarnation that wrote it; null in the store.
    pub(crate) life: Option<String>,
    pub(crate) position: u64,
    pub(crate) running_ms: u64,
    /// It stands outside an unbroken chain of batches: never a decision.
    pub(crate) doubtful: bool,
    /// Null where the bytes are intact and their meaning is not known.
    pub(crate) kind: Option<&'static str>,
    pub(crate) gtid: Option<String>,
    pub(crate) text: String,
}

impl From<Salvaged> for SalvagedRecord {
    fn from(salvaged: Salvaged) -> Self {
        let (kind, gtid, text) = match &salvaged.record {
            Ok(record) => (Some(record.kind()), record.gtid().map(ToString::to_string), record.to_string()),
            Err(error) => (None, None, error.to_string()),
        };
        Self {
            source: salvaged.source.display().to_string(),
            offset: salvaged.offset,
            life: salvaged.life.map(|life| life.to_string()),
            position: salvaged.position,
            running_ms: salvaged.running_ms,
            doubtful: match salvaged.trust {
                Trust::InChain => false,
                Trust::Doubtful => true,
            },
            kind,
            gtid,
            text,
        }
    }
}

/// The answer of `votumctl log verify`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verified {
    pub(crate) directory: String,
    /// Whether a coordinator would open it and trust all of it.
    pub(crate) ok: bool,
    pub(crate) coordinator_id: Option<String>,
    pub(crate) position: u64,
    pub(crate) running_ms: u64,
    /// Commits with an acknowledgement still owed.
    pub(crate) owed: u64,
    pub(crate) store_bytes: u64,
    pub(crate) halves: Vec<HalfFile>,
    pub(crate) lives: Vec<Life>,
    /// Damage that does no harm: the end of what a crash interrupted.
    pub(crate) warnings: Vec<String>,
    pub(crate) problems: Vec<Problem>,
}

/// One half of the journal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HalfFile {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    /// Whether records go there now.
    pub(crate) newest: bool,
}

/// One life of the coordinator.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Life {
    pub(crate) epoch: u64,
    pub(crate) incarnation: String,
    pub(crate) first_position: u64,
    pub(crate) last_position: u64,
    pub(crate) leased_until: u64,
}

/// What keeps a log from being opened or trusted.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) file: String,
    pub(crate) offset: Option<u64>,
    pub(crate) message: String,
}

/// A problem among the lines of a dump.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProblemLine {
    pub(crate) problem: Problem,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code(),
            file: refusal.file.display().to_string(),
            offset: refusal.offset,
            message: refusal.to_string(),
        }
    }
}

impl Verified {
    /// What was found in `directory`.
    pub(crate) fn new(directory: &Path, report: Report) -> Self {
        let half = |(file, bytes): (PathBuf, u64)| HalfFile {
            newest: report.newest.as_ref() == Some(&file),
            file: file.display().to_string(),
            bytes,
        };
        Self {
            directory: directory.display().to_string(),
            ok: report.problems.is_empty(),
            coordinator_id: report.identity.map(|identity| identity.coordinator_id.to_string()),
            position: report.position,
            running_ms: report.running_ms,
            owed: report.owed as u64,
            store_bytes: report.store_bytes,
            halves: report.half_bytes.into_iter().map(half).collect(),
            lives: report.lives.into_iter().map(Life::from).collect(),
            warnings: report.warnings,
            problems: report.problems.into_iter().map(Problem::from).collect(),
        }
    }

    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        if self.ok { Exit::Fine } else { Exit::Refused }
    }
}

impl From<KnownLife> for Life {
    fn from(life: KnownLife) -> Self {
        Self {
            epoch: life.begun.life.epoch.0,
            incarnation: life.begun.life.incarnation.to_string(),
            first_position: life.begun.first_position,
            last_position: life.last_position,
            leased_until: life.leased_until,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use votum_coordinator::log::refusal::RefusalKind;
    use votum_coordinator::protocol::record::{Begun, EpochBegun, Identity, Record};

    use super::*;

    fn life() -> votum_proto::names::Life {
        "acme-7-3f9ac2-1042".parse::<votum_proto::names::Gtid>().unwrap().life
    }

    fn begun() -> Record {
        Record::Begun(Begun {
            gtid: "acme-7-3f9ac2-1042".parse().unwrap(),
            label: "transfer".into(),
            client: "billing".into(),
            timeout_ms: 30_000,
        })
    }

    fn refusal() -> Refusal {
        Refusal::new(RefusalKind::Damaged, "/log/journal-b", "a batch is not what was written").at(8192)
    }

    pub(crate) fn dumped() -> Dumped {
        Dumped { position: 4709, running_ms: 69_709, source: "/log/journal-a".into(), record: begun() }
    }

    pub(crate) fn salvaged(trust: Trust) -> Salvaged {
        Salvaged {
            source: "/log/journal-a".into(),
            offset: Some(4096),
            life: Some(life()),
            position: 4709,
            running_ms: 69_709,
            trust,
            record: Ok(begun()),
        }
    }

    /// A log that is damaged: every key has a value.
    pub(crate) fn report() -> Report {
        let lives = vec![KnownLife {
            begun: EpochBegun { life: life(), first_position: 12 },
            leased_until: 4096,
            last_position: 4711,
        }];
        Report {
            identity: Some(Identity { coordinator_id: "acme".parse().unwrap(), key: [7; 32] }),
            newest: Some("/log/journal-a".into()),
            half_bytes: vec![("/log/journal-a".into(), 1 << 20), ("/log/journal-b".into(), 1 << 20)],
            position: 4711,
            running_ms: 69_709,
            owed: 1,
            lives,
            store_bytes: 5_120,
            warnings: vec!["the last batch was torn by a crash".into()],
            problems: vec![refusal()],
        }
    }

    #[test]
    fn a_log_with_a_problem_is_refused_and_one_with_a_warning_is_not() {
        assert_eq!(Verified::new(Path::new("/log"), report()).exit(), Exit::Refused);
        let torn = Report { problems: Vec::new(), ..report() };
        assert_eq!(Verified::new(Path::new("/log"), torn).exit(), Exit::Fine);
    }

    #[test]
    fn the_key_of_a_log_is_never_printed() {
        let identity = Record::Identity(Identity { coordinator_id: "acme".parse().unwrap(), key: [7; 32] });
        let document = DumpedRecord::from(Dumped { record: identity, ..dumped() });
        let printed = serde_json::to_string(&document).unwrap();
        assert!(
            printed.contains("acme") && !printed.contains("7, 7") && !printed.contains("7,7"),
            "{printed}"
        );
    }
}
