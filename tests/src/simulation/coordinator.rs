//! Machines on which a coordinator runs: a disk, and one process after another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use votum_coordinator::config::{AgentConfig, Config, Limits as Bounds, LogSection};
use votum_coordinator::driver::request::DriverHandle;
use votum_coordinator::log::config::Limits;
use votum_coordinator::log::discipline::{Birth, Core};
use votum_coordinator::log::task::{self, Terms};
use votum_coordinator::log::{LogEvent, Opened, Refusal, RefusalKind};
use votum_coordinator::protocol::record::{Decided, Decision, Identity, Record};
use votum_coordinator::run::start_driver;
use votum_coordinator::transport::Dialer;
use votum_proto::address::Address;
use votum_proto::names::{CoordinatorId, Gid, Gtid, Incarnation, Life};
use votum_proto::runtime::Seams;

use super::at_once::room;
use super::disk::{Down, SimulatedDisk};
use super::executor::Process;
use super::network::SimulatedDialer;
use super::random::{Random, Shared};
use super::store::SimulatedStore;
use super::world::World;

/// How long a server whose log failed is away before it is started again.
const AFTER_FAILURE: Duration = Duration::from_millis(150);

/// A coordinator that runs, or ran.
#[derive(Clone)]
pub struct Running {
    /// Its tasks.
    pub process: Arc<Process>,
    /// How clients reach it.
    pub handle: DriverHandle,
    /// Who it is on the wires.
    pub sender: Sender,
}

/// Who speaks on a wire, and what its log really holds.
#[derive(Clone)]
pub struct Sender {
    /// Its life.
    pub life: Life,
    /// The newest position that its log told the driver of.
    pub told: Arc<AtomicU64>,
    disk: SimulatedDisk,
    id: CoordinatorId,
    limits: Limits,
}

impl Sender {
    /// What the disk would hold if the power went now, at worst: its newest position, and the commits.
    pub fn forced(&self) -> Option<(u64, Vec<Decided>)> {
        read(&self.disk, &self.limits, &self.id)
    }

    /// The commit of a transaction, as it would be found if the power went now.
    pub fn forced_commit(&self, gtid: &Gtid) -> Option<Decided> {
        self.forced()?.1.into_iter().find(|decided| decided.gtid == *gtid)
    }
}

/// Reads a copy of what was forced as a start would.
fn read(disk: &SimulatedDisk, limits: &Limits, id: &CoordinatorId) -> Option<(u64, Vec<Decided>)> {
    let copy = disk.forced_copy();
    let birth = Birth { incarnation: Incarnation::from_low_bits(0), lease: 1, epoch_above: 1 << 40 };
    let started = Core::<SimulatedDisk, SimulatedStore>::start(copy, limits.clone(), id, birth).ok()?;
    let commits = started.kept.into_iter().filter_map(|kept| {
        let record = kept.record;
        let record = if let Record::Carried(carried) = record { carried.record } else { record };
        // What was handed to a branch is committed once the branch has.
        if let Record::Decided(decided) | Record::Delegated(decided) = record { Some(decided) } else { None }
    });
    let commits = commits.filter(|decided| decided.decision == Decision::Commit).collect();
    // The new life's two records are the reader's own.
    Some((started.core.position().saturating_sub(2), commits))
}

/// A disk, and what runs on it.
pub struct Machine {
    /// For people.
    pub name: String,
    /// An older copy of another machine's log, or a new one in its place.
    pub is_copy: bool,
    disk: SimulatedDisk,
    store: SimulatedStore,
    id: CoordinatorId,
    random: Arc<Shared>,
    starts: AtomicU64,
    running: Mutex<Option<Running>>,
    /// Whether it is to be started again when it ends.
    wanted: AtomicBool,
    /// A person has written off what its log lacks.
    written_off: AtomicBool,
}

impl Machine {
    /// A machine with a new log.
    ///
    /// # Errors
    /// When the log cannot be made.
    pub fn new(world: &World) -> anyhow::Result<Arc<Self>> {
        Self::with_a_new_log(world, "coordinator", false)
    }

    /// Another machine with a new log, where the true one was lost.
    ///
    /// # Errors
    /// When the log cannot be made.
    pub fn anew(world: &World) -> anyhow::Result<Arc<Self>> {
        Self::with_a_new_log(world, "new log", true)
    }

