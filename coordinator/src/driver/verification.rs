//! After a change of timeline: what became, at a server that took over, of commits that were acknowledged
//! before (R2). A standby that lacked them shows nothing of them: neither prepared, nor in doubt. So every
//! commit that is remembered of an earlier timeline is looked for there, the newest first, some at a time, as
//! fast as the agent answers. What is lost is recorded and named; what nobody can prove is counted.

use votum_proto::names::{Gid, Gtid, ParticipantName};
use votum_proto::runtime::Monotonic;
use votum_proto::v1;

use super::timers::Timer;
use super::{Driver, LocalId, LogState, Pending, wire};
use crate::crash;
use crate::log::{TransactionHistory, VerifiedOn};
use crate::protocol::event::Event;
use crate::protocol::gone::{Gone, Verified, judge_after_failover};
use crate::protocol::record::{Decided, Decision, Heuristic, HeuristicKind, PreparedBranch, Record};

/// How many transactions of the history are looked at in one turn.
const PAGE: usize = 64;
/// How many branches an agent is asked about at once.
const BATCH: usize = 256;
/// For how long an answer may be on its way before it is asked for again.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// How long to wait before looking again at what could not be told yet.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// A branch whose commit was acknowledged.
#[derive(Debug, Clone)]
struct Committed {
    gid: Gid,
    branch: PreparedBranch,
}

/// A question to an agent.
struct Asked {
    request: u64,
    at: Monotonic,
    branches: Vec<Committed>,
}

/// The look at one participant.
pub(super) struct Verification {
    system_identifier: u64,
    timeline: u32,
    /// What lies below it has not been looked at; `None` before the first.
    cursor: Option<Gtid>,
    /// Everything in the history has been looked at once.
    through: bool,
    /// To be asked about.
    batch: Vec<Committed>,
    /// The question that is under way.
    asked: Option<Asked>,
    /// Could not be told yet.
    again: Vec<Committed>,
    looked_at: u64,
    departed: u64,
    unproven: u64,
    /// The last departure's place in the log's queue: done once that is on disk.
    recorded: u64,
}

impl Verification {
    fn is_on(&self, listing: &v1::Listing) -> bool {
        (self.system_identifier, self.timeline) == (listing.system_identifier, listing.timeline)
    }

    /// The answer to what is asked will not come: it is to be asked again.
    fn unanswered(&mut self) {
        if let Some(Asked { branches, .. }) = self.asked.take() {
            self.batch.splice(..0, branches);
        }
    }

    fn on(&self) -> VerifiedOn {
        let Self { system_identifier, timeline, unproven, .. } = *self;
        VerifiedOn { system_identifier, timeline, unproven }
    }
}

impl Driver {
    /// A complete listing shows which timeline the participant's server is on.
    pub(super) fn timeline_seen(&mut self, participant: &ParticipantName, listing: &v1::Listing) {
        let LogState::Ready(history) = &self.log_state else { return };
        if listing.system_identifier == 0 || listing.timeline == 0 {
            return;
        }
        if let Some(under_way) = self.verifying.get_mut(participant)
            && under_way.is_on(listing)
        {
            let now = self.seams.clock.now();
            if under_way.asked.as_ref().is_some_and(|asked| now.since(asked.at) < PATIENCE) {
                return;
            }
            under_way.unanswered();
            return self.verify_more(participant);
        }
        match self.noted_on(history.as_ref(), participant, listing) {
            Ok(Some(on)) => {
                self.verifying.remove(participant);
                self.tell_unproven(participant, on);
            }
            Ok(None) => {
                let verification = Verification {
                    system_identifier: listing.system_identifier,
                    timeline: listing.timeline,
                    cursor: None,
                    through: false,
                    batch: Vec::new(),
                    asked: None,
                    again: Vec::new(),
                    looked_at: 0,
                    departed: 0,
                    unproven: 0,
                    recorded: 0,
                };
                self.verifying.insert(participant.clone(), verification);
                self.verify_more(participant);
            }
            // The next listing comes back to it; who reads there is told.
            Err(error) => tracing::error!(%participant, %error, "what was verified cannot be read"),
        }
    }

    /// Whatever an agent was asked, it does not answer on this stream any more.
    pub(super) fn verification_cut_off(&mut self, participant: &ParticipantName) {
        if let Some(verification) = self.verifying.get_mut(participant) {
            verification.unanswered();
        }
    }

