//! One link: dials one agent for ever, opens each stream with the hello, then pumps frames both ways.
//!
//! Everything of a link happens in one task, and both directions are polled in a fixed order, so that a
//! simulation sees the same run for the same seed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Either, select};
use prost::Message as _;
use tokio::sync::mpsc;
use votum_proto::exchange::{CoordinatorEnd, Incoming};
use votum_proto::names::Life;
use votum_proto::runtime::{Backoff, Clock, Seams};
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as FromAgent;
use votum_proto::v1::coordinator_message::Kind as ToAgent;

use super::{AgentIndex, Dialer, DurablePosition, Generation, LinkEvent, LinkHandle};

/// The first delay between two diallings, and the longest: an agent that comes back is found within this.
const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// The delay after a refusal, which only a person or a newer epoch's end can change.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// How long an agent has to accept a connection.
const DIAL_PATIENCE: Duration = Duration::from_secs(10);
/// How long it has to answer the hello: it may have to list tens of thousands of prepared transactions first.
/// An agent that is gone is noticed sooner, by the connection.
const HELLO_PATIENCE: Duration = Duration::from_secs(30);
/// A stream on which nothing was sent for this long gets an empty frame: it carries the witness.
const IDLE: Duration = Duration::from_secs(1);
/// The most messages in one frame; keeps a frame far below the limits on a message's size.
const MAX_MESSAGES: usize = 256;
/// The most bytes in one frame, unless it is of one message: some carry the work of a whole transaction.
const MAX_BYTES: usize = 8 << 20;
/// How long a stream that takes no more frames may still say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

type Outbox = mpsc::UnboundedReceiver<(Generation, Vec<v1::CoordinatorMessage>)>;

/// Starts the link to agent number `agent`. It tells `events` what happens, and ends when every clone of the
/// returned handle is dropped, or the receiver of `events` is.
///
/// Every frame carries the witness, `life` and `durable` as it stands when the frame is made, once the driver
/// has judged the agent's hello: an agent replaces the witness that it keeps by the one that it is told, and
/// the one that it keeps may be the only proof that this log is stale.
pub fn start_link(
    agent: AgentIndex,
    dialer: Arc<dyn Dialer>,
    hello: v1::CoordinatorHello,
    durable: DurablePosition,
    life: Life,
    events: mpsc::UnboundedSender<LinkEvent>,
    seams: &Seams,
) -> LinkHandle {
    let (sender, outbox) = mpsc::unbounded_channel();
    let stamp = Stamp { durable, life };
    let link = Link {
        agent,
        address: dialer.address(),
        dialer,
        hello,
        stamp,
        events,
        outbox,
        seams: seams.clone(),
        generation: 0,
    };
    seams.spawn(link.run());
    LinkHandle::new(sender)
}

/// Makes frames.
#[derive(Clone)]
struct Stamp {
    durable: DurablePosition,
    life: Life,
}

impl Stamp {
    /// With the witness, unless it is withheld.
    fn frame(&self, messages: Vec<v1::CoordinatorMessage>) -> v1::CoordinatorFrame {
        let witness = self.durable.witness().map(|position| v1::Witness {
            epoch: self.life.epoch.0,
            incarnation: self.life.incarnation.get(),
            position,
        });
        v1::CoordinatorFrame { witness, messages }
    }
}

struct Link {
    agent: AgentIndex,
    address: String,
    dialer: Arc<dyn Dialer>,
    hello: v1::CoordinatorHello,
    stamp: Stamp,
    events: mpsc::UnboundedSender<LinkEvent>,
    outbox: Outbox,
    seams: Seams,
    /// The newest stream's.
    generation: Generation,
}

/// Nobody needs the link any more.
struct Unwanted;

/// How one attempt at a stream, or a stream, ended.
enum Ending {
    /// It broke, or did not come about: why.
    Broken(String),
    /// The agent refused this coordinator.
    Refused(v1::Refusal),
}

