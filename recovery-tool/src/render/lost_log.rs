//! What a coordinator whose log is gone left prepared.

use std::fmt::Write as _;

use comfy_table::Color;

use super::{Column, Style, Table, duration};
use crate::document::{LostLog, Transaction};

/// `votumctl lost-log`, for people.
pub(crate) fn lost_log(document: &LostLog, style: Style) -> String {
    let mut text = String::new();
    let heading = if document.applied { "Done, as far as it goes" } else { "Dry run: nothing is done" };
    let _ = writeln!(text, "{}\n", style.heading(heading));
    text.push_str(&databases(document, style));
    if document.transactions.is_empty() {
        let _ = writeln!(
            text,
            "\nNothing of coordinator {} is prepared that can be settled.",
            document.coordinator_id
        );
    }
    for one in &document.transactions {
        transaction(&mut text, one, style);
    }
    if !document.apart.is_empty() {
        let _ = writeln!(text, "\n{}\n{}", style.heading("Left alone"), apart(document, style));
    }
    let width = style.text_width().min(WIDEST);
    if !document.interrupted.is_empty() {
        let _ = writeln!(text, "\n{}", style.heading("Where an earlier run was interrupted"));
    }
    for one in &document.interrupted {
        text.push_str(&hanging("  ", &format!("{} at {}: {}", one.gid, one.participant, one.detail), width));
    }
    text.push('\n');
    for why in &document.attention {
        text.push_str(&style.alarming(hanging("! ", why, width).trim_end()));
        text.push('\n');
    }
    if !document.attention.is_empty() {
        text.push('\n');
    }
    for (number, step) in document.next.iter().enumerate() {
        text.push_str(&hanging(&format!("{}. ", number + 1), step, width));
    }
    text
}

fn databases(document: &LostLog, style: Style) -> String {
    let columns = [
        Column::word("PARTICIPANT"),
        Column::word("SERVER"),
        Column::word("DATABASE"),
        Column::word("MARKERS"),
        Column::sentence("READ"),
    ];
    let mut table = Table::new(&columns, style);
    for one in &document.databases {
        let (read, color) = match (&one.trouble, &one.same_as) {
            (Some(why), _) => (format!("no: {why}"), Some(Color::Red)),
            (None, Some(other)) => (format!("the same as {other}"), None),
            (None, None) => ("yes".to_owned(), None),
        };
        let markers = one.markers.clone().unwrap_or_else(|| "-".to_owned());
        table.colored([
            (one.participant.clone(), None),
            (one.server.clone(), None),
            (one.database.clone(), None),
            (markers, None),
            (read, color),
        ]);
    }
    table.text()
}

fn transaction(text: &mut String, one: &Transaction, style: Style) {
    let (verdict, color) = match one.verdict.as_str() {
        "must_commit" => ("must commit", false),
        "must_rollback" => ("must roll back", false),
        "person" => ("a person must choose", true),
        _ => ("nothing is concluded yet", true),
    };
    let verdict = if color && one.decision.is_none() { style.alarming(verdict) } else { verdict.to_owned() };
    let _ = writeln!(text, "\n{}  {verdict}", style.heading(&one.gtid));
    let width = style.text_width().min(WIDEST);
    let mut say = |name: &str, what: &str| text.push_str(&hanging(&beside(name), what, width));
    say("known", &one.known);
    if let Some(risk) = &one.if_commit {
        say("to commit", risk);
    }
    if let Some(risk) = &one.if_rollback {
        say("to roll back", risk);
    }
    say("advice", &one.advice);
    if let Some(decision) = &one.decision {
        let by = match decision.by.as_str() {
            "evidence" => "as the evidence proves".to_owned(),
            "report" => format!("as decided before{}", because(decision.reason.as_deref())),
            _ => format!("as chosen{}", because(decision.reason.as_deref())),
        };
        say("decision", &format!("{}, {by}", decision.action));
    }
    if let Some(why) = &one.held {
        say("held", why);
    }
    for marker in &one.markers {
        let says = if marker.committed { "committed" } else { "can never commit" };
        say("marker", &format!("{}: branch {} {says}", marker.participant, marker.branch));
    }
    for branch in &one.prepared {
        let age = duration(branch.age_ms);
        say("prepared", &format!("{}: {} (xid {}, {age})", branch.participant, branch.gid, branch.xid));
    }
    for branch in &one.prepared {
        let Some(statement) = &branch.statement else { continue };
        // On a line of its own, and never broken: it is to be copied.
        let _ = writeln!(text, "{:INDENT$}{statement};  -- at {}", "", branch.participant);
        if let Some(result) = &branch.result {
            let detail = branch.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
            text.push_str(&hanging(&beside(""), &format!("-> {}{detail}", result.replace('_', " ")), width));
        } else if let Some(by_hand) = &branch.by_hand {
            text.push_str(&hanging(&beside(""), &format!("by hand: {by_hand}"), width));
        }
    }
}

