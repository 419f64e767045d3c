//! The row that keeps, for agents that restart, who spoke of a coordinator_id last and how far its log had
//! reached. An administrator makes the table; where there is none nothing is kept.

use tokio_postgres::{Client, SimpleQueryRow};
use votum_proto::names::{CoordinatorId, Epoch, Incarnation, Life};
use votum_proto::v1;

use super::{failure, first_row, unexpected};
use crate::database::{Command, DatabaseError, Kept, Stood};

/// The statements that make the table, for `role` to keep rows in: to be run once in each database, by
/// somebody who may create a schema there. They may be run again.
pub fn installation(role: &str) -> String {
    let role = quoted(role);
    format!(
        "\
BEGIN;
CREATE SCHEMA IF NOT EXISTS votum;
CREATE TABLE IF NOT EXISTS votum.witness (
    coordinator_id text PRIMARY KEY,
    fence_epoch bigint NOT NULL,
    fence_incarnation bigint NOT NULL,
    witness_epoch bigint,
    witness_incarnation bigint,
    witness_position bigint,
    written timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE votum.witness IS 'Votum: which life of each coordinator spoke last, and how far its log had reached. Agents that restart read it; without it they forget.';
GRANT USAGE ON SCHEMA votum TO {role};
GRANT SELECT, INSERT, UPDATE ON votum.witness TO {role};
COMMIT;
"
    )
}

/// A name as SQL takes it, whatever is in it.
pub(in crate::postgres) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether this role may keep a row; null where there is no table. By the catalogue: a name that may not be
/// looked up is an error.
pub(super) const PLACE: &str = "(SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
     AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT') \
     AND pg_catalog.has_table_privilege(c.oid, 'UPDATE') FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = 'votum' AND c.relname = 'witness')";

/// For the statement behind it in the same message: its commit is forced by this server, whatever the role's
/// own durability is, and waits for no standby, whose absence must not hold up what is listed after it.
const FORCED_HERE: &str = "SET LOCAL synchronous_commit = local";

/// What is newer counts: of the fence, a higher epoch; of the witness, a higher epoch or position.
fn statement(coordinator: &CoordinatorId, kept: &Kept) -> String {
    let Life { epoch, incarnation } = kept.fence;
    let witness = kept.witness.map_or_else(
        || "NULL, NULL, NULL".to_owned(),
        |v1::Witness { epoch, incarnation, position }| format!("{epoch}, {incarnation}, {position}"),
    );
    let incarnation = incarnation.get();
    format!(
        "{FORCED_HERE}; WITH stood AS (SELECT * FROM votum.witness WHERE coordinator_id = '{coordinator}'), \
         kept AS (INSERT INTO votum.witness AS w (coordinator_id, fence_epoch, fence_incarnation, \
         witness_epoch, witness_incarnation, witness_position) \
         VALUES ('{coordinator}', {epoch}, {incarnation}, {witness}) \
         ON CONFLICT (coordinator_id) DO UPDATE SET \
         (fence_epoch, fence_incarnation) = (SELECT \
           CASE WHEN n THEN excluded.fence_epoch ELSE w.fence_epoch END, \
           CASE WHEN n THEN excluded.fence_incarnation ELSE w.fence_incarnation END \
           FROM (SELECT excluded.fence_epoch > w.fence_epoch AS n) AS newer), \
         (witness_epoch, witness_incarnation, witness_position) = (SELECT \
           CASE WHEN n THEN excluded.witness_epoch ELSE w.witness_epoch END, \
           CASE WHEN n THEN excluded.witness_incarnation ELSE w.witness_incarnation END, \
           CASE WHEN n THEN excluded.witness_position ELSE w.witness_position END \
           FROM (SELECT COALESCE((excluded.witness_epoch, excluded.witness_position) \
             > (w.witness_epoch, w.witness_position), w.witness_epoch IS NULL) AS n) AS newer), \
         written = now() RETURNING 1) \
         SELECT fence_epoch, fence_incarnation, witness_epoch, witness_incarnation, witness_position FROM stood"
    )
}

/// Notes `kept` beside what stands there, and returns what stood there.
pub(super) async fn keep(
    client: &Client,
    coordinator: &CoordinatorId,
    kept: &Kept,
) -> Result<Stood, DatabaseError> {
    let failed = |error| failure(Command::Listing, &error);
    let question = format!("SELECT COALESCE({PLACE}, false) AND NOT pg_catalog.pg_is_in_recovery()");
    let installed = client.simple_query(&question).await.map_err(failed)?;
    if first_row(&installed).and_then(|row| row.get(0)) != Some("t") {
        return Ok(Stood::Nowhere);
    }
    let answer = client.simple_query(&statement(coordinator, kept)).await.map_err(failed)?;
    let unreadable = || unexpected(Command::Listing, "a row of votum.witness");
    match first_row(&answer) {
        Some(row) => parse(row).map(Stood::Kept).ok_or_else(unreadable),
        None => Ok(Stood::Nothing),
    }
}

fn parse(row: &SimpleQueryRow) -> Option<Kept> {
    let number = |column: usize| row.get(column).map(str::parse::<u64>);
    let fence = life(number(0)?.ok()?, u32::try_from(number(1)?.ok()?).ok()?)?;
    let witness = match (number(2), number(3), number(4)) {
        (Some(epoch), Some(incarnation), Some(position)) => Some(v1::Witness {
            epoch: epoch.ok()?,
            incarnation: u32::try_from(incarnation.ok()?).ok()?,
            position: position.ok()?,
        }),
        (_, _, _) => None,
    };
    Some(Kept { fence, witness })
}

fn life(epoch: u64, incarnation: u32) -> Option<Life> {
    let read = Incarnation::from_low_bits(incarnation);
    (read.get() == incarnation).then_some(Life { epoch: Epoch(epoch), incarnation: read })
}
