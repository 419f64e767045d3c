//! The commit marker: a row that a branch inserts in its own transaction, as the last thing before it is
//! prepared. It can be read once the branch has committed, and goes where the branch goes: over a failover a
//! transaction id may come to mean another transaction, a marker does not. An administrator makes the table;
//! where there is none, branches carry no marker.

use tokio_postgres::{Client, SimpleQueryMessage};
use votum_proto::names::{CoordinatorId, Epoch, Gid};
use votum_proto::v1::gone::Marker;

use super::witness::quoted;
use super::{failure, first_row, rows};
use crate::database::{Command, DatabaseError};

/// The statements that make the table, for agents that log in as `role`: to be run once in each database,
/// by somebody who may create a schema there. They may be run again.
pub fn installation(role: &str) -> String {
    let role = quoted(role);
    format!(
        "\
BEGIN;
CREATE SCHEMA IF NOT EXISTS votum;
CREATE TABLE IF NOT EXISTS votum.marker (
    coordinator_id text COLLATE \"C\",
    epoch bigint,
    incarnation integer,
    seq bigint,
    branch integer,
    committed boolean NOT NULL,
    PRIMARY KEY (coordinator_id, epoch, seq, branch, incarnation)
);
COMMENT ON TABLE votum.marker IS 'Votum: one row for each branch that committed here, written in its own transaction. What became of a branch is read here after a failover. Votum deletes rows that nobody can ask about any more; nobody else should.';
GRANT USAGE ON SCHEMA votum TO {role};
GRANT SELECT, INSERT, DELETE ON votum.marker TO {role};
COMMIT;
"
    )
}

/// Whether this role may keep markers, in a table that survives a crash and keeps one row for each branch; null where
/// there is no table. By the catalogue: a name that may not be
/// looked up is an error.
pub(super) const USABLE: &str = "(SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
     AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT') \
     AND pg_catalog.has_table_privilege(c.oid, 'DELETE') AND c.relpersistence = 'p' \
     AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid) \
     FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = 'votum' AND c.relname = 'marker')";

/// Inserts a marker; its one parameter is a [`key`].
pub(super) const INSERTION: &str = "INSERT INTO votum.marker \
     (coordinator_id, epoch, incarnation, seq, branch, committed) \
     SELECT k[1], k[2]::pg_catalog.int8, k[3]::pg_catalog.int4, k[4]::pg_catalog.int8, k[5]::pg_catalog.int4, true \
     FROM (SELECT $1::pg_catalog.text[] AS k) AS key";

/// The same, and a division by zero where a rule or a trigger of an administrator's has kept the row out.
pub(super) const INSERTION_OR_REFUSAL: &str = "WITH mark AS (INSERT INTO votum.marker \
     (coordinator_id, epoch, incarnation, seq, branch, committed) \
     SELECT k[1], k[2]::pg_catalog.int8, k[3]::pg_catalog.int4, k[4]::pg_catalog.int8, k[5]::pg_catalog.int4, true \
     FROM (SELECT $1::pg_catalog.text[] AS k) AS key RETURNING committed) \
     SELECT 1 OPERATOR(pg_catalog./) pg_catalog.count(*) FROM mark";

/// The key of a branch's row, as an array of texts. None of them can hold what an array would have to quote.
pub(super) fn key(gid: &Gid) -> String {
    let Gid { gtid, branch, branches: _ } = gid;
    let (life, seq) = (gtid.life, gtid.seq);
    format!("{{{},{},{},{seq},{branch}}}", gtid.coordinator_id, life.epoch, life.incarnation.get())
}

/// Inserts a branch's marker as aborted: the tombstone.
pub(super) fn tombstone(key: &str) -> String {
    format!(
        "INSERT INTO votum.marker (coordinator_id, epoch, incarnation, seq, branch, committed) \
         SELECT k[1], k[2]::pg_catalog.int8, k[3]::pg_catalog.int4, k[4]::pg_catalog.int8, k[5]::pg_catalog.int4, \
         false FROM (SELECT '{key}'::pg_catalog.text[] AS k) AS key"
    )
}

/// Asks what a branch's row says.
pub(super) fn question(key: &str) -> String {
    format!(
        "SELECT m.committed FROM votum.marker AS m, (SELECT '{key}'::pg_catalog.text[] AS k) AS key \
         WHERE (m.coordinator_id, m.epoch, m.incarnation, m.seq, m.branch) \
         = (k[1], k[2]::pg_catalog.int8, k[3]::pg_catalog.int4, k[4]::pg_catalog.int8, k[5]::pg_catalog.int4)"
    )
}

