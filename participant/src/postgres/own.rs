//! The statements that an agent runs in every session on its own account: parsed and planned once for each
//! session. To plan them each time took the server longer than to plan the client's own.
//!
//! They have names, under which a client's SQL could run them or put others in their place. So none of them
//! ends a transaction, and what a branch commits on its own is not believed to have written nothing on their
//! word.

use postgres_protocol::message::backend::DataRowBody;
use tokio_postgres::fallible_iterator::FallibleIterator as _;
use votum_proto::v1::Isolation;

use super::wire::{Form, Trip, Unsendable};

/// One of them.
pub(super) struct Own {
    /// Its place in the set of those that are parsed.
    bit: u8,
    name: &'static str,
    text: &'static str,
    rows: Form,
}

const fn own(bit: u8, name: &'static str, text: &'static str, rows: Form) -> Own {
    Own { bit, name, text, rows }
}

/// Opens a branch's transaction: by isolation level, then whether READ ONLY.
static BEGIN: [[Own; 2]; 4] = [
    [own(0, "votum_begin", "BEGIN", Form::Text), own(1, "votum_begin_ro", "BEGIN READ ONLY", Form::Text)],
    [
        own(2, "votum_begin_rc", "BEGIN ISOLATION LEVEL READ COMMITTED", Form::Text),
        own(3, "votum_begin_rc_ro", "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", Form::Text),
    ],
    [
        own(4, "votum_begin_rr", "BEGIN ISOLATION LEVEL REPEATABLE READ", Form::Text),
        own(5, "votum_begin_rr_ro", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", Form::Text),
    ],
    [
        own(6, "votum_begin_s", "BEGIN ISOLATION LEVEL SERIALIZABLE", Form::Text),
        own(7, "votum_begin_s_ro", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", Form::Text),
    ],
];

/// Sets the server's own timeouts, and says when the transaction began. It also takes a snapshot, after which
/// no statement can make a READ ONLY transaction writable.
static SETTINGS: Own = own(
    8,
    "votum_settings",
    "SELECT pg_catalog.transaction_timestamp(), \
     pg_catalog.set_config('statement_timeout', $1, true), \
     pg_catalog.set_config('idle_in_transaction_session_timeout', $1, true)",
    Form::Binary,
);

/// As [`SETTINGS`], for servers from version 17 on.
static SETTINGS_17: Own = own(
    9,
    "votum_settings",
    "SELECT pg_catalog.transaction_timestamp(), \
     pg_catalog.set_config('statement_timeout', $1, true), \
     pg_catalog.set_config('idle_in_transaction_session_timeout', $1, true), \
     pg_catalog.set_config('transaction_timeout', $1, true)",
    Form::Binary,
);

/// Tells one transaction from the next: an xid alone cannot, because a transaction that wrote nothing has
/// none. And which role it would be prepared as.
pub(super) static IDENTITY: Own = own(
    10,
    "votum_identity",
    "SELECT pg_catalog.transaction_timestamp(), pg_catalog.pg_current_xact_id_if_assigned(), current_user",
    Form::Binary,
);

/// The names and kinds of types that are not built in.
pub(super) static TYPES: Own = own(
    12,
    "votum_types",
    "SELECT oid, typname, typtype FROM pg_catalog.pg_type WHERE oid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])",
    Form::Text,
);

/// The prepared transaction must belong to the agent's own role, or phase 2 may not end it.
pub(super) static RESET_ROLE: Own = own(14, "votum_reset_role", "RESET SESSION AUTHORIZATION", Form::Text);

/// The commit marker of a branch; its parameter is the marker's key.
pub(super) static MARK: Own = own(21, "votum_mark", super::marker::INSERTION, Form::Text);

/// Runs what was deferred to COMMIT.
pub(super) static CONSTRAINTS: Own =
    own(22, "votum_constraints", "SET CONSTRAINTS ALL IMMEDIATE", Form::Text);

/// Whether the database has triggers of its own that may run within COMMIT or PREPARE.
macro_rules! deferrable {
    () => {
        "EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgdeferrable AND NOT tgisinternal)"
    };
}

/// Whether a COMMIT leaves anything open of what a branch did.
macro_rules! unbound {
    () => {
        concat!("(EXISTS (SELECT FROM pg_catalog.pg_foreign_server) OR ", deferrable!(), ")")
    };
}

/// Whether it is still the same transaction; and whether it is to be prepared all the same: where one COMMIT does not
/// bind all that it did, or where a trigger of the database's own may be left that runs within COMMIT (one that ran
/// before it may have deferred another), and then sets anything.
pub(super) static LOOK: Own = own(
    11,
    "votum_look",
    concat!("SELECT pg_catalog.pg_current_xact_id_if_assigned(), ", unbound!()),
    Form::Text,
);

/// The second answer of [`LOOK`].
pub(super) const UNBOUND: &str = unbound!();

/// Whether what is looked at before PREPARE may be otherwise behind it: by triggers of the database's own that run
/// within it, or by an agent that can be anybody.
pub(super) const CHANGES_WITHIN: &str = concat!(
    "(",
    deferrable!(),
    " OR pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on')"
);

/// The commit is on disk, and where the role waits for standbys on at least one, before it is answered.
pub(super) static DURABLE: Own = own(
    13,
    "votum_durable",
    "SELECT pg_catalog.set_config('synchronous_commit', CASE \
     WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'remote_apply' \
     THEN 'remote_apply' ELSE 'on' END, true)",
    Form::Text,
);

/// The text of [`GUARD`], refused also where what is given says no.
macro_rules! guard {
    ($($unless:tt)+) => {
        concat!(
            "SELECT pg_catalog.pg_current_xact_id(), 1 OPERATOR(pg_catalog./) \
             CASE WHEN current_user OPERATOR(pg_catalog.=) $1 \
             AND pg_catalog.current_setting('client_encoding') OPERATOR(pg_catalog.=) 'UTF8'",
            $($unless)+,
            " THEN 1 ELSE 0 END, \
             pg_catalog.current_setting('DateStyle'), pg_catalog.current_setting('IntervalStyle'), \
             pg_catalog.current_setting('TimeZone'), pg_catalog.current_setting('standard_conforming_strings')"
        )
    };
}

/// Gives the transaction an id, and says it. Refused (22012) where the role is not the agent's, its parameter, or text
/// is in another encoding: what follows in the trip is then not run. Says by which settings literals are read.
pub(super) static GUARD: Own = own(23, "votum_guard", guard!(""), Form::Text);

/// As [`GUARD`], for a session whose two roles are one, and where nothing of a client's is left to run: it also lets
/// advisory locks go, and sees to it that a role that holds for this transaction alone does not hide another that
/// would be left behind.
pub(super) static LAST_GUARD: Own = own(
    26,
    "votum_last_guard",
    concat!(
        guard!(" AND session_user OPERATOR(pg_catalog.=) $1"),
        ", pg_catalog.pg_advisory_unlock_all(), pg_catalog.set_config('role', 'none', false)"
    ),
    Form::Text,
);

/// As [`GUARD`], for a transaction that is committed in the same trip: refused, too, where [`UNBOUND`].
pub(super) static GUARD_COMMIT: Own =
    own(24, "votum_guard_commit", guard!(" AND NOT ", unbound!()), Form::Text);

/// As [`MARK`], and refused (22012) where the row is not there afterwards: what follows in the trip is COMMIT.
pub(super) static MARK_OR_REFUSE: Own =
    own(25, "votum_mark_or_refuse", super::marker::INSERTION_OR_REFUSAL, Form::Text);

static RESET_ALL: Own = own(15, "votum_reset_all", "RESET ALL", Form::Text);
static DISCARD_SEQUENCES: Own = own(16, "votum_discard_sequences", "DISCARD SEQUENCES", Form::Text);
pub(super) static CLOSE_ALL: Own = own(17, "votum_close_all", "CLOSE ALL", Form::Text);
static UNLISTEN: Own = own(18, "votum_unlisten", "UNLISTEN *", Form::Text);
static DISCARD_TEMP: Own = own(19, "votum_discard_temp", "DISCARD TEMP", Form::Text);

/// Lets advisory locks go, and says whether a client has left another role: that takes a full reset.
pub(super) static LEFTOVERS: Own = own(
    20,
    "votum_leftovers",
    "SELECT pg_catalog.pg_advisory_unlock_all(), false, current_user, session_user, false",
    Form::Text,
);

/// As [`LEFTOVERS`], within a branch's transaction: as [`LAST_GUARD`] sees to roles.
pub(super) static LAST_LEFTOVERS: Own = own(
    27,
    "votum_last_leftovers",
    "SELECT pg_catalog.pg_advisory_unlock_all(), pg_catalog.set_config('role', 'none', false), current_user, \
     session_user",
    Form::Text,
);

/// As [`LEFTOVERS`], and says whether clients have prepared statements by SQL, which takes a full reset, too;
/// whether branches are to carry markers; and [`CHANGES_WITHIN`].
/// To list the statements costs the server about as much as an UPDATE. It has no name that a client could
/// take.
pub(super) fn all_leftovers() -> String {
    format!(
        "SELECT pg_catalog.pg_advisory_unlock_all(), \
         EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() WHERE from_sql), current_user, session_user, \
         {}, {CHANGES_WITHIN}",
        super::marker::USABLE
    )
}

/// Makes a session as good as new, outside of transactions only. Our own statements go too.
pub(super) const RESET: &str = "DISCARD ALL";

/// All of [`RESET`] but what plans and statements there are, to be followed by [`LEFTOVERS`] or
/// [`all_leftovers`].
pub(super) static RESET_BUT_STATEMENTS: [&Own; 6] =
    [&CLOSE_ALL, &RESET_ROLE, &RESET_ALL, &UNLISTEN, &DISCARD_TEMP, &DISCARD_SEQUENCES];

/// What of that is left to do when a branch was committed in one phase: its cursors were closed before, and its role
/// reset.
pub(super) static RESET_COMMITTED: [&Own; 4] = [&RESET_ALL, &UNLISTEN, &DISCARD_TEMP, &DISCARD_SEQUENCES];

/// What of that is left to do when a branch has just been prepared, or is about to be. PREPARE refuses what has used temporary
/// objects, LISTEN, or cursors WITH HOLD, and nothing else than the branch ran in the session; another role is
/// reset before it.
pub(super) static RESET_PREPARED: [&Own; 2] = [&RESET_ALL, &DISCARD_SEQUENCES];

/// Opens a transaction.
pub(super) fn begin(isolation: Isolation, read_only: bool) -> &'static Own {
    let [default, read_committed, repeatable_read, serializable] = &BEGIN;
    let [read_write, only] = match isolation {
        Isolation::Unspecified => default,
        Isolation::ReadCommitted => read_committed,
        Isolation::RepeatableRead => repeatable_read,
        Isolation::Serializable => serializable,
    };
    if read_only { only } else { read_write }
}

/// Sets the timeouts of a transaction.
pub(super) fn settings(server_version: u32) -> &'static Own {
    if server_version >= 17 { &SETTINGS_17 } else { &SETTINGS }
}

