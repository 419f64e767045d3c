//! A whole installation: banks in real databases, an agent beside each, and a coordinator, all of them
//! processes of their own that a test may kill.

mod check;
mod config;
mod forget;
mod standby;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use tokio_postgres::Client;
use votum_proto::address::Address;
use votum_proto::v1;
use votum_proto::v1::operator_client::OperatorClient;

pub use self::standby::Host;
use crate::eventually::{Found, eventually};
use crate::guard;
use crate::postgres::{self, ROLE, Seat, Server};
use crate::process::{Build, Process, program};
use crate::proxy::Network;

/// How a world is made. Every value has a default.
#[derive(Debug, Clone)]
pub struct Builder {
    banks: usize,
    accounts: i64,
    balance: i64,
    /// For how many banks, the first ones, and how.
    own_servers: Option<(usize, postgres::Options)>,
    standby: Option<Vec<Host>>,
    tcp: bool,
    build: Build,
    coordinator_id: Option<String>,
    agent_settings: BTreeMap<String, String>,
    coordinator_tables: String,
    half_bytes: u64,
    log_settings: BTreeMap<String, String>,
    proxied: bool,
    metrics: bool,
}

/// One bank: a database, its server, and the agent beside it.
#[derive(Debug)]
pub struct Bank {
    /// The participant's name: `bank-a`, `bank-b`, …
    pub name: String,
    /// The server, which the bank may share with banks of other tests.
    pub server: Seat,
    /// Its database there.
    pub database: String,
    /// Its agent.
    pub agent: Process,
    /// Prepared transactions that the test planted: gid and transaction id.
    foreign: Mutex<BTreeSet<(String, String)>>,
}

/// A running installation. Dropping it ends its processes and removes its directory; servers of its own
/// too.
#[derive(Debug)]
pub struct World {
    /// The banks, in the order of their names.
    pub banks: Vec<Bank>,
    /// The coordinator.
    pub coordinator: Process,
    log_directory: PathBuf,
    listen: Address,
    agent_addresses: Vec<Address>,
    network: Option<Network>,
    coordinator_id: String,
    money_at_first: i64,
    // Removed last.
    dir: guard::Directory,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            banks: 2,
            accounts: 10,
            balance: 1_000,
            own_servers: None,
            standby: None,
            tcp: false,
            build: Build::CrashPoints,
            coordinator_id: None,
            agent_settings: [("sweep_ms".to_owned(), "200".to_owned())].into(),
            coordinator_tables: String::new(),
            half_bytes: 1 << 20,
            log_settings: BTreeMap::new(),
            proxied: false,
            metrics: false,
        }
    }
}

impl Builder {
    /// How many banks there are, each with a server of its own; from the fourth on they share. Two unless
    /// said otherwise.
    pub fn banks(mut self, banks: usize) -> Self {
        self.banks = banks;
        self
    }

    /// Each bank has accounts 1 to `accounts`, with `balance` each.
    pub fn accounts(mut self, accounts: i64, balance: i64) -> Self {
        self.accounts = accounts;
        self.balance = balance;
        self
    }

    /// Gives each bank a server that no other test uses: for tests that stop, crash or exhaust it.
    pub fn own_servers(mut self, options: postgres::Options) -> Self {
        self.own_servers = Some((usize::MAX, options));
        self
    }

    /// Gives the first bank such a server, and no other.
    pub fn own_first_server(mut self, options: postgres::Options) -> Self {
        self.own_servers = Some((1, options));
        self
    }

    /// Listens on free ports of 127.0.0.1 instead of Unix sockets.
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Which build of coordinator and agents runs. The one with crash points unless said otherwise.
    pub fn build(mut self, build: Build) -> Self {
        self.build = build;
        self
    }

    /// Names the coordinator; otherwise each world's has a name of its own.
    pub fn coordinator_id(mut self, id: &str) -> Self {
        self.coordinator_id = Some(id.to_owned());
        self
    }

