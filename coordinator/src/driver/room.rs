//! At each participant only so many branches of whole transactions are worked on at once. What comes beyond that
//! waits here, unbegun, until all of its participants have room. In the agents' own queues it would wait at one
//! participant with its branch at another prepared: a slot is taken there, and its rows are locked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use votum_proto::names::ParticipantName;
use votum_proto::runtime::Monotonic;

use super::Driver;
use super::request::{Answer, RequestError, Transact, Transacted, Wait};
use super::timers::Timer;
use crate::protocol::record::KeyRecord;

/// Who works and who waits, by participant.
#[derive(Default)]
pub(super) struct Rooms {
    at: BTreeMap<ParticipantName, Room>,
    waiting: BTreeMap<u64, Waiting>,
    tickets: u64,
    /// Those that bear a name, by the client's own for the request, and by their keys.
    by_attempt: BTreeMap<u64, u64>,
    by_key: BTreeMap<(String, String), u64>,
    /// Where somebody has left since anybody was let in.
    left: BTreeSet<ParticipantName>,
}

#[derive(Default)]
struct Room {
    /// Branches whose votes are awaited.
    at_work: usize,
    /// Those that wait for room here, in the order in which they came. Each waits at one participant only, which has
    /// none: one that hangs keeps nobody waiting at others.
    queue: BTreeSet<u64>,
}

/// A whole transaction of which nothing is begun.
struct Waiting {
    transact: Transact,
    /// Of all requests that are this one, and for what each waits.
    answers: Vec<(Wait, Answer<Transacted>)>,
    at: ParticipantName,
    /// Where it found room, and another one full: it has a place there whenever it is begun.
    had: BTreeSet<ParticipantName>,
    since: Monotonic,
    until: Monotonic,
}

impl Rooms {
    /// A branch is to be worked on.
    pub(super) fn enters(&mut self, participant: &ParticipantName) {
        match self.at.get_mut(participant) {
            Some(room) => room.at_work += 1,
            None => drop(self.at.insert(participant.clone(), Room { at_work: 1, ..Room::default() })),
        }
    }

    /// Its vote is awaited no longer.
    pub(super) fn leaves(&mut self, participant: &ParticipantName) {
        if let Some(room) = self.at.get_mut(participant) {
            room.at_work = room.at_work.saturating_sub(1);
            if !room.queue.is_empty() {
                self.left.insert(participant.clone());
            }
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A participant at which no more than these are to be worked on, and so many are; `had` aside.
    fn full<'a>(
        &self,
        transact: &'a Transact,
        had: &BTreeSet<ParticipantName>,
        limit: usize,
    ) -> Option<&'a ParticipantName> {
        let is_full = |at: &&ParticipantName| self.at.get(*at).is_some_and(|room| room.at_work >= limit);
        let participants = transact.branches.iter().map(|(participant, _)| participant);
        participants.filter(|participant| !had.contains(*participant)).find(is_full)
    }

    /// The same request, or the same work, that waits already.
    fn twin(&mut self, transact: &Transact) -> Option<&mut Waiting> {
        let by_attempt = transact.attempt.and_then(|attempt| self.by_attempt.get(&attempt));
        let by_key = || transact.begin.key.as_ref().and_then(|key| self.by_key.get(&name_of(key)));
        let twin = self.waiting.get_mut(by_attempt.or_else(by_key)?)?;
        let hash = |transact: &Transact| transact.begin.key.as_ref().map(|key| key.request_hash);
        (hash(&twin.transact) == hash(transact)).then_some(twin)
    }

    fn queue(&mut self, waiting: Waiting) -> u64 {
        self.tickets += 1;
        if let Some(attempt) = waiting.transact.attempt {
            self.by_attempt.insert(attempt, self.tickets);
        }
        if let Some(key) = &waiting.transact.begin.key {
            self.by_key.entry(name_of(key)).or_insert(self.tickets);
        }
        self.at.entry(waiting.at.clone()).or_default().queue.insert(self.tickets);
        self.waiting.insert(self.tickets, waiting);
        self.tickets
    }

    fn take(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Some(room) = self.at.get_mut(&waiting.at) {
            room.queue.remove(&ticket);
        }
        if let Some(attempt) = waiting.transact.attempt {
            self.by_attempt.remove(&attempt);
        }
        if let Some(name) = waiting.transact.begin.key.as_ref().map(name_of)
            && self.by_key.get(&name) == Some(&ticket)
        {
            self.by_key.remove(&name);
        }
        Some(waiting)
    }

