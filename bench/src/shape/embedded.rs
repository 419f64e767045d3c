//! Coordinator, log and agents within the benchmark's own process: no server but the databases.

use anyhow::Context as _;
use async_trait::async_trait;
use tempfile::TempDir;
use votum_client::Votum;
use votum_client::embedded::Participant;

use super::hosted::Hosted;
use super::one_shot::InOneRequest;
use super::options;
use crate::arguments::Wait;
use crate::carrier::{Carrier, Setting, Way};

/// One of the other ways, through a coordinator of its own.
pub(crate) struct Embedded<W> {
    way: W,
    // Holds the log, for as long as the way is used.
    _directory: TempDir,
}

impl Embedded<Hosted> {
    /// Begin, a statement at every bank at once, Commit.
    ///
    /// # Errors
    /// When the coordinator cannot be opened.
    pub(crate) async fn hosted(setting: &Setting, wait: Wait) -> anyhow::Result<Self> {
        let (votum, directory) = open(setting, wait, "benchhosted").await?;
        Ok(Self { way: Hosted::over(votum, setting), _directory: directory })
    }
}

impl Embedded<InOneRequest> {
    /// The whole transaction at once.
    ///
    /// # Errors
    /// When the coordinator cannot be opened.
    pub(crate) async fn one_shot(setting: &Setting, wait: Wait) -> anyhow::Result<Self> {
        let (votum, directory) = open(setting, wait, "benchshot").await?;
        Ok(Self { way: InOneRequest::over(votum, setting), _directory: directory })
    }
}

async fn open(setting: &Setting, wait: Wait, id: &str) -> anyhow::Result<(Votum, TempDir)> {
    let directory = tempfile::tempdir().context("a folder for the log")?;
    let participant = |bank: &crate::installation::BankAddress| {
        Ok(Participant::new(bank.participant.parse()?, bank.connection.clone()))
    };
    let participants = setting.banks.iter().map(participant).collect::<anyhow::Result<Vec<_>>>()?;
    let votum = Votum::embedded(directory.path().join("log"), participants)
        .coordinator_id(match wait {
            Wait::Decided => format!("{id}d"),
            Wait::Completed => format!("{id}c"),
        })
        .initialize_if_empty()
        .options(options(setting, wait))
        .open()
        .await?;
    Ok((votum, directory))
}

#[async_trait]
impl<W: Way> Way for Embedded<W> {
    async fn carrier(&self, worker: u32) -> anyhow::Result<Box<dyn Carrier>> {
        self.way.carrier(worker).await
    }
}
