//! The only owner of live transactions: feeds events to the protocol, carries out its effects.
//!
//! One task, one loop, in turns. A turn takes what is waiting (what the log says first, then agents, then
//! timers, then clients), steps the transactions concerned, and gathers what they ask for; at its end all
//! records go to the log in one call and all messages to each agent in one frame. The driver never waits
//! for a disk, a database or a client.
//!
//! | file | what happens there |
//! |---|---|
//! | `request` | what the servers ask, and what they are answered |
//! | `turn` | effects are carried out, the turn's output is flushed |
//! | `clients` | Begin, Commit, Rollback |
//! | `lookup` | what became of a transaction |
//! | `agents` | hellos, listings, votes, acknowledgements |
//! | `knowledge` | what the log says of a gid, in the recovery table's terms |
//! | `log_events` | what the log says: durable, counted, doubtful |
//! | `operator`, `resolve` | what votumctl asks |
//! | `in_doubt` | listings on request, joined with the log |
//! | `settlement` | how a restart settles what it found |
//! | `alarms`, `timers`, `wire` | as their names say |

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use votum_proto::names::{CoordinatorId, Gtid, Life, ParticipantName};
use votum_proto::runtime::{Backoff, Monotonic, Seams};
use votum_proto::secret::{EpochKey, IdentityKey};
use votum_proto::v1;

use crate::log::{DecisionLog, Entry, History, KnownLife, LogEvent, Opened, Token};
use crate::protocol::lives::{LifeSeen, Lives};
use crate::protocol::record::{KeyRecord, Record};
use crate::protocol::transaction::Transaction;
use crate::transport::{AgentIndex, DurablePosition, Generation, LinkEvent, LinkHandle};

mod agents;
mod alarms;
mod clients;
mod in_doubt;
mod knowledge;
mod log_events;
pub mod lookup;
pub mod operator;
pub mod request;
mod resolve;
mod settlement;
#[cfg(test)]
mod tests;
mod timers;
mod turn;
mod wire;

use alarms::Alarms;
use request::{Answer, DriverHandle, Outcome, Request, Wait};
use settlement::Settlement;
use timers::{Timer, Timers};

/// How many requests may wait for the driver before callers have to.
const REQUEST_QUEUE: usize = 4096;
/// How many inputs of one kind a turn takes at most, so that no kind waits for ever.
const PER_TURN: usize = 512;
/// How many outcomes of retired transactions are remembered, for clients that ask twice.
const RECENT: usize = 16_384;

/// What the driver is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Undecided transactions beyond this many are refused.
    pub max_transactions: usize,
    /// How long a Commit that waits for completion is kept waiting.
    pub completed_wait: Duration,
    /// How many seqs a lease holds.
    pub lease: u64,
    /// The newest durable position, shared with the links for their witness.
    pub durable: DurablePosition,
}

/// One agent, as the driver is told of it.
pub struct AgentSettings {
    /// How it is reached.
    pub link: LinkHandle,
    /// Its address, for people.
    pub address: String,
    /// The participants behind it.
    pub participants: Vec<ParticipantName>,
}

/// Starts the driver as a task; it ends after `Request::Drain`, or when every handle is gone.
pub fn start(
    settings: Settings,
    opened: Opened,
    agents: Vec<AgentSettings>,
    link_events: mpsc::UnboundedReceiver<LinkEvent>,
    seams: &Seams,
) -> DriverHandle {
    let (requests, inbox) = mpsc::channel(REQUEST_QUEUE);
    let Opened { identity, life, leased_until, lives, owed, position, log, events } = opened;
    settings.durable.advance(position);
    let mut driver = Driver {
        epoch_key: IdentityKey(identity.key).epoch_key(life),
        identity_key: IdentityKey(identity.key),
        coordinator_id: identity.coordinator_id,
        life,
        started: seams.clock.now(),
        next_seq: 1,
        leased_until,
        lease_asked: leased_until,
        lives: Lives::new(lives.iter().map(seen).collect(), false),
        live: BTreeMap::new(),
        undecided: 0,
        keys: BTreeMap::new(),
        recent: Recent::default(),
        links: Vec::new(),
        participants: BTreeMap::new(),
        log,
        log_state: LogState::Counting,
        position,
        last_token: 0,
        pending: VecDeque::new(),
        stale: None,
        alarms: Alarms::default(),
        timers: Timers::default(),
        settlement: Settlement::new(seams.clock.now()),
        in_doubt: BTreeMap::new(),
        resolving: BTreeMap::new(),
        mending: BTreeMap::new(),
        next_listing: 1,
        drain: None,
        out: Output::default(),
        frozen: false,
        settings,
        seams: seams.clone(),
    };
    driver.meet(agents);
    driver.recover(&owed);
    seams.spawn(driver.run(inbox, link_events, events));
    DriverHandle::new(requests)
}

