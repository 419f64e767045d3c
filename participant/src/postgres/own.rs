//! The statements that an agent runs in every session on its own account. Those that every branch needs are
//! parsed and planned once for each session: to plan them each time took the server longer than to plan the
//! client's own.

use futures::future::try_join;
use tokio_postgres::{Client, Error, Row, Statement};

/// Tells one transaction from the next: an xid alone cannot, because a transaction that wrote nothing has
/// none. And in which encoding the server takes and gives text.
const IDENTITY: &str = "SELECT (pg_catalog.date_part('epoch', pg_catalog.transaction_timestamp()) * 1000000)::bigint, \
                        pg_catalog.pg_current_xact_id_if_assigned()::text, \
                        pg_catalog.current_setting('client_encoding')";

/// Makes a session as good as new, outside of transactions only. Our own statements go too.
pub(super) const RESET: &str = "DISCARD ALL";

/// All of [`RESET`] that is left to do when a branch has just been prepared, together with [`LEFTOVERS`].
/// PREPARE refuses what has used temporary objects, LISTEN, or cursors WITH HOLD, and nothing else than the
/// branch ran in the session; roles are reset before it.
const RESET_PREPARED: &str = "RESET ALL; DISCARD SEQUENCES";

/// Lets advisory locks go, and says whether clients have prepared statements by SQL: these take a full reset.
const LEFTOVERS: &str = "SELECT pg_catalog.pg_advisory_unlock_all(), \
    EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() WHERE from_sql)";

/// What every branch asks. A full reset takes it away.
pub(super) struct OwnStatements {
    identity: Statement,
    leftovers: Statement,
}

/// The answer to [`OwnStatements::identity`].
pub(super) struct Identity<'a> {
    /// When the transaction began, in microseconds since 1970.
    pub(super) began: i64,
    /// `None` as long as it has written nothing.
    pub(super) xid8: Option<u64>,
    /// In which encoding the server takes and gives text.
    pub(super) encoding: &'a str,
}

impl<'a> Identity<'a> {
    pub(super) fn read(row: &'a Row) -> Option<Self> {
        let xid8 = match row.try_get::<_, Option<&str>>(1).ok()? {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        Some(Self { began: row.try_get(0).ok()?, xid8, encoding: row.try_get(2).ok()? })
    }
}

impl OwnStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let (identity, leftovers) = try_join(client.prepare(IDENTITY), client.prepare(LEFTOVERS)).await?;
        Ok(Self { identity, leftovers })
    }

    /// Asks which transaction is open: one row, for [`Identity::read`].
    pub(super) async fn identity(&self, client: &Client) -> Result<Vec<Row>, Error> {
        client.query(&self.identity, &[]).await
    }

    /// Resets the session after a PREPARE. True when it is then as good as new.
    pub(super) async fn reset_prepared(&self, client: &Client) -> bool {
        let done = try_join(client.batch_execute(RESET_PREPARED), client.query(&self.leftovers, &[])).await;
        let none_left = |row: &Row| row.try_get(1).is_ok_and(|some_left: bool| !some_left);
        done.is_ok_and(|((), left)| left.first().is_some_and(none_left))
    }
}
