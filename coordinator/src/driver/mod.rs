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
//! | `inbox` | what the loop takes, and in which order |
//! | `turn` | effects are carried out, the turn's output is flushed |
//! | `admission` | what would wait too long is refused |
//! | `room` | whole transactions wait, unbegun, until their participants have room |
//! | `clients` | Begin, Commit, Rollback |
//! | `lease` | gtids are leased ahead; whoever begins when they are used up waits for more |
//! | `lookup` | what became of a transaction |
//! | `agents` | hellos, votes, acknowledgements |
//! | `listings` | what is prepared and open at a participant, judged and acted on |
//! | `knowledge` | what the log says of a gid, in the recovery table's terms |
//! | `log_events` | what the log says: durable, counted, doubtful |
//! | `operator`, `resolve`, `acknowledge`, `unproven`, `write_off` | what votumctl asks |
//! | `depart` | how a person has a branch ended otherwise than decided |
//! | `inquiry` | what a transaction's commit markers say, before a person's word about it counts |
//! | `in_doubt` | listings on request, joined with the log |
//! | `verification` | what a failover may have lost of commits that were acknowledged |
//! | `pruning` | commit markers that nobody can ask about any more |
//! | `settlement` | how a restart settles what it found |
//! | `reach` | whether the log remembers far enough back |
//! | `state` | what the driver keeps |
//! | `alarms`, `timers`, `wire` | as their names say |

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use votum_proto::names::{CoordinatorId, Epoch, Life, ParticipantName};
use votum_proto::runtime::{Monotonic, Seams};
use votum_proto::secret::{EpochKey, IdentityKey};

use crate::log::{DecisionLog, KnownLife, Opened, Token};
use crate::metrics::Counted;
use crate::protocol::lives::{LifeSeen, Lives, Witness};
use crate::protocol::record::KeyRecord;
use crate::transport::{DurablePosition, LinkEvent, LinkHandle};

mod acknowledge;
mod admission;
mod agents;
mod alarms;
mod attached;
mod backlog;
mod clients;
mod depart;
mod in_doubt;
mod inbox;
mod inquiry;
mod knowledge;
mod last_agent;
mod lease;
mod listings;
mod log_events;
pub mod lookup;
pub mod operator;
mod pruning;
mod reach;
pub mod request;
mod resolve;
mod room;
mod settlement;
mod state;
#[cfg(test)]
mod tests;
#[cfg(all(fuzzing, not(test)))]
mod tests;
mod timers;
mod transact;
mod turn;
mod unproven;
mod verification;
mod wire;
mod write_off;

use alarms::Alarms;
pub use alarms::{ALARMS, HEURISTIC};
use inbox::{Inbox, Input};
use request::{DriverHandle, Request};
use settlement::Settlement;
use state::{
    DatabaseIdentity, Drain, Link, Live, LocalId, LogState, Output, Participant, Pending, Recent, Teller,
    Unnoted, Waiter,
};
#[cfg(fuzzing)]
pub use tests::frames as fuzzing;
use timers::{Timer, Timers};

/// How many requests may wait for the driver before callers have to.
const REQUEST_QUEUE: usize = 4096;

/// What the driver is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Undecided transactions beyond this many are refused.
    pub max_transactions: usize,
    /// How long a Commit that waits for completion is kept waiting.
    pub completed_wait: Duration,
    /// A Commit that waits for the decision alone waits for its acknowledgements, too, while a participant of it
    /// has more commits than this to acknowledge.
    pub max_undelivered: usize,
    /// A whole transaction that would wait longer than this for the vote of a participant is refused.
    pub max_wait: Duration,
    /// So many branches of whole transactions are worked on at one participant at once.
    pub work_in_flight: usize,
    /// How many seqs a lease holds.
    pub lease: u64,
    /// How far back the log has to remember, in running time.
    pub least_reach: Duration,
    /// The newest durable position, shared with the links for their witness.
    pub durable: DurablePosition,
    /// Where transactions are counted, and what the log counts.
    pub counted: Counted,
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
    let Opened { identity, life, leased_until, lives, written_off, restored, owed, position, log, events } =
        opened;
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
        parked: VecDeque::new(),
        lives: Lives::new(lives.iter().map(seen).collect(), false).with_written_off(written_off),
        live: BTreeMap::new(),
        undecided: 0,
        keys: BTreeMap::new(),
        recent: Recent::default(),
        attempts: transact::Attempts::default(),
        backlog: backlog::Backlog::default(),
        admission: admission::Admission::default(),
        rooms: room::Rooms::default(),
        links: Vec::new(),
        participants: BTreeMap::new(),
        log,
        log_state: LogState::Counting,
        position,
        last_token: 0,
        pending: VecDeque::new(),
        stale: None,
        evidence: BTreeMap::new(),
        writing_off: None,
        unjudged: Vec::new(),
        alarms: Alarms::default(),
        timers: Timers::default(),
        settlement: Settlement::new(seams.clock.now()),
        in_doubt: BTreeMap::new(),
        resolving: BTreeMap::new(),
        departures: BTreeMap::new(),
        inquiries: BTreeMap::new(),
        mending: BTreeMap::new(),
        verifying: BTreeMap::new(),
        verify_at: None,
        pruned: BTreeMap::new(),
        next_listing: 1,
        drain: None,
        out: Output::default(),
        frozen: false,
        settings,
        seams: seams.clone(),
    };
    driver.meet(agents);
    driver.recover(&owed);
    if let Some(restored) = restored {
        driver.note_restored(restored);
    }
    seams.spawn(driver.run(Inbox { requests: inbox, links: link_events, log: events }));
    DriverHandle::new(requests)
}

