//! A server whose commits wait for a standby that does not answer; and one that stands by itself.

use std::pin::pin;

use futures::future::{Either, select};

use super::{Server, install};
use crate::eventually::{Found, eventually};

/// A commit that is written, and nothing else.
const COMMIT: &str = "SELECT pg_logical_emit_message(true, 'probe', '')";

impl Server {
    /// Has every commit and PREPARE that begins after this wait for a standby that does not exist; or those that
    /// wait, and all others, go on.
    ///
    /// # Errors
    /// As the server answers; or when it goes on without.
    pub async fn require_standby(&self, required: bool) -> anyhow::Result<()> {
        if required {
            return self.commits_wait_for("nobody").await;
        }
        self.name_standby("").await
    }

    /// Goes on as a standby that hears from no server.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn stand_by(&self) -> anyhow::Result<()> {
        self.stop().await?;
        let mark = self.data().join("standby.signal");
        std::fs::write(&mark, "")?;
        // Whose it is does not matter to PostgreSQL, which removes it: that needs the folder alone. But it syncs it.
        if let Some(user) = install::server_user()? {
            std::os::unix::fs::chown(&mark, Some(user.uid), Some(user.gid))?;
        }
        self.restart().await
    }

    /// Has commits wait for the standby `name`, which does not answer now, and sees that they do.
    pub(super) async fn commits_wait_for(&self, name: &str) -> anyhow::Result<()> {
        self.name_standby(name).await?;
        let superuser = self.client("postgres").await?;
        // Commits wait as soon as the checkpointer has read it. What sessions show says nothing of that.
        let probe = self.client("postgres").await?;
        let pid: i32 = probe.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        let commits = pin!(async {
            loop {
                if let Err(error) = probe.batch_execute(COMMIT).await {
                    break error;
                }
            }
        });
        let waits = pin!(eventually("commits wait for a standby", async || {
            let event = "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = $1";
            let event: String = superuser.query_one(event, &[&pid]).await?.get(0);
            Ok(if event == "SyncRep" { Found::Yes(()) } else { Found::NotYet(event) })
        }));
        match select(commits, waits).await {
            Either::Left((error, _)) => return Err(error.into()),
            Either::Right((waits, _)) => waits?,
        }
        superuser.execute("SELECT pg_terminate_backend($1, 30000)", &[&pid]).await?;
        Ok(())
    }

    async fn name_standby(&self, name: &str) -> anyhow::Result<()> {
        let superuser = self.client("postgres").await?;
        let setting = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
        superuser.batch_execute(&setting).await?;
        superuser.batch_execute("SELECT pg_reload_conf()").await?;
        Ok(())
    }
}
