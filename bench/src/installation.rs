//! What is measured: an installation of our own, or one that runs already.

use anyhow::ensure;
use votum_tests::postgres;
use votum_tests::process::Build;
use votum_tests::world::World;

use crate::arguments::{Arguments, Over};
use crate::cpu::Group;

/// The settings of our own servers; everything else that matters to speed is PostgreSQL's default, and writes
/// are forced.
const SETTINGS: [(&str, &str); 4] =
    [("shared_buffers", "256MB"), ("max_connections", "400"), ("fsync", "on"), ("min_wal_size", "80MB")];

/// As many as there may be prepared transactions: with wait DECIDED more of them than workers.
const PREPARED_TRANSACTIONS: u32 = 400;

/// A bank, as both contenders reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BankAddress {
    /// What the coordinator calls it.
    pub(crate) participant: String,
    /// How to connect to its database.
    pub(crate) connection: String,
}

/// A coordinator, its banks, and their processes where they are ours.
pub(crate) struct Installation {
    coordinator: String,
    banks: Vec<BankAddress>,
    world: Option<World>,
}

impl Installation {
    /// The one that the command line names, else a new one: servers, agents and a coordinator, each a process
    /// of its own.
    ///
    /// # Errors
    /// When the command line contradicts itself, or something does not start.
    pub(crate) async fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        match &arguments.coordinator {
            Some(coordinator) => Self::named(coordinator, arguments),
            None => Self::start(arguments).await,
        }
    }

    fn named(coordinator: &str, arguments: &Arguments) -> anyhow::Result<Self> {
        let bank = |pair: &[String]| match pair {
            [participant, connection] => {
                Some(BankAddress { participant: participant.clone(), connection: connection.clone() })
            }
            _ => None,
        };
        let banks: Vec<_> = arguments.direct.chunks(2).filter_map(bank).collect();
        ensure!(
            u32::try_from(banks.len())? == arguments.participants,
            "--participants says {}, and --direct names {} banks",
            arguments.participants,
            banks.len()
        );
        Ok(Self { coordinator: coordinator.to_owned(), banks, world: None })
    }

    async fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let servers = postgres::Options { max_prepared_transactions: PREPARED_TRANSACTIONS, settings };
        let builder = match arguments.over {
            Over::Tcp => World::builder().tcp(),
            Over::Unix => World::builder(),
        };
        let world = builder
            .banks(usize::try_from(arguments.participants)?)
            .own_servers(servers)
            .build(Build::Beside)
            .coordinator_id("bench")
            .half_bytes(16 << 20)
            .agent_setting("sweep_ms", "5000")
            .start()
            .await?;
        let decides = if arguments.has_last_agent() { world.banks.last() } else { None };
        let all = if arguments.commit_marker { &*world.banks } else { &[] };
        for bank in all.iter().chain(decides.filter(|_| !arguments.commit_marker)) {
            bank.keep_markers().await?;
        }
        let bank = |bank: &votum_tests::world::Bank| BankAddress {
            participant: bank.name.clone(),
            connection: match arguments.over {
                Over::Tcp => format!(
                    "host=127.0.0.1 port={} user={} dbname={}",
                    bank.server.port(),
                    postgres::ROLE,
                    bank.database
                ),
                Over::Unix => bank.server.connection(&bank.database, postgres::ROLE),
            },
        };
        let banks = world.banks.iter().map(bank).collect();
        Ok(Self { coordinator: world.address().to_string(), banks, world: Some(world) })
    }

    /// The coordinator's address.
    pub(crate) fn coordinator(&self) -> &str {
        &self.coordinator
    }

    /// The banks, in the order of a transfer's legs.
    pub(crate) fn banks(&self) -> &[BankAddress] {
        &self.banks
    }

    /// The processes whose processor time can be told apart: always this one, and all of an installation of
    /// our own.
    pub(crate) fn processes(&self) -> Vec<(Group, u32)> {
        let mut processes = vec![(Group::Client, std::process::id())];
        if let Some(world) = &self.world {
            processes.extend(world.coordinator.pid().map(|pid| (Group::Coordinator, pid)));
            for bank in &world.banks {
                processes.extend(bank.agent.pid().map(|pid| (Group::Agents, pid)));
                processes.extend(bank.server.pid().map(|pid| (Group::PostgreSql, pid)));
            }
        }
        processes
    }
}
