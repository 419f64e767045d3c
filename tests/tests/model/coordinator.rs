//! The shell around the protocol: what the driver does with what the protocol asks for, and nothing else.
//! Each function bears the name of the one in `coordinator/src/driver` that it mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use votum_coordinator::protocol::event::{Effect, Event, Prepared, Report, Vote};
use votum_coordinator::protocol::knowledge::Owner;
use votum_coordinator::protocol::lives::{LifeSeen, Lives, Witness};
use votum_coordinator::protocol::record::{AbortKind, Decided, Decision, Heuristic, HeuristicKind, Record};
use votum_coordinator::protocol::recovery::{self, Action, Row, Verdict};
use votum_coordinator::protocol::transaction::Transaction;
use votum_proto::names::{Gid, Gtid, Life};

use super::knowledge::{Answer, said};
use super::state::{
    ACME, Body, Client, Coordinator, EndOrder, Entry, Given, Link, Listing, Live, Message, NAMES, Order,
    SaidVote, Say, Stage, State, index, next_life, reason,
};

/// How many seqs a lease holds.
const LEASE: u64 = 10;

impl State {
    pub(crate) fn coordinator_mut(&mut self) -> &mut Coordinator {
        Arc::make_mut(self.coordinator.as_mut().unwrap())
    }

    /// A start: a new life is on disk before anything is said; what the journal says is owed is taken over.
    pub(crate) fn start_coordinator(&mut self) {
        let last = self.log.durable.iter().rev().find_map(|entry| match entry {
            Entry::Life(life) => Some(*life),
            Entry::Record(_) => None,
        });
        let seen = Arc::make_mut(&mut self.seen);
        seen.starts += 1;
        seen.proof_shown = false;
        seen.presumed_all_the_same = false;
        let life = next_life(last, seen.starts);
        Arc::make_mut(&mut self.log).durable.push(Entry::Life(life));
        self.coordinator = Some(Arc::new(Coordinator {
            life,
            next_seq: 1,
            live: BTreeMap::new(),
            recent: BTreeMap::new(),
            lives: Lives::new(lives_of(&self.log.durable), false),
            counted: false,
            stale: false,
            links: vec![Link::Down; self.agents.len()],
            mending: BTreeMap::new(),
        }));
        self.recover();
    }

    fn recover(&mut self) {
        for gtid in gtids_of(&self.log.durable) {
            let Some(mut transaction) = Transaction::recover(self.log.records_of(&gtid)) else { continue };
            let effects = transaction.resume();
            let live = Live { transaction, deadline: false, asking_again: BTreeSet::new() };
            self.coordinator_mut().live.insert(gtid.clone(), live);
            self.carry_out(&gtid, effects);
        }
    }

    pub(crate) fn on_counted(&mut self) {
        let lives = lives_of(&self.log.durable);
        let coordinator = self.coordinator_mut();
        coordinator.lives = Lives::new(lives, true);
        coordinator.counted = true;
    }

    /// The oldest record of the tail is on disk.
    pub(crate) fn on_durable(&mut self) {
        let log = Arc::make_mut(&mut self.log);
        let Given { record, awaited, .. } = log.tail.remove(0);
        log.durable.push(Entry::Record(record.clone()));
        self.note_forced(&record);
        let position = self.log.position();
        self.coordinator_mut().lives.reached(position);
        if let Some(gtid) = record.gtid().cloned().filter(|_| awaited) {
            self.step(&gtid, Event::Durable(record));
        }
    }

    pub(crate) fn note_forced(&mut self, record: &Record) {
        if let Record::Decided(decided) = record
            && decided.decision == Decision::Commit
        {
            Arc::make_mut(&mut self.seen).forced.insert(decided.gtid.clone());
        }
    }

    /// The coordinator's process ends. `kept` records of the tail had reached the disk.
    pub(crate) fn crash_coordinator(&mut self, kept: usize) {
        let life = self.life();
        let log = Arc::make_mut(&mut self.log);
        let tail = std::mem::take(&mut log.tail);
        for given in tail.into_iter().take(kept) {
            self.note_forced(&given.record);
            Arc::make_mut(&mut self.log).durable.push(Entry::Record(given.record));
        }
        self.coordinator = None;
        self.network.retain(|m| !(matches!(m.body, Body::Say(_)) && Some(m.life) == life));
        for client in self.clients.iter_mut().filter(|client| client.stage == Stage::Waiting) {
            client.stage = Stage::Gone;
        }
    }

