//! The agent's configuration.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use votum_proto::address::Address;
use votum_proto::names::{CoordinatorId, ParticipantName};
use votum_proto::service::config::{Check, ConfigErrors, load};
use votum_proto::service::logging::Logging;
use votum_proto::service::metrics::MetricsSection;

use crate::postgres;

/// What is wrong with the configuration, as a sentence with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigProblem(pub String);

/// The configuration of one agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentConfig {
    /// Where clients and coordinators reach it.
    pub listen: Address,
    /// Listens in clear text beyond this machine. Nothing that it serves is encrypted or authenticated but by
    /// the transactions' secrets.
    #[serde(default)]
    pub insecure: bool,
    /// The coordinators that it serves; empty: any.
    #[serde(default)]
    pub coordinators: Vec<CoordinatorId>,
    /// How many branches may be open at once at each participant. Each is a connection of its own.
    #[serde(default = "default_sessions")]
    pub sessions: usize,
    /// How many of them whole transactions may use at once, each for one trip to the database. More would only wait for
    /// each other there.
    #[serde(default = "default_work_sessions")]
    pub work_sessions: usize,
    /// How long a branch waits for a free session before it is turned away, in milliseconds.
    #[serde(default = "default_session_queue_ms")]
    pub session_queue_ms: u64,
    /// Connections to each participant that carry out decisions. Sessions never use them.
    #[serde(default = "default_phase2_connections")]
    pub phase2_connections: usize,
    /// How often each participant's prepared transactions are listed to the coordinator, in milliseconds.
    #[serde(default = "default_sweep_ms")]
    pub sweep_ms: u64,
    /// The longest that a branch may live before it is prepared, in milliseconds.
    #[serde(default = "default_max_branch_timeout_ms")]
    pub max_branch_timeout_ms: u64,
    /// The most of a reply that is kept for a client that asks again, in bytes.
    #[serde(default = "default_stored_reply_bytes")]
    pub stored_reply_bytes: usize,
    /// How long open branches may go on once the agent was told to stop, in milliseconds.
    #[serde(default = "default_drain_ms")]
    pub drain_ms: u64,
    /// The databases that it serves.
    #[serde(default)]
    pub participants: Vec<ParticipantConfig>,
    /// What is logged, and how.
    #[serde(default)]
    pub logging: Logging,
    /// Metrics over HTTP.
    #[serde(default)]
    pub metrics: MetricsSection,
}

/// One database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ParticipantConfig {
    /// By which name coordinators and clients know it.
    pub name: ParticipantName,
    /// As libpq takes it: `host=… port=… user=… dbname=…`, or `postgresql://user@host:port/dbname`. Without
    /// the password.
    pub connection: String,
    /// The file whose content is the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The environment variable whose content is the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// Encryption of the connections.
    #[serde(default)]
    pub tls: Tls,
    /// The certificates of the authority that signed the server's, in PEM; without it, the system's.
    #[serde(default)]
    pub tls_ca_file: Option<PathBuf>,
    /// Roles that prepare transactions on connections of their own.
    #[serde(default)]
    pub attached_roles: Vec<String>,
    /// As `AgentConfig::phase2_connections`, which it takes over unless it is set here.
    #[serde(default)]
    pub phase2_connections: Option<usize>,
}

/// Encryption of the connections to a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// None.
    #[default]
    Disable,
    /// Encrypted; the server's name is not checked.
    Require,
    /// Encrypted, and the server's certificate and name are checked.
    VerifyFull,
}

fn default_sessions() -> usize {
    32
}
fn default_work_sessions() -> usize {
    8
}
fn default_session_queue_ms() -> u64 {
    5_000
}
fn default_phase2_connections() -> usize {
    4
}
fn default_sweep_ms() -> u64 {
    5_000
}
fn default_max_branch_timeout_ms() -> u64 {
    600_000
}
fn default_drain_ms() -> u64 {
    5_000
}
fn default_stored_reply_bytes() -> usize {
    256 * 1024
}

/// Variables `VOTUM_PARTICIPANT__KEY` and `VOTUM_PARTICIPANT__SECTION__KEY` override the file.
const ENV_PREFIX: &str = "VOTUM_PARTICIPANT";

