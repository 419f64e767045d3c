//! What is prepared under a name. It is asked for each attached branch, and wherever an order may meet other work than
//! is meant: the server plans the questions once for each connection, which takes it longer than to answer.

use std::sync::OnceLock;

use tokio::sync::OnceCell;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};
use votum_proto::names::Gid;

use super::listing::{FACTS, parse_facts};
use super::lost_log::MAY_END;
use super::{failure, first_row, unexpected};
use crate::database::{Command, DatabaseError, Found, FoundAttached, MayEnd, PreparedAttached, ServerFacts};

/// What one connection need not ask again.
#[derive(Default)]
pub(super) struct Learned {
    facts: OnceLock<ServerFacts>,
    find: OnceCell<Statement>,
    find_attached: OnceCell<Statement>,
}

impl Learned {
    /// Keeps the facts of a server that has left recovery: a connection stays with one server, which does not go back,
    /// nor begin another timeline.
    pub(super) fn note(&self, facts: &ServerFacts) {
        if !facts.in_recovery {
            let _ = self.facts.set(*facts);
        }
    }

    /// The server's facts, asked where they may have changed.
    pub(super) async fn facts(
        &self,
        client: &Client,
        command: Command,
    ) -> Result<ServerFacts, DatabaseError> {
        if let Some(facts) = self.facts.get() {
            return Ok(*facts);
        }
        let answer = client
            .simple_query(&format!("SELECT {FACTS}"))
            .await
            .map_err(|error| failure(command, &error))?;
        let facts = first_row(&answer).and_then(|row| parse_facts(row, 0));
        let facts = facts.ok_or_else(|| unexpected(command, "server facts"))?;
        self.note(&facts);
        Ok(facts)
    }

    /// Looks for `gid` in the connection's own database. What `declared` roles prepared may be ours, too.
    pub(super) async fn find(
        &self,
        client: &Client,
        gid: &Gid,
        declared: &[String],
    ) -> Result<Found, DatabaseError> {
        // First: what was found before a standby was promoted is judged as a standby's.
        let facts = self.facts(client, Command::Listing).await?;
        let rows = ask(client, &self.find, FIND, Type::TEXT, &gid.to_string()).await?;
        rows.first().and_then(|row| found(row, facts, declared)).ok_or_else(unreadable)
    }

    /// Looks up what is prepared under these names, in whichever database. What `declared` roles prepared is ours, too.
    pub(super) async fn find_attached(
        &self,
        client: &Client,
        gids: &[Gid],
        declared: &[String],
    ) -> Result<FoundAttached, DatabaseError> {
        let facts = self.facts(client, Command::Listing).await?;
        let names: Vec<String> = gids.iter().map(ToString::to_string).collect();
        let rows = ask(client, &self.find_attached, &find_attached(), Type::TEXT_ARRAY, &names).await?;
        let first = rows.first().ok_or_else(unreadable)?;
        let mut found = FoundAttached {
            facts,
            database: text(first, 0).unwrap_or_default().to_owned(),
            may_be_ahead_of_standbys: text(first, 2) == Some("true"),
            prepared: Vec::new(),
        };
        for row in rows.iter().filter(|row| text(row, 4).is_some()) {
            found.prepared.push(prepared(row, declared).ok_or_else(unreadable)?);
        }
        Ok(found)
    }
}

/// One row: the low half of the transaction id that is prepared under the name in this database, if any, whose it is,
/// and who asks. All columns are texts.
const FIND: &str = "SELECT p.transaction::text, p.owner::text, current_user::text \
     FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_prepared_xacts p \
     ON p.gid = $1 AND p.database = pg_catalog.current_database()";

/// One row for each of the names that is prepared at the server, in whichever database; or a single one whose gid is
/// null. All columns are texts. The next transaction id of the server is the first that no snapshot sees, or later.
fn find_attached() -> String {
    format!(
        "SELECT pg_catalog.current_database()::text, current_user::text, \
         (pg_catalog.current_setting('synchronous_standby_names') <> '')::text, \
         pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text, \
         p.gid::text, p.transaction::text, p.owner::text, p.database::text, ({MAY_END})::text \
         FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.gid = ANY ($1)"
    )
}

async fn ask(
    client: &Client,
    learned: &OnceCell<Statement>,
    question: &str,
    of: Type,
    names: &(dyn ToSql + Sync),
) -> Result<Vec<Row>, DatabaseError> {
    let failed = |error: tokio_postgres::Error| failure(Command::Listing, &error);
    let types = [of];
    let statement =
        learned.get_or_try_init(|| client.prepare_typed(question, &types)).await.map_err(failed)?;
    client.query(statement, &[names]).await.map_err(failed)
}

fn unreadable() -> DatabaseError {
    unexpected(Command::Listing, "a row of pg_prepared_xacts")
}

fn text(row: &Row, column: usize) -> Option<&str> {
    row.try_get(column).ok().flatten()
}

/// Whether what `owner` prepared is the agent's, whose role is `role`, or a declared role's.
fn is_declared(owner: Option<&str>, role: Option<&str>, declared: &[String]) -> bool {
    owner.is_some_and(|owner| Some(owner) == role || declared.iter().any(|declared| declared == owner))
}

fn found(row: &Row, facts: ServerFacts, declared: &[String]) -> Option<Found> {
    let xid = match text(row, 0) {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    let (owner, role) = (text(row, 1), text(row, 2)?);
    let ours = is_declared(owner, Some(role), declared);
    let owner = owner.filter(|owner| ours && *owner != role).map(str::to_owned);
    Some(Found { xid, ours, owner, facts })
}

fn prepared(row: &Row, declared: &[String]) -> Option<PreparedAttached> {
    let owner = text(row, 6);
    let may_end = match text(row, 8)? {
        _ if !is_declared(owner, text(row, 1), declared) => MayEnd::Undeclared,
        "no" => MayEnd::No,
        _ => MayEnd::Yes,
    };
    Some(PreparedAttached {
        gid: text(row, 4)?.parse().ok()?,
        xid8: whole(text(row, 5)?.parse().ok()?, text(row, 3)?.parse().ok()?),
        owner: owner.unwrap_or_default().to_owned(),
        database: text(row, 7)?.to_owned(),
        may_end,
    })
}

/// The whole of a transaction id of which the low half is shown. No server has ids in use that are further apart than
/// half of those that 32 bits tell apart, so that it is the one nearest to `next`.
fn whole(low: u32, next: u64) -> u64 {
    let distance = low.wrapping_sub((next & u64::from(u32::MAX)) as u32).cast_signed();
    next.wrapping_add_signed(i64::from(distance))
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn the_whole_of_a_transaction_id_is_the_one_nearest_to_the_next() {
        const ROUND: u64 = 1 << 32;
        for (low, next, id) in [
            (700, 703, 700),
            // The next that a snapshot names may be the one that is prepared, or lie before it.
            (700, 700, 700),
            (702, 700, 702),
            (700, ROUND + 703, ROUND + 700),
            (u32::MAX, ROUND + 3, ROUND - 1),
            (3, ROUND - 1, ROUND + 3),
            (0x7fff_ffff, 3 * ROUND + 0x8000_0000, 3 * ROUND + 0x7fff_ffff),
        ] {
            assert_eq!(whole(low, next), id, "{low} by {next}");
        }
    }
}
