//! What may be said on the command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::alone::Alone;
use crate::contender::Contender;
use crate::overload;
use crate::point::Point;
use crate::shape::Shape;
use crate::waterfall::Waterfall;
use crate::work::{ACCOUNTS_PER_WORKER, Mix};

/// The closed loops that are measured when nothing else is asked for.
const WORKERS: [u32; 3] = [1, 8, 32];

const EXAMPLES: &str = "\
Examples:
  votum-bench
      Closed loops of 1, 8 and 32 workers.
  votum-bench --rate 200,400,800 --in-flight 64
      Open loops: transactions arrive at these rates, whether or not the last ones have ended.
  votum-bench --workers 8 --rate 400 --json report.json --plots plots
      One of each in the same run, with files.
  votum-bench --workers 8 --hot-rows 16 --read-percent 50
      Half of the transactions only read; the others contend for 16 rows.
  votum-bench --workers 8 --wait decided --rounds 9 --seconds 3 --warmup 1
      Many short rounds of one kind, which shows how far they spread.
  votum-bench --workers 2 --seconds 1 --warmup 0 --rounds 1
      Whether everything works. The figures mean nothing.
  votum-bench alone
      The coordinator and its log, without databases and a network.

Without --coordinator it starts PostgreSQL servers, agents and a coordinator of its own, and removes them \
afterwards. It ends with 0 only if no money was lost or made, and nothing was left prepared.";

#[derive(Debug, Parser)]
#[command(
    name = "votum-bench",
    about = "Measures transactions over several databases through Votum, and by clients without a coordinator",
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    instead: Option<Instead>,
    /// Closed loops: how many workers each begin their next transaction when the last one has ended. Several
    /// numbers are measured one after another. 1, 8 and 32, if there is no --rate either.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=200))]
    workers: Vec<u32>,
    /// Open loops: how many transactions arrive each second, evenly. Latency counts from the moment at which
    /// a transaction should have begun, so that none is left out because others were slow. Several rates are
    /// measured one after another.
    #[arg(long, value_name = "PER_SECOND", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Vec<u32>,
    /// Open loops: how many transactions may be under way at once. Those that arrive beyond it wait, and
    /// their latency runs.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=200))]
    in_flight: u32,
    /// Overload: finds what Votum does in closed loops of the most --workers, then offers that, twice and four
    /// times as much in open loops, and then half of it. There are no direct clients, each of which would need
    /// connections of its own.
    #[arg(long, conflicts_with = "rate")]
    pub(crate) overload: bool,
    /// How long the client asks again for what is refused because there is too much to do. Its own patience
    /// unless it is named.
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub(crate) patience_ms: Option<u64>,
    /// How long each measurement lasts.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How long the load runs before each measurement begins.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    warmup: u64,
    /// How often each measurement is repeated. The contenders take turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How many banks take part in each transaction.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) participants: u32,
    /// How many of a hundred transactions only read, one row at each bank.
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) read_percent: u8,
    /// All transactions share this many rows at each bank, and wait for each other, instead of rows of each
    /// worker's own. They take their row at the first bank before the others, which rules out deadlocks.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) hot_rows: Option<u32>,
    /// How an application has Votum carry out a transaction.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Shape::Hosted])]
    shape: Vec<Shape>,
    /// What a commit through Votum waits for: the forced decision, or every bank's acknowledgement. Both are
    /// measured unless one is named.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Wait::Decided, Wait::Completed])]
    wait: Vec<Wait>,
    /// How the client reaches the databases and Votum, and the coordinator its agents. An agent lives beside
    /// its database and always uses the Unix socket.
    #[arg(long, value_enum, default_value = "tcp", conflicts_with = "coordinator")]
    pub(crate) over: Over,
    /// Has every branch leave a commit marker, which `votumctl install --commit-marker` makes a place for.
    #[arg(long, conflicts_with = "coordinator")]
    pub(crate) commit_marker: bool,
    /// On how many threads the client runs. On a small machine a second one costs every contender more in
    /// wake-ups than it brings.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Also writes every round and the summary to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also draws throughput, latencies and processor time, as SVG files in this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) plots: Option<PathBuf>,
    /// Measures a coordinator that runs already, with the banks of --direct.
    #[arg(long, value_name = "ADDRESS", requires = "direct")]
    pub(crate) coordinator: Option<String>,
    /// A participant of that coordinator, and how to connect to its database without an agent; once for each
    /// bank. A table votum_bench_accounts is made there, and dropped in the end.
    #[arg(long, num_args = 2, value_names = ["PARTICIPANT", "CONNECTION"], requires = "coordinator")]
    pub(crate) direct: Vec<String>,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
