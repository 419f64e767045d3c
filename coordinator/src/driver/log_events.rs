//! What the log says: how far it is on disk, that its history is counted, that it failed.

use super::alarms::{LOG_DOUBTFUL, LOG_UNREADABLE, UNHEARD};
use super::request::Outcome;
use super::{Driver, LocalId, LogState, Pending, seen};
use crate::crash::{self, CrashPoint};
use crate::log::{KnownLife, LogEvent, TransactionHistory};
use crate::protocol::event::Event;
use crate::protocol::lives::Lives;
use crate::protocol::record::Record;
use crate::protocol::transaction::Transaction;

impl Driver {
    /// One event of the log; true once it is closed.
    pub(super) fn on_log(&mut self, event: LogEvent) -> bool {
        match event {
            LogEvent::Durable { through, position } => self.on_durable(through, position),
            LogEvent::Counted { history, lives } => {
                self.log_state = LogState::Ready(history);
                self.on_counted(&lives);
            }
            LogEvent::Unreadable { why } => {
                self.alarms.raise(LOG_UNREADABLE, "", "", &why);
                self.log_state = LogState::Unreadable(why);
            }
            LogEvent::Doubtful { why } => self.on_doubtful(why),
            LogEvent::Closed => {
                if let Some(drain) = self.drain.take() {
                    for answer in drain.answers {
                        let _ = answer.send(());
                    }
                }
                return true;
            }
        }
        false
    }

    fn on_durable(&mut self, through: u64, position: u64) {
        // The witness first: what it says is true from now on, and nothing that rests on this durability
        // may leave before it (the frames of this turn carry it).
        self.position = self.position.max(position);
        self.lives.reached(position);
        self.settings.durable.advance(position);
        while self.pending.front().is_some_and(|(token, _)| *token <= through) {
            let Some((_, pending)) = self.pending.pop_front() else { return };
            match pending {
                Pending::Transaction(id, record) => {
                    if matches!(*record, Record::Resolved(_)) {
                        crash::here(CrashPoint::DepartureRecorded);
                    }
                    self.step(id, Event::Durable((*record).clone()));
                    self.departing_durable(id, &record);
                    if matches!(*record, Record::Heuristic(_) | Record::Resolved(_)) {
                        self.pay_all(id);
                    }
                }
                Pending::Lease(until) => {
                    self.leased_until = self.leased_until.max(until);
                    self.lives.leased(until);
                    self.unpark();
                }
                Pending::Resolution(resolution) => self.resolution_durable(&resolution),
                Pending::Acknowledgement(acknowledgement) => self.acknowledged(*acknowledgement),
                Pending::Comparison(comparison) => self.compared(*comparison),
                Pending::WriteOff(writing_off) => writing_off.durable(),
                Pending::Departure(departure) => self.departure_durable(*departure),
                Pending::Note => {}
            }
        }
        self.judge_reach();
    }

    /// The whole history can be read: absence means something now, and what waited for that is judged.
    fn on_counted(&mut self, lives: &[KnownLife]) {
        let leased_until = self.leased_until;
        let written_off = self.lives.written_off();
        self.lives = Lives::new(lives.iter().map(seen).collect(), true).with_written_off(written_off);
        self.lives.leased(leased_until);
        self.lives.reached(self.position);
        self.judge_heard_witnesses();
        self.raise_recorded_heuristics();
        self.judge_reach();
        tracing::info!(position = self.position, epochs = lives.len(), "the log is counted");
        crash::here(CrashPoint::LogCounted);
        self.settlement.hear_again();
        self.ask_for_listings();
    }

    fn raise_recorded_heuristics(&mut self) {
        let LogState::Ready(history) = &self.log_state else { return };
        match history.heuristics() {
            Ok(heuristics) => {
                for heuristic in &heuristics {
                    super::turn::note_heuristic(&mut self.alarms, heuristic);
                }
            }
            Err(error) => self.alarms.raise(LOG_UNREADABLE, "", "", &error.to_string()),
        }
    }

    /// Nobody knows what is on disk: nothing more is sent, said or begun (I11).
    fn on_doubtful(&mut self, why: String) {
        self.alarms.raise(LOG_DOUBTFUL, "", "", &why);
        for live in self.live.values_mut() {
            for waiter in std::mem::take(&mut live.waiters) {
                let unknown = format!("the coordinator's log failed ({why}); ask again after its restart");
                waiter.teller.tell(live, Outcome::Unknown(unknown));
            }
        }
        self.out = super::Output::default();
        self.pending.clear();
        // Dropped: whoever waits hears that the coordinator cannot go on.
        self.resolving.clear();
        self.verifying.clear();
        self.departures.clear();
        self.log_state = LogState::Doubtful(why);
        self.refuse_parked();
        self.refuse_queued();
        self.drain_progress();
    }

    /// A commit that is owed to a participant which the configuration no longer names is kept for ever, and
    /// shown until it is named again.
    fn alarm_for_removed_participants(&mut self, history: &TransactionHistory) {
        let Some(decided) = history.decided.as_ref().or(history.delegated.as_ref()) else { return };
        for branch in &decided.branches {
            if !self.participants.contains_key(&branch.participant) {
                self.alarms.raise(
                    UNHEARD,
                    &decided.gtid.to_string(),
                    branch.participant.as_str(),
                    "a commit is owed to this participant, and the configuration no longer names it: name it \
                     again, until the commit is delivered",
                );
            }
        }
    }

    /// Takes over what the journal says is owed, before any agent is heard.
    pub(super) fn recover(&mut self, owed: &[TransactionHistory]) {
        for history in owed {
            let records: Vec<&Record> = history.records.iter().map(|(_, _, record)| record).collect();
            let Some(mut transaction) = Transaction::recover(records) else { continue };
            let id = LocalId::from(transaction.gtid());
            if self.lives.is_written_off(id.life) {
                transaction.doubt();
            }
            let effects = transaction.resume();
            let decided = history.decided.as_ref().or(history.delegated.as_ref());
            if let Some(key) = decided.and_then(|decided| decided.key.clone()) {
                self.keys.insert((key.client.clone(), key.key.clone()), (id, key));
            }
            let live = self.new_live(transaction);
            self.live.insert(id, live);
            self.owe(id);
            self.settlement.owes(id);
            self.alarm_for_removed_participants(history);
            self.carry_out(id, effects);
        }
        if !owed.is_empty() {
            tracing::info!(owed = owed.len(), "commits of earlier lives are owed: delivering");
        }
    }
}
