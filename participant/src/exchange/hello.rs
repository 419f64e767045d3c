//! A coordinator's hello: judged, and answered with everything that is prepared and open here. A participant
//! where what older lives left does not end soon, or whose database does not answer soon, is listed as
//! failed, so that it delays nobody else (I14); its own listing follows when it can be had.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use votum_proto::names::{CoordinatorId, Epoch, Incarnation, Life, ParticipantName};
use votum_proto::secret::EpochKey;
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::refusal::Kind as Refused;

use super::unserved;
use crate::agent::{Inner, Participant};
use crate::branch::{Ending, reason};
use crate::fence::Verdict;
use crate::listing::{self, Draft};
use crate::outbox::{Frames, outbox};
use crate::registry::{OrderControl, Registry, Remembered, Stage, Stream};

/// How long the answer to a hello waits for any one participant. All are waited for at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// A coordinator's hello, read.
pub(super) struct Hello {
    pub(super) id: CoordinatorId,
    pub(super) life: Life,
    pub(super) key: EpochKey,
    pub(super) witness: Option<v1::Witness>,
    /// The participants that the coordinator expects here.
    pub(super) participants: Vec<String>,
}

/// A stream that was accepted.
pub(super) struct Accepted {
    pub(super) number: u64,
    pub(super) frames: Frames,
    /// The participants that the hello could not list.
    pub(super) unlisted: BTreeSet<ParticipantName>,
}

pub(super) fn read_hello(frame: &v1::CoordinatorFrame) -> Result<Hello, String> {
    let [v1::CoordinatorMessage { kind: Some(Order::Hello(hello)) }] = frame.messages.as_slice() else {
        return Err("the first frame must carry a hello, and nothing else".into());
    };
    let id: CoordinatorId = hello.coordinator_id.parse().map_err(|error| format!("{error}"))?;
    let incarnation = Incarnation::from_low_bits(hello.incarnation);
    if incarnation.get() != hello.incarnation {
        return Err("an incarnation has 24 bits".into());
    }
    let key = EpochKey::from_bytes(&hello.epoch_key).ok_or("an epoch key has 32 bytes")?;
    Ok(Hello {
        id,
        life: Life { epoch: Epoch(hello.epoch), incarnation },
        key,
        witness: frame.witness,
        participants: hello.participants.clone(),
    })
}

pub(super) fn refusal(
    agent: &Inner,
    kind: Refused,
    detail: impl Into<String>,
    witness: Option<Remembered>,
) -> v1::Refusal {
    let hello = answer(agent, witness, Vec::new());
    v1::Refusal { kind: kind.into(), detail: detail.into(), hello: Some(hello) }
}

fn answer(agent: &Inner, remembered: Option<Remembered>, listings: Vec<v1::Listing>) -> v1::AgentHello {
    let age = remembered.map(|remembered| agent.seams.clock.now().since(remembered.at));
    v1::AgentHello {
        instance: agent.instance,
        witness: remembered.map(|remembered| remembered.witness),
        witness_age_ms: age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        listings,
        can_hold: true,
        can_commit_one_phase: true,
        can_work: true,
        can_decide: true,
        can_verify_attached: true,
    }
}

