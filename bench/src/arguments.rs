//! What may be said on the command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::load::Contender;

/// Each worker has this many accounts at each bank for itself, so that no two workers meet.
pub(crate) const ACCOUNTS_PER_WORKER: u32 = 1_000;

#[derive(Debug, Parser)]
#[command(
    name = "votum-bench",
    about = "Measures transfers between databases through Votum, and by a client without a coordinator",
    after_help = "Without --coordinator it starts PostgreSQL servers, agents and a coordinator of its own, \
                  and removes them afterwards."
)]
pub(crate) struct Arguments {
    /// How many transfers are under way at once; several numbers are measured one after another.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32],
          value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) workers: Vec<u32>,
    /// How long each measurement lasts.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How long the load runs before each measurement begins.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    warmup: u64,
    /// How often each measurement is repeated. The contenders take turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How many banks take part in each transfer.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) participants: u32,
    /// What a commit through Votum waits for: the forced decision, or every bank's acknowledgement. Both are
    /// measured unless one is named.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Wait::Decided, Wait::Completed])]
    pub(crate) wait: Vec<Wait>,
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
    /// Measures a coordinator that runs already, with the banks of --direct.
    #[arg(long, value_name = "ADDRESS", requires = "direct")]
    pub(crate) coordinator: Option<String>,
    /// A participant of that coordinator, and how to connect to its database without an agent; once for each
    /// bank. A table votum_bench_accounts is made there, and dropped in the end.
    #[arg(long, num_args = 2, value_names = ["PARTICIPANT", "CONNECTION"], requires = "coordinator")]
    pub(crate) direct: Vec<String>,
}

/// When a commit through Votum answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Wait {
    /// When the decision is on disk.
    Decided,
    /// When every bank has acknowledged.
    Completed,
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
    /// How long each measurement lasts.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long the load runs before.
    pub(crate) fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    /// Who is measured: the floor first.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        let mut contenders = vec![Contender::Direct];
        for &wait in &self.wait {
            if !contenders.contains(&Contender::Votum(wait)) {
                contenders.push(Contender::Votum(wait));
            }
        }
        contenders
    }

    /// The most workers of any measurement.
    pub(crate) fn most_workers(&self) -> u32 {
        self.workers.iter().copied().max().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_measures_the_floor_without_being_asked() {
        Arguments::command().debug_assert();
        let arguments = Arguments::parse_from(["votum-bench", "--wait", "decided", "--workers", "1,4"]);
        assert_eq!(arguments.contenders(), [Contender::Direct, Contender::Votum(Wait::Decided)]);
        assert_eq!((arguments.workers.as_slice(), arguments.most_workers()), ([1, 4].as_slice(), 4));
    }

    #[test]
    fn a_coordinator_that_runs_already_needs_to_be_told_its_banks() {
        assert!(Arguments::try_parse_from(["votum-bench", "--coordinator", "127.0.0.1:7400"]).is_err());
        let line = ["votum-bench", "--coordinator", "127.0.0.1:7400", "--direct", "bank_a", "host=/run"];
        assert_eq!(Arguments::parse_from(line).direct, ["bank_a", "host=/run"]);
    }
}
