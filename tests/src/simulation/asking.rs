//! What a client asks of a coordinator, over the network that loses, repeats and delays.

use std::sync::Arc;
use std::time::Duration;

use votum_coordinator::driver::request::{
    Begin, Begun, Commit, Outcome, Request, RequestError, Transact, Transacted,
};
use votum_coordinator::protocol::record::KeyRecord;
use votum_proto::names::Gtid;

use super::monitor;
use super::network::{NoAnswer, request};
use super::world::World;

/// What a client asks of a coordinator.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Open a transaction.
    Begin(Begin),
    /// Decide.
    Commit(Commit),
    /// End it.
    Rollback(Gtid, Vec<u8>),
    /// A whole transaction.
    Transact(Transact),
    /// What became of it.
    Get(Gtid),
    /// What became of the work under an idempotency key.
    GetByKey(KeyRecord),
}

/// What a coordinator answers.
#[derive(Debug, Clone)]
pub enum Said {
    /// A new transaction.
    Begun(Begun),
    /// An outcome.
    Outcome(Outcome),
    /// A whole transaction.
    Transacted(Transacted),
    /// A key's transaction, and its outcome.
    OfKey(Gtid, Outcome),
    /// No.
    Refused(RequestError),
}

/// Asks the coordinator at the address.
///
/// # Errors
/// When no answer arrives in time.
pub async fn ask(world: &Arc<World>, patience: Duration, ask: Ask) -> Result<Said, NoAnswer> {
    let there = Arc::clone(world);
    request(world, patience, move || serve(Arc::clone(&there), ask.clone())).await
}

async fn serve(world: Arc<World>, ask: Ask) -> Option<Said> {
    let machine = world.machine()?;
    let running = machine.running()?;
    let gtid = match &ask {
        Ask::Begin(_) | Ask::GetByKey(_) | Ask::Transact(_) => None,
        Ask::Commit(commit) => Some(commit.gtid.clone()),
        Ask::Rollback(gtid, _) | Ask::Get(gtid) => Some(gtid.clone()),
    };
    let handle = &running.handle;
    let rolls_back = matches!(ask, Ask::Rollback(..));
    let arrived = world.now();
    let said = match ask {
        Ask::Begin(begin) => handle.ask(|answer| Request::Begin(begin, answer)).await.map(Said::Begun),
        Ask::Commit(commit) => handle.ask(|answer| Request::Commit(commit, answer)).await.map(Said::Outcome),
        Ask::Transact(transact) => {
            handle.ask(|answer| Request::Transact(transact, answer)).await.map(Said::Transacted)
        }
        Ask::Rollback(gtid, secret) => handle
            .ask(|answer| Request::Rollback { gtid, secret, reason: String::new(), answer })
            .await
            .map(Said::Outcome),
        Ask::Get(gtid) => handle.ask(|answer| Request::Get(gtid, answer)).await.map(Said::Outcome),
        Ask::GetByKey(KeyRecord { client, key, .. }) => handle
            .ask(|answer| Request::GetByKey { client, key, answer })
            .await
            .map(|(gtid, outcome)| Said::OfKey(gtid, outcome)),
    };
    if let (Some(gtid), Ok(Said::Outcome(Outcome::Committed { .. })))
    | (None, Ok(Said::OfKey(gtid, Outcome::Committed { .. })))
    | (None, Ok(Said::Transacted(Transacted { gtid, outcome: Outcome::Committed { .. }, .. }))) =
        (&gtid, &said)
    {
        monitor::told_committed(&world, &running.sender, gtid);
        // The true log is put back in a moment.
        if machine.lacks_something() && gtid.life == running.sender.life {
            world.broken(format!("I13: an older copy of the log committed {gtid}, which the true one lacks"));
        }
    }
    if rolls_back && matches!(said, Ok(Said::Outcome(Outcome::Aborted { .. }))) {
        monitor::told_aborted(&world, gtid.as_ref(), arrived);
    }
    if running.process.is_dead() && said.is_err() {
        return None;
    }
    Some(said.unwrap_or_else(Said::Refused))
}
