//! The live view.

use clap::Args;

use crate::failure::Failure;

/// Coordinator, participants, what is in doubt and alarms on one screen that keeps itself up to date
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl watch
  votumctl watch --interval 10
  votumctl watch --coordinator unix:/run/votum.sock --operator ada

Keys: arrows or j and k move, Tab goes to the next table, Enter or s shows the selected transaction,
e explains an alarm, r settles a branch (a dry run first, then a typed confirmation), p pauses,
+ and - change how often it asks, ? is help, q ends.

It needs a terminal of 80 columns and 24 lines; for scripts there is `votumctl status --json`. While
the coordinator does not answer, the last picture stays, with its age.")]
pub(crate) struct WatchArgs {
    /// How many seconds pass between two questions
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) interval: u64,
    /// How many seconds a branch may be in doubt before that asks for attention
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) older_than: u64,
    /// Who settles a branch; kept in the log [default: $USER]
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
}

impl WatchArgs {
    /// Who gives orders: as typed, else who is logged in.
    ///
    /// # Errors
    /// When that is nobody.
    pub(crate) fn operator(&self) -> Result<String, Failure> {
        super::settle::operator(self.operator.as_deref(), std::env::var("USER").ok())
    }
}