    /// Comes back at `at`. One timer serves all participants: each turn looks at one page of each.
    fn verify_at(&mut self, at: Monotonic) {
        match self.verify_at {
            Some(due) if due <= at => return,
            Some(due) => self.timers.cancel(due, Timer::Verify),
            None => {}
        }
        self.verify_at = Some(at);
        self.timers.set(at, Timer::Verify);
    }

    /// The time to look again has come.
    pub(super) fn verify_again(&mut self) {
        self.verify_at = None;
        let participants: Vec<ParticipantName> = self.verifying.keys().cloned().collect();
        for participant in participants {
            if let Some(verification) = self.verifying.get_mut(&participant)
                && verification.asked.is_none()
            {
                verification.batch.append(&mut verification.again);
                self.verify_more(&participant);
            }
        }
    }

    /// Goes on where nothing is under way: looks for more, asks about what was found, or is done.
    fn verify_more(&mut self, participant: &ParticipantName) {
        let Some(mut verification) = self.verifying.remove(participant) else { return };
        if let Err(error) = self.look_for_more(participant, &mut verification) {
            // It is begun anew with the next listing.
            tracing::error!(%participant, %error, "the commits of earlier timelines cannot be read");
            return;
        }
        let Verification { batch, asked, again, through, .. } = &mut verification;
        let full = batch.len() >= BATCH;
        if !batch.is_empty() && (full || *through) {
            let branches: Vec<Committed> = batch.drain(..batch.len().min(BATCH)).collect();
            let request = self.next_listing;
            self.next_listing += 1;
            let question = branches.iter().map(|it| (&it.gid, it.branch.xid8, false));
            let question = wire::verify_branches(participant, request, question);
            *asked = Some(Asked { request, at: self.seams.clock.now(), branches });
            self.send(participant, question);
        } else if !*through {
            self.verify_at(self.seams.clock.now());
        } else if !again.is_empty() {
            self.verify_at(self.seams.clock.now().after(AGAIN));
        } else if self.pending.front().is_none_or(|(token, _)| *token > verification.recorded) {
            return self.all_verified(participant, &verification);
        }
        self.verifying.insert(participant.clone(), verification);
    }

    /// One page of the history.
    fn look_for_more(
        &self,
        participant: &ParticipantName,
        verification: &mut Verification,
    ) -> Result<(), crate::log::HistoryError> {
        let LogState::Ready(history) = &self.log_state else { return Ok(()) };
        if verification.through || verification.batch.len() >= BATCH {
            return Ok(());
        }
        let page = history.newest_before(verification.cursor.as_ref(), PAGE)?;
        for gtid in &page {
            let records = history.transaction(gtid)?;
            let live = self.live.get(&LocalId::from(gtid)).and_then(|live| live.transaction.decided());
            let decided = records.decided.as_ref().or(live);
            for committed in of_earlier_timelines(decided, participant, verification.on()) {
                if self.is_to_be_verified(&records, &committed.gid) {
                    verification.batch.push(committed);
                }
            }
        }
        verification.through = page.len() < PAGE;
        verification.cursor = page.last().cloned().or(verification.cursor.take());
        Ok(())
    }

    /// Whether a branch of a commit had acknowledged it when the timeline changed. What had not is committed on
    /// the present one (R1), or found out about there (R3). Nor is there a need to look at one whose departure is
    /// recorded, or that is being committed again.
    fn is_to_be_verified(&self, records: &TransactionHistory, gid: &Gid) -> bool {
        let live = self.live.get(&LocalId::from(&gid.gtid)).map(|live| &live.transaction);
        let noted = live.map(|transaction| transaction.heuristics()).unwrap_or_default();
        let mut all = records.heuristics.iter().chain(noted);
        let last = all.rfind(|heuristic| heuristic.gid == *gid);
        let told = last.is_some_and(|heuristic| heuristic.kind != HeuristicKind::Mended);
        let acknowledged =
            records.ended || live.is_some_and(|transaction| transaction.acknowledged(gid.branch));
        acknowledged && !told && !self.mending.contains_key(&gid.to_string())
    }