fn seen(known: &KnownLife) -> LifeSeen {
    LifeSeen { life: known.begun.life, leased_until: known.leased_until, last_position: known.last_position }
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
    /// Requests to begin that wait for the next lease.
    parked: VecDeque<Request>,
    lives: Lives,
    live: BTreeMap<LocalId, Live>,
    undecided: usize,
    /// The keys of live transactions.
    keys: BTreeMap<(String, String), (LocalId, KeyRecord)>,
    recent: Recent,
    /// The requests that whole transactions came in.
    attempts: transact::Attempts,
    backlog: backlog::Backlog,
    admission: admission::Admission,
    /// Whole transactions that wait until their participants have room.
    rooms: room::Rooms,
    links: Vec<Link>,
    participants: BTreeMap<ParticipantName, Participant>,
    log: Arc<dyn DecisionLog>,
    log_state: LogState,
    position: u64,
    last_token: Token,
    pending: VecDeque<(Token, Pending)>,
    /// What proves that this log is stale, once something does.
    stale: Option<String>,
    /// Everything that proves it, by who showed it and the epoch of which something is lacking.
    evidence: BTreeMap<(String, Epoch), write_off::Evidence>,
    /// What was written off in this life, on disk or on its way: it counts from the next one on.
    writing_off: Option<Epoch>,
    /// Witnesses of lives older than the journal, with the address of the agent that showed each, and how many
    /// milliseconds ago it was written: to be judged when the log is counted.
    unjudged: Vec<(String, Witness, Option<u64>)>,
    alarms: Alarms,
    timers: Timers,
    settlement: Settlement,
    in_doubt: BTreeMap<u64, in_doubt::Asked>,
    /// Resolutions whose operators wait for the database's answer, by participant and gid.
    resolving: BTreeMap<(ParticipantName, String), resolve::Awaited>,
    /// Departures whose agents are asked to let go of the branch, by that request.
    departures: BTreeMap<u64, depart::Departure>,
    /// Resolutions that wait for what commit markers say, by that request.
    inquiries: BTreeMap<u64, inquiry::Inquiry>,
    /// Branches that are being ended again, or as recorded (R1, R16), by gid: what to record once that succeeded.
    mending: BTreeMap<String, crate::protocol::record::Heuristic>,
    /// Participants whose commits of earlier timelines are looked for.
    verifying: BTreeMap<ParticipantName, verification::Verification>,
    /// When the look goes on by itself.
    verify_at: Option<Monotonic>,
    /// When each participant was last told which markers may go.
    pruned: BTreeMap<ParticipantName, Monotonic>,
    next_listing: u64,
    drain: Option<Drain>,
    out: Output,
    /// A crash point was met after which nothing more may happen.
    frozen: bool,
}

impl Driver {
    async fn run(mut self, mut inbox: Inbox) {
        self.flush();
        loop {
            let timer = self.timers.next().map(|at| self.seams.clock.sleep_until(at));
            let Some(input) = inbox.next(timer).await else { return };
            let mut closed = self.take(input);
            for input in inbox.waiting() {
                closed |= self.take(input);
            }
            self.fire_timers();
            if !self.frozen {
                self.begin_where_room();
            }
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

    /// One input; true once the log is closed after a drain.
    fn take(&mut self, input: Input) -> bool {
        if self.frozen {
            return false;
        }
        match input {
            Input::Log(event) => return self.on_log(event),
            Input::Link(event) => self.on_link(event),
            Input::Request(request) => self.on_request(request),
            Input::Timer => {}
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
            Timer::NoteBegun(id) => self.note_begun(id),
            Timer::CompletedWait(id) => self.tell_those_who_wait_too_long(id),
            Timer::AskAgain(id, branch) => self.ask_again(id, branch),
            Timer::InDoubt(request) => self.answer_in_doubt(request),
            Timer::Verify => self.verify_again(),
            Timer::Held(request) => self.not_held_in_time(request),
            Timer::Inquired(request) => self.not_inquired_in_time(request),
            Timer::NoRoom(ticket) => self.no_room_in_time(ticket),
            Timer::Drain => self.drain_deadline(),
        }
    }

    fn on_request(&mut self, request: Request) {
        let Some(request) = self.park_until_leased(request) else { return };
        match request {
            Request::Begin(begin, answer) => self.begin(begin, answer),
            Request::Commit(commit, answer) => self.commit(commit, answer),
            Request::Transact(transact, answer) => self.transact(transact, answer),
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
            Request::Acknowledge(acknowledge, answer) => self.acknowledge(&acknowledge, answer),
            Request::AcknowledgeUnproven(order, answer) => self.acknowledge_unproven(&order, answer),
            Request::WriteOff(write_off, answer) => self.write_off(&write_off, answer),
            Request::Drain { grace, answer } => self.begin_drain(grace, answer),
        }
    }
}