    /// Sets a top-level key of every agent's configuration; the value is TOML.
    pub fn agent_setting(mut self, key: &str, value: &str) -> Self {
        self.agent_settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The size of each half of the journal, in bytes. The least that is accepted unless said otherwise.
    pub fn half_bytes(mut self, bytes: u64) -> Self {
        self.half_bytes = bytes;
        self
    }

    /// Sets another key of the coordinator's section `[log]`; the value is TOML.
    pub fn log_setting(mut self, key: &str, value: &str) -> Self {
        self.log_settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Appends tables, such as `[limits]`, to the coordinator's configuration.
    pub fn coordinator_tables(mut self, toml: &str) -> Self {
        self.coordinator_tables = format!("{}\n{toml}", self.coordinator_tables);
        self
    }

    /// Puts a [`Network`] between all parts: the coordinator and clients reach agents through it, agents their
    /// databases. [`World::address`] leads past it, [`Network::coordinator`] through it.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Has coordinator and agents show their metrics: [`World::scrape`].
    pub fn metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// Makes the databases, writes the configurations, initializes the log; starts no process of ours.
    ///
    /// # Errors
    /// When PostgreSQL or the programs are missing, or one of them refuses.
    pub async fn prepare(self) -> anyhow::Result<World> {
        static WORLDS: AtomicU64 = AtomicU64::new(1);
        ensure!((1..=26).contains(&self.banks), "a world has 1 to 26 banks");
        let dir = guard::Directory::create("w")?;
        let id = self.coordinator_id.clone();
        let coordinator_id = id.unwrap_or_else(|| format!("w{}", WORLDS.fetch_add(1, Ordering::Relaxed)));
        let (listen, log_directory) =
            (config::address(dir.path(), "coordinator", self.tcp)?, dir.path().join("decisions"));
        let mut world = World {
            banks: Vec::new(),
            coordinator: process(dir.path(), self.build, "votum-coordinator", "coordinator")?,
            log_directory,
            listen,
            agent_addresses: Vec::new(),
            network: None,
            coordinator_id,
            money_at_first: i64::try_from(self.banks)? * self.accounts * self.balance,
            dir,
        };
        if self.proxied {
            let mut network = Network::new(self.banks);
            network.add_coordinator(&world.listen).await?;
            world.network = Some(network);
        }
        for (slot, letter) in ('a'..='z').take(self.banks).enumerate() {
            let bank = self.open_bank(&mut world, slot, &format!("bank-{letter}")).await?;
            world.banks.push(bank);
        }
        config::write_coordinator(&world, &self)?;
        world.initialize_log(&program(self.build, "votum-coordinator")?).await?;
        Ok(world)
    }

    async fn open_bank(&self, world: &mut World, slot: usize, name: &str) -> anyhow::Result<Bank> {
        let server = match &self.own_servers {
            Some((banks, options)) if slot < *banks => Arc::new(Server::start(options.clone()).await?),
            Some(_) | None => postgres::shared(slot).await?,
        };
        let database = postgres::fresh_database(&server).await?;
        let server = self.seat(slot, server).await?;
        let bank = Bank {
            name: name.to_owned(),
            agent: process(world.dir(), self.build, "votum-participant", name)?,
            foreign: Mutex::default(),
            server,
            database,
        };
        let schema = format!(
            "CREATE TABLE accounts (id int8 PRIMARY KEY, balance int8 NOT NULL CHECK (balance >= 0));
             CREATE TABLE journal (transfer text NOT NULL, amount int8 NOT NULL);
             INSERT INTO accounts SELECT id, {} FROM generate_series(1, {}) AS id;",
            self.balance, self.accounts
        );
        bank.client_as(ROLE).await?.batch_execute(&schema).await?;
        let listen = config::address(world.dir(), name, self.tcp)?;
        let mut connection = self.connection(slot, &bank.server, &bank.database)?;
        let mut dialled = listen.clone();
        if let Some(network) = &world.network {
            let port = network.add_database(slot, bank.server.port()).await?;
            connection = format!("host=127.0.0.1 port={port} user={ROLE} dbname={}", bank.database);
            dialled = network.add_agent(slot, &listen).await?;
        }
        config::write_agent(world, self, &bank.name, &connection, &listen)?;
        world.agent_addresses.push(dialled);
        Ok(bank)
    }

    /// [`Builder::prepare`], then starts agents and coordinator, and waits until all have met.
    ///
    /// # Errors
    /// As `prepare`; or when they do not come up.
    pub async fn start(self) -> anyhow::Result<World> {
        let world = self.prepare().await?;
        for bank in &world.banks {
            bank.agent.start(None)?;
        }
        world.start_coordinator(None).await?;
        Ok(world)
    }
}

/// A program of ours, with its configuration and its output in `dir` under `name`.
fn process(dir: &Path, build: Build, binary: &str, name: &str) -> anyhow::Result<Process> {
    let config = dir.join(format!("{name}.toml")).display().to_string();
    let log = dir.join(format!("{name}.log"));
    Ok(Process::new(name, program(build, binary)?, &["--config", &config], log))
}

impl World {
    /// Begins one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    async fn initialize_log(&self, coordinator: &Path) -> anyhow::Result<()> {
        let mut init = tokio::process::Command::new(coordinator);
        let output = init.arg("init").arg("--config").arg(self.config_file()).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "votum-coordinator init failed ({}):\n{said}", output.status);
        Ok(())
    }

    /// Starts the coordinator, with one crash point chosen or none, and waits until it is ready and has
    /// heard every agent that runs.
    ///
    /// # Errors
    /// When it does not come up: with the end of its log.
    pub async fn start_coordinator(&self, crash_point: Option<&str>) -> anyhow::Result<()> {
        self.coordinator.start(crash_point)?;
        self.ready().await
    }

