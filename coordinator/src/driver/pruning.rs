//! Commit markers go once nobody can ask about them any more: the log has forgotten their transactions.

use std::time::Duration;

use votum_proto::names::{Epoch, Gtid, ParticipantName};

use super::{Driver, LogState, wire};
use crate::log::HistoryError;

/// How often a participant is told at most.
const EVERY: Duration = Duration::from_secs(60);

impl Driver {
    /// Has the markers at `participant` deleted that this log has outlived, once in a while.
    pub(super) fn prune_markers(&mut self, participant: &ParticipantName) {
        let now = self.seams.clock.now();
        let recently = |told: &votum_proto::runtime::Monotonic| now.since(*told) < EVERY;
        if self.stale.is_some() || self.pruned.get(participant).is_some_and(recently) {
            return;
        }
        match self.forgotten_before() {
            Ok(Some(below)) => {
                // What a person wrote off may be asked about for ever, by people.
                let above = self.lives.written_off().unwrap_or(Epoch(0));
                self.pruned.insert(participant.clone(), now);
                self.send(participant, wire::prune_markers(participant, above, &below));
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "how far the log reaches back cannot be read"),
        }
    }

    /// The first transaction that is remembered, or may yet be decided: of those before it nothing is left. `None`
    /// where nothing has been forgotten.
    fn forgotten_before(&self) -> Result<Option<Gtid>, HistoryError> {
        let LogState::Ready(history) = &self.log_state else { return Ok(None) };
        let Some(horizon) = history.horizon()? else { return Ok(None) };
        let after_horizon = Gtid { seq: horizon.seq.saturating_add(1), ..horizon };
        let live = self.live.keys().next().map(|id| self.gtid(*id));
        Ok([Some(after_horizon), history.oldest()?, live].into_iter().flatten().min())
    }
}