impl AgentConfig {
    /// Reads `file` and what the environment lays over it.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        load(file, ENV_PREFIX)
    }

    /// A configuration with every default, listening nowhere in particular: for an agent that lives in
    /// another process.
    pub fn embedded(participants: Vec<ParticipantConfig>) -> Self {
        Self {
            listen: Address::Tcp("127.0.0.1:0".into()),
            insecure: false,
            coordinators: Vec::new(),
            sessions: default_sessions(),
            work_sessions: default_work_sessions(),
            session_queue_ms: default_session_queue_ms(),
            phase2_connections: default_phase2_connections(),
            sweep_ms: default_sweep_ms(),
            max_branch_timeout_ms: default_max_branch_timeout_ms(),
            stored_reply_bytes: default_stored_reply_bytes(),
            drain_ms: default_drain_ms(),
            participants,
            logging: Logging::default(),
            metrics: MetricsSection::default(),
        }
    }

    /// How long a branch waits for a session.
    pub(crate) fn session_queue(&self) -> Duration {
        Duration::from_millis(self.session_queue_ms)
    }

    /// The pause between two sweeps, before jitter.
    pub(crate) fn sweep(&self) -> Duration {
        Duration::from_millis(self.sweep_ms)
    }

    /// The longest life of an unprepared branch.
    pub(crate) fn max_branch_timeout(&self) -> Duration {
        Duration::from_millis(self.max_branch_timeout_ms)
    }

    /// The participants, with what they take over from the agent filled in.
    pub fn resolved_participants(&self) -> Vec<ParticipantConfig> {
        let fill = |participant: &ParticipantConfig| ParticipantConfig {
            phase2_connections: participant.phase2_connections.or(Some(self.phase2_connections)),
            ..participant.clone()
        };
        self.participants.iter().map(fill).collect()
    }
}

impl Check for AgentConfig {
    fn problems(&self) -> Vec<String> {
        let mut problems = self.logging.problems();
        if !self.listen.is_local() && !self.insecure {
            problems.push(format!(
                "listen = \"{}\" can be reached from other machines, and nothing there is encrypted yet: listen \
                 on 127.0.0.1 or on unix:/PATH, or write insecure = true",
                self.listen
            ));
        }
        problems.extend(self.metrics.problems(&self.listen));
        if self.participants.is_empty() {
            problems.push("participants is empty: add a [[participants]] with name and connection".into());
        }
        let numbers = [
            ("sessions", self.sessions as u64),
            ("work_sessions", self.work_sessions as u64),
            ("phase2_connections", self.phase2_connections as u64),
            ("sweep_ms", self.sweep_ms),
            ("max_branch_timeout_ms", self.max_branch_timeout_ms),
        ];
        problems.extend(
            numbers
                .iter()
                .filter(|(_, number)| *number == 0)
                .map(|(key, _)| format!("{key} is 0: it must be at least 1")),
        );
        let mut names = BTreeSet::new();
        for participant in &self.participants {
            if !names.insert(&participant.name) {
                problems.push(format!("two participants are named {}: names are unique", participant.name));
            }
            problems.extend(
                participant
                    .problems()
                    .into_iter()
                    .map(|problem| format!("participant {}: {problem}", participant.name)),
            );
        }
        problems
    }
}

impl ParticipantConfig {
    /// One that is reached by `connection`, with every default.
    pub fn new(name: ParticipantName, connection: impl Into<String>) -> Self {
        Self {
            name,
            connection: connection.into(),
            password_file: None,
            password_env: None,
            tls: Tls::Disable,
            tls_ca_file: None,
            attached_roles: Vec::new(),
            phase2_connections: None,
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(postgres::connection::problems(self));
        if self.password_file.is_some() && self.password_env.is_some() {
            problems.push("both password_file and password_env are given: keep one".into());
        }
        if let Some(file) = self.password_file.as_ref().filter(|file| !file.is_file()) {
            problems.push(format!("password_file {} is not a file", file.display()));
        }
        if let Some(variable) =
            self.password_env.as_ref().filter(|variable| std::env::var_os(variable).is_none())
        {
            problems.push(format!("password_env names {variable}, which is not set in the environment"));
        }
        if self.tls_ca_file.is_some() && self.tls != Tls::VerifyFull {
            problems.push("tls_ca_file is only used with tls = \"verify-full\"".into());
        }
        if self.phase2_connections == Some(0) {
            problems.push("phase2_connections is 0: it must be at least 1".into());
        }
        problems
    }
}
