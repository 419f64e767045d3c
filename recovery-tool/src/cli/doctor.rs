//! What can be typed behind `votumctl doctor`.

use std::path::PathBuf;

use clap::Args;

/// Whether databases can serve as participants, asked of them directly, whatever of Votum runs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl doctor --agent-config /etc/votum/participant.toml
  votumctl doctor --agent-config agent-a.toml agent-b.toml --coordinator-config coordinator.toml
  votumctl doctor --agent-config agent-a.toml --json | jq '.findings[].remedy.lines'

Connects to each participant's database as its agent does, with the password that the agent's
configuration names, and changes nothing there. Variables such as VOTUM_PARTICIPANT__SESSIONS
override every file that is given, as they do for an agent. Each finding has a code, what was seen,
why it matters, and the exact statement or line that mends it. With several agents' files, and the
coordinator's, it also finds one database under two names, and names that one side does not know.

Ends with 1 when there is a warning, with 4 when there is an error: transactions fail at that
database, or what they promise does not hold there. Notes alone end with 0.")]
pub(crate) struct DoctorArgs {
    /// The configuration of an agent; may be given for several
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) agent_config: Vec<PathBuf>,
    /// The coordinator's configuration, to be held against the agents'
    #[arg(long, value_name = "FILE")]
    pub(crate) coordinator_config: Option<PathBuf>,
}
