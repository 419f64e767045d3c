//! Connections of the agent's own, on which commands follow one another without waiting for answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Semaphore};

use super::connect::{Connection, Connector};
use super::failure;
use crate::database::{Command, DatabaseError};

/// How many commands may be under way on one connection: they run one after another there, and the next is already at
/// the server when one ends.
const DEPTH: usize = 4;

/// The settings of a connection that carries out decisions: no default of the role may cut one short.
const OWN_SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_session_timeout = 0; \
     SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'";

/// Connections that carry out decisions.
pub(super) struct Lanes {
    first: Lane,
    others: Vec<Lane>,
    open: Semaphore,
}

impl Lanes {
    /// So many, and at least one.
    pub(super) fn new(connections: usize) -> Self {
        let connections = connections.max(1);
        Self {
            first: Lane::default(),
            others: (1..connections).map(|_| Lane::default()).collect(),
            open: Semaphore::new(connections * DEPTH),
        }
    }

    /// Runs `work` on the connection that has least to do.
    pub(super) async fn run<T>(
        &self,
        connector: &Connector,
        work: impl AsyncFnOnce(Arc<Connection>) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        // The semaphore is never closed.
        let _permit = self.open.acquire().await;
        let lanes = std::iter::once(&self.first).chain(&self.others);
        let least_busy = lanes.min_by_key(|lane| lane.in_flight.load(Ordering::Acquire));
        let lane = least_busy.unwrap_or(&self.first);
        let _counted = InFlight::on(&lane.in_flight);
        work(lane.connection(connector).await?).await
    }
}

/// One connection, opened when it is first needed and again when it broke.
#[derive(Default)]
pub(super) struct Lane {
    connection: Mutex<Option<Arc<Connection>>>,
    in_flight: AtomicUsize,
}

impl Lane {
    pub(super) async fn connection(&self, connector: &Connector) -> Result<Arc<Connection>, DatabaseError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connector.serves(connection)) {
            return Ok(Arc::clone(connection));
        }
        *slot = None;
        let connection = Arc::new(connector.connect().await?);
        connection
            .client
            .batch_execute(OWN_SETTINGS)
            .await
            .map_err(|error| failure(Command::Connect, &error))?;
        *slot = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Gives up a connection that does not answer.
    pub(super) async fn abandon(&self) {
        *self.connection.lock().await = None;
    }
}

/// Counts a command on a lane while it runs.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn on(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::AcqRel);
        Self(counter)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
