//! Whole transactions that would wait too long for a participant are refused before anything of them is begun: what
//! is turned away here costs nobody a session, a prepared transaction or a rollback.

use std::collections::BTreeMap;
use std::time::Duration;

use votum_proto::names::ParticipantName;
use votum_proto::pace::Pace;
use votum_proto::runtime::Monotonic;

use super::request::{RequestError, Transact};
use super::{Driver, LocalId};

/// So many branches may wait at a participant before it is asked how long: about as many are at work there, and not
/// waiting.
const ALWAYS: usize = 64;
/// The least and the most that whoever is refused is told to wait.
const SOONEST: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(10);

/// The branches of whole transactions whose votes are awaited.
#[derive(Default)]
pub(super) struct Admission {
    at: BTreeMap<ParticipantName, Pace>,
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

    fn leaves(&mut self, participant: &ParticipantName, now: Monotonic, served: bool) {
        if let Some(pace) = self.at.get_mut(participant) {
            pace.leaves(now, served);
        }
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
        match waits.max() {
            Some((expected, participant)) if expected > bound => Err(RequestError::WouldWait {
                participant: participant.clone(),
                expected,
                bound,
                retry_after: expected.saturating_sub(bound / 2).clamp(SOONEST, LATEST),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// A branch of a whole transaction has voted.
    pub(super) fn no_longer_waits(&mut self, id: LocalId, participant: &ParticipantName, served: bool) {
        let now = self.seams.clock.now();
        if let Some(whole) = self.live.get_mut(&id).and_then(|live| live.whole.as_mut())
            && whole.heard(participant)
        {
            self.admission.leaves(participant, now, served);
        }
    }

    /// It is over, whoever has not voted.
    pub(super) fn nobody_waits_any_more(&mut self, id: LocalId) {
        let now = self.seams.clock.now();
        let whole = self.live.get_mut(&id).and_then(|live| live.whole.as_mut());
        for participant in whole.map(|whole| whole.nobody_is_awaited()).unwrap_or_default() {
            self.admission.leaves(&participant, now, false);
        }
    }
}
