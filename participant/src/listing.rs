//! Listings of what is prepared and open at a participant, and the sweep that sends them without being asked.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;
use votum_proto::names::{CoordinatorId, Gid};
use votum_proto::runtime::Backoff;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Message;

use crate::agent::{Inner, Participant};
use crate::registry::Registry;

/// How soon a listing is tried again after one failed: at first, and at last.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
const AFTER_FAILURES: Duration = Duration::from_secs(1);

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

/// Asks a database what is prepared there. From before the question until [`Draft::finish`] the registry
/// notes which gids are worked on.
pub(crate) async fn draft<'a>(
    agent: &'a Inner,
    participant: &Participant,
    request: u64,
    details: bool,
) -> Draft<'a> {
    let observer = Observer { agent, number: Some(agent.lock().observe()) };
    let mut listing = v1::Listing {
        participant: participant.name().to_string(),
        request,
        attached_roles: participant.database.attached_roles().to_vec(),
        ..Default::default()
    };
    let listed = participant.database.list(details).await;
    participant.note_answer(listed.is_ok());
    match listed {
        Ok(found) => {
            listing.system_identifier = found.facts.system_identifier;
            listing.timeline = found.facts.timeline;
            listing.in_recovery = found.facts.in_recovery;
            listing.role = found.role;
            listing.database = found.database;
            match participant.identify(&found.facts) {
                Ok(()) => listing.prepared = found.prepared,
                Err(why) => listing.failure = why,
            }
        }
        Err(error) => listing.failure = error.to_string(),
    }
    Draft { observer, listing }
}

impl Draft<'_> {
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
            let draft = draft(&agent, &participant, request, details).await;
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
/// one failed, again until one succeeds. Ends with the stream that it was begun for.
pub(crate) async fn sweep(agent: &Inner, participant: &Participant, of: &CoordinatorId, stream: u64) {
    let pause = agent.config.sweep();
    let mut backoff = Backoff::new(AFTER_FAILURE.min(pause), AFTER_FAILURES.min(pause));
    let mut delay = if participant.answers() { agent.seams.entropy.jittered(pause) } else { AFTER_FAILURE };
    let mut told = String::new();
    loop {
        // Subscribed to before the pause, so that nothing which happens during it is missed.
        let wanted = participant.sweep_wanted();
        futures::future::select(wanted, agent.seams.clock.sleep(delay)).await;
        let draft = draft(agent, participant, 0, false).await;
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