    fn with_a_new_log(world: &World, name: &str, is_copy: bool) -> anyhow::Result<Arc<Self>> {
        let id = World::coordinator_id()?;
        let seed = world.plan.seed;
        let stream = |word: &str| if is_copy { format!("{word} of a new log") } else { word.to_owned() };
        let disk = SimulatedDisk::new(Random::new(seed, &stream("disk")));
        let random = Arc::new(Shared::new(seed, &stream("machine")));
        let mut key = [0; 32];
        (&*random as &dyn votum_proto::runtime::Entropy).fill(&mut key);
        let identity = Identity { coordinator_id: id.clone(), key };
        task::format(disk.clone(), world.plan.log.half_bytes, identity)?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            is_copy,
            disk,
            store: SimulatedStore::default(),
            id,
            random,
            starts: AtomicU64::new(if is_copy { 2_000 } else { 0 }),
            running: Mutex::new(None),
            wanted: AtomicBool::new(true),
            written_off: AtomicBool::new(false),
        }))
    }

    /// Another machine with a copy of this one's log; and the last position in that copy.
    pub fn copy(&self, world: &World) -> Option<(Arc<Self>, u64)> {
        let disk = self.disk.forced_copy();
        let end = read(&disk, &limits(world), &self.id)?.0;
        let copy = Self {
            name: "old copy".into(),
            is_copy: true,
            disk,
            store: self.store.copy(),
            id: self.id.clone(),
            random: Arc::new(Shared::new(world.plan.seed, "copy")),
            starts: AtomicU64::new(1_000),
            running: Mutex::new(None),
            wanted: AtomicBool::new(true),
            written_off: AtomicBool::new(false),
        };
        Some((Arc::new(copy), end))
    }

    fn place(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether others have seen more of its log than it holds, and nobody has written that off.
    pub fn lacks_something(&self) -> bool {
        self.is_copy && !self.written_off.load(Ordering::Relaxed)
    }

    /// What runs here.
    pub fn running(&self) -> Option<Running> {
        self.place().clone()
    }

    /// Its disk, for faults.
    pub fn disk(&self) -> &SimulatedDisk {
        &self.disk
    }

    /// Its store, for faults.
    pub fn store(&self) -> &SimulatedStore {
        &self.store
    }

    /// Starts a coordinator here; what ran before is detached from the disk.
    ///
    /// # Errors
    /// As the log has it.
    pub fn start(self: &Arc<Self>, world: &Arc<World>) -> Result<(), Refusal> {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let process = world.executor.process(self.name.clone());
        let seams = world.seams(&process, &format!("{} start {start}", self.name));
        let disk = self.disk.attach();
        let opened = self.open(world, &process, &disk, &seams)?;
        let told = Arc::new(AtomicU64::new(opened.position));
        let sender = Sender {
            life: opened.life,
            told: Arc::clone(&told),
            disk,
            id: self.id.clone(),
            limits: limits(world),
        };
        world.note(&self.name, || {
            format!(
                "starts as life {} at position {}, owes {}",
                opened.life,
                opened.position,
                opened.owed.len()
            )
        });
        self.note_written_off(world, &opened);
        let opened = overheard(opened, told, &seams);
        if !self.is_copy {
            owes_what_is_prepared(world, &self.name, &opened);
        }
        let dialers = world.agents.iter().map(|place| {
            let dialer: Arc<dyn Dialer> = Arc::new(SimulatedDialer {
                world: Arc::clone(world),
                agent: place.index,
                sender: sender.clone(),
            });
            let here = place.participants.iter().filter_map(|index| world.hosts.get(*index));
            let participants = here.map(|host| host.name.clone()).collect();
            let address = Address::Tcp(format!("agent{}:1", place.index));
            (AgentConfig { address, participants }, dialer)
        });
        let handle =
            start_driver(&config(world, &self.id), opened, dialers.collect(), Default::default(), &seams);
        *self.place() = Some(Running { process, handle, sender });
        Ok(())
    }

    /// The life that begins after a write-off is above everything that was written off.
    fn note_written_off(&self, world: &World, opened: &Opened) {
        let Some(through) = opened.written_off else { return };
        self.written_off.store(true, Ordering::Relaxed);
        if opened.life.epoch <= through {
            world.broken(format!("I12: life {} begins after epoch {through} was written off", opened.life));
        }
        let mut pages = world.book.open();
        pages.written_off = pages.written_off.max(Some(through.0));
    }

    fn open(
        self: &Arc<Self>,
        world: &Arc<World>,
        process: &Arc<Process>,
        disk: &SimulatedDisk,
        seams: &Seams,
    ) -> Result<Opened, Refusal> {
        let (pace_world, pace_random) = (Arc::downgrade(world), Arc::clone(&self.random));
        let (machine, failed) = (Arc::downgrade(self), Arc::downgrade(world));
        let failing = Arc::downgrade(process);
        let latches = world.plan.log.latches;
        let terms = Terms {
            limits: limits(world),
            lease: world.plan.log.lease,
            epoch_above: 0,
            counting: Duration::from_millis(world.plan.log.counting_ms),
            pace: Arc::new(move || {
                pace_world.upgrade().map_or(Duration::ZERO, |world| world.pace(&pace_random))
            }),
            on_failure: Arc::new(move || {
                let (Some(machine), Some(world), Some(process)) =
                    (machine.upgrade(), failed.upgrade(), failing.upgrade())
                else {
                    return;
                };
                machine.log_failed(&world, &process, latches);
            }),
        };
        task::open(disk.clone(), self.store.attach(), &self.id, terms, seams)
    }

    /// A server ends; a log within another process stays shut, until somebody has noticed.
    fn log_failed(self: &Arc<Self>, world: &Arc<World>, process: &Arc<Process>, latches: bool) {
        world.note(&self.name, || format!("its log failed; {}", if latches { "latched" } else { "it ends" }));
        let current = self.running().is_some_and(|running| Arc::ptr_eq(&running.process, process));
        if !latches {
            process.kill();
            if current {
                *self.place() = None;
            }
        }
        if current {
            let (machine, later) = (Arc::clone(self), Arc::clone(world));
            let process = Arc::clone(process);
            world.spawn(async move {
                later.sleep(if latches { AFTER_FAILURE * 10 } else { AFTER_FAILURE }).await;
                let still = machine.running().is_none_or(|running| Arc::ptr_eq(&running.process, &process));
                if still {
                    machine.die(&later, Down::Killed);
                    machine.start_again(&later).await;
                }
            });
        }
    }

    /// The machine goes down.
    pub fn die(&self, world: &World, how: Down) {
        let running = self.place().take();
        if let Some(running) = running {
            world.note(&self.name, || format!("dies ({how:?})"));
            running.process.kill();
        }
        self.disk.go_down(how);
        self.random.draw(|random| self.store.go_down(how, random));
    }

    /// What runs here is not this machine's any more: it was stopped, and may wake.
    pub fn let_go(&self) -> Option<Running> {
        let running = self.place().take();
        self.disk.go_down(Down::PowerLost);
        self.random.draw(|random| self.store.go_down(Down::PowerLost, random));
        running
    }

    /// Nobody starts it again.
    pub fn retire(&self, world: &World) {
        self.wanted.store(false, Ordering::Relaxed);
        self.die(world, Down::Killed);
    }

    /// Starts it until it runs.
    pub async fn start_again(self: &Arc<Self>, world: &Arc<World>) {
        while self.wanted.load(Ordering::Relaxed) && self.running().is_none() {
            match self.start(world) {
                Ok(()) => return,
                Err(refusal) if refusal.kind == RefusalKind::Io => {
                    world.note(&self.name, || format!("does not start: {refusal}"));
                    self.die(world, Down::Killed);
                    world.sleep(AFTER_FAILURE).await;
                }
                Err(refusal) => {
                    world.broken(format!("I13: a crash led to a refusal: {refusal}"));
                    return;
                }
            }
        }
    }
}

