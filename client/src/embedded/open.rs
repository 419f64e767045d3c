//! Composes log, agent and driver within this process, as the servers' own `main` does in theirs.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use votum_coordinator::config::{AgentConfig, Config};
use votum_coordinator::log::{self, LogConfig, OnFailure, Opened, Refusal, RefusalKind};
use votum_coordinator::metrics::Counted;
use votum_coordinator::run::start_driver;
use votum_coordinator::server::coordinator::CoordinatorService;
use votum_coordinator::server::serve_operators;
use votum_coordinator::transport::channel::{ChannelDialer, Host};
use votum_participant::{Agent, databases, server};
use votum_proto::address::Address;
use votum_proto::names::CoordinatorId;
use votum_proto::runtime::Seams;
use votum_proto::service::config::Check as _;
use votum_proto::service::listen::{Listening, listen};

use super::group::Group;
use super::here::{Here, serving};
use super::running::{Operators, Parts, Running};
use super::{Embedded, OpenError};
use crate::Votum;
use crate::calls::Calls;
use crate::channels::Agents;

/// For how long directory and address may be in use when it is opened: by a coordinator that was dropped and is
/// closing, or by a child of this process that holds what was open here until it is a program of its own.
const IN_USE: Duration = Duration::from_secs(2);
/// The pause between two attempts at it.
const PAUSE: Duration = Duration::from_millis(20);

impl Embedded {
    /// Opens the log, which begins a new epoch, and starts everything beside the caller. What earlier lives of
    /// it decided is delivered from here on. Databases need not be there: they are connected to when they are
    /// needed, again and again.
    ///
    /// # Errors
    /// [`OpenError`]; among others, after two seconds, where somebody else has the directory or the operators'
    /// address.
    pub async fn open(self) -> Result<Votum, OpenError> {
        let (config, operator) = self.checked().map_err(OpenError::Misconfigured)?;
        let (agents, options) = (self.agents, self.options);
        let tasks = Group::new(options.seams.spawn.clone());
        let seams = Seams { spawn: Arc::new(tasks.clone()), ..options.seams.clone() };
        let databases = databases(&agents, &seams)?;
        // Before the log: what is started twice by mistake fails here, and begins no life.
        let listening = match operator {
            Some(address) => Some(bind(address, &seams).await?),
            None => None,
        };
        let opened = open_log(&config, self.initialize_if_empty, &seams).await?;
        let (coordinator_id, epoch) = (config.coordinator_id.clone(), opened.life.epoch);
        let agent_grace = Duration::from_millis(agents.drain_ms);
        let agent = Agent::new(agents, databases, seams.clone());
        let participants = config.participants.iter().map(|participant| participant.name.clone()).collect();
        let here = AgentConfig { address: Address::InProcess, participants };
        let dialer = ChannelDialer::new(Address::InProcess.to_string(), host(&agent), seams.spawn.clone());
        let driver =
            start_driver(&config, opened, vec![(here, Arc::new(dialer))], Counted::default(), &seams);
        agent.look_at_databases();

        let decisions = serving(Arc::new(CoordinatorService::new(driver.clone(), &config)));
        let statements = serving(server::handler(agent.clone()));
        let coordinator = Calls::here(Here::new(&decisions));
        let hosted = Calls::here(Here::new(&statements));
        let operators = listening.map(|listening| serve(listening, &driver, &seams));
        let grace = Duration::from_millis(config.limits.drain_ms);
        let parts = Parts {
            driver,
            grace,
            agent,
            agent_grace,
            handlers: [decisions, statements],
            operators,
            tasks,
            seams: options.seams.clone(),
        };
        let running = Running::start(parts);
        tracing::info!(%coordinator_id, %epoch, "an embedded coordinator is open");
        let agents = Agents::at_hand(Address::InProcess.to_string(), hosted);
        Ok(Votum::over(options, coordinator, agents, Some(running)))
    }

    /// The coordinator's configuration, and where operators are served; or everything that is wrong.
    fn checked(&self) -> Result<(Config, Option<Address>), Vec<String>> {
        let mut problems = self.agents.problems();
        problems.extend(self.log.problems());
        problems.extend(self.limits.problems());
        let id = self.coordinator_id.parse::<CoordinatorId>();
        let id = id.map_err(|error| problems.push(format!("coordinator_id: {error}"))).ok();
        let operator = match self.operator.as_ref().map(|address| address.parse::<Address>()) {
            Some(Err(error)) => {
                problems.push(format!("operator: {error}"));
                None
            }
            Some(Ok(address)) if !address.is_local() => {
                problems.push(format!(
                    "operator = \"{address}\" can be reached from other machines, and nothing there is \
                     encrypted: listen on 127.0.0.1 or on unix:/PATH"
                ));
                None
            }
            Some(Ok(address)) => Some(address),
            None => None,
        };
        let Some(id) = id.filter(|_| problems.is_empty()) else { return Err(problems) };
        let names = self.agents.participants.iter().map(|participant| participant.name.clone());
        let config = Config::embedded(id, self.log.clone(), names);
        Ok((Config { limits: self.limits.clone(), ..config }, operator))
    }
}

async fn bind(address: Address, seams: &Seams) -> Result<Listening, OpenError> {
    let until = seams.clock.now().after(IN_USE);
    loop {
        match listen(&address, Arc::clone(&seams.clock)).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && seams.clock.now() < until => {
                seams.clock.sleep(PAUSE).await;
            }
            bound => return bound.map_err(|source| OpenError::Operator { address, source }),
        }
    }
}

/// The agent's side of each exchange.
fn host(agent: &Agent) -> Host {
    let agent = agent.clone();
    Arc::new(move |end| {
        let agent = agent.clone();
        Box::pin(async move { agent.serve_exchange(end).await })
    })
}

fn serve(
    listening: Listening,
    driver: &votum_coordinator::driver::request::DriverHandle,
    seams: &Seams,
) -> Operators {
    let (stop, told) = oneshot::channel::<()>();
    let (tell, ended) = oneshot::channel();
    let serving = serve_operators(listening, driver.clone(), async {
        // Dropped: nobody needs the server any more.
        let _ = told.await;
    });
    seams.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(?error, "operators are not served any more");
        }
        let _ = tell.send(());
    });
    Operators { stop, ended }
}

/// Opens the log on a thread on which waiting for the disk holds nobody up.
async fn open_log(config: &Config, initialize: bool, seams: &Seams) -> Result<Opened, OpenError> {
    let log = LogConfig { on_failure: OnFailure::Latch, ..config.log.log_config() };
    let until = seams.clock.now().after(IN_USE);
    loop {
        let (log, id, given) = (log.clone(), config.coordinator_id.clone(), seams.clone());
        let opening = tokio::task::spawn_blocking(move || open_or_make(log, &id, initialize, given));
        match opening.await.map_err(|_| OpenError::RuntimeEnded)? {
            Err(refusal) if refusal.kind == RefusalKind::InUse && seams.clock.now() < until => {
                seams.clock.sleep(PAUSE).await;
            }
            opened => return Ok(opened?),
        }
    }
}

fn open_or_make(
    config: LogConfig,
    id: &CoordinatorId,
    initialize: bool,
    seams: Seams,
) -> Result<Opened, Refusal> {
    match log::open(config.clone(), id, seams.clone()) {
        Err(refusal) if initialize && refusal.kind == RefusalKind::NotInitialized => {
            log::initialize(&config, id, &*seams.entropy)?;
            log::open(config, id, seams)
        }
        opened => opened,
    }
}
