//! What nobody can prove after a change of timeline: the alarm, and a person's word that the databases were
//! compared. That holds for the one change: the next one raises the alarm again.

use votum_proto::names::ParticipantName;
use votum_proto::v1;

use super::alarms::UNPROVEN;
use super::request::{AcknowledgeUnproven, Answer, RequestError};
use super::{Driver, LogState, Pending};
use crate::log::{ComparedAt, History, HistoryError, VerifiedOn};
use crate::protocol::record::{Compared, MAX_LABEL, MAX_TEXT, Record, cut};

/// Commits of before a participant's present timeline that nobody can prove.
pub(super) struct Unproven {
    on: VerifiedOn,
    /// What a person said of them.
    compared: Option<ComparedAt>,
}

/// A person's word on its way to the disk.
pub(super) struct Comparison {
    compared: Compared,
    answer: Answer<v1::AcknowledgeUnprovenResponse>,
}

impl Unproven {
    pub(super) fn to_wire(&self) -> v1::UnprovenCommits {
        let acknowledged = self.compared.as_ref().map(|at| v1::UnprovenAcknowledged {
            operator: at.compared.operator.clone(),
            reason: at.compared.reason.clone(),
            position: at.position,
            running_ms: at.running_ms,
        });
        v1::UnprovenCommits { timeline: self.on.timeline, commits: self.on.unproven, acknowledged }
    }
}

impl Driver {
    /// What was noted of the timeline that a listing shows. Where the note was lost, a person's word stands for
    /// it: it is given only when the look is through, and is forced.
    pub(super) fn noted_on(
        &self,
        history: &dyn History,
        participant: &ParticipantName,
        listing: &v1::Listing,
    ) -> Result<Option<VerifiedOn>, HistoryError> {
        let present = (listing.system_identifier, listing.timeline);
        let is_present = |on: &VerifiedOn| (on.system_identifier, on.timeline) == present;
        if let Some(on) = history.verified(participant)?.filter(is_present) {
            return Ok(Some(on));
        }
        let said = history.compared(participant)?.map(|at| of(&at.compared)).filter(is_present);
        if let Some(on) = said {
            self.log.verified(participant.clone(), on);
        }
        Ok(said)
    }

    /// What could not be proven is an alarm, until it is forgotten or a person has compared the databases.
    pub(super) fn tell_unproven(&mut self, participant: &ParticipantName, on: VerifiedOn) {
        let VerifiedOn { timeline, unproven, .. } = on;
        let compared = self.compared_on(participant, on);
        let acknowledged = compared.is_some();
        if let Some(known) = self.participants.get_mut(participant) {
            known.unproven = (unproven > 0).then_some(Unproven { on, compared });
        }
        if unproven == 0 || acknowledged {
            return self.alarms.clear(UNPROVEN, "", participant.as_str());
        }
        let detail = format!(
            "{participant} has changed to timeline {timeline}: nobody can prove that {unproven} commits of before \
             are there, because they left no commit marker"
        );
        self.alarms.raise(UNPROVEN, "", participant.as_str(), &detail);
    }

    /// A person's word that covers all that could not be proven there.
    fn compared_on(&self, participant: &ParticipantName, on: VerifiedOn) -> Option<ComparedAt> {
        let LogState::Ready(history) = &self.log_state else { return None };
        if on.unproven == 0 {
            return None;
        }
        let said = history.compared(participant).unwrap_or_else(|error| {
            tracing::error!(%participant, %error, "whether a person has compared it cannot be read");
            None
        });
        said.filter(|at| covers(&at.compared, on))
    }

    pub(super) fn acknowledge_unproven(
        &mut self,
        order: &AcknowledgeUnproven,
        answer: Answer<v1::AcknowledgeUnprovenResponse>,
    ) {
        match self.unproven_at(order) {
            Ok(on) if order.apply => self.record_comparison(order, on, answer),
            judged => {
                let _ = answer.send(judged.map(|on| response(on.timeline, on.unproven, false)));
            }
        }
    }

    /// What the order is about, if it is what stands there now.
    fn unproven_at(&self, order: &AcknowledgeUnproven) -> Result<VerifiedOn, RequestError> {
        let AcknowledgeUnproven { participant, timeline, .. } = order;
        let refused = |why: String| Err(RequestError::Invalid(why));
        self.counted()?;
        let Some(known) = self.participants.get(participant) else {
            return refused(format!("there is no participant {participant}: see votumctl status"));
        };
        if self.verifying.contains_key(participant) {
            return refused(format!(
                "the commits that {participant} acknowledged are being looked for on its server's present \
                 timeline: ask again when that is done"
            ));
        }
        let Some(Unproven { on, compared }) = &known.unproven else {
            return refused(format!(
                "nothing of {participant} waits to be acknowledged: see votumctl status"
            ));
        };
        if on.timeline != *timeline {
            return refused(format!(
                "{participant} is on timeline {}, and not on {timeline}: what was compared on another timeline \
                 says nothing of this one",
                on.timeline
            ));
        }
        if let Some(ComparedAt { compared, .. }) = compared {
            let operator = &compared.operator;
            return refused(format!("{operator} has acknowledged that already: see votumctl status"));
        }
        Ok(*on)
    }

    fn record_comparison(
        &mut self,
        order: &AcknowledgeUnproven,
        on: VerifiedOn,
        answer: Answer<v1::AcknowledgeUnprovenResponse>,
    ) {
        let VerifiedOn { system_identifier, timeline, unproven } = on;
        let compared = Compared {
            participant: order.participant.clone(),
            system_identifier,
            timeline,
            unproven,
            operator: cut(&order.operator, MAX_LABEL),
            reason: cut(&order.reason, MAX_TEXT),
        };
        tracing::warn!(participant = %order.participant, timeline, unproven,
            operator = compared.operator, reason = compared.reason,
            "an operator acknowledges commits that nobody can prove");
        let record = Record::Compared(compared.clone());
        self.persist(record, true, Pending::Comparison(Box::new(Comparison { compared, answer })));
    }

    /// It is on disk: the alarm is over, unless the server has changed its timeline again meanwhile.
    pub(super) fn compared(&mut self, comparison: Comparison) {
        let Comparison { compared, answer } = comparison;
        let Compared { participant, timeline, unproven, .. } = &compared;
        let standing = self.participants.get(participant).and_then(|known| known.unproven.as_ref());
        if let Some(on) = standing.map(|standing| standing.on) {
            self.tell_unproven(participant, on);
        }
        let _ = answer.send(Ok(response(*timeline, *unproven, true)));
    }
}

/// What a person said something of.
fn of(compared: &Compared) -> VerifiedOn {
    let Compared { system_identifier, timeline, unproven, .. } = *compared;
    VerifiedOn { system_identifier, timeline, unproven }
}

/// Whether a person's word is about this change of timeline, and about no fewer commits.
fn covers(compared: &Compared, on: VerifiedOn) -> bool {
    let said = of(compared);
    (said.system_identifier, said.timeline) == (on.system_identifier, on.timeline)
        && said.unproven >= on.unproven
}

fn response(timeline: u32, commits: u64, applied: bool) -> v1::AcknowledgeUnprovenResponse {
    v1::AcknowledgeUnprovenResponse { timeline, commits, applied }
}