impl Own {
    /// Its text, for where its name cannot be trusted.
    pub(super) fn text(&self) -> &'static str {
        self.text
    }
}

/// Which of the own statements a session has parsed.
#[derive(Default)]
pub(super) struct OwnStatements {
    parsed: u32,
    /// Those that the present trip parses. They count once it has come to its end: a trip that failed may
    /// have parsed some of them, or none.
    parsing: u32,
}

impl OwnStatements {
    /// Puts one into a trip.
    pub(super) fn run(
        &mut self,
        trip: &mut Trip,
        own: &Own,
        parameter: Option<&str>,
    ) -> Result<(), Unsendable> {
        let bit = 1 << own.bit;
        if (self.parsed | self.parsing) & bit == 0 {
            // There may be one from a trip that failed.
            trip.close_statement(own.name)?;
            trip.parse(own.name, own.text, &[])?;
            self.parsing |= bit;
        }
        trip.bind_own(own.name, parameter, own.rows)?;
        trip.execute()
    }

    /// A trip begins, and the one before it did not come to its end.
    pub(super) fn begin_trip(&mut self) {
        self.parsing = 0;
    }

    /// The present trip came to its end.
    pub(super) fn end_trip(&mut self) {
        self.parsed |= self.parsing;
        self.parsing = 0;
    }

