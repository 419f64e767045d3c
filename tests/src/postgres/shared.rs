//! Servers that the tests of one binary share, each test in databases of its own.
//!
//! For tests that do not stop, crash or exhaust a server. `pg_prepared_xacts` shows the whole server: look
//! at the rows of your own database only. The servers end with the test binary.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OnceCell;

use super::{Options, Server};

/// As many as a transaction in a test has participants on different servers.
const SLOTS: usize = 3;

/// The server of one slot; slots are taken modulo their number. Different slots are different servers.
///
/// # Errors
/// When it does not start.
pub async fn shared(slot: usize) -> anyhow::Result<Arc<Server>> {
    static SERVERS: [OnceCell<Arc<Server>>; SLOTS] = [const { OnceCell::const_new() }; SLOTS];
    let mut cells = SERVERS.iter().cycle().skip(slot % SLOTS);
    let Some(cell) = cells.next() else { anyhow::bail!("there are no shared servers") };
    cell.get_or_try_init(async || Ok(Arc::new(Server::start(Options::default()).await?))).await.cloned()
}

/// Creates a database that no other test of this binary uses, and names it.
///
/// # Errors
/// As the server answers.
pub async fn fresh_database(server: &Server) -> anyhow::Result<String> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let name = format!("t_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    server.create_database(&name).await?;
    Ok(name)
}
