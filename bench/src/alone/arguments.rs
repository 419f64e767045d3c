//! What may be said on the command line after `alone`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

const EXAMPLES: &str = "\
Examples:
  votum-bench alone
      1, 16, 256 and 10,000 transactions in flight.
  votum-bench alone --in-flight 256 --participants 1,2,4,8
      What each branch costs.
  votum-bench alone --in-flight 256 --abort-percent 100
      That aborted transactions force nothing; --read-percent says the same of those that only read.
  votum-bench alone --behind 5000000
      Whether a log with so many transactions behind it is slower than an empty one. Takes minutes.
  votum-bench alone --undelivered 100000
      A start with so many commits that no agent has acknowledged.

The figures are those of the whole process: the coordinator, its log, the callers and the agents.";

/// See [`crate::arguments::Arguments::alone`].
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Alone {
    /// How many transactions are in flight at once, each of a caller that begins its next one when it has the
    /// outcome of the last. Several numbers are measured one after another.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 256, 10_000],
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) in_flight: Vec<u32>,
    /// How many participants each transaction has, each with an agent of its own. Several numbers are measured
    /// one after another.
    #[arg(long, value_delimiter = ',', default_values_t = [2],
          value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) participants: Vec<u32>,
    /// Whether a caller asks once for each transaction, or for its beginning and for its end.
    #[arg(long, value_enum, default_value = "one-shot")]
    pub(crate) asks: Asks,
    /// How many of a hundred transactions only read.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) read_percent: u8,
    /// How many of a hundred transactions a participant votes no on.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) abort_percent: u8,
    /// How long each measurement lasts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How long the load runs before each measurement begins.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=600))]
    warmup: u64,
    /// How often each measurement is repeated.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Measures an empty log, puts so many transactions into it, and measures it again.
    #[arg(long, value_name = "TRANSACTIONS", conflicts_with = "undelivered",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) behind: Option<u64>,
    /// Commits so many transactions that no agent acknowledges, stops, and measures the next start: when it
    /// begins transactions while all agents are away, and how fast it settles once they are back.
    #[arg(long, value_name = "TRANSACTIONS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) undelivered: Option<u64>,
    /// On how many threads callers, agents and driver run. The log has one of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Where a folder for the log is made, and removed in the end: its disk is what is forced. The system's
    /// folder for temporary files unless one is named.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

/// What a caller asks of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Asks {
    /// The whole transaction in one request.
    OneShot,
    /// Begin, and Commit.
    Hosted,
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneShot => "one-shot",
            Self::Hosted => "hosted",
        })
    }
}

impl Alone {
    /// How long each measurement lasts.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long the load runs before.
    pub(crate) fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    /// How many transactions are in flight where only one number makes sense.
    pub(crate) fn usual_in_flight(&self) -> u32 {
        if self.in_flight.contains(&256) { 256 } else { self.in_flight.first().copied().unwrap_or(256) }
    }

    /// As many participants where only one number makes sense.
    pub(crate) fn usual_participants(&self) -> u32 {
        self.participants.first().copied().unwrap_or(2)
    }
}
