//! A person's word that departures from a decision have been dealt with: they leave the list of alarms, and
//! retention may take them. What became of the transaction is told as before.

use super::alarms::HEURISTIC;
use super::request::{Acknowledge, Answer, RequestError};
use super::{Driver, Pending};
use crate::protocol::record::{Acknowledged, Heuristic, MAX_LABEL, MAX_TEXT, Record, cut};

/// An acknowledgement on its way to the disk.
pub(super) struct Acknowledgement {
    departures: Vec<Heuristic>,
    answer: Answer<Vec<Heuristic>>,
}

impl Driver {
    pub(super) fn acknowledge(&mut self, acknowledge: &Acknowledge, answer: Answer<Vec<Heuristic>>) {
        match self.on_the_list(acknowledge) {
            Ok(departures) if acknowledge.apply => {
                self.record_acknowledgement(acknowledge, departures, answer);
            }
            listed => {
                let _ = answer.send(listed);
            }
        }
    }

    fn on_the_list(&self, acknowledge: &Acknowledge) -> Result<Vec<Heuristic>, RequestError> {
        let gtid = &acknowledge.gtid;
        let Some(history) = self.history_of(gtid)? else {
            let why = "the log's history is not there: it is being counted, or cannot be read";
            return Err(RequestError::Unavailable(why.into()));
        };
        let wanted = |heuristic: &&Heuristic| {
            acknowledge.participant.as_ref().is_none_or(|participant| heuristic.participant == *participant)
        };
        let departures: Vec<_> = history.unacknowledged().filter(wanted).cloned().collect();
        if departures.is_empty() {
            let at = acknowledge.participant.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
            return Err(RequestError::Invalid(format!(
                "nothing of {gtid}{at} waits to be acknowledged: see votumctl show {gtid}"
            )));
        }
        Ok(departures)
    }

    /// They are forced in order: when the last is on disk, all are.
    fn record_acknowledgement(
        &mut self,
        acknowledge: &Acknowledge,
        departures: Vec<Heuristic>,
        answer: Answer<Vec<Heuristic>>,
    ) {
        let records: Vec<_> = departures.iter().map(|departure| record(acknowledge, departure)).collect();
        let mut pending = Some(Pending::Acknowledgement(Box::new(Acknowledgement { departures, answer })));
        let last = records.len().saturating_sub(1);
        for (at, record) in records.into_iter().enumerate() {
            let pending = if at == last { pending.take() } else { None };
            self.persist(record, true, pending.unwrap_or(Pending::Note));
        }
    }

    pub(super) fn acknowledged(&mut self, acknowledgement: Acknowledgement) {
        let Acknowledgement { departures, answer } = acknowledgement;
        for departure in &departures {
            let gtid = departure.gid.gtid.to_string();
            self.alarms.clear(HEURISTIC, &gtid, departure.participant.as_str());
        }
        let _ = answer.send(Ok(departures));
    }
}

fn record(acknowledge: &Acknowledge, departure: &Heuristic) -> Record {
    let Heuristic { gid, participant, .. } = departure;
    let (operator, reason) = (cut(&acknowledge.operator, MAX_LABEL), cut(&acknowledge.reason, MAX_TEXT));
    tracing::warn!(gtid = %gid.gtid, %participant, %gid, operator, reason, "an operator acknowledges a departure");
    Record::Acknowledged(Acknowledged {
        gid: gid.clone(),
        participant: participant.clone(),
        operator,
        reason,
    })
}
