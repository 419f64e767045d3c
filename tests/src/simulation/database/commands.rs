//! What a server process does when it is told to, with the errors that PostgreSQL gives.

use std::sync::Arc;
use std::time::Duration;

use votum_participant::database::ServerFacts;

use super::connection::{Host, ROLE, SqlError};
use super::server::{Change, Ended, Holder, Open, Prepared, Wal};
use super::statement::Doing;

/// Which server answered.
pub(super) fn facts(host: &Host) -> ServerFacts {
    let server = host.server();
    ServerFacts { system_identifier: server.system_identifier, timeline: server.timeline, in_recovery: false }
}

/// Opens a transaction.
///
/// # Errors
/// When one is open.
pub(super) fn begin(host: &Host, pid: i32, read_only: bool) -> Result<(), SqlError> {
    let mut server = host.server();
    let Some(backend) = server.backends.get_mut(&pid) else { return Err(SqlError::broken()) };
    if backend.open.is_some() {
        return Err(SqlError::new("25001", "there is already a transaction in progress"));
    }
    backend.open = Some(Open { read_only, ..Open::default() });
    Ok(())
}

/// What keeps a command from going on, if anything does: then the transaction has failed.
pub(super) fn interrupted(host: &Host, pid: i32) -> Result<(), SqlError> {
    let mut server = host.server();
    let Some(backend) = server.backends.get_mut(&pid) else { return Err(SqlError::broken()) };
    if backend.terminated {
        return Err(SqlError::fatal("57P01", "terminating connection due to administrator command"));
    }
    if backend.cancelled {
        backend.cancelled = false;
        if let Some(open) = &mut backend.open {
            open.failed = true;
        }
        return Err(SqlError::new("57014", "canceling statement due to user request"));
    }
    Ok(())
}

fn fail(host: &Host, pid: i32, sqlstate: &'static str, message: &str) -> SqlError {
    if let Some(open) = host.server().backends.get_mut(&pid).and_then(|backend| backend.open.as_mut()) {
        open.failed = true;
    }
    SqlError::new(sqlstate, message)
}

/// Runs one statement; how many rows it touched, and what it returns.
///
/// # Errors
/// As PostgreSQL has it.
pub(super) async fn run(
    host: Arc<Host>,
    pid: i32,
    doing: Doing,
    limit: Duration,
) -> Result<(u64, Option<i64>), SqlError> {
    host.work().await;
    interrupted(&host, pid)?;
    {
        let server = host.server();
        let open = server.backends.get(&pid).and_then(|backend| backend.open.as_ref());
        match open {
            None => return Err(SqlError::new("25P01", "there is no transaction in progress")),
            Some(open) if open.failed => {
                return Err(SqlError::new("25P02", "current transaction is aborted"));
            }
            Some(_) => {}
        }
    }
    match doing {
        Doing::Fail => Err(fail(&host, pid, "22012", "division by zero")),
        Doing::Look(account) => {
            let server = host.server();
            let open = server.backends.get(&pid).and_then(|backend| backend.open.as_ref());
            let own = open.map(|open| open.changes.as_slice()).unwrap_or_default();
            let committed = server.state.rows.iter().map(|(_, change)| change);
            let here = committed.chain(own).filter(|change| change.account == account);
            let balance = here.map(|change| change.delta).sum();
            Ok((1, Some(balance)))
        }
        Doing::Change(change) => {
            write(&host, pid, change, limit).await?;
            Ok((1, None))
        }
    }
}

async fn write(host: &Arc<Host>, pid: i32, change: Change, limit: Duration) -> Result<(), SqlError> {
    let mut stirred = host.stirred.subscribe();
    let deadline = host.executor.now() + limit;
    loop {
        stirred.mark_unchanged();
        interrupted(host, pid)?;
        let refused = {
            let mut server = host.server();
            let read_only = server
                .backends
                .get(&pid)
                .and_then(|backend| backend.open.as_ref())
                .is_some_and(|open| open.read_only);
            let holder = server.locks.get(&change.account).cloned();
            if read_only {
                Some(("25006", "cannot execute UPDATE in a read-only transaction"))
            } else if holder.is_none_or(|holder| holder == Holder::Session(pid)) {
                server.locks.insert(change.account, Holder::Session(pid));
                let drawn = server.backends.get(&pid).and_then(|b| b.open.as_ref()).and_then(|open| open.xid);
                let xid = match drawn {
                    Some(xid) => xid,
                    None => server.draw_xid(),
                };
                if let Some(open) = server.backends.get_mut(&pid).and_then(|backend| backend.open.as_mut()) {
                    open.xid = Some(xid);
                    open.changes.push(change);
                }
                return Ok(());
            } else {
                None
            }
        };
        if let Some((sqlstate, message)) = refused {
            return Err(fail(host, pid, sqlstate, message));
        }
        let left = deadline.saturating_sub(host.executor.now());
        if left.is_zero() {
            return Err(fail(host, pid, "57014", "canceling statement due to statement timeout"));
        }
        let changed = std::pin::pin!(stirred.changed());
        let _ = futures::future::select(changed, host.executor.sleep(left)).await;
    }
}

