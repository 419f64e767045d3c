//! What can be typed.

mod doctor;
mod install;
mod last_resort;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{
    ArgGroup, Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};
use votum_proto::address::Address;
use votum_proto::names::{Gid, Gtid, ParticipantName};

pub(crate) use self::doctor::DoctorArgs;
pub(crate) use self::install::InstallArgs;
pub(crate) use self::last_resort::{BackupArgs, RestoreArgs, WriteOffArgs};
use crate::failure::Failure;
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
    List(ListArgs),
    Show(ShowArgs),
    InDoubt(InDoubtArgs),
    Resolve(ResolveArgs),
    Acknowledge(AcknowledgeArgs),
    WriteOff(WriteOffArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Install(InstallArgs),
    Log(LogArgs),
    Doctor(DoctorArgs),
    Explain(ExplainArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// The coordinator, its log and its participants on one screen
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl status
  votumctl status --json | jq .alarms
  votumctl status --older-than 5 || page-somebody
  votumctl status --directory /var/lib/votum

Ends with 1 when there is an alarm, the log is not in order, a participant is not connected, or a
branch is in doubt for longer than --older-than; of a stopped coordinator's log, when a commit is
still owed to a participant.")]
pub(crate) struct StatusArgs {
    /// How many seconds a branch may be in doubt before that asks for attention
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) older_than: u64,
}

/// Transactions, live and remembered, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl list
  votumctl list --state committing
  votumctl list --participant bank_a --limit 20 --json
  votumctl list --directory /var/lib/votum

States: active, preparing, deciding, committing, committed, aborting, aborted, delegating,
undecided.")]
pub(crate) struct ListArgs {
    /// Only those in this state
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,
    /// Only those with a branch at this participant
    #[arg(long, value_name = "NAME")]
    pub(crate) participant: Option<ParticipantName>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

/// All that is known of one transaction: outcome, branches, records, what happens next
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl show acme-7-3f9ac2-1042
  votumctl show acme-7-3f9ac2-1042 --json | jq .outcome.kind
  votumctl show acme-7-3f9ac2-1042 --directory /backup/votum

Ends with 1 when a branch ended otherwise than decided, or is in trouble.")]
pub(crate) struct ShowArgs {
    /// The transaction, for example acme-7-3f9ac2-1042
    pub(crate) gtid: Gtid,
}

/// What is prepared at every participant now, joined with the log
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl in-doubt
  votumctl in-doubt --participant bank_a --wait 30
  votumctl in-doubt --json | jq '.branches[] | select(.blocked_sessions > 0)'

Prepared transactions of others are listed apart; Votum never touches them. Ends with 1 when a
branch waits for a person, or a participant could not be asked.")]
pub(crate) struct InDoubtArgs {
    /// Only this participant
    #[arg(long, value_name = "NAME")]
    pub(crate) participant: Option<ParticipantName>,
    /// How many seconds agents have to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) wait: u64,
}

/// Settle one branch by hand; without --yes only say what would be done
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("action").required(true).args(["commit", "rollback"]), after_help = "\
Examples:
  votumctl resolve votum_acme_7_3f9ac2_1042_0_2 --participant bank_a --rollback --reason 4711
  votumctl resolve votum_acme_7_3f9ac2_1042_0_2 --participant bank_a --rollback --reason 4711 --yes

What contradicts a known decision is refused, with 4. Who settled it and why are kept in the log.")]
pub(crate) struct ResolveArgs {
    /// The branch, as pg_prepared_xacts and `votumctl in-doubt` name it
    pub(crate) gid: Gid,
    /// Where it is prepared
    #[arg(long, value_name = "NAME")]
    pub(crate) participant: ParticipantName,
    /// Commit it
    #[arg(long)]
    pub(crate) commit: bool,
    /// Roll it back
    #[arg(long)]
    pub(crate) rollback: bool,
    #[command(flatten)]
    pub(crate) order: Order,
}

/// Who orders something that changes the log, and why.
#[derive(Debug, Args)]
pub(crate) struct Order {
    /// Why, or what was done about it; kept in the log
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Who does it; kept in the log [default: $USER]
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}

impl Order {
    /// Who gives it: as typed, else who is logged in.
    ///
    /// # Errors
    /// When that is nobody.
    pub(crate) fn operator(&self) -> Result<String, Failure> {
        operator(self.operator.as_deref(), std::env::var("USER").ok())
    }
}

fn operator(typed: Option<&str>, user: Option<String>) -> Result<String, Failure> {
    let named = typed.map(str::to_owned).or(user).filter(|name| !name.trim().is_empty());
    named.ok_or_else(|| {
        Failure::usage(
            "who gives the order is kept in the log, and $USER is empty: say it with --operator NAME",
        )
    })
}

/// Take off the list that branches departed from their decision; without --yes only say which
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl acknowledge acme-7-3f9ac2-1042 --reason \"4711: repaid by hand\"
  votumctl acknowledge acme-7-3f9ac2-1042 --reason \"4711: repaid by hand\" --yes
  votumctl acknowledge acme-7-3f9ac2-1042 --participant bank_a --reason 4711 --yes

For when a person has made the databases agree again: the alarm VOTUM-1407 ends, and the records may
be dropped after retention. Who asks about the transaction is told of the departure as before. Who
acknowledged it and why are kept in the log. Ends with 4 when there is nothing to acknowledge.")]
pub(crate) struct AcknowledgeArgs {
    /// The transaction, for example acme-7-3f9ac2-1042
    pub(crate) gtid: Gtid,
    /// Only the branch at this participant [default: every one that departed]
    #[arg(long, value_name = "NAME")]
    pub(crate) participant: Option<ParticipantName>,
    #[command(flatten)]
    pub(crate) order: Order,
}

/// Read the files of a log
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

/// What to read in the files of a log. The coordinator must be stopped, or the directory be a copy.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Check every file, and every record, of a log
    #[command(after_help = "\
Examples:
  votumctl log verify --directory /var/lib/votum
  votumctl log verify --directory /backup/votum --json

Ends with 4, naming file and byte, when the log would not be opened.")]
    Verify,
    /// Print every record of a log, oldest first
    #[command(after_help = "\
Examples:
  votumctl log dump --directory /var/lib/votum | less
  votumctl log dump --directory /var/lib/votum --json | jq 'select(.kind == \"Decided\")'

With --json: one document on each line.")]
    Dump,
    /// List every intact record in the raw files of a log that is broken
    #[command(after_help = "\
Examples:
  votumctl log salvage --directory /var/lib/votum
  votumctl log salvage --directory /var/lib/votum --json > salvaged.jsonl

A record outside the chain of batches is marked doubtful: it may never have been acknowledged, or
be of an earlier time, and is never a decision. With --json: one document on each line. Ends with 1
when the log would not be opened.")]
    Salvage,
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
            "votumctl write-off --reason why --yes",
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

    #[test]
    fn nobody_gives_an_order_without_a_name() {
        assert_eq!(operator(Some("ada"), Some("root".into())).unwrap(), "ada");
        assert_eq!(operator(None, Some("root".into())).unwrap(), "root");
        for (typed, user) in [(None, None), (None, Some(String::new())), (Some(" "), Some("root".into()))] {
            assert_eq!(operator(typed, user).unwrap_err().exit, crate::failure::Exit::Usage);
        }
    }
}
