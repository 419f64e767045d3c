//! Listings: what is prepared and open at a participant, judged row by row by the recovery table.

use std::collections::BTreeSet;
use std::time::Duration;

use votum_proto::names::{Gid, Gtid, ParticipantName};
use votum_proto::v1;

use super::alarms::{FORGED, IMPOSTOR, QUARANTINED, UNHEARD};
use super::knowledge::Owner;
use super::{DatabaseIdentity, Driver, Live, LocalId, LogState, Pending, wire};
use crate::crash;
use crate::protocol::event::{Event, Report};
use crate::protocol::record::{Heuristic, HeuristicKind, Record};
use crate::protocol::recovery::{self, Action, Row, Verdict};
use crate::transport::AgentIndex;

/// For how long after the start an agent may be unheard before that is worth an alarm.
const START: Duration = Duration::from_secs(5);

/// What came of a judgement.
pub(super) struct Judged {
    row: Row,
    /// It is left for a person.
    left: bool,
}

impl Driver {
    /// Every participant is asked for a listing: after the log was counted and after the last agent
    /// was heard, when absence begins to count.
    pub(super) fn ask_for_listings(&mut self) {
        let participants: Vec<ParticipantName> = self.participants.keys().cloned().collect();
        for participant in participants {
            self.send(&participant, wire::list(&participant, 0, false));
        }
    }

    pub(super) fn listing_failed(&mut self, participant: &ParticipantName, why: &str) {
        crash::judged(Row::R11);
        if let Some(known) = self.participants.get_mut(participant) {
            why.clone_into(&mut known.failure);
        }
        self.alarms.raise(
            UNHEARD,
            "",
            participant.as_str(),
            &format!("nothing can be concluded about {participant}: {why}"),
        );
    }

    pub(super) fn on_listing(&mut self, agent: AgentIndex, listing: v1::Listing) {
        let Ok(participant) = listing.participant.parse::<ParticipantName>() else { return };
        if self.participants.get(&participant).is_none_or(|known| known.agent != agent) {
            return;
        }
        match recovery::judge_listing(&listing.failure, listing.in_recovery) {
            Some(why) => self.listing_failed(&participant, &why),
            None => self.act_on_listing(&participant, &listing),
        }
        if listing.request != 0 {
            self.in_doubt_listing(&participant, listing);
        }
    }

    fn act_on_listing(&mut self, participant: &ParticipantName, listing: &v1::Listing) {
        self.alarms.clear(UNHEARD, "", participant.as_str());
        self.count_in_doubt(participant, listing);
        self.note_database(participant, listing);
        self.note_where_it_decides(participant, listing);
        let mut unsettled = self.oldest_undecided();
        let mut left: Vec<String> = Vec::new();
        for row in &listing.prepared {
            let Ok(gid) = row.gid.parse::<Gid>() else { continue };
            let owner = Owner::of(row, listing);
            let judged = self.judge_row(participant, &gid, row.xid, Some(&owner));
            if judged.left {
                left.push(row.gid.clone());
            }
            // Nobody's record decides over a stranger's; where a mark has passed already, it is too late.
            if !matches!(judged.row, Row::R12 | Row::R10) {
                unsettled = older(unsettled, gid.gtid);
            }
        }
        let busy = listing.busy.iter().filter_map(|gid| gid.parse::<Gid>().ok());
        for gid in busy.filter(|gid| gid.gtid.coordinator_id == self.coordinator_id) {
            unsettled = older(unsettled, gid.gtid);
        }
        self.log.listed(participant.clone(), unsettled);
        self.judge_reach();
        for code in [QUARANTINED, FORGED, IMPOSTOR] {
            self.alarms.keep_only(code, participant.as_str(), &left);
        }
        if let Some(known) = self.participants.get_mut(participant) {
            known.quarantined.retain(|gid, _| left.contains(gid));
        }
        for session in &listing.sessions {
            self.on_open_session(participant, session);
        }
        let there = listing.prepared.iter().map(|row| &row.gid).chain(&listing.busy).map(String::as_str);
        let there: BTreeSet<&str> = there.collect();
        // What is neither prepared nor being ended was not committed again, or that has been said.
        self.mending.retain(|gid, mended| mended.participant != *participant || there.contains(gid.as_str()));
        self.timeline_seen(participant, listing);
        self.prune_markers(participant);
        self.settlement.listed(participant, &there);
        self.settlement.heard(participant);
        self.settlement_progress();
    }

    /// The oldest transaction of this life that may yet be prepared somewhere while no decision is on disk.
    /// Those of earlier lives run no more: what is prepared of them is listed.
    fn oldest_undecided(&self) -> Option<Gtid> {
        let of_this_life = self.live.range(LocalId { life: self.life, seq: 0 }..);
        let mut undecided = of_this_life.filter(|(_, live)| live.transaction.is_undecided());
        // An abort is not forced, and its transaction may be over before it is on disk.
        let on_the_way = self.pending.iter().filter_map(|(_, pending)| match pending {
            Pending::Transaction(id, record) if matches!(**record, Record::Decided(_)) => Some(*id),
            Pending::Transaction(..)
            | Pending::Lease(_)
            | Pending::Resolution(_)
            | Pending::Acknowledgement(_)
            | Pending::WriteOff(_)
            | Pending::Comparison(_)
            | Pending::Departure(_)
            | Pending::Note => None,
        });
        let oldest = undecided.next().map(|(id, _)| *id).into_iter().chain(on_the_way).min();
        oldest.map(|id| self.gtid(id))
    }

