//! What was measured, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Serialize, Serializer};

use crate::arguments::Arguments;
use crate::bank::{Bank, Banks};
use crate::cpu::Group;
use crate::load::{Contender, Measured};

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    /// Processes that ran or wanted to, on average over the minute before: the machine's other work.
    load_before: Option<f64>,
    servers: Vec<Server>,
}

#[derive(Debug, Serialize)]
struct Server {
    participant: String,
    version: String,
    fsync: String,
    synchronous_commit: String,
    wal_sync_method: String,
}

impl Machine {
    /// Asks the machine and every server.
    ///
    /// # Errors
    /// As a server answers.
    pub(crate) async fn look(banks: &Banks) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        for Bank { participant, client, .. } in banks.iter() {
            let settings = "SELECT current_setting('server_version'), current_setting('fsync'),
                current_setting('synchronous_commit'), current_setting('wal_sync_method')";
            let row = client.query_one(settings, &[]).await?;
            servers.push(Server {
                participant: participant.clone(),
                version: row.get(0),
                fsync: row.get(1),
                synchronous_commit: row.get(2),
                wal_sync_method: row.get(3),
            });
        }
        let load = std::fs::read_to_string("/proc/loadavg").ok();
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            load_before: load.and_then(|text| text.split(' ').next()?.parse().ok()),
            servers,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores for everything", self.cores)?;
        if let Some(load) = self.load_before {
            write!(f, ", load average before {load}")?;
        }
        for Server { participant, version, fsync, synchronous_commit, wal_sync_method } in &self.servers {
            write!(
                f,
                "\n{participant}: PostgreSQL {version}, fsync {fsync} ({wal_sync_method}), \
                 synchronous_commit {synchronous_commit}"
            )?;
        }
        Ok(())
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    #[serde(serialize_with = "as_text")]
    contender: Contender,
    workers: u32,
    round: u32,
    transactions: u64,
    transactions_per_second: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    errors: u64,
    complaint: Option<String>,
    /// From the end of the load until nothing was prepared any more.
    settled_ms: f64,
    /// Processor time for each committed transaction, in microseconds.
    cpu_us: BTreeMap<Group, f64>,
}

fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Round {
    pub(crate) fn new(
        contender: Contender,
        workers: u32,
        round: u32,
        measured: &Measured,
        settled: Duration,
    ) -> Self {
        let transactions = measured.latencies.len();
        let at = |quantile| measured.latencies.value_at_quantile(quantile) as f64 / 1e3;
        let each = |used: &Duration| used.as_secs_f64() * 1e6 / transactions.max(1) as f64;
        Self {
            contender,
            workers,
            round,
            transactions,
            transactions_per_second: transactions as f64 / measured.window.as_secs_f64(),
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            errors: measured.errors,
            complaint: measured.complaint.clone(),
            settled_ms: settled.as_secs_f64() * 1e3,
            cpu_us: measured.used.iter().map(|(group, used)| (*group, each(used))).collect(),
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>3} workers, round {}: {:<16} {:>6.0} tx/s, p50 {:.2} ms, p99 {:.2} ms, {} errors; CPU per \
             transaction",
            self.workers,
            self.round,
            self.contender.to_string(),
            self.transactions_per_second,
            self.p50_ms,
            self.p99_ms,
            self.errors
        )?;
        for (group, us) in &self.cpu_us {
            write!(f, " {group} {us:.0} µs")?;
        }
        if let Some(complaint) = &self.complaint {
            write!(f, "\n    the first error: {complaint}")?;
        }
        Ok(())
    }
}

/// The middle of some rounds, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// `None` of nothing.
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = match values.len() % 2 {
            0 => f64::midpoint(upper, *values.get(middle - 1)?),
            _ => upper,
        };
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }
}

/// All rounds of one contender at one number of workers.
#[derive(Debug, Serialize)]
struct Summary {
    workers: u32,
    #[serde(serialize_with = "as_text")]
    contender: Contender,
    transactions_per_second: Spread,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    errors: u64,
    /// Each round's throughput as a part of the floor's in the same round.
    ratio: Spread,
    cpu_us: BTreeMap<Group, f64>,
}

