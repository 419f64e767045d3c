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
use votum_proto::service::listen::listen;
use votum_proto::service::shutdown::Shutdown;

use crate::agent::Agent;
use crate::config::{AgentConfig, ConfigProblem};
use crate::database::Database;
use crate::postgres::preflight::{self, Severity};
use crate::{postgres, server};

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
    #[error("cannot listen on {address}: {source}. Stop what listens there, or change `listen`")]
    Listen {
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
    let listening = listen(&config.listen, Arc::clone(&seams.clock))
        .await
        .map_err(|source| RunError::Listen { address: config.listen.clone(), source })?;
    let address = listening.local().clone();
    let databases = databases(&config, &seams)?;
    let grace = Duration::from_millis(config.drain_ms);
    let participants = databases.len();
    let looked_at = config.clone();
    let agent = Agent::new(config, databases, seams.clone());
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
    let own = seams.clone();
    seams.spawn(async move { look_at_databases(&looked_at, &own).await });

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

/// Looks at every database once, and logs what keeps it from serving, or will, with what mends it. The agent
/// serves all the same: what cannot be reached now is tried again when it is needed.
async fn look_at_databases(config: &AgentConfig, seams: &Seams) {
    let examined = match preflight::examine(config, "this agent's configuration", seams).await {
        Ok(examined) => examined,
        Err(problem) => return tracing::warn!("the databases are not looked at: {problem}"),
    };
    for finding in preflight::judge(&examined, None) {
        let (code, participant) = (finding.code, finding.names());
        match finding.severity {
            Severity::Error => tracing::error!(code, participant, "{finding}"),
            Severity::Warning => tracing::warn!(code, participant, "{finding}"),
            Severity::Note => tracing::info!(code, participant, "{finding}"),
        }
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in ["", server::STATEMENTS, server::EXCHANGE] {
        health.set_service_status(service, status).await;
    }
}
