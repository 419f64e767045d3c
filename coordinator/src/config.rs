//! The coordinator's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use votum_proto::address::Address;
use votum_proto::names::{CoordinatorId, ParticipantName};
use votum_proto::service::config::{Check, ConfigErrors, load};
use votum_proto::service::logging::Logging;
use votum_proto::service::metrics::MetricsSection;

use crate::log::config::{LogConfig, MIN_HALF, OnFailure};

/// Variables `VOTUM_COORDINATOR__KEY` and `VOTUM_COORDINATOR__SECTION__KEY` override the file.
pub const ENV_PREFIX: &str = "VOTUM_COORDINATOR";

/// All of a coordinator's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Names the coordinator and its log for ever.
    pub coordinator_id: CoordinatorId,
    /// Where clients and operators reach it. Port 0 takes any free port.
    pub listen: Address,
    /// Allows `listen` to be reachable from other machines although nothing on the wire is encrypted or
    /// authenticated.
    #[serde(default)]
    pub insecure: bool,
    /// The decision log.
    pub log: LogSection,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// The databases, and where their agents listen.
    #[serde(default)]
    pub participants: Vec<ParticipantConfig>,
    /// Log lines.
    #[serde(default)]
    pub logging: Logging,
    /// Metrics over HTTP.
    #[serde(default)]
    pub metrics: MetricsSection,
}

/// Section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSection {
    /// Where the log lives; relative to the configuration's file.
    pub directory: PathBuf,
    /// The size of each of the journal's two halves, in bytes.
    #[serde(default = "defaults::half_bytes")]
    pub half_bytes: u64,
    /// How long an ended transaction is remembered, in hours of running time.
    #[serde(default = "defaults::retention_hours")]
    pub retention_hours: u64,
    /// The most that history may take on disk, in bytes: past it, retention is shorter than
    /// `retention_hours`.
    #[serde(default = "defaults::retention_bytes")]
    pub retention_bytes: u64,
    /// How many gtids are reserved by one forced write.
    #[serde(default = "defaults::lease")]
    pub lease: u64,
    /// How long one write or sync may take, in milliseconds, before the process gives up on the disk.
    #[serde(default = "defaults::watchdog_ms")]
    pub watchdog_ms: u64,
    /// The store's cache, in bytes.
    #[serde(default = "defaults::cache_bytes")]
    pub cache_bytes: u64,
}

/// Section `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The most transactions that may be live at once.
    pub max_transactions: usize,
    /// The timeout of a transaction whose client names none, in milliseconds.
    pub default_timeout_ms: u64,
    /// The longest timeout that a transaction gets, in milliseconds. A client that asks for more gets this.
    pub max_timeout_ms: u64,
    /// How long a Commit with wait COMPLETED waits for the last acknowledgement once the decision stands, in
    /// milliseconds.
    pub completed_wait_ms: u64,
    /// A Commit that waits for the decision alone waits for its acknowledgements, too, while a participant of it has
    /// more commits than this to acknowledge.
    pub max_undelivered: usize,
    /// A whole transaction that would, by the present pace, wait longer than this for a participant is refused, in
    /// milliseconds.
    pub max_wait_ms: u64,
    /// So many branches of whole transactions are worked on at one participant at once; those beyond wait in the
    /// coordinator.
    pub work_in_flight: usize,
    /// How long undecided transactions may go on when the coordinator is told to stop, in milliseconds.
    pub drain_ms: u64,
}

/// One `[[participants]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantConfig {
    /// The participant's name, as clients and its agent call it.
    pub name: ParticipantName,
    /// Where its agent listens. Several participants may share an agent.
    pub agent: Address,
}

/// One agent: one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Where it listens.
    pub address: Address,
    /// The participants behind it, in the configuration's order.
    pub participants: Vec<ParticipantName>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_transactions: 100_000,
            default_timeout_ms: 30_000,
            max_timeout_ms: 3_600_000,
            completed_wait_ms: 10_000,
            max_undelivered: 64,
            max_wait_ms: 2_000,
            work_in_flight: 64,
            drain_ms: 10_000,
        }
    }
}

