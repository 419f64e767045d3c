//! What is prepared at each participant now, joined with the log: for `votumctl in-doubt`.

use std::collections::BTreeSet;
use std::time::Duration;

use votum_proto::names::{Gid, ParticipantName};
use votum_proto::v1;

use super::knowledge::Owner;
use super::request::{Answer, RequestError};
use super::timers::Timer;
use super::{Driver, wire};
use crate::protocol::recovery::{self, Absence, Action, LogSays};

/// A request that waits for listings.
pub(super) struct Asked {
    waiting: BTreeSet<ParticipantName>,
    response: v1::ListInDoubtResponse,
    answer: Answer<v1::ListInDoubtResponse>,
}

impl Driver {
    pub(super) fn ask_in_doubt(
        &mut self,
        only: Option<&ParticipantName>,
        wait: Duration,
        answer: Answer<v1::ListInDoubtResponse>,
    ) {
        if let Some(unknown) = only.filter(|name| !self.participants.contains_key(*name)) {
            let message = format!("participant {unknown} is not configured at this coordinator");
            let _ = answer.send(Err(RequestError::Invalid(message)));
            return;
        }
        let request = self.next_listing;
        self.next_listing += 1;
        let mut response = v1::ListInDoubtResponse::default();
        let mut waiting = BTreeSet::new();
        let chosen: Vec<ParticipantName> =
            self.participants.keys().filter(|name| only.is_none_or(|only| only == *name)).cloned().collect();
        for participant in chosen {
            match self.unreachable(&participant) {
                Some(reason) => {
                    response.unheard.push(v1::Unheard { participant: participant.to_string(), reason });
                }
                None => {
                    self.send(&participant, wire::list(&participant, request, true));
                    waiting.insert(participant);
                }
            }
        }
        let at = self.seams.clock.now().after(wait);
        self.in_doubt.insert(request, Asked { waiting, response, answer });
        self.timers.set(at, Timer::InDoubt(request));
        self.in_doubt_progress(request);
    }

    pub(super) fn unreachable(&self, participant: &ParticipantName) -> Option<String> {
        let Some(known) = self.participants.get(participant) else {
            return Some(format!("participant {participant} is not configured"));
        };
        let link = self.links.get(known.agent)?;
        link.generation
            .is_none()
            .then(|| format!("its agent at {} is unreachable: {}", link.address, link.down))
    }

    /// A listing that was asked for.
    pub(super) fn in_doubt_listing(&mut self, participant: &ParticipantName, listing: v1::Listing) {
        let request = listing.request;
        if !self.in_doubt.contains_key(&request) {
            return;
        }
        let failed = !listing.failure.is_empty();
        let (ours, foreign) = if failed { Default::default() } else { self.join(participant, &listing) };
        let condition = listing.condition.filter(|_| !failed);
        let Some(asked) = self.in_doubt.get_mut(&request) else { return };
        asked.waiting.remove(participant);
        if failed {
            let unheard = v1::Unheard { participant: participant.to_string(), reason: listing.failure };
            asked.response.unheard.push(unheard);
        }
        if let Some(condition) = condition {
            let server =
                v1::ParticipantServer { participant: participant.to_string(), condition: Some(condition) };
            asked.response.servers.push(server);
        }
        asked.response.branches.extend(ours);
        asked.response.foreign.extend(foreign);
        self.in_doubt_progress(request);
    }

    fn in_doubt_progress(&mut self, request: u64) {
        if self.in_doubt.get(&request).is_some_and(|asked| asked.waiting.is_empty()) {
            self.answer_in_doubt(request);
        }
    }

    /// Answers with what has come; who has not answered is named.
    pub(super) fn answer_in_doubt(&mut self, request: u64) {
        let Some(mut asked) = self.in_doubt.remove(&request) else { return };
        for participant in asked.waiting {
            asked.response.unheard.push(v1::Unheard {
                participant: participant.to_string(),
                reason: "its agent is connected and has not answered in time".into(),
            });
        }
        let _ = asked.answer.send(Ok(asked.response));
    }

    /// The rows of a listing, ours and others', each with what the log says and what will happen.
    fn join(
        &self,
        participant: &ParticipantName,
        listing: &v1::Listing,
    ) -> (Vec<v1::InDoubt>, Vec<v1::InDoubt>) {
        let mut ours = Vec::new();
        let mut foreign = Vec::new();
        for row in &listing.prepared {
            let joined = self.join_row(participant, row, listing);
            if joined.rule == "R12" { foreign.push(joined) } else { ours.push(joined) }
        }
        for gid in &listing.busy {
            if !listing.prepared.iter().any(|row| row.gid == *gid) {
                ours.push(self.join_busy(participant, gid));
            }
        }
        (ours, foreign)
    }

    fn join_row(
        &self,
        participant: &ParticipantName,
        row: &v1::PreparedTransaction,
        listing: &v1::Listing,
    ) -> v1::InDoubt {
        let shown = |gtid: String, decision: &str, rule: String, next: String| v1::InDoubt {
            participant: participant.to_string(),
            row: Some(row.clone()),
            gtid,
            decision: decision.to_owned(),
            rule,
            next,
        };
        let Ok(gid) = row.gid.parse::<Gid>() else {
            let next = "nothing: it is not this coordinator's".to_owned();
            return shown(String::new(), "not ours", "R12".into(), next);
        };
        let says = self.log_says(participant, &gid, row.xid, Some(&Owner::of(row, listing)));
        let verdict = recovery::judge_prepared(participant, gid.branch, row.xid, &says);
        shown(
            gid.gtid.to_string(),
            decision_word(&says),
            verdict.row.to_string(),
            next_sentence(&verdict.action, &says),
        )
    }

    fn join_busy(&self, participant: &ParticipantName, gid: &str) -> v1::InDoubt {
        let gtid = gid.parse::<Gid>().map(|gid| gid.gtid.to_string()).unwrap_or_default();
        v1::InDoubt {
            participant: participant.to_string(),
            row: Some(v1::PreparedTransaction { gid: gid.to_owned(), ..Default::default() }),
            gtid,
            decision: String::new(),
            rule: String::new(),
            next: "the agent is working on it at this moment".into(),
        }
    }
}

fn decision_word(says: &LogSays) -> &'static str {
    match says {
        LogSays::NotOurs { .. } => "not ours",
        LogSays::Settled { .. } => "settled",
        LogSays::Decided { decision, .. } => match decision.decision {
            crate::protocol::record::Decision::Commit => "commit",
            crate::protocol::record::Decision::Abort(_) => "abort",
        },
        LogSays::Delegated { .. } => "delegated",
        LogSays::Nothing(_) => "none",
    }
}

fn next_sentence(action: &Action, says: &LogSays) -> String {
    match action {
        Action::Leave if matches!(says, LogSays::Nothing(Absence::Live)) => {
            "its transaction is live: a vote, or what is being recorded of it, is awaited".into()
        }
        Action::Leave => "nothing: it is not this coordinator's to end".into(),
        Action::LeaveAndAlarm(why) => format!("left as it is: {why}"),
        Action::Quarantine { why } => format!("a person decides (votumctl resolve): {why}"),
        Action::Commit { .. } => "COMMIT PREPARED, as soon as the database takes it".into(),
        Action::Rollback { alarm: None } => "ROLLBACK PREPARED, as soon as the database takes it".into(),
        Action::Rollback { alarm: Some(why) } => format!("ROLLBACK PREPARED: {why}"),
    }
}
