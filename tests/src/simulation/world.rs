//! Everything that one run holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use votum_participant::database::Stood;
use votum_proto::names::{CoordinatorId, ParticipantName};
use votum_proto::runtime::Seams;

use super::agents::AgentPlace;
use super::book::Book;
use super::coordinator::Machine;
use super::database::{Behind, Host, Server};
use super::executor::{Executor, Process, SimulatedClock, Tasks};
use super::monitor::Monitor;
use super::network::Wire;
use super::plan::Plan;
use super::random::Shared;
use super::trace::Trace;

/// The coordinator's id in every run.
pub const COORDINATOR: &str = "acme";

/// One run.
pub struct World {
    /// What is to happen.
    pub plan: Plan,
    /// Time and tasks.
    pub executor: Arc<Executor>,
    /// What happened.
    pub trace: Arc<Trace>,
    /// What was said, and to whom.
    pub book: Book,
    /// What is watched on the wires.
    pub monitor: Monitor,
    /// The databases.
    pub hosts: Vec<Arc<Host>>,
    /// Where agents run.
    pub agents: Vec<AgentPlace>,
    /// The wires between coordinators and agents, one to each agent.
    pub wires: Vec<Arc<Wire>>,
    /// Where clients find a coordinator.
    machine: Mutex<Option<Arc<Machine>>>,
    /// Whether nothing goes wrong any more.
    pub calm: watch::Sender<bool>,
    /// How much longer each write of the log takes, in microseconds.
    pub drag: AtomicU64,
    /// Draws of the network.
    pub random: Shared,
    /// Lives as long as the world.
    pub always: Arc<Process>,
}

impl World {
    /// A world in which nothing runs yet.
    pub fn new(plan: Plan, kept: bool) -> Result<Arc<Self>, votum_proto::names::NameError> {
        let executor = Executor::new(plan.seed, plan.shuffled);
        let trace = Arc::new(Trace::new(kept));
        let mut hosts = Vec::new();
        for index in 0..plan.databases() {
            let name: ParticipantName = format!("bank{index}").parse()?;
            let mut server = Server::new(7_300_000_000_000_000_000 + index as u64, plan.slots);
            if plan.rows {
                server.row = Stood::Nothing;
            }
            server.markers = plan.markers;
            hosts.push(Host::new(name, server, plan.manners.clone(), &executor, &trace, plan.seed));
        }
        let agents = plan.agents.iter().enumerate();
        let agents: Vec<_> = agents.map(|(index, here)| AgentPlace::new(index, here.clone())).collect();
        let wires = agents.iter().map(|_| Arc::new(Wire::default())).collect();
        let always = executor.process("world");
        Ok(Arc::new(Self {
            book: Book::default(),
            monitor: Monitor::default(),
            hosts,
            agents,
            wires,
            machine: Mutex::new(None),
            calm: watch::Sender::new(false),
            drag: AtomicU64::new(0),
            random: Shared::new(plan.seed, "network"),
            always,
            executor,
            trace,
            plan,
        }))
    }

    /// The coordinator's id.
    pub fn coordinator_id() -> Result<CoordinatorId, votum_proto::names::NameError> {
        COORDINATOR.parse()
    }

    /// Notes what happened.
    pub fn note(&self, who: &str, what: impl FnOnce() -> String) {
        self.trace.note(self.executor.now(), who, what);
    }

    /// An invariant is broken.
    pub fn broken(&self, what: String) {
        self.note("JUDGE", || what.clone());
        self.book.broken(what);
    }

    /// Time.
    pub fn now(&self) -> Duration {
        self.executor.now()
    }

    /// Waits.
    pub async fn sleep(&self, duration: Duration) {
        self.executor.sleep(duration).await;
    }

    /// What a process takes its time, randomness and tasks from.
    pub fn seams(&self, process: &Arc<Process>, stream: &str) -> Seams {
        Seams {
            clock: Arc::new(SimulatedClock(Arc::clone(&self.executor))),
            entropy: Arc::new(Shared::new(self.plan.seed, stream)),
            spawn: Arc::new(Tasks(Arc::clone(process))),
        }
    }

    /// A task of nobody's.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.always.spawn(Box::pin(task));
    }

    /// The databases behind an agent.
    pub fn database(&self, index: usize) -> Option<Arc<Behind>> {
        self.hosts.get(index).map(|host| Arc::new(Behind(Arc::clone(host))))
    }

    /// Which participant bears this name.
    pub fn index_of(&self, participant: &str) -> Option<usize> {
        self.hosts.iter().position(|host| host.name.as_str() == participant)
    }

    fn place(&self) -> MutexGuard<'_, Option<Arc<Machine>>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine at the coordinator's address.
    pub fn machine(&self) -> Option<Arc<Machine>> {
        self.place().clone()
    }

    /// The life that answers at the coordinator's address, as a client would know it that was just answered.
    pub fn a_known_life(&self) -> Option<String> {
        let running = self.machine()?.running()?;
        Some(running.sender.life.to_string())
    }

    /// Another machine has the coordinator's address from now on.
    pub fn address(&self, machine: &Arc<Machine>) {
        *self.place() = Some(Arc::clone(machine));
    }

    /// Whether nothing goes wrong any more.
    pub fn is_calm(&self) -> bool {
        *self.calm.borrow()
    }

    /// How long a write of the log takes.
    pub fn pace(&self, random: &Shared) -> Duration {
        let (from, to) = self.plan.log.pace;
        let drag = Duration::from_micros(self.drag.load(Ordering::Relaxed));
        random.draw(|random| random.micros(from, to)) + drag
    }
}
