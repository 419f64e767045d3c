//! For when a log is lost, in whole or in part.

use std::path::PathBuf;

use clap::Args;

use super::Order;

/// Give up what a stale log lacks (VOTUM-1401), when it is lost for good; without --yes only say what
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl write-off --reason \"4711: disk lost, backup of Sunday\"
  votumctl write-off --reason \"4711: disk lost, backup of Sunday\" --coordinator-id acme --yes

The last resort: the true log, wherever it is, is better than this. The dry run shows which agent has
seen what, and when it was last told. What was decided and is lacking here is then known to nobody:
branches that it left prepared wait for a person. The coordinator works again from its next start on.
Who wrote it off and why are kept in the log. Ends with 1, because a person has to go on from there;
with 4 when the log is not stale, or an agent that may have seen more has not been heard.")]
pub(crate) struct WriteOffArgs {
    /// Whose log it is, typed out: what is done cannot be undone
    #[arg(long, value_name = "ID", required_if_eq("yes", "true"))]
    pub(crate) coordinator_id: Option<String>,
    #[command(flatten)]
    pub(crate) order: Order,
}

/// Copy the log in --directory, of a running coordinator or a stopped one, and check the copy
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl backup /backup/votum-2026-11-22 --directory /var/lib/votum

Run it on the coordinator's machine, as its user: the log holds the key that secrets come from, and
never leaves by the network. A log that is backed up is no substitute for a disk that keeps what it
has synced: what is decided after the backup is lacking in it.")]
pub(crate) struct BackupArgs {
    /// Where the copy goes: a directory that is empty, or not there yet
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
}

/// Put a backup into --directory, for a coordinator to start on: the last resort
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl restore /backup/votum-2026-11-22 --directory /var/lib/votum

What was decided after the backup was made is lacking in it, and no agent may remember. So the
coordinator takes the restored log for stale (VOTUM-1401): it delivers what it knows, begins nothing
and presumes nothing, until a person has given up what is lacking: `votumctl write-off`.")]
pub(crate) struct RestoreArgs {
    /// The directory that `votumctl backup` wrote
    #[arg(value_name = "FROM")]
    pub(crate) from: PathBuf,
}
