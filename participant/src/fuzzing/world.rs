//! An agent over a database that answers at once, in a world where time stands still: what a call or a frame
//! brings about has happened when the call here returns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use tonic::Status;
use votum_proto::exchange::{self, CoordinatorEnd};
use votum_proto::names::{CoordinatorId, Epoch, Gid, Gtid, Incarnation, Life, ParticipantName};
use votum_proto::runtime::{BoxFuture, Clock, Entropy, Monotonic, Seams, Spawn};
use votum_proto::secret::{EpochKey, IdentityKey};
use votum_proto::v1;

use crate::Agent;
use crate::database::{
    BackendId, BeginOptions, Canceller, Condition, Database, DatabaseError, DatabaseListing, Found,
    FoundAttached, Gate, Kept, MayEnd, OnePhase, Preparation, PreparedAttached, RowSink, ServerFacts,
    Session, Statement, Stood, XidOutcome,
};

/// The life of the coordinator that speaks to the agent.
pub(super) fn life() -> Life {
    Life { epoch: Epoch(7), incarnation: Incarnation::from_low_bits(0x3f_9ac2) }
}

/// What its secrets are made from.
pub(super) fn key() -> EpochKey {
    IdentityKey([7; 32]).epoch_key(life())
}

pub(super) struct World {
    agent: Agent,
    tasks: Arc<Tasks>,
    pub(super) database: Arc<Played>,
}

/// The coordinator's end of one stream.
pub(super) struct Line(CoordinatorEnd);

impl World {
    pub(super) fn new() -> Self {
        let tasks = Arc::new(Tasks::default());
        let seams = Seams {
            clock: Arc::new(Standstill),
            entropy: Arc::new(Standstill),
            spawn: Arc::clone(&tasks) as Arc<dyn Spawn>,
        };
        let database = Arc::new(Played { name: "bank".parse().unwrap(), done: Mutex::default() });
        let databases: BTreeMap<ParticipantName, Arc<dyn Database>> =
            [(database.name.clone(), Arc::new(Arc::clone(&database)) as Arc<dyn Database>)].into();
        let config = toml::from_str("listen = '127.0.0.1:7401'").unwrap();
        Self { agent: Agent::new(config, databases, seams), tasks, database }
    }

    /// A stream on which nobody has said hello.
    pub(super) fn connect(&self) -> Line {
        let (coordinator, end) = exchange::channel();
        let agent = self.agent.clone();
        self.tasks.spawn(Box::pin(async move { agent.serve_exchange(end).await }));
        Line(coordinator)
    }

    /// Sends one frame, and returns what came back.
    pub(super) fn send(&self, line: &mut Line, frame: v1::CoordinatorFrame) -> Vec<v1::AgentMessage> {
        // A stream that has ended takes no more.
        let _ = line.0.outgoing.try_send(frame);
        let mut reports = Vec::new();
        loop {
            self.tasks.settle();
            match line.0.incoming.next().now_or_never() {
                Some(Some(Ok(frame))) => reports.extend(frame.messages),
                Some(Some(Err(_)) | None) | None => return reports,
            }
        }
    }

    /// Runs a statement as a client sends it, and returns its whole reply.
    pub(super) fn execute(&self, request: v1::ExecuteRequest) -> Vec<Result<v1::ExecuteResponse, Status>> {
        let mut reply = match self.agent.execute(request) {
            Ok(reply) => reply,
            Err(refused) => return vec![Err(refused)],
        };
        let mut parts = Vec::new();
        loop {
            self.tasks.settle();
            match reply.try_recv() {
                Ok(part) => parts.push(part),
                Err(_) => return parts,
            }
        }
    }
}

impl Drop for World {
    /// Ends its tasks: they hold the agent, and the agent holds them.
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *self.tasks.0.lock().unwrap());
        drop(tasks);
    }
}

/// The tasks of one world.
#[derive(Default)]
struct Tasks(Mutex<Vec<BoxFuture<()>>>);

impl Spawn for Tasks {
    fn spawn(&self, task: BoxFuture<()>) {
        self.0.lock().unwrap().push(task);
    }
}

