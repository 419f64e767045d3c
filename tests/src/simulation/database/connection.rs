//! The way to a server and back: what travels arrives later, or not at all, and what a server process was
//! told it finishes, whoever waits for it.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use votum_participant::database::{Aftermath, Command, DatabaseError};
use votum_participant::postgres::policy;
use votum_proto::names::ParticipantName;

use super::server::Server;
use crate::simulation::executor::{Executor, Process};
use crate::simulation::random::Shared;
use crate::simulation::trace::Trace;

/// The role that the agents are.
pub const ROLE: &str = "votum";

/// How a database and the way to it behave.
#[derive(Debug, Clone)]
pub struct Manners {
    /// One way, in microseconds: at least, at most.
    pub travel: (u64, u64),
    /// One flush, in microseconds: at least, at most.
    pub flush: (u64, u64),
    /// Of a thousand commands, so many take a hundred times as long.
    pub slow: u64,
    /// Of a thousand connections, so many break during a command.
    pub breaks: u64,
    /// Of a thousand listings, so many fail half-way.
    pub listing_fails: u64,
    /// Of a thousand PREPAREs, so many meet a serialization failure.
    pub serialization: u64,
    /// PREPARE waits for a standby.
    pub synchronous: bool,
}

/// One simulated database, shared by the agents that reach it and the world that troubles it.
pub struct Host {
    /// The participant's name.
    pub name: ParticipantName,
    /// The world's time.
    pub executor: Arc<Executor>,
    /// What happened.
    pub trace: Arc<Trace>,
    /// How it behaves.
    pub manners: Manners,
    /// Draws of its own.
    pub random: Shared,
    server: Mutex<Server>,
    process: Mutex<Arc<Process>>,
    /// Grows whenever a lock is freed, a backend is told something, or the server begins or ceases to run.
    pub stirred: watch::Sender<u64>,
    /// Grows whenever a client loses a connection.
    pub breaks: watch::Sender<u64>,
    /// Whether the weather is fine: nothing breaks, nothing is slow.
    pub calm: watch::Sender<bool>,
}

/// An error in the server's own words.
#[derive(Debug, Clone)]
pub struct SqlError {
    /// Five characters; empty: the connection is gone.
    pub sqlstate: &'static str,
    /// For people.
    pub message: String,
    /// The session is gone with it.
    pub fatal: bool,
}

impl SqlError {
    /// One that leaves the session.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), fatal: false }
    }

    /// The session ends.
    pub fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), fatal: true }
    }

    /// The connection broke.
    pub fn broken() -> Self {
        Self::fatal("", "the connection broke")
    }

    /// As the agent judges it: by the one table of what is done about each SQLSTATE.
    pub fn into_database_error(self, command: Command) -> DatabaseError {
        let Self { sqlstate, message, fatal } = self;
        DatabaseError {
            policy: policy::policy(command, sqlstate),
            aftermath: if fatal { Aftermath::Broken } else { Aftermath::Answered },
            sqlstate: sqlstate.to_owned(),
            message,
            retryable: fatal || policy::retryable(sqlstate),
            sql: None,
        }
    }
}

impl Host {
    /// A database without rows.
    pub fn new(
        name: ParticipantName,
        server: Server,
        manners: Manners,
        executor: &Arc<Executor>,
        trace: &Arc<Trace>,
        seed: u64,
    ) -> Arc<Self> {
        let random = Shared::new(seed, &format!("database {name}"));
        let process = executor.process(format!("database {name}"));
        Arc::new(Self {
            executor: Arc::clone(executor),
            trace: Arc::clone(trace),
            manners,
            random,
            server: Mutex::new(server),
            process: Mutex::new(process),
            stirred: watch::Sender::new(0),
            breaks: watch::Sender::new(0),
            calm: watch::Sender::new(false),
            name,
        })
    }

    /// The server's memory. Never held across a wait.
    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's processes, which die with it.
    pub fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything that runs in the server dies, and what takes its place is new.
    pub fn replace_process(&self) {
        let fresh = self.executor.process(format!("database {}", self.name));
        let old = std::mem::replace(&mut *self.process.lock().unwrap_or_else(PoisonError::into_inner), fresh);
        old.kill();
    }

    /// Notes what happened here.
    pub fn note(&self, what: impl FnOnce() -> String) {
        self.trace.note(self.executor.now(), self.name.as_str(), what);
    }

    /// Wakes whoever waits for something to change.
    pub fn stir(&self) {
        self.stirred.send_modify(|count| *count += 1);
    }

    /// Whether nothing is to go wrong by itself.
    pub fn is_calm(&self) -> bool {
        *self.calm.borrow()
    }

    /// One way.
    pub async fn travel(&self) {
        let (from, to) = self.manners.travel;
        self.executor.sleep(self.random.draw(|random| random.micros(from, to))).await;
    }

    /// A flush, or anything else that takes the server a moment.
    pub async fn work(&self) {
        let (from, to) = self.manners.flush;
        let calm = self.is_calm();
        let time = self.random.draw(|random| {
            let time = random.micros(from, to);
            if !calm && random.chance(self.manners.slow) { time * 100 } else { time }
        });
        self.executor.sleep(time).await;
    }

