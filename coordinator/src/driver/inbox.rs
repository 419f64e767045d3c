//! What the driver's loop takes, and in which order: what the log says first, then agents, then timers,
//! then clients. The order is fixed, so that the same inputs always make the same turns.

use tokio::sync::mpsc;
use votum_proto::runtime::BoxFuture;

use super::request::Request;
use crate::log::LogEvent;
use crate::transport::LinkEvent;

/// How many inputs of one kind a turn takes at most, so that no kind waits for ever.
const PER_TURN: usize = 512;

/// One input of the loop.
pub(super) enum Input {
    Log(LogEvent),
    Link(LinkEvent),
    Timer,
    Request(Request),
}

/// Everything that reaches the driver.
pub(super) struct Inbox {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) links: mpsc::UnboundedReceiver<LinkEvent>,
    pub(super) log: mpsc::UnboundedReceiver<LogEvent>,
}

impl Inbox {
    /// The next input, waiting for it; `None` once the log, or every client, is gone for good.
    pub(super) async fn next(&mut self, timer: Option<BoxFuture<()>>) -> Option<Input> {
        let timer = timer.unwrap_or_else(|| Box::pin(std::future::pending()));
        tokio::select! {
            biased;
            event = self.log.recv() => event.map(Input::Log),
            Some(event) = self.links.recv() => Some(Input::Link(event)),
            () = timer => Some(Input::Timer),
            request = self.requests.recv() => request.map(Input::Request),
        }
    }

    /// What is waiting besides, so that one flush serves many.
    pub(super) fn waiting(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        let log = std::iter::from_fn(|| self.log.try_recv().ok()).take(PER_TURN);
        inputs.extend(log.map(Input::Log));
        let links = std::iter::from_fn(|| self.links.try_recv().ok()).take(PER_TURN);
        inputs.extend(links.map(Input::Link));
        let requests = std::iter::from_fn(|| self.requests.try_recv().ok()).take(PER_TURN);
        inputs.extend(requests.map(Input::Request));
        inputs
    }
}
