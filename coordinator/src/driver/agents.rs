//! What agents say: hellos, enlistments, votes, and how branches ended. Listings: `listings`.

use votum_proto::names::{Gid, Gtid, ParticipantName};
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind;

use super::alarms::{HEURISTIC, PHASE_TWO, REFUSED, UNHEARD};
use super::knowledge::Owner;
use super::write_off::Evidence;
use super::{AgentSettings, Driver, Link, LocalId, LogState, Participant, Pending, wire};
use crate::crash::{self, CrashPoint};
use crate::protocol::event::{Event, Report, Vote};
use crate::protocol::lives::{HelloSays, Proof};
use crate::protocol::record::{Heuristic, HeuristicKind, Record};
use crate::protocol::recovery::{self, Row};
use crate::transport::{AgentIndex, Generation, LinkEvent};

impl Driver {
    /// Notes the configured agents; none is connected yet.
    pub(super) fn meet(&mut self, agents: Vec<AgentSettings>) {
        for (agent, AgentSettings { link, address, participants }) in agents.into_iter().enumerate() {
            for name in &participants {
                let participant = Participant {
                    agent,
                    heard: false,
                    failure: "its agent has not been reached yet".into(),
                    in_doubt: 0,
                    oldest_in_doubt_ms: 0,
                    database: None,
                    decides_on: None,
                    quarantined: std::collections::BTreeMap::new(),
                    unproven: None,
                };
                self.participants.insert(name.clone(), participant);
            }
            self.links.push(Link {
                handle: link,
                address,
                participants,
                generation: None,
                instance: 0,
                down: "not reached yet".into(),
                since: self.started,
                heard: false,
                judged: false,
                can_hold: false,
                can_commit_one_phase: false,
                can_work: false,
                can_decide: false,
                can_verify_attached: false,
            });
        }
    }

