//! The one thread that writes, and the one that watches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use votum_proto::names::ParticipantName;
use votum_proto::runtime::{Clock, Monotonic};

use super::archive::Archive;
use super::config::OnFailure;
use super::discipline::{Core, Failure, Millis};
use super::disk::Disk;
use super::store::Store;
use super::{DecisionLog, Entry, LogEvent};

/// The exit code of a server whose log failed.
const EXIT_LOG_FAILED: i32 = 70;

/// How many messages are taken before what is due is done.
const MESSAGES_PER_ROUND: usize = 4096;

/// What the writer is told.
pub(super) enum Message<S> {
    Append(Vec<Entry>),
    Listed(ParticipantName),
    Store(Result<Archive<S>, String>),
    Close,
}

/// The driver's end.
pub(super) struct Handle<S>(pub(super) Sender<Message<S>>);

impl<S: Store> DecisionLog for Handle<S> {
    fn append(&self, entries: Vec<Entry>) {
        // The writer is gone only after a failure or a close; both were told by an event.
        let _ = self.0.send(Message::Append(entries));
    }

    fn listed(&self, participant: ParticipantName) {
        let _ = self.0.send(Message::Listed(participant));
    }

    fn close(&self) {
        let _ = self.0.send(Message::Close);
    }
}

/// What leaves the log. Once it is shut, nothing is acknowledged any more, whoever shut it (I11).
pub(super) struct Outbox {
    events: Mutex<Option<UnboundedSender<LogEvent>>>,
    last: UnboundedSender<LogEvent>,
    on_failure: OnFailure,
}

impl Outbox {
    pub(super) fn new(events: UnboundedSender<LogEvent>, on_failure: OnFailure) -> Self {
        Self { events: Mutex::new(Some(events.clone())), last: events, on_failure }
    }

    fn send(&self, event: LogEvent) {
        let open = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = open.as_ref() {
            // A driver that is gone needs no events.
            let _ = events.send(event);
        }
    }

    /// Shuts the log for good.
    fn fail(&self, why: &str) {
        let mut open = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(events) = open.take() else { return };
        tracing::error!(
            code = "VOTUM-1114",
            "the decision log failed: {why}. Nobody knows whether what was written last is on disk, so \
             nothing more is acknowledged. A restart reads the disk and knows; repair the disk first if it \
             fails again"
        );
        let _ = events.send(LogEvent::Doubtful { why: why.to_owned() });
        match self.on_failure {
            OnFailure::ExitProcess => std::process::exit(EXIT_LOG_FAILED),
            OnFailure::Latch => {}
        }
    }

    /// The answer to a close, which is due even after a failure.
    fn closed(&self) {
        let _ = self.last.send(LogEvent::Closed);
    }
}

/// Since when the writer has been in one call to the disk or the store.
#[derive(Default)]
pub(super) struct Busy(AtomicU64);

impl Busy {
    fn enter(&self, now: Monotonic) {
        self.0.store(millis(now).saturating_add(1), Ordering::Release);
    }

    fn leave(&self) {
        self.0.store(0, Ordering::Release);
    }

    fn since(&self) -> Option<Millis> {
        self.0.load(Ordering::Acquire).checked_sub(1)
    }
}

/// The writing thread's own things.
pub(super) struct Writer<D, S> {
    pub(super) core: Core<D, S>,
    pub(super) inbox: Receiver<Message<S>>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) busy: Arc<Busy>,
    pub(super) clock: Arc<dyn Clock>,
    /// When the core began to be driven.
    pub(super) origin: Monotonic,
    /// Opens the store; waited for at the end, so that nothing of this log is open when it says so.
    pub(super) opener: JoinHandle<()>,
    /// Released when the thread ends.
    pub(super) lock: std::fs::File,
    /// Dropped when the thread ends, which ends the watchdog.
    pub(super) watched: Sender<()>,
}

/// Whether to go on.
enum Next {
    Go,
    Close,
}

impl<D: Disk, S: Store> Writer<D, S> {
    /// Writes until it is told to close, or nobody can tell it anything any more.
    pub(super) fn run(mut self) {
        let outcome = loop {
            match self.round() {
                Ok(Next::Go) => {}
                Ok(Next::Close) => break self.finish(),
                Err(failure) => break Err(failure),
            }
        };
        if let Err(failure) = outcome {
            self.outbox.fail(&failure.0);
            // Latched: entries are dropped until somebody closes.
            while !matches!(self.inbox.recv(), Ok(Message::Close) | Err(_)) {}
        }
        let Self { mut core, inbox, outbox, opener, lock, watched, .. } = self;
        drop(watched);
        core.close();
        // A panic in the opener was caught there; it has nothing else to say.
        let _ = opener.join();
        for message in inbox.try_iter() {
            if let Message::Store(Ok(archive)) = message {
                archive.close();
            }
        }
        drop((core, inbox, lock));
        outbox.closed();
    }

    /// Takes what has come, and does what is due.
    fn round(&mut self) -> Result<Next, Failure> {
        let mut next = self.wait()?;
        // Bounded, so that writing begins however fast entries come.
        for _ in 0..MESSAGES_PER_ROUND {
            match (&next, self.inbox.try_recv()) {
                (Next::Go, Ok(message)) => next = self.take(message)?,
                (Next::Go | Next::Close, _) => break,
            }
        }
        if let Next::Go = next {
            let now = self.enter();
            let events = self.core.turn(now);
            self.busy.leave();
            for event in events? {
                self.outbox.send(event);
            }
        }
        Ok(next)
    }

    /// Waits until something comes or is due.
    fn wait(&mut self) -> Result<Next, Failure> {
        let now = self.now();
        let received = match self.core.due() {
            Some(due) if due <= now => return Ok(Next::Go),
            Some(due) => self.inbox.recv_timeout(Duration::from_millis(due - now)),
            None => self.inbox.recv().map_err(RecvTimeoutError::from),
        };
        match received {
            Ok(message) => self.take(message),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Go),
            Err(RecvTimeoutError::Disconnected) => Ok(Next::Close),
        }
    }

    fn take(&mut self, message: Message<S>) -> Result<Next, Failure> {
        let now = self.now();
        match message {
            Message::Append(entries) => self.core.append(now, entries)?,
            Message::Listed(participant) => self.core.listed(now, participant),
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

    fn finish(&mut self) -> Result<(), Failure> {
        let now = self.enter();
        let events = self.core.finish(now);
        self.busy.leave();
        for event in events? {
            self.outbox.send(event);
        }
        Ok(())
    }

    fn enter(&self) -> Millis {
        self.busy.enter(self.clock.now());
        self.now()
    }

    fn now(&self) -> Millis {
        millis(Monotonic(self.clock.now().since(self.origin)))
    }
}

/// Ends the log when one call to the disk takes longer than `limit`. Ends itself when `writer` does.
pub(super) fn watch(writer: &Receiver<()>, busy: &Busy, clock: &dyn Clock, outbox: &Outbox, limit: Duration) {
    let pause = (limit / 8).max(Duration::from_millis(1));
    while let Err(RecvTimeoutError::Timeout) = writer.recv_timeout(pause) {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        if let Some(since) = busy.since()
            && millis(clock.now()).saturating_sub(since) > limit_ms
        {
            outbox.fail(&format!("a write or a sync has not returned for {limit_ms} ms"));
            return;
        }
    }
}

fn millis(at: Monotonic) -> Millis {
    u64::try_from(at.0.as_millis()).unwrap_or(u64::MAX)
}