    /// The first that can be worked on, of those at a participant that somebody has left. Those who find another one
    /// full wait there from now on, before all that came later, and need not wait here again: others go before them
    /// meanwhile, and would for ever.
    fn next(&mut self, limit: usize) -> Option<u64> {
        while let Some(participant) = self.left.first().cloned() {
            let room = self.at.get(&participant).filter(|room| room.at_work < limit);
            let Some(ticket) = room.and_then(|room| room.queue.first().copied()) else {
                self.left.remove(&participant);
                continue;
            };
            let full = self
                .waiting
                .get(&ticket)
                .map(|waiting| self.full(&waiting.transact, &waiting.had, limit).cloned());
            let Some(full) = full.flatten() else { return Some(ticket) };
            for (at, is_here) in [(&participant, false), (&full, true)] {
                let queue = &mut self.at.entry(at.clone()).or_default().queue;
                let _ = if is_here { queue.insert(ticket) } else { queue.remove(&ticket) };
            }
            if let Some(waiting) = self.waiting.get_mut(&ticket) {
                waiting.had.insert(participant);
                waiting.at = full;
            }
        }
        None
    }
}

impl Driver {
    /// Keeps a whole transaction until its participants have room for it; returns one that need not wait.
    pub(super) fn queue_without_room(
        &mut self,
        transact: Transact,
        answer: Answer<Transacted>,
    ) -> Option<(Transact, Answer<Transacted>)> {
        let had = BTreeSet::new();
        let Some(full) = self.rooms.full(&transact, &had, self.settings.work_in_flight) else {
            return Some((transact, answer));
        };
        let (at, since) = (full.clone(), self.seams.clock.now());
        let until = since.after(transact.begin.timeout);
        for (participant, _) in &transact.branches {
            self.admission.enters(participant, since);
        }
        tracing::debug!(participant = %at, before = self.rooms.waiting(), "a whole transaction waits for room");
        let ticket = self.rooms.queue(Waiting {
            answers: vec![(transact.wait, answer)],
            transact,
            at,
            had,
            since,
            until,
        });
        self.timers.set(until, Timer::NoRoom(ticket));
        None
    }

    /// Begins those for which there is room now.
    pub(super) fn begin_where_room(&mut self) {
        // Without a gtid for it, it waits for that.
        while self.has_lease()
            && let Some(ticket) = self.rooms.next(self.settings.work_in_flight)
        {
            let Some(Waiting { mut transact, answers, since, .. }) = self.leaves_queue(ticket) else {
                continue;
            };
            let waited = self.seams.clock.now().since(since);
            // What it may last counts from when it came.
            let left = transact.begin.timeout.saturating_sub(waited);
            transact.begin.timeout = left.max(Duration::from_millis(1));
            let mut heard = answers.into_iter().filter(|(_, answer)| !answer.is_closed()).peekable();
            // Where nobody waits for it any more nothing of it is begun; it may come again.
            if heard.peek().is_none()
                && let Some(attempt) = transact.attempt
            {
                self.attempts.note(attempt, None);
            }
            self.transact_all(&transact, heard);
        }
    }

    /// Its time was over before there was room for it.
    pub(super) fn no_room_in_time(&mut self, ticket: u64) {
        let Some(waiting) = self.leaves_queue(ticket) else { return };
        let bound = waiting.transact.begin.timeout;
        let retry_after = bound.min(self.settings.max_wait);
        let refusal =
            RequestError::WouldWait { participant: waiting.at, expected: bound, bound, retry_after };
        for (_, answer) in waiting.answers {
            let _ = answer.send(Err(refusal.clone()));
        }
    }

    /// Nothing is begun any more, and whoever waits is told so.
    pub(super) fn refuse_queued(&mut self) {
        let tickets: Vec<u64> = self.rooms.waiting.keys().copied().collect();
        for ticket in tickets {
            if let Some(waiting) = self.leaves_queue(ticket) {
                self.transact_all(&waiting.transact, waiting.answers.into_iter());
            }
        }
    }

    /// The first of them begins it, where it can be; the others join that.
    fn transact_all(
        &mut self,
        transact: &Transact,
        answers: impl Iterator<Item = (Wait, Answer<Transacted>)>,
    ) {
        for (wait, answer) in answers {
            self.transact_queued(Transact { wait, ..transact.clone() }, answer);
        }
    }

    /// A request that waits already hears what the one hears that came first; any other is returned.
    pub(super) fn join_queued(
        &mut self,
        transact: Transact,
        answer: Answer<Transacted>,
    ) -> Option<(Transact, Answer<Transacted>)> {
        match self.rooms.twin(&transact) {
            Some(twin) => {
                twin.answers.retain(|(_, answer)| !answer.is_closed());
                twin.answers.push((transact.wait, answer));
                None
            }
            None => Some((transact, answer)),
        }
    }

    fn leaves_queue(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.rooms.take(ticket)?;
        self.timers.cancel(waiting.until, Timer::NoRoom(ticket));
        let now = self.seams.clock.now();
        for (participant, _) in &waiting.transact.branches {
            self.admission.leaves(participant, now, false);
        }
        Some(waiting)
    }
}

fn name_of(key: &KeyRecord) -> (String, String) {
    (key.client.clone(), key.key.clone())
}