impl Tasks {
    /// Runs all of them until each waits for something from outside.
    fn settle(&self) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut running = Vec::new();
        loop {
            let started = std::mem::take(&mut *self.0.lock().unwrap());
            if started.is_empty() && !woken.0.swap(false, Ordering::Relaxed) {
                break;
            }
            running.extend(started);
            running.retain_mut(|task: &mut BoxFuture<()>| task.as_mut().poll(&mut context).is_pending());
        }
        *self.0.lock().unwrap() = running;
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Neither time nor chance.
struct Standstill;

impl Clock for Standstill {
    fn now(&self) -> Monotonic {
        Monotonic::default()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<()> {
        if at.0 == Duration::ZERO { Box::pin(async {}) } else { Box::pin(std::future::pending()) }
    }
}

impl Entropy for Standstill {
    fn bits(&self) -> u64 {
        1
    }
}

/// A database that does what it is told, and remembers it.
pub(super) struct Played {
    name: ParticipantName,
    done: Mutex<Done>,
}

/// What a database was told.
#[derive(Default)]
pub(super) struct Done {
    pub(super) ran: Vec<String>,
    pub(super) prepared: BTreeMap<Gid, u64>,
    pub(super) committed: Vec<Gid>,
    pub(super) rolled_back: Vec<Gid>,
    pub(super) markers: BTreeMap<Gid, bool>,
    /// How many attached branches each question was about.
    pub(super) looked_up: Vec<usize>,
}

const FACTS: ServerFacts = ServerFacts { system_identifier: 7, timeline: 1, in_recovery: false };

impl Played {
    pub(super) fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap()
    }
}

#[async_trait]
impl Database for Arc<Played> {
    fn name(&self) -> &ParticipantName {
        &self.name
    }
    fn attached_roles(&self) -> &[String] {
        &[]
    }
    async fn open_session(&self, _: Option<Duration>) -> Result<Box<dyn Session>, DatabaseError> {
        Ok(Box::new(Open { database: Arc::clone(self), wrote: false, ready: None }))
    }
    async fn commit_prepared(
        &self,
        gid: &Gid,
        _: Option<&str>,
        gate: &dyn Gate,
    ) -> Result<bool, DatabaseError> {
        let enters = gate.enter();
        if enters {
            let mut done = self.done();
            done.prepared.remove(gid);
            done.committed.push(gid.clone());
        }
        Ok(enters)
    }
    async fn rollback_prepared(
        &self,
        gid: &Gid,
        _: Option<&str>,
        gate: &dyn Gate,
    ) -> Result<bool, DatabaseError> {
        let enters = gate.enter();
        if enters {
            let mut done = self.done();
            done.prepared.remove(gid);
            done.rolled_back.push(gid.clone());
        }
        Ok(enters)
    }
    async fn find(&self, gid: &Gid) -> Result<Found, DatabaseError> {
        let xid = self.done().prepared.get(gid).map(|xid8| *xid8 as u32);
        Ok(Found { xid, ours: true, owner: None, facts: FACTS })
    }
    async fn find_attached(&self, gids: &[Gid]) -> Result<FoundAttached, DatabaseError> {
        let mut done = self.done();
        done.looked_up.push(gids.len());
        let prepared = done.prepared.iter().filter(|(gid, _)| gids.contains(gid));
        let row = |(gid, xid8): (&Gid, &u64)| PreparedAttached {
            gid: gid.clone(),
            xid8: *xid8,
            owner: "votum".into(),
            database: "bank".into(),
            may_end: MayEnd::Yes,
        };
        let prepared = prepared.map(row).collect();
        Ok(FoundAttached { facts: FACTS, database: "bank".into(), may_be_ahead_of_standbys: false, prepared })
    }
    async fn is_being_ended(&self, _gid: &Gid) -> Result<bool, DatabaseError> {
        Ok(false)
    }
    async fn outcome(&self, _gid: &Gid, _xid8: u64) -> Result<XidOutcome, DatabaseError> {
        Ok(XidOutcome {
            status: v1::gone::XidStatus::Aborted,
            marker: v1::gone::Marker::Unspecified,
            facts: FACTS,
        })
    }
    async fn settle(&self, gid: &Gid) -> Result<XidOutcome, DatabaseError> {
        let committed = *self.done().markers.entry(gid.clone()).or_insert(false);
        let marker = if committed { v1::gone::Marker::Committed } else { v1::gone::Marker::Aborted };
        Ok(XidOutcome { status: v1::gone::XidStatus::NotAsked, marker, facts: FACTS })
    }
    async fn confirm(&self) -> Result<(), DatabaseError> {
        Ok(())
    }
    async fn list(&self, _details: bool) -> Result<DatabaseListing, DatabaseError> {
        let row = |(gid, xid8): (&Gid, &u64)| v1::PreparedTransaction {
            gid: gid.to_string(),
            xid: *xid8 as u32,
            owner: "votum".into(),
            database: "bank".into(),
            ..Default::default()
        };
        let prepared = self.done().prepared.iter().map(row).collect();
        let (role, database) = ("votum".into(), "bank".into());
        Ok(DatabaseListing { facts: FACTS, role, database, can_decide: true, prepared })
    }
    async fn keep(&self, _coordinator: &CoordinatorId, _kept: &Kept) -> Result<Stood, DatabaseError> {
        Ok(Stood::Nowhere)
    }
    async fn end_backend(&self, _backend: &BackendId) -> Result<bool, DatabaseError> {
        Ok(true)
    }
    fn next_break(&self) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }
    async fn condition(&self) -> Result<Condition, DatabaseError> {
        Ok(Condition::default())
    }
}

