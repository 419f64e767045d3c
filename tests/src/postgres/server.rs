//! One PostgreSQL server of the test's own, which a test may stop, crash and start again.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};
use tokio_postgres::{Client, NoTls};
use votum_proto::runtime::Seams;

use super::install;
use crate::eventually::{DEADLINE, Found, eventually};
use crate::guard::{self, Watched};

/// The role as which agents connect: an ordinary role, owner of its databases and of nothing else.
pub const ROLE: &str = "votum";

/// How often a start is tried: the free port that was picked may be taken by someone else meanwhile.
const STARTS: usize = 5;

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Slots for prepared transactions; 0 is PostgreSQL's own default and switches them off, until somebody
    /// changes it by `ALTER SYSTEM`.
    pub max_prepared_transactions: u32,
    /// More settings, as in postgresql.conf.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_prepared_transactions: 256, settings: Vec::new() }
    }
}

/// A server on a free port of 127.0.0.1 and on a Unix socket in its own directory. Dropping it stops it and
/// removes everything.
#[derive(Debug)]
pub struct Server {
    running: Mutex<Option<Running>>,
    port: Mutex<u16>,
    options: Options,
    slots: AtomicU32,
    // Removed last.
    dir: guard::Directory,
}

#[derive(Debug)]
struct Running {
    child: Child,
    watch: Watched,
}