fn seen(known: &KnownLife) -> LifeSeen {
    LifeSeen { life: known.begun.life, leased_until: known.leased_until, last_position: known.last_position }
}

/// A transaction's name within this log: cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LocalId {
    life: Life,
    seq: u64,
}

impl From<&Gtid> for LocalId {
    fn from(gtid: &Gtid) -> Self {
        Self { life: gtid.life, seq: gtid.seq }
    }
}

/// A transaction in memory, and who waits for it.
struct Live {
    transaction: Transaction,
    waiters: Vec<Waiter>,
    deadline: Option<Monotonic>,
    begun: Monotonic,
    /// Trouble that agents report of its branches, for people.
    trouble: BTreeMap<ParticipantName, String>,
    /// How long to wait before asking again how a branch ended.
    ask_again: Backoff,
    /// How many SendPrepare or SendCommit orders went out: for crash points.
    orders_sent: usize,
}

/// A client that waits for the outcome.
struct Waiter {
    wait: Wait,
    answer: Answer<Outcome>,
}

/// What is known of one agent's link.
struct Link {
    handle: LinkHandle,
    address: String,
    participants: Vec<ParticipantName>,
    /// The stream that stands.
    generation: Option<Generation>,
    /// The agent's life, while a stream stands.
    instance: u64,
    /// Why no stream stands.
    down: String,
}

/// What is known of one participant.
struct Participant {
    agent: AgentIndex,
    /// A complete listing has come in this epoch.
    heard: bool,
    /// Why the last listing was not complete; empty when it was.
    failure: String,
    in_doubt: u64,
    oldest_in_doubt_ms: u64,
    /// Branches that wait for a person, by gid, with the transaction id that was listed.
    quarantined: BTreeMap<String, u32>,
}

/// What absence of a record is worth.
enum LogState {
    Counting,
    Ready(Arc<dyn History>),
    Unreadable(String),
    Doubtful(String),
}

/// What an entry given to the log stands for, until it is durable.
enum Pending {
    Transaction(LocalId, Record),
    Lease(u64),
    Resolution(Box<resolve::Resolution>),
    /// For people only.
    Note,
}

/// What a turn has gathered so far.
#[derive(Default)]
struct Output {
    entries: Vec<Entry>,
    /// By agent.
    messages: BTreeMap<AgentIndex, Vec<v1::CoordinatorMessage>>,
}

/// The outcomes of the transactions that left memory last.
#[derive(Default)]
struct Recent {
    order: VecDeque<LocalId>,
    outcomes: BTreeMap<LocalId, Outcome>,
}

impl Recent {
    fn note(&mut self, id: LocalId, outcome: Outcome) {
        if self.outcomes.insert(id, outcome).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
    }
}

/// A stop that was asked for.
struct Drain {
    deadline: Monotonic,
    closing: bool,
    answers: Vec<oneshot::Sender<()>>,
}

/// See the module.
struct Driver {
    settings: Settings,
    seams: Seams,
    coordinator_id: CoordinatorId,
    identity_key: IdentityKey,
    epoch_key: EpochKey,
    life: Life,
    started: Monotonic,
    next_seq: u64,
    /// The highest seq whose lease is on disk.
    leased_until: u64,
    /// The highest seq whose lease was asked for.
    lease_asked: u64,
    lives: Lives,
    live: BTreeMap<LocalId, Live>,
    undecided: usize,
    /// The keys of live transactions.
    keys: BTreeMap<(String, String), (LocalId, KeyRecord)>,
    recent: Recent,
    links: Vec<Link>,
    participants: BTreeMap<ParticipantName, Participant>,
    log: Arc<dyn DecisionLog>,
    log_state: LogState,
    position: u64,
    last_token: Token,
    pending: VecDeque<(Token, Pending)>,
    /// What proves that this log is stale, once something does.
    stale: Option<String>,
    alarms: Alarms,
    timers: Timers,
    settlement: Settlement,
    in_doubt: BTreeMap<u64, in_doubt::Asked>,
    /// Resolutions that were ordered, by gid: who waits for the database's answer.
    resolving: BTreeMap<String, (Answer<v1::ResolveResponse>, v1::ResolveResponse)>,
    /// Branches that are being committed again (R1, R16), by gid: what to record once that succeeded.
    mending: BTreeMap<String, crate::protocol::record::Heuristic>,
    next_listing: u64,
    drain: Option<Drain>,
    out: Output,
    /// A crash point was met after which nothing more may happen.
    frozen: bool,
}

