//! What shows, and changes nothing.

use clap::Args;
use votum_proto::names::{Gtid, ParticipantName};

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
one-phase, undecided.")]
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
