//! Listings of what is prepared and open at a participant, and the sweep that sends them without being asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::Instrument as _;
use votum_proto::canary::{Canary, sings};
use votum_proto::names::{CoordinatorId, Gid};
use votum_proto::runtime::Backoff;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Message;

use crate::agent::{Inner, Participant};
use crate::crash::{self, CrashPoint};
use crate::database::Condition;
use crate::registry::Registry;
use crate::witness;

/// How soon a listing is tried again after one failed: at first, and at last.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
const AFTER_FAILURES: Duration = Duration::from_secs(1);

/// Why a participant is not listed yet.
const ENDING: &str = "the agent is still ending sessions of the coordinator's former life";
const LATE: &str = "the database did not answer in time; it is asked again";

/// A listing as the database gave it, before what the agent itself knows was laid over it.
pub(crate) struct Draft<'a> {
    observer: Observer<'a>,
    listing: v1::Listing,
}

/// Notes which gids are worked on, until it is read or dropped.
struct Observer<'a> {
    agent: &'a Inner,
    number: Option<u64>,
}

impl Drop for Observer<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.agent.lock().unobserve(number);
        }
    }
}

/// Waits until no session of an older life of the coordinator runs at `participant` any more. None can be
/// opened after the newer life's hello was judged.
pub(crate) async fn older_ended(agent: &Inner, participant: &Participant, of: &CoordinatorId) {
    let older = agent.lock().older_branches(of, participant.name());
    for branch in older {
        branch.quiet().await;
    }
}

/// Asks a database what is prepared there, for one coordinator. From before the question until
/// [`Draft::finish`] the registry notes which gids are worked on.
pub(crate) async fn draft<'a>(
    agent: &'a Inner,
    participant: &Participant,
    of: &CoordinatorId,
    request: u64,
    details: bool,
) -> Draft<'a> {
    let (observer, ending) = {
        let mut registry = agent.lock();
        let observer = Observer { agent, number: Some(registry.observe()) };
        (observer, !registry.older_branches(of, participant.name()).is_empty())
    };
    let mut listing = blank(participant, request);
    if ending {
        ENDING.clone_into(&mut listing.failure);
        return Draft { observer, listing };
    }
    let kept = witness::keep(agent, participant, of).await;
    let listed = match kept {
        Ok(()) => participant.database.list(details).await,
        Err(error) => Err(error),
    };
    participant.note_answer(listed.is_ok());
    if details && listed.is_ok() {
        listing.condition = participant.database.condition().await.ok().as_ref().map(condition);
    }
    match listed {
        Ok(found) => {
            listing.system_identifier = found.facts.system_identifier;
            listing.timeline = found.facts.timeline;
            listing.in_recovery = found.facts.in_recovery;
            listing.role = found.role;
            listing.database = found.database;
            listing.can_decide = found.can_decide;
            match participant.identify(&found.facts) {
                Ok(()) => {
                    listing.prepared = found.prepared;
                    participant.prepared.store(ours(&listing), Ordering::Relaxed);
                }
                Err(why) => listing.failure = why,
            }
        }
        Err(_) if sings(Canary::FailedListingIsEmpty) => {}
        Err(error) => listing.failure = error.to_string(),
    }
    Draft { observer, listing }
}

/// How the server stands, as it is told.
fn condition(condition: &Condition) -> v1::ServerCondition {
    let Condition { slots, slots_used, oldest_prepared, xmin_held_back } = *condition;
    let oldest_prepared_ms =
        oldest_prepared.map(|oldest| u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX));
    v1::ServerCondition { slots_used, slots, oldest_prepared_ms, xmin_held_back }
}

/// How many of what is prepared bears a name as we give them, and belongs to us.
fn ours(listing: &v1::Listing) -> u64 {
    let ours = listing.prepared.iter().filter(|row| {
        let by_us = row.owner == listing.role || listing.attached_roles.contains(&row.owner);
        by_us && row.gid.parse::<Gid>().is_ok()
    });
    ours.count() as u64
}

