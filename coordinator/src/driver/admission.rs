//! What would wait too long for a participant is refused before anything of it is begun: what is turned away here
//! costs nobody a session, a prepared transaction or a rollback. For a whole transaction it is known where it will
//! work, and by the pace of the votes how long that takes; for one that is only begun, how long a branch waits for a
//! session there, as the agents say.

use std::collections::BTreeMap;
use std::time::Duration;

use votum_proto::names::ParticipantName;
use votum_proto::pace::Pace;
use votum_proto::runtime::Monotonic;
use votum_proto::v1;

use super::request::{Begin, RequestError, Transact};
use super::{Driver, LocalId};

/// So many branches may wait at a participant before it is asked how long: about as many are at work there, and not
/// waiting.
const ALWAYS: usize = 64;
/// The least and the most that whoever is refused is told to wait.
const SOONEST: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(10);

/// Who waits at the participants.
#[derive(Default)]
pub(super) struct Admission {
    /// The branches of whole transactions whose votes are awaited.
    at: BTreeMap<ParticipantName, Pace>,
    /// Where branches wait for sessions, as the agents said last.
    sessions: BTreeMap<ParticipantName, SessionWait>,
}

/// How long a branch that came at some time would have waited for a session.
struct SessionWait {
    expected: Duration,
    since: Monotonic,
}

impl Admission {
    pub(super) fn enters(&mut self, participant: &ParticipantName, now: Monotonic) {
        match self.at.get_mut(participant) {
            Some(pace) => pace.enters(now),
            None => {
                self.at.entry(participant.clone()).or_insert_with(|| Pace::new(ALWAYS)).enters(now);
            }
        }
    }

    pub(super) fn leaves(&mut self, participant: &ParticipantName, now: Monotonic, served: bool) {
        if let Some(pace) = self.at.get_mut(participant) {
            pace.leaves(now, served);
        }
    }

    /// What an agent says of its participants: of those that it does not name, that nobody waits.
    pub(super) fn waits(&mut self, of: &[ParticipantName], queues: Vec<v1::SessionQueue>, now: Monotonic) {
        if queues.is_empty() && self.sessions.is_empty() {
            return;
        }
        for participant in of {
            self.sessions.remove(participant);
        }
        for v1::SessionQueue { participant, expected_ms } in queues {
            if let Some(participant) = of.iter().find(|known| known.as_str() == participant) {
                let wait = SessionWait { expected: Duration::from_millis(expected_ms), since: now };
                self.sessions.insert(participant.clone(), wait);
            }
        }
    }

    /// Those who waited when the agent spoke have waited since: what it said is worth less from then on, and nothing
    /// where it falls silent.
    fn expected_session(&self, participant: &ParticipantName, now: Monotonic) -> Duration {
        let wait = self.sessions.get(participant);
        wait.map(|wait| wait.expected.saturating_sub(now.since(wait.since))).unwrap_or_default()
    }

    fn expected(&self, participant: &ParticipantName, now: Monotonic) -> Duration {
        self.at.get(participant).map(|pace| pace.expected(now)).unwrap_or_default()
    }
}

impl Driver {
    /// Refuses what would, by the present pace, wait longer than it may.
    pub(super) fn refuse_what_would_wait(&self, transact: &Transact) -> Result<(), RequestError> {
        let now = self.seams.clock.now();
        let bound = self.settings.max_wait.min(transact.begin.timeout);
        let waits = transact
            .branches
            .iter()
            .map(|(participant, _)| (self.admission.expected(participant, now), participant));
        refuse_longer_than(bound, waits.max())
    }

    /// Refuses what would not be given a session soon enough: at one of the participants at which it will work, or,
    /// where that is not known, at any at all.
    pub(super) fn refuse_what_would_get_no_session(&self, begin: &Begin) -> Result<(), RequestError> {
        if self.admission.sessions.is_empty() {
            return Ok(());
        }
        let now = self.seams.clock.now();
        let bound = self.settings.max_wait.min(begin.timeout);
        let wait = |participant| (self.admission.expected_session(participant, now), participant);
        let wait = if !begin.participants.is_empty() {
            begin.participants.iter().map(wait).max()
        } else if begin.attached.is_empty() {
            self.participants.keys().map(wait).min()
        } else {
            // It may need no session but the application's own.
            None
        };
        refuse_longer_than(bound, wait)
    }

    /// A branch of a whole transaction has voted.
    pub(super) fn no_longer_waits(&mut self, id: LocalId, participant: &ParticipantName, served: bool) {
        let now = self.seams.clock.now();
        if let Some(whole) = self.live.get_mut(&id).and_then(|live| live.whole.as_mut())
            && whole.heard(participant)
        {
            self.admission.leaves(participant, now, served);
            self.rooms.leaves(participant);
        }
    }

    /// No vote is awaited any more, whoever has not voted. A branch that decides begins its work only then, and is
    /// awaited until it has ended: `served`.
    pub(super) fn nobody_waits_any_more(&mut self, id: LocalId, served: bool) {
        let now = self.seams.clock.now();
        let Some(live) = self.live.get_mut(&id) else { return };
        let works = live.transaction.is_one_phase();
        let Some(whole) = live.whole.as_mut() else { return };
        for participant in whole.nobody_is_awaited(works) {
            self.admission.leaves(&participant, now, served);
            self.rooms.leaves(&participant);
        }
    }
}

fn refuse_longer_than(
    bound: Duration,
    wait: Option<(Duration, &ParticipantName)>,
) -> Result<(), RequestError> {
    match wait {
        Some((expected, participant)) if expected > bound => Err(RequestError::WouldWait {
            participant: participant.clone(),
            expected,
            bound,
            retry_after: expected.saturating_sub(bound / 2).clamp(SOONEST, LATEST),
        }),
        Some(_) | None => Ok(()),
    }
}
