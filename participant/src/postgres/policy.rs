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
    /// What the database says by it, for the page.
    #[cfg_attr(not(test), allow(dead_code))]
    meaning: &'static str,
}

const fn row(command: Command, sqlstate: &'static str, policy: Policy, meaning: &'static str) -> Row {
    Row { command, sqlstate, policy, meaning }
}

use Command::{
    Begin, CommitOnePhase, CommitPrepared, CommitReadOnly, Connect, Listing, OutcomeQuery, Prepare,
    RollbackPrepared, Settle, Statement,
};
use Policy::{Acknowledge, Refuse, Retry, RetryWithAlarm, Verify, VoteNo};

/// docs/postgres-errors.md is made of it.
const TABLE: &[Row] = &[
    row(Connect, "", Retry, "the connection broke, or the server is not there"),
    row(Connect, "08", Retry, "connection failure"),
    row(Connect, "57P03", Retry, "starting up, shutting down, or in recovery without hot standby"),
    row(Connect, "57P01", Retry, "ended by an administrator"),
    row(Connect, "57P02", Retry, "another process of the server crashed"),
    row(Connect, "53300", Retry, "too many connections"),
    row(Connect, "28", RetryWithAlarm, "authentication failed: somebody has to change something"),
    row(Connect, "3D000", RetryWithAlarm, "no such database"),
    row(Connect, "42501", RetryWithAlarm, "no right to connect"),
    row(Begin, "", VoteNo, "the connection broke: nothing was prepared"),
    row(Statement, "", VoteNo, "the connection broke: nothing was prepared"),
    row(Prepare, "", Verify, "the connection broke: the backend may still finish its PREPARE"),
    row(Prepare, "08", Verify, "connection failure, as above"),
    row(Prepare, "57P01", Verify, "ended by an administrator, as above"),
    row(Prepare, "57P02", Verify, "another process of the server crashed, as above"),
    row(Prepare, "40001", VoteNo, "serialization failure: the whole transaction may be run again"),
    row(Prepare, "40P01", VoteNo, "deadlock: the whole transaction may be run again"),
    row(Prepare, "23", VoteNo, "a deferred constraint is violated"),
    row(Prepare, "42710", VoteNo, "the gid is taken"),
    row(Prepare, "55000", VoteNo, "max_prepared_transactions is 0"),
    row(Prepare, "53200", VoteNo, "all slots of max_prepared_transactions are taken"),
    row(
        Prepare,
        "0A000",
        VoteNo,
        "it used temporary objects, LISTEN, cursors WITH HOLD, exported snapshots or foreign servers",
    ),
    row(Prepare, "25P01", VoteNo, "the transaction is gone"),
    row(Prepare, "25P02", VoteNo, "the transaction had failed"),
    row(Prepare, "57014", VoteNo, "cancelled before it was prepared"),
    row(CommitReadOnly, "", VoteNo, "the connection broke: it has nothing to lose"),
    row(CommitReadOnly, "40001", VoteNo, "serialization failure: what it read does not stand"),
    row(CommitOnePhase, "", Verify, "the connection broke: it may be committed"),
    row(CommitOnePhase, "08", Verify, "connection failure, as above"),
    row(CommitOnePhase, "57P01", Verify, "ended by an administrator, as above"),
    row(CommitOnePhase, "57P02", Verify, "another process of the server crashed, as above"),
    row(CommitOnePhase, "40001", VoteNo, "serialization failure: the whole transaction may be run again"),
    row(CommitOnePhase, "40P01", VoteNo, "deadlock: the whole transaction may be run again"),
    row(CommitOnePhase, "23", VoteNo, "a constraint is violated"),
    row(CommitOnePhase, "25P01", VoteNo, "the transaction is gone"),
    row(CommitOnePhase, "25P02", VoteNo, "the transaction had failed"),
    row(CommitOnePhase, "57014", VoteNo, "cancelled before it was committed"),
    row(Settle, "23505", Acknowledge, "the branch's marker is there: it says how it ended"),
    row(Settle, "55P03", Retry, "its COMMIT is still under way"),
    row(Settle, "", Retry, "the connection broke"),
    row(Settle, "08", Retry, "connection failure"),
    row(Settle, "57014", Retry, "cancelled"),
    row(Settle, "57P01", Retry, "ended by an administrator"),
    row(Settle, "57P02", Retry, "another process of the server crashed"),
    row(Settle, "57P03", Retry, "starting up or shutting down"),
    row(Settle, "53100", RetryWithAlarm, "the disk is full"),
    row(Settle, "53", Retry, "out of connections or memory for the moment"),
    row(Settle, "40", Retry, "rolled back by the server"),
    row(Settle, "3F000", RetryWithAlarm, "there is no schema votum: somebody has dropped it"),
    row(Settle, "42P01", RetryWithAlarm, "there is no table votum.marker: somebody has dropped it"),
    row(Settle, "42501", RetryWithAlarm, "no right to keep markers"),
    row(Settle, "25006", RetryWithAlarm, "a standby"),
    row(
        CommitPrepared,
        "42704",
        Verify,
        "no such gid: ended by somebody, never prepared, or lost by a failover; which, is found out",
    ),
    row(CommitPrepared, "55000", Retry, "busy in another backend"),
    row(CommitPrepared, "", Verify, "the connection broke: it may have had its effect"),
    row(CommitPrepared, "08", Verify, "connection failure, as above"),
    row(CommitPrepared, "57014", Verify, "cancelled, perhaps while it waited for a synchronous standby"),
    row(CommitPrepared, "57P01", Verify, "ended by an administrator"),
    row(CommitPrepared, "57P02", Verify, "another process of the server crashed"),
    row(CommitPrepared, "57P03", Retry, "starting up or shutting down"),
    row(CommitPrepared, "53200", Retry, "out of memory for the moment"),
    row(CommitPrepared, "53300", Retry, "too many connections for the moment"),
    row(CommitPrepared, "53100", RetryWithAlarm, "the disk is full"),
    row(CommitPrepared, "42501", RetryWithAlarm, "prepared by another role"),
    row(CommitPrepared, "25006", RetryWithAlarm, "a standby"),
    row(CommitPrepared, "0A000", Refuse, "prepared in another database of this server"),
    row(RollbackPrepared, "42704", Verify, "no such gid: as for COMMIT PREPARED"),
    row(RollbackPrepared, "55000", Retry, "busy in another backend"),
    row(RollbackPrepared, "", Verify, "the connection broke: it may have had its effect"),
    row(RollbackPrepared, "08", Verify, "connection failure, as above"),
    row(RollbackPrepared, "57014", Verify, "cancelled"),
    row(RollbackPrepared, "57P01", Verify, "ended by an administrator"),
    row(RollbackPrepared, "57P02", Verify, "another process of the server crashed"),
    row(RollbackPrepared, "57P03", Retry, "starting up or shutting down"),
    row(RollbackPrepared, "53200", Retry, "out of memory for the moment"),
    row(RollbackPrepared, "53300", Retry, "too many connections for the moment"),
    row(RollbackPrepared, "53100", RetryWithAlarm, "the disk is full"),
    row(RollbackPrepared, "42501", RetryWithAlarm, "prepared by another role"),
    row(RollbackPrepared, "25006", RetryWithAlarm, "a standby"),
    row(RollbackPrepared, "0A000", Refuse, "prepared in another database of this server"),
    row(Listing, "", Retry, "the connection broke: nothing is known, which is not that nothing is prepared"),
    row(Listing, "08", Retry, "connection failure"),
    row(Listing, "57014", Retry, "cancelled"),
    row(Listing, "57P01", Retry, "ended by an administrator"),
    row(Listing, "57P02", Retry, "another process of the server crashed"),
    row(Listing, "57P03", Retry, "starting up or shutting down"),
    row(Listing, "53", Retry, "out of connections, memory or disk"),
    row(OutcomeQuery, "", Retry, "the connection broke"),
    row(OutcomeQuery, "08", Retry, "connection failure"),
    row(OutcomeQuery, "57014", Retry, "cancelled"),
    row(OutcomeQuery, "57P01", Retry, "ended by an administrator"),
    row(OutcomeQuery, "57P02", Retry, "another process of the server crashed"),
    row(OutcomeQuery, "57P03", Retry, "starting up or shutting down"),
    row(OutcomeQuery, "53", Retry, "out of connections, memory or disk"),
    row(
        OutcomeQuery,
        "22023",
        Acknowledge,
        "the server has not reached this transaction id: that is the answer",
    ),
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
        // The marker knows.
        CommitOnePhase => Verify,
        Connect | CommitPrepared | RollbackPrepared | Listing | OutcomeQuery | Settle => RetryWithAlarm,
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
mod page;

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const ALL: [Command; 11] = [
        Connect,
        Begin,
        Statement,
        Prepare,
        CommitReadOnly,
        CommitOnePhase,
        Settle,
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
                CommitOnePhase => Verify,
                Connect | CommitPrepared | RollbackPrepared | Listing | OutcomeQuery | Settle => {
                    RetryWithAlarm
                }
            };
            assert_eq!(policy(command, "ZZ999"), expected, "{command:?}");
        }
    }

    #[test]
    fn only_questions_are_answered_by_an_error() {
        for row in TABLE {
            let is_an_answer = [(OutcomeQuery, "22023"), (Settle, "23505")];
            assert_eq!(row.policy == Acknowledge, is_an_answer.contains(&(row.command, row.sqlstate)));
        }
    }

    #[test]
    fn a_commit_in_one_phase_is_refused_or_verified() {
        for sqlstate in ["", "08006", "57P01", "57P02", "XX000", "ZZ999"] {
            assert_eq!(policy(CommitOnePhase, sqlstate), Verify, "{sqlstate}");
        }
        for sqlstate in ["40001", "40P01", "23514", "25P02", "57014"] {
            assert_eq!(policy(CommitOnePhase, sqlstate), VoteNo, "{sqlstate}");
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
