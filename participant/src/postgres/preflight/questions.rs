//! What is asked of a server: some statements in one READ ONLY transaction, which is rolled back.
//!
//! What the role is denied is asked first, and then nothing that needs it.

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::super::listing::{FACTS, list, parse_facts};
use super::super::marker::USABLE;
use super::super::witness::PLACE;
use super::super::{failure, first_row, rows, unexpected};
use super::facts::{AttachedRole, Facts, PreparedSeen, Role, Setting};
use super::remedy::literal;
use crate::database::{Command, DatabaseError};

/// The functions that the agent's statements call, by themselves or through a view, and that an administrator
/// may have taken away from ordinary roles.
pub(super) const FUNCTIONS: &[&str] = &[
    "pg_advisory_unlock_all",
    "pg_backend_pid",
    "pg_blocking_pids",
    "pg_control_system",
    "pg_current_snapshot",
    "pg_current_wal_lsn",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_has_role",
    "pg_is_in_recovery",
    "pg_lock_status",
    "pg_logical_emit_message",
    "pg_postmaster_start_time",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_show_all_settings",
    "pg_snapshot_xmax",
    "pg_stat_get_activity",
    "pg_terminate_backend",
    "pg_walfile_name",
    "pg_xact_status",
];

/// The tables and views that the agent's statements read.
pub(super) const RELATIONS: &[&str] = &[
    "pg_class",
    "pg_foreign_server",
    "pg_index",
    "pg_locks",
    "pg_namespace",
    "pg_prepared_xacts",
    "pg_roles",
    "pg_settings",
    "pg_stat_activity",
    "pg_trigger",
    "pg_type",
];

/// What [`FACTS`] needs.
const FOR_FACTS: &[&str] =
    &["pg_control_system", "pg_is_in_recovery", "pg_walfile_name", "pg_current_wal_lsn"];
/// What a listing needs beyond that.
const FOR_LISTING: &[&str] = &[
    "pg_prepared_xacts",
    "pg_prepared_xact",
    "pg_locks",
    "pg_lock_status",
    "pg_blocking_pids",
    "pg_class",
    "pg_namespace",
];
const FOR_SETTINGS: &[&str] = &["pg_settings", "pg_show_all_settings"];
const FOR_SESSIONS: &[&str] = &["pg_stat_activity", "pg_stat_get_activity", "pg_backend_pid"];

/// The settings that are judged.
const SETTINGS: &[&str] = &[
    "autovacuum_freeze_max_age",
    "default_transaction_read_only",
    "fsync",
    "full_page_writes",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "max_connections",
    "max_prepared_transactions",
    "reserved_connections",
    "statement_timeout",
    "superuser_reserved_connections",
    "synchronous_commit",
    "synchronous_standby_names",
    "transaction_timeout",
];

