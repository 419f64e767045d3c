//! A folder with a log, and the coordinators that live on it one after another.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use votum_coordinator::config::{AgentConfig, Config, LogSection};
use votum_coordinator::driver::request::{DriverHandle, Request, RequestError};
use votum_coordinator::log::{self, LogConfig, OnFailure};
use votum_coordinator::metrics::Counted;
use votum_coordinator::run::start_driver;
use votum_proto::address::Address;
use votum_proto::names::{CoordinatorId, ParticipantName};
use votum_proto::runtime::Seams;
use votum_proto::v1;

use super::agents::Agents;
use super::arguments::Alone;

/// How long a coordinator may take to close its log.
const CLOSING: Duration = Duration::from_secs(60);
/// How long it may take to count its log.
const COUNTING: Duration = Duration::from_secs(300);
/// The pause between two questions whether it is ready.
const PAUSE: Duration = Duration::from_millis(1);

/// A log on a disk, and the agents of its participants.
pub(crate) struct Place {
    folder: TempDir,
    id: CoordinatorId,
    pub(crate) participants: Vec<ParticipantName>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) seams: Seams,
}

/// A coordinator that runs.
pub(crate) struct Running {
    pub(crate) driver: DriverHandle,
    seams: Seams,
}

impl Place {
    /// A new, empty log.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn new(arguments: &Alone, participants: u32, seams: &Seams) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let folder = match &arguments.folder {
            Some(parent) => builder.prefix("votum-bench-").tempdir_in(parent),
            None => builder.prefix("votum-bench-").tempdir(),
        };
        let folder = folder.context("a folder for the log")?;
        let names = (1..=participants).map(|number| format!("bank_{number}").parse());
        let place = Self {
            folder,
            id: "bench".parse()?,
            participants: names.collect::<Result<_, _>>()?,
            agents: Agents::new(participants, arguments, seams),
            seams: seams.clone(),
        };
        log::initialize(&place.log(), &place.id, &*seams.entropy)?;
        Ok(place)
    }

    fn section(&self) -> LogSection {
        LogSection::new(self.folder.path().join("log"))
    }

    /// A log that fails ends the measurement, not the process.
    fn log(&self) -> LogConfig {
        LogConfig { on_failure: OnFailure::Latch, ..self.section().log_config() }
    }

    /// Starts a coordinator on it, with at most `max_undelivered` commits outstanding at a participant before
    /// whoever waits for decisions waits for them.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub(crate) async fn start(&self, max_undelivered: Option<usize>) -> anyhow::Result<Running> {
        let mut config = Config::embedded(self.id.clone(), self.section(), self.participants.iter().cloned());
        config.limits.max_undelivered = max_undelivered.unwrap_or(config.limits.max_undelivered);
        let counted = Counted::default();
        let log = LogConfig { forced_writes: counted.forced_writes.clone(), ..self.log() };
        let (id, seams) = (self.id.clone(), self.seams.clone());
        let opened = tokio::task::spawn_blocking(move || log::open(log, &id, seams)).await??;
        let agents = self.participants.iter().enumerate().map(|(number, participant)| {
            let agent = AgentConfig { address: Address::InProcess, participants: vec![participant.clone()] };
            (agent, self.agents.dialer(number))
        });
        let driver = start_driver(&config, opened, agents.collect(), counted, &self.seams);
        Ok(Running { driver, seams: self.seams.clone() })
    }

    /// How many mebibytes the log takes on its disk.
    pub(crate) fn disk_mebibytes(&self) -> f64 {
        bytes(self.folder.path()) as f64 / f64::from(1 << 20)
    }
}

fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(known) if known.is_dir() => bytes(&entry.path()),
        Ok(known) => known.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

impl Running {
    /// What the coordinator says of itself.
    ///
    /// # Errors
    /// When it has stopped.
    pub(crate) async fn status(&self) -> Result<v1::GetStatusResponse, RequestError> {
        self.driver.ask(Request::Status).await
    }

    /// What it has counted.
    ///
    /// # Errors
    /// When it has stopped.
    pub(crate) async fn counts(&self) -> Result<v1::Counts, RequestError> {
        Ok(self.status().await?.counts.unwrap_or_default())
    }

    /// Waits until `ready` holds of its status.
    ///
    /// # Errors
    /// When it does not come to that.
    pub(crate) async fn until(
        &self,
        what: &str,
        ready: impl Fn(&v1::GetStatusResponse) -> bool,
    ) -> anyhow::Result<()> {
        let wait = async {
            while !ready(&self.status().await?) {
                self.seams.clock.sleep(PAUSE).await;
            }
            anyhow::Ok(())
        };
        self.seams.clock.timeout(COUNTING, wait).await.with_context(|| format!("waiting until {what}"))?
    }

    /// Ends it, and waits until its log is closed.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let stopped = self.seams.clock.timeout(CLOSING, self.driver.drain(Duration::ZERO));
        stopped.await.context("the coordinator does not close its log")
    }
}