/// Where what is said of a transaction begins.
const INDENT: usize = 16;

/// Wider lines are hard to read, however wide the terminal is.
const WIDEST: usize = 120;

/// A name, as wide as every other.
fn beside(name: &str) -> String {
    format!("  {name:<width$}", width = INDENT - 2)
}

/// What is said, behind `first`, in lines of at most `width` columns that begin below each other.
fn hanging(first: &str, what: &str, width: usize) -> String {
    let indent = first.chars().count();
    let (mut text, mut column) = (first.to_owned(), indent);
    for (place, word) in what.split(' ').enumerate() {
        let length = word.chars().count();
        if place > 0 && column + 1 + length > width {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        } else if place > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
    text
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

fn apart(document: &LostLog, style: Style) -> String {
    let columns = [
        Column::word("PARTICIPANT"),
        Column::word("GID"),
        Column::number("XID"),
        Column::number("AGE"),
        Column::sentence("WHY"),
    ];
    let mut table = Table::new(&columns, style);
    for one in &document.apart {
        let age = duration(one.age_ms);
        table.row([one.participant.clone(), one.gid.clone(), one.xid.to_string(), age, one.why.clone()]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::fixed::lost;

    #[test]
    fn a_dry_run_says_what_is_known_what_each_choice_risks_and_the_exact_statements() {
        let text = lost_log(&lost(false), Style::plain(false));
        for line in [
            "Dry run: nothing is done",
            "acme-7-3f9ac2-1042  must commit",
            "  known         branch 1 committed (marker at bank-b), so the decision was to commit",
            "                COMMIT PREPARED 'votum_acme_7_3f9ac2_1042_0_2';  -- at bank-a",
            "acme-7-3f9ac2-1050  a person must choose",
            "  decision      rollback, as chosen (4714)",
            "                ROLLBACK PREPARED 'votum_acme_7_3f9ac2_1050_0_1';  -- at bank-a",
            "acme-7-3f9ac2-1052  nothing is concluded yet",
            "  prepared      bank-b: votum_acme_7_3f9ac2_1051_1_2 (xid 931, 4 min)",
            "! connected to bank-b: votum-participant bank-b (process 4711)",
            "! bank-c could not be read",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("PREPARED '").count(), 2, "a statement of what waits\n{text}");
        assert!(text.contains("bank-a       127.0.0.1:5432  bank      none      yes"), "{text}");
        assert!(text.contains("it belongs to the role mallory, which is not the agent's"), "{text}");
    }

    #[test]
    fn what_was_done_is_shown_beside_its_statement() {
        let text = lost_log(&lost(true), Style::plain(false));
        for line in [
            "Done, as far as it goes",
            "                -> done",
            "                -> refused: prepared by another role (SQLSTATE 42501)",
            "! 1 transaction: is not wholly settled, or not as it was decided",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn it_fits_a_terminal_and_never_breaks_a_statement() {
        let text = lost_log(&lost(true), Style::columns(80));
        let copied = |line: &str| line.contains("PREPARED '");
        let long: Vec<&str> =
            text.lines().filter(|line| line.chars().count() > 80 && !copied(line)).collect();
        assert_eq!(long, Vec::<&str>::new(), "{text}");
    }
}
