//! A branch that is committed in one phase, and the tombstone that settles how one ended.

use std::sync::Arc;
use std::time::Duration;

use super::commands::interrupted;
use super::connection::{Host, SqlError};
use super::server::{Change, Holder, Server, Wal};

/// How long a tombstone waits for whoever has inserted the marker.
const WAITS: Duration = Duration::from_secs(2);

/// Inserts the marker of a transaction that has written; its id. `None` where it is to be prepared.
///
/// # Errors
/// As PostgreSQL has it; the transaction is rolled back then.
pub(super) fn ready(host: &Host, pid: i32, gid: &str, unlucky: bool) -> Result<Option<u64>, SqlError> {
    let mut server = host.server();
    let Some(open) = server.backends.get(&pid).and_then(|backend| backend.open.clone()) else {
        return Ok(None);
    };
    let Some(xid) = open.xid.filter(|_| server.markers && !open.failed) else { return Ok(None) };
    let taken = server.state.unique_keys();
    let duplicate = |change: &Change| change.unique.as_deref().is_some_and(|key| taken.contains(key));
    let refused = if unlucky {
        Some(("40001", "could not serialize access due to read/write dependencies among transactions"))
    } else if open.changes.iter().any(duplicate) || server.state.markers.contains_key(gid) {
        Some(("23505", "duplicate key value violates unique constraint"))
    } else {
        None
    };
    if let Some((sqlstate, message)) = refused {
        server.abort(pid);
        drop(server);
        host.stir();
        return Err(SqlError::new(sqlstate, message));
    }
    if let Some(open) = server.backends.get_mut(&pid).and_then(|backend| backend.open.as_mut()) {
        open.marked = Some(gid.to_owned());
    }
    Ok(Some(xid))
}

/// Commits what is ready; true where its wait for the standby was cancelled.
///
/// # Errors
/// As PostgreSQL has it; the transaction is rolled back then.
pub(super) async fn commit(host: Arc<Host>, pid: i32) -> Result<bool, SqlError> {
    host.work().await;
    let begun = match interrupted(&host, pid) {
        Ok(()) => write(&mut host.server(), pid),
        Err(error) => {
            host.server().abort(pid);
            Err(error)
        }
    };
    host.stir();
    let number = begun?;
    host.work().await;
    if host.manners.synchronous {
        // On disk; nobody sees it before the standby has it.
        host.server().flush(number);
        host.work().await;
    }
    let cancelled = {
        let mut server = host.server();
        server.flush(number);
        server.carry_out(number);
        server.unlock(&Holder::Session(pid));
        server.backends.get_mut(&pid).is_some_and(|backend| {
            backend.open = None;
            std::mem::take(&mut backend.cancelled)
        })
    };
    host.note(|| format!("server process {pid} committed in one phase"));
    host.stir();
    Ok(host.manners.synchronous && cancelled)
}

fn write(server: &mut Server, pid: i32) -> Result<usize, SqlError> {
    let open = server.backends.get(&pid).and_then(|backend| backend.open.clone());
    let ready = open.and_then(|open| Some((open.xid?, open.marked?, open.changes)));
    let Some((xid, gid, changes)) = ready else {
        return Err(SqlError::new("25P01", "there is no transaction in progress"));
    };
    if let Some(backend) = server.backends.get_mut(&pid) {
        backend.critical = true;
    }
    Ok(server.write(Wal::OnePhase(xid, gid, changes)))
}

/// Inserts a tombstone, or reads the marker that is there: whether the branch committed.
///
/// # Errors
/// As PostgreSQL has it.
pub(super) async fn settle(host: Arc<Host>, gid: String) -> Result<bool, SqlError> {
    host.work().await;
    let mut stirred = host.stirred.subscribe();
    let deadline = host.executor.now() + WAITS;
    let number = loop {
        stirred.mark_unchanged();
        {
            let mut server = host.server();
            if let Some(committed) = server.state.markers.get(&gid) {
                return Ok(*committed);
            }
            if !is_inserted(&server, &gid) {
                server.busy.insert(gid.clone());
                break server.write(Wal::Tombstone(gid.clone()));
            }
        }
        let waits = std::pin::pin!(host.executor.sleep(deadline.saturating_sub(host.executor.now())));
        let changed = std::pin::pin!(stirred.changed());
        futures::future::select(waits, changed).await;
        if host.executor.now() >= deadline {
            return Err(SqlError::new("55P03", "canceling statement due to lock timeout"));
        }
    };
    host.work().await;
    {
        let mut server = host.server();
        server.flush(number);
        server.carry_out(number);
        server.busy.remove(&gid);
    }
    host.note(|| format!("{gid} was settled as aborted"));
    host.stir();
    Ok(false)
}

/// Whether somebody has inserted the marker, or its tombstone, and has not committed.
fn is_inserted(server: &Server, gid: &str) -> bool {
    let by_branch = |open: &super::server::Open| open.marked.as_deref() == Some(gid);
    server.busy.contains(gid)
        || server.state.prepared.get(gid).is_some_and(|(_, prepared)| prepared.marker)
        || server.backends.values().any(|backend| backend.open.as_ref().is_some_and(by_branch))
}