    pub(crate) fn begin(&mut self, client: usize) {
        let coordinator = self.coordinator_mut();
        let gtid = Gtid { coordinator_id: ACME.clone(), life: coordinator.life, seq: coordinator.next_seq };
        coordinator.next_seq += 1;
        let transaction = Transaction::begin(gtid.clone(), String::new(), None);
        let live = Live { transaction, deadline: true, asking_again: BTreeSet::new() };
        coordinator.live.insert(gtid.clone(), live);
        let client = &mut self.clients[client];
        client.gtid = Some(gtid);
        client.stage = Stage::Working;
    }

    /// A client's Commit; one that is refused waits for nothing.
    pub(crate) fn commit(&mut self, client: usize) {
        let Client { gtid: Some(gtid), replies, .. } = self.clients[client].clone() else { return };
        let claims = replies
            .iter()
            .map(|(at, (session, last))| votum_coordinator::protocol::event::BranchClaim {
                participant: NAMES[*at].clone(),
                session: *session,
                last_ordinal: *last,
            })
            .collect();
        self.clients[client].stage = Stage::Waiting;
        self.ask(&gtid, Event::CommitRequested { claims });
    }

    pub(crate) fn roll_back(&mut self, client: usize) {
        let Some(gtid) = self.clients[client].gtid.clone() else { return };
        self.clients[client].stage = Stage::Waiting;
        self.ask(&gtid, Event::RollbackRequested(reason(AbortKind::RolledBack)));
    }

    /// A request that is answered when the outcome stands, which may be now.
    fn ask(&mut self, gtid: &Gtid, event: Event) {
        self.step(gtid, event);
        match self.answer(gtid) {
            Some(Answer::Said(_)) => self.tell(gtid),
            Some(Answer::Unavailable | Answer::Forgotten) => self.hang_up(gtid),
            Some(Answer::InProgress) | None => {}
        }
    }

    /// Feeds one event to a live transaction and carries out what it asks for.
    pub(crate) fn step(&mut self, gtid: &Gtid, event: Event) {
        let Some(live) = self.coordinator_mut().live.get_mut(gtid) else { return };
        let effects = live.transaction.step(event);
        if !live.transaction.is_undecided() {
            live.deadline = false;
        }
        self.carry_out(gtid, effects);
    }

