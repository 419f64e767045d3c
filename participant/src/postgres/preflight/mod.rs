//! Whether databases can serve as participants, found out before a transaction does.
//!
//! Asking and judging are apart: `questions` reads [`Facts`] from a server in one READ ONLY transaction that
//! is rolled back, [`judge`] is a pure function of what was read and configured. Nothing is changed in a
//! database, nothing is prepared, and no clock is compared with another.

mod checks;
mod facts;
mod finding;
mod judge;
mod questions;
mod remedy;
#[cfg(test)]
mod tests;

use futures::future::join_all;
use votum_proto::names::{CoordinatorId, ParticipantName};
use votum_proto::runtime::Seams;

pub use self::facts::{AttachedRole, Facts, PreparedSeen, Role, Setting};
pub use self::finding::{Finding, Place, Remedy, Severity};
pub use self::judge::judge;
use super::commands::QUESTION_LIMIT;
use super::connect::Connector;
use super::connection;
use crate::config::{AgentConfig, ConfigProblem, ParticipantConfig};
use crate::database::{Aftermath, DatabaseError, Policy};

/// One participant as its agent's configuration has it: what is judged against its server.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name.
    pub participant: ParticipantName,
    /// The configuration that it stands in, for people.
    pub file: String,
    /// The coordinators that its agent serves; empty: any.
    pub coordinators: Vec<CoordinatorId>,
    /// How many branches may be open there at once.
    pub sessions: usize,
    /// Connections that carry out decisions.
    pub phase2_connections: usize,
    /// The longest that a branch may live before it is prepared, in milliseconds.
    pub max_branch_timeout_ms: u64,
    /// Where its server is: `HOST:PORT`, or a directory with a socket.
    pub address: String,
    /// As whom the agent logs in.
    pub user: String,
    /// Which database.
    pub database: String,
}

/// A participant that was looked at.
#[derive(Debug, Clone)]
pub struct Examined {
    /// What is configured.
    pub subject: Subject,
    /// What its server answered, or why it did not.
    pub answer: Result<Facts, DatabaseError>,
}

/// What a coordinator's configuration says of participants.
#[derive(Debug, Clone)]
pub struct CoordinatorSeen {
    /// The configuration, for people.
    pub file: String,
    /// Its name.
    pub coordinator_id: CoordinatorId,
    /// The participants that it knows.
    pub participants: Vec<ParticipantName>,
}

/// Asks the servers of all participants of one configuration, which `file` names to people. A server that
/// cannot be asked is part of the answer.
///
/// # Errors
/// When a connection string, a password's source or certificates cannot be used.
pub async fn examine(
    config: &AgentConfig,
    file: &str,
    seams: &Seams,
) -> Result<Vec<Examined>, ConfigProblem> {
    let mut asked = Vec::new();
    for participant in config.resolved_participants() {
        let named = |problem: ConfigProblem| {
            ConfigProblem(format!("participant {}: {}", participant.name, problem.0))
        };
        let subject = subject(config, &participant, file).map_err(named)?;
        let connector = Connector::new(&participant, seams.clone()).map_err(named)?;
        asked.push(async move {
            let answer = answer(&connector, &participant.attached_roles).await;
            Examined { subject, answer }
        });
    }
    Ok(join_all(asked).await)
}

async fn answer(connector: &Connector, attached_roles: &[String]) -> Result<Facts, DatabaseError> {
    let connection = connector.connect().await?;
    let asking = questions::ask(&connection.client, attached_roles);
    match connector.seams().clock.timeout(QUESTION_LIMIT, asking).await {
        Ok(facts) => facts,
        Err(_) => Err(DatabaseError {
            policy: Policy::Retry,
            aftermath: Aftermath::Broken,
            sqlstate: String::new(),
            message: format!("the server gave no answer within {} s", QUESTION_LIMIT.as_secs()),
            retryable: true,
            sql: None,
        }),
    }
}

fn subject(
    config: &AgentConfig,
    participant: &ParticipantConfig,
    file: &str,
) -> Result<Subject, ConfigProblem> {
    let connection = connection::read(participant)?;
    Ok(Subject {
        participant: participant.name.clone(),
        file: file.to_owned(),
        coordinators: config.coordinators.clone(),
        sessions: config.sessions,
        phase2_connections: participant.phase2_connections.unwrap_or(config.phase2_connections),
        max_branch_timeout_ms: config.max_branch_timeout_ms,
        address: connection::address(&connection),
        user: connection.get_user().unwrap_or_default().to_owned(),
        database: connection.get_dbname().unwrap_or_default().to_owned(),
    })
}
