//! Coordinator and agents in one process, over channels: what a small installation, or a library, does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use votum_coordinator::config::{AgentConfig, Config};
use votum_coordinator::driver::request::{Begin, BranchClaim, Commit, DriverHandle, Outcome, Request, Wait};
use votum_coordinator::run::start_driver;
use votum_coordinator::server;
use votum_coordinator::transport::Dialer;
use votum_coordinator::transport::channel::ChannelDialer;
use votum_participant::{Agent, AgentConfig as EmbeddedAgent, ParticipantConfig, databases};
use votum_proto::runtime::Seams;
use votum_proto::service::listen::listen;
use votum_proto::v1;
use votum_proto::v1::execute_response::Part;
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::{Ledger, Told};
use votum_tests::plain::note;
use votum_tests::postgres::ROLE;
use votum_tests::world::{Bank, World};

/// How long what is open may go on at the end.
const GRACE: Duration = Duration::from_secs(5);

/// An agent that lives here, beside one bank.
fn agent_of(bank: &Bank, seams: &Seams) -> anyhow::Result<Agent> {
    let connection = bank.server.connection(&bank.database, ROLE);
    let participant = ParticipantConfig::new(bank.name.parse()?, connection);
    let config = EmbeddedAgent { sweep_ms: 200, ..EmbeddedAgent::embedded(vec![participant]) };
    let databases = databases(&config, seams)?;
    Ok(Agent::new(config, databases, seams.clone()))
}

/// Reaches `agent` without a network.
fn dialer(name: &str, agent: &Agent, seams: &Seams) -> Arc<dyn Dialer> {
    let agent = agent.clone();
    let host = move |end| -> votum_proto::runtime::BoxFuture<()> {
        let agent = agent.clone();
        Box::pin(async move { agent.serve_exchange(end).await })
    };
    Arc::new(ChannelDialer::new(name, Arc::new(host), seams.spawn.clone()))
}

/// Coordinator and agents of `world`, all in this process.
struct Embedded {
    driver: DriverHandle,
    agents: BTreeMap<String, Agent>,
    /// Dropped, it ends the server.
    stop: oneshot::Sender<()>,
    /// Resolves when the server has ended.
    ended: oneshot::Receiver<()>,
}

impl Embedded {
    async fn start(world: &World, seams: &Seams) -> anyhow::Result<Self> {
        let config = Config::load(&world.config_file())?;
        let opened =
            votum_coordinator::log::open(config.log.log_config(), &config.coordinator_id, seams.clone())?;
        let (mut agents, mut dialers) = (BTreeMap::new(), Vec::new());
        for (bank, agent) in world.banks.iter().zip(config.agents()) {
            let here = agent_of(bank, seams)?;
            let dialer = dialer(&bank.name, &here, seams);
            dialers.push((AgentConfig { participants: vec![bank.name.parse()?], ..agent }, dialer));
            agents.insert(bank.name.clone(), here);
        }
        let driver = start_driver(&config, opened, dialers, Default::default(), seams);
        // What the judgement asks at the end, it asks by gRPC.
        let listening = listen(world.address(), seams.clock.clone()).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let health = tonic_health::server::HealthReporter::new();
        let serving = server::serve(listening, driver.clone(), &config, health, async {
            let _ = stopped.await;
        });
        let (tell, ended) = oneshot::channel();
        seams.spawn(async move {
            let _ = serving.await;
            let _ = tell.send(());
        });
        Ok(Self { driver, agents, stop, ended })
    }

    async fn stop(self) {
        self.driver.drain(GRACE).await;
        for agent in self.agents.values() {
            agent.shutdown(GRACE).await;
        }
        drop(self.stop);
        let _ = self.ended.await;
    }

    /// Runs a transfer that leaves one row at each bank.
    async fn transfer(&self, ledger: &Ledger, name: &str) -> anyhow::Result<Outcome> {
        ledger.intend(name, self.agents.keys().map(String::as_str));
        let begin = || Begin {
            timeout: Duration::from_secs(20),
            key: None,
            client: String::new(),
            label: name.to_owned(),
        };
        let begun = eventually("the coordinator takes transactions", async || {
            Ok(match self.driver.ask(|answer| Request::Begin(begin(), answer)).await {
                Ok(begun) => Found::Yes(begun),
                Err(error) => Found::NotYet(error.to_string()),
            })
        })
        .await?;
        ledger.begun(name, &begun.gtid.to_string());
        let mut branches = Vec::new();
        for (participant, agent) in &self.agents {
            let request = v1::ExecuteRequest {
                gtid: begun.gtid.to_string(),
                secret: begun.secret.clone(),
                participant: participant.clone(),
                ordinal: 1,
                statement: note(name),
                ..v1::ExecuteRequest::default()
            };
            let mut reply = eventually("the agent takes statements", async || {
                Ok(match agent.execute(request.clone()) {
                    Ok(reply) => Found::Yes(reply),
                    // The coordinator has not yet spoken to it.
                    Err(status) => Found::NotYet(status.to_string()),
                })
            })
            .await?;
            let mut session = None;
            while let Some(part) = reply.recv().await {
                if let Some(Part::Started(started)) = part?.part {
                    session = started.session;
                }
            }
            let session = session.ok_or_else(|| anyhow::anyhow!("a reply names no session"))?.into();
            branches.push(BranchClaim { participant: participant.parse()?, session, last_ordinal: 1 });
        }
        let commit = Commit { gtid: begun.gtid, secret: begun.secret, branches, wait: Wait::Completed };
        let outcome = self.driver.ask(|answer| Request::Commit(commit, answer)).await?;
        ledger.told(
            name,
            if matches!(outcome, Outcome::Committed { .. }) { Told::Committed } else { Told::Unknown },
        );
        Ok(outcome)
    }
}

#[tokio::test]
async fn a_process_that_hosts_coordinator_and_agents_commits_on_two_databases() -> anyhow::Result<()> {
    let world = World::builder().prepare().await?;
    let ledger = Ledger::new();
    let seams = Seams::production();
    let embedded = Embedded::start(&world, &seams).await?;
    for n in 0..5 {
        let outcome = embedded.transfer(&ledger, &format!("t{n}")).await?;
        assert!(matches!(&outcome, Outcome::Committed { pending, .. } if pending.is_empty()), "{outcome:?}");
    }
    world.check(&ledger).await?;
    embedded.stop().await;
    Ok(())
}

#[tokio::test]
async fn separate_processes_go_on_with_the_log_of_an_embedded_coordinator() -> anyhow::Result<()> {
    let world = World::builder().prepare().await?;
    let ledger = Arc::new(Ledger::new());
    {
        let seams = Seams::production();
        let embedded = Embedded::start(&world, &seams).await?;
        embedded.transfer(&ledger, "embedded").await?;
        embedded.stop().await;
    }
    world.start_all().await?;
    let teller = votum_tests::teller::Teller::connect(&world, &ledger).await?;
    let legs = world.legs(5);
    assert!(teller.transfer("processes", &legs).await?.is_committed());
    world.check(&ledger).await
}
