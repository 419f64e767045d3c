//! Transactions: a table of many, or one with all that is known.

use std::fmt::Write as _;

use super::{Column, Style, Table, count, duration, maybe_duration, state_color};
use crate::document::{List, Outcome, Shown};

/// `votumctl list`, for people.
pub(crate) fn list(list: &List, style: Style) -> String {
    if list.transactions.is_empty() {
        return "No such transaction is live or remembered.\n".to_owned();
    }
    let columns = [
        Column::word("TRANSACTION"),
        Column::word("STATE"),
        Column::number("AGE"),
        Column::sentence("PARTICIPANTS"),
        Column::sentence("LABEL"),
    ];
    let mut table = Table::new(&columns, style);
    for transaction in &list.transactions {
        table.colored([
            (transaction.gtid.clone(), None),
            (transaction.state.clone(), state_color(&transaction.state)),
            (maybe_duration(transaction.age_ms), None),
            (transaction.participants.join(", "), None),
            (transaction.label.clone().unwrap_or_default(), None),
        ]);
    }
    table.text()
}

/// `votumctl show`, for people.
pub(crate) fn shown(shown: &Shown, style: Style) -> String {
    let mut text = String::new();
    let summary = &shown.summary;
    let _ = write!(text, "{}", style.heading(&format!("transaction {}", summary.gtid)));
    if let Some(age) = summary.age_ms {
        let _ = write!(text, "  begun {} ago", duration(age));
    }
    let _ = writeln!(text);
    if let Some(label) = &summary.label {
        let _ = writeln!(text, "label    {label}");
    }
    let _ = writeln!(text, "state    {}", summary.state);
    let _ = writeln!(text, "outcome  {}", outcome(&shown.outcome));
    let _ = writeln!(text, "next     {}", shown.next);
    for heuristic in &shown.outcome.heuristics {
        let what = format!("heuristic {} at {}: {}", heuristic.kind, heuristic.participant, heuristic.detail);
        let _ = writeln!(text, "{} {what}", style.alarming("!"));
    }
    if !shown.branches.is_empty() {
        let _ = write!(text, "\n{}", branches(shown, style));
    }
    let _ = write!(text, "\n{}", records(shown, style));
    text
}

fn outcome(outcome: &Outcome) -> String {
    let detail = || outcome.detail.clone().unwrap_or_default();
    match outcome.kind {
        "committed" if outcome.completed == Some(true) && outcome.heuristics.is_empty() => {
            "COMMITTED, acknowledged everywhere".to_owned()
        }
        "committed" if outcome.completed == Some(true) => {
            "COMMITTED, except where a branch departed from the decision: see below".to_owned()
        }
        "committed" => format!("COMMITTED, not yet acknowledged by {}", outcome.pending.join(", ")),
        "read_only" => "READ_ONLY: nothing was written anywhere".to_owned(),
        "aborted" => format!("ABORTED{}", reason(outcome)),
        "in_progress" => format!("IN PROGRESS: {}", detail()),
        "expired" => "EXPIRED: it ended longer ago than the log remembers".to_owned(),
        _ => format!("UNKNOWN: {}", detail()),
    }
}

fn reason(outcome: &Outcome) -> String {
    let Some(reason) = &outcome.reason else { return String::new() };
    let mut text = format!(" ({})", reason.kind.replace('_', " "));
    if let Some(participant) = &reason.participant {
        let _ = write!(text, " at {participant}");
    }
    if let Some(sqlstate) = &reason.sqlstate {
        let _ = write!(text, ", SQLSTATE {sqlstate}");
    }
    if !reason.message.is_empty() {
        let _ = write!(text, ": {}", reason.message);
    }
    text
}

