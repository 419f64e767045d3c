//! The ordered, batched exchange with each agent: dialled by the coordinator, dialled again for ever with a
//! capped, jittered back-off. One link, one agent; an agent may serve several participants.

pub mod channel;
pub mod grpc;
pub mod link;
#[cfg(test)]
mod link_tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::mpsc;
use votum_proto::exchange::CoordinatorEnd;
use votum_proto::v1;

/// Which agent, by its place in the configuration.
pub type AgentIndex = usize;

/// Counts the streams that one link has had. A message meant for an earlier stream is never sent on a later.
pub type Generation = u64;

/// Reaches one agent: a gRPC channel in production, a channel pair in one process or in a simulation.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Opens an exchange with the agent.
    ///
    /// # Errors
    /// A sentence for people, when the agent cannot be reached now.
    async fn dial(&self) -> Result<CoordinatorEnd, String>;
    /// Where it dials, for people.
    fn address(&self) -> String;
}

/// What a link tells the driver, in order.
#[derive(Debug)]
pub enum LinkEvent {
    /// A stream stands and the agent's hello has arrived. Nothing else of that stream came before it.
    Up {
        /// Which agent.
        agent: AgentIndex,
        /// The stream.
        generation: Generation,
        /// What the agent said.
        hello: v1::AgentHello,
    },
    /// The agent refused this coordinator's epoch. The link tries again, slowly.
    Refused {
        /// Which agent.
        agent: AgentIndex,
        /// What it said.
        refusal: v1::Refusal,
    },
    /// Messages of one frame, after `Up`.
    Frame {
        /// Which agent.
        agent: AgentIndex,
        /// The stream.
        generation: Generation,
        /// In order.
        messages: Vec<v1::AgentMessage>,
        /// Where branches wait for a session.
        queues: Vec<v1::SessionQueue>,
    },
    /// The stream is gone, or could not be opened.
    Down {
        /// Which agent.
        agent: AgentIndex,
        /// The stream that is gone; `None` if none stood.
        generation: Option<Generation>,
        /// For people.
        why: String,
    },
}

/// The newest position on disk, for the witness in every frame. Written by the driver only after the log
/// reported it durable.
#[derive(Debug, Clone, Default)]
pub struct DurablePosition(Arc<Durable>);

#[derive(Debug, Default)]
struct Durable {
    position: AtomicU64,
    withheld: AtomicBool,
}

impl DurablePosition {
    /// Notes that the log is on disk as far as `position`.
    pub fn advance(&self, position: u64) {
        self.0.position.fetch_max(position, Ordering::Release);
    }

    /// The newest position noted.
    pub fn get(&self) -> u64 {
        self.0.position.load(Ordering::Acquire)
    }

    /// No frame carries a witness until `release`: agents go on showing what proves the log stale, also to the
    /// next life of it.
    pub fn withhold(&self) {
        self.0.withheld.store(true, Ordering::Release);
    }

    /// Frames carry a witness again: every witness that was shown has been judged, and the log is whole.
    pub fn release(&self) {
        self.0.withheld.store(false, Ordering::Release);
    }

    /// What a witness may say, unless nothing may be said.
    pub fn witness(&self) -> Option<u64> {
        (!self.0.withheld.load(Ordering::Acquire)).then(|| self.get())
    }
}

/// The driver's side of one link.
#[derive(Clone)]
pub struct LinkHandle {
    outbox: mpsc::UnboundedSender<(Generation, Vec<v1::CoordinatorMessage>)>,
}

impl LinkHandle {
    /// A handle that feeds `outbox`.
    pub fn new(outbox: mpsc::UnboundedSender<(Generation, Vec<v1::CoordinatorMessage>)>) -> Self {
        Self { outbox }
    }

    /// Sends `messages` as one frame on stream `generation`; dropped when that stream is gone. Never waits:
    /// what may be on its way is bounded by the number of live transactions.
    ///
    /// The first call for a stream says that its hello was judged: no frame before it carries a witness.
    pub fn send(&self, generation: Generation, messages: Vec<v1::CoordinatorMessage>) {
        let _ = self.outbox.send((generation, messages));
    }
}
