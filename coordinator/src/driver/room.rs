//! At each participant only so many branches of whole transactions are worked on at once. What comes beyond that
//! waits here, unbegun, until all of its participants have room. In the agents' own queues it would wait at one
//! participant with its branch at another prepared: a slot is taken there, and its rows are locked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use votum_proto::names::ParticipantName;
use votum_proto::runtime::Monotonic;

use super::Driver;
use super::request::{Answer, RequestError, Transact, Transacted};
use super::timers::Timer;

/// Who works and who waits, by participant.
#[derive(Default)]
pub(super) struct Rooms {
    at: BTreeMap<ParticipantName, Room>,
    waiting: BTreeMap<u64, Waiting>,
    tickets: u64,
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
    answer: Answer<Transacted>,
    at: ParticipantName,
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

    /// A participant at which no more than these are to be worked on, and so many are.
    fn full<'a>(&self, transact: &'a Transact, limit: usize) -> Option<&'a ParticipantName> {
        let mut participants = transact.branches.iter().map(|(participant, _)| participant);
        participants.find(|participant| self.at.get(*participant).is_some_and(|room| room.at_work >= limit))
    }

    fn queue(&mut self, waiting: Waiting) -> u64 {
        self.tickets += 1;
        self.at.entry(waiting.at.clone()).or_default().queue.insert(self.tickets);
        self.waiting.insert(self.tickets, waiting);
        self.tickets
    }

    fn take(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Some(room) = self.at.get_mut(&waiting.at) {
            room.queue.remove(&ticket);
        }
        Some(waiting)
    }

    /// The first that can be worked on, of those at a participant that somebody has left. Those who find another one
    /// full wait there from now on, before all that came later.
    fn next(&mut self, limit: usize) -> Option<u64> {
        while let Some(participant) = self.left.first().cloned() {
            let room = self.at.get(&participant).filter(|room| room.at_work < limit);
            let Some(ticket) = room.and_then(|room| room.queue.first().copied()) else {
                self.left.remove(&participant);
                continue;
            };
            let full =
                self.waiting.get(&ticket).and_then(|waiting| self.full(&waiting.transact, limit)).cloned();
            let Some(full) = full else { return Some(ticket) };
            if let Some(mut waiting) = self.take(ticket) {
                self.at.entry(full.clone()).or_default().queue.insert(ticket);
                waiting.at = full;
                self.waiting.insert(ticket, waiting);
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
        // Whoever came before has what room there is now.
        self.begin_where_room();
        let Some(full) = self.rooms.full(&transact, self.settings.work_in_flight) else {
            return Some((transact, answer));
        };
        let (at, since) = (full.clone(), self.seams.clock.now());
        let until = since.after(transact.begin.timeout);
        for (participant, _) in &transact.branches {
            self.admission.enters(participant, since);
        }
        tracing::debug!(participant = %at, before = self.rooms.waiting(), "a whole transaction waits for room");
        let ticket = self.rooms.queue(Waiting { transact, answer, at, since, until });
        self.timers.set(until, Timer::NoRoom(ticket));
        None
    }

    /// Begins those for which there is room now.
    pub(super) fn begin_where_room(&mut self) {
        // Without a gtid for it, it waits for that.
        while self.has_lease()
            && let Some(ticket) = self.rooms.next(self.settings.work_in_flight)
        {
            let Some(mut waiting) = self.leaves_queue(ticket) else { continue };
            if waiting.answer.is_closed() {
                // Nobody waits for it, and nothing of it was begun.
                continue;
            }
            let waited = self.seams.clock.now().since(waiting.since);
            // What it may last counts from when it came.
            waiting.transact.begin.timeout =
                waiting.transact.begin.timeout.saturating_sub(waited).max(Duration::from_millis(1));
            self.transact_queued(waiting.transact, waiting.answer);
        }
    }

    /// Its time was over before there was room for it.
    pub(super) fn no_room_in_time(&mut self, ticket: u64) {
        let Some(waiting) = self.leaves_queue(ticket) else { return };
        let bound = waiting.transact.begin.timeout;
        let retry_after = bound.min(self.settings.max_wait);
        let refusal =
            RequestError::WouldWait { participant: waiting.at, expected: bound, bound, retry_after };
        let _ = waiting.answer.send(Err(refusal));
    }

    /// Nothing is begun any more, and whoever waits is told so.
    pub(super) fn refuse_queued(&mut self) {
        let tickets: Vec<u64> = self.rooms.waiting.keys().copied().collect();
        for ticket in tickets {
            if let Some(waiting) = self.leaves_queue(ticket) {
                self.transact_queued(waiting.transact, waiting.answer);
            }
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
