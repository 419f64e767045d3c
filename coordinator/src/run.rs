//! The coordinator as a server process: composes log, links, driver and servers, and takes them down again.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use tokio::sync::{mpsc, oneshot};
use votum_proto::address::Address;
use votum_proto::names::Life;
use votum_proto::runtime::Seams;
use votum_proto::secret::IdentityKey;
use votum_proto::service::listen::{Listening, listen};
use votum_proto::service::metrics as endpoint;
use votum_proto::service::shutdown::Shutdown;
use votum_proto::v1;

use crate::config::{AgentConfig, Config};
use crate::driver::request::DriverHandle;
use crate::driver::{self, AgentSettings, Settings};
use crate::log::refusal::Refusal;
use crate::log::{LogConfig, Opened};
use crate::metrics::{self, Counted, Metrics};
use crate::server::{self, health};
use crate::transport::grpc::GrpcDialer;
use crate::transport::link::start_link;
use crate::transport::{Dialer, DurablePosition};

/// How long the driver may take, beyond the configured grace, to close the log.
const CLOSING: Duration = Duration::from_secs(5);
/// How long clients have, once the driver has stopped, to take their answers and hang up.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Why a coordinator did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}. Stop what listens there, or change `{setting}`")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] Refusal),
    /// The server ended by itself.
    #[error(
        "the gRPC server ended ({0}): no client can reach this coordinator. Nothing is lost; start it again"
    )]
    Server(String),
    /// The driver ended by itself.
    #[error(
        "the driver ended: nobody owns the live transactions any more. What was decided is in the log, and \
         is settled by the next start; start the coordinator again"
    )]
    DriverStopped,
}