/// How PREPARE ended, when it did not end in an error.
pub(super) enum Done {
    /// Prepared; whether its wait for a standby was cancelled.
    Prepared {
        /// The transaction id.
        xid8: u64,
        /// The wait was cancelled.
        unreplicated: bool,
    },
    /// It wrote nothing and is committed.
    ReadOnly,
    /// It is open, with its marker.
    Ready(u64),
}

/// Prepares the open transaction, or commits it where it wrote nothing.
///
/// # Errors
/// As PostgreSQL has it; the transaction is rolled back then.
pub(super) async fn prepare(
    host: Arc<Host>,
    pid: i32,
    gid: String,
    one_phase: bool,
    marks: bool,
) -> Result<Done, SqlError> {
    host.work().await;
    if let Err(error) = interrupted(&host, pid) {
        host.server().abort(pid);
        host.stir();
        return Err(error);
    }
    let unlucky = !host.is_calm() && host.random.draw(|random| random.chance(host.manners.serialization));
    if one_phase && let Some(ready) = super::one_phase::ready(&host, pid, &gid, unlucky)? {
        return Ok(Done::Ready(ready));
    }
    let begun = begin_prepare(&host, pid, &gid, unlucky, marks);
    host.stir();
    let Some((number, xid8)) = begun? else { return Ok(Done::ReadOnly) };
    host.work().await;
    {
        let mut server = host.server();
        server.flush(number);
        server.carry_out(number);
        server.hand_over_locks(pid, &gid);
        if let Some(backend) = server.backends.get_mut(&pid) {
            backend.open = None;
        }
    }
    host.note(|| format!("prepared {gid} (xid {xid8})"));
    if host.manners.synchronous {
        // Visible to everybody, and nobody else's until the standby has it.
        host.work().await;
    }
    let unreplicated = {
        let mut server = host.server();
        server.busy.remove(&gid);
        let cancelled = server.backends.get_mut(&pid).is_some_and(|b| std::mem::take(&mut b.cancelled));
        host.manners.synchronous && cancelled
    };
    host.stir();
    Ok(Done::Prepared { xid8, unreplicated })
}

/// Inserts the marker of a transaction that is to decide by its commit, whether it has written or not.
///
/// # Errors
/// As PostgreSQL has it; the transaction is rolled back then.
pub(super) async fn ready_to_decide(host: &Arc<Host>, pid: i32, gid: &str) -> Result<(), SqlError> {
    host.work().await;
    if let Err(error) = interrupted(host, pid) {
        host.server().abort(pid);
        host.stir();
        return Err(error);
    }
    {
        let mut server = host.server();
        let wrote_nothing = |open: &Open| open.xid.is_none();
        let open = server.backends.get(&pid).and_then(|backend| backend.open.as_ref());
        if open.is_some_and(wrote_nothing) {
            let xid = server.draw_xid();
            if let Some(open) = server.backends.get_mut(&pid).and_then(|backend| backend.open.as_mut()) {
                open.xid = Some(xid);
            }
        }
    }
    let unlucky = !host.is_calm() && host.random.draw(|random| random.chance(host.manners.serialization));
    match super::one_phase::ready(host, pid, gid, unlucky)? {
        Some(_) => Ok(()),
        None => Err(SqlError::new("42P01", "relation \"votum.marker\" does not exist")),
    }
}