fn branches(shown: &Shown, style: Style) -> String {
    let columns = [
        Column::word("PARTICIPANT"),
        Column::word("BRANCH (GID)"),
        Column::word("STATE"),
        Column::number("XID8"),
        Column::sentence("TROUBLE"),
    ];
    let mut table = Table::new(&columns, style);
    for branch in &shown.branches {
        table.colored([
            (branch.participant.clone(), None),
            (branch.gid.clone().unwrap_or_else(|| "-".into()), None),
            (branch.state.clone(), state_color(&branch.state)),
            (branch.xid8.map_or_else(|| "-".into(), |xid8| xid8.to_string()), None),
            (branch.trouble.clone().unwrap_or_default(), None),
        ]);
    }
    table.text()
}

fn records(shown: &Shown, style: Style) -> String {
    if shown.records.is_empty() {
        return "The log holds no record of it.\n".to_owned();
    }
    let columns = [
        Column::number("POSITION"),
        Column::word("RECORD"),
        Column::number("RUNNING TIME"),
        Column::sentence("WHAT IT SAYS"),
    ];
    let mut table = Table::new(&columns, style);
    for record in &shown.records {
        table.row([
            record.position.to_string(),
            record.kind.clone(),
            duration(record.running_ms),
            record.text.clone(),
        ]);
    }
    let records = count(shown.records.len() as u64, "record", "records");
    format!("{}{records} in the log\n", table.text())
}

#[cfg(test)]
mod tests {
    use votum_proto::v1;

    use super::*;
    use crate::document::fixed::{committing, departed, summary};

    #[test]
    fn a_list_where_it_is_piped_and_on_a_terminal() {
        let recorded = v1::TransactionSummary { live: false, label: String::new(), ..summary("committed") };
        let transactions = vec![summary("active"), recorded];
        let document = List::from(v1::ListTransactionsResponse { transactions });
        let piped = "\
TRANSACTION         STATE        AGE  PARTICIPANTS    LABEL
acme-7-3f9ac2-1042  active     3.2 s  bank-a, bank-b  transfer
acme-7-3f9ac2-1042  committed      -  bank-a, bank-b
";
        assert_eq!(list(&document, Style::plain(false)), piped);
        let narrow = "\
TRANSACTION         STATE        AGE  PARTICIPANTS  LABEL
acme-7-3f9ac2-1042  active     3.2 s  bank-a,       transfer
                                      bank-b
acme-7-3f9ac2-1042  committed      -  bank-a,
                                      bank-b
";
        assert_eq!(list(&document, Style::columns(62)), narrow);
    }

    #[test]
    fn a_transaction_with_all_that_is_known() {
        let expected = "\
transaction acme-7-3f9ac2-1042  begun 3.2 s ago
label    transfer
state    committing
outcome  COMMITTED, not yet acknowledged by bank-b
next     COMMIT PREPARED at bank-b, again and again until it is acknowledged

PARTICIPANT  BRANCH (GID)                  STATE         XID8  TROUBLE
bank-a       votum_acme_7_3f9ac2_1042_0_2  acknowledged   731
bank-b       votum_acme_7_3f9ac2_1042_1_2  committing     742

POSITION  RECORD   RUNNING TIME  WHAT IT SAYS
    4709  Begun       1 min 9 s  label transfer, timeout 30 s
    4710  Decided     1 min 9 s  commit: bank-a xid8 731, bank-b xid8 742
2 records in the log
";
        assert_eq!(shown(&committing().into(), Style::plain(false)), expected);
    }

    #[test]
    fn a_commit_with_a_departure_is_not_called_acknowledged_everywhere() {
        let mut document = Shown::from(departed());
        document.outcome.kind = "committed";
        document.outcome.completed = Some(true);
        let text = shown(&document, Style::plain(false));
        assert!(text.contains("outcome  COMMITTED, except where a branch departed"), "{text}");
        assert!(!text.contains("acknowledged everywhere"), "{text}");
    }

    #[test]
    fn a_branch_that_departed_is_named_with_what_was_seen() {
        let text = shown(&departed().into(), Style::plain(false));
        assert!(
            text.contains("outcome  ABORTED (voted no) at bank-b, SQLSTATE 23505: duplicate key\n"),
            "{text}"
        );
        assert!(text.contains("! heuristic rollback at bank-a: the server says"), "{text}");
    }
}
