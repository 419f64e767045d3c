//! Looks, for a coordinator, what became of branches that were committed before their server changed its
//! timeline: a standby that took over may never have heard of them; and what commit markers there are of a
//! transaction of which no record tells. And deletes, on its word, the markers of those that it has forgotten.

use std::sync::Arc;

use tracing::Instrument as _;
use votum_proto::names::{CoordinatorId, Epoch, Gid};
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Message;
use votum_proto::v1::gone::{Marker, XidStatus};

use crate::agent::{Inner, Participant};
use crate::database::XidOutcome;

/// Answers a request to look.
///
/// # Errors
/// When a gid cannot be read.
pub(crate) fn answer(
    agent: &Arc<Inner>,
    participant: &Arc<Participant>,
    of: CoordinatorId,
    ask: &v1::VerifyBranches,
) -> Result<(), String> {
    let read = |branch: &v1::CommittedBranch| match branch.gid.parse::<Gid>() {
        // I8: nothing is written under another coordinator's name.
        Ok(gid) if branch.settle && gid.gtid.coordinator_id != of => Err(format!("{gid} is not {of}'s")),
        Ok(gid) => Ok((gid, branch.xid8)),
        Err(error) => Err(format!("{:?} is no gid: {error}", branch.gid)),
    };
    let branches: Vec<(Gid, u64)> = ask.branches.iter().map(read).collect::<Result<_, _>>()?;
    let settles: Vec<bool> = ask.branches.iter().map(|branch| branch.settle).collect();
    let request = ask.request;
    let (agent, participant) = (Arc::clone(agent), Arc::clone(participant));
    let seams = agent.seams.clone();
    seams.spawn(
        async move {
            let looked = look(&participant, &branches, &settles).await;
            let (branches, failure) = match looked {
                Ok(outcomes) => (outcomes.into_iter().map(XidOutcome::into_wire).collect(), String::new()),
                Err(why) => (Vec::new(), why),
            };
            let participant = participant.name().to_string();
            let verified = v1::BranchesVerified { participant, request, failure, branches };
            if let Some(coordinator) = agent.lock().coordinators.get(&of) {
                coordinator.report(Message::BranchesVerified(verified));
            }
        }
        .in_current_span(),
    );
    Ok(())
}

/// Deletes markers in the background.
pub(crate) fn prune(
    agent: &Arc<Inner>,
    participant: &Arc<Participant>,
    of: CoordinatorId,
    order: &v1::PruneMarkers,
) {
    let above = Epoch(order.above_epoch);
    let below = (Epoch(order.below_epoch), order.below_seq);
    let participant = Arc::clone(participant);
    agent.seams.spawn(
        async move {
            let mut pruned = 0;
            loop {
                match participant.database.prune_markers(&of, above, below).await {
                    Ok(0) => break,
                    Ok(some) => pruned += some,
                    // The coordinator will say it again.
                    Err(error) => {
                        tracing::warn!(participant = %participant.name(), %error, "markers were not deleted");
                        break;
                    }
                }
            }
            if pruned > 0 {
                tracing::debug!(participant = %participant.name(), pruned, "deleted commit markers");
            }
        }
        .in_current_span(),
    );
}

async fn look(
    participant: &Participant,
    branches: &[(Gid, u64)],
    settles: &[bool],
) -> Result<Vec<XidOutcome>, String> {
    let database = &participant.database;
    let mut outcomes = database.outcomes(branches).await.map_err(|error| error.to_string())?;
    for outcome in &outcomes {
        participant.identify(&outcome.facts)?;
    }
    let asked = outcomes.iter_mut().zip(branches).zip(settles);
    for ((outcome, (gid, _)), _) in asked.filter(|((outcome, _), settle)| {
        // Where no markers are kept, nothing can have decided by one.
        **settle && outcome.marker == Marker::Absent && !outcome.facts.in_recovery
    }) {
        // Once, with a bounded wait: who has inserted it and has not committed is waited for by asking again.
        let settled = database.settle(gid).await.map_err(|error| error.to_string())?;
        participant.identify(&settled.facts)?;
        *outcome = XidOutcome { status: outcome.status, ..settled };
    }
    let committed =
        |outcome: &XidOutcome| outcome.status == XidStatus::Committed || outcome.marker == Marker::Committed;
    if outcomes.iter().any(committed) {
        // It may be committed and not yet on disk, or not at the next standby.
        database.confirm().await.map_err(|error| error.to_string())?;
    }
    Ok(outcomes)
}
