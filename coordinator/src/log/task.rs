//! A log that a task drives instead of a thread, over any disk and any store: for simulations. The discipline,
//! the start and what is done with each message are those of every log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use votum_proto::names::CoordinatorId;
use votum_proto::runtime::{Clock, Monotonic, Seams};

use super::config::Limits;
use super::count::count;
use super::desk::{Desk, Handle, Message, Next, Outbox, millis};
use super::discipline::{Core, Failure, Millis, Started};
use super::disk::{Disk, DiskError};
use super::journal::Journal;
use super::refusal::Refusal;
use super::start::{birth, opened};
use super::store::Store;
use super::{Opened, codec};
use crate::protocol::record::{Identity, Record};

/// How a log that a task drives behaves.
pub struct Terms {
    /// The numbers that the discipline works with.
    pub limits: Limits,
    /// How many seqs the first lease of a life grants.
    pub lease: u64,
    /// The new life's epoch will be above this one.
    pub epoch_above: u64,
    /// How long the store is counted.
    pub counting: Duration,
    /// How long the next operation takes: asked before each batch is written, and again before it is told of.
    pub pace: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// What happens after a failure of the disk, once the driver was told: a server would end here.
    pub on_failure: Arc<dyn Fn() + Send + Sync>,
}

/// Makes a new, empty log on `disk`.
///
/// # Errors
/// When the disk refuses.
pub fn format<D: Disk>(disk: D, half_bytes: u64, identity: Identity) -> Result<(), DiskError> {
    let path = disk.path(super::disk::Half::A);
    let encoded = codec::encode(&Record::Identity(identity)).map_err(|error| DiskError {
        doing: "writing",
        file: path,
        why: error.to_string(),
    })?;
    Journal::format(disk, half_bytes, &[encoded])
}

/// Opens the log of `coordinator_id`, begins a new life in it, and has a task drive it.
///
/// # Errors
/// As [`super::open`].
pub fn open<D: Disk + Send + 'static, S: Store>(
    disk: D,
    store: S,
    coordinator_id: &CoordinatorId,
    terms: Terms,
    seams: &Seams,
) -> Result<Opened, Refusal> {
    let Terms { limits, lease, epoch_above, counting, pace, on_failure } = terms;
    let origin = seams.clock.now();
    let Started { core, kept, warnings } =
        Core::<D, S>::start(disk, limits, coordinator_id, birth(&*seams.entropy, lease, epoch_above))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let (events, received) = unbounded_channel();
    let (inbox, messages) = unbounded_channel();
    let outbox = Arc::new(Outbox::new(events, move || on_failure()));
    let post = inbox.clone();
    let handle = Handle(Box::new(move |message| drop(post.send(message))));
    let opened = opened(&core, lease, Arc::new(handle), received);
    let identity = core.identity().clone();
    let clock = Arc::clone(&seams.clock);
    seams.spawn(async move {
        clock.sleep(counting).await;
        let counted = count(Arc::new(store), &identity, &kept).map_err(|error| error.to_string());
        let _ = inbox.send(Message::Store(counted));
    });
    let clock = Arc::clone(&seams.clock);
    seams.spawn(Driven { desk: Desk { core, outbox }, messages, clock, origin, pace }.run());
    Ok(opened)
}

/// A desk, and the task's own things.
struct Driven<D, S> {
    desk: Desk<D, S>,
    messages: UnboundedReceiver<Message<S>>,
    clock: Arc<dyn Clock>,
    origin: Monotonic,
    pace: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl<D: Disk, S: Store> Driven<D, S> {
    async fn run(mut self) {
        let outcome = loop {
            match self.round().await {
                Ok(Next::Go) => {}
                Ok(Next::Close) => break self.finish(),
                Err(failure) => break Err(failure),
            }
        };
        if let Err(failure) = outcome {
            self.desk.outbox.fail(&failure.0);
            // Latched: entries are dropped until somebody closes.
            while !matches!(self.messages.recv().await, Some(Message::Close) | None) {}
        }
        self.desk.core.close();
        self.desk.outbox.closed();
    }

    /// Takes what has come, and does what is due.
    async fn round(&mut self) -> Result<Next, Failure> {
        let mut next = self.wait().await?;
        while let (Next::Go, Ok(message)) = (&next, self.messages.try_recv()) {
            next = self.desk.take(self.now(), message)?;
        }
        if let Next::Go = next
            && self.desk.core.due().is_some_and(|due| due <= self.now())
        {
            self.clock.sleep((self.pace)()).await;
            let events = self.desk.core.turn(self.now())?;
            self.clock.sleep((self.pace)()).await;
            self.desk.tell(events);
        }
        Ok(next)
    }

    /// Waits until something comes or is due.
    async fn wait(&mut self) -> Result<Next, Failure> {
        let now = self.now();
        let received = match self.desk.core.due() {
            Some(due) if due <= now => return Ok(Next::Go),
            Some(due) => {
                let limit = Duration::from_millis(due - now);
                match self.clock.timeout(limit, self.messages.recv()).await {
                    Ok(received) => received,
                    Err(_) => return Ok(Next::Go),
                }
            }
            None => self.messages.recv().await,
        };
        match received {
            Some(message) => self.desk.take(self.now(), message),
            None => Ok(Next::Close),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let events = self.desk.core.finish(self.now())?;
        self.desk.tell(events);
        Ok(())
    }

    fn now(&self) -> Millis {
        millis(Monotonic(self.clock.now().since(self.origin)))
    }
}