    /// SIGKILL to the coordinator, and starts it again.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn crash_and_restart_coordinator(&self) -> anyhow::Result<()> {
        self.coordinator.kill9()?;
        self.start_coordinator(None).await
    }

    /// Waits until the coordinator's log is counted and every agent that runs has been heard.
    ///
    /// # Errors
    /// When it ends, or does not become ready: with the end of its log.
    pub async fn ready(&self) -> anyhow::Result<()> {
        // Boxed: it is part of nearly every test, and their futures are large enough.
        let waiting = eventually("the coordinator is ready and has heard every agent", async || {
            ensure!(self.coordinator.is_running()?, "it ended:\n{}", self.coordinator.log_tail());
            let status = match self.status().await {
                Ok(status) => status,
                Err(error) => return Ok(Found::NotYet(format!("{error:#}"))),
            };
            let heard = |bank: &Bank| {
                status.participants.iter().any(|known| known.participant == bank.name && known.heard)
            };
            let mut expected = Vec::new();
            for bank in &self.banks {
                if bank.agent.is_running()? && bank.server.is_running() {
                    expected.push(bank);
                }
            }
            Ok(match status.log_state == "ready" && expected.into_iter().all(heard) {
                true => Found::Yes(()),
                false => Found::NotYet(format!("{status:?}\n{}", self.coordinator.log_tail())),
            })
        });
        Box::pin(waiting).await
    }

    /// What the coordinator says of itself.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn status(&self) -> anyhow::Result<v1::GetStatusResponse> {
        let mut operator = OperatorClient::new(self.listen.channel()?);
        Ok(operator.get_status(v1::GetStatusRequest {}).await.context("asking for the status")?.into_inner())
    }

    /// Starts everything that does not run: servers, agents, coordinator. Waits until all have met.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start_all(&self) -> anyhow::Result<()> {
        for bank in &self.banks {
            Box::pin(bank.server.restart()).await?;
            if !bank.agent.is_running()? {
                bank.agent.start(None)?;
            }
        }
        if !self.coordinator.is_running()? {
            self.coordinator.start(None)?;
        }
        self.ready().await
    }

    /// Where the coordinator listens.
    pub fn address(&self) -> &Address {
        &self.listen
    }

    /// The network between its parts.
    ///
    /// # Errors
    /// When it was built without: [`Builder::proxied`].
    pub fn network(&self) -> anyhow::Result<&Network> {
        self.network.as_ref().context("this world has no network of its own")
    }

    /// The coordinator's name.
    pub fn coordinator_id(&self) -> &str {
        &self.coordinator_id
    }

    /// The directory of configurations, sockets and output.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory of the decision log.
    pub fn log_directory(&self) -> &Path {
        &self.log_directory
    }

    /// The coordinator's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.dir().join("coordinator.toml")
    }

    /// Lets everything live on when this value, and this process, end.
    pub fn leave_running(mut self) {
        self.coordinator.leave_running();
        for bank in std::mem::take(&mut self.banks) {
            bank.agent.leave_running();
            bank.server.leave_running();
        }
        self.dir.leave();
    }
}

impl Bank {
    /// A superuser's connection to the bank's database.
    ///
    /// # Errors
    /// When the server does not accept one now.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Box::pin(self.server.client(&self.database)).await
    }

    /// A connection as `role`.
    ///
    /// # Errors
    /// When the server does not accept one now.
    pub async fn client_as(&self, role: &str) -> anyhow::Result<Client> {
        Box::pin(self.server.client_as(&self.database, role)).await
    }

    /// Prepares a transaction that is not ours, under any name; it must still be there at the end.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn plant_foreign(&self, gid: &str) -> anyhow::Result<()> {
        self.plant_foreign_as("postgres", gid).await
    }

    /// The same, belonging to `role`.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn plant_foreign_as(&self, role: &str, gid: &str) -> anyhow::Result<()> {
        let client = self.client().await?;
        // By itself: in one request with what follows it would be part of the prepared transaction.
        let table = format!(
            "CREATE TABLE IF NOT EXISTS foreign_work (gid text); GRANT ALL ON foreign_work TO {ROLE}"
        );
        client.batch_execute(&table).await?;
        let quoted = format!("'{}'", gid.replace('\'', "''"));
        let work = format!("BEGIN; INSERT INTO foreign_work VALUES ({quoted}); PREPARE TRANSACTION {quoted}");
        self.client_as(role).await?.batch_execute(&work).await?;
        let planted = "SELECT transaction::text FROM pg_prepared_xacts WHERE gid = $1";
        let xid = client.query_one(planted, &[&gid]).await?.get(0);
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).insert((gid.to_owned(), xid));
        Ok(())
    }

    /// What was planted under this name was ended by whoever planted it.
    pub fn forget_foreign(&self, gid: &str) {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).retain(|(planted, _)| planted != gid);
    }
}
