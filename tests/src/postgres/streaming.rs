//! A standby that streams from its server, and what may become of the two.

use std::process::Stdio;

use anyhow::{Context as _, ensure};

use super::Options;
use super::server::Server;
use crate::eventually::{Found, eventually};
use crate::guard;

/// The name by which a standby is known to its server.
const NAME: &str = "standby";

impl Server {
    /// Makes a standby of this server, with a data directory of its own, and waits until it streams.
    ///
    /// # Errors
    /// When `pg_basebackup` fails, with what it said; or when the standby does not come up.
    pub async fn standby(&self) -> anyhow::Result<Self> {
        let standby = Self::blank(0, self.options().clone())?;
        let mut backup = standby.command("pg_basebackup")?;
        let primary = format!(
            "host={} port={} user=postgres application_name={NAME}",
            self.dir().display(),
            self.port()
        );
        backup.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--write-recovery-conf"]);
        backup.arg("--dbname").arg(primary).arg("--pgdata").arg(standby.data());
        let mut backup = tokio::process::Command::from(backup);
        backup.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let backup = backup.spawn().context("running pg_basebackup")?;
        // Left alone, it would put back what the guard removes.
        let watch = backup.id().map(guard::group).transpose()?;
        let output = backup.wait_with_output().await.context("running pg_basebackup")?;
        drop(watch);
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pg_basebackup ended with {}: {said}", output.status);
        standby.restart().await?;
        self.until_streaming("state", "streaming").await?;
        Ok(standby)
    }

    /// Makes a server of another database system that listens where a server did that is gone.
    ///
    /// # Errors
    /// When it does not come up there.
    pub async fn another_in_place_of(gone: &Self) -> anyhow::Result<Self> {
        ensure!(!gone.is_running(), "the server on port {} still runs", gone.port());
        let other = Self::start_at(gone.port(), Options::default()).await?;
        ensure!(other.port() == gone.port(), "port {} was taken by somebody else", gone.port());
        Ok(other)
    }

    /// From here on a commit or PREPARE at this server waits until `standby`, which streams from it, has it on
    /// disk.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn wait_for(&self, standby: &Self) -> anyhow::Result<()> {
        // Whether commits wait shows while the standby does not answer.
        standby.freeze()?;
        let waiting = self.commits_wait_for(NAME).await;
        standby.thaw()?;
        waiting?;
        self.until_streaming("sync_state", "sync").await
    }

    /// Waits until `standby` has replayed everything that is on this server's disk now.
    ///
    /// # Errors
    /// When it does not.
    pub async fn until_replayed_by(&self, standby: &Self) -> anyhow::Result<()> {
        let flushed = "SELECT pg_current_wal_flush_lsn()::text";
        let flushed: String = self.client("postgres").await?.query_one(flushed, &[]).await?.get(0);
        let client = standby.client("postgres").await?;
        eventually(&format!("the standby has replayed {flushed}"), async || {
            let replayed =
                "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn, pg_last_wal_replay_lsn()::text";
            let row = client.query_one(replayed, &[&flushed]).await?;
            Ok(if row.get(0) { Found::Yes(()) } else { Found::NotYet(row.get(1)) })
        })
        .await
    }

    /// `standby` hears no more from this server, and goes on as a standby.
    ///
    /// # Errors
    /// When the connection between the two goes on.
    pub async fn cut_off(&self, standby: &Self) -> anyhow::Result<()> {
        let client = standby.client("postgres").await?;
        client.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await?;
        client.batch_execute("SELECT pg_reload_conf()").await?;
        let server = self.client("postgres").await?;
        eventually("neither server knows of the other", async || {
            let senders: i64 =
                server.query_one("SELECT count(*) FROM pg_stat_replication", &[]).await?.get(0);
            let receivers: i64 =
                client.query_one("SELECT count(*) FROM pg_stat_wal_receiver", &[]).await?.get(0);
            let both = format!("{senders} send, {receivers} receive");
            Ok(if senders + receivers == 0 { Found::Yes(()) } else { Found::NotYet(both) })
        })
        .await
    }

    /// This standby becomes a server of its own, on the next timeline.
    ///
    /// # Errors
    /// When it does not.
    pub async fn promote(&self) -> anyhow::Result<()> {
        let client = self.client("postgres").await?;
        client.execute("SELECT pg_promote(wait => true)", &[]).await.context("promoting the standby")?;
        eventually("the standby has taken over", async || {
            let standby: bool = client.query_one("SELECT pg_is_in_recovery()", &[]).await?.get(0);
            Ok(if standby { Found::NotYet("it is a standby".to_owned()) } else { Found::Yes(()) })
        })
        .await
    }

    /// Dies, and takes its own place on another timeline: a standby that has everything, to whoever looks.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn change_timeline(&self) -> anyhow::Result<()> {
        self.stop_immediate().await?;
        std::fs::write(self.data().join("standby.signal"), "")?;
        self.restart().await?;
        self.promote().await
    }

    /// Waits until what this server shows of its one standby under `column` is `wanted`.
    async fn until_streaming(&self, column: &str, wanted: &str) -> anyhow::Result<()> {
        let client = self.client("postgres").await?;
        let query = format!("SELECT {column} FROM pg_stat_replication WHERE application_name = '{NAME}'");
        eventually(&format!("{column} of the standby is {wanted}"), async || {
            let row = client.query_opt(&query, &[]).await?;
            let found: Option<String> = row.and_then(|row| row.get(0));
            Ok(match found {
                Some(found) if found == wanted => Found::Yes(()),
                found => Found::NotYet(format!("{found:?}")),
            })
        })
        .await
    }
}
