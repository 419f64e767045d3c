//! What can be typed behind `votumctl lost-log`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use votum_proto::names::{CoordinatorId, Gtid, ParticipantName};

use super::settle::operator;
use crate::failure::Failure;

/// Settle what a coordinator left prepared whose log is gone for good; without --yes only say what
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl lost-log --config agent-a.toml agent-b.toml --coordinator-id acme
  votumctl lost-log --config agent-a.toml agent-b.toml --coordinator-id acme \\
    --commit acme-7-3f9ac2-1042 --rollback acme-7-3f9ac2-1050 \\
    --reason \"4714: disk lost, no backup\" --report lost.jsonl --really acme --yes
  votumctl lost-log --config agent-a.toml --coordinator-id acme --without bank-b --choices choices.txt

The very last resort: for when there is no journal and no backup of it. Look for them first; with either,
start the coordinator, or use restore and write-off. Never run it while a coordinator of that id runs
anywhere: stop that, and every agent.

Connects to every participant's database as its agent does, lists what the coordinator left prepared, and
reads the commit markers. Whatever they prove must be done; the rest a person must choose, and is told what
each choice would risk. A file of choices has lines `GTID commit|rollback REASON`. With --yes it does what
must be done and what was chosen, each step on record in the report before it is done and after: a run that
was interrupted is continued by typing the same again, with the same report.

Ends with 0 when nothing is left that bears the coordinator's name, with 1 when something is.")]
pub(crate) struct LostLogArgs {
    /// The configuration of an agent; all of them have to be given
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) config: Vec<PathBuf>,
    /// The coordinator whose log is gone
    #[arg(long, value_name = "ID")]
    pub(crate) coordinator_id: CoordinatorId,
    /// Its configuration, where that is left: participants that no --config names are then missed
    #[arg(long, value_name = "FILE")]
    pub(crate) coordinator_config: Option<PathBuf>,
    /// A participant whose database is gone for good: it is not waited for; may be given for several
    #[arg(long, value_name = "NAME")]
    pub(crate) without: Vec<ParticipantName>,
    /// Choose to commit a transaction; may be given for several
    #[arg(long, value_name = "GTID")]
    pub(crate) commit: Vec<Gtid>,
    /// Choose to roll a transaction back; may be given for several
    #[arg(long, value_name = "GTID", visible_alias = "roll-back")]
    pub(crate) rollback: Vec<Gtid>,
    /// More choices, one on each line
    #[arg(long, value_name = "FILE")]
    pub(crate) choices: Option<PathBuf>,
    /// Why; kept in the report
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new(), required_if_eq("yes", "true"))]
    pub(crate) reason: Option<String>,
    /// Who does it; kept in the report [default: $USER]
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Where everything is put on record, one JSON document on each line; an earlier run's is gone on with
    #[arg(long, value_name = "FILE", required_if_eq("yes", "true"))]
    pub(crate) report: Option<PathBuf>,
    /// The coordinator_id, typed out once more: what is done cannot be undone
    #[arg(long, value_name = "ID", required_if_eq("yes", "true"))]
    pub(crate) really: Option<String>,
    /// Act although sessions of agents, or of another lost-log, are connected to a database
    #[arg(long)]
    pub(crate) despite_sessions: bool,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}

impl LostLogArgs {
    /// Who gives the order: as typed, else who is logged in.
    ///
    /// # Errors
    /// When that is nobody.
    pub(crate) fn operator(&self) -> Result<String, Failure> {
        operator(self.operator.as_deref(), std::env::var("USER").ok())
    }
}