impl Summary {
    fn of(contender: Contender, workers: u32, rounds: &[Round]) -> Option<Self> {
        let mine: Vec<&Round> =
            rounds.iter().filter(|one| one.contender == contender && one.workers == workers).collect();
        let floor = |round: u32| {
            let same = |one: &&Round| {
                one.contender == Contender::Direct && one.workers == workers && one.round == round
            };
            rounds.iter().find(same).map(|one| one.transactions_per_second)
        };
        let ratio =
            |one: &&Round| floor(one.round).map(|of| one.transactions_per_second / of.max(f64::MIN_POSITIVE));
        let median = |value: fn(&Round) -> f64| Spread::of(mine.iter().map(|one| value(one)));
        let mut cpu_us = BTreeMap::new();
        for group in mine.iter().flat_map(|one| one.cpu_us.keys()) {
            let values = mine.iter().filter_map(|one| one.cpu_us.get(group)).copied();
            cpu_us.extend(Spread::of(values).map(|spread| (*group, spread.median)));
        }
        Some(Self {
            workers,
            contender,
            transactions_per_second: median(|one| one.transactions_per_second)?,
            p50_ms: median(|one| one.p50_ms)?.median,
            p95_ms: median(|one| one.p95_ms)?.median,
            p99_ms: median(|one| one.p99_ms)?.median,
            errors: mine.iter().map(|one| one.errors).sum(),
            ratio: Spread::of(mine.iter().filter_map(ratio))?,
            cpu_us,
        })
    }
}

/// The whole of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: &'static str,
    participants: u32,
    seconds: u64,
    threads: u16,
    /// `None` where the installation is not our own.
    over: Option<String>,
    commit_marker: bool,
    machine: Machine,
    summary: Vec<Summary>,
    rounds: Vec<Round>,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments, machine: Machine, rounds: Vec<Round>) -> Self {
        let contenders = arguments.contenders();
        let each =
            arguments.workers.iter().flat_map(|workers| contenders.iter().map(move |one| (*workers, *one)));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            participants: arguments.participants,
            seconds: arguments.window().as_secs(),
            threads: arguments.threads,
            over: arguments.coordinator.is_none().then(|| arguments.over.to_string()),
            commit_marker: arguments.commit_marker,
            machine,
            summary: each.filter_map(|(workers, one)| Summary::of(one, workers, &rounds)).collect(),
            rounds,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        let columns = [
            "workers",
            "",
            "tx/s (least to most)",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "errors",
            "of direct (least to most)",
        ];
        table.set_header(columns);
        for one in &self.summary {
            let Spread { median, least, most } = one.transactions_per_second;
            table.add_row([
                one.workers.to_string(),
                one.contender.to_string(),
                format!("{median:.0} ({least:.0} to {most:.0})"),
                format!("{:.2}", one.p50_ms),
                format!("{:.2}", one.p95_ms),
                format!("{:.2}", one.p99_ms),
                one.errors.to_string(),
                match one.contender {
                    Contender::Direct => String::new(),
                    Contender::Votum(_) => {
                        format!("{:.2} ({:.2} to {:.2})", one.ratio.median, one.ratio.least, one.ratio.most)
                    }
                },
            ]);
        }
        for (place, column) in table.column_iter_mut().enumerate() {
            column.set_cell_alignment(if place == 1 { CellAlignment::Left } else { CellAlignment::Right });
        }
        write!(f, "Medians of {} s each, {} banks in every transfer", self.seconds, self.participants)?;
        if let Some(over) = &self.over {
            write!(f, ", over {over}")?;
        }
        if self.commit_marker {
            f.write_str(", every branch with a commit marker")?;
        }
        write!(f, ":\n{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Wait;

    fn round(contender: Contender, round: u32, transactions_per_second: f64) -> Round {
        Round {
            contender,
            workers: 8,
            round,
            transactions: 0,
            transactions_per_second,
            p50_ms: 1.0,
            p95_ms: 2.0,
            p99_ms: 3.0,
            errors: 1,
            complaint: None,
            settled_ms: 0.0,
            cpu_us: [(Group::Client, 40.0)].into(),
        }
    }

    #[test]
    fn a_ratio_compares_the_rounds_that_lie_side_by_side() {
        let votum = Contender::Votum(Wait::Decided);
        let rounds = [
            round(Contender::Direct, 1, 1000.0),
            round(votum, 1, 800.0),
            round(Contender::Direct, 2, 500.0),
            round(votum, 2, 300.0),
            round(Contender::Direct, 3, 100.0),
            round(votum, 3, 90.0),
        ];
        let summary = Summary::of(votum, 8, &rounds).unwrap();
        assert_eq!(summary.ratio, Spread { median: 0.8, least: 0.6, most: 0.9 });
        assert_eq!(summary.transactions_per_second, Spread { median: 300.0, least: 90.0, most: 800.0 });
        assert_eq!((summary.errors, summary.cpu_us[&Group::Client]), (3, 40.0));
        assert!(Summary::of(votum, 1, &rounds).is_none());
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between_its_two() {
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }
}
