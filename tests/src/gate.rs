//! A gate in a database: a branch that has gone through it waits at PREPARE until the gate is open, so that a
//! test can act while the branch is just there.

use anyhow::Context as _;
use tokio_postgres::Client;
use votum_client::{Error, Transaction};

use crate::eventually::{Found, eventually};
use crate::postgres::ROLE;
use crate::world::Bank;

/// The trigger is deferred: it runs as the first part of PREPARE (or COMMIT).
const GATE: &str = "
    CREATE TABLE gate (refuse bool NOT NULL);
    CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(7);
        IF NEW.refuse THEN
            RAISE EXCEPTION 'the gate lets nobody through' USING ERRCODE = '23514';
        END IF;
        RETURN NULL;
    END $$;";
const HUNG: &str = "
    CREATE CONSTRAINT TRIGGER pass_gate AFTER INSERT ON gate DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION pass_gate();";

/// Who waits at the gate, in the server's own words.
const WAITING: &str = "SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'";

/// A gate that is shut. It opens when this is dropped.
pub struct Shut {
    // Its session holds the lock.
    _client: Client,
}

impl Bank {
    /// Builds the gate. It is open.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn build_gate(&self) -> anyhow::Result<()> {
        Ok(self.client_as(ROLE).await?.batch_execute(&format!("{GATE}{HUNG}")).await?)
    }

    /// Takes the gate off its hinges: where a trigger can be deferred, nothing is committed in one phase.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn unhang_gate(&self) -> anyhow::Result<()> {
        Ok(self.client_as(ROLE).await?.batch_execute("DROP TRIGGER pass_gate ON gate").await?)
    }

    /// Puts it back.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn hang_gate(&self) -> anyhow::Result<()> {
        Ok(self.client_as(ROLE).await?.batch_execute(HUNG).await?)
    }

    /// Shuts the gate until the result is dropped.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn shut_gate(&self) -> anyhow::Result<Shut> {
        let client = self.client().await?;
        client.batch_execute("SELECT pg_advisory_lock(7)").await.context("shutting the gate")?;
        Ok(Shut { _client: client })
    }

    /// Waits until a session stands at the gate, and says which server process it is.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn until_at_gate(&self) -> anyhow::Result<i32> {
        eventually("a branch stands at the gate", async || {
            let found = self.client().await?.query_opt(WAITING, &[]).await?;
            Ok(match found {
                Some(row) => Found::Yes(row.get(0)),
                None => Found::NotYet("nobody is there".into()),
            })
        })
        .await
    }
}

/// Takes a transaction's branch at `bank` through the gate. `refuse`: its PREPARE fails once the gate is open.
///
/// # Errors
/// As the statement.
pub async fn pass(tx: &Transaction, bank: &str, refuse: bool) -> Result<(), Error> {
    tx.execute(bank, "INSERT INTO gate VALUES ($1)", &[refuse.into()]).await.map(drop)
}