/// Runs a coordinator until `shutdown` asks for its end, and then at most the configured `drain_ms` and some
/// seconds longer: undecided transactions may still be decided, the log is closed, answers are sent.
///
/// # Errors
/// When it cannot start, or cannot go on; see [`RunError`].
pub async fn run(config: Config, shutdown: Shutdown, seams: Seams) -> Result<(), RunError> {
    // Before the log: a second coordinator started by mistake fails here, and begins no life.
    let listening = bind("listen", &config.listen, &seams).await?;
    let scraped = match &config.metrics.listen {
        Some(address) => Some(bind("metrics.listen", address, &seams).await?),
        None => None,
    };
    let address = listening.local().clone();
    let metrics = Metrics::default();
    let log = LogConfig { forced_writes: metrics.counted().forced_writes, ..config.log.log_config() };
    let opened = crate::log::open(log, &config.coordinator_id, seams.clone())?;
    let life = opened.life;
    let driver = start_driver(&config, opened, grpc_dialers(&config), metrics.counted(), &seams);
    // Dropped at the end: until then it can be seen how the coordinator stops.
    let page = metrics::page(metrics, driver.clone(), Arc::clone(&seams.clock));
    let _serving = scraped.map(|listening| endpoint::serve(listening, page, &seams));
    let reporter = health::reporter().await;
    let mut server = Running::start(listening, &driver, &config, reporter.clone(), &seams);
    tracing::info!(
        coordinator_id = %config.coordinator_id,
        epoch = %life.epoch,
        incarnation = %life.incarnation,
        participants = config.participants.len(),
        "listening on {address}"
    );
    seams.spawn(health::watch(reporter.clone(), driver.clone(), shutdown.clone(), seams.clone()));

    let told = std::pin::pin!(shutdown.requested());
    let stopped = std::pin::pin!(driver.stopped());
    match select(told, select(stopped, &mut server.ended)).await {
        Either::Left(((), _)) => {}
        Either::Right((Either::Left(((), _)), _)) => return Err(RunError::DriverStopped),
        Either::Right((Either::Right((why, _)), _)) => return Err(RunError::Server(why.unwrap_or_default())),
    }
    health::not_serving(&reporter).await;
    let grace = Duration::from_millis(config.limits.drain_ms);
    tracing::info!(grace_ms = config.limits.drain_ms, "stopping: no new transactions; waiting for decisions");
    if seams.clock.timeout(grace.saturating_add(CLOSING), driver.drain(grace)).await.is_err() {
        tracing::warn!("the driver did not stop in time. What was decided is in the log all the same");
    }
    server.stop(&seams).await;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(setting: &'static str, address: &Address, seams: &Seams) -> Result<Listening, RunError> {
    let bound = listen(address, Arc::clone(&seams.clock)).await;
    bound.map_err(|source| RunError::Listen { setting, address: address.clone(), source })
}

/// Starts one link for each of `agents`, and the driver over them, which counts in `counted`. The links
/// end with the driver.
///
/// This is all of a coordinator but its servers: with dialers of its own, another process or a simulation
/// hosts it the same way.
pub fn start_driver(
    config: &Config,
    opened: Opened,
    agents: Vec<(AgentConfig, Arc<dyn Dialer>)>,
    counted: Counted,
    seams: &Seams,
) -> DriverHandle {
    let life = opened.life;
    let durable = DurablePosition::default();
    durable.advance(opened.position);
    let (events, link_events) = mpsc::unbounded_channel();
    let links = agents
        .into_iter()
        .enumerate()
        .map(|(index, (agent, dialer))| {
            let hello = hello(&opened, life, &agent);
            let address = dialer.address();
            let link = start_link(index, dialer, hello, durable.clone(), life, events.clone(), seams);
            AgentSettings { link, address, participants: agent.participants }
        })
        .collect();
    let settings = Settings {
        max_transactions: config.limits.max_transactions,
        completed_wait: Duration::from_millis(config.limits.completed_wait_ms),
        max_undelivered: config.limits.max_undelivered,
        max_wait: Duration::from_millis(config.limits.max_wait_ms),
        work_in_flight: config.limits.work_in_flight,
        lease: config.log.lease,
        least_reach: config.least_reach(),
        durable,
        counted,
    };
    driver::start(settings, opened, links, link_events, seams)
}

/// What every stream to this agent begins with.
fn hello(opened: &Opened, life: Life, agent: &AgentConfig) -> v1::CoordinatorHello {
    v1::CoordinatorHello {
        coordinator_id: opened.identity.coordinator_id.to_string(),
        epoch: life.epoch.0,
        incarnation: life.incarnation.get(),
        epoch_key: IdentityKey(opened.identity.key).epoch_key(life).to_bytes(),
        participants: agent.participants.iter().map(ToString::to_string).collect(),
    }
}

fn grpc_dialers(config: &Config) -> Vec<(AgentConfig, Arc<dyn Dialer>)> {
    let dialer = |agent: AgentConfig| {
        let dialer: Arc<dyn Dialer> = Arc::new(GrpcDialer::new(agent.address.clone()));
        (agent, dialer)
    };
    config.agents().into_iter().map(dialer).collect()
}

/// The gRPC server, on a task of its own.
struct Running {
    stop: oneshot::Sender<()>,
    /// Says why, when the server ended.
    ended: oneshot::Receiver<String>,
}

impl Running {
    fn start(
        listening: Listening,
        driver: &DriverHandle,
        config: &Config,
        reporter: tonic_health::server::HealthReporter,
        seams: &Seams,
    ) -> Self {
        let (stop, told) = oneshot::channel::<()>();
        let (tell, ended) = oneshot::channel();
        let told = async {
            // Dropped or sent: both mean that nobody needs the server any more.
            let _ = told.await;
        };
        let serving = server::serve(listening, driver.clone(), config, reporter, told);
        seams.spawn(tell_end(serving, tell));
        Self { stop, ended }
    }

    /// No new connections; open requests get their answers. An open stream (a health watch, for example)
    /// would keep the server for ever: after [`LAST_ANSWERS`] it is left behind.
    async fn stop(self, seams: &Seams) {
        let _ = self.stop.send(());
        if seams.clock.timeout(LAST_ANSWERS, self.ended).await.is_err() {
            tracing::info!("some clients kept their connections open; they are cut");
        }
    }
}

async fn tell_end(
    serving: impl Future<Output = Result<(), tonic::transport::Error>> + Send,
    tell: oneshot::Sender<String>,
) {
    let why = match serving.await {
        Ok(()) => "it was told to stop".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    let _ = tell.send(why);
}