/// One session of it.
struct Open {
    database: Arc<Played>,
    wrote: bool,
    ready: Option<Gid>,
}

#[async_trait]
impl Session for Open {
    async fn begin(&mut self, _options: &BeginOptions) -> Result<(), DatabaseError> {
        Ok(())
    }
    async fn run(&mut self, statement: &Statement, sink: &mut dyn RowSink) -> Result<u64, DatabaseError> {
        self.wrote = true;
        self.database.done().ran.push(statement.text.clone());
        sink.columns(Vec::new()).await;
        sink.row(v1::Row::default()).await;
        Ok(1)
    }
    async fn prepare(&mut self, gid: &Gid, one_phase: bool) -> Preparation {
        if !self.wrote {
            return Preparation::ReadOnly;
        }
        if one_phase {
            self.ready = Some(gid.clone());
            return Preparation::Ready { xid8: 700, facts: FACTS };
        }
        self.database.done().prepared.insert(gid.clone(), 700);
        Preparation::Prepared { xid8: 700, facts: FACTS, marker: false }
    }
    async fn ready(&mut self, gid: &Gid) -> Result<ServerFacts, DatabaseError> {
        self.ready = Some(gid.clone());
        Ok(FACTS)
    }
    async fn commit_one_phase(&mut self) -> OnePhase {
        if let Some(gid) = self.ready.take() {
            let mut done = self.database.done();
            done.markers.insert(gid.clone(), true);
            done.committed.push(gid);
        }
        OnePhase::Committed
    }
    async fn roll_back(&mut self) -> Result<(), DatabaseError> {
        self.ready = None;
        Ok(())
    }
    async fn reset(&mut self) -> Result<(), DatabaseError> {
        self.wrote = false;
        Ok(())
    }
    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::new(Standstill)
    }
    fn backend(&self) -> BackendId {
        BackendId { pid: 1, started: String::new() }
    }
    fn lost(&self) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }
    fn is_lost(&self) -> bool {
        false
    }
}

#[async_trait]
impl Canceller for Standstill {
    async fn cancel(&self) -> Result<(), DatabaseError> {
        Ok(())
    }
}

/// The transaction of the speaking life with this number.
pub(super) fn gtid(seq: u64) -> Gtid {
    Gtid { coordinator_id: "acme".parse().unwrap(), life: life(), seq }
}
