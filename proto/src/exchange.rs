//! Where coordinator and agent meet: an ordered exchange of message batches. In production it is a gRPC
//! stream; in one process, and in a simulation, a pair of channels. Nothing above it can tell which.

use std::pin::Pin;

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::v1::{AgentFrame, CoordinatorFrame};

/// How many frames may wait in one direction before the sender has to.
pub const DEPTH: usize = 64;

/// The exchange broke. What was sent before may or may not have arrived.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the exchange with the other side broke: {0}")]
pub struct Broken(pub String);

/// Frames from the other side, in the order in which they were sent; ends when the exchange does.
pub type Incoming<T> = Pin<Box<dyn Stream<Item = Result<T, Broken>> + Send>>;

/// One side's end of an exchange. Dropping it ends the exchange for the other side.
pub struct End<Out, In> {
    /// Frames to the other side. Sending fails once the other side is gone.
    pub outgoing: mpsc::Sender<Out>,
    /// Frames from the other side.
    pub incoming: Incoming<In>,
}

/// The coordinator's end.
pub type CoordinatorEnd = End<CoordinatorFrame, AgentFrame>;
/// The agent's end.
pub type AgentEnd = End<AgentFrame, CoordinatorFrame>;

/// Two ends joined within one process.
pub fn channel() -> (CoordinatorEnd, AgentEnd) {
    let (to_agent, from_coordinator) = mpsc::channel(DEPTH);
    let (to_coordinator, from_agent) = mpsc::channel(DEPTH);
    (
        End { outgoing: to_agent, incoming: Box::pin(ReceiverStream::new(from_agent).map(Ok)) },
        End { outgoing: to_coordinator, incoming: Box::pin(ReceiverStream::new(from_coordinator).map(Ok)) },
    )
}