    fn carry_out(&mut self, gtid: &Gtid, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist { record, forced } => self.persist(record, forced, true),
                Effect::SendPrepare { participant, gid, session, last_ordinal, one_phase: _ } => {
                    self.send(index(&participant), Order::Prepare { gid, session, last_ordinal });
                }
                Effect::SendCommit { participant, gid, xid8, compare_first } => {
                    let order = EndOrder::Commit { gid, xid8, listed_xid: 0, compare_first };
                    self.send(index(&participant), Order::End(gtid.clone(), order));
                }
                Effect::SendRollback { participant, gid, xid8, listed_xid } => {
                    let order = EndOrder::Rollback { gid, xid8, listed_xid };
                    self.send(index(&participant), Order::End(gtid.clone(), order));
                }
                Effect::EndSession { participant } => {
                    self.send(index(&participant), Order::EndSession(gtid.clone()));
                }
                Effect::TellDecided | Effect::TellCompleted => self.tell(gtid),
                // The client corrects its list: here it gives up.
                Effect::Refuse(_) => self.hang_up(gtid),
                Effect::AskAgainLater { branch } => {
                    if let Some(live) = self.coordinator_mut().live.get_mut(gtid) {
                        live.asking_again.insert(branch);
                    }
                }
                // No operator departs from a decision here: the simulation has them.
                Effect::SendHold { .. } => {}
                // No agent offers it here, and nobody attaches a branch.
                Effect::SendCommitOnePhase { .. } | Effect::SendVerifyAttached { .. } => {}
                Effect::Alarm { .. } | Effect::NoteHeuristic(_) => {}
                Effect::Retire => self.retire(gtid),
            }
        }
    }

    fn persist(&mut self, mut record: Record, forced: bool, awaited: bool) {
        // Why it was aborted is for people: states do not differ by it.
        if let Record::Decided(Decided { decision: Decision::Abort(why), .. }) = &mut record {
            *why = reason(AbortKind::Coordinator);
        }
        Arc::make_mut(&mut self.log).tail.push(Given { record, forced, awaited });
    }

    /// Dropped where no stream stands: what is owed is ordered again when the agent is back.
    pub(crate) fn send(&mut self, agent: usize, order: Order) {
        let Some(coordinator) = &self.coordinator else { return };
        let Link::Up { instance } = coordinator.links[agent] else { return };
        let life = coordinator.life;
        let witness = (self.seen.witnesses && !coordinator.stale).then(|| self.log.position());
        if let Order::Prepare { gid, .. } = &order {
            let asked = &mut Arc::make_mut(&mut self.seen).asked_to_prepare;
            asked.entry((agent, gid.clone())).or_default().insert(instance);
        }
        self.post(Message { agent, life, body: Body::Order(order, witness) });
    }

    fn hang_up(&mut self, gtid: &Gtid) {
        let client = self.clients.iter_mut().find(|client| client.gtid.as_ref() == Some(gtid));
        if let Some(client) = client {
            client.stage = Stage::Gone;
        }
    }

    /// Whoever waits is told what stands.
    fn tell(&mut self, gtid: &Gtid) {
        let Some(Answer::Said(said)) = self.answer(gtid) else { return };
        let waiting = |c: &&mut Client| c.gtid.as_ref() == Some(gtid) && c.stage == Stage::Waiting;
        if let Some(client) = self.clients.iter_mut().find(waiting) {
            client.stage = Stage::Told;
        }
        Arc::make_mut(&mut self.seen).said.insert((gtid.clone(), said));
    }

    fn retire(&mut self, gtid: &Gtid) {
        let coordinator = self.coordinator_mut();
        let Some(live) = coordinator.live.remove(gtid) else { return };
        let Some(said) = said(&live.transaction.standing()) else { return };
        coordinator.recent.insert(gtid.clone(), said);
    }

    pub(crate) fn agent_up(
        &mut self,
        agent: usize,
        instance: u64,
        witness: Option<(Life, u64)>,
        listing: &Listing,
    ) {
        let witness = witness.map(|(life, position)| Witness { life, position });
        self.note_proof(witness);
        let gids: Vec<Gid> = listing.prepared.iter().map(|(gid, _)| gid.clone()).filter(ours).collect();
        let coordinator = self.coordinator_mut();
        let says = coordinator.lives.judge_hello(witness, &gids);
        coordinator.stale |= !says.proofs.is_empty();
        coordinator.links[agent] = Link::Up { instance };
        // I14: what is owed goes first, before anything is judged.
        for gtid in coordinator.live.keys().cloned().collect::<Vec<_>>() {
            self.step(&gtid, Event::AgentSeen { participant: NAMES[agent].clone(), instance });
        }
        self.on_listing(agent, listing);
    }

    pub(crate) fn on_say(&mut self, agent: usize, say: Say) {
        let participant = NAMES[agent].clone();
        match say {
            Say::Hello { instance, witness, listing } => self.agent_up(agent, instance, witness, &listing),
            Say::Enlisted(gtid, session) => {
                if self.coordinator_mut().live.contains_key(&gtid) {
                    self.step(&gtid, Event::Enlisted { participant, session });
                } else {
                    self.send(agent, Order::EndSession(gtid));
                }
            }
            Say::Vote(gid, vote) => self.on_vote(agent, &gid, vote),
            Say::Ended { gid, was_commit, report } => {
                self.note_mended(&gid, was_commit, &report.read());
                let event = Event::BranchEnded { branch: gid.branch, was_commit, report: report.read() };
                self.step(&gid.gtid, event);
            }
            Say::SessionLost(gtid, session) => {
                let reason = reason(AbortKind::BranchLost);
                self.step(&gtid, Event::SessionLost { participant, session, reason });
            }
            Say::Listing(listing) => {
                let lives = &self.coordinator_mut().lives;
                let gids = listing.prepared.iter().map(|(gid, _)| gid).filter(|gid| ours(gid));
                let stale = gids.into_iter().any(|gid| lives.judge_gid(gid).is_some());
                self.coordinator_mut().stale |= stale;
                self.on_listing(agent, &listing);
            }
        }
    }

    fn on_vote(&mut self, agent: usize, gid: &Gid, vote: SaidVote) {
        if self.coordinator_mut().live.contains_key(&gid.gtid) {
            let vote = match vote {
                SaidVote::Yes { xid8, timeline } => {
                    Vote::Yes(Prepared { xid8, system_identifier: 1, timeline, marker: false })
                }
                SaidVote::ReadOnly => Vote::ReadOnly,
                SaidVote::No => Vote::No(reason(AbortKind::VotedNo)),
            };
            let participant = NAMES[agent].clone();
            self.step(&gid.gtid, Event::Voted { participant, branch: gid.branch, vote });
        } else if let SaidVote::Yes { xid8, .. } = vote {
            self.judge_row(agent, gid, recovery::low_half(xid8), None);
        }
    }

    fn note_mended(&mut self, gid: &Gid, was_commit: bool, report: &Report) {
        if was_commit
            && *report == Report::Done
            && let Some(heuristic) = self.coordinator_mut().mending.remove(gid)
        {
            self.persist(Record::Heuristic(heuristic), false, false);
        }
    }

    pub(crate) fn on_listing(&mut self, agent: usize, listing: &Listing) {
        let failure = if listing.failed { "the database does not answer" } else { "" };
        if recovery::judge_listing(failure, false).is_some() {
            return;
        }
        for (gid, xid) in &listing.prepared {
            let owner = Owner { by_agent: !forged(gid), in_database: true };
            self.judge_row(agent, gid, *xid, Some(&owner));
        }
        for (gtid, session) in &listing.sessions {
            let live = self.coordinator_mut().live.get(gtid);
            if live.is_some_and(|live| live.transaction.is_undecided()) {
                let enlisted = Event::Enlisted { participant: NAMES[agent].clone(), session: *session };
                self.step(gtid, enlisted);
            } else {
                self.send(agent, Order::EndSession(gtid.clone()));
            }
        }
    }

    /// Judges one prepared branch by the recovery table and acts.
    fn judge_row(&mut self, agent: usize, gid: &Gid, xid: u32, owner: Option<&Owner>) {
        let participant = &NAMES[agent];
        let history = self.history(&gid.gtid);
        let says = self.known(&gid.gtid, &history).of_prepared(participant, gid, xid, owner, &|| Ok(None));
        let Verdict { row, action } = recovery::judge_prepared(participant, gid.branch, xid, &says);
        let order = match action {
            Action::Leave | Action::LeaveAndAlarm(_) | Action::Quarantine { .. } => return,
            Action::Commit { xid8, mends } => {
                if mends {
                    let mended = mended(agent, gid, xid8);
                    self.coordinator_mut().mending.insert(gid.clone(), mended);
                }
                EndOrder::Commit { gid: gid.clone(), xid8, listed_xid: xid, compare_first: true }
            }
            Action::Rollback { .. } if self.is_other_work(agent, gid, xid) => {
                let (branch, report) = (gid.branch, Report::OtherXid(xid));
                return self.step(&gid.gtid, Event::BranchEnded { branch, was_commit: false, report });
            }
            Action::Rollback { .. } => {
                let seen = Arc::make_mut(&mut self.seen);
                seen.presumed_all_the_same |= row == Row::R5 && seen.proof_shown;
                EndOrder::Rollback { gid: Some(gid.clone()), xid8: 0, listed_xid: xid }
            }
        };
        self.send(agent, Order::End(gid.gtid.clone(), order));
    }

    fn is_other_work(&self, agent: usize, gid: &Gid, xid: u32) -> bool {
        let live = self.coordinator.as_ref().and_then(|coordinator| coordinator.live.get(&gid.gtid));
        live.is_some_and(|live| live.transaction.is_other_work(gid.branch, &NAMES[agent], xid))
    }
}