impl Link {
    async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        // The same trouble again and again is told to the driver each time, and to people's logs once.
        let mut logged = String::new();
        while let Ok(delay) = self.once(&mut backoff, &mut logged).await {
            let wait = self.seams.clock.sleep(delay);
            if while_discarding(&mut self.outbox, wait).await.is_err() {
                break;
            }
        }
        tracing::debug!(agent = %self.address, "the link has ended");
    }

    /// One stream, from dialling to its end. Returns how long to wait before the next.
    async fn once(&mut self, backoff: &mut Backoff, logged: &mut String) -> Result<Duration, Unwanted> {
        let opening = open(self.dialer.as_ref(), first(&self.hello), &*self.seams.clock);
        let opened = while_discarding(&mut self.outbox, opening).await?;
        let (generation, ending) = match opened {
            Ok((end, hello)) => {
                self.generation += 1;
                logged.clear();
                tracing::info!(agent = %self.address, instance = hello.instance, "connected to the agent");
                let since = self.seams.clock.now();
                self.tell(LinkEvent::Up { agent: self.agent, generation: self.generation, hello })?;
                let ending = self.pump(end).await?;
                // A stream that breaks as soon as it stands is no success to begin afresh from.
                if self.seams.clock.now().since(since) >= LONGEST_DELAY {
                    backoff.reset();
                }
                (Some(self.generation), ending)
            }
            Err(ending) => (None, ending),
        };
        let entropy = &*self.seams.entropy;
        let (why, delay) = match ending {
            Ending::Broken(why) => (why, backoff.delay(entropy)),
            Ending::Refused(refusal) => {
                let why = format!("the agent refuses this coordinator: {}", refusal.detail);
                self.tell(LinkEvent::Refused { agent: self.agent, refusal })?;
                (why, entropy.jittered(AFTER_REFUSAL))
            }
        };
        if *logged != why {
            tracing::warn!(
                agent = %self.address,
                %why,
                "not connected to the agent; dialling again until it answers. Its branches wait meanwhile"
            );
            logged.clone_from(&why);
        }
        self.tell(LinkEvent::Down { agent: self.agent, generation, why })?;
        Ok(delay)
    }

    fn tell(&self, event: LinkEvent) -> Result<(), Unwanted> {
        self.events.send(event).map_err(|_| Unwanted)
    }

    /// Pumps both directions until the stream ends. Writing is polled first: what the driver has decided
    /// does not wait behind what agents say.
    async fn pump(&mut self, end: CoordinatorEnd) -> Result<Ending, Unwanted> {
        let CoordinatorEnd { outgoing, incoming } = end;
        let clock = Arc::clone(&self.seams.clock);
        let writer = write(&mut self.outbox, self.generation, &self.stamp, &outgoing, &*clock);
        let reader = read(self.agent, self.generation, incoming, &self.events);
        let (writer, reader) = (std::pin::pin!(writer), std::pin::pin!(reader));
        match select(writer, reader).await {
            Either::Right((ending, _)) => ending,
            Either::Left((Err(Unwanted), _)) => Err(Unwanted),
            // The agent takes no more frames. It usually says why at the same moment.
            Either::Left((Ok(()), reader)) => clock
                .timeout(LAST_WORDS, reader)
                .await
                .unwrap_or_else(|_| Ok(Ending::Broken("the agent reads no more from the stream".into()))),
        }
    }
}

/// A stream's first frame. It carries no witness: see [`start_link`].
fn first(hello: &v1::CoordinatorHello) -> v1::CoordinatorFrame {
    unwitnessed(vec![v1::CoordinatorMessage { kind: Some(ToAgent::Hello(hello.clone())) }])
}

fn unwitnessed(messages: Vec<v1::CoordinatorMessage>) -> v1::CoordinatorFrame {
    v1::CoordinatorFrame { witness: None, messages }
}

/// Does `work`, while everything that is sent into the outbox is thrown away: it was meant for a stream that
/// is gone.
async fn while_discarding<T>(outbox: &mut Outbox, work: impl Future<Output = T>) -> Result<T, Unwanted> {
    let discard = async { while outbox.recv().await.is_some() {} };
    match select(std::pin::pin!(work), std::pin::pin!(discard)).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right(((), _)) => Err(Unwanted),
    }
}

/// Dials, says hello, and waits for the agent's.
async fn open(
    dialer: &dyn Dialer,
    hello: v1::CoordinatorFrame,
    clock: &dyn Clock,
) -> Result<(CoordinatorEnd, v1::AgentHello), Ending> {
    let broken = |why: String| Ending::Broken(why);
    let late = |what: &str, limit: Duration| {
        broken(format!("the agent did not {what} within {} s", limit.as_secs()))
    };
    let mut end = clock
        .timeout(DIAL_PATIENCE, dialer.dial())
        .await
        .map_err(|_| late("accept a connection", DIAL_PATIENCE))?
        .map_err(|why| broken(format!("the agent cannot be reached: {why}")))?;
    // A fresh exchange holds many frames: this does not wait. If it fails, the other direction says why.
    let _ = end.outgoing.send(hello).await;
    let frame = clock
        .timeout(HELLO_PATIENCE, end.incoming.next())
        .await
        .map_err(|_| late("answer the hello", HELLO_PATIENCE))?
        .ok_or_else(|| broken("the agent ended the stream without a hello".into()))?
        .map_err(|error| broken(error.0))?;
    let mut messages = frame.messages.into_iter();
    let first = messages.next().and_then(|message| message.kind);
    let alone = messages.next().is_none();
    match first.filter(|_| alone) {
        Some(FromAgent::Hello(hello)) => Ok((end, hello)),
        Some(FromAgent::Refusal(refusal)) => Err(Ending::Refused(refusal)),
        Some(
            FromAgent::Vote(_)
            | FromAgent::BranchEnd(_)
            | FromAgent::SessionLost(_)
            | FromAgent::Enlisted(_)
            | FromAgent::Listing(_)
            | FromAgent::Trouble(_)
            | FromAgent::BranchesVerified(_)
            | FromAgent::Held(_),
        )
        | None => Err(broken(
            "the agent's first frame was neither a hello nor a refusal alone: it is not a Votum agent of this \
             version"
                .into(),
        )),
    }
}

