//! What reads the files of a log.

use clap::{Args, Subcommand};

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
