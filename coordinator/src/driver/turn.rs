//! Effects are carried out, in order; what they gather is flushed once a turn.

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{BranchNumber, Gid, ParticipantName};
use votum_proto::v1;

use super::alarms::{Alarms, HEURISTIC};
use super::request::{Outcome, Wait};
use super::timers::Timer;
use super::{Driver, Live, LocalId, Pending, wire};
use crate::crash::{self, CrashPoint};
use crate::log::Entry;
use crate::protocol::event::{Effect, Event};
use crate::protocol::record::{Decision, Record};
use crate::protocol::standing::Standing;

impl Driver {
    /// Feeds one event to a live transaction and carries out what it asks for. An event for one that is
    /// not live means nothing: whoever sent it is answered by the table (see `agents`).
    pub(super) fn step(&mut self, id: LocalId, event: Event) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let (was_undecided, was_in) = (live.transaction.is_undecided(), live.transaction.state());
        let was_one_phase = live.transaction.is_one_phase();
        let effects = live.transaction.step(event);
        let is_one_phase = live.transaction.is_one_phase();
        if was_undecided && !live.transaction.is_undecided() {
            self.undecided = self.undecided.saturating_sub(1);
            self.forget_timers(id);
            self.nobody_waits_any_more(id, false);
        }
        if was_one_phase && !is_one_phase {
            self.nobody_waits_any_more(id, true);
        }
        self.note_state(id, was_in);
        self.carry_out(id, effects);
    }

    /// Counts how long a transaction was in the state that it has left.
    pub(super) fn note_state(&mut self, id: LocalId, was_in: &'static str) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if live.transaction.state() != was_in {
            let now = self.seams.clock.now();
            self.settings.counted.transactions.left(was_in, now.since(live.in_state));
            live.in_state = now;
        }
    }

    fn count(&self, outcome: &Outcome) {
        let metrics = &self.settings.counted.transactions;
        match outcome {
            Outcome::Committed { .. } => metrics.committed(),
            Outcome::ReadOnly => metrics.read_only(),
            Outcome::Aborted { reason: Some(reason), .. } => metrics.aborted(reason.kind),
            Outcome::Aborted { reason: None, .. }
            | Outcome::InProgress(_)
            | Outcome::Unknown(_)
            | Outcome::Expired => {}
        }
    }

    pub(super) fn carry_out(&mut self, id: LocalId, effects: Vec<Effect>) {
        for effect in effects {
            if self.frozen {
                return;
            }
            self.carry_out_one(id, effect);
        }
    }

    fn carry_out_one(&mut self, id: LocalId, effect: Effect) {
        match effect {
            Effect::Persist { record, forced } => {
                Self::before_deciding(&record, forced);
                self.persist(record.clone(), forced, Pending::Transaction(id, Box::new(record)));
            }
            Effect::SendPrepare { participant, gid, session, last_ordinal, one_phase } => {
                let link = self.participants.get(&participant).and_then(|known| self.links.get(known.agent));
                let one_phase = one_phase && link.is_some_and(|link| link.can_commit_one_phase);
                let now = self.seams.clock.now();
                let whole = self.live.get(&id).and_then(|live| live.whole.as_ref());
                let work = whole.and_then(|whole| whole.work(gid.branch, now));
                let order = wire::prepare(&participant, &gid, session, last_ordinal, one_phase, work);
                self.ask_for_vote(id, &participant, order);
            }
            Effect::SendVerifyAttached { participant, gid } => {
                let order = wire::verify_attached(&participant, &gid);
                self.ask_for_vote(id, &participant, order);
            }
            Effect::SendCommit { participant, gid, xid8, compare_first } => {
                let order = if compare_first {
                    wire::commit_again(&participant, &gid, xid8, 0)
                } else {
                    // Who waits for the decision alone has been told by now.
                    let nobody_waits = self.live.get(&id).is_some_and(|live| live.waiters.is_empty());
                    wire::commit_first(&participant, &gid, xid8, nobody_waits)
                };
                self.send(&participant, order);
                self.freeze_at(CrashPoint::FirstParticipantTold);
            }
            Effect::SendCommitOnePhase { participant, gid, first } => {
                self.hand_over(id, &participant, &gid, first);
            }
            Effect::SendRollback { participant, gid, xid8, listed_xid } => {
                let order =
                    wire::rollback_branch(&self.gtid(id), &participant, gid.as_ref(), xid8, listed_xid);
                self.send(&participant, order);
            }
            Effect::SendHold { participant, gid } => self.send_hold(&participant, &gid),
            Effect::EndSession { participant } => {
                let order = wire::end_session(&self.gtid(id), &participant);
                self.send(&participant, order);
            }
            Effect::TellDecided => self.tell_decided(id),
            Effect::TellCompleted => self.tell_completed(id),
            Effect::Refuse(_) => {}
            Effect::AskAgainLater { branch } => self.ask_again_later(id, branch),
            Effect::Alarm { code, gid, participant, detail } => {
                let about = gid.map_or_else(|| self.gtid(id).to_string(), |gid| gid.to_string());
                self.alarms.raise(code, &about, participant.as_str(), &detail);
            }
            Effect::NoteHeuristic(heuristic) => {
                note_heuristic(&mut self.alarms, &heuristic);
            }
            Effect::Retire => self.retire(id),
        }
    }

    /// Gives a record to the log at the end of this turn.
    pub(super) fn persist(&mut self, record: Record, forced: bool, pending: Pending) {
        self.last_token += 1;
        let token = self.last_token;
        self.out.entries.push(Entry { token, record, forced });
        self.pending.push_back((token, pending));
    }

    /// Sends at the end of this turn, when the participant's agent is reachable. Otherwise it is dropped:
    /// what is owed is ordered again when the agent is back.
    pub(super) fn send(&mut self, participant: &ParticipantName, message: v1::CoordinatorMessage) {
        let Some(known) = self.participants.get(participant) else { return };
        let agent = known.agent;
        if self.links.get(agent).is_some_and(|link| link.generation.is_some()) {
            self.out.messages.entry(agent).or_default().push(message);
        }
    }

    /// Hands the turn's records to the log and its messages to the links.
    pub(super) fn flush(&mut self) {
        if !self.out.entries.is_empty() {
            if sings(Canary::WitnessBeforeSync) {
                self.settings.durable.advance(self.position + self.out.entries.len() as u64);
            }
            self.log.append(std::mem::take(&mut self.out.entries));
        }
        for (agent, messages) in std::mem::take(&mut self.out.messages) {
            let Some(link) = self.links.get(agent) else { continue };
            if let Some(generation) = link.generation {
                link.handle.send(generation, messages);
            }
        }
    }

    pub(super) fn gtid(&self, id: LocalId) -> votum_proto::names::Gtid {
        votum_proto::names::Gtid { coordinator_id: self.coordinator_id.clone(), life: id.life, seq: id.seq }
    }

    /// The outcome of a live transaction in the clients' terms.
    pub(super) fn outcome_of(&self, live: &Live) -> Outcome {
        let heuristics = live.transaction.heuristics().to_vec();
        match live.transaction.standing() {
            Standing::InProgress(state) => Outcome::InProgress(state),
            Standing::Committed { pending } => Outcome::Committed { pending, heuristics },
            Standing::Aborted(reason) => Outcome::Aborted { reason: Some(reason), heuristics },
            Standing::ReadOnly => Outcome::ReadOnly,
        }
    }

    /// The outcome stands: tells those who wait for the decision; and everybody, when it is not a commit,
    /// since then there is nothing to be completed that a client could see.
    fn tell_decided(&mut self, id: LocalId) {
        self.owe(id);
        if let Some(whole) = self.live.get_mut(&id).and_then(|live| live.whole.as_mut()) {
            whole.decided();
        }
        let Some(live) = self.live.get(&id) else { return };
        let outcome = self.outcome_of(live);
        tracing::debug!(gtid = %live.transaction.gtid(), ?outcome, "decided");
        self.count(&outcome);
        let committed = matches!(outcome, Outcome::Committed { .. });
        let decided_will_do = !self.is_behind(live);
        self.tell(id, &outcome, |waiter| !committed || (waiter == Wait::Decided && decided_will_do));
        if committed {
            self.freeze_at(CrashPoint::ClientTold);
            self.wait_no_longer_than(id);
        }
    }

    /// What an earlier life handed over is settled by what is absent: that waits for a log that is known to be whole
    /// (R8), and is ordered again once the last agent was heard.
    fn hand_over(&mut self, id: LocalId, participant: &ParticipantName, gid: &Gid, first: bool) {
        let before = self.live.get(&id).is_some_and(|live| live.transaction.was_handed_before());
        if before && (self.stale.is_some() || self.unheard().is_some()) {
            return;
        }
        let link = self.participants.get(participant).and_then(|known| self.links.get(known.agent));
        if link.is_some_and(|link| link.generation.is_some() && !link.can_commit_one_phase) {
            let what = "its agent is of an older version, which cannot say how its commit in one phase ended: \
                        start the present one";
            self.alarms.raise("VOTUM-1403", &gid.gtid.to_string(), participant.as_str(), what);
            return;
        }
        let task = if first { self.last_task(id, gid.branch) } else { None };
        let order = match task {
            Some(task) => wire::decide(participant, gid, task),
            None => wire::commit_one_phase(participant, gid),
        };
        self.send(participant, order);
        self.freeze_at(CrashPoint::HandedOver);
        self.wait_no_longer_than(id);
    }

    /// Every agent was heard: what waited for that is ordered.
    pub(super) fn hand_over_what_waited(&mut self) {
        let waits = |(_, live): &(&LocalId, &Live)| live.transaction.was_handed_before();
        let ids: Vec<LocalId> = self.live.iter().filter(waits).map(|(id, _)| *id).collect();
        for id in ids {
            self.step(id, Event::AskAgain { branch: 0 });
        }
    }

    /// Whoever still waits for this transaction is answered before long, come what may.
    fn wait_no_longer_than(&mut self, id: LocalId) {
        if self.live.get(&id).is_some_and(|live| !live.waiters.is_empty()) {
            self.set_completed_wait(id);
        }
    }

    /// One timer for all who wait for a transaction: none is left behind when it leaves memory.
    pub(super) fn set_completed_wait(&mut self, id: LocalId) {
        let from = self.seams.clock.now();
        // The last of several branches has its statements to run before it can answer.
        let from = self.works_until(id).filter(|until| *until > from).unwrap_or(from);
        let at = from.after(self.settings.completed_wait);
        if let Some(live) = self.live.get_mut(&id).filter(|live| live.completed_wait.is_none()) {
            live.completed_wait = Some(at);
            self.timers.set(at, Timer::CompletedWait(id));
        }
    }

    fn tell_completed(&mut self, id: LocalId) {
        let Some(live) = self.live.get(&id) else { return };
        let outcome = self.outcome_of(live);
        if matches!(outcome, Outcome::Committed { .. }) {
            crash::here(CrashPoint::AllAcknowledged);
            self.settlement.completed(id, &live.transaction);
        } else if let Outcome::Aborted { reason: Some(reason), heuristics } = &outcome {
            self.settlement.aborted(id, reason.participant.as_ref(), !heuristics.is_empty());
        }
        self.tell(id, &outcome, |_| true);
    }

    /// Answers COMMITTED, not completed, to those who have waited for completion long enough; and UNKNOWN where a
    /// branch decides that does not answer.
    pub(super) fn tell_those_who_wait_too_long(&mut self, id: LocalId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.completed_wait = None;
        let Some(live) = self.live.get(&id) else { return };
        let outcome = if live.transaction.is_one_phase() {
            Outcome::Unknown("its commit was handed to its branch, whose answer is awaited; ask again".into())
        } else {
            self.outcome_of(live)
        };
        self.tell(id, &outcome, |_| true);
    }

    fn tell(&mut self, id: LocalId, outcome: &Outcome, whom: impl Fn(Wait) -> bool) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let told: Vec<_> = live.waiters.extract_if(.., |waiter| whom(waiter.wait)).collect();
        for waiter in told {
            waiter.teller.tell(live, outcome.clone());
        }
    }

    fn ask_again_later(&mut self, id: LocalId, branch: BranchNumber) {
        let now = self.seams.clock.now();
        let Some(live) = self.live.get_mut(&id) else { return };
        if !live.asking_again.insert(branch) {
            return;
        }
        let delay = live.ask_again.delay(self.seams.entropy.as_ref());
        self.timers.set(now.after(delay), Timer::AskAgain(id, branch));
    }

    /// The time to ask again has come.
    pub(super) fn ask_again(&mut self, id: LocalId, branch: BranchNumber) {
        if let Some(live) = self.live.get_mut(&id) {
            live.asking_again.remove(&branch);
        }
        self.step(id, Event::AskAgain { branch });
    }

    fn retire(&mut self, id: LocalId) {
        let Some(mut live) = self.live.remove(&id) else { return };
        if let Some(at) = live.completed_wait.take() {
            self.timers.cancel(at, Timer::CompletedWait(id));
        }
        self.backlog.leaves(&live);
        let outcome = self.outcome_of(&live);
        for waiter in std::mem::take(&mut live.waiters) {
            waiter.teller.tell(&live, outcome.clone());
        }
        if let Some(key) = live.transaction.key() {
            let key = (key.client.clone(), key.key.clone());
            // Where this one was aborted, another may bear the key by now.
            if self.keys.get(&key).is_some_and(|(bearer, _)| *bearer == id) {
                self.keys.remove(&key);
            }
        }
        self.alarms.transaction_ended(&live.transaction.gtid().to_string());
        self.recent.note(id, outcome);
        self.settlement_progress();
        self.drain_progress();
    }

    fn forget_timers(&mut self, id: LocalId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if let Some(at) = live.deadline.take() {
            self.timers.cancel(at, Timer::Deadline(id));
        }
        if let Some((at, _)) = live.unnoted.take() {
            self.timers.cancel(at, Timer::NoteBegun(id));
        }
    }

    fn ask_for_vote(&mut self, id: LocalId, participant: &ParticipantName, order: v1::CoordinatorMessage) {
        self.crash_at_order(id, CrashPoint::BeforeFirstPrepare, 0);
        if self.frozen {
            return;
        }
        self.send(participant, order);
        self.order_sent(id);
        self.crash_at_order(id, CrashPoint::BetweenPrepares, 1);
        self.crash_after_last_prepare(id);
    }

    fn order_sent(&mut self, id: LocalId) {
        if let Some(live) = self.live.get_mut(&id) {
            live.orders_sent += 1;
        }
    }

    fn before_deciding(record: &Record, forced: bool) {
        let commits = matches!(record, Record::Decided(decided) if decided.decision == Decision::Commit);
        // What a branch has decided is recorded afterwards, and waits for nothing.
        if forced && (commits || matches!(record, Record::Delegated(_))) {
            tracing::debug!(gtid = record.gtid().map(tracing::field::display), "the votes are in");
            crash::here(CrashPoint::VotesIn);
        }
    }

    /// A crash point at the `sent`-th Prepare of a transaction.
    fn crash_at_order(&mut self, id: LocalId, point: CrashPoint, sent: usize) {
        if self.live.get(&id).is_some_and(|live| live.orders_sent == sent) {
            self.freeze_at(point);
        }
    }

    fn crash_after_last_prepare(&mut self, id: LocalId) {
        let asked = |live: &Live| live.orders_sent == live.transaction.voters();
        if self.live.get(&id).is_some_and(asked) {
            self.freeze_at(CrashPoint::AfterLastPrepare);
        }
    }

    /// At a crash point that lies after a message: lets the message leave, does nothing more, dies.
    fn freeze_at(&mut self, point: CrashPoint) {
        if crash::soon(point) {
            self.frozen = true;
        }
    }
}

pub(super) fn note_heuristic(alarms: &mut Alarms, heuristic: &crate::protocol::record::Heuristic) {
    alarms.raise(
        HEURISTIC,
        &heuristic.gid.gtid.to_string(),
        heuristic.participant.as_str(),
        // In words: this is read before any page is.
        &heuristic.to_string(),
    );
}
