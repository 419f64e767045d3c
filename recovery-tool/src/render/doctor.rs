//! What the databases of participants are like, and what mends them.

use std::fmt::Write as _;

use comfy_table::Color;

use super::{Column, Style, Table, count};
use crate::document::{Doctor, Finding, Looked};

/// `votumctl doctor`, for people.
pub(crate) fn doctor(document: &Doctor, style: Style) -> String {
    let mut text = looked(&document.participants, style);
    if document.findings.is_empty() {
        text.push_str("\nNothing was found that needs mending.\n");
        return text;
    }
    let _ = write!(text, "\n{}", findings(&document.findings, style));
    let _ = writeln!(text, "\n{}", style.heading("What mends it"));
    for finding in &document.findings {
        remedy(&mut text, finding);
    }
    let of = |severity: &str| document.findings.iter().filter(|finding| finding.severity == severity).count();
    let _ = writeln!(
        text,
        "\n{}, {}, {}: `votumctl explain CODE` says more of each",
        count(of("error") as u64, "error", "errors"),
        count(of("warning") as u64, "warning", "warnings"),
        count(of("note") as u64, "note", "notes")
    );
    text
}

fn looked(participants: &[Looked], style: Style) -> String {
    let columns = [
        Column::word("PARTICIPANT"),
        Column::word("SERVER"),
        Column::word("DATABASE"),
        Column::word("ROLE"),
        Column::word("POSTGRESQL"),
        Column::word("FILE"),
    ];
    let mut table = Table::new(&columns, style);
    for one in participants {
        let silent = || ("no answer".to_owned(), Some(Color::Red));
        table.colored([
            (one.participant.clone(), None),
            (one.server.clone(), None),
            (one.database.clone(), None),
            (one.role.clone(), None),
            one.version.clone().map_or_else(silent, |version| (version, None)),
            (one.file.clone(), None),
        ]);
    }
    table.text()
}

fn findings(findings: &[Finding], style: Style) -> String {
    let columns = [
        Column::word("SEVERITY"),
        Column::word("CODE"),
        Column::word("PARTICIPANT"),
        Column::sentence("WHAT WAS SEEN"),
        Column::sentence("WHY IT MATTERS"),
    ];
    let mut table = Table::new(&columns, style);
    for finding in findings {
        let color = match finding.severity.as_str() {
            "error" => Some(Color::Red),
            "warning" => Some(Color::Yellow),
            _ => None,
        };
        table.colored([
            (finding.severity.clone(), color),
            (finding.code.clone(), None),
            (finding.participants.join(", "), None),
            (finding.seen.clone(), None),
            (finding.why.clone(), None),
        ]);
    }
    table.text()
}

/// The lines stand by themselves and are never broken: they are to be copied.
fn remedy(text: &mut String, finding: &Finding) {
    let names = finding.participants.join(", ");
    let at = match finding.remedy.place.as_str() {
        "database" => format!("as a superuser, in the database of {names}"),
        "person" => names,
        place => format!("{place}, {names}"),
    };
    let _ = writeln!(text, "{} {at}:", finding.code);
    for line in &finding.remedy.lines {
        let end = if finding.remedy.statements { ";" } else { "" };
        let _ = writeln!(text, "    {line}{end}");
    }
    if let Some(advice) = &finding.remedy.advice {
        let _ = writeln!(text, "  {advice}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::fixed::{ailing_databases, sound_databases};

    #[test]
    fn a_sound_database_is_shown_with_nothing_to_mend() {
        let expected = "\
PARTICIPANT  SERVER          DATABASE  ROLE   POSTGRESQL  FILE
bank-a       127.0.0.1:5432  bank      votum  15.18       /etc/votum/bank-a.toml

Nothing was found that needs mending.
";
        assert_eq!(doctor(&sound_databases(), Style::plain(false)), expected);
    }

    #[test]
    fn findings_are_shown_worst_first_with_the_statements_that_mend_them() {
        let text = doctor(&ailing_databases(), Style::columns(110));
        assert!(text.lines().all(|line| line.starts_with("  ") || line.len() <= 110), "{text}");
        for line in [
            "bank-b       127.0.0.1:5433  bank      votum  no answer   /etc/votum/bank-b.toml",
            "    ALTER SYSTEM SET max_prepared_transactions = 64;",
            "    ROLLBACK PREPARED 'other';",
            "VOTUM-2205 as a superuser, in the database of bank-a:",
            "VOTUM-2201 bank-b:",
            "2 errors, 1 warning, 1 note: `votumctl explain CODE` says more of each",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let place = |code: &str| text.find(code).unwrap();
        assert!(place("VOTUM-2201") < place("VOTUM-2212") && place("VOTUM-2212") < place("VOTUM-2231"));
    }
}