impl Limits {
    /// The timeout that a transaction gets whose client asks for `asked_ms`; 0 asks for the default.
    pub fn timeout(&self, asked_ms: u64) -> Duration {
        let ms = if asked_ms == 0 { self.default_timeout_ms } else { asked_ms };
        Duration::from_millis(ms.min(self.max_timeout_ms))
    }
}

/// What the log itself takes when the configuration does not say.
mod defaults {
    use super::{LogConfig, in_ms};

    fn log() -> LogConfig {
        LogConfig::new("")
    }
    pub(super) fn half_bytes() -> u64 {
        log().half_bytes
    }
    pub(super) fn retention_hours() -> u64 {
        log().retention.as_secs() / 3600
    }
    pub(super) fn retention_bytes() -> u64 {
        log().retention_bytes
    }
    pub(super) fn lease() -> u64 {
        log().lease
    }
    pub(super) fn watchdog_ms() -> u64 {
        in_ms(log().watchdog)
    }
    pub(super) fn cache_bytes() -> u64 {
        log().cache_bytes
    }
}

/// A duration in whole milliseconds, as configuration and wire write it.
pub(crate) fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl LogSection {
    /// The defaults, in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            half_bytes: defaults::half_bytes(),
            retention_hours: defaults::retention_hours(),
            retention_bytes: defaults::retention_bytes(),
            lease: defaults::lease(),
            watchdog_ms: defaults::watchdog_ms(),
            cache_bytes: defaults::cache_bytes(),
        }
    }

    /// The section in the log's own terms. A write that fails or hangs ends the process: a restart reads the
    /// disk, and knows.
    pub fn log_config(&self) -> LogConfig {
        LogConfig {
            half_bytes: self.half_bytes,
            retention: Duration::from_secs(self.retention_hours.saturating_mul(3600)),
            retention_bytes: self.retention_bytes,
            lease: self.lease,
            watchdog: Duration::from_millis(self.watchdog_ms),
            cache_bytes: self.cache_bytes,
            on_failure: OnFailure::ExitProcess,
            ..LogConfig::new(&self.directory)
        }
    }
}

impl Config {
    /// A configuration with every default, listening nowhere in particular: for a coordinator that lives in
    /// another process, with the agents of these participants.
    pub fn embedded(
        coordinator_id: CoordinatorId,
        log: LogSection,
        participants: impl IntoIterator<Item = ParticipantName>,
    ) -> Self {
        let here = |name| ParticipantConfig { name, agent: Address::InProcess };
        Self {
            coordinator_id,
            listen: Address::Tcp("127.0.0.1:0".into()),
            insecure: false,
            log,
            limits: Limits::default(),
            participants: participants.into_iter().map(here).collect(),
            logging: Logging::default(),
            metrics: MetricsSection::default(),
        }
    }

    /// How far back the log has to remember, in running time, for everybody who asks again what became of a
    /// transaction: an hour, or twice the longest timeout. Retention that is configured shorter is what was
    /// asked for.
    pub fn least_reach(&self) -> Duration {
        const HOUR: Duration = Duration::from_secs(3_600);
        let longest = Duration::from_millis(self.limits.max_timeout_ms);
        let retention = Duration::from_secs(self.log.retention_hours.saturating_mul(3_600));
        HOUR.max(longest.saturating_mul(2)).min(retention)
    }

    /// Reads `file` and what the environment lays over it.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        let mut config: Self = load(file, ENV_PREFIX)?;
        let beside = file.parent().unwrap_or(Path::new(""));
        config.log.directory = beside.join(&config.log.directory);
        Ok(config)
    }

    /// The agents, in the order in which the configuration first names them; an agent's place in this list
    /// is its [`AgentIndex`](crate::transport::AgentIndex).
    pub fn agents(&self) -> Vec<AgentConfig> {
        let mut agents: Vec<AgentConfig> = Vec::new();
        let mut places: BTreeMap<&Address, usize> = BTreeMap::new();
        for ParticipantConfig { name, agent } in &self.participants {
            let place = *places.entry(agent).or_insert(agents.len());
            match agents.get_mut(place) {
                Some(known) => known.participants.push(name.clone()),
                None => agents.push(AgentConfig { address: agent.clone(), participants: vec![name.clone()] }),
            }
        }
        agents
    }
}

