//! What can be typed.

mod doctor;
mod install;
mod last_resort;
mod log;
mod look;
mod lost_log;
mod settle;
mod watch;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use votum_proto::address::Address;

pub(crate) use self::doctor::DoctorArgs;
pub(crate) use self::install::InstallArgs;
pub(crate) use self::last_resort::{BackupArgs, RestoreArgs, WriteOffArgs};
pub(crate) use self::log::{LogArgs, LogCommand};
pub(crate) use self::look::{InDoubtArgs, ListArgs, ShowArgs, StatusArgs};
pub(crate) use self::lost_log::LostLogArgs;
pub(crate) use self::settle::{AcknowledgeArgs, Order, ResolveArgs};
pub(crate) use self::watch::WatchArgs;
use crate::render::Style;

/// Where a coordinator listens unless it was told otherwise.
const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7400";

/// Shown at the end of every help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  attention: alarms, a stale log, branches that wait for a person or have waited too long,
     participants that could not be asked, warnings of doctor
  2  the command cannot be carried out as it was typed
  3  the coordinator does not answer
  4  refused; or a log, or a database, is broken

With --json one JSON document is written to standard output; docs/votumctl-json.md describes it.";

/// See, and settle, what is in doubt between PostgreSQL databases.
#[derive(Debug, Parser)]
#[command(name = "votumctl", version, after_help = EXIT_CODES, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whom to ask, and how to answer.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Connection {
    /// The running coordinator to ask: HOST:PORT, http://HOST:PORT or unix:/PATH
    /// [default: http://127.0.0.1:7400]
    #[arg(long, value_name = "ADDR", env = "VOTUM_COORDINATOR", global = true, hide_env_values = true)]
    coordinator: Option<Address>,
    /// Read the log in this directory instead, of a stopped coordinator or a copy: for status, list, show
    /// and log; for backup and restore, where the log is, or is to be
    #[arg(long, value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    /// Answer with one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Whether to use colors; NO_COLOR in the environment means never
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto", hide_possible_values = false)]
    color: Color,
}

/// Whom a command asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A running coordinator.
    Coordinator(Address),
    /// A directory of a log.
    Directory(PathBuf),
}

impl Connection {
    /// Whom to ask. A directory goes before an address that only the environment names.
    pub(crate) fn source(&self) -> Source {
        match (&self.directory, &self.coordinator) {
            (Some(directory), _) => Source::Directory(directory.clone()),
            (None, Some(address)) => Source::Coordinator(address.clone()),
            (None, None) => Source::Coordinator(default_address()),
        }
    }
}

