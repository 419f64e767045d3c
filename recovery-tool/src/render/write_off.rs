//! The way out of a stale log.

use std::fmt::Write as _;

use super::Style;
use crate::document::WriteOff;

/// A witness that grew so lately, in milliseconds, may have been told by a coordinator that runs now.
const RECENT: u64 = 60_000;

/// `votumctl write-off`, for people.
pub(crate) fn write_off(document: &WriteOff, style: Style) -> String {
    let mut text = String::new();
    let heading = if document.applied { "Written off" } else { "Dry run: nothing is done" };
    let _ = writeln!(text, "{}", style.heading(heading));
    let _ = writeln!(text, "coordinator  {}", document.coordinator_id);
    let _ = writeln!(text, "through      epoch {}", document.through_epoch);
    for evidence in &document.evidence {
        let told = |age| format!(", last told {} ago", super::duration(age));
        let when = evidence.witness_age_ms.map(told).unwrap_or_default();
        let _ = writeln!(text, "shown by     {}{when}: {}", evidence.shown_by, evidence.what);
    }
    for branch in &document.waiting {
        let _ = writeln!(text, "waits        {}: {}", branch.participant, branch.gid);
    }
    text.push('\n');
    text.push_str(&if document.applied { next_steps(document) } else { consequences(document) });
    text
}

fn consequences(document: &WriteOff) -> String {
    let mut text = String::new();
    if document.evidence.iter().filter_map(|evidence| evidence.witness_age_ms).any(|age| age < RECENT) {
        text.push_str(
            "! An agent was told more less than a minute ago: the coordinator with the true log may be running\n\
             \x20 now. Stop here and look for it: to go on takes its participants away from it.\n\n",
        );
    }
    let _ = write!(
        text,
        "What this log lacks is given up for good. If the true log can still be found, put it back instead.\n\
         Up to epoch {}, who asks about a transaction without a record here is told EXPIRED, and what is\n\
         prepared without a record waits for a person (votumctl resolve); a retry with an idempotency key\n\
         whose record is lost runs again. Everything begun after the restart works as ever.\n\n\
         To do it, say the same with --coordinator-id {} --yes, and restart the coordinator.\n",
        document.through_epoch, document.coordinator_id
    );
    text
}

fn next_steps(document: &WriteOff) -> String {
    format!(
        "1. Restart the coordinator: its next epoch is above {}.\n\
         2. votumctl in-doubt shows what waits for a person; votumctl resolve settles it.\n",
        document.through_epoch
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::fixed::lacking;

    fn text(applied: bool) -> String {
        write_off(&WriteOff::from(lacking(applied)), Style::plain(false))
    }

    #[test]
    fn a_dry_run_says_who_saw_what_and_when_what_it_costs_and_how_to_do_it() {
        assert_eq!(
            text(false),
            "\
Dry run: nothing is done
coordinator  acme
through      epoch 8
shown by     agent bank-a:7420, last told 2 h ago: its witness saw position 90 of epoch 7, and this log ends at 80 there
shown by     agent bank-b:7420, last told 4.0 s ago: its witness saw epoch 8, which this log does not hold
waits        bank-a: votum_acme_7_3f9ac2_1042_0_2

! An agent was told more less than a minute ago: the coordinator with the true log may be running
  now. Stop here and look for it: to go on takes its participants away from it.

What this log lacks is given up for good. If the true log can still be found, put it back instead.
Up to epoch 8, who asks about a transaction without a record here is told EXPIRED, and what is
prepared without a record waits for a person (votumctl resolve); a retry with an idempotency key
whose record is lost runs again. Everything begun after the restart works as ever.

To do it, say the same with --coordinator-id acme --yes, and restart the coordinator.
"
        );
    }

    #[test]
    fn nobody_is_warned_of_a_coordinator_that_was_last_heard_long_ago() {
        let mut answer = lacking(false);
        answer.evidence.pop();
        let text = write_off(&WriteOff::from(answer), Style::plain(false));
        assert!(!text.contains('!'), "{text}");
    }

    #[test]
    fn once_it_is_done_the_next_steps_are_named() {
        let text = text(true);
        assert!(text.starts_with("Written off\n"), "{text}");
        assert!(text.contains("1. Restart the coordinator: its next epoch is above 8."), "{text}");
        assert!(!text.contains("--yes"), "{text}");
    }
}
