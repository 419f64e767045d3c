//! The one table of what is done about each SQLSTATE that each command meets. Nothing else in the agent
//! decides by SQLSTATE what becomes of a branch.
//!
//! What is not in the table is never guessed: where a decision stands (phase 2) it is retried with an alarm;
//! where none stands nothing was committed, and the branch votes no or its statement failed.

use tonic::Code;

use crate::database::{Command, Policy};

/// One row. `sqlstate` is a whole code, or the two characters of a class; the empty one stands for errors
/// of the connection itself. The first row that fits applies.
struct Row {
    command: Command,
    sqlstate: &'static str,
    policy: Policy,
}

const fn row(command: Command, sqlstate: &'static str, policy: Policy) -> Row {
    Row { command, sqlstate, policy }
}

use Command::{
    Begin, CommitPrepared, CommitReadOnly, Connect, Listing, OutcomeQuery, Prepare, RollbackPrepared,
    Statement,
};
use Policy::{Acknowledge, Refuse, Retry, RetryWithAlarm, Verify, VoteNo};

const TABLE: &[Row] = &[
    // Broken on the way, or the server is not there: it comes back.
    row(Connect, "", Retry),
    row(Connect, "08", Retry),
    // Starting up, shutting down, in recovery without hot standby.
    row(Connect, "57P03", Retry),
    row(Connect, "57P01", Retry),
    row(Connect, "57P02", Retry),
    // Too many connections.
    row(Connect, "53300", Retry),
    // Authentication, unknown database, no right to connect: somebody has to change something.
    row(Connect, "28", RetryWithAlarm),
    row(Connect, "3D000", RetryWithAlarm),
    row(Connect, "42501", RetryWithAlarm),
    row(Begin, "", VoteNo),
    row(Statement, "", VoteNo),
    // The backend may finish its PREPARE after the connection broke.
    row(Prepare, "", Verify),
    row(Prepare, "08", Verify),
    row(Prepare, "57P01", Verify),
    row(Prepare, "57P02", Verify),
    // Serialization failure, deadlock: the whole transaction may be run again.
    row(Prepare, "40001", VoteNo),
    row(Prepare, "40P01", VoteNo),
    // Deferred constraints.
    row(Prepare, "23", VoteNo),
    // A gid that is taken already.
    row(Prepare, "42710", VoteNo),
    // max_prepared_transactions is 0, or all its slots are taken.
    row(Prepare, "55000", VoteNo),
    row(Prepare, "53200", VoteNo),
    // Temporary objects, LISTEN, cursors WITH HOLD, exported snapshots, foreign writes.
    row(Prepare, "0A000", VoteNo),
    // The transaction had failed, or was gone.
    row(Prepare, "25P01", VoteNo),
    row(Prepare, "25P02", VoteNo),
    // Cancelled before it was prepared.
    row(Prepare, "57014", VoteNo),
    // The commit of a branch that wrote nothing has nothing to lose.
    row(CommitReadOnly, "", VoteNo),
    row(CommitReadOnly, "40001", VoteNo),
    // No such gid: somebody ended it, or it was never prepared, or a failover lost it. Find out which.
    row(CommitPrepared, "42704", Verify),
    // Busy in another backend, which is the only object state that COMMIT PREPARED complains about.
    row(CommitPrepared, "55000", Retry),
    row(CommitPrepared, "", Verify),
    row(CommitPrepared, "08", Verify),
    row(CommitPrepared, "57014", Verify),
    row(CommitPrepared, "57P01", Verify),
    row(CommitPrepared, "57P02", Verify),
    row(CommitPrepared, "57P03", Retry),
    // Out of memory or connections for the moment.
    row(CommitPrepared, "53200", Retry),
    row(CommitPrepared, "53300", Retry),
    // A full disk, the wrong owner, a standby: a person's work.
    row(CommitPrepared, "53100", RetryWithAlarm),
    row(CommitPrepared, "42501", RetryWithAlarm),
    row(CommitPrepared, "25006", RetryWithAlarm),
    // Prepared in another database of this server.
    row(CommitPrepared, "0A000", Refuse),
    row(RollbackPrepared, "42704", Verify),
    row(RollbackPrepared, "55000", Retry),
    row(RollbackPrepared, "", Verify),
    row(RollbackPrepared, "08", Verify),
    row(RollbackPrepared, "57014", Verify),
    row(RollbackPrepared, "57P01", Verify),
    row(RollbackPrepared, "57P02", Verify),
    row(RollbackPrepared, "57P03", Retry),
    row(RollbackPrepared, "53200", Retry),
    row(RollbackPrepared, "53300", Retry),
    row(RollbackPrepared, "53100", RetryWithAlarm),
    row(RollbackPrepared, "42501", RetryWithAlarm),
    row(RollbackPrepared, "25006", RetryWithAlarm),
    row(RollbackPrepared, "0A000", Refuse),
    row(Listing, "", Retry),
    row(Listing, "08", Retry),
    row(Listing, "57014", Retry),
    row(Listing, "57P01", Retry),
    row(Listing, "57P02", Retry),
    row(Listing, "57P03", Retry),
    row(Listing, "53", Retry),
    row(OutcomeQuery, "", Retry),
    row(OutcomeQuery, "08", Retry),
    row(OutcomeQuery, "57014", Retry),
    row(OutcomeQuery, "57P01", Retry),
    row(OutcomeQuery, "57P02", Retry),
    row(OutcomeQuery, "57P03", Retry),
    row(OutcomeQuery, "53", Retry),
    // The server has not reached this transaction id: that is the answer.
    row(OutcomeQuery, "22023", Acknowledge),
];

