//! The coordinator's process.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use votum_coordinator::config::Config;
use votum_coordinator::run::{RunError, run};
use votum_coordinator::{log, removal};
use votum_proto::runtime::Seams;
use votum_proto::service::shutdown::Shutdown;

/// Most of what is allocated here is small and short-lived.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// It was told to stop, and has; or the command did what was asked.
const DONE: u8 = 0;
/// It could not start, or could not go on.
const FAILED: u8 = 1;
/// The configuration, or the command line, is wrong.
const MISCONFIGURED: u8 = 2;
/// The log refuses to be opened: starting again does not help.
const LOG_REFUSED: u8 = 3;

/// Makes a change in several PostgreSQL databases one transaction: all of it happens, or none.
#[derive(Debug, Parser)]
#[command(name = "votum-coordinator", version, after_long_help = AFTER_HELP)]
struct Cli {
    /// The configuration. Variables VOTUM_COORDINATOR__KEY and VOTUM_COORDINATOR__SECTION__KEY override it.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "VOTUM_COORDINATOR_CONFIG",
        default_value = "/etc/votum/coordinator.toml"
    )]
    config: PathBuf,
    /// Say everything that is wrong with the configuration, and run nothing. That a participant is gone from it
    /// to which the log may still owe a commit counts as wrong.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the log's directory and an empty log in it: once for each coordinator. A directory that holds
    /// anything is refused.
    Init,
}

const AFTER_HELP: &str = "\
Examples:
  votum-coordinator --config /etc/votum/coordinator.toml --check-config
  votum-coordinator --config /etc/votum/coordinator.toml init
  votum-coordinator --config /etc/votum/coordinator.toml

The smallest configuration:
  coordinator_id = \"acme\"
  listen = \"127.0.0.1:7400\"
  [log]
  directory = \"/var/lib/votum/log\"
  [[participants]]
  name = \"bank_a\"
  agent = \"127.0.0.1:7501\"

SIGTERM or SIGINT: takes no new transactions, waits up to limits.drain_ms for those that
are being decided, and stops. A second one ends the process at once, which loses nothing
that was decided.

Exit codes:
  0    stopped as it was told to, or the command is done
  1    could not start, or could not go on: start it again
  2    the configuration or the command line is wrong
  3    the log refuses to be opened: a person has to look, the message says at what
  70   a write to the log failed or hung: start it again, and see to the disk
  130, 143  ended at once by a second SIGINT or SIGTERM";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // The log holds the key that all transactions' secrets are made from: no file of ours is for others.
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o077));
    ExitCode::from(match Config::load(&cli.config) {
        Err(errors) => {
            eprintln!("{errors}");
            MISCONFIGURED
        }
        Ok(config) if cli.check_config => check(&config),
        Ok(config) => match cli.command {
            Some(Command::Init) => initialize(&config),
            None => serve(config).await,
        },
    })
}

/// What no look at the file alone can show: a participant that is gone from it and still needed.
fn check(config: &Config) -> u8 {
    match removal::still_owed(config) {
        Ok(owed) if owed.is_empty() => {
            println!("configuration is fine");
            DONE
        }
        Ok(owed) => {
            owed.iter().for_each(|owed| eprintln!("{owed}"));
            MISCONFIGURED
        }
        Err(refusal) => {
            eprintln!(
                "the configuration reads well; whether its log owes anything to others is not known: {refusal}"
            );
            LOG_REFUSED
        }
    }
}

fn initialize(config: &Config) -> u8 {
    let directory = config.log.directory.display();
    match log::initialize(&config.log.log_config(), &config.coordinator_id, &*Seams::production().entropy) {
        Ok(()) => {
            println!("the log of coordinator {} was made in {directory}", config.coordinator_id);
            DONE
        }
        Err(refusal) => {
            eprintln!("{refusal}");
            LOG_REFUSED
        }
    }
}

async fn serve(config: Config) -> u8 {
    if let Err(error) = config.logging.init() {
        eprintln!("{error}");
        return MISCONFIGURED;
    }
    let seams = Seams::production();
    let shutdown = match Shutdown::on_signals(&seams) {
        Ok(shutdown) => shutdown,
        Err(error) => {
            tracing::error!(%error, "signals cannot be handled: the process could not be stopped in order");
            return FAILED;
        }
    };
    match run(config, shutdown, seams).await {
        Ok(()) => DONE,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                RunError::Log(_) => LOG_REFUSED,
                RunError::Listen { .. } | RunError::Server(_) | RunError::DriverStopped => FAILED,
            }
        }
    }
}