enum Instead {
    /// The coordinator and its log without databases, agents and a network: how many transactions a second it
    /// decides.
    Alone(Box<Alone>),
    /// Where the time of one transaction goes, step by step.
    Waterfall(Waterfall),
}

/// When a commit through Votum answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Wait {
    /// When the decision is on disk.
    Decided,
    /// When every bank has acknowledged.
    Completed,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decided => "decided",
            Self::Completed => "completed",
        })
    }
}

/// Between which kinds of sockets messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Over {
    /// TCP on this machine: as between machines, but for the network's delay.
    Tcp,
    /// Unix sockets.
    Unix,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Unix => "Unix sockets",
        })
    }
}

impl Arguments {
    /// What is measured of the coordinator alone, where that was asked for.
    pub(crate) fn alone(&self) -> Option<&Alone> {
        match &self.instead {
            Some(Instead::Alone(alone)) => Some(alone),
            Some(Instead::Waterfall(_)) | None => None,
        }
    }

    /// Whether the steps of one transaction are measured.
    pub(crate) fn waterfall(&self) -> Option<&Waterfall> {
        match &self.instead {
            Some(Instead::Waterfall(waterfall)) => Some(waterfall),
            Some(Instead::Alone(_)) | None => None,
        }
    }

    /// How long each measurement lasts.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long the load runs before.
    pub(crate) fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    /// What is measured one after another: closed loops, then open ones.
    pub(crate) fn points(&self) -> Vec<Point> {
        let unasked = self.workers.is_empty() && self.rate.is_empty();
        let workers: &[u32] = if unasked { &WORKERS } else { &self.workers };
        let closed = workers.iter().map(|&workers| Point::Closed { workers });
        let open = self.rate.iter().map(|&rate| Point::Open { rate, in_flight: self.in_flight });
        closed.chain(open).collect()
    }

    /// Whether transactions are measured of which one branch decides.
    pub(crate) fn has_last_agent(&self) -> bool {
        self.shape.contains(&Shape::LastAgent)
    }

    /// Who is measured: the floors first.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        let all = Contender::all(&self.shape, &self.wait);
        all.into_iter().filter(|one| !self.overload || matches!(one, Contender::Votum(..))).collect()
    }

    /// How many transactions may be under way at once, whatever is offered.
    fn most_in_flight(&self) -> u32 {
        let points = self.points().into_iter().map(Point::workers);
        points.chain(self.overload.then_some(overload::IN_FLIGHT)).max().unwrap_or(1)
    }

    /// From what the work is drawn.
    pub(crate) fn mix(&self) -> anyhow::Result<Mix> {
        Ok(Mix {
            banks: usize::try_from(self.participants)?,
            workers: self.most_in_flight(),
            own: if self.overload { overload::ACCOUNTS } else { ACCOUNTS_PER_WORKER },
            read_percent: self.read_percent,
            hot_rows: self.hot_rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_sound_and_measures_the_floors_without_being_asked() {
        Arguments::command().debug_assert();
        let arguments = parse("votum-bench --wait decided --workers 1,4");
        let votum = Contender::Votum(Shape::Hosted, Wait::Decided);
        assert_eq!(arguments.contenders(), [Contender::Direct, Contender::DirectPiped, votum]);
        assert_eq!(arguments.points(), [1, 4].map(|workers| Point::Closed { workers }));
        assert_eq!(arguments.mix().unwrap().workers, 4);
    }

    #[test]
    fn closed_loops_are_measured_unless_only_open_ones_are_asked_for() {
        assert_eq!(parse("votum-bench").points(), WORKERS.map(|workers| Point::Closed { workers }));
        let open = Point::Open { rate: 50, in_flight: 32 };
        assert_eq!(parse("votum-bench --rate 50").points(), [open]);
        assert_eq!(parse("votum-bench --rate 50 --workers 2").points(), [Point::Closed { workers: 2 }, open]);
        assert_eq!(parse("votum-bench --rate 50 --workers 2").mix().unwrap().workers, 32);
    }

    #[test]
    fn a_coordinator_that_runs_already_needs_to_be_told_its_banks() {
        assert!(Arguments::try_parse_from(["votum-bench", "--coordinator", "127.0.0.1:7400"]).is_err());
        let line = "votum-bench --coordinator 127.0.0.1:7400 --direct bank_a host=/run";
        assert_eq!(parse(line).direct, ["bank_a", "host=/run"]);
    }
}
