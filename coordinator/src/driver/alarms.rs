//! What a person has to look at, until it is over: an ERROR line when it begins, an entry in `votumctl
//! status` while it lasts.

use std::collections::BTreeMap;

use votum_proto::v1;

/// A log of another machine, or an older copy, has been seen.
pub(super) const STALE: &str = "VOTUM-1401";
/// A branch waits for a person (R10), or for a log that can be trusted (R8).
pub(super) const QUARANTINED: &str = "VOTUM-1402";
/// Phase 2 does not get on at a branch.
pub(super) const PHASE_TWO: &str = "VOTUM-1403";
/// Work that nobody decided is prepared under one of our names (R1x).
pub(super) const IMPOSTOR: &str = "VOTUM-1404";
/// A prepared transaction looks like ours and is not (R12).
pub(super) const FORGED: &str = "VOTUM-1405";
/// A participant cannot be listed, or is not the database that it should be (R11).
pub(super) const UNHEARD: &str = "VOTUM-1406";
/// A branch ended otherwise than decided.
pub const HEURISTIC: &str = "VOTUM-1407";
/// The log's store cannot be read.
pub(super) const LOG_UNREADABLE: &str = "VOTUM-1408";
/// An agent refuses this coordinator.
pub(super) const REFUSED: &str = "VOTUM-1409";
/// The log failed.
pub(super) const LOG_DOUBTFUL: &str = "VOTUM-1410";
/// The log remembers too little.
pub(super) const SHORT_REACH: &str = "VOTUM-1411";

/// A server has changed its timeline, and nobody can prove what it still holds.
pub(super) const UNPROVEN: &str = "VOTUM-1412";

/// Every code with which an alarm is raised.
pub const ALARMS: [&str; 12] = [
    STALE,
    QUARANTINED,
    PHASE_TWO,
    IMPOSTOR,
    FORGED,
    UNHEARD,
    HEURISTIC,
    LOG_UNREADABLE,
    REFUSED,
    LOG_DOUBTFUL,
    UNPROVEN,
    SHORT_REACH,
];

/// What an alarm is about: code, gtid or gid, participant.
type Subject = (&'static str, String, String);

/// Every alarm that lasts.
#[derive(Default)]
pub(super) struct Alarms(BTreeMap<Subject, String>);

impl Alarms {
    /// Begins, or goes on. The line is printed when it begins and when what was seen changes.
    pub(super) fn raise(&mut self, code: &'static str, gtid: &str, participant: &str, detail: &str) {
        let subject = (code, gtid.to_owned(), participant.to_owned());
        if self.0.get(&subject).is_some_and(|before| before == detail) {
            return;
        }
        tracing::error!(code, gtid, participant, "{detail}");
        self.0.insert(subject, detail.to_owned());
    }

    /// Begins, unless it lasts already, whatever was seen then.
    pub(super) fn raise_if_new(&mut self, code: &'static str, gtid: &str, participant: &str, detail: &str) {
        if !self.0.contains_key(&(code, gtid.to_owned(), participant.to_owned())) {
            self.raise(code, gtid, participant, detail);
        }
    }

    /// Is over.
    pub(super) fn clear(&mut self, code: &'static str, gtid: &str, participant: &str) {
        let subject = (code, gtid.to_owned(), participant.to_owned());
        if self.0.remove(&subject).is_some() {
            tracing::info!(code, gtid, participant, "the alarm is over");
        }
    }

    /// Ends every alarm of this code at this participant except those about `still`.
    pub(super) fn keep_only(&mut self, code: &'static str, participant: &str, still: &[String]) {
        let over: Vec<Subject> = self
            .0
            .keys()
            .filter(|(c, gtid, p)| *c == code && p == participant && !still.contains(gtid))
            .cloned()
            .collect();
        for (code, gtid, participant) in over {
            self.clear(code, &gtid, &participant);
        }
    }

    /// Ends every alarm about this transaction, except its heuristic outcomes.
    pub(super) fn transaction_ended(&mut self, gtid: &str) {
        let over: Vec<Subject> =
            self.0.keys().filter(|(code, g, _)| g == gtid && *code != HEURISTIC).cloned().collect();
        for (code, gtid, participant) in over {
            self.clear(code, &gtid, &participant);
        }
    }

    pub(super) fn to_wire(&self) -> Vec<v1::Alarm> {
        self.0
            .iter()
            .map(|((code, gtid, participant), detail)| v1::Alarm {
                code: (*code).to_owned(),
                gtid: gtid.clone(),
                participant: participant.clone(),
                detail: detail.clone(),
            })
            .collect()
    }
}