/// Sends what the outbox holds for `generation`, as few frames as it fits in. `Ok` when the agent takes no
/// more.
async fn write(
    outbox: &mut Outbox,
    generation: Generation,
    stamp: &Stamp,
    outgoing: &mpsc::Sender<v1::CoordinatorFrame>,
    clock: &dyn Clock,
) -> Result<(), Unwanted> {
    let mut waiting = VecDeque::new();
    let mut received = Vec::new();
    let mut idle = clock.sleep(IDLE);
    let mut silent = true;
    let mut judged = false;
    loop {
        let got = {
            let receive = std::pin::pin!(outbox.recv_many(&mut received, MAX_MESSAGES));
            match select(receive, &mut idle).await {
                Either::Left((got, _)) => Some(got),
                Either::Right(((), _)) => None,
            }
        };
        match got {
            Some(0) => return Err(Unwanted),
            Some(_) => {
                let first = !judged;
                for (_, messages) in received.drain(..).filter(|(meant_for, _)| *meant_for == generation) {
                    judged = true;
                    waiting.extend(messages);
                }
                // The witness does not wait for something to say.
                let newly_judged = first && judged && waiting.is_empty();
                if newly_judged && outgoing.send(stamp.frame(Vec::new())).await.is_err() {
                    return Ok(());
                }
            }
            None => {
                let empty = if judged { stamp.frame(Vec::new()) } else { unwitnessed(Vec::new()) };
                if silent && outgoing.send(empty).await.is_err() {
                    return Ok(());
                }
                silent = true;
                idle = clock.sleep(IDLE);
            }
        }
        while !waiting.is_empty() {
            let messages = one_frame(&mut waiting);
            if outgoing.send(stamp.frame(messages)).await.is_err() {
                return Ok(());
            }
            silent = false;
        }
    }
}

/// What goes into the next frame: at least one message.
fn one_frame(waiting: &mut VecDeque<v1::CoordinatorMessage>) -> Vec<v1::CoordinatorMessage> {
    let mut bytes = 0;
    let fits = |message: &&v1::CoordinatorMessage| {
        bytes += message.encoded_len();
        bytes <= MAX_BYTES
    };
    let fitting = waiting.iter().take(MAX_MESSAGES).take_while(fits).count();
    waiting.drain(..fitting.max(1).min(waiting.len())).collect()
}

/// Hands incoming frames to the driver until the stream ends.
async fn read(
    agent: AgentIndex,
    generation: Generation,
    mut incoming: Incoming<v1::AgentFrame>,
    events: &mpsc::UnboundedSender<LinkEvent>,
) -> Result<Ending, Unwanted> {
    loop {
        let v1::AgentFrame { mut messages, session_queues: queues } = match incoming.next().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Ok(Ending::Broken(error.0)),
            None => return Ok(Ending::Broken("the agent ended the stream".into())),
        };
        let refusal = take_refusal(&mut messages);
        if !messages.is_empty() {
            events.send(LinkEvent::Frame { agent, generation, messages, queues }).map_err(|_| Unwanted)?;
        }
        if let Some(refusal) = refusal {
            return Ok(Ending::Refused(refusal));
        }
    }
}

/// A refusal amid a stream: a newer coordinator has spoken to the agent since. What came before it in the
/// frame counts; nothing comes after it.
fn take_refusal(messages: &mut Vec<v1::AgentMessage>) -> Option<v1::Refusal> {
    let at = messages.iter().position(|message| matches!(message.kind, Some(FromAgent::Refusal(_))))?;
    let Some(FromAgent::Refusal(refusal)) = messages.drain(at..).next()?.kind else { return None };
    Some(refusal)
}