/// Everything up to the record of the PREPARE: its number in the log, and the transaction's id.
fn begin_prepare(
    host: &Host,
    pid: i32,
    gid: &str,
    unlucky: bool,
    marks: bool,
) -> Result<Option<(usize, u64)>, SqlError> {
    let mut server = host.server();
    let Some(open) = server.backends.get(&pid).and_then(|backend| backend.open.clone()) else {
        return Err(SqlError::new("25P01", "there is no transaction in progress"));
    };
    let taken = server.state.unique_keys();
    let duplicate = |change: &Change| change.unique.as_deref().is_some_and(|key| taken.contains(key));
    let refused = if open.failed {
        Some(("25P02", "current transaction is aborted"))
    } else if unlucky {
        Some(("40001", "could not serialize access due to read/write dependencies among transactions"))
    } else if open.changes.iter().any(duplicate) {
        Some(("23505", "duplicate key value violates unique constraint"))
    } else if open.xid.is_none() {
        None
    } else if server.slots == 0 {
        Some(("55000", "prepared transactions are disabled"))
    } else if server.state.prepared.contains_key(gid) || server.busy.contains(gid) {
        Some(("42710", "transaction identifier is already in use"))
    } else if server.state.prepared.len() >= server.slots {
        Some(("53200", "maximum number of prepared transactions reached"))
    } else {
        None
    };
    if let Some((sqlstate, message)) = refused {
        server.abort(pid);
        return Err(SqlError::new(sqlstate, message));
    }
    let Some(xid) = open.xid else {
        server.abort(pid);
        return Ok(None);
    };
    server.busy.insert(gid.to_owned());
    let at = host.executor.now();
    let marker = server.markers && marks;
    let prepared =
        Prepared { gid: gid.to_owned(), owner: ROLE.to_owned(), changes: open.changes, at, marker };
    let number = server.write(Wal::Prepared(xid, prepared));
    if let Some(backend) = server.backends.get_mut(&pid) {
        backend.critical = true;
    }
    Ok(Some((number, xid)))
}

/// COMMIT PREPARED and ROLLBACK PREPARED, by `role`.
///
/// # Errors
/// As PostgreSQL has it.
pub async fn end_prepared(
    host: Arc<Host>,
    pid: Option<i32>,
    gid: String,
    commit: bool,
    role: &str,
) -> Result<(), SqlError> {
    if let Some(pid) = pid
        && let Some(backend) = host.server().backends.get_mut(&pid)
    {
        backend.ends = Some(gid.clone());
    }
    host.work().await;
    let number = {
        let mut server = host.server();
        let Some((xid, prepared)) = server.state.prepared.get(&gid) else {
            return Err(SqlError::new("42704", format!("prepared transaction {gid} does not exist")));
        };
        if prepared.owner != role && role != "postgres" {
            return Err(SqlError::new("42501", "permission denied to finish prepared transaction"));
        }
        let xid = *xid;
        if server.busy.contains(&gid) {
            return Err(SqlError::new("55000", "prepared transaction is busy"));
        }
        if let Some(backend) = pid.and_then(|pid| server.backends.get_mut(&pid)) {
            if backend.terminated {
                return Err(SqlError::fatal("57P01", "terminating connection due to administrator command"));
            }
            backend.critical = true;
        }
        server.busy.insert(gid.clone());
        let record = if commit { Wal::CommitPrepared } else { Wal::RollbackPrepared };
        server.write(record(xid, gid.clone()))
    };
    host.work().await;
    {
        let mut server = host.server();
        server.flush(number);
        server.carry_out(number);
        server.unlock(&Holder::Prepared(gid.clone()));
        server.busy.remove(&gid);
    }
    host.note(|| format!("{} prepared {gid} (by {role})", if commit { "commit" } else { "rollback" }));
    host.stir();
    Ok(())
}

/// Commits something empty.
///
/// # Errors
/// Never, yet.
pub(super) async fn confirm(host: Arc<Host>) -> Result<(), SqlError> {
    let number = {
        let mut server = host.server();
        let xid = server.draw_xid();
        server.write(Wal::Committed(xid, Vec::new()))
    };
    host.work().await;
    let mut server = host.server();
    server.flush(number);
    server.carry_out(number);
    Ok(())
}

/// What the server remembers of an id.
pub(super) fn status(host: &Host, xid8: u64) -> votum_proto::v1::gone::XidStatus {
    use votum_proto::v1::gone::XidStatus;
    match host.server().status(xid8) {
        None => XidStatus::NotReached,
        Some(None) => XidStatus::InProgress,
        Some(Some(Ended::Committed)) => XidStatus::Committed,
        Some(Some(Ended::Aborted)) => XidStatus::Aborted,
    }
}

/// What the database says of a branch's commit marker.
pub(super) fn marker(host: &Host, gid: &str) -> votum_proto::v1::gone::Marker {
    use votum_proto::v1::gone::Marker;
    let server = host.server();
    match server.state.markers.get(gid) {
        _ if !server.markers => Marker::Unspecified,
        None => Marker::Absent,
        Some(true) => Marker::Committed,
        Some(false) => Marker::Aborted,
    }
}
