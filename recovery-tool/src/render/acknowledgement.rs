//! Departures that a person has dealt with.

use std::fmt::Write as _;

use super::{Style, count};
use crate::document::{Acknowledgement, UnprovenAcknowledgement};

/// `votumctl acknowledge`, for people.
pub(crate) fn acknowledgement(document: &Acknowledgement, style: Style) -> String {
    let mut text = heading(document.applied, style);
    let _ = writeln!(text, "transaction  {}", document.gtid);
    for departure in &document.departures {
        let (participant, kind, detail) = (&departure.participant, departure.kind, &departure.detail);
        let _ = writeln!(text, "departure    {participant}: {kind}: {detail}");
    }
    text + advice(document.applied)
}

/// `votumctl acknowledge --timeline`, for people.
pub(crate) fn unproven_acknowledgement(document: &UnprovenAcknowledgement, style: Style) -> String {
    let UnprovenAcknowledgement { participant, timeline, commits, applied } = document;
    let commits = count(*commits, "commit", "commits");
    let text = heading(*applied, style);
    let said = format!("unproven     {commits} of before {participant} changed to timeline {timeline}\n");
    text + &said + advice(*applied)
}

fn heading(applied: bool, style: Style) -> String {
    style.heading(if applied { "Acknowledged" } else { "Dry run: nothing is done" }) + "\n"
}

fn advice(applied: bool) -> &'static str {
    if applied { "" } else { "\nTo take it off the list, say the same with --yes.\n" }
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

    #[test]
    fn a_dry_run_says_how_many_commits_nobody_can_prove() {
        let text = |applied| {
            let answer = v1::AcknowledgeUnprovenResponse { timeline: 2, commits: 12, applied };
            let document = UnprovenAcknowledgement::new("bank-b".into(), answer);
            unproven_acknowledgement(&document, Style::plain(false))
        };
        assert_eq!(
            text(false),
            "\
Dry run: nothing is done
unproven     12 commits of before bank-b changed to timeline 2

To take it off the list, say the same with --yes.
"
        );
        assert!(text(true).starts_with("Acknowledged\n") && !text(true).contains("--yes"));
    }
}