    fn count_in_doubt(&mut self, participant: &ParticipantName, listing: &v1::Listing) {
        let ours = |row: &&v1::PreparedTransaction| {
            row.gid.parse::<Gid>().is_ok_and(|gid| gid.gtid.coordinator_id == self.coordinator_id)
        };
        let rows: Vec<&v1::PreparedTransaction> = listing.prepared.iter().filter(ours).collect();
        let in_doubt = rows.len() + listing.busy.len();
        let oldest = rows.iter().map(|row| row.age_ms).max().unwrap_or(0);
        if let Some(known) = self.participants.get_mut(participant) {
            known.heard = true;
            known.failure.clear();
            known.in_doubt = in_doubt as u64;
            known.oldest_in_doubt_ms = oldest;
        }
    }

    fn note_database(&mut self, participant: &ParticipantName, listing: &v1::Listing) {
        let Some(shown) = DatabaseIdentity::shown_by(listing) else { return };
        let known = self.participants.get(participant).and_then(|known| known.database.as_ref());
        if known == Some(&shown) {
            return;
        }
        for (other, _) in
            self.participants.iter().filter(|(_, other)| other.database.as_ref() == Some(&shown))
        {
            tracing::warn!(%participant, %other, "both participants are {shown}: a transaction that names \
                both is refused; give each database one name in the configuration");
        }
        if let Some(known) = self.participants.get_mut(participant) {
            known.database = Some(shown);
        }
    }

    fn on_open_session(&mut self, participant: &ParticipantName, open: &v1::OpenSession) {
        let (Ok(gtid), Some(session)) = (open.gtid.parse::<Gtid>(), open.session) else { return };
        let id = LocalId::from(&gtid);
        let awaited = |live: &Live| live.transaction.is_undecided() || live.transaction.is_one_phase();
        if self.live.get(&id).is_some_and(awaited) {
            self.step(id, Event::Enlisted { participant: participant.clone(), session: session.into() });
        } else {
            // R0
            crash::judged(Row::R0);
            self.send(participant, wire::end_session(&gtid, participant));
        }
    }

    /// Judges one prepared branch by the recovery table, and acts.
    pub(super) fn judge_row(
        &mut self,
        participant: &ParticipantName,
        gid: &Gid,
        xid: u32,
        owner: Option<&Owner>,
    ) -> Judged {
        let says = self.log_says(participant, gid, xid, owner);
        let Verdict { row, action } = recovery::judge_prepared(participant, gid.branch, xid, &says);
        tracing::debug!(gtid = %gid.gtid, %participant, %gid, %row, ?action, "judged");
        crash::judged(row);
        if row == Row::R16 {
            self.note_departing(participant, gid, xid);
        }
        let left = match action {
            Action::Leave => false,
            Action::LeaveAndAlarm(why) => {
                self.leave(row, participant, gid, xid, &why);
                true
            }
            Action::Quarantine { why } => {
                let why = format!("{why}; an operator has to decide (votumctl resolve)");
                self.leave(row, participant, gid, xid, &why);
                true
            }
            Action::Commit { xid8, mends } => {
                if mends {
                    self.mending.insert(gid.to_string(), mended(participant, gid, xid8));
                }
                self.send(participant, wire::commit_again(participant, gid, xid8, xid));
                false
            }
            Action::Rollback { .. } if self.is_other_work(participant, gid, xid) => {
                // R15: as if the agent had answered our order so.
                let (branch, report) = (gid.branch, Report::OtherXid(xid));
                let answer = Event::BranchEnded { branch, was_commit: false, report };
                self.step(LocalId::from(&gid.gtid), answer);
                true
            }
            Action::Rollback { alarm } => {
                if let Some(why) = &alarm {
                    self.alarms.raise(IMPOSTOR, &gid.to_string(), participant.as_str(), why);
                }
                self.settlement.rolls_back(gid.to_string(), participant);
                let order = wire::rollback_branch(&gid.gtid, participant, Some(gid), 0, xid);
                self.send(participant, order);
                alarm.is_some()
            }
        };
        Judged { row, left }
    }

    fn is_other_work(&self, participant: &ParticipantName, gid: &Gid, xid: u32) -> bool {
        let live = self.live.get(&LocalId::from(&gid.gtid));
        live.is_some_and(|live| live.transaction.is_other_work(gid.branch, participant, xid))
    }

    fn leave(&mut self, row: Row, participant: &ParticipantName, gid: &Gid, xid: u32, why: &str) {
        // A moment of every start, not an alarm: the branch is judged again when the log is counted, and when
        // the last agent is heard.
        let starting = matches!(self.log_state, LogState::Counting)
            || (self.unheard().is_some() && self.seams.clock.now().since(self.started) < START);
        if row == Row::R8 && self.stale.is_none() && starting {
            return;
        }
        let code = if row == Row::R12 { FORGED } else { QUARANTINED };
        self.alarms.raise(
            code,
            &gid.to_string(),
            participant.as_str(),
            &format!("{gid} is left as it is ({row}): {why}"),
        );
        if code == QUARANTINED
            && let Some(known) = self.participants.get_mut(participant)
        {
            known.quarantined.insert(gid.to_string(), xid);
        }
    }
}

fn older(one: Option<Gtid>, other: Gtid) -> Option<Gtid> {
    one.into_iter().chain([other]).min()
}

fn mended(participant: &ParticipantName, gid: &Gid, xid8: u64) -> Heuristic {
    Heuristic {
        gid: gid.clone(),
        participant: participant.clone(),
        xid8,
        kind: HeuristicKind::Mended,
        detail: "it had ended, was prepared again (a failover undid it), and was committed again".into(),
    }
}
