//! The agent as a server process: composes databases, agent and server, and takes them down again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use tokio::sync::oneshot;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use votum_proto::address::Address;
use votum_proto::names::ParticipantName;
use votum_proto::runtime::Seams;
use votum_proto::service::listen::{Listening, listen};
use votum_proto::service::metrics as endpoint;
use votum_proto::service::shutdown::Shutdown;

use crate::agent::Agent;
use crate::config::{AgentConfig, ConfigProblem};
use crate::database::Database;
use crate::{metrics, postgres, server};

/// How long clients and coordinators have, once the agent has stopped, to take their answers and hang up.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Why an agent did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A participant's database cannot be configured as it stands.
    #[error("participant {participant}: {problem}")]
    Participant {
        /// Which.
        participant: ParticipantName,
        /// What is wrong.
        problem: ConfigProblem,
    },
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
    /// The server ended by itself.
    #[error("the gRPC server ended ({0}): nobody can reach this agent. Nothing is lost; start it again")]
    Server(String),
}

/// The databases that a configuration names. Connects to nothing yet.
///
/// # Errors
/// The first participant whose connection, password or certificates cannot be used.
pub fn databases(
    config: &AgentConfig,
    seams: &Seams,
) -> Result<BTreeMap<ParticipantName, Arc<dyn Database>>, RunError> {
    config
        .resolved_participants()
        .iter()
        .map(|participant| match postgres::connect(participant, seams.clone()) {
            Ok(database) => Ok((participant.name.clone(), database)),
            Err(problem) => Err(RunError::Participant { participant: participant.name.clone(), problem }),
        })
        .collect()
}

/// Runs an agent until `shutdown` asks for its end, and then at most the configured `drain_ms` and some
/// seconds longer: open branches may still be prepared or end; those that are prepared stay prepared.
///
/// # Errors
/// When it cannot start, or cannot go on; see [`RunError`].
pub async fn run(config: AgentConfig, shutdown: Shutdown, seams: Seams) -> Result<(), RunError> {
    let listening = bind("listen", &config.listen, &seams).await?;
    let scraped = match &config.metrics.listen {
        Some(address) => Some(bind("metrics.listen", address, &seams).await?),
        None => None,
    };
    let address = listening.local().clone();
    let databases = databases(&config, &seams)?;
    let grace = Duration::from_millis(config.drain_ms);
    let participants = databases.len();
    let agent = Agent::new(config, databases, seams.clone());
    // Dropped at the end: until then it can be seen how the agent stops.
    let page = metrics::page(agent.clone());
    let _serving = scraped.map(|listening| endpoint::serve(listening, page, &seams));
    let health = HealthReporter::new();
    let (stop, told) = oneshot::channel::<()>();
    let (tell, ended) = oneshot::channel();
    let serving = server::serve(listening, agent.clone(), health.clone(), async {
        // Dropped or sent: both mean that nobody needs the server any more.
        let _ = told.await;
    });
    seams.spawn(async move {
        let why = match serving.await {
            Ok(()) => "it was told to stop".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        let _ = tell.send(why);
    });
    set_health(&health, ServingStatus::Serving).await;
    tracing::info!(instance = format!("{:016x}", agent.instance()), participants, "listening on {address}");
    agent.look_at_databases();

    let asked = std::pin::pin!(shutdown.requested());
    let ended = match select(asked, ended).await {
        Either::Left(((), ended)) => ended,
        Either::Right((why, _)) => return Err(RunError::Server(why.unwrap_or_default())),
    };
    set_health(&health, ServingStatus::NotServing).await;
    tracing::info!(grace_ms = grace.as_millis(), "stopping: no new branches; waiting for open ones");
    agent.shutdown(grace).await;
    let _ = stop.send(());
    if seams.clock.timeout(LAST_ANSWERS, ended).await.is_err() {
        tracing::info!("some peers kept their connections open; they are cut");
    }
    tracing::info!("stopped; what is prepared stays prepared");
    Ok(())
}

async fn bind(setting: &'static str, address: &Address, seams: &Seams) -> Result<Listening, RunError> {
    let bound = listen(address, Arc::clone(&seams.clock)).await;
    bound.map_err(|source| RunError::Listen { setting, address: address.clone(), source })
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in ["", server::STATEMENTS, server::EXCHANGE] {
        health.set_service_status(service, status).await;
    }
}