/// Judges a hello; ends what older lives left; lists what can be listed; makes this stream the newest.
pub(super) async fn greet(
    agent: &Arc<Inner>,
    hello: &Hello,
) -> Result<(v1::AgentHello, Accepted), v1::Refusal> {
    let allowed = &agent.config.coordinators;
    if !allowed.is_empty() && !allowed.contains(&hello.id) {
        let why = format!("coordinator_id {} is not among those that this agent serves", hello.id);
        return Err(refusal(agent, Refused::NotAllowed, why, None));
    }
    {
        let mut registry = agent.lock();
        let coordinator = registry.coordinators.entry(hello.id.clone()).or_default();
        let verdict = coordinator.fence.judge(hello.life);
        if let Some(refusal) = refused(agent, hello, verdict, coordinator.witness) {
            if coordinator.fence.speaking().is_none() {
                coordinator.stream = None;
                end_older(&mut registry, &hello.id, None);
            }
            return Err(refusal);
        }
        coordinator.key = Some(hello.key);
    }
    let stopped = end_older(&mut agent.lock(), &hello.id, Some(hello.life));
    let drafts =
        join_all(agent.participants.values().map(|participant| draft(agent, hello, participant, &stopped)))
            .await;
    let mut registry = agent.lock();
    // What is open and busy is read in the same step that makes this stream the newest: whatever changes
    // after it is reported on this stream.
    let mut unlisted = BTreeSet::new();
    let mut listings = Vec::new();
    for (draft, participant) in drafts.into_iter().zip(agent.participants.values()) {
        let listing = draft.finish(&mut registry, participant, &hello.id);
        if !listing.failure.is_empty() {
            unlisted.insert(participant.name().clone());
        }
        listings.push(listing);
    }
    let coordinator = registry.coordinators.entry(hello.id.clone()).or_default();
    if coordinator.fence.speaking() != Some(hello.life) {
        // Another life spoke in the meantime, or before this agent's start, as a database remembers.
        let (verdict, witness) = (coordinator.fence.judge(hello.life), coordinator.witness);
        let why = "another life of this coordinator_id spoke in the meantime";
        let refused = refused(agent, hello, verdict, witness);
        return Err(refused.unwrap_or_else(|| refusal(agent, Refused::OlderEpoch, why, witness)));
    }
    coordinator.streams += 1;
    let number = coordinator.streams;
    let (outbox, frames) = outbox(&agent.seams);
    coordinator.stream = Some(Stream { number, outbox, unserved: unserved(agent, hello) });
    // What is shown is from before this hello, what the databases kept included.
    let witness = coordinator.witness;
    if let Some(own) = hello.witness {
        coordinator.note_witness(own, agent.seams.clock.now());
    }
    Ok((answer(agent, witness, listings), Accepted { number, frames, unlisted }))
}

fn refused(
    agent: &Inner,
    hello: &Hello,
    verdict: Verdict,
    witness: Option<Remembered>,
) -> Option<v1::Refusal> {
    let Hello { id, life, .. } = hello;
    match verdict {
        Verdict::Same | Verdict::Newer => None,
        Verdict::Older { newest } => {
            let why = format!("life {newest} of coordinator_id {id} has spoken here; {life} is older");
            Some(refusal(agent, Refused::OlderEpoch, why, witness))
        }
        Verdict::Copied { other } => {
            let why = format!(
                "lives {other} and {life} of coordinator_id {id} have both spoken here: its log was copied, and \
                 neither is believed; stop both, and start the true one again"
            );
            Some(refusal(agent, Refused::TwoIncarnations, why, witness))
        }
    }
}

/// Asks everything of other lives than `life` to end. Returns the orders among it.
fn end_older(
    registry: &mut Registry,
    id: &CoordinatorId,
    life: Option<Life>,
) -> Vec<(ParticipantName, Arc<OrderControl>)> {
    let branches = registry.branches.values();
    for branch in
        branches.filter(|branch| branch.gtid.coordinator_id == *id && Some(branch.gtid.life) != life)
    {
        branch.end(Ending {
            reason: reason(Cause::BranchLost, &branch.participant, "the coordinator began a new life"),
            report: false,
        });
    }
    let mut orders = Vec::new();
    for ((_, participant), slot) in
        registry.orders.iter_mut().filter(|((gtid, _), _)| gtid.coordinator_id == *id)
    {
        slot.queued.retain(|(by, _)| Some(*by) == life);
        if Some(slot.life) != life {
            slot.control.stop.send_replace(true);
            orders.push((participant.clone(), Arc::clone(&slot.control)));
        }
    }
    orders
}

/// The listing of one participant, once nothing of an older life acts there any more, except a backend that
/// is in COMMIT PREPARED or ROLLBACK PREPARED: its gid is busy until it has finished. Or, after
/// [`PATIENCE`], why there is none yet: until there is, the coordinator concludes nothing about that
/// participant, so that a PREPARE still under way there cannot come after a listing without it (I12).
async fn draft<'a>(
    agent: &'a Inner,
    hello: &Hello,
    participant: &Participant,
    stopped: &[(ParticipantName, Arc<OrderControl>)],
) -> Draft<'a> {
    let name = participant.name();
    let drafting = async {
        for (_, control) in stopped.iter().filter(|(at, _)| at == name) {
            let mut stage = control.stage.subscribe();
            let _ = stage.wait_for(|stage| *stage != Stage::Interruptible).await;
        }
        // Also where the same life spoke before: its first stream may have broken while this was under way.
        listing::older_ended(agent, participant, &hello.id).await;
        listing::draft(agent, participant, &hello.id, 0, false).await
    };
    match agent.seams.clock.timeout(PATIENCE, drafting).await {
        Ok(draft) => draft,
        Err(_) => Draft::late(agent, participant, &hello.id),
    }
}