    pub(super) fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { agent, generation, hello } => self.agent_up(agent, generation, hello),
            LinkEvent::Refused { agent, refusal } => self.agent_refused(agent, &refusal),
            LinkEvent::Frame { agent, generation, messages, queues } => {
                if let Some(link) = self.links.get(agent).filter(|link| link.generation == Some(generation)) {
                    self.admission.waits(&link.participants, queues, self.seams.clock.now());
                    for message in messages {
                        self.on_agent_message(agent, message);
                    }
                }
            }
            LinkEvent::Down { agent, generation, why } => self.agent_down(agent, generation, why),
        }
    }

    fn agent_up(&mut self, agent: AgentIndex, generation: Generation, hello: v1::AgentHello) {
        // Judged whole before anything of it is acted on: a stale log must not presume an abort in the
        // very hello that proves it stale.
        self.judge_hello(agent, &hello);
        let now = self.seams.clock.now();
        let Some(link) = self.links.get_mut(agent) else { return };
        let first = !std::mem::replace(&mut link.heard, true);
        if link.generation.replace(generation).is_none() {
            link.since = now;
        }
        link.instance = hello.instance;
        link.can_hold = hello.can_hold;
        link.can_commit_one_phase = hello.can_commit_one_phase;
        link.can_work = hello.can_work;
        link.can_decide = hello.can_decide;
        link.can_verify_attached = hello.can_verify_attached;
        link.down.clear();
        let participants = link.participants.clone();
        let address = link.address.clone();
        tracing::info!(agent = %address, instance = format!("{:016x}", hello.instance), "agent connected");
        self.alarms.clear(REFUSED, "", &address);
        for participant in &participants {
            // I14: what is owed goes first, before anything is asked.
            self.order_what_is_owed(participant, hello.instance);
        }
        for participant in &participants {
            if !hello.listings.iter().any(|listing| listing.participant == participant.as_str()) {
                self.listing_failed(participant, "its agent does not serve it");
            }
        }
        let last = first && self.links.len() > 1 && self.unheard().is_none();
        // What the others listed was left because of the last one.
        let listed_in_vain = last && !matches!(self.log_state, LogState::Counting);
        if listed_in_vain {
            // Before its own listings, which would be taken for the end of all that there was to settle.
            self.settlement.hear_again();
        }
        for listing in hello.listings {
            self.on_listing(agent, listing);
        }
        if last {
            self.hand_over_what_waited();
        }
        if listed_in_vain {
            self.ask_for_listings();
        }
        // Something goes out in any case: it tells the link that the hello was judged.
        self.out.messages.entry(agent).or_default();
    }

    fn judge_hello(&mut self, agent: AgentIndex, hello: &v1::AgentHello) {
        let address = self.links.get(agent).map(|link| link.address.clone()).unwrap_or_default();
        let gids: Vec<Gid> = hello.listings.iter().flat_map(|listing| self.ours_in(listing)).collect();
        let age_ms = hello.witness.map(|_| hello.witness_age_ms);
        self.hello_says(&address, age_ms, self.lives.judge_hello(hello.witness.map(wire::witness), &gids));
        if let Some(link) = self.links.get_mut(agent) {
            link.judged = true;
        }
    }

    fn hello_says(
        &mut self,
        address: &str,
        witness_age_ms: Option<u64>,
        HelloSays { proofs, not_yet }: HelloSays,
    ) {
        for proof in proofs {
            self.shown_stale(address, proof, witness_age_ms);
        }
        if let Some(witness) = not_yet {
            // It may be the only proof there is, and an agent replaces it by the first that it is told.
            self.settings.durable.withhold();
            if !self.unjudged.iter().any(|(by, known, _)| by == address && *known == witness) {
                self.unjudged.push((address.to_owned(), witness, witness_age_ms));
            }
        }
    }

    /// The list of lives is whole: judges the witnesses that spoke of lives before the journal.
    pub(super) fn judge_heard_witnesses(&mut self) {
        for (address, witness, age_ms) in std::mem::take(&mut self.unjudged) {
            self.hello_says(&address, age_ms, self.lives.judge_hello(Some(witness), &[]));
        }
        if self.stale.is_none() {
            self.settings.durable.release();
        }
    }

    /// The gids of ours in a listing. Only what the agent's role prepared is ours: anyone else may forge a
    /// name, and must not stop a coordinator with it.
    fn ours_in(&self, listing: &v1::Listing) -> Vec<Gid> {
        let by_agent = |row: &&v1::PreparedTransaction| Owner::of(row, listing).is_the_agents();
        let gids = listing.prepared.iter().filter(by_agent).filter_map(|row| row.gid.parse::<Gid>().ok());
        gids.filter(|gid| gid.gtid.coordinator_id == self.coordinator_id).collect()
    }

    /// The agent at `address` has shown that it has seen more of this log than it holds.
    fn shown_stale(&mut self, address: &str, Proof { life, what }: Proof, witness_age_ms: Option<u64>) {
        let through = life.epoch;
        let heard = self.seams.clock.now();
        self.now_stale(&format!("agent {address}"), Evidence { through, what, heard, witness_age_ms });
    }

    fn order_what_is_owed(&mut self, participant: &ParticipantName, instance: u64) {
        let ids: Vec<LocalId> = self.live.keys().copied().collect();
        for id in ids {
            self.step(id, Event::AgentSeen { participant: participant.clone(), instance });
        }
    }

    fn agent_refused(&mut self, agent: AgentIndex, refusal: &v1::Refusal) {
        if let Some(hello) = &refusal.hello {
            self.judge_hello(agent, hello);
        }
        let now = self.seams.clock.now();
        let Some(link) = self.links.get_mut(agent) else { return };
        if link.generation.take().is_some() {
            link.since = now;
        }
        link.down = format!("refused: {}", refusal.detail);
        let address = link.address.clone();
        let participants = link.participants.clone();
        self.alarms.raise(REFUSED, "", &address, &format!("the agent refuses us: {}", refusal.detail));
        for participant in participants {
            self.listing_failed(&participant, "its agent refuses this coordinator");
        }
    }

    fn agent_down(&mut self, agent: AgentIndex, generation: Option<Generation>, why: String) {
        let now = self.seams.clock.now();
        let Some(link) = self.links.get_mut(agent) else { return };
        if generation.is_some() && link.generation != generation {
            return;
        }
        if link.generation.take().is_some() {
            link.since = now;
            tracing::warn!(agent = %link.address, %why, "agent disconnected");
        }
        let alarm = format!("its agent at {} is not connected: {why}", link.address);
        link.down = why;
        let participants = link.participants.clone();
        self.admission.waits(&participants, Vec::new(), now);
        self.out.messages.remove(&agent);
        for participant in &participants {
            self.departures_cut_off(participant);
            self.inquiries_cut_off(participant);
            self.resolutions_cut_off(participant);
            self.verification_cut_off(participant);
            // R11. What was seen before it says more, and each attempt would bring its own words.
            let detail = format!("nothing can be concluded about {participant}: {alarm}");
            self.alarms.raise_if_new(UNHEARD, "", participant.as_str(), &detail);
        }
        self.drain_progress();
    }

    fn on_agent_message(&mut self, agent: AgentIndex, message: v1::AgentMessage) {
        match message.kind {
            Some(Kind::Enlisted(enlisted)) => self.on_enlisted(&enlisted),
            Some(Kind::Vote(vote)) => self.on_vote(agent, vote),
            Some(Kind::BranchEnd(end)) => self.on_branch_end(end),
            Some(Kind::SessionLost(lost)) => self.on_session_lost(lost),
            Some(Kind::Listing(listing)) => {
                if let Some(proof) = self.ours_in(&listing).iter().find_map(|gid| self.lives.judge_gid(gid)) {
                    let address = self.links.get(agent).map(|link| link.address.clone()).unwrap_or_default();
                    self.shown_stale(&address, proof, None);
                }
                self.on_listing(agent, listing);
            }
            Some(Kind::Trouble(trouble)) => self.on_trouble(&trouble),
            Some(Kind::BranchesVerified(verified)) => self.on_verified(&verified),
            Some(Kind::Held(held)) => self.on_held(held),
            // A hello comes as the stream's first message only.
            Some(Kind::Hello(_) | Kind::Refusal(_)) | None => {
                tracing::warn!(agent, "an agent sent a message that has no place here; ignored");
            }
        }
    }

    fn on_enlisted(&mut self, enlisted: &v1::Enlisted) {
        let Some((gtid, participant)) = parse(&enlisted.gtid, &enlisted.participant) else { return };
        let Some(session) = enlisted.session else { return };
        let id = LocalId::from(&gtid);
        if self.live.contains_key(&id) {
            self.step(id, Event::Enlisted { participant, session: session.into() });
        } else {
            // R0: unknown or ended.
            crash::judged(Row::R0);
            self.send(&participant, wire::end_session(&gtid, &participant));
        }
    }

    fn on_vote(&mut self, agent: AgentIndex, vote: v1::Vote) {
        let v1::Vote { gid, participant, kind, results, failed, gtid: _ } = vote;
        let (Ok(gid), Some(kind)) = (gid.parse::<Gid>(), kind) else {
            tracing::warn!(agent, %gid, "a vote that cannot be read; ignored");
            return;
        };
        let Ok(participant) = participant.parse::<ParticipantName>() else { return };
        let id = LocalId::from(&gid.gtid);
        let vote = wire::vote(kind);
        self.no_longer_waits(id, &participant, !matches!(vote, Vote::No(_)));
        if let Some(live) = self.live.get_mut(&id) {
            if let Some(whole) = live.whole.as_mut().filter(|_| live.transaction.is_undecided()) {
                whole.note(gid.branch, results, failed);
            }
            self.step(id, Event::Voted { participant, branch: gid.branch, vote });
        } else if let Vote::Ready(_) = vote {
            // R0: unknown or ended, and its session is open.
            crash::judged(Row::R0);
            self.send(&participant, wire::end_session(&gid.gtid, &participant));
        } else if let Vote::Yes(prepared) = vote {
            // It crossed the abort: a prepared branch of a transaction that is over.
            let owner = None;
            self.judge_row(&participant, &gid, recovery::low_half(prepared.xid8), owner);
        }
    }

    fn on_session_lost(&mut self, lost: v1::SessionLost) {
        let Some((gtid, participant)) = parse(&lost.gtid, &lost.participant) else { return };
        let Some(session) = lost.session else { return };
        let reason = wire::abort_reason(&lost.reason.unwrap_or_default());
        self.step(LocalId::from(&gtid), Event::SessionLost { participant, session: session.into(), reason });
    }

    fn on_trouble(&mut self, trouble: &v1::PhaseTwoTrouble) {
        let Some((gtid, participant)) = parse(&trouble.gtid, &trouble.participant) else { return };
        let text = format!("{} {} ({} tries)", trouble.sqlstate, trouble.message, trouble.attempts);
        tracing::warn!(%gtid, %participant, trouble = %text, "phase 2 does not get on");
        if trouble.alarm {
            self.alarms.raise(PHASE_TWO, &gtid.to_string(), participant.as_str(), &text);
        }
        if let Some(live) = self.live.get_mut(&LocalId::from(&gtid)) {
            live.trouble.insert(participant, text);
        }
    }

    fn on_branch_end(&mut self, mut end: v1::BranchEnd) {
        let Some((gtid, participant)) = parse(&end.gtid, &end.participant) else { return };
        let Some(kind) = end.kind else { return };
        let report = wire::report(kind);
        // An unprepared session has no gid: nothing waits for its end.
        let Ok(gid) = end.gid.parse::<Gid>() else { return };
        let one_phase =
            self.live.get(&LocalId::from(&gtid)).is_some_and(|live| live.transaction.is_one_phase());
        if let Report::Gone(_) = &report {
            crash::judged(match (end.was_commit, one_phase) {
                (true, true) => Row::R13,
                (true, false) => Row::R3,
                (false, _) => Row::R15,
            });
        } else if one_phase {
            crash::here(CrashPoint::OnePhaseAnswered);
        }
        if one_phase {
            let (results, failed) = (std::mem::take(&mut end.results), end.failed.take());
            self.note_what_decided(&gid, results, failed);
        }
        self.resolution_answered(&participant, &end.gid, &report);
        self.note_mended(&end.gid, end.was_commit, &report);
        // Other work under that name: the order was not carried out, and the next listing is judged anew.
        if !end.was_commit && !matches!(report, Report::OtherXid(_)) {
            self.settlement.rolled_back(&end.gid, &participant);
        }
        self.alarms.clear(PHASE_TWO, &gtid.to_string(), participant.as_str());
        let was_commit = end.was_commit;
        let id = LocalId::from(&gtid);
        self.step(id, Event::BranchEnded { branch: gid.branch, was_commit, report });
        self.pay(id, &participant);
        self.settlement_progress();
    }

    /// A branch that had been acknowledged, or given up, and was prepared again, is committed now; or it has
    /// departed from the decision, as a person said in an earlier life: that is worth a record.
    fn note_mended(&mut self, gid: &str, was_commit: bool, report: &Report) {
        let ordered = |heuristic: &Heuristic| was_commit == (heuristic.kind != HeuristicKind::Rollback);
        if *report != Report::Done || !self.mending.get(gid).is_some_and(ordered) {
            return;
        }
        let Some(heuristic) = self.mending.remove(gid) else { return };
        self.recent.outcomes.remove(&LocalId::from(&heuristic.gid.gtid));
        let (gtid, participant) = (heuristic.gid.gtid.to_string(), &heuristic.participant);
        let mended = heuristic.kind == HeuristicKind::Mended;
        if mended {
            tracing::warn!(gtid, %participant,
                "a branch that had ended was prepared again and has been committed again");
            self.alarms.clear(HEURISTIC, &gtid, participant.as_str());
        }
        let pending = if mended { Pending::Note } else { Pending::Departure(Box::new(heuristic.clone())) };
        self.persist(Record::Heuristic(heuristic), !mended, pending);
    }
}

fn parse(gtid: &str, participant: &str) -> Option<(Gtid, ParticipantName)> {
    match (gtid.parse(), participant.parse()) {
        (Ok(gtid), Ok(participant)) => Some((gtid, participant)),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "an agent sent a name that cannot be read; ignored");
            None
        }
    }
}
