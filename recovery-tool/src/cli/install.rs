//! What is made in a database for Votum.

use clap::Args;

/// Print the SQL that makes a place for what agents keep in a database, to be run once in each
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  votumctl install --role votum | psql --dbname bank_a --username postgres
  votumctl install --role votum --commit-marker | psql --dbname bank_a --username postgres
  votumctl install --role votum > votum.sql

It makes the schema votum with the table witness, in which agents note which life of each
coordinator spoke last and how far its log had reached, at most once a second. With it a log that
was copied or restored from an older copy is noticed also where every agent has restarted since.

With --commit-marker it also makes the table marker. From then on each branch that writes inserts
one row there, in its own transaction: what became of it is then known for certain also after a
failover. That costs each branch one short INSERT; the coordinator has the rows deleted once its
log has forgotten their transactions.

Whoever runs it needs the right to create a schema; --role gets the right to keep rows. It may be
run again.")]
pub(crate) struct InstallArgs {
    /// The role as which the agent logs in
    #[arg(long, value_name = "ROLE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) role: String,
    /// Also the table in which branches leave their commit markers
    #[arg(long)]
    pub(crate) commit_marker: bool,
}