impl Server {
    /// Initializes a server and starts it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start: with the end of its log.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        Self::start_at(0, options).await
    }

    /// The same, on this port where that is still free; on any for 0.
    pub(super) async fn start_at(port: u16, options: Options) -> anyhow::Result<Self> {
        let server = Self::blank(port, options)?;
        server.initialize().await?;
        server.restart().await?;
        server.client("postgres").await?.batch_execute(&format!("CREATE ROLE {ROLE} LOGIN")).await?;
        Ok(server)
    }

    /// One that has a directory, and nothing in it yet.
    pub(super) fn blank(port: u16, options: Options) -> anyhow::Result<Self> {
        let dir = guard::Directory::create("pg")?;
        let slots = AtomicU32::new(options.max_prepared_transactions);
        if let Some(user) = install::server_user()? {
            std::os::unix::fs::chown(dir.path(), Some(user.uid), Some(user.gid))?;
        }
        Ok(Self { running: Mutex::new(None), port: Mutex::new(port), options, slots, dir })
    }

    async fn initialize(&self) -> anyhow::Result<()> {
        let mut initdb = self.command("initdb")?;
        // Whatever initdb wrote is wanted only as long as this machine runs: it need not wait for the disk.
        // The server itself forces its writes as in production.
        initdb.args(["--no-sync", "--auth=trust", "--no-locale", "--encoding=UTF8", "--username=postgres"]);
        initdb.arg("--wal-segsize=4").arg("--pgdata").arg(self.data());
        let mut initdb = tokio::process::Command::from(initdb);
        initdb.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let initdb = initdb.spawn().context("running initdb")?;
        // Left alone, it would put back what the guard removes.
        let watch = initdb.id().map(guard::group).transpose()?;
        let output = initdb.wait_with_output().await.context("running initdb")?;
        drop(watch);
        ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// How many transactions may be prepared there, from its next start on.
    pub fn set_slots(&self, max_prepared_transactions: u32) {
        self.slots.store(max_prepared_transactions, Ordering::Relaxed);
    }

    /// Starts it again after a stop, on the port that it had where that is still free. Does nothing while it
    /// runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&self) -> anyhow::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        for _ in 1..STARTS {
            if self.launch().await? {
                return Ok(());
            }
            // Somebody else took the port between our look and the server's.
            *self.port.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        }
        bail!("PostgreSQL in {} does not start:\n{}", self.dir().display(), self.log_tail());
    }

    /// One attempt; false when its port was taken.
    async fn launch(&self) -> anyhow::Result<bool> {
        let port = match self.port() {
            0 => free_port()?,
            known => known,
        };
        *self.port.lock().unwrap_or_else(PoisonError::into_inner) = port;
        let mut postgres = self.command("postgres")?;
        postgres.arg("-D").arg(self.data());
        for (name, value) in self.settings(port) {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        let log = File::options().create(true).append(true).open(self.log())?;
        postgres.stdout(log.try_clone()?).stderr(log);
        let child = postgres.spawn().context("starting postgres")?;
        let watch = guard::server(child.id())?;
        *self.lock() = Some(Running { child, watch });
        eventually("PostgreSQL accepts connections", async || {
            if self.reap()?.is_some() {
                return Ok(Found::Yes(false));
            }
            match self.client("postgres").await {
                Ok(_) => Ok(Found::Yes(true)),
                Err(error) => Ok(Found::NotYet(format!("{error:#}\n{}", self.log_tail()))),
            }
        })
        .await
        .and_then(|up| match up {
            true => Ok(true),
            false if self.log_tail().contains("could not bind") => Ok(false),
            false => bail!("PostgreSQL in {} ended at once:\n{}", self.dir().display(), self.log_tail()),
        })
    }

    fn settings(&self, port: u16) -> Vec<(String, String)> {
        let own = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("unix_socket_directories", self.dir().display().to_string()),
            ("max_connections", "200".to_owned()),
            ("shared_buffers", "16MB".to_owned()),
            ("min_wal_size", "16MB".to_owned()),
            // Below the data directory, so that even SIGKILL leaves nothing in /dev/shm.
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("log_line_prefix", "%m [%p] %q%u@%d ".to_owned()),
        ];
        let slots = self.slots.load(Ordering::Relaxed);
        let slots = (slots > 0).then(|| ("max_prepared_transactions", slots.to_string()));
        let own = own.into_iter().chain(slots).map(|(name, value)| (name.to_owned(), value));
        own.chain(self.options.settings.iter().cloned()).collect()
    }

    /// Ends it as a crash of the machine would: every backend at once, nothing flushed but the WAL that was
    /// forced.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop_immediate(&self) -> anyhow::Result<()> {
        self.stop_by(Signal::QUIT).await
    }

    /// Ends it in order: sessions are cut, a checkpoint is written.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.stop_by(Signal::INT).await
    }

    async fn stop_by(&self, signal: Signal) -> anyhow::Result<()> {
        if let Some(running) = self.lock().as_ref() {
            send(&running.child, signal)?;
            // One that stands still hears nothing else.
            send(&running.child, Signal::CONT)?;
        }
        eventually("PostgreSQL has ended", async || match self.reap()? {
            Some(status) => Ok(Found::Yes(status)),
            None if !self.is_running() => Ok(Found::Yes(ExitStatus::default())),
            None => Ok(Found::NotYet("it still runs".into())),
        })
        .await
        .map(drop)
    }

    /// The exit status, if it has ended since the last look.
    fn reap(&self) -> anyhow::Result<Option<ExitStatus>> {
        let mut running = self.lock();
        let ended = match running.as_mut() {
            Some(running) => running.child.try_wait()?,
            None => None,
        };
        if ended.is_some()
            && let Some(running) = running.take()
        {
            drop(running.watch);
        }
        Ok(ended)
    }

    /// Whether its process is there.
    pub fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        *self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(|running| running.child.id())
    }

    /// The directory that holds data, socket and log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A connection string by the Unix socket.
    pub fn connection(&self, database: &str, role: &str) -> String {
        format!("host={} port={} user={role} dbname={database}", self.dir().display(), self.port())
    }

    /// A superuser's connection.
    ///
    /// # Errors
    /// When the server does not accept one now.
    pub async fn client(&self, database: &str) -> anyhow::Result<Client> {
        self.client_as(database, "postgres").await
    }

    /// A connection as `role`.
    ///
    /// # Errors
    /// When the server does not accept one now.
    pub async fn client_as(&self, database: &str, role: &str) -> anyhow::Result<Client> {
        // A statement of the test that waits for a lock longer than any deadline would hang the test.
        let options = format!("{} options='-c lock_timeout=30s'", self.connection(database, role));
        let connecting = tokio_postgres::connect(&options, NoTls);
        let clock = Seams::production().clock;
        let connected = clock.timeout(DEADLINE, connecting).await;
        let (client, connection) =
            connected.context("the server accepted nobody in time")?.context("connecting")?;
        Seams::production().spawn(async move {
            // Its end shows at the client; that a crashed server cut it is what many tests are about.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// Creates a database that [`ROLE`] owns.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        let client = self.client("postgres").await?;
        client.batch_execute(&format!("CREATE DATABASE {name} OWNER {ROLE}")).await?;
        Ok(())
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        crate::tail(&self.log(), 30)
    }

    /// Lets the server live on when this value, and this process, end.
    pub fn leave_running(mut self) {
        *self.lock() = None;
        self.dir.leave();
    }

    fn log(&self) -> PathBuf {
        self.dir().join("log")
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir().join("data")
    }

    pub(super) fn command(&self, program: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(install::bin_dir()?.join(program));
        // Ctrl-C at the terminal must reach the test alone, which then stops the server in its own way.
        command.current_dir(self.dir()).stdin(Stdio::null()).process_group(0).env("LC_ALL", "C");
        if let Some(user) = install::server_user()? {
            command.uid(user.uid).gid(user.gid);
        }
        Ok(command)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut running) = self.lock().take() {
            // SIGQUIT takes PostgreSQL at most five seconds, after which it kills its children itself.
            let _ = send(&running.child, Signal::QUIT);
            let _ = send(&running.child, Signal::CONT);
            let _ = running.child.wait();
        }
    }
}

fn send(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the process has no id")?;
    rustix::process::kill_process(pid, signal).with_context(|| format!("sending {signal:?} to PostgreSQL"))
}

/// A port that is free at this moment.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
