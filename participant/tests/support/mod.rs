//! One agent over a database of its own on a real server, and a coordinator and a client that a test plays.
#![allow(dead_code, unreachable_pub, unused_imports)] // each test binary uses a part
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

pub mod client;
pub mod coordinator;
pub mod scripted;
pub mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::Client as Direct;
use tokio_stream::StreamExt as _;
use votum_participant::{Agent, AgentConfig, ParticipantConfig, databases};
use votum_proto::exchange::channel;
use votum_proto::names::{Epoch, Incarnation, Life, ParticipantName};
use votum_proto::runtime::Seams;
use votum_proto::secret::IdentityKey;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_tests::postgres::{self, ROLE, Server};

pub use self::client::{ClientBranch, Reply, code};
pub use self::coordinator::Coordinator;

pub const BANK: &str = "bank";

/// An agent, its database, and the next coordinator's name.
pub struct World {
    pub server: Arc<Server>,
    pub database: String,
    pub agent: Agent,
    pub seams: Seams,
    pub id: String,
}

impl World {
    /// On a server that other tests use too.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// As `new`, with another configuration.
    pub async fn with(change: impl FnOnce(&mut AgentConfig)) -> Self {
        Self::on(postgres::shared(0).await.unwrap(), change).await
    }

    /// On a given server.
    pub async fn on(server: Arc<Server>, change: impl FnOnce(&mut AgentConfig)) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let database = postgres::fresh_database(&server).await.unwrap();
        let client = server.client_as(&database, ROLE).await.unwrap();
        client
            .batch_execute("CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL); INSERT INTO account VALUES (1, 100), (2, 100)")
            .await
            .unwrap();
        let seams = Seams::production();
        let agent = Self::new_agent(&server, &database, &seams, change);
        let id = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { server, database, agent, seams, id }
    }

    fn new_agent(
        server: &Server,
        database: &str,
        seams: &Seams,
        change: impl FnOnce(&mut AgentConfig),
    ) -> Agent {
        let participant = ParticipantConfig::new(name(), server.connection(database, ROLE));
        let mut config = AgentConfig::embedded(vec![participant]);
        config.sweep_ms = 200;
        change(&mut config);
        let databases = databases(&config, seams).unwrap();
        Agent::new(config, databases, seams.clone())
    }

    /// A second life of the agent, with nothing of the first one's memory.
    pub fn restart_agent(&mut self) {
        self.agent = Self::new_agent(&self.server, &self.database, &self.seams, |_| {});
    }

    /// The same with another configuration.
    pub fn restart_agent_with(&mut self, change: impl FnOnce(&mut AgentConfig)) {
        self.agent = Self::new_agent(&self.server, &self.database, &self.seams, change);
    }

    /// A connection past the agent, as its role.
    pub async fn direct(&self) -> Direct {
        self.server.client_as(&self.database, ROLE).await.unwrap()
    }

    /// One number, asked past the agent.
    pub async fn number(&self, query: &str) -> i64 {
        self.direct().await.query_one(query, &[]).await.unwrap().get(0)
    }

    /// A coordinator of this world in its first life, whose hello was answered.
    pub async fn coordinator(&self) -> Coordinator {
        self.coordinator_in(1, 0xabc).await.expect("the hello was refused")
    }

    /// A coordinator in some life.
    pub async fn coordinator_in(&self, epoch: u64, incarnation: u32) -> Result<Coordinator, v1::Refusal> {
        let life = Life { epoch: Epoch(epoch), incarnation: Incarnation::from_low_bits(incarnation) };
        let key = IdentityKey([5; 32]).epoch_key(life);
        let (end, agent_end) = channel();
        let agent = self.agent.clone();
        self.seams.spawn(async move { agent.serve_exchange(agent_end).await });
        let mut coordinator = Coordinator {
            id: self.id.clone(),
            life,
            key,
            end,
            seen: VecDeque::new(),
            queues: Vec::new(),
            seams: self.seams.clone(),
            hello: v1::AgentHello::default(),
            position: 1,
        };
        coordinator
            .send(Order::Hello(v1::CoordinatorHello {
                coordinator_id: self.id.clone(),
                epoch,
                incarnation,
                epoch_key: key.to_bytes(),
                participants: vec![BANK.into()],
            }))
            .await;
        match coordinator.next().await {
            Some(Report::Hello(hello)) => {
                coordinator.hello = hello;
                Ok(coordinator)
            }
            Some(Report::Refusal(refusal)) => Err(refusal),
            other => panic!("neither hello nor refusal: {other:?}"),
        }
    }

    /// A client's branch in a transaction of `coordinator`.
    pub fn branch(&self, coordinator: &Coordinator, seq: u64) -> ClientBranch {
        let gtid = coordinator.gtid(seq);
        ClientBranch {
            agent: self.agent.clone(),
            secret: coordinator.key.secret(&gtid),
            gtid,
            session: None,
            ordinal: 0,
            options: v1::BranchOptions { timeout_ms: 60_000, ..Default::default() },
        }
    }
}

pub fn name() -> ParticipantName {
    BANK.parse().unwrap()
}

/// A map that keeps the participants' listings by name.
pub fn listings(hello: &v1::AgentHello) -> BTreeMap<String, v1::Listing> {
    hello.listings.iter().map(|listing| (listing.participant.clone(), listing.clone())).collect()
}
