//! Departures that a person has dealt with.

use std::fmt::Write as _;

use super::Style;
use crate::document::Acknowledgement;

/// `votumctl acknowledge`, for people.
pub(crate) fn acknowledgement(document: &Acknowledgement, style: Style) -> String {
    let mut text = String::new();
    let heading = if document.applied { "Acknowledged" } else { "Dry run: nothing is done" };
    let _ = writeln!(text, "{}", style.heading(heading));
    let _ = writeln!(text, "transaction  {}", document.gtid);
    for departure in &document.departures {
        let (participant, kind, detail) = (&departure.participant, departure.kind, &departure.detail);
        let _ = writeln!(text, "departure    {participant}: {kind}: {detail}");
    }
    if !document.applied {
        let _ = writeln!(text, "\nTo take it off the list, say the same with --yes.");
    }
    text
}

#[cfg(test)]
mod tests {
    use votum_proto::v1;

    use super::*;

    fn text(applied: bool) -> String {
        let departure = v1::HeuristicBranch {
            kind: v1::heuristic_branch::Kind::Rollback.into(),
            participant: "bank-a".into(),
            gid: "votum_acme_5_aaaaaa_9_0_2".into(),
            detail: "transaction 731 was rolled back".into(),
        };
        let answer = v1::AcknowledgeResponse { departures: vec![departure], applied };
        acknowledgement(&Acknowledgement::new("acme-5-aaaaaa-9".into(), answer), Style::plain(false))
    }

    #[test]
    fn a_dry_run_names_the_departures_and_how_to_acknowledge_them() {
        assert_eq!(
            text(false),
            "\
Dry run: nothing is done
transaction  acme-5-aaaaaa-9
departure    bank-a: rollback: transaction 731 was rolled back

To take it off the list, say the same with --yes.
"
        );
        assert!(text(true).starts_with("Acknowledged\n") && !text(true).contains("--yes"));
    }
}
