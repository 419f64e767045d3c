//! Where it was measured.

use std::fmt;

use serde::Serialize;

use crate::bank::{Bank, Banks};

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    /// Processes that ran or wanted to, on average over the minute before: the machine's other work.
    load_before: Option<f64>,
    servers: Vec<Server>,
}

#[derive(Debug, Serialize)]
struct Server {
    participant: String,
    version: String,
    fsync: String,
    synchronous_commit: String,
    wal_sync_method: String,
}

impl Machine {
    /// Asks the machine and every server.
    ///
    /// # Errors
    /// As a server answers.
    pub(crate) async fn look(banks: &Banks) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        for Bank { participant, client, .. } in banks.iter() {
            let settings = "SELECT current_setting('server_version'), current_setting('fsync'),
                current_setting('synchronous_commit'), current_setting('wal_sync_method')";
            let row = client.query_one(settings, &[]).await?;
            servers.push(Server {
                participant: participant.clone(),
                version: row.get(0),
                fsync: row.get(1),
                synchronous_commit: row.get(2),
                wal_sync_method: row.get(3),
            });
        }
        let load = std::fs::read_to_string("/proc/loadavg").ok();
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            load_before: load.and_then(|text| text.split(' ').next()?.parse().ok()),
            servers,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores for everything", self.cores)?;
        if let Some(load) = self.load_before {
            write!(f, ", load average before {load}")?;
        }
        for Server { participant, version, fsync, synchronous_commit, wal_sync_method } in &self.servers {
            write!(
                f,
                "\n{participant}: PostgreSQL {version}, fsync {fsync} ({wal_sync_method}), \
                 synchronous_commit {synchronous_commit}"
            )?;
        }
        Ok(())
    }
}
