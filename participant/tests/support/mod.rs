//! One agent over a database of its own on a real server, and a coordinator and a client that a test plays.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

pub mod scripted;
pub mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::Client as Direct;
use tokio_stream::StreamExt as _;
use tonic::Status;
use votum_participant::{Agent, AgentConfig, ParticipantConfig, databases};
use votum_proto::exchange::{CoordinatorEnd, channel};
use votum_proto::names::{Epoch, Gid, Gtid, Incarnation, Life, ParticipantName};
use votum_proto::runtime::Seams;
use votum_proto::secret::{EpochKey, IdentityKey};
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_tests::eventually::DEADLINE;
use votum_tests::postgres::{self, ROLE, Server};

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

/// A coordinator, as a test plays it.
pub struct Coordinator {
    pub id: String,
    pub life: Life,
    pub key: EpochKey,
    pub hello: v1::AgentHello,
    pub position: u64,
    end: CoordinatorEnd,
    seen: VecDeque<Report>,
    seams: Seams,
}

impl Coordinator {
    pub fn gtid(&self, seq: u64) -> Gtid {
        Gtid { coordinator_id: self.id.parse().unwrap(), life: self.life, seq }
    }

    pub fn gid(&self, seq: u64) -> Gid {
        Gid { gtid: self.gtid(seq), branch: 0, branches: 1 }
    }

    pub async fn send(&mut self, order: Order) {
        let frame = v1::CoordinatorFrame {
            witness: Some(v1::Witness {
                epoch: self.life.epoch.0,
                incarnation: self.life.incarnation.get(),
                position: self.position,
            }),
            messages: vec![v1::CoordinatorMessage { kind: Some(order) }],
        };
        let _ = self.end.outgoing.send(frame).await;
    }

    /// The next message; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Report> {
        while self.seen.is_empty() {
            let clock = Arc::clone(&self.seams.clock);
            let frame =
                clock.timeout(DEADLINE, self.end.incoming.next()).await.expect("no frame within 30 s");
            let messages = frame?.unwrap().messages;
            self.seen.extend(messages.into_iter().filter_map(|message| message.kind));
        }
        self.seen.pop_front()
    }

    /// The first message that `pick` takes; others are passed over.
    pub async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(&Report) -> Option<T>) -> T {
        let mut passed = Vec::new();
        let clock = Arc::clone(&self.seams.clock);
        let looking = async {
            loop {
                let report = self.next().await?;
                if let Some(found) = pick(&report) {
                    return Some(found);
                }
                passed.push(report);
            }
        };
        let found = clock.timeout(DEADLINE, looking).await;
        found.ok().flatten().unwrap_or_else(|| panic!("no {what}, but: {passed:#?}"))
    }

    pub async fn prepare(&mut self, branch: &ClientBranch) {
        self.prepare_as(branch, branch.session, branch.ordinal).await;
    }

    pub async fn prepare_as(
        &mut self,
        branch: &ClientBranch,
        session: Option<v1::SessionName>,
        last_ordinal: u64,
    ) {
        let seq = branch.gtid.seq;
        self.send(Order::Prepare(v1::Prepare {
            gtid: branch.gtid.to_string(),
            participant: BANK.into(),
            gid: self.gid(seq).to_string(),
            session,
            last_ordinal,
        }))
        .await;
    }

    /// The next vote of a transaction.
    pub async fn vote(&mut self, seq: u64) -> v1::vote::Kind {
        let gtid = self.gtid(seq).to_string();
        self.expect("vote", |report| match report {
            Report::Vote(vote) if vote.gtid == gtid => vote.kind.clone(),
            _ => None,
        })
        .await
    }

    pub async fn vote_yes(&mut self, seq: u64) -> v1::VoteYes {
        match self.vote(seq).await {
            v1::vote::Kind::Yes(yes) => yes,
            other => panic!("not a yes: {other:?}"),
        }
    }

    pub async fn vote_no(&mut self, seq: u64) -> v1::AbortReason {
        match self.vote(seq).await {
            v1::vote::Kind::No(no) => no.reason.unwrap(),
            other => panic!("not a no: {other:?}"),
        }
    }

    pub async fn commit(&mut self, seq: u64, xid8: u64, compare_first: bool) {
        let order = v1::CommitBranch { compare_first, ..self.commit_order(seq, xid8) };
        self.send(Order::Commit(order)).await;
    }

    /// Has a branch committed whose acknowledgement may take its time.
    pub async fn commit_unhurried(&mut self, seq: u64, xid8: u64) {
        let order = v1::CommitBranch { nobody_waits: true, ..self.commit_order(seq, xid8) };
        self.send(Order::Commit(order)).await;
    }

    fn commit_order(&self, seq: u64, xid8: u64) -> v1::CommitBranch {
        v1::CommitBranch {
            gtid: self.gtid(seq).to_string(),
            participant: BANK.into(),
            gid: self.gid(seq).to_string(),
            xid8,
            ..Default::default()
        }
    }

    pub async fn rollback(&mut self, seq: u64, gid: bool, xid8: u64, listed_xid: u32) {
        self.send(Order::Rollback(v1::RollbackBranch {
            gtid: self.gtid(seq).to_string(),
            participant: BANK.into(),
            gid: if gid { self.gid(seq).to_string() } else { String::new() },
            xid8,
            listed_xid,
        }))
        .await;
    }

    /// How a branch ended.
    pub async fn branch_end(&mut self, seq: u64) -> v1::branch_end::Kind {
        let gtid = self.gtid(seq).to_string();
        self.expect("branch end", |report| match report {
            Report::BranchEnd(end) if end.gtid == gtid => end.kind,
            _ => None,
        })
        .await
    }

    pub async fn session_lost(&mut self, seq: u64) -> v1::AbortReason {
        let gtid = self.gtid(seq).to_string();
        self.expect("session lost", |report| match report {
            Report::SessionLost(lost) if lost.gtid == gtid => lost.reason.clone(),
            _ => None,
        })
        .await
    }

    /// Asks for a listing.
    pub async fn list(&mut self, details: bool) -> v1::Listing {
        self.send(Order::List(v1::ListParticipant { participant: BANK.into(), request: 77, details })).await;
        self.expect("listing", |report| match report {
            Report::Listing(listing) if listing.request == 77 => Some(listing.clone()),
            _ => None,
        })
        .await
    }

    /// The next listing that nobody asked for and that `wanted` takes.
    pub async fn swept(&mut self, mut wanted: impl FnMut(&v1::Listing) -> bool) -> v1::Listing {
        self.expect("sweep", |report| match report {
            Report::Listing(listing) if listing.request == 0 && wanted(listing) => Some(listing.clone()),
            _ => None,
        })
        .await
    }
}