/// One input of the loop.
enum Input {
    Log(LogEvent),
    Link(LinkEvent),
    Timer,
    Request(Request),
    /// Every sender of that kind is gone.
    Stop,
}

impl Driver {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut links: mpsc::UnboundedReceiver<LinkEvent>,
        mut log: mpsc::UnboundedReceiver<LogEvent>,
    ) {
        self.flush();
        loop {
            let input = self.next_input(&mut requests, &mut links, &mut log).await;
            if let Input::Stop = input {
                return;
            }
            let closed = self.take(input);
            let closed = closed | self.take_waiting(&mut requests, &mut links, &mut log);
            self.fire_timers();
            self.flush();
            if self.frozen {
                // A crash point: what was sent may leave, nothing else may happen.
                std::future::pending::<()>().await;
            }
            if closed {
                return;
            }
        }
    }

    async fn next_input(
        &self,
        requests: &mut mpsc::Receiver<Request>,
        links: &mut mpsc::UnboundedReceiver<LinkEvent>,
        log: &mut mpsc::UnboundedReceiver<LogEvent>,
    ) -> Input {
        let timer = self.timers.next().map_or_else(
            || -> votum_proto::runtime::BoxFuture<()> { Box::pin(std::future::pending()) },
            |at| self.seams.clock.sleep_until(at),
        );
        #[allow(clippy::disallowed_macros)] // biased: the order is part of the protocol's determinism
        {
            tokio::select! {
                biased;
                event = log.recv() => event.map_or(Input::Stop, Input::Log),
                Some(event) = links.recv() => Input::Link(event),
                () = timer => Input::Timer,
                request = requests.recv() => request.map_or(Input::Stop, Input::Request),
            }
        }
    }

    /// Takes what else is waiting, so that one flush serves many; true once the log is closed.
    fn take_waiting(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        links: &mut mpsc::UnboundedReceiver<LinkEvent>,
        log: &mut mpsc::UnboundedReceiver<LogEvent>,
    ) -> bool {
        let mut closed = false;
        for _ in 0..PER_TURN {
            let Ok(event) = log.try_recv() else { break };
            closed |= self.take(Input::Log(event));
        }
        for _ in 0..PER_TURN {
            let Ok(event) = links.try_recv() else { break };
            closed |= self.take(Input::Link(event));
        }
        for _ in 0..PER_TURN {
            let Ok(request) = requests.try_recv() else { break };
            closed |= self.take(Input::Request(request));
        }
        closed
    }

    /// One input; true once the log is closed after a drain.
    fn take(&mut self, input: Input) -> bool {
        if self.frozen {
            return false;
        }
        match input {
            Input::Log(event) => return self.on_log(event),
            Input::Link(event) => self.on_link(event),
            Input::Request(request) => self.on_request(request),
            Input::Timer | Input::Stop => {}
        }
        false
    }

    fn fire_timers(&mut self) {
        let now = self.seams.clock.now();
        while let Some(timer) = self.timers.pop_due(now) {
            if self.frozen {
                return;
            }
            self.on_timer(timer);
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Deadline(id) => self.step(id, crate::protocol::event::Event::TimedOut),
            Timer::CompletedWait(id) => self.tell_those_who_wait_too_long(id),
            Timer::AskAgain(id, branch) => {
                self.step(id, crate::protocol::event::Event::AskAgain { branch });
            }
            Timer::InDoubt(request) => self.answer_in_doubt(request),
            Timer::Drain => self.drain_deadline(),
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Begin(begin, answer) => self.begin(begin, answer),
            Request::Commit(commit, answer) => self.commit(commit, answer),
            Request::Rollback { gtid, secret, reason, answer } => {
                self.rollback(&gtid, &secret, &reason, answer);
            }
            Request::Get(gtid, answer) => drop(answer.send(self.lookup(&gtid))),
            Request::GetByKey { client, key, answer } => {
                drop(answer.send(self.lookup_key(&client, &key)));
            }
            Request::Status(answer) => drop(answer.send(Ok(self.status()))),
            Request::List(list, answer) => drop(answer.send(self.list(&list))),
            Request::Show(gtid, answer) => drop(answer.send(self.show(&gtid))),
            Request::InDoubt { participant, wait, answer } => {
                self.ask_in_doubt(participant.as_ref(), wait, answer);
            }
            Request::Resolve(resolve, answer) => self.resolve(resolve, answer),
            Request::Drain { grace, answer } => self.begin_drain(grace, answer),
        }
    }
}
