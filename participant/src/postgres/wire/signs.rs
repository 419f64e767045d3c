//! Whether a connection still stands, for all who want to know; and the watch that finds out.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::Socket;

/// Whether a connection stands.
pub(in crate::postgres) struct Signs {
    closed: watch::Sender<bool>,
    breaks: watch::Sender<u64>,
}

impl Signs {
    pub(in crate::postgres) fn new(breaks: watch::Sender<u64>) -> Arc<Self> {
        Arc::new(Self { closed: watch::Sender::new(false), breaks })
    }

    /// The connection is gone, and it was not we who ended it.
    pub(super) fn broke(&self, why: &str) {
        if !self.closed.send_replace(true) {
            tracing::warn!(why, "a connection to the database broke");
            self.breaks.send_modify(|count| *count += 1);
        }
    }

    pub(in crate::postgres) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(in crate::postgres) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }
}

/// Waits until the connection breaks, or is dropped.
pub(super) async fn watch(socket: &Socket, dropped: oneshot::Receiver<()>, signs: &Signs) {
    let closed = std::pin::pin!(socket.closed());
    match futures::future::select(dropped, closed).await {
        futures::future::Either::Left(_) => {}
        futures::future::Either::Right(_) => signs.broke("the server closed it, or is gone"),
    }
}