fn default_address() -> Address {
    DEFAULT_COORDINATOR.parse().unwrap_or(Address::Tcp("127.0.0.1:7400".to_owned()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Status(StatusArgs),
    Watch(WatchArgs),
    List(ListArgs),
    Show(ShowArgs),
    InDoubt(InDoubtArgs),
    Resolve(ResolveArgs),
    Acknowledge(AcknowledgeArgs),
    WriteOff(WriteOffArgs),
    LostLog(LostLogArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Install(InstallArgs),
    Log(LogArgs),
    Doctor(DoctorArgs),
    Explain(ExplainArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// What a code such as VOTUM-1402 means, and what to do
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl explain VOTUM-1402
  votumctl explain 1402
  votumctl explain")]
pub(crate) struct ExplainArgs {
    /// The code; without one all are listed
    pub(crate) code: Option<String>,
}

/// Print what a shell needs to complete the words of votumctl
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl completions bash > /etc/bash_completion.d/votumctl
  votumctl completions zsh > ~/.zfunc/_votumctl
  votumctl completions fish > ~/.config/fish/completions/votumctl.fish")]
pub(crate) struct CompletionsArgs {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

/// Write a manual page for votumctl and each of its commands
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl man /usr/local/share/man/man1
  votumctl man . && man ./votumctl-resolve.1")]
pub(crate) struct ManArgs {
    /// The directory to write them to, which must be there
    pub(crate) directory: PathBuf,
}

/// Reads the process's arguments and environment.
///
/// # Errors
/// What clap has to say: help that was asked for, or a mistake.
pub(crate) fn from_environment() -> Result<(Cli, Style), clap::Error> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let choice = if no_color { ColorChoice::Never } else { ColorChoice::Auto };
    let mut command = Cli::command().color(choice);
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    let cli = checked(&mut command, &matches)?;
    let terminal = std::io::stdout().is_terminal();
    let color = match cli.connection.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && !no_color,
    };
    let style = if terminal { Style::terminal(color) } else { Style::plain(color) };
    Ok((cli, style))
}

fn checked(command: &mut clap::Command, matches: &clap::ArgMatches) -> Result<Cli, clap::Error> {
    let cli = Cli::from_arg_matches(matches).map_err(|error| error.format(command))?;
    // An address from the environment does not stand in the way of --directory; one that was typed does.
    let typed = matches.value_source("coordinator") == Some(ValueSource::CommandLine);
    if typed && cli.connection.directory.is_some() {
        let message = "--coordinator asks a running coordinator and --directory reads the log of a stopped \
                       one: give one of them";
        return Err(command.error(clap::error::ErrorKind::ArgumentConflict, message));
    }
    Ok(cli)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let mut command = Cli::command();
        let matches = command.try_get_matches_from_mut(line.split(' '))?;
        checked(&mut command, &matches)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_running_coordinator_or_a_directory_is_asked_and_never_both() {
        let directory = parse("votumctl list --directory /var/lib/votum").unwrap();
        assert_eq!(directory.connection.source(), Source::Directory("/var/lib/votum".into()));
        let socket = parse("votumctl --coordinator unix:/run/votum.sock status").unwrap();
        assert_eq!(socket.connection.source(), Source::Coordinator("unix:/run/votum.sock".parse().unwrap()));
        let both = parse("votumctl list --coordinator 127.0.0.1:1 --directory /x").unwrap_err();
        assert_eq!(both.exit_code(), 2);
    }

    #[test]
    fn mistakes_end_with_2_before_anybody_is_asked() {
        for line in [
            "votumctl",
            "votumctl show not-a-gtid",
            "votumctl list --limit 0",
            "votumctl status --coordinator nowhere",
            "votumctl resolve votum_acme_7_3f9ac2_1042_0_2 --participant bank-a --reason why",
            "votumctl resolve votum_acme_7_3f9ac2_1042_0_2 --participant bank-a --commit --rollback --reason w",
            "votumctl resolve votum_acme_7_3f9ac2_1042_0_2 --participant bank-a --commit",
            "votumctl resolve other --participant bank-a --commit --reason why",
            "votumctl acknowledge --reason why",
            "votumctl acknowledge --timeline 2 --reason why",
            "votumctl acknowledge --timeline 0 --participant bank-a --reason why",
            "votumctl acknowledge acme-7-3f9ac2-1042 --timeline 2 --participant bank-a --reason why",
            "votumctl write-off --reason why --yes",
            "votumctl watch --interval 0",
            "votumctl lost-log --config a.toml",
            "votumctl lost-log --coordinator-id acme",
            "votumctl lost-log --config a.toml --coordinator-id acme --commit not-a-gtid",
            "votumctl lost-log --config a.toml --coordinator-id acme --report r --reason why --yes",
            "votumctl lost-log --config a.toml --coordinator-id acme --really acme --reason why --yes",
            "votumctl lost-log --config a.toml --coordinator-id acme --really acme --report r --yes",
            "votumctl doctor",
            "votumctl doctor --agent-config",
        ] {
            assert_eq!(parse(line).map(|_| 0).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            let sub: Vec<_> = command.get_subcommands().collect();
            if sub.is_empty() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:\n  votumctl"), "{} has no examples", command.get_name());
            }
            sub.into_iter().for_each(check);
        }
        check(&Cli::command());
    }

    /// The page for those who are woken says nothing that cannot be typed.
    #[test]
    fn every_command_of_the_page_on_operations_can_be_typed() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md"));
        let fenced = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        let lines = fenced.flat_map(str::lines).filter(|line| line.starts_with("votumctl "));
        let mut typed = 0;
        for line in lines {
            let line = line.split([' ']).take_while(|word| !["|", "||", "#"].contains(word));
            let words = quoted(&line.collect::<Vec<_>>().join(" "));
            if let Err(error) = Cli::command().try_get_matches_from_mut(&words) {
                panic!("{words:?}: {error}");
            }
            typed += 1;
        }
        assert!(typed > 10, "{typed} commands were found");
    }

    /// The words of a line, those in quotes together.
    fn quoted(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (at, part) in line.split('"').enumerate() {
            match at % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        words
    }
}
