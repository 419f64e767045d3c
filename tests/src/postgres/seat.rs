//! The place of a database server, which one of several takes after another.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;

use super::Server;

/// The server that serves now: to whoever looks at this, that one. Behind it those that may take its place.
#[derive(Debug)]
pub struct Seat {
    servers: Vec<Arc<Server>>,
    taken: AtomicUsize,
    /// Stands for all where there are none.
    first: Arc<Server>,
}

impl Seat {
    /// Taken by `first`, behind which the others stand.
    pub fn new(first: Arc<Server>, behind: Vec<Arc<Server>>) -> Self {
        let servers = [Arc::clone(&first)].into_iter().chain(behind).collect();
        Self { servers, taken: AtomicUsize::new(0), first }
    }

    /// The server that took it at first.
    pub fn first(&self) -> &Server {
        &self.first
    }

    /// The server that is to take its place.
    ///
    /// # Errors
    /// When there is none.
    pub fn standby(&self) -> anyhow::Result<&Server> {
        self.servers.get(1).map(Arc::as_ref).context("this bank has no standby")
    }

    /// The server dies as in a crash of its machine.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn crash(&self) -> anyhow::Result<()> {
        self.stop_immediate().await
    }

    /// The standby is promoted; what is asked of this place from here on is asked of it.
    ///
    /// # Errors
    /// When there is none, or it does not become a server of its own.
    pub async fn promote_standby(&self) -> anyhow::Result<()> {
        self.standby()?.promote().await?;
        self.taken.store(1, Ordering::Release);
        Ok(())
    }

    /// The server dies, and its standby takes its place.
    ///
    /// # Errors
    /// As [`Seat::crash`] and [`Seat::promote_standby`].
    pub async fn fail_over(&self) -> anyhow::Result<()> {
        self.crash().await?;
        self.promote_standby().await
    }

    /// Lets every server of its own live on when this process ends.
    pub fn leave_running(self) {
        drop(self.first);
        for server in self.servers.into_iter().filter_map(Arc::into_inner) {
            server.leave_running();
        }
    }
}

impl Deref for Seat {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.servers.get(self.taken.load(Ordering::Acquire)).unwrap_or(&self.first)
    }
}
