//! What was measured, as a table for people and as JSON for programs.

mod machine;
mod round;
mod spread;
mod summary;
mod table;

use std::fmt;

use serde::Serialize;

use crate::arguments::Arguments;
pub(crate) use machine::Machine;
pub(crate) use round::Round;
pub(crate) use spread::Spread;
pub(crate) use summary::Summary;

/// The whole of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: &'static str,
    pub(crate) settings: Settings,
    machine: Machine,
    pub(crate) summary: Vec<Summary>,
    rounds: Vec<Round>,
}

/// What was the same in all measurements of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    participants: u32,
    seconds: u64,
    warmup_seconds: u64,
    rounds: u32,
    threads: u16,
    read_percent: u8,
    hot_rows: Option<u32>,
    /// `None` where the installation is not our own.
    over: Option<String>,
    commit_marker: bool,
}

impl Report {
    /// Sums up `rounds`.
    ///
    /// # Errors
    /// As [`Summary::of`].
    pub(crate) fn new(arguments: &Arguments, machine: Machine, rounds: Vec<Round>) -> anyhow::Result<Self> {
        let mut summary = Vec::new();
        for point in arguments.points() {
            for contender in arguments.contenders() {
                summary.extend(Summary::of(contender, point, &rounds)?);
            }
        }
        let version = env!("CARGO_PKG_VERSION");
        Ok(Self { version, settings: Settings::of(arguments), machine, summary, rounds })
    }
}

impl Settings {
    fn of(arguments: &Arguments) -> Self {
        Self {
            participants: arguments.participants,
            seconds: arguments.window().as_secs(),
            warmup_seconds: arguments.warmup().as_secs(),
            rounds: arguments.rounds,
            threads: arguments.threads,
            read_percent: arguments.read_percent,
            hot_rows: arguments.hot_rows,
            over: arguments.coordinator.is_none().then(|| arguments.over.to_string()),
            commit_marker: arguments.commit_marker,
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { participants, seconds, rounds, .. } = self;
        write!(f, "Rounds: {rounds}, {seconds} s each. Banks in every transaction: {participants}")?;
        if self.read_percent > 0 {
            write!(f, ", {} % of which only read", self.read_percent)?;
        }
        match self.hot_rows {
            Some(rows) => write!(f, ", all on the same {rows} rows")?,
            None => f.write_str(", each worker on rows of its own")?,
        }
        if let Some(over) = &self.over {
            write!(f, ", over {over}")?;
        }
        if self.commit_marker {
            f.write_str(", every branch with a commit marker")?;
        }
        f.write_str(". Throughput is the median of the rounds; latencies are those of all rounds together.")
    }
}