    /// What an agent says to [`Driver::verify_more`]'s question.
    pub(super) fn on_verified(&mut self, verified: &v1::BranchesVerified) {
        let Ok(participant) = verified.participant.parse::<ParticipantName>() else { return };
        if self.on_inquired(&participant, verified) {
            return;
        }
        let Some(verification) = self.verifying.get_mut(&participant) else { return };
        if !verified.failure.is_empty() {
            tracing::warn!(%participant, why = %verified.failure,
                "commits of earlier timelines cannot be verified yet");
            return verification.unanswered();
        }
        let Some(Asked { branches, .. }) = verification.asked.take_if(|asked| {
            asked.request == verified.request && asked.branches.len() == verified.branches.len()
        }) else {
            return;
        };
        let timeline = verification.timeline;
        for (committed, gone) in branches.into_iter().zip(&verified.branches) {
            let gone = wire::gone(gone);
            if gone.timeline == timeline {
                self.judge_verified(&participant, committed, &gone);
            } else if let Some(verification) = self.verifying.get_mut(&participant) {
                // It has changed again: the next listing says so, too, and all is looked at anew.
                verification.again.push(committed);
            }
        }
        self.verify_more(&participant);
    }

    fn judge_verified(&mut self, participant: &ParticipantName, committed: Committed, gone: &Gone) {
        let (row, verified) = judge_after_failover(&committed.branch, gone);
        crash::judged(row);
        let remembered = self.history_of(&committed.gid.gtid).map(|records| {
            records.is_some_and(|records| {
                // Of one that was committed in one phase the record may still be on its way.
                let known = records.decided.is_some() || records.delegated.is_some();
                known && self.is_to_be_verified(&records, &committed.gid)
            })
        });
        let Some(verification) = self.verifying.get_mut(participant) else { return };
        match remembered {
            Ok(true) => {}
            // Forgotten since it was asked about, and its marker with it; or somebody else has found out.
            Ok(false) => return,
            Err(error) => {
                tracing::error!(gtid = %committed.gid.gtid, %error, "what is remembered of it cannot be read");
                return verification.again.push(committed);
            }
        }
        if verified != Verified::NotYet {
            verification.looked_at += 1;
        }
        match verified {
            Verified::Stands => {}
            Verified::Unproven => verification.unproven += 1,
            Verified::NotYet => verification.again.push(committed),
            Verified::Departed { kind, detail } => {
                verification.departed += 1;
                let Committed { gid, branch } = committed;
                let (participant, xid8) = (participant.clone(), branch.xid8);
                self.record_departure(Heuristic { gid, participant, xid8, kind, detail });
            }
        }
    }

    fn record_departure(&mut self, departure: Heuristic) {
        let participant = departure.participant.clone();
        let record = Record::Heuristic(departure.clone());
        self.persist(record, true, Pending::Departure(Box::new(departure)));
        if let Some(verification) = self.verifying.get_mut(&participant) {
            verification.recorded = self.last_token;
        }
    }

    /// It is on disk: from now on everybody is told.
    pub(super) fn departure_durable(&mut self, departure: Heuristic) {
        super::turn::note_heuristic(&mut self.alarms, &departure);
        let id = LocalId::from(&departure.gid.gtid);
        self.recent.outcomes.remove(&id);
        self.step(id, Event::Durable(Record::Heuristic(departure)));
        self.verify_at(self.seams.clock.now());
    }

    fn all_verified(&mut self, participant: &ParticipantName, verification: &Verification) {
        let Verification { timeline, looked_at, departed, unproven, .. } = verification;
        if *looked_at > 0 {
            tracing::warn!(
                %participant, timeline, looked_at, departed, unproven,
                "the server took over on another timeline; the commits of earlier ones were looked for there"
            );
        }
        self.log.verified(participant.clone(), verification.on());
        self.tell_unproven(participant, verification.on());
    }
}

/// The branches of a decision to commit at `participant` that were prepared on another timeline of the same system.
fn of_earlier_timelines(
    decided: Option<&Decided>,
    participant: &ParticipantName,
    on: VerifiedOn,
) -> Vec<Committed> {
    let Some(decided) = decided.filter(|decided| decided.decision == Decision::Commit) else {
        return Vec::new();
    };
    let there = decided.branches.iter().filter(|branch| {
        branch.participant == *participant
            && branch.system_identifier == on.system_identifier
            && branch.timeline != on.timeline
    });
    there.map(|branch| Committed { gid: decided.gid(branch.number), branch: branch.clone() }).collect()
}