fn blank(participant: &Participant, request: u64) -> v1::Listing {
    v1::Listing {
        participant: participant.name().to_string(),
        request,
        attached_roles: participant.database.attached_roles().to_vec(),
        ..Default::default()
    }
}

impl<'a> Draft<'a> {
    /// Stands in for one that was not had in time.
    pub(crate) fn late(agent: &'a Inner, participant: &Participant, of: &CoordinatorId) -> Self {
        let ending = !agent.lock().older_branches(of, participant.name()).is_empty();
        let failure = if ending { ENDING } else { LATE }.to_owned();
        let listing = v1::Listing { failure, ..blank(participant, 0) };
        Self { observer: Observer { agent, number: None }, listing }
    }

    /// The listing for one coordinator, as of now.
    pub(crate) fn finish(
        self,
        registry: &mut Registry,
        participant: &Participant,
        of: &CoordinatorId,
    ) -> v1::Listing {
        let Self { mut observer, mut listing } = self;
        // Taken, so that its Drop, under the lock that the caller holds, does not want that lock.
        let busy = observer.number.take().map(|number| registry.observed(number, participant.name()));
        let busy = busy.unwrap_or_default();
        listing.prepared.retain(|row| row.gid.parse::<Gid>().map_or(true, |gid| !busy.contains(&gid)));
        listing.busy =
            busy.iter().filter(|gid| gid.gtid.coordinator_id == *of).map(ToString::to_string).collect();
        listing.sessions = registry.open_sessions(of, participant.name());
        crash::here(CrashPoint::Listed);
        listing
    }
}

/// Answers a request for a listing.
pub(crate) fn answer(
    agent: &Arc<Inner>,
    participant: &Arc<Participant>,
    of: CoordinatorId,
    ask: &v1::ListParticipant,
) {
    let (agent, participant) = (Arc::clone(agent), Arc::clone(participant));
    let (request, details) = (ask.request, ask.details);
    let seams = agent.seams.clone();
    seams.spawn(
        async move {
            let draft = draft(&agent, &participant, &of, request, details).await;
            let mut registry = agent.lock();
            let listing = draft.finish(&mut registry, &participant, &of);
            if let Some(coordinator) = registry.coordinators.get(&of) {
                coordinator.report(Message::Listing(listing));
            }
        }
        .in_current_span(),
    );
}

/// Sends a listing of one participant periodically, at once after any of its connections broke, and, where
/// one failed, again until one succeeds; where the hello of the stream `listed` none, as soon as one can be
/// had. Ends with the stream that it was begun for.
pub(crate) async fn sweep(
    agent: &Inner,
    participant: &Participant,
    of: &CoordinatorId,
    stream: u64,
    listed: bool,
) {
    let pause = agent.config.sweep();
    let mut backoff = Backoff::new(AFTER_FAILURE.min(pause), AFTER_FAILURES.min(pause));
    let mut delay = if listed {
        agent.seams.entropy.jittered(pause)
    } else {
        older_ended(agent, participant, of).await;
        backoff.delay(&*agent.seams.entropy)
    };
    let mut told = String::new();
    loop {
        // Subscribed to before the pause, so that nothing which happens during it is missed.
        let wanted = participant.sweep_wanted();
        futures::future::select(wanted, agent.seams.clock.sleep(delay)).await;
        let draft = draft(agent, participant, of, 0, false).await;
        if draft.listing.failure.is_empty() {
            backoff.reset();
            delay = agent.seams.entropy.jittered(pause);
        } else {
            delay = backoff.delay(&*agent.seams.entropy);
        }
        if draft.listing.failure != told {
            told.clone_from(&draft.listing.failure);
            if told.is_empty() {
                tracing::info!(participant = %participant.name(), "the participant can be listed again");
            } else {
                tracing::warn!(participant = %participant.name(), failure = %told, "the participant cannot be listed");
            }
        }
        let mut registry = agent.lock();
        let listing = draft.finish(&mut registry, participant, of);
        let Some(coordinator) = registry.coordinators.get(of) else { return };
        if coordinator.stream.as_ref().is_none_or(|newest| newest.number != stream) {
            return;
        }
        coordinator.report(Message::Listing(listing));
    }
}
