//! What changes something: orders, with who gives them and why.

use clap::{ArgGroup, Args};
use votum_proto::names::{Gid, Gtid, ParticipantName};

use crate::failure::Failure;

/// Settle one branch by hand; without --yes only say what would be done
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("action").required(true).args(["commit", "rollback"]), after_help = "\
Examples:
  votumctl resolve votum_acme_7_3f9ac2_1042_0_2 --participant bank_a --rollback --reason 4711
  votumctl resolve votum_acme_7_3f9ac2_1042_0_2 --participant bank_a --rollback --reason 4711 --yes
  votumctl resolve votum_acme_7_3f9ac2_1042_0_2 --participant bank_a --rollback --reason 4711 --heuristic

What contradicts a known decision is refused, with 4. --heuristic departs from it knowingly: the
transaction is torn, which its clients are told, and which stays on the list of alarms until it is
acknowledged. Nothing is recorded or done unless the agent has first let go of what was ordered and
has found the branch prepared. Who settled it and why are kept in the log.

Where no decision is known, every participant is asked for the commit markers of the branch's
siblings: what they contradict is refused as well, and so is everything while one cannot be asked;
--heuristic goes by your word alone.")]
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
    /// Also where that departs from the known decision
    #[arg(long)]
    pub(crate) heuristic: bool,
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

/// Who gives orders: as typed, else who is logged in.
///
/// # Errors
/// When that is nobody.
pub(super) fn operator(typed: Option<&str>, user: Option<String>) -> Result<String, Failure> {
    let named = typed.map(str::to_owned).or(user).filter(|name| !name.trim().is_empty());
    named.ok_or_else(|| {
        Failure::usage(
            "who gives the order is kept in the log, and $USER is empty: say it with --operator NAME",
        )
    })
}

/// Take off the list that branches departed from their decision, or that commits cannot be proven; without
/// --yes only say which
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["gtid", "timeline"]), after_help = "\
Examples:
  votumctl acknowledge acme-7-3f9ac2-1042 --reason \"4711: repaid by hand\"
  votumctl acknowledge acme-7-3f9ac2-1042 --reason \"4711: repaid by hand\" --yes
  votumctl acknowledge acme-7-3f9ac2-1042 --participant bank_a --reason 4711 --yes
  votumctl acknowledge --participant bank_a --timeline 2 --reason \"4713: compared, nothing is missing\"

For when a person has made the databases agree again: the alarm VOTUM-1407 ends, and the records may
be dropped after retention. Who asks about the transaction is told of the departure as before. Who
acknowledged it and why are kept in the log. Ends with 4 when there is nothing to acknowledge.

With --timeline, for when a person has compared the databases after a failover of the participant:
the alarm VOTUM-1412 ends, until its server changes to yet another timeline.")]
pub(crate) struct AcknowledgeArgs {
    /// The transaction, for example acme-7-3f9ac2-1042
    pub(crate) gtid: Option<Gtid>,
    /// Only the branch at this participant [default: every one that departed]; with --timeline, whose server it
    /// is
    #[arg(long, value_name = "NAME")]
    pub(crate) participant: Option<ParticipantName>,
    /// Acknowledge the commits that nobody can prove since the participant's server changed to this timeline
    #[arg(long, value_name = "NUMBER", requires = "participant",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeline: Option<u32>,
    #[command(flatten)]
    pub(crate) order: Order,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gives_an_order_without_a_name() {
        assert_eq!(operator(Some("ada"), Some("root".into())).unwrap(), "ada");
        assert_eq!(operator(None, Some("root".into())).unwrap(), "root");
        for (typed, user) in [(None, None), (None, Some(String::new())), (Some(" "), Some("root".into()))] {
            assert_eq!(operator(typed, user).unwrap_err().exit, crate::failure::Exit::Usage);
        }
    }
}
