//! Metrics over HTTP: `GET /metrics`, as Prometheus asks for them, on an address of its own.
//!
//! Whoever asks, and however often, costs a bounded amount: one page is made at a time, a connection carries
//! one answer, and one that does not ask in time is closed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::serve::Listener;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_stream::StreamExt as _;

use super::listen::{Conn, Listening};
use crate::address::Address;
use crate::runtime::{BoxFuture, Clock, Seams};

/// How many connections may be open at once. The next is accepted when one has ended.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection may be open: asking takes no time, and an answer is bounded by what makes it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Section `[metrics]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsSection {
    /// Where metrics are served; nowhere unless it is set. Port 0 takes any free port.
    pub listen: Option<Address>,
    /// Allows that address to be reachable from other machines although nothing on the wire is encrypted or
    /// authenticated.
    pub insecure: bool,
}

impl MetricsSection {
    /// What is wrong with the section in a process that serves its clients at `beside`.
    pub fn problems(&self, beside: &Address) -> Vec<String> {
        let Some(listen) = &self.listen else { return Vec::new() };
        let mut problems = Vec::new();
        if !listen.is_local() && !self.insecure {
            problems.push(format!(
                "metrics.listen = \"{listen}\" can be reached from other machines (or its host name does not \
                 resolve), and nothing there is encrypted or authenticated: listen on 127.0.0.1, or write \
                 insecure = true under [metrics]"
            ));
        }
        let any_port = matches!(listen, Address::Tcp(host_port) if host_port.ends_with(":0"));
        if listen == beside && !any_port {
            problems.push(format!(
                "metrics.listen is the same address as listen ({beside}): metrics are served on one of their own"
            ));
        }
        problems
    }
}

/// Makes the page of metrics anew, in the text format of OpenMetrics; or says why it cannot be had now.
pub type Page = Arc<dyn Fn() -> BoxFuture<Result<String, String>> + Send + Sync>;

/// What the text format is called.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `page` at `GET /metrics`, and nothing else, on a task of its own. Ends when what is returned is
/// dropped.
pub fn serve(listening: Listening, page: Page, seams: &Seams) -> Serving {
    let (serving, told) = oneshot::channel();
    let address = listening.local().clone();
    let asked = Asked { page, one_at_a_time: Arc::default() };
    let router = Router::new().route("/metrics", get(answer)).with_state(asked);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let listener = Bounded { listening, clock: Arc::clone(&seams.clock), places };
    seams.spawn(async move {
        tracing::info!("metrics are served on {address}");
        let stop = async {
            let _ = told.await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "metrics are served no more; nothing else is touched");
        }
    });
    Serving { _stop: serving }
}

/// Metrics are served as long as this is kept.
pub struct Serving {
    _stop: oneshot::Sender<()>,
}

#[derive(Clone)]
struct Asked {
    page: Page,
    one_at_a_time: Arc<Mutex<()>>,
}

async fn answer(State(Asked { page, one_at_a_time }): State<Asked>) -> Response {
    let made = {
        let _alone = one_at_a_time.lock().await;
        page().await
    };
    match made {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS), (CONNECTION, "close")], text).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, [(CONNECTION, "close")], why).into_response(),
    }
}

/// A listener with a place for so many connections, each for so long.
struct Bounded {
    listening: Listening,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Placed;
    type Addr = ();

    async fn accept(&mut self) -> (Placed, ()) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        loop {
            // Neither ends, and neither fails: the stream of connections goes on for ever.
            if let Some(Ok(connection)) = self.listening.next().await {
                let late = self.clock.sleep(PATIENCE);
                return (Placed { connection, late, _place: place.ok() }, ());
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// One connection, in its place.
struct Placed {
    connection: Conn,
    late: BoxFuture<()>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.late.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.late.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