fn mended(agent: usize, gid: &Gid, xid8: u64) -> Heuristic {
    Heuristic {
        gid: gid.clone(),
        participant: NAMES[agent].clone(),
        xid8,
        kind: HeuristicKind::Mended,
        detail: String::new(),
    }
}

/// Forged names are of a seq that is never handed out here.
pub(crate) fn forged(gid: &Gid) -> bool {
    gid.gtid.seq == 9
}

fn ours(gid: &Gid) -> bool {
    gid.gtid.coordinator_id == *ACME && !forged(gid)
}

fn gtids_of(entries: &[Entry]) -> BTreeSet<Gtid> {
    entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Record(record) => record.gtid().cloned(),
            Entry::Life(_) => None,
        })
        .collect()
}

pub(crate) fn lives_of(entries: &[Entry]) -> Vec<LifeSeen> {
    let mut lives: Vec<LifeSeen> = Vec::new();
    for (position, entry) in (1..).zip(entries) {
        match (entry, lives.last_mut()) {
            (Entry::Life(life), _) => {
                lives.push(LifeSeen { life: *life, leased_until: LEASE, last_position: position });
            }
            (Entry::Record(_), Some(present)) => present.last_position = position,
            (Entry::Record(_), None) => {}
        }
    }
    lives
}
