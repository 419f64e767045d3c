//! What applications prepared on connections of their own: looked up by name, and ended as whoever prepared it.

use tokio_postgres::{Client, SimpleQueryRow};
use votum_proto::names::Gid;

use super::listing::{FACTS, parse_facts};
use super::lost_log::MAY_END;
use super::{failure, first_row, rows, unexpected};
use crate::database::{Command, DatabaseError, FoundAttached, MayEnd, PreparedAttached};

/// Behind the three columns of [`FACTS`].
const FIRST: usize = 3;

/// One row for each of these that is prepared at the server, in whichever database; or a single one whose gid is null.
/// The next transaction id of the server is the first that no snapshot sees, or later.
fn query(gids: &[Gid]) -> String {
    let names: Vec<String> = gids.iter().map(|gid| format!("'{gid}'")).collect();
    format!(
        "SELECT {FACTS}, pg_catalog.current_database(), current_user, \
         pg_catalog.current_setting('synchronous_standby_names') <> '', \
         pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()), \
         p.gid, p.transaction, p.owner, p.database, {MAY_END} \
         FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.gid IN ({})",
        names.join(", ")
    )
}

/// Looks up what is prepared under these names. What `declared` roles prepared is ours, too.
pub(super) async fn find(
    client: &Client,
    gids: &[Gid],
    declared: &[String],
) -> Result<FoundAttached, DatabaseError> {
    let answer =
        client.simple_query(&query(gids)).await.map_err(|error| failure(Command::Listing, &error))?;
    let unreadable = || unexpected(Command::Listing, "a row of pg_prepared_xacts");
    let first = first_row(&answer).ok_or_else(unreadable)?;
    let mut found = FoundAttached {
        facts: parse_facts(first, 0).ok_or_else(unreadable)?,
        database: first.get(FIRST).unwrap_or_default().to_owned(),
        may_be_ahead_of_standbys: first.get(FIRST + 2) == Some("t"),
        prepared: Vec::new(),
    };
    for row in rows(&answer).filter(|row| row.get(FIRST + 4).is_some()) {
        found.prepared.push(prepared(row, declared).ok_or_else(unreadable)?);
    }
    Ok(found)
}

fn prepared(row: &SimpleQueryRow, declared: &[String]) -> Option<PreparedAttached> {
    let text = |column: usize| row.get(FIRST + column);
    let owner = text(6);
    let is_declared = owner
        .is_some_and(|owner| Some(owner) == text(1) || declared.iter().any(|declared| declared == owner));
    let may_end = match text(8)? {
        _ if !is_declared => MayEnd::Undeclared,
        "no" => MayEnd::No,
        _ => MayEnd::Yes,
    };
    Some(PreparedAttached {
        gid: text(4)?.parse().ok()?,
        xid8: whole(text(5)?.parse().ok()?, text(3)?.parse().ok()?),
        owner: owner.unwrap_or_default().to_owned(),
        database: text(7)?.to_owned(),
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