/// The journal alone holds every decision that is still owed, whatever has become of the store.
fn owes_what_is_prepared(world: &World, name: &str, opened: &Opened) {
    let owed = |gtid: &Gtid| {
        // What a last agent decided is owed from the record on that hands the decision to it.
        let known = opened.owed.iter().flat_map(|history| history.decided.iter().chain(&history.delegated));
        known.into_iter().any(|decided| decided.gtid == *gtid)
    };
    for (index, host) in world.hosts.iter().enumerate() {
        for gid in host.server().state.prepared.keys() {
            let Ok(known) = gid.parse::<Gid>() else { continue };
            let key = (index, gid.clone());
            let pages = world.book.open();
            let untouched = !pages.interfered.contains_key(&key) && !pages.strangers.contains(&key);
            drop(pages);
            if untouched && world.monitor.is_forced(&known.gtid) && !owed(&known.gtid) {
                world
                    .broken(format!("I7: {gid} is prepared, its commit was forced, and {name} owes nothing"));
            }
        }
    }
}

/// Notes what the log tells on its way to the driver.
fn overheard(opened: Opened, told: Arc<AtomicU64>, seams: &Seams) -> Opened {
    let (sender, events) = mpsc::unbounded_channel();
    let mut from = opened.events;
    seams.spawn(async move {
        while let Some(event) = from.recv().await {
            if let LogEvent::Durable { position, .. } = &event {
                told.fetch_max(*position, Ordering::Relaxed);
            }
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    Opened { events, ..opened }
}

/// The numbers of this run's log.
fn limits(world: &World) -> Limits {
    let plan = &world.plan.log;
    Limits { half_bytes: plan.half_bytes, retention_ms: plan.retention_ms, ..Limits::default() }
}

fn config(world: &World, id: &CoordinatorId) -> Config {
    Config {
        coordinator_id: id.clone(),
        listen: Address::Tcp("coordinator:1".into()),
        insecure: false,
        log: LogSection {
            directory: "log".into(),
            half_bytes: world.plan.log.half_bytes,
            retention_hours: 24,
            retention_bytes: 1 << 30,
            lease: world.plan.log.lease,
            watchdog_ms: 20_000,
            cache_bytes: 0,
        },
        limits: Bounds { completed_wait_ms: 3_000, work_in_flight: room(&world.plan), ..Bounds::default() },
        participants: Vec::new(),
        logging: Default::default(),
        metrics: Default::default(),
    }
}
