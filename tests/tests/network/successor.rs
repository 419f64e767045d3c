//! A second coordinator, from a copy of a running one's log: what takes over while the first stands still.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use votum_tests::eventually::{Found, eventually};
use votum_tests::process::{Build, Process, program};
use votum_tests::world::World;

/// A coordinator on a copy of the world's log.
pub struct Second {
    process: Process,
    log: PathBuf,
    /// How long its output was when it began: one of an earlier case may have written the same file.
    begins: usize,
}

impl Second {
    /// Copies the log as it stands now, and starts a coordinator on the copy.
    pub fn start(world: &World) -> anyhow::Result<Self> {
        let log = world.dir().join("copied");
        copy(world.log_directory(), &log)?;
        let socket = world.dir().join("second.sock");
        let config = std::fs::read_to_string(world.config_file())?
            .replace(&world.address().to_string(), &format!("unix:{}", socket.display()))
            .replace(&world.log_directory().display().to_string(), &log.display().to_string());
        let file = world.dir().join("second.toml");
        std::fs::write(&file, config)?;
        let arguments = ["--config", &file.display().to_string()];
        let output = world.dir().join("second.log");
        let process =
            Process::new("second", program(Build::CrashPoints, "votum-coordinator")?, &arguments, output);
        let begins = std::fs::read(process.log()).map_or(0, |earlier| earlier.len());
        process.start(None)?;
        Ok(Self { process, log, begins })
    }

    /// Waits until every agent has accepted it.
    pub async fn until_accepted(&self, world: &World) -> anyhow::Result<()> {
        let banks = world.banks.len();
        eventually("the successor is accepted by every agent", async || {
            let output = std::fs::read_to_string(self.process.log())?;
            let output = output.get(self.begins..).unwrap_or_default();
            let connected = output.matches("connected to the agent").count();
            let not = output.matches("not connected to the agent").count();
            Ok(if connected - not >= banks { Found::Yes(()) } else { Found::NotYet(self.process.log_tail()) })
        })
        .await
    }

    /// Ends both, and lets the world's coordinator go on with the successor's log.
    pub fn hand_over(self, world: &World) -> anyhow::Result<()> {
        world.coordinator.kill9()?;
        self.process.kill9()?;
        std::fs::remove_dir_all(world.log_directory())?;
        std::fs::rename(&self.log, world.log_directory())?;
        world.coordinator.start(None)
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "the log cannot be copied");
    Ok(())
}
