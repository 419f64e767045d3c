//! What is done with each message to the log, and what leaves it, whoever waits for the messages: a thread in
//! production (`writer`), a task in a simulation (`task`).

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::UnboundedSender;
use votum_proto::names::{Gtid, ParticipantName};
use votum_proto::runtime::Monotonic;

use super::archive::Archive;
use super::discipline::{Core, Failure, Millis};
use super::disk::Disk;
use super::store::Store;
use super::{DecisionLog, Entry, LogEvent, VerifiedOn};

/// What the log is told.
pub(super) enum Message<S> {
    Append(Vec<Entry>),
    Listed(ParticipantName, Option<Gtid>),
    Verified(ParticipantName, VerifiedOn),
    Store(Result<Archive<S>, String>),
    Close,
}

/// The driver's end: puts messages where the desk takes them from.
pub(super) struct Handle<S>(pub(super) Box<dyn Fn(Message<S>) + Send + Sync>);

impl<S: Store> DecisionLog for Handle<S> {
    fn append(&self, entries: Vec<Entry>) {
        (self.0)(Message::Append(entries));
    }

    fn listed(&self, participant: ParticipantName, unsettled: Option<Gtid>) {
        (self.0)(Message::Listed(participant, unsettled));
    }

    fn verified(&self, participant: ParticipantName, on: VerifiedOn) {
        (self.0)(Message::Verified(participant, on));
    }

    fn close(&self) {
        (self.0)(Message::Close);
    }
}

/// What leaves the log. Once it is shut, nothing is acknowledged any more, whoever shut it (I11).
pub(super) struct Outbox {
    events: Mutex<Option<UnboundedSender<LogEvent>>>,
    last: UnboundedSender<LogEvent>,
    on_failure: Box<dyn Fn() + Send + Sync>,
}

impl Outbox {
    /// One that tells `events`, and calls `on_failure` once the driver has been told of a failure.
    pub(super) fn new(
        events: UnboundedSender<LogEvent>,
        on_failure: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { events: Mutex::new(Some(events.clone())), last: events, on_failure: Box::new(on_failure) }
    }

    fn send(&self, event: LogEvent) {
        let open = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = open.as_ref() {
            // A driver that is gone needs no events.
            let _ = events.send(event);
        }
    }

    /// Shuts the log for good.
    pub(super) fn fail(&self, why: &str) {
        let mut open = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(events) = open.take() else { return };
        tracing::error!(
            code = "VOTUM-1114",
            "the decision log failed: {why}. Nobody knows whether what was written last is on disk, so \
             nothing more is acknowledged. A restart reads the disk and knows; repair the disk first if it \
             fails again"
        );
        let _ = events.send(LogEvent::Doubtful { why: why.to_owned() });
        (self.on_failure)();
    }

    /// The answer to a close, which is due even after a failure.
    pub(super) fn closed(&self) {
        let _ = self.last.send(LogEvent::Closed);
    }
}

/// Whether to go on.
pub(super) enum Next {
    Go,
    Close,
}

/// The discipline, and where it says what it has done.
pub(super) struct Desk<D, S> {
    pub(super) core: Core<D, S>,
    pub(super) outbox: Arc<Outbox>,
}

impl<D: Disk, S: Store> Desk<D, S> {
    /// Takes one message in.
    pub(super) fn take(&mut self, now: Millis, message: Message<S>) -> Result<Next, Failure> {
        match message {
            Message::Append(entries) => self.core.append(now, entries)?,
            Message::Listed(participant, unsettled) => self.core.listed(now, participant, unsettled),
            Message::Verified(participant, on) => self.core.verified(now, &participant, on)?,
            Message::Store(Ok(archive)) => self.core.store_opened(archive),
            Message::Store(Err(why)) => {
                tracing::error!(code = "VOTUM-1111", "{why}");
                let event = self.core.store_unreadable(why);
                self.outbox.send(event);
            }
            Message::Close => return Ok(Next::Close),
        }
        Ok(Next::Go)
    }

    /// Tells what is on disk now.
    pub(super) fn tell(&self, events: Vec<LogEvent>) {
        for event in events {
            self.outbox.send(event);
        }
    }
}

/// In the discipline's own unit.
pub(super) fn millis(at: Monotonic) -> Millis {
    u64::try_from(at.0.as_millis()).unwrap_or(u64::MAX)
}
