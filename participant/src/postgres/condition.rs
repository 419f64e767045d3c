//! How a server stands with prepared transactions.

use std::time::Duration;

use super::connect::Connection;
use super::{failure, first_row, unexpected};
use crate::database::{Command, Condition, DatabaseError};

/// Slots are the server's, whatever the database; what holds xmin back in a database is prepared there.
const CONDITION: &str = "SELECT pg_catalog.current_setting('max_prepared_transactions'), pg_catalog.count(*), \
     GREATEST(0, (pg_catalog.max(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - \
     p.prepared)) FILTER (WHERE p.database = pg_catalog.current_database()) * 1000)::bigint), \
     pg_catalog.count(*) FILTER (WHERE p.database = pg_catalog.current_database()), \
     COALESCE(pg_catalog.max(pg_catalog.age(p.transaction)) \
     FILTER (WHERE p.database = pg_catalog.current_database()), 0) FROM pg_catalog.pg_prepared_xacts p";

pub(super) async fn condition(connection: &Connection) -> Result<Condition, DatabaseError> {
    let answer = connection.client.simple_query(CONDITION).await;
    let answer = answer.map_err(|error| failure(Command::Listing, &error))?;
    let row = first_row(&answer);
    let number = |column: usize| row.and_then(|row| row.get(column)?.parse::<u64>().ok());
    let (Some(slots), Some(slots_used), Some(oldest_ms), Some(here), Some(xmin_held_back)) =
        (number(0), number(1), number(2), number(3), number(4))
    else {
        return Err(unexpected(Command::Listing, "how many transactions are prepared"));
    };
    let oldest_prepared = (here > 0).then_some(Duration::from_millis(oldest_ms));
    Ok(Condition { slots, slots_used, oldest_prepared, xmin_held_back })
}