    /// Whether the connection of this command is to break, and when.
    fn breaking(&self) -> Option<Duration> {
        if self.is_calm() {
            return None;
        }
        let (_, to) = self.manners.flush;
        self.random.draw(|random| random.chance(self.manners.breaks).then(|| random.micros(0, to * 3)))
    }
}

/// One connection, as its client holds it.
pub(super) struct Connection {
    /// Its server.
    pub host: Arc<Host>,
    /// Its server process.
    pub pid: i32,
    /// The server's life in which it was made.
    life: u64,
    /// Whether the client knows that it is gone.
    lost: watch::Sender<bool>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the server is not there, or still starts.
    pub(super) async fn open(host: &Arc<Host>) -> Result<Self, SqlError> {
        host.travel().await;
        let (pid, life) = {
            let mut server = host.server();
            if !server.up {
                return Err(SqlError::fatal("", "connection refused"));
            }
            server.next_pid += 1;
            let pid = server.next_pid;
            server.backends.insert(pid, super::server::Backend::default());
            (pid, server.life)
        };
        host.travel().await;
        Ok(Self { host: Arc::clone(host), pid, life, lost: watch::Sender::new(false) })
    }

    /// When the server process was started: tells it from others of its pid.
    pub(super) fn started(&self) -> String {
        format!("life {}", self.life)
    }

    /// Whether the client knows that the connection is gone.
    pub(super) fn is_lost(&self) -> bool {
        *self.lost.borrow() || self.host.server().life != self.life
    }

    /// Resolves when it is gone.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let (host, life, pid) = (Arc::clone(&self.host), self.life, self.pid);
        let mut lost = self.lost.subscribe();
        async move {
            let mut stirred = host.stirred.subscribe();
            loop {
                let there = {
                    let server = host.server();
                    server.life == life && server.backends.contains_key(&pid)
                };
                if !there || *lost.borrow_and_update() {
                    return;
                }
                let changed = std::pin::pin!(stirred.changed());
                let broke = std::pin::pin!(lost.changed());
                futures::future::select(changed, broke).await;
            }
        }
    }

    /// Has the server process do `work`, which goes on there when the connection breaks.
    ///
    /// # Errors
    /// What the server answers; or that the connection broke, and nobody knows.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SqlError>> + Send + 'static,
    ) -> Result<T, SqlError> {
        if self.is_lost() {
            return Err(SqlError::broken());
        }
        let (host, life, pid) = (Arc::clone(&self.host), self.life, self.pid);
        let (answer, answered) = oneshot::channel();
        let server_process = host.process();
        server_process.spawn(Box::pin(async move {
            host.travel().await;
            if !begin_command(&host, life, pid) {
                return;
            }
            let done = work.await;
            let fatal = done.as_ref().is_err_and(|error| error.fatal);
            end_command(&host, pid, fatal);
            host.travel().await;
            let _ = answer.send(done);
        }));
        let breaking = self.host.breaking();
        let broken = async {
            match breaking {
                Some(after) => {
                    self.host.executor.sleep(after).await;
                    self.host.note(|| format!("the connection of server process {pid} breaks"));
                }
                None => std::future::pending().await,
            }
        };
        let broken = std::pin::pin!(broken);
        match futures::future::select(answered, broken).await {
            futures::future::Either::Left((Ok(done), _)) => {
                if done.as_ref().is_err_and(|error| error.fatal) {
                    self.hang_up();
                }
                done
            }
            futures::future::Either::Left((Err(_), _)) | futures::future::Either::Right(_) => {
                self.hang_up();
                self.host.breaks.send_modify(|count| *count += 1);
                Err(SqlError::broken())
            }
        }
    }

    /// The client lets go: the server process ends once it has finished what it does.
    fn hang_up(&self) {
        self.lost.send_replace(true);
        {
            let mut server = self.host.server();
            if server.life == self.life
                && let Some(backend) = server.backends.get_mut(&self.pid)
            {
                backend.orphaned = true;
                if !backend.busy {
                    end_backend(&mut server, self.pid);
                }
            }
        }
        self.host.stir();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// False where the server process is not there any more.
fn begin_command(host: &Host, life: u64, pid: i32) -> bool {
    let mut server = host.server();
    if server.life != life {
        return false;
    }
    match server.backends.get_mut(&pid) {
        Some(backend) if !backend.orphaned && !backend.terminated => {
            backend.busy = true;
            backend.cancelled = false;
            true
        }
        Some(_) | None => false,
    }
}

fn end_command(host: &Host, pid: i32, fatal: bool) {
    {
        let mut server = host.server();
        if let Some(backend) = server.backends.get_mut(&pid) {
            backend.busy = false;
            backend.critical = false;
            backend.ends = None;
            if backend.orphaned || backend.terminated || fatal {
                end_backend(&mut server, pid);
            }
        }
    }
    host.stir();
}

/// Ends a server process; its transaction rolls back.
pub(super) fn end_backend(server: &mut Server, pid: i32) {
    server.abort(pid);
    server.backends.remove(&pid);
}