/// One branch, as a client sees it.
#[derive(Clone)]
pub struct ClientBranch {
    pub agent: Agent,
    pub gtid: Gtid,
    pub secret: Vec<u8>,
    pub session: Option<v1::SessionName>,
    pub ordinal: u64,
    pub options: v1::BranchOptions,
}

/// A reply, whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    pub started: Option<v1::Started>,
    pub rows: Vec<Vec<Option<v1::value::Kind>>>,
    pub count: u64,
}

impl ClientBranch {
    pub fn request(&self, ordinal: u64, statement: &str) -> v1::ExecuteRequest {
        v1::ExecuteRequest {
            gtid: self.gtid.to_string(),
            secret: self.secret.clone(),
            participant: BANK.into(),
            ordinal,
            session: if ordinal == 1 { None } else { self.session },
            statement: statement.into(),
            options: Some(self.options),
            ..Default::default()
        }
    }

    /// Sends a request, and reads its reply to the end.
    pub async fn send(&self, request: v1::ExecuteRequest) -> (Reply, Option<Status>) {
        let mut reply = Reply::default();
        let mut parts = match self.agent.execute(request) {
            Ok(parts) => parts,
            Err(status) => return (reply, Some(status)),
        };
        while let Some(part) = parts.recv().await {
            match part.map(|part| part.part.unwrap()) {
                Ok(v1::execute_response::Part::Started(started)) => {
                    assert!(reply.started.is_none(), "Started twice");
                    reply.started = Some(started);
                }
                Ok(v1::execute_response::Part::Row(row)) => {
                    reply.rows.push(row.values.into_iter().map(|value| value.kind).collect());
                }
                Ok(v1::execute_response::Part::Finished(finished)) => reply.count = finished.rows,
                Err(status) => return (reply, Some(status)),
            }
        }
        (reply, None)
    }

    /// Runs the next statement.
    pub async fn run(&mut self, statement: &str) -> (Reply, Option<Status>) {
        self.run_with(statement, Vec::new()).await
    }

    pub async fn run_with(
        &mut self,
        statement: &str,
        parameters: Vec<v1::value::Kind>,
    ) -> (Reply, Option<Status>) {
        let parameters = parameters.into_iter().map(|kind| v1::Value { kind: Some(kind) }).collect();
        let request = v1::ExecuteRequest { parameters, ..self.request(self.ordinal + 1, statement) };
        let (reply, status) = self.send(request).await;
        if let Some(started) = &reply.started {
            self.ordinal += 1;
            self.session = started.session;
        }
        (reply, status)
    }

    /// Runs the next statement, which must succeed.
    pub async fn ok(&mut self, statement: &str) -> Reply {
        self.ok_with(statement, Vec::new()).await
    }

    pub async fn ok_with(&mut self, statement: &str, parameters: Vec<v1::value::Kind>) -> Reply {
        let (reply, status) = self.run_with(statement, parameters).await;
        assert!(status.is_none(), "{statement}: {status:?}");
        reply
    }

    /// Runs the next statement, which must fail.
    pub async fn fails(&mut self, statement: &str) -> Status {
        self.run(statement).await.1.unwrap_or_else(|| panic!("{statement} succeeded"))
    }
}

/// The code and SQLSTATE of an error.
pub fn code(status: &Status) -> (String, String) {
    let detail = votum_proto::error::detail(status).expect("a status without detail");
    (detail.code, detail.sql.map(|sql| sql.sqlstate).unwrap_or_default())
}

/// A map that keeps the participants' listings by name.
pub fn listings(hello: &v1::AgentHello) -> BTreeMap<String, v1::Listing> {
    hello.listings.iter().map(|listing| (listing.participant.clone(), listing.clone())).collect()
}