/// What is done about `sqlstate` in answer to `command`; an empty one means that the connection broke.
pub fn policy(command: Command, sqlstate: &str) -> Policy {
    TABLE
        .iter()
        .find(|row| row.command == command && fits(row.sqlstate, sqlstate))
        .map_or_else(|| unlisted(command), |row| row.policy)
}

fn fits(pattern: &str, sqlstate: &str) -> bool {
    if pattern.is_empty() { sqlstate.is_empty() } else { sqlstate.starts_with(pattern) }
}

fn unlisted(command: Command) -> Policy {
    match command {
        Begin | Statement | Prepare | CommitReadOnly => VoteNo,
        Connect | CommitPrepared | RollbackPrepared | Listing | OutcomeQuery => RetryWithAlarm,
    }
}

/// Whether the same transaction may succeed when it is run again from its beginning.
pub fn retryable(sqlstate: &str) -> bool {
    matches!(sqlstate, "40001" | "40P01")
}

/// A sentence that names the remedy, where the database's own does not.
pub(super) fn remedy(command: Command, sqlstate: &str) -> Option<&'static str> {
    match (command, sqlstate) {
        (Prepare, "55000") => Some(
            "set max_prepared_transactions in postgresql.conf to at least the number of transactions that may \
             be prepared at once, and restart the server",
        ),
        (Prepare, "53200") => Some(
            "all max_prepared_transactions slots of the server are taken: raise it, or find out what keeps \
             prepared transactions from ending",
        ),
        _ => None,
    }
}

/// The gRPC code under which a client sees an SQL error of its statement.
pub(crate) fn status_code(sqlstate: &str) -> Code {
    match sqlstate {
        "40001" | "40P01" | "55P03" => Code::Aborted,
        "23505" => Code::AlreadyExists,
        "42501" => Code::PermissionDenied,
        "57014" => Code::Cancelled,
        "25006" | "25P02" => Code::FailedPrecondition,
        _ => match sqlstate.get(..2).unwrap_or_default() {
            "22" | "42" | "0A" | "26" | "34" | "3B" => Code::InvalidArgument,
            "23" | "25" | "2F" | "44" | "55" | "P0" => Code::FailedPrecondition,
            "53" | "54" => Code::ResourceExhausted,
            "08" | "57" => Code::Unavailable,
            _ => Code::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Command; 9] = [
        Connect,
        Begin,
        Statement,
        Prepare,
        CommitReadOnly,
        CommitPrepared,
        RollbackPrepared,
        Listing,
        OutcomeQuery,
    ];

    #[test]
    fn an_unlisted_code_is_never_taken_for_success() {
        for command in ALL {
            let expected = match command {
                Begin | Statement | Prepare | CommitReadOnly => VoteNo,
                Connect | CommitPrepared | RollbackPrepared | Listing | OutcomeQuery => RetryWithAlarm,
            };
            assert_eq!(policy(command, "ZZ999"), expected, "{command:?}");
        }
    }

    #[test]
    fn only_the_outcome_query_acknowledges_by_an_error() {
        for row in TABLE {
            assert_eq!(row.policy == Acknowledge, row.command == OutcomeQuery && row.sqlstate == "22023");
        }
    }

    #[test]
    fn a_missing_gid_is_verified_and_a_busy_one_is_retried() {
        for command in [CommitPrepared, RollbackPrepared] {
            assert_eq!(policy(command, "42704"), Verify);
            assert_eq!(policy(command, "55000"), Retry);
            assert_eq!(policy(command, "42501"), RetryWithAlarm);
            assert_eq!(policy(command, "0A000"), Refuse);
            assert_eq!(policy(command, ""), Verify);
        }
    }

    #[test]
    fn a_connection_that_breaks_during_prepare_leaves_a_question() {
        for sqlstate in ["", "08006", "57P01", "57P02"] {
            assert_eq!(policy(Prepare, sqlstate), Verify, "{sqlstate}");
        }
        for sqlstate in ["40001", "40P01", "23505", "55000", "53200", "0A000", "25P02", "25P01", "57014"] {
            assert_eq!(policy(Prepare, sqlstate), VoteNo, "{sqlstate}");
        }
    }

    #[test]
    fn no_row_is_hidden_by_an_earlier_one() {
        for (index, row) in TABLE.iter().enumerate() {
            let hidden = TABLE[..index]
                .iter()
                .any(|earlier| earlier.command == row.command && fits(earlier.sqlstate, row.sqlstate));
            assert!(!hidden, "{:?} {}", row.command, row.sqlstate);
        }
    }
}
