//! A server's place taken by another one: what a standby does when it is promoted.
//!
//! Standby and server are told apart by their data alone. What takes over listens where the server did, has its
//! system identifier, and is on the next timeline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};

use super::install;
use super::server::Server;
use crate::eventually::{Found, eventually};

/// What a standby had received when it was cut off from its server.
#[derive(Debug)]
pub struct Received {
    data: PathBuf,
}

impl Server {
    /// Copies what the server holds at this moment, as a standby would that hears no more from here on.
    ///
    /// # Errors
    /// When `pg_basebackup` fails; with what it said.
    pub async fn received_until_now(&self) -> anyhow::Result<Received> {
        let data = self.dir().join("received");
        let mut copy = tokio::process::Command::new(install::bin_dir()?.join("pg_basebackup"));
        copy.arg("--host").arg(self.dir()).arg("--port").arg(self.port().to_string());
        copy.args(["--username=postgres", "--checkpoint=fast", "--wal-method=stream", "--no-sync"]);
        copy.arg("--pgdata").arg(&data).current_dir(self.dir()).stdin(Stdio::null()).kill_on_drop(true);
        if let Some(user) = install::server_user()? {
            copy.uid(user.uid).gid(user.gid);
        }
        let output = copy.output().await.context("running pg_basebackup")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pg_basebackup ended with {}: {said}", output.status);
        Ok(Received { data })
    }

    /// The server dies, and its standby is promoted: with what it had `received`, or, where that is not said, with
    /// everything, as a synchronous standby.
    ///
    /// # Errors
    /// When the standby does not come up.
    pub async fn fail_over(&self, received: Option<Received>) -> anyhow::Result<()> {
        self.stop_immediate().await?;
        let data = self.dir().join("data");
        if let Some(received) = received {
            fs::rename(&data, self.dir().join("lost"))?;
            fs::rename(received.data, &data)?;
        }
        mark_as_standby(&data)?;
        self.restart().await?;
        let promoted = "SELECT pg_promote(wait => true)";
        self.client("postgres").await?.execute(promoted, &[]).await.context("promoting the standby")?;
        eventually("the standby has taken over", async || {
            let standby = "SELECT pg_is_in_recovery()";
            let standby: bool = self.client("postgres").await?.query_one(standby, &[]).await?.get(0);
            Ok(if standby { Found::NotYet("it is a standby".to_owned()) } else { Found::Yes(()) })
        })
        .await
    }
}

impl Server {
    /// It goes on as a standby that hears from no server.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn stand_by(&self) -> anyhow::Result<()> {
        self.stop().await?;
        mark_as_standby(&self.dir().join("data"))?;
        self.restart().await
    }
}

fn mark_as_standby(data: &Path) -> anyhow::Result<()> {
    let mark = data.join("standby.signal");
    fs::write(&mark, "")?;
    // Whose it is does not matter to PostgreSQL, which removes it: that needs the folder alone. But it syncs it.
    if let Some(user) = install::server_user()? {
        std::os::unix::fs::chown(&mark, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}