/// What the table says of a branch that is not prepared any more. To be asked after that was seen, so that the
/// row, if there is to be one, can be seen, too.
pub(super) async fn ask(client: &Client, gid: &Gid) -> Result<Marker, DatabaseError> {
    let failed = |error| failure(Command::OutcomeQuery, &error);
    let usable = client.simple_query(&format!("SELECT {USABLE}")).await.map_err(failed)?;
    if first_row(&usable).and_then(|row| row.get(0)) != Some("t") {
        return Ok(Marker::Unspecified);
    }
    let answer = client.simple_query(&question(&key(gid))).await.map_err(failed)?;
    Ok(match rows(&answer).next().map(|row| row.get(0)) {
        None => Marker::Absent,
        Some(Some("t")) => Marker::Committed,
        Some(Some(_)) => Marker::Aborted,
        Some(None) => Marker::Unspecified,
    })
}

/// What is said of many branches at once: a text each.
pub(super) type Texts = Vec<Option<String>>;

/// What the server remembers of transaction ids, and then, in a statement of its own, what the table says of their
/// branches: who reads of a commit in the first sees the row in the second. The status is 'beyond' of an id that
/// may not have been given out yet, about which the server can only be asked alone.
pub(super) async fn ask_many(
    client: &Client,
    branches: &[(Gid, u64)],
) -> Result<(Texts, Texts), DatabaseError> {
    let failed = |error| failure(Command::OutcomeQuery, &error);
    let usable = client.simple_query(&format!("SELECT {USABLE}")).await.map_err(failed)?;
    let usable = first_row(&usable).and_then(|row| row.get(0)) == Some("t");
    let asked: Vec<String> = branches
        .iter()
        .enumerate()
        .map(|(place, (gid, xid8))| {
            format!("({place}, '{xid8}'::pg_catalog.xid8, '{}'::pg_catalog.text[])", key(gid))
        })
        .collect();
    let asked = asked.join(", ");
    let ask = async |what: &str| {
        let question = format!("SELECT {what} FROM (VALUES {asked}) AS asked(place, xid8, k) ORDER BY place");
        let answer = client.simple_query(&question).await.map_err(failed)?;
        Ok::<Texts, DatabaseError>(rows(&answer).map(|row| row.get(0).map(str::to_owned)).collect())
    };
    let statuses = ask("CASE WHEN xid8 OPERATOR(pg_catalog.<) \
         pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) \
         THEN pg_catalog.pg_xact_status(xid8) ELSE 'beyond' END");
    let statuses = statuses.await?;
    let markers = ask(if usable {
        "COALESCE((SELECT CASE WHEN m.committed THEN 'committed' ELSE 'aborted' END FROM votum.marker AS m \
         WHERE (m.coordinator_id, m.epoch, m.incarnation, m.seq, m.branch) \
         = (k[1], k[2]::pg_catalog.int8, k[3]::pg_catalog.int4, k[4]::pg_catalog.int8, \
         k[5]::pg_catalog.int4)), 'absent')"
    } else {
        "NULL"
    });
    Ok((statuses, markers.await?))
}

/// How many rows are deleted at once.
const PRUNED_AT_ONCE: usize = 2000;

/// Deletes some markers; says how many.
pub(super) async fn prune(
    client: &Client,
    coordinator: &CoordinatorId,
    above: Epoch,
    below: (Epoch, u64),
) -> Result<u64, DatabaseError> {
    let failed = |error| failure(Command::OutcomeQuery, &error);
    let usable = client.simple_query(&format!("SELECT {USABLE}")).await.map_err(failed)?;
    if first_row(&usable).and_then(|row| row.get(0)) != Some("t") {
        return Ok(0);
    }
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (above, epoch, seq) = (signed(above.0), signed(below.0.0), signed(below.1));
    // Nobody waits for it to reach the disk: what a crash brings back is deleted again. Nor does it wait for long
    // where an administrator works on the table.
    let deletion = format!(
        "SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '8s'; \
         DELETE FROM votum.marker WHERE ctid = ANY (ARRAY(SELECT ctid FROM votum.marker \
         WHERE coordinator_id = '{coordinator}' AND epoch > {above} AND (epoch, seq) < ({epoch}, {seq}) \
         LIMIT {PRUNED_AT_ONCE}))"
    );
    let answer = client.simple_query(&deletion).await.map_err(failed)?;
    let counts = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        SimpleQueryMessage::Row(_) | SimpleQueryMessage::RowDescription(_) | _ => None,
    });
    Ok(counts.last().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_named_by_all_parts_of_the_gid_but_the_number_of_its_siblings() {
        let gid: Gid = "votum_acme_7_3f9ac2_1042_1_3".parse().expect("a gid");
        assert_eq!(key(&gid), "{acme,7,4168386,1042,1}");
    }
}