/// Reads all that is judged. The connection is as the server made it: none of the agent's own settings hold.
pub(super) async fn ask(client: &Client, attached_roles: &[String]) -> Result<Facts, DatabaseError> {
    put(client, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY").await?;
    let mut facts = Facts::default();
    let denied = denied(client, &mut facts).await?;
    let may = |needed: &[&str]| !denied.iter().any(|name| needed.contains(&name.as_str()));
    if may(FOR_SETTINGS) {
        settings(client, &mut facts).await?;
    }
    // The server ends what takes too long also when nobody waits for it any more.
    put(client, "SET LOCAL statement_timeout = '10s'").await?;
    identity(client, &mut facts, may(FOR_SESSIONS)).await?;
    attached(client, attached_roles, &mut facts).await?;
    if may(FOR_FACTS) {
        let answer = put(client, &format!("SELECT {FACTS}")).await?;
        let read = first_row(&answer).and_then(|row| parse_facts(row, 0));
        facts.server = Some(read.ok_or_else(|| unreadable("which server it is"))?);
        if may(FOR_LISTING) {
            prepared(client, &mut facts).await?;
        }
    }
    put(client, "ROLLBACK").await?;
    Ok(facts)
}

async fn put(client: &Client, statement: &str) -> Result<Vec<SimpleQueryMessage>, DatabaseError> {
    client.simple_query(statement).await.map_err(|error| failure(Command::Listing, &error))
}

fn unreadable(what: &str) -> DatabaseError {
    unexpected(Command::Listing, what)
}

fn text(row: &SimpleQueryRow, column: usize) -> Option<String> {
    row.try_get(column).ok()?.map(str::to_owned)
}

fn literals<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|name| literal(name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Notes what the role is denied, and returns the names of it.
async fn denied(client: &Client, facts: &mut Facts) -> Result<Vec<String>, DatabaseError> {
    let query = format!(
        "SELECT p.proname, 'EXECUTE ON FUNCTION pg_catalog.' || p.proname || '(' \
         || pg_catalog.oidvectortypes(p.proargtypes) || ')' FROM pg_catalog.pg_proc p \
         WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.proname IN ({}) \
         AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE') \
         UNION ALL SELECT c.relname, 'SELECT ON pg_catalog.' || c.relname FROM pg_catalog.pg_class c \
         WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND c.relname IN ({}) \
         AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY 2",
        literals(FUNCTIONS),
        literals(RELATIONS),
    );
    let answer = put(client, &query).await?;
    let mut names = Vec::new();
    for row in rows(&answer) {
        names.push(text(row, 0).ok_or_else(|| unreadable("a privilege"))?);
        facts.denied.push(text(row, 1).ok_or_else(|| unreadable("a privilege"))?);
    }
    Ok(names)
}

async fn settings(client: &Client, facts: &mut Facts) -> Result<(), DatabaseError> {
    let query = format!(
        "SELECT name, setting, source FROM pg_catalog.pg_settings WHERE name IN ({})",
        literals(SETTINGS)
    );
    for row in rows(&put(client, &query).await?) {
        let read = (text(row, 0), text(row, 1), text(row, 2));
        let (Some(name), Some(value), Some(source)) = read else { return Err(unreadable("a setting")) };
        facts.settings.insert(name, Setting { value, source });
    }
    Ok(())
}

async fn identity(client: &Client, facts: &mut Facts, sessions: bool) -> Result<(), DatabaseError> {
    let sees = if sessions {
        "(SELECT a.backend_start IS NOT NULL FROM pg_catalog.pg_stat_activity a \
         WHERE a.pid = pg_catalog.pg_backend_pid())"
    } else {
        "true"
    };
    let query = format!(
        "SELECT pg_catalog.current_setting('server_version'), \
         pg_catalog.current_setting('server_version_num')::integer / 10000, d.datname, d.oid, d.datconnlimit, \
         session_user, current_user, r.rolsuper, r.rolconnlimit, {sees}, \
         pg_catalog.pg_has_role(session_user, 'USAGE') \
         OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'), {PLACE}, {USABLE}, \
         (SELECT COALESCE(pg_catalog.string_agg(pg_catalog.quote_ident(s.name), ', ' ORDER BY s.place) \
          FILTER (WHERE s.name <> 'votum'), '''''') \
          FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS s(name, place) \
          HAVING pg_catalog.bool_or(s.name = 'votum')) \
         FROM pg_catalog.pg_database d, pg_catalog.pg_roles r \
         WHERE d.datname = pg_catalog.current_database() AND r.rolname = session_user"
    );
    let answer = put(client, &query).await?;
    let row = first_row(&answer).ok_or_else(|| unreadable("its own database and role"))?;
    read_identity(row, facts).ok_or_else(|| unreadable("its own database and role"))
}

fn read_identity(row: &SimpleQueryRow, facts: &mut Facts) -> Option<()> {
    // A limit of -1 is none.
    let limit = |column| Some(u64::try_from(text(row, column)?.parse::<i64>().ok()?).ok());
    let yes = |column| Some(text(row, column)? == "t");
    // Packagers add their own words.
    facts.version = text(row, 0)?.split_whitespace().next()?.to_owned();
    facts.major = text(row, 1)?.parse().ok()?;
    facts.database = text(row, 2)?;
    facts.database_oid = text(row, 3)?.parse().ok()?;
    facts.database_connections = limit(4)?;
    facts.role = Role {
        session: text(row, 5)?,
        current: text(row, 6)?,
        superuser: yes(7)?,
        connections: limit(8)?,
        sees_own_sessions: yes(9)?,
        ends_own_sessions: yes(10)?,
    };
    facts.keeps_witness = text(row, 11).map(|may| may == "t");
    facts.keeps_markers = text(row, 12).map(|may| may == "t");
    facts.path_without_votum = text(row, 13);
    Some(())
}

async fn attached(client: &Client, roles: &[String], facts: &mut Facts) -> Result<(), DatabaseError> {
    if roles.is_empty() {
        return Ok(());
    }
    // Since PostgreSQL 16 a member need not have the right to become the role.
    let right = if facts.major >= 16 { "SET" } else { "MEMBER" };
    let query = format!(
        "SELECT w.name, r.oid IS NOT NULL, r.oid IS NOT NULL AND pg_catalog.pg_has_role(session_user, r.oid, '{right}') \
         FROM pg_catalog.unnest(ARRAY[{}]) AS w(name) LEFT JOIN pg_catalog.pg_roles r ON r.rolname = w.name",
        literals(roles)
    );
    for row in rows(&put(client, &query).await?) {
        let read = (text(row, 0), text(row, 1), text(row, 2));
        let (Some(name), Some(exists), Some(taken)) = read else { return Err(unreadable("a role")) };
        facts.attached.push(AttachedRole { name, exists: exists == "t", may_be_taken: taken == "t" });
    }
    Ok(())
}

async fn prepared(client: &Client, facts: &mut Facts) -> Result<(), DatabaseError> {
    let held = list(client, true).await?.prepared;
    let query = "SELECT p.gid, p.database, p.owner, pg_catalog.age(p.transaction) \
                 FROM pg_catalog.pg_prepared_xacts p ORDER BY 4 DESC, 1";
    for row in rows(&put(client, query).await?) {
        let read = (text(row, 0), text(row, 1), text(row, 3).and_then(|age| age.parse::<i64>().ok()));
        let (Some(gid), Some(database), Some(age)) = read else {
            return Err(unreadable("a row of pg_prepared_xacts"));
        };
        let held = held.iter().find(|held| held.gid == gid && held.database == database);
        facts.prepared.push(PreparedSeen {
            owner: text(row, 2),
            age: u64::try_from(age).unwrap_or(0),
            locks: held.map(|held| held.locks.clone()).unwrap_or_default(),
            blocked_sessions: held.map_or(0, |held| held.blocked_sessions),
            gid,
            database,
        });
    }
    Ok(())
}