    /// The server knows none of them any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Which transaction is open, as [`IDENTITY`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// When it began, in microseconds since 2000.
    pub(super) began: i64,
    /// `None` as long as it has written nothing.
    pub(super) xid8: Option<u64>,
    /// It is the agent's own role that would prepare it.
    pub(super) own_role: bool,
}

impl Identity {
    /// For an agent that is this role.
    pub(super) fn read(row: &DataRowBody, role: &str) -> Option<Self> {
        let [began, xid8, current] = values(row)?;
        let xid8 = match xid8 {
            Some(bytes) => Some(u64::from_be_bytes(bytes.try_into().ok()?)),
            None => None,
        };
        let own_role = current? == role.as_bytes();
        Some(Self { began: i64::from_be_bytes(began?.try_into().ok()?), xid8, own_role })
    }
}

/// The first `N` values of a row, as they came.
pub(super) fn values<const N: usize>(row: &DataRowBody) -> Option<[Option<&[u8]>; N]> {
    let mut ranges = row.ranges();
    let mut values = [None; N];
    for value in &mut values {
        if let Some(range) = ranges.next().ok()?? {
            *value = Some(row.buffer().get(range)?);
        }
    }
    Some(values)
}

/// The first `N` values of a row of texts.
pub(super) fn texts<const N: usize>(row: &DataRowBody) -> Option<[Option<&str>; N]> {
    let mut texts = [None; N];
    for (text, value) in texts.iter_mut().zip(values::<N>(row)?) {
        if let Some(value) = value {
            *text = Some(std::str::from_utf8(value).ok()?);
        }
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_isolation_level_has_its_own_way_to_begin() {
        for (isolation, words) in [
            (Isolation::Unspecified, "BEGIN"),
            (Isolation::ReadCommitted, "BEGIN ISOLATION LEVEL READ COMMITTED"),
            (Isolation::RepeatableRead, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
            (Isolation::Serializable, "BEGIN ISOLATION LEVEL SERIALIZABLE"),
        ] {
            assert_eq!(begin(isolation, false).text, words);
            assert_eq!(begin(isolation, true).text, format!("{words} READ ONLY"));
        }
    }

    #[test]
    fn no_two_own_statements_share_a_place_or_a_name() {
        let begins = BEGIN.iter().flatten();
        let resets = RESET_BUT_STATEMENTS.iter().copied();
        let others = [&SETTINGS, &IDENTITY, &TYPES, &LEFTOVERS, &MARK, &GUARD, &LAST_GUARD, &LAST_LEFTOVERS];
        let deciding = [&GUARD_COMMIT, &MARK_OR_REFUSE];
        let all: Vec<_> = begins.chain(resets).chain(others).chain(deciding).collect();
        let bits: std::collections::BTreeSet<_> = all.iter().map(|own| own.bit).collect();
        let names: std::collections::BTreeSet<_> = all.iter().map(|own| own.name).collect();
        assert_eq!((bits.len(), names.len()), (all.len(), all.len()));
        assert!(bits.iter().all(|bit| *bit < 32));
    }

    #[test]
    fn what_a_failed_trip_was_to_parse_is_parsed_again() {
        let mut own = OwnStatements::default();
        let length = |own: &mut OwnStatements| {
            let mut trip = Trip::default();
            assert!(own.run(&mut trip, &IDENTITY, None).is_ok());
            trip.len()
        };
        own.begin_trip();
        let first = length(&mut own);
        assert!(length(&mut own) < first, "once in a trip");
        own.begin_trip();
        assert_eq!(length(&mut own), first, "again after a trip without an end");
        own.end_trip();
        own.begin_trip();
        assert!(length(&mut own) < first);
    }
}