impl Check for Config {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.listen.is_local() && !self.insecure {
            problems.push(format!(
                "listen = \"{}\" can be reached from other machines (or its host name does not resolve), and \
                 nothing on the wire is encrypted: listen on 127.0.0.1 or a Unix socket, or write insecure = \
                 true",
                self.listen
            ));
        }
        if self.participants.is_empty() {
            problems.push(
                "there are no participants: add a [[participants]] table with name and agent for each \
                 database"
                    .into(),
            );
        }
        let mut names = BTreeSet::new();
        for participant in &self.participants {
            if !names.insert(&participant.name) {
                problems.push(format!(
                    "participant {} is configured twice: a name stands for one database",
                    participant.name
                ));
            }
            if participant.agent == self.listen {
                problems.push(format!(
                    "the agent of participant {} has the coordinator's own address {}: one of the two is \
                     wrong",
                    participant.name, self.listen
                ));
            }
        }
        problems.extend(self.log.problems());
        problems.extend(self.limits.problems());
        problems.extend(self.logging.problems());
        problems.extend(self.metrics.problems(&self.listen));
        problems
    }
}

/// A number's key, value, and the bounds it must keep.
struct Bound<'a> {
    key: &'a str,
    value: u64,
    least: u64,
    most: u64,
}

fn out_of_bounds<'a>(bounds: impl IntoIterator<Item = Bound<'a>>) -> Vec<String> {
    let wrong = bounds.into_iter().filter(|bound| !(bound.least..=bound.most).contains(&bound.value));
    wrong
        .map(|Bound { key, value, least, most }| {
            format!("{key} = {value} is out of bounds: write a number from {least} to {most}")
        })
        .collect()
}

impl LogSection {
    /// Everything that is wrong in it, each a sentence with the key and the remedy.
    pub fn problems(&self) -> Vec<String> {
        let bound = |key, value, least, most| Bound { key, value, least, most };
        let mut problems = out_of_bounds([
            bound("log.half_bytes", self.half_bytes, MIN_HALF, 4 << 30),
            bound("log.retention_hours", self.retention_hours, 1, 10 * 366 * 24),
            bound("log.retention_bytes", self.retention_bytes, 1 << 20, 1 << 50),
            bound("log.lease", self.lease, 1, 1 << 32),
            bound("log.watchdog_ms", self.watchdog_ms, 1_000, 600_000),
            bound("log.cache_bytes", self.cache_bytes, 1 << 20, 1 << 40),
        ]);
        if self.directory.as_os_str().is_empty() {
            problems.push("log.directory is empty: name the directory that holds the log".into());
        }
        problems
    }
}

impl Limits {
    /// Everything that is wrong in it, each a sentence with the key and the remedy.
    pub fn problems(&self) -> Vec<String> {
        /// A day: more is not a bound but a forgotten transaction that keeps its locks.
        const DAY_MS: u64 = 24 * 3_600_000;
        let bound = |key, value, least, most| Bound { key, value, least, most };
        let live = u64::try_from(self.max_transactions).unwrap_or(u64::MAX);
        let mut problems = out_of_bounds([
            bound("limits.max_transactions", live, 1, 10_000_000),
            bound("limits.default_timeout_ms", self.default_timeout_ms, 1, DAY_MS),
            bound("limits.max_timeout_ms", self.max_timeout_ms, 1, DAY_MS),
            bound("limits.completed_wait_ms", self.completed_wait_ms, 0, 600_000),
            bound(
                "limits.max_undelivered",
                u64::try_from(self.max_undelivered).unwrap_or(u64::MAX),
                0,
                1_000_000,
            ),
            bound("limits.max_wait_ms", self.max_wait_ms, 1, DAY_MS),
            bound(
                "limits.work_in_flight",
                u64::try_from(self.work_in_flight).unwrap_or(u64::MAX),
                1,
                1_000_000,
            ),
            bound("limits.drain_ms", self.drain_ms, 0, 600_000),
        ]);
        if self.default_timeout_ms > self.max_timeout_ms {
            problems.push(format!(
                "limits.default_timeout_ms = {} is above limits.max_timeout_ms = {}: lower the one or raise \
                 the other",
                self.default_timeout_ms, self.max_timeout_ms
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
