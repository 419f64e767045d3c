//! What an agent remembers of a coordinator_id, kept in the databases besides: an agent that restarts reads
//! there who spoke last and how far the log had reached, and fences as if it had never been away.

use std::time::Duration;

use votum_proto::names::CoordinatorId;
use votum_proto::runtime::Monotonic;

use crate::agent::{Inner, Participant};
use crate::database::{DatabaseError, Kept, Stood};

/// How often a participant is told of a witness that has grown.
const EVERY: Duration = Duration::from_secs(1);

/// What a participant was last told of a coordinator_id, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    kept: Kept,
    at: Monotonic,
}

/// Tells `participant` of the life of `of` that speaks, and learns what stood there: of a newer one, or of
/// another of the same epoch, that spoke before this agent's start.
///
/// # Errors
/// When the database could not be told: nothing is concluded from what else it says then.
pub(crate) async fn keep(
    agent: &Inner,
    participant: &Participant,
    of: &CoordinatorId,
) -> Result<(), DatabaseError> {
    let now = agent.seams.clock.now();
    let kept = {
        let registry = agent.lock();
        let Some(coordinator) = registry.coordinators.get(of) else { return Ok(()) };
        let Some(fence) = coordinator.fence.speaking() else { return Ok(()) };
        let kept = Kept { fence, witness: coordinator.witness.map(|remembered| remembered.witness) };
        let told = coordinator.told.get(participant.name());
        if told.is_some_and(|told| !is_due(told, &kept, now)) {
            return Ok(());
        }
        kept
    };
    let stood = participant.database.keep(of, &kept).await?;
    participant.note_place(stood != Stood::Nowhere);
    let mut registry = agent.lock();
    let Some(coordinator) = registry.coordinators.get_mut(of) else { return Ok(()) };
    coordinator.told.insert(participant.name().clone(), Told { kept, at: now });
    if let Stood::Kept(Kept { fence, witness }) = stood {
        coordinator.fence.learn(fence);
        if let Some(witness) = witness {
            coordinator.note_witness(witness, now);
        }
    }
    Ok(())
}

/// Tells `participant` of a witness that has grown, once in a while, as long as it has a place for it. Never
/// ends.
pub(crate) async fn keep_up(agent: &Inner, participant: &Participant, of: &CoordinatorId) {
    loop {
        participant.has_place().await;
        agent.seams.clock.sleep(EVERY).await;
        // A database that cannot be told cannot be listed either, which is said there.
        let _ = keep(agent, participant, of).await;
    }
}

/// A new life is told at once, a witness that has grown once in a while.
fn is_due(told: &Told, kept: &Kept, now: Monotonic) -> bool {
    told.kept.fence != kept.fence || told.kept.witness != kept.witness && now.since(told.at) >= EVERY
}
