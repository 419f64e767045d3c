//! `votum-participant`: the agent beside one or several PostgreSQL databases.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use votum_participant::{AgentConfig, databases, run};
use votum_proto::runtime::Seams;
use votum_proto::service::shutdown::Shutdown;

/// The configuration or the command line is wrong.
const WRONG: u8 = 2;

const EXAMPLE: &str = r#"Example configuration:

  listen = "127.0.0.1:7501"            # or unix:/run/votum/bank_a.sock

  [[participants]]
  name = "bank_a"                      # the name in the coordinator's configuration
  connection = "host=db.example port=5432 user=votum dbname=bank"
  password_file = "/etc/votum/bank_a.password"
  tls = "verify-full"                  # disable (the default), require, verify-full

The database needs max_prepared_transactions > 0. Every key can be overridden from the
environment: VOTUM_PARTICIPANT__LISTEN=… for listen, VOTUM_LOG=debug for the log's filter.

Exit codes: 0 stopped when asked to, 1 could not start or go on, 2 wrong configuration."#;

/// Runs clients' statements in branches of distributed transactions, prepares them, and carries out what the
/// coordinator decides.
#[derive(Debug, Parser)]
#[command(name = "votum-participant", version, about, after_help = EXAMPLE)]
struct Arguments {
    /// The configuration, in TOML.
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "VOTUM_PARTICIPANT_CONFIG",
        default_value = "/etc/votum/participant.toml"
    )]
    config: PathBuf,
    /// Reads the configuration, reports every mistake at once, and starts nothing.
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match AgentConfig::load(&arguments.config) {
        Ok(config) => config,
        Err(errors) => return fail(WRONG, &errors),
    };
    // An agent only carries messages to its database and back. On one thread that takes less processor
    // time, for every message that does not have to wake another thread; the thread is busy at some
    // thousands of branches a second, and a participant that needs more has an agent of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("the runtime cannot be started: {error}")),
    };
    runtime.block_on(async {
        let seams = Seams::production();
        if arguments.check_config {
            return match databases(&config, &seams) {
                Ok(_) => {
                    println!("configuration is fine");
                    ExitCode::SUCCESS
                }
                Err(error) => fail(WRONG, &error),
            };
        }
        if let Err(error) = config.logging.init() {
            return fail(WRONG, &error);
        }
        let shutdown = match Shutdown::on_signals(&seams) {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(1, &format!("signals cannot be handled: {error}")),
        };
        match run(config, shutdown, seams).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &error),
        }
    })
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("votum-participant: {error}");
    ExitCode::from(code)
}
