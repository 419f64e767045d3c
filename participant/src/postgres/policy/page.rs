//! `docs/postgres-errors.md`, made of the table.

use std::fmt::Write as _;

use super::tests::ALL;
use super::{TABLE, retryable, unlisted};
use crate::database::{Command, Policy};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/postgres-errors.md");

const HEAD: &str = "\
# What a database may answer

What an agent does about each error of PostgreSQL, by command. This page is made of the one table in the agent's code by which it acts (`participant/src/postgres/policy.rs`); a test fails when they differ. A code of two characters stands for its whole class, and the first line that fits applies. What is not listed is never guessed: where a decision stands (phase 2) the command is retried with an alarm, and where none stands nothing was committed.

| policy | means |
|---|---|
";

fn words(policy: Policy) -> (&'static str, &'static str) {
    match policy {
        Policy::VoteNo => {
            ("no", "the branch votes no, or its statement failed: nothing is committed, and nothing will be")
        }
        Policy::Acknowledge => ("acknowledge", "the command has had its effect, or the error is the answer"),
        Policy::Verify => (
            "verify",
            "nobody knows whether it had its effect: what is prepared is compared, and the server asked what became of the transaction id; of a COMMIT, the branch's marker tells",
        ),
        Policy::Retry => ("retry", "it had no effect: tried again later"),
        Policy::RetryWithAlarm => (
            "retry, alarm",
            "it had no effect, and it takes a person to change that: tried again later, with an alarm",
        ),
        Policy::Refuse => {
            ("refuse", "this server cannot be the participant: nothing is concluded, with an alarm")
        }
    }
}

fn title(command: Command) -> &'static str {
    match command {
        Command::Connect => "Opening a connection",
        Command::Begin => "BEGIN",
        Command::Statement => "A client's statement",
        Command::Prepare => "PREPARE TRANSACTION",
        Command::CommitReadOnly => "COMMIT of a branch that wrote nothing",
        Command::CommitOnePhase => "COMMIT of a transaction's only branch",
        Command::Settle => "Inserting a tombstone",
        Command::CommitPrepared => "COMMIT PREPARED",
        Command::RollbackPrepared => "ROLLBACK PREPARED",
        Command::Listing => "Listing what is prepared",
        Command::OutcomeQuery => "Asking what became of a transaction id",
    }
}

fn page() -> String {
    use Policy::{Acknowledge, Refuse, Retry, RetryWithAlarm, Verify, VoteNo};
    let mut page = HEAD.to_owned();
    for policy in [VoteNo, Acknowledge, Verify, Retry, RetryWithAlarm, Refuse] {
        let (name, meaning) = words(policy);
        let _ = writeln!(page, "| {name} | {meaning} |");
    }
    for command in ALL {
        let _ = writeln!(page, "\n## {}\n\n| SQLSTATE | means | policy |\n|---|---|---|", title(command));
        for row in TABLE.iter().filter(|row| row.command == command) {
            let code = if row.sqlstate.is_empty() { "none" } else { row.sqlstate };
            let again =
                if retryable(row.sqlstate) { "; the client may run the transaction again" } else { "" };
            let _ = writeln!(page, "| {code} | {} | {}{again} |", row.meaning, words(row.policy).0);
        }
        let _ = writeln!(page, "| any other | | {} |", words(unlisted(command)).0);
    }
    page
}

/// To write it anew: `VOTUM_WRITE_PAGE=1 cargo test -p votum-participant --lib page`.
#[test]
fn the_page_on_errors_is_the_table() {
    if std::env::var_os("VOTUM_WRITE_PAGE").is_some() {
        std::fs::write(PAGE, page()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(PAGE).unwrap(), page());
}

#[test]
fn every_row_says_what_the_database_means() {
    assert!(TABLE.iter().all(|row| !row.meaning.is_empty() && !row.meaning.contains('|')));
}
