//! The one thread that writes, and the one that watches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use votum_proto::runtime::{Clock, Monotonic};

use super::desk::{Desk, Message, Next, Outbox, millis};
use super::discipline::{Failure, Millis};
use super::disk::Disk;
use super::store::Store;

/// How many messages are taken before what is due is done.
const MESSAGES_PER_ROUND: usize = 4096;

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
    pub(super) desk: Desk<D, S>,
    pub(super) inbox: Receiver<Message<S>>,
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
            self.desk.outbox.fail(&failure.0);
            // Latched: entries are dropped until somebody closes.
            while !matches!(self.inbox.recv(), Ok(Message::Close) | Err(_)) {}
        }
        let Self { desk: Desk { mut core, outbox }, inbox, opener, lock, watched, .. } = self;
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
                (Next::Go, Ok(message)) => next = self.desk.take(self.now(), message)?,
                (Next::Go | Next::Close, _) => break,
            }
        }
        if let Next::Go = next {
            let now = self.enter();
            let events = self.desk.core.turn(now);
            self.busy.leave();
            self.desk.tell(events?);
        }
        Ok(next)
    }

    /// Waits until something comes or is due.
    fn wait(&mut self) -> Result<Next, Failure> {
        let now = self.now();
        let received = match self.desk.core.due() {
            Some(due) if due <= now => return Ok(Next::Go),
            Some(due) => self.inbox.recv_timeout(Duration::from_millis(due - now)),
            None => self.inbox.recv().map_err(RecvTimeoutError::from),
        };
        match received {
            Ok(message) => self.desk.take(self.now(), message),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Go),
            Err(RecvTimeoutError::Disconnected) => Ok(Next::Close),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let now = self.enter();
        let events = self.desk.core.finish(now);
        self.busy.leave();
        self.desk.tell(events?);
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
