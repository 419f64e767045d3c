//! The way out of a stale log, for when what it lacks is lost for good: a person writes off what others have
//! seen of it. The next life's epoch is above all of that, and works as any other; of what was written off,
//! the absence of a record proves nothing for ever (R10).

use votum_proto::names::Epoch;
use votum_proto::runtime::Monotonic;
use votum_proto::v1;

use super::alarms::STALE;
use super::request::{Answer, RequestError, WriteOff};
use super::{Driver, Pending};
use crate::log::Restored;
use crate::protocol::record::{MAX_LABEL, MAX_TEXT, Record, WrittenOff, cut};

/// No coordinator starts so often: an epoch above it was never begun, and would leave no room for those after.
const HIGHEST_EPOCH: Epoch = Epoch(1 << 48);

/// Something that proves this log stale.
pub(super) struct Evidence {
    /// The newest epoch of which it says that something is lacking.
    pub(super) through: Epoch,
    /// What was seen, and what the log holds.
    pub(super) what: String,
    /// When this coordinator learned of it.
    pub(super) heard: Monotonic,
    /// How long before that the witness was written; `None` where it is no witness.
    pub(super) witness_age_ms: Option<u64>,
}

impl Evidence {
    fn to_wire(&self, shown_by: &str, now: Monotonic) -> v1::StaleEvidence {
        let since = u64::try_from(now.since(self.heard).as_millis()).unwrap_or(u64::MAX);
        v1::StaleEvidence {
            shown_by: shown_by.to_owned(),
            through_epoch: self.through.0,
            what: self.what.clone(),
            witness_age_ms: self.witness_age_ms.map(|age| age.saturating_add(since)),
        }
    }
}

/// On its way to the disk.
pub(super) struct WritingOff {
    answer: Answer<v1::WriteOffResponse>,
    response: v1::WriteOffResponse,
}

impl WritingOff {
    pub(super) fn durable(self) {
        let _ = self.answer.send(Ok(self.response));
    }
}

impl Driver {
    /// Somebody has seen more of this log than it holds: what rests on absence stops until an operator has
    /// looked, and nothing is decided any more; commits that are known go on being delivered.
    pub(super) fn now_stale(&mut self, shown_by: &str, evidence: Evidence) {
        let proof = format!("{shown_by}: {}", evidence.what);
        self.evidence.insert((shown_by.to_owned(), evidence.through), evidence);
        // The first proof stands: each agent brings its own again with every hello, in other words.
        if self.stale.is_some() {
            return;
        }
        self.alarms.raise(
            STALE,
            "",
            "",
            &format!(
                "this log is stale: {proof}. It was restored from an older copy, copied, or made anew. \
                 Nothing is begun, what is undecided is aborted, and no abort is presumed; known commits are \
                 still delivered. Put the true log in its place; only if that is lost: votumctl write-off"
            ),
        );
        // The agents keep the proof: this life may end, and the next one must not take the log for whole.
        self.settings.durable.withhold();
        self.stale = Some(proof);
        // I13: the true log may be put in this one's place, and would know nothing of a commit decided here.
        self.abort_undecided("the coordinator's log is stale: somebody has seen more of it than it holds");
    }

    /// The log was put here from a backup: what was decided since that was made is lacking, whether or not any
    /// agent still knows.
    pub(super) fn note_restored(&mut self, restored: Restored) {
        let Restored { through, what } = restored;
        let evidence = Evidence { through, what, heard: self.seams.clock.now(), witness_age_ms: None };
        self.now_stale("the log itself", evidence);
    }

    pub(super) fn write_off(&mut self, order: &WriteOff, answer: Answer<v1::WriteOffResponse>) {
        match self.may_write_off(order) {
            Ok(through) if order.apply => {
                let response = self.what_is_written_off(through, true);
                let record = Record::WrittenOff(WrittenOff {
                    through,
                    seen: cut(self.stale.as_deref().unwrap_or_default(), MAX_TEXT),
                    operator: cut(&order.operator, MAX_LABEL),
                    reason: cut(&order.reason, MAX_TEXT),
                });
                tracing::warn!(%through, operator = %order.operator, reason = %order.reason,
                    "an operator writes off what this log lacks");
                self.writing_off = Some(through);
                let pending = Pending::WriteOff(Box::new(WritingOff { answer, response }));
                self.persist(record, true, pending);
            }
            judged => {
                let _ = answer.send(judged.map(|through| self.what_is_written_off(through, false)));
            }
        }
    }

    /// The newest epoch of which something is lacking.
    fn may_write_off(&self, order: &WriteOff) -> Result<Epoch, RequestError> {
        let refused = |why: String| Err(RequestError::Invalid(why));
        self.counted()?;
        if let Some(through) = self.writing_off {
            return refused(format!(
                "what is lacking up to epoch {through} is written off already: restart the coordinator"
            ));
        }
        let Some(through) = self.evidence.keys().map(|(_, through)| *through).max() else {
            return refused("the log is not stale: there is nothing to write off".into());
        };
        if through > HIGHEST_EPOCH {
            return refused(format!(
                "epoch {through} was never begun by any coordinator: look at the agents"
            ));
        }
        if let Some(link) = self.links.iter().find(|link| !link.judged) {
            return refused(format!(
                "the agent at {} has not been heard since the coordinator's start, and may have seen more than \
                 all others: bring it back; if it is gone for good, take it out of the configuration",
                link.address
            ));
        }
        if order.apply && order.coordinator_id != self.coordinator_id.as_str() {
            return refused(format!(
                "this is the log of {}, and not of {:?}: type out the coordinator_id whose lost decisions you \
                 give up",
                self.coordinator_id, order.coordinator_id
            ));
        }
        Ok(through)
    }

    fn what_is_written_off(&self, through: Epoch, applied: bool) -> v1::WriteOffResponse {
        let now = self.seams.clock.now();
        let evidence = self.evidence.iter().map(|((shown_by, _), evidence)| evidence.to_wire(shown_by, now));
        let waiting = self.participants.iter().flat_map(|(participant, known)| {
            let branch =
                |gid: &String| v1::WaitingBranch { participant: participant.to_string(), gid: gid.clone() };
            known.quarantined.keys().map(branch)
        });
        v1::WriteOffResponse {
            coordinator_id: self.coordinator_id.to_string(),
            through_epoch: through.0,
            evidence: evidence.collect(),
            waiting: waiting.collect(),
            applied,
        }
    }
}
