//! What is prepared in a database, and the facts about its server.

use std::collections::BTreeMap;

use tokio_postgres::{Client, SimpleQueryRow};
use votum_proto::v1;

use super::marker::USABLE;
use super::own::UNBOUND;
use super::{failure, first_row, rows, unexpected};
use crate::database::{Command, DatabaseError, DatabaseListing, ServerFacts};

/// Three columns: the system identifier, whether the server is in recovery, and the name of the present WAL
/// file, whose first eight digits are the timeline. (What pg_control_checkpoint() says lags behind a
/// promotion by up to a checkpoint.)
pub(super) const FACTS: &str = "(pg_catalog.pg_control_system()).system_identifier, \
     pg_catalog.pg_is_in_recovery(), \
     CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL \
          ELSE pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END";

/// How many columns [`FACTS`] has.
const FACT_COLUMNS: usize = 3;

/// Reads [`FACTS`], which begin at column `first`.
pub(super) fn parse_facts(row: &SimpleQueryRow, first: usize) -> Option<ServerFacts> {
    facts([row.get(first), row.get(first + 1), row.try_get(first + 2).ok()?])
}

/// Reads the three columns of [`FACTS`], as texts.
pub(super) fn facts([system, in_recovery, wal_file]: [Option<&str>; 3]) -> Option<ServerFacts> {
    let system_identifier: i64 = system?.parse().ok()?;
    let in_recovery = in_recovery? == "t";
    let timeline = match wal_file {
        Some(file) => u32::from_str_radix(file.get(..8)?, 16).ok()?,
        None => 0,
    };
    Some(ServerFacts { system_identifier: system_identifier.cast_unsigned(), timeline, in_recovery })
}

/// Whether a session of the agent's role is at COMMIT PREPARED or ROLLBACK PREPARED of `gid`: what it runs is
/// shown to its own role, cut to track_activity_query_size. One that does not track what it runs may be.
pub(super) fn being_ended_query(gid: &votum_proto::names::Gid) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a \
         WHERE a.datname = pg_catalog.current_database() AND a.usename = current_user \
         AND a.pid <> pg_catalog.pg_backend_pid() \
         AND (a.state = 'disabled' OR a.state = 'active' AND a.query <> '' \
         AND (pg_catalog.starts_with('COMMIT PREPARED ''{gid}''', a.query) \
         OR pg_catalog.starts_with('ROLLBACK PREPARED ''{gid}''', a.query))))"
    )
}

/// Lists what is prepared in this database, whoever's it is, in one statement with the server's facts: one
/// row for each, or a single one whose gid is null.
pub(super) async fn list(client: &Client, details: bool) -> Result<DatabaseListing, DatabaseError> {
    let query = format!(
        "SELECT {FACTS}, current_user, pg_catalog.current_database(), {USABLE} AND NOT {UNBOUND}, \
         p.gid, p.transaction, p.owner, p.database, \
         GREATEST(0, (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared) * 1000))::bigint \
         FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_prepared_xacts p \
         ON p.database = pg_catalog.current_database() ORDER BY p.prepared, p.gid"
    );
    let answer = client.simple_query(&query).await.map_err(|error| failure(Command::Listing, &error))?;
    let unreadable = || unexpected(Command::Listing, "a row of pg_prepared_xacts");
    let first = first_row(&answer).ok_or_else(unreadable)?;
    let text = |row: &SimpleQueryRow, column: usize| row.get(column).unwrap_or_default().to_owned();
    let mut listing = DatabaseListing {
        facts: parse_facts(first, 0).ok_or_else(unreadable)?,
        role: text(first, FACT_COLUMNS),
        database: text(first, FACT_COLUMNS + 1),
        can_decide: first.get(FACT_COLUMNS + 2) == Some("t"),
        prepared: Vec::new(),
    };
    for row in rows(&answer) {
        let Some(gid) = row.get(FACT_COLUMNS + 3) else { continue };
        let number = |column: usize| row.get(column).and_then(|text| text.parse::<u64>().ok());
        let xid = number(FACT_COLUMNS + 4).and_then(|xid| u32::try_from(xid).ok()).ok_or_else(unreadable)?;
        listing.prepared.push(v1::PreparedTransaction {
            gid: gid.to_owned(),
            xid,
            owner: text(row, FACT_COLUMNS + 5),
            database: text(row, FACT_COLUMNS + 6),
            age_ms: number(FACT_COLUMNS + 7).unwrap_or(0),
            ..Default::default()
        });
    }
    if details && !listing.prepared.is_empty() {
        add_details(client, &mut listing.prepared).await?;
    }
    Ok(listing)
}

/// The virtual transaction under which pg_locks shows what a prepared transaction holds; found by its
/// transaction id, because the virtual one is that of the session that prepared it, until a restart.
const HOLDERS: &str = "WITH holder AS (SELECT p.gid, p.transaction AS xid, l.virtualtransaction AS vxid \
     FROM pg_catalog.pg_prepared_xacts p JOIN pg_catalog.pg_locks l \
     ON l.locktype = 'transactionid' AND l.transactionid = p.transaction AND l.pid IS NULL AND l.granted \
     WHERE p.database = pg_catalog.current_database()), \
     held AS (SELECT h.gid, l.relation, l.mode FROM holder h JOIN pg_catalog.pg_locks l \
     ON l.virtualtransaction = h.vxid AND l.pid IS NULL AND l.granted AND l.locktype = 'relation') ";

async fn add_details(client: &Client, prepared: &mut [v1::PreparedTransaction]) -> Result<(), DatabaseError> {
    let failed = |error| failure(Command::Listing, &error);
    let locks_query = format!(
        "{HOLDERS} SELECT DISTINCT held.gid, COALESCE(n.nspname || '.' || c.relname, held.relation::text) \
         || ' (' || held.mode || ')' FROM held LEFT JOIN pg_catalog.pg_class c ON c.oid = held.relation \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IS DISTINCT FROM 'i' ORDER BY 1, 2"
    );
    // A prepared transaction shows among the blockers of a session as process 0.
    let waits_query = format!(
        "{HOLDERS} SELECT h.gid, count(DISTINCT w.pid), \
         COALESCE((pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - min(w.waitstart)) * 1000)::bigint, 0) \
         FROM holder h JOIN pg_catalog.pg_locks w ON NOT w.granted AND ( \
         (w.locktype = 'transactionid' AND w.transactionid = h.xid) OR \
         (w.locktype = 'relation' AND 0 = ANY (pg_catalog.pg_blocking_pids(w.pid)) AND EXISTS \
          (SELECT FROM held WHERE held.gid = h.gid AND held.relation = w.relation))) GROUP BY h.gid"
    );
    let mut locks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows(&client.simple_query(&locks_query).await.map_err(failed)?) {
        if let (Some(gid), Some(lock)) = (row.get(0), row.get(1)) {
            locks.entry(gid.to_owned()).or_default().push(lock.to_owned());
        }
    }
    let mut waits: BTreeMap<String, (u32, u64)> = BTreeMap::new();
    for row in rows(&client.simple_query(&waits_query).await.map_err(failed)?) {
        let number = |column| row.get(column).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if let Some(gid) = row.get(0) {
            waits.insert(gid.to_owned(), (u32::try_from(number(1)).unwrap_or(u32::MAX), number(2)));
        }
    }
    for row in prepared {
        row.locks = locks.remove(&row.gid).unwrap_or_default();
        (row.blocked_sessions, row.longest_wait_ms) = waits.remove(&row.gid).unwrap_or_default();
    }
    Ok(())
}
