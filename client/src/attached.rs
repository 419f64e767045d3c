//! A branch that the application works in on a connection of its own.

#[cfg(feature = "tokio-postgres")]
use crate::Error;
use crate::Transaction;

/// An attached branch: the application begins it on a connection of its own, works in it with whatever driver it
/// likes, and prepares it under the name that the transaction gives it. Its participant's agent looks whether it is
/// there when the commit is asked for, and ends it.
///
/// Every branch that was attached is a part of the transaction: one that is not prepared by then is a no. Once
/// PREPARE TRANSACTION was called nothing else may be done about it on that connection; where the transaction is rolled
/// back, or its time is over, what is prepared is rolled back by the agent. Before that the connection is the
/// application's to roll back: the coordinator knows nothing of it.
///
#[cfg_attr(feature = "tokio-postgres", doc = "```no_run")]
#[cfg_attr(not(feature = "tokio-postgres"), doc = "```ignore")]
/// # async fn example(votum: votum_client::Votum, orders: tokio_postgres::Client) -> anyhow::Result<()> {
/// let tx = votum.begin().attach("orders").await?;
/// orders.batch_execute("BEGIN").await?;
/// orders.execute("INSERT INTO invoice (id, amount) VALUES ($1, $2)", &[&4711_i64, &12.5_f64]).await?;
/// tx.attached("orders")?.prepare(&orders).await?;
/// tx.execute("bank_a", "UPDATE account SET balance = balance - 12.5 WHERE id = 1", &[]).await?;
/// println!("{}", tx.commit().await?);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Attached<'a> {
    tx: &'a Transaction,
    participant: &'a str,
    gid: &'a str,
}

impl<'a> Attached<'a> {
    pub(crate) fn new(tx: &'a Transaction, participant: &'a str, gid: &'a str) -> Self {
        Self { tx, participant, gid }
    }

    /// Where it is.
    pub fn participant(&self) -> &'a str {
        self.participant
    }

    /// The name under which it is to be prepared.
    pub fn gid(&self) -> &'a str {
        self.gid
    }

    /// The transaction that it is a branch of.
    pub fn transaction(&self) -> &'a Transaction {
        self.tx
    }

    /// The text that prepares it, for any driver: to be run at once, as one simple query, in the transaction that did
    /// the work. By itself, PREPARE TRANSACTION in a transaction that has failed, or outside of any, "succeeds" without
    /// preparing anything; behind the savepoint it is an error (SQLSTATE 25P02, 25P01).
    pub fn statement(&self) -> String {
        // A gid is made of letters, digits and underscores.
        format!("SAVEPOINT votum_prepare; PREPARE TRANSACTION '{}'", self.gid)
    }

    /// Prepares what was done in the open transaction of `client`, which is free for other work afterwards. A
    /// connection of a pool does as well: `deadpool_postgres::Client` derefs to this one.
    ///
    /// Where the wait for a synchronous standby is cut short, PostgreSQL says so by a warning alone; whether the branch
    /// is safe the agent finds out by itself before it votes.
    ///
    /// # Errors
    /// [`Error::Sql`] as the database reported it: the transaction on `client` has failed, and the application rolls it
    /// back. [`Error::BranchLost`] where the connection broke: nobody knows whether it is prepared, and a commit that
    /// is asked for all the same finds it out.
    #[cfg(feature = "tokio-postgres")]
    pub async fn prepare(&self, client: &tokio_postgres::Client) -> Result<(), Error> {
        client.batch_execute(&self.statement()).await.map_err(|error| {
            let error = refused(&error, self.participant);
            self.tx.note(&error);
            error
        })
    }
}

#[cfg(feature = "tokio-postgres")]
fn refused(error: &tokio_postgres::Error, participant: &str) -> Error {
    let Some(sql) = error.as_db_error() else {
        return Error::BranchLost {
            participant: participant.to_owned(),
            detail: format!("nobody knows whether it is prepared: {}", crate::error::with_causes(error)),
            retryable: true,
        };
    };
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    let sql = votum_proto::v1::SqlError {
        sqlstate: sql.code().code().to_owned(),
        severity: sql.severity().to_owned(),
        message: sql.message().to_owned(),
        detail: text(sql.detail()),
        hint: text(sql.hint()),
        position: 0,
        schema: text(sql.schema()),
        table: text(sql.table()),
        column: text(sql.column()),
        constraint: text(sql.constraint()),
    };
    Error::Sql(Box::new(crate::SqlError::new(sql, participant.to_owned(), false)))
}
