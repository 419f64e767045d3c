//! The files of a log, and their records. Dumps are written as they are read: their columns have fixed widths.

use std::fmt::Write as _;
use std::path::Path;

use super::{Column, Style, Table, count, duration};
use crate::document::{DumpedRecord, SalvagedRecord, Verified};

/// The newest lives that are shown; JSON has them all.
const LIVES: usize = 5;

/// `votumctl log verify`, for people.
pub(crate) fn verified(document: &Verified, style: Style) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", style.heading(&format!("log in {}", document.directory)));
    if let Some(id) = &document.coordinator_id {
        let _ = writeln!(text, "coordinator   {id}");
        let _ = writeln!(text, "position      {}", document.position);
        let _ = writeln!(text, "running time  {}", duration(document.running_ms));
        let _ = writeln!(text, "still owed    {}", count(document.owed, "commit", "commits"));
        let _ = writeln!(text, "store         {}", count(document.store_bytes, "byte", "bytes"));
    }
    for half in &document.halves {
        let newest = if half.newest { ", the newest" } else { "" };
        let _ = writeln!(text, "journal       {}: {} bytes{newest}", half.file, half.bytes);
    }
    if !document.lives.is_empty() {
        let _ = write!(text, "\n{}", lives(document, style));
    }
    for warning in &document.warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    for problem in &document.problems {
        let _ = writeln!(text, "\n{} {}", style.alarming("!"), problem.message);
    }
    let _ = match document.problems.len() {
        0 => writeln!(text, "\nAll is well: every record is there and is what was written."),
        problems => writeln!(text, "\n{}.", count(problems as u64, "problem", "problems")),
    };
    text
}

fn lives(document: &Verified, style: Style) -> String {
    let columns = [
        Column::number("EPOCH"),
        Column::word("INCARNATION"),
        Column::number("FIRST POSITION"),
        Column::number("LAST POSITION"),
        Column::number("LEASED UNTIL"),
    ];
    let mut table = Table::new(&columns, style);
    let skipped = document.lives.len().saturating_sub(LIVES);
    for life in document.lives.iter().skip(skipped) {
        table.row([
            life.epoch.to_string(),
            life.incarnation.clone(),
            life.first_position.to_string(),
            life.last_position.to_string(),
            life.leased_until.to_string(),
        ]);
    }
    match skipped {
        0 => table.text(),
        skipped => format!("{}and {skipped} older\n", table.text()),
    }
}

/// The line above a dump's records.
pub(crate) fn dump_heading() -> String {
    format!(
        "{:>10}  {:<9}  {:>14}  {:<24}  WHAT IT SAYS",
        "POSITION", "RECORD", "RUNNING TIME", "TRANSACTION"
    )
}

/// One record of a dump.
pub(crate) fn dumped(record: &DumpedRecord) -> String {
    format!(
        "{:>10}  {:<9}  {:>14}  {:<24}  {}",
        record.position,
        record.kind,
        duration(record.running_ms),
        record.gtid.as_deref().unwrap_or("-"),
        record.text
    )
}

/// The line above what was salvaged.
pub(crate) fn salvage_heading() -> String {
    format!(
        "{:<9}  {:>10}  {:>10}  {:<9}  {:<24}  {:<8}  WHAT IT SAYS",
        "FILE", "BYTE", "POSITION", "RECORD", "TRANSACTION", "TRUST"
    )
}

/// One record that was salvaged.
pub(crate) fn salvaged(record: &SalvagedRecord) -> String {
    let file = Path::new(&record.source).file_name().map(|name| name.to_string_lossy());
    format!(
        "{:<9}  {:>10}  {:>10}  {:<9}  {:<24}  {:<8}  {}",
        file.as_deref().unwrap_or(&record.source),
        record.offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
        record.position,
        record.kind.unwrap_or("?"),
        record.gtid.as_deref().unwrap_or("-"),
        if record.doubtful { "doubtful" } else { "chain" },
        record.text
    )
}

/// What is to be said below what was salvaged.
pub(crate) fn salvage_end(records: u64, doubtful: u64) -> String {
    format!(
        "\n{}, {doubtful} of them doubtful: intact by themselves, and nothing says that they were acknowledged \
         or are of this time. A doubtful record is never a decision.",
        count(records, "intact record", "intact records")
    )
}

#[cfg(test)]
mod tests {
    use votum_coordinator::log::offline::Report;
    use votum_coordinator::log::salvage::Trust;

    use super::*;
    use crate::document::fixed;

    #[test]
    fn a_log_that_is_well_and_one_that_is_not() {
        let well = Report { problems: Vec::new(), warnings: Vec::new(), ..fixed::report() };
        let expected = "\
log in /log
coordinator   acme
position      4711
running time  1 min 9 s
still owed    1 commit
store         5120 bytes
journal       /log/journal-a: 1048576 bytes, the newest
journal       /log/journal-b: 1048576 bytes

EPOCH  INCARNATION  FIRST POSITION  LAST POSITION  LEASED UNTIL
    7  3f9ac2                   12           4711          4096

All is well: every record is there and is what was written.
";
        assert_eq!(verified(&Verified::new(Path::new("/log"), well), Style::plain(false)), expected);
        let text = verified(&Verified::new(Path::new("/log"), fixed::report()), Style::plain(false));
        assert!(text.contains("! VOTUM-1107: /log/journal-b, byte 8192: a batch is not"), "{text}");
        assert!(text.ends_with("\n1 problem.\n"), "{text}");
    }

    #[test]
    fn records_stand_below_their_headings() {
        let lines = [dump_heading(), dumped(&fixed::dumped().into())];
        let expected = [
            "  POSITION  RECORD       RUNNING TIME  TRANSACTION               WHAT IT SAYS",
            "      4709  Begun           1 min 9 s  acme-7-3f9ac2-1042        \
             timeout 30000 ms, label \"transfer\", client \"billing\"",
        ];
        assert_eq!(lines, expected);
        let lines = [
            salvage_heading(),
            salvaged(&fixed::salvaged(Trust::InChain).into()),
            salvaged(&fixed::salvaged(Trust::Doubtful).into()),
        ];
        let expected = [
            "FILE             BYTE    POSITION  RECORD     TRANSACTION               TRUST     WHAT IT SAYS",
            "journal-a        4096        4709  Begun      acme-7-3f9ac2-1042        chain     \
             timeout 30000 ms, label \"transfer\", client \"billing\"",
            "journal-a        4096        4709  Begun      acme-7-3f9ac2-1042        doubtful  \
             timeout 30000 ms, label \"transfer\", client \"billing\"",
        ];
        assert_eq!(lines, expected);
    }
}
