//! What is prepared at the participants.

use std::fmt::Write as _;

use comfy_table::Color;

use super::{Column, Style, Table, count, duration, maybe_duration};
use crate::document::{InDoubt, Prepared, Unheard};

/// `votumctl in-doubt`, for people.
pub(crate) fn in_doubt(document: &InDoubt, style: Style) -> String {
    let mut text = String::new();
    if document.branches.is_empty() {
        let heard = if document.unheard.is_empty() { "" } else { " where it could be asked" };
        let _ = writeln!(text, "Nothing of ours is prepared{heard}.");
    } else {
        let _ = writeln!(text, "{}", style.heading(&how_many(&document.branches)));
        text += &ours(&document.branches, style);
        text += &held(&document.branches);
    }
    if !document.foreign.is_empty() {
        let _ = writeln!(text, "\n{}", style.heading("Not ours, never touched"));
        text += &foreign(&document.foreign, style);
    }
    if !document.unheard.is_empty() {
        let _ = writeln!(text, "\n{}", style.heading("Could not be asked: nothing is known of these"));
        text += &unheard(&document.unheard, style);
    }
    if !document.attention.is_empty() {
        let _ = writeln!(text);
    }
    for why in &document.attention {
        let _ = writeln!(text, "{} {why}", style.alarming("!"));
    }
    text
}

/// A branch without an age was not read: its agent is working on it.
fn how_many(branches: &[Prepared]) -> String {
    let prepared = branches.iter().filter(|branch| branch.age_ms.is_some()).count() as u64;
    let busy = branches.len() as u64 - prepared;
    let text = format!("{} of ours prepared", count(prepared, "branch", "branches"));
    if busy == 0 { text } else { format!("{text}, {busy} that agents are working on") }
}

fn ours(branches: &[Prepared], style: Style) -> String {
    let columns = [
        Column::word("PARTICIPANT"),
        Column::word("BRANCH (GID)"),
        Column::number("AGE"),
        Column::word("DECISION"),
        Column::word("RULE"),
        Column::sentence("WHAT WILL HAPPEN"),
    ];
    let mut table = Table::new(&columns, style);
    for branch in branches {
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let color = branch.needs_a_person().then_some(Color::Red);
        table.colored([
            (branch.participant.clone(), None),
            (branch.gid.clone(), None),
            (maybe_duration(branch.age_ms), None),
            (dash(&branch.decision), None),
            (dash(&branch.rule), color),
            (branch.next.clone(), color),
        ]);
    }
    table.text()
}

/// The locks that branches keep, and who waits for them.
fn held(branches: &[Prepared]) -> String {
    let mut text = String::new();
    for branch in branches.iter().filter(|branch| !branch.locks.is_empty() || branch.blocked_sessions > 0) {
        let _ = write!(text, "{} at {} keeps locked: ", branch.gid, branch.participant);
        let locks = if branch.locks.is_empty() { "rows".to_owned() } else { branch.locks.join(", ") };
        let _ = match branch.blocked_sessions {
            0 => writeln!(text, "{locks}; nobody waits for it"),
            waiting => writeln!(
                text,
                "{locks}; {} for it, the longest since {}",
                count(waiting.into(), "session waits", "sessions wait"),
                duration(branch.longest_wait_ms)
            ),
        };
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn foreign(foreign: &[Prepared], style: Style) -> String {
    let columns = [
        Column::word("PARTICIPANT"),
        Column::word("NAME (GID)"),
        Column::word("OWNER"),
        Column::number("AGE"),
        Column::sentence("WHAT WILL HAPPEN"),
    ];
    let mut table = Table::new(&columns, style);
    for row in foreign {
        table.row([
            row.participant.clone(),
            row.gid.clone(),
            row.owner.clone().unwrap_or_else(|| "(dropped)".to_owned()),
            maybe_duration(row.age_ms),
            row.next.clone(),
        ]);
    }
    table.text()
}

fn unheard(unheard: &[Unheard], style: Style) -> String {
    let mut table = Table::new(&[Column::word("PARTICIPANT"), Column::sentence("WHY")], style);
    for one in unheard {
        table.row([one.participant.clone(), one.reason.clone()]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use votum_proto::v1;

    use super::*;
    use crate::document::fixed::everything;

    #[test]
    fn branches_of_ours_foreign_ones_and_who_did_not_answer() {
        let expected = "\
2 branches of ours prepared
PARTICIPANT  BRANCH (GID)                    AGE  DECISION  RULE  WHAT WILL HAPPEN
bank-a       votum_acme_5_aaaaaa_9_0_2     4 min  none      R10   a person decides: votumctl resolve
bank-a       votum_acme_7_3f9ac2_1042_0_2  3.2 s  commit    R1    COMMIT PREPARED

votum_acme_7_3f9ac2_1042_0_2 at bank-a keeps locked: public.accounts (RowExclusiveLock); 2 sessions wait \
for it, the longest since 3.1 s

Not ours, never touched
PARTICIPANT  NAME (GID)  OWNER    AGE  WHAT WILL HAPPEN
bank-a       other       votum  3.2 s  nothing: it is not this coordinator's

Could not be asked: nothing is known of these
PARTICIPANT  WHY
bank-b       its agent is unreachable

! votum_acme_5_aaaaaa_9_0_2 at bank-a waits for a person
! nothing is known of what is prepared at bank-b
";
        assert_eq!(in_doubt(&everything().into(), Style::plain(false)), expected);
    }

    #[test]
    fn names_are_never_broken_on_a_narrow_terminal() {
        let text = in_doubt(&everything().into(), Style::columns(90));
        assert!(text.contains("votum_acme_5_aaaaaa_9_0_2"), "{text}");
        assert!(text.contains("a person"), "{text}");
    }

    #[test]
    fn a_branch_that_its_agent_is_working_on_is_not_called_prepared() {
        let mut answer = everything();
        answer.branches[0].row =
            Some(v1::PreparedTransaction { gid: "votum_x".into(), ..Default::default() });
        let text = in_doubt(&answer.into(), Style::plain(false));
        assert!(text.starts_with("1 branch of ours prepared, 1 that agents are working on\n"), "{text}");
    }

    #[test]
    fn nothing_in_doubt_is_said_and_not_claimed_of_those_who_did_not_answer() {
        let nothing = v1::ListInDoubtResponse::default();
        assert_eq!(in_doubt(&nothing.into(), Style::plain(false)), "Nothing of ours is prepared.\n");
        let mut silent = everything();
        silent.branches.clear();
        let text = in_doubt(&silent.into(), Style::plain(false));
        assert!(text.starts_with("Nothing of ours is prepared where it could be asked.\n"), "{text}");
    }
}
