//! Begin, Commit, Rollback, and the drain before a stop.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use votum_proto::names::{Gtid, ParticipantName};
use votum_proto::runtime::Backoff;

use super::request::{Answer, Begin, Begun, BranchClaim, Commit, Outcome, RequestError, Wait};
use super::timers::Timer;
use super::{
    DatabaseIdentity, Drain, Driver, Live, LocalId, LogState, Participant, Pending, Teller, Unnoted, Waiter,
};
use crate::crash::{self, CrashPoint};
use crate::protocol::event::{Effect, Event};
use crate::protocol::record::{self, AbortKind, AbortReason, MAX_TEXT, Record, cut};
use crate::protocol::standing::{BranchView, Standing};
use crate::protocol::transaction::Transaction;

/// A branch whose end cannot be told yet is asked about again between these delays.
const ASK_AGAIN_FIRST: Duration = Duration::from_millis(50);
const ASK_AGAIN_CAP: Duration = Duration::from_secs(5);
/// A transaction that is not decided by then is noted in the log.
const NOTED_AFTER: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn begin(&mut self, begin: Begin, answer: Answer<Begun>) {
        let _ = answer.send(self.try_begin(begin));
    }

    fn try_begin(&mut self, begin: Begin) -> Result<Begun, RequestError> {
        self.refuse_unless_beginning()?;
        self.may_be_attached(&begin.attached)?;
        self.refuse_unconfigured(&begin.participants)?;
        if let Some(key) = &begin.key {
            self.refuse_known_key(key)?;
        }
        self.refuse_what_would_get_no_session(&begin)?;
        let id = self.open(begin)?;
        let gtid = self.gtid(id);
        let secret = self.epoch_key.secret(&gtid);
        let attached = self
            .live
            .get(&id)
            .map(|live| live.transaction.attached_gids().map(|(at, gid)| (at.clone(), gid)).collect());
        Ok(Begun { gtid, secret, attached: attached.unwrap_or_default() })
    }

    fn refuse_unconfigured(&self, participants: &[ParticipantName]) -> Result<(), RequestError> {
        match participants.iter().find(|participant| !self.participants.contains_key(*participant)) {
            Some(unknown) => Err(not_configured(unknown)),
            None => Ok(()),
        }
    }

    /// Opens a transaction, where nothing keeps this coordinator from it.
    pub(super) fn open(&mut self, begin: Begin) -> Result<LocalId, RequestError> {
        let id = self.next_id()?;
        let now = self.seams.clock.now();
        let gtid = self.gtid(id);
        let deadline = now.after(begin.timeout);
        self.timers.set(deadline, Timer::Deadline(id));
        if let Some(key) = &begin.key {
            self.keys.insert((key.client.clone(), key.key.clone()), (id, key.clone()));
        }
        let noted = now.after(NOTED_AFTER);
        self.timers.set(noted, Timer::NoteBegun(id));
        let transaction =
            Transaction::begin(gtid.clone(), begin.label, begin.key).with_attached(begin.attached);
        let mut live = self.new_live(transaction);
        live.deadline = Some(deadline);
        live.unnoted = Some((noted, Unnoted { client: begin.client, timeout: begin.timeout }));
        self.live.insert(id, live);
        self.undecided += 1;
        self.settings.counted.transactions.begun();
        tracing::debug!(%gtid, "begun");
        crash::here(CrashPoint::Begun);
        Ok(id)
    }

    /// For people: most transactions are decided at once, and of those the decision tells enough.
    pub(super) fn note_begun(&mut self, id: LocalId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let Some((_, unnoted)) = live.unnoted.take() else { return };
        let note = Record::Begun(record::Begun {
            gtid: live.transaction.gtid().clone(),
            label: live.transaction.label().to_owned(),
            client: unnoted.client,
            timeout_ms: u64::try_from(unnoted.timeout.as_millis()).unwrap_or(u64::MAX),
        });
        self.persist(note, false, Pending::Note);
    }

    pub(super) fn new_live(&self, transaction: Transaction) -> Live {
        let now = self.seams.clock.now();
        Live {
            transaction,
            waiters: Vec::new(),
            deadline: None,
            completed_wait: None,
            unnoted: None,
            begun: now,
            in_state: now,
            trouble: BTreeMap::new(),
            ask_again: Backoff::new(ASK_AGAIN_FIRST, ASK_AGAIN_CAP),
            asking_again: BTreeSet::new(),
            orders_sent: 0,
            owing: Vec::new(),
            whole: None,
        }
    }

    /// What keeps this coordinator from beginning anything, if anything does.
    pub(super) fn refuse_unless_beginning(&self) -> Result<(), RequestError> {
        if self.drain.is_some() {
            return Err(RequestError::Unavailable("the coordinator is stopping".into()));
        }
        if let Some(why) = &self.stale {
            return Err(RequestError::Unavailable(format!(
                "the coordinator's log is stale ({why}); nothing is begun until an operator has looked"
            )));
        }
        match &self.log_state {
            LogState::Ready(_) => {}
            LogState::Counting => {
                return Err(RequestError::Unavailable("the coordinator is still reading its log".into()));
            }
            LogState::Unreadable(why) => {
                return Err(RequestError::Unavailable(format!("the log's history cannot be read: {why}")));
            }
            LogState::Doubtful(why) => return Err(RequestError::LogFailed(why.clone())),
        }
        let live = self.undecided.saturating_add(self.parked.len()).saturating_add(self.rooms.waiting());
        if live >= self.settings.max_transactions {
            return Err(RequestError::Overloaded { live });
        }
        Ok(())
    }

    pub(super) fn refuse_known_key(&self, key: &record::KeyRecord) -> Result<(), RequestError> {
        if let Some((id, known, standing)) = self.live_key(key) {
            let gtid = self.gtid(id);
            match standing {
                // No branch of it can ever commit: the key is free, though rollbacks may still be under way.
                Standing::Aborted(_) | Standing::ReadOnly => {}
                Standing::InProgress(_) | Standing::Committed { .. }
                    if known.request_hash != key.request_hash =>
                {
                    return Err(RequestError::KeyMismatch(gtid));
                }
                Standing::InProgress(_) => return Err(RequestError::KeyInUse(gtid)),
                // Decided, and only acknowledgements are owed: the work is done, and must not run again.
                Standing::Committed { .. } => return Err(RequestError::KeyCommitted(gtid)),
            }
        }
        let LogState::Ready(history) = &self.log_state else { return Ok(()) };
        match history.by_key(&key.client, &key.key) {
            Ok(None) => Ok(()),
            Ok(Some((gtid, known))) if known.request_hash == key.request_hash => {
                Err(RequestError::KeyCommitted(gtid))
            }
            Ok(Some((gtid, _))) => Err(RequestError::KeyMismatch(gtid)),
            Err(error) => Err(RequestError::Unavailable(error.to_string())),
        }
    }

    /// The transaction in memory that bears the key.
    fn live_key(&self, key: &record::KeyRecord) -> Option<(LocalId, &record::KeyRecord, Standing)> {
        let (id, known) = self.keys.get(&(key.client.clone(), key.key.clone()))?;
        Some((*id, known, self.live.get(id)?.transaction.standing()))
    }

    /// Whether the secret is that transaction's, in this or an earlier life.
    fn check_secret(&self, gtid: &Gtid, secret: &[u8]) -> Result<(), RequestError> {
        if gtid.coordinator_id != self.coordinator_id {
            return Err(RequestError::NotFound(gtid.to_string()));
        }
        let admitted = if gtid.life == self.life {
            self.epoch_key.admits(gtid, secret)
        } else {
            self.identity_key.epoch_key(gtid.life).admits(gtid, secret)
        };
        if admitted { Ok(()) } else { Err(RequestError::WrongSecret(gtid.clone())) }
    }

    pub(super) fn commit(&mut self, commit: Commit, answer: Answer<Outcome>) {
        if let Err(error) = self.check_commit(&commit) {
            let _ = answer.send(Err(error));
            return;
        }
        let id = LocalId::from(&commit.gtid);
        let Some(live) = self.live.get(&id) else {
            let _ = answer.send(self.lookup(&commit.gtid));
            return;
        };
        // A repeated Commit only waits: the first one's list stands, whoever has left the configuration since.
        if live.transaction.is_active()
            && let Err(error) = self.may_be_named(live, &commit.branches)
        {
            let _ = answer.send(Err(error));
            return;
        }
        let wait = commit.wait;
        if let Some(reason) = self.unverifiable(live) {
            self.wait_for(id, wait, Teller::Outcome(answer));
            self.step(id, Event::RollbackRequested(reason));
            return;
        }
        self.decide(id, commit.branches, wait, Teller::Outcome(answer));
    }

    /// Asks a live transaction for the decision.
    pub(super) fn decide(&mut self, id: LocalId, claims: Vec<BranchClaim>, wait: Wait, teller: Teller) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let (was_undecided, was_in) = (live.transaction.is_undecided(), live.transaction.state());
        let effects = live.transaction.step(Event::CommitRequested { claims });
        if let Some(Effect::Refuse(mistake)) = effects.first() {
            return teller.refuse(RequestError::Invalid(mistake.clone()));
        }
        // Ended without a vote: no branch was named.
        if was_undecided && !live.transaction.is_undecided() {
            self.undecided = self.undecided.saturating_sub(1);
            self.nobody_waits_any_more(id, false);
        }
        self.note_state(id, was_in);
        self.wait_for(id, wait, teller);
        self.carry_out(id, effects);
    }

    fn check_commit(&self, commit: &Commit) -> Result<(), RequestError> {
        self.check_secret(&commit.gtid, &commit.secret)?;
        self.refuse_after_doubt()
    }

    fn check_rollback(&self, gtid: &Gtid, secret: &[u8]) -> Result<(), RequestError> {
        self.check_secret(gtid, secret)?;
        self.refuse_after_doubt()
    }

    /// I11: whoever waited for a log that failed would wait for ever.
    pub(super) fn refuse_after_doubt(&self) -> Result<(), RequestError> {
        match &self.log_state {
            LogState::Doubtful(why) => Err(RequestError::LogFailed(why.clone())),
            LogState::Counting | LogState::Ready(_) | LogState::Unreadable(_) => Ok(()),
        }
    }

    /// Answers when the outcome that `wait` asks for stands, which may be now.
    pub(super) fn wait_for(&mut self, id: LocalId, wait: Wait, teller: Teller) {
        let Some(live) = self.live.get(&id) else { return };
        let outcome = self.outcome_of(live);
        let stands = match &outcome {
            Outcome::Committed { pending, .. } => {
                pending.is_empty() || (wait == Wait::Decided && !self.is_behind(live))
            }
            Outcome::Aborted { .. } | Outcome::ReadOnly => true,
            Outcome::InProgress(_) | Outcome::Unknown(_) | Outcome::Expired => false,
        };
        if stands {
            return teller.tell(live, outcome);
        }
        if matches!(outcome, Outcome::Committed { .. }) || live.transaction.is_one_phase() {
            self.set_completed_wait(id);
        }
        if let Some(live) = self.live.get_mut(&id) {
            live.waiters.push(Waiter { wait, teller });
        }
    }

    pub(super) fn rollback(&mut self, gtid: &Gtid, secret: &[u8], reason: &str, answer: Answer<Outcome>) {
        if let Err(error) = self.check_rollback(gtid, secret) {
            let _ = answer.send(Err(error));
            return;
        }
        let id = LocalId::from(gtid);
        if !self.live.contains_key(&id) {
            let _ = answer.send(self.lookup(gtid));
            return;
        }
        let message = if reason.is_empty() { "the client rolled back" } else { reason };
        self.wait_for(id, Wait::Decided, Teller::Outcome(answer));
        self.step(
            id,
            Event::RollbackRequested(AbortReason {
                kind: AbortKind::RolledBack,
                participant: None,
                sqlstate: String::new(),
                message: cut(message, MAX_TEXT),
            }),
        );
    }

    /// From now on nothing is begun; undecided transactions may go on until the grace is over.
    pub(super) fn begin_drain(&mut self, grace: Duration, answer: oneshot::Sender<()>) {
        let deadline = self.seams.clock.now().after(grace);
        match &mut self.drain {
            Some(drain) => drain.answers.push(answer),
            None => {
                tracing::info!(undecided = self.undecided, "stopping: nothing new is begun");
                self.drain = Some(Drain { deadline, closing: false, answers: vec![answer] });
                self.timers.set(deadline, Timer::Drain);
            }
        }
        self.refuse_parked();
        self.refuse_queued();
        self.drain_progress();
    }

    /// Whatever of this life is not decided is aborted. A decision on its way to the disk goes its way.
    pub(super) fn abort_undecided(&mut self, why: &str) {
        let undecided: Vec<LocalId> =
            self.live.iter().filter(|(_, live)| live.transaction.is_undecided()).map(|(id, _)| *id).collect();
        for id in undecided {
            self.step(
                id,
                Event::RollbackRequested(AbortReason {
                    kind: AbortKind::Coordinator,
                    participant: None,
                    sqlstate: String::new(),
                    message: why.into(),
                }),
            );
        }
    }

    /// The grace is over: what is undecided is aborted, what is decided stays owed to the next start.
    pub(super) fn drain_deadline(&mut self) {
        if self.drain.as_ref().is_none_or(|drain| drain.deadline > self.seams.clock.now()) {
            return;
        }
        self.abort_undecided("the coordinator stopped");
        self.close_log();
    }

    /// Closes the log once nothing is left that could still get on: what is owed to a participant that is
    /// away waits for the next start just as well, and after a log that failed everything does.
    pub(super) fn drain_progress(&mut self) {
        let failed = matches!(self.log_state, LogState::Doubtful(_));
        if self.drain.is_some() && (failed || !self.live.values().any(|live| self.may_get_on(live))) {
            self.close_log();
        }
    }

    fn may_get_on(&self, live: &Live) -> bool {
        let reachable = |view: &BranchView| self.unreachable(&view.participant).is_none();
        live.transaction.is_undecided() || live.transaction.branches().iter().any(reachable)
    }

    fn close_log(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        if !drain.closing {
            drain.closing = true;
            // What this turn gathered goes before the close.
            self.flush();
            self.log.close();
        }
    }
}

pub(super) fn not_configured(participant: &ParticipantName) -> RequestError {
    RequestError::Invalid(format!("participant {participant} is not configured at this coordinator"))
}

/// Two participants that are the same database are two names for one branch: the second PREPARE would wait
/// for the first one's locks.
pub(super) fn one_name_each<'a>(
    participants: &BTreeMap<ParticipantName, Participant>,
    named: impl Iterator<Item = &'a ParticipantName>,
) -> Result<(), RequestError> {
    let mut seen: BTreeMap<&DatabaseIdentity, &ParticipantName> = BTreeMap::new();
    for participant in named {
        let known = participants.get(participant).and_then(|known| known.database.as_ref());
        let Some(database) = known else { continue };
        // The same participant twice has an answer of its own.
        if let Some(other) = seen.insert(database, participant).filter(|other| *other != participant) {
            return Err(RequestError::Invalid(format!(
                "participants {other} and {participant} are the same database ({database}); use one of the \
                 names for all of the work there"
            )));
        }
    }
    Ok(())
}
