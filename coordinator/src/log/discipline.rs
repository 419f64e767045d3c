//! The discipline of the log, whole: what is written when, what is acknowledged when, when the halves
//! change, what the store is given. One owner drives it, by [`Core::append`] and [`Core::turn`]; a thread in
//! production, a loop in a simulation. It has no clock: every call is told the time.

use std::collections::VecDeque;

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{CoordinatorId, Epoch, Gtid, Incarnation, Life, ParticipantName};

use super::archive::Archive;
use super::batch;
use super::config::Limits;
use super::disk::{Disk, DiskError};
use super::image::Image;
use super::journal::{self, Journal};
use super::judge::{Kept, Recovered};
use super::refusal::{Refusal, RefusalKind};
use super::retention::Listed;
use super::shelves::Shelves;
use super::store::{Store, StoreError};
use super::{Entry, LogEvent, LogPosition, Token, VerifiedOn, codec};
use crate::crash::{self, CrashPoint};
use crate::protocol::record::{Decision, EpochBegun, Identity, Record};

/// The log has failed: what was written last may or may not be on disk, and nothing more is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Milliseconds since the owner began to drive this core.
pub type Millis = u64;

/// What waits to be written.
struct Waiting {
    token: Token,
    forced: bool,
    record: Record,
    bytes: Vec<u8>,
    since: Millis,
}

/// The discipline, over some disk and some store.
pub struct Core<D, S> {
    limits: Limits,
    journal: Journal<D>,
    image: Image,
    identity: Identity,
    life: Life,
    running_before: u64,
    waiting: VecDeque<Waiting>,
    shelves: Shelves<S>,
    last_write: Millis,
    failed: Option<Failure>,
}

/// What a new life is given.
#[derive(Debug, Clone, Copy)]
pub struct Birth {
    /// Drawn for it.
    pub incarnation: Incarnation,
    /// The highest seq of its first lease.
    pub lease: u64,
    /// Its epoch is above this one.
    pub epoch_above: u64,
}

/// A core, and what its journal held when it was opened.
pub struct Started<D, S> {
    /// Drives the log from here on. Its life and first lease are on disk.
    pub core: Core<D, S>,
    /// What the store must be counted against: the records of the newest half, the new life's included.
    pub kept: Vec<Kept>,
    /// Damage that does no harm.
    pub warnings: Vec<String>,
}

impl<D: Disk, S: Store> Core<D, S> {
    /// Reads the journal, begins a life, and forces it with its first lease.
    ///
    /// # Errors
    /// When the journal is not what a crash can have left, is another coordinator's, or the disk refuses.
    pub fn start(
        disk: D,
        limits: Limits,
        owner: &CoordinatorId,
        birth: Birth,
    ) -> Result<Started<D, S>, Refusal> {
        let Birth { incarnation, lease, epoch_above } = birth;
        let (journal, recovered) = Journal::recover(disk)?;
        let (image, identity) = fold(&journal, &recovered)?;
        if identity.coordinator_id != *owner {
            let found = format!("it is the log of {}, and {owner} is configured", identity.coordinator_id);
            return Err(Refusal::new(RefusalKind::OtherCoordinator, journal.path(), found));
        }
        let newest = image.newest_life().map_or(0, |life| life.epoch.0);
        let step = u64::from(newest == 0 || !sings(Canary::ReuseEpoch));
        if newest > batch::MOST {
            let found = format!("it speaks of epoch {newest}, and no log comes that far");
            return Err(Refusal::new(RefusalKind::Damaged, journal.path(), found).at(0));
        }
        // A life's first batch holds the record of its beginning. The next life's batches would not follow one
        // of a life that nobody knows, and the next start would find the chain broken.
        let written = journal.last_life().epoch.0;
        if written > newest {
            let found = format!(
                "its last batch is of epoch {written}, and its records speak of no epoch after {newest}"
            );
            return Err(Refusal::new(RefusalKind::Damaged, journal.path(), found).at(0));
        }
        let written_off = image.written_off().map_or(0, |written_off| written_off.through.0);
        let above = newest.max(epoch_above).max(written_off);
        let life = Life { epoch: Epoch(above.saturating_add(step)), incarnation };
        let Recovered { mut kept, running_ms, warnings } = recovered;
        let mut core = Self {
            limits,
            journal,
            image,
            identity,
            life,
            running_before: running_ms,
            waiting: VecDeque::new(),
            shelves: Shelves::new(),
            last_write: 0,
            failed: None,
        };
        core.journal.begin_life(life).map_err(|error| super::judge::io(&error))?;
        core.begin_life(lease)
            .map_err(|failure| Refusal::new(RefusalKind::Io, core.journal.path(), failure.0))?;
        crash::here(CrashPoint::LifeBegun);
        kept.extend(core.shelves.take_backlog());
        Ok(Started { core, kept, warnings })
    }

    fn begin_life(&mut self, lease: u64) -> Result<(), Failure> {
        let first_position = self.journal.next_position();
        let begun = EpochBegun { life: self.life, first_position };
        for record in [Record::Epoch(begun), Record::Lease { life: self.life, until: lease }] {
            let bytes = codec::encode(&record).map_err(|error| Failure(error.to_string()))?;
            self.waiting.push_back(Waiting { token: 0, forced: true, record, bytes, since: 0 });
        }
        self.write_batch(0).map(|_| ())
    }

    /// What the journal alone knows.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Whose log it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The life that goes on.
    pub fn life(&self) -> Life {
        self.life
    }

    /// The newest position on disk.
    pub fn position(&self) -> LogPosition {
        self.journal.next_position().saturating_sub(1)
    }

    /// Queues entries; they are written by [`Core::turn`]. After a failure they are dropped.
    ///
    /// # Errors
    /// When a record does not fit: the log cannot go on without it, so it has failed.
    pub fn append(&mut self, now: Millis, entries: Vec<Entry>) -> Result<(), Failure> {
        self.alive()?;
        for Entry { token, record, forced } in entries {
            let bytes = match codec::encode(&record) {
                Ok(bytes) => bytes,
                Err(error) => return Err(self.fail(error.to_string())),
            };
            self.waiting.push_back(Waiting { token, forced, record, bytes, since: now });
        }
        Ok(())
    }

    /// Notes a complete listing; see [`super::DecisionLog::listed`].
    pub fn listed(&mut self, now: Millis, participant: ParticipantName, unsettled: Option<Gtid>) {
        let at_ms = self.running(now);
        self.shelves.listed(participant, Listed { at_ms, unsettled });
    }

    /// Notes what was verified; see [`super::DecisionLog::verified`].
    ///
    /// # Errors
    /// When the store refuses it.
    pub fn verified(
        &mut self,
        now: Millis,
        participant: &ParticipantName,
        on: VerifiedOn,
    ) -> Result<(), Failure> {
        self.alive()?;
        let running_ms = self.running(now);
        let noted = self.shelves.verified(participant, on, running_ms);
        self.stored(noted)
    }

    /// When [`Core::turn`] has something to do: now or earlier means at once; `None`: when something comes.
    pub fn due(&self) -> Option<Millis> {
        if self.failed.is_some() {
            return None;
        }
        let forced = self.waiting.iter().any(|waiting| waiting.forced);
        if forced || self.is_full() || self.shelves.is_catching_up() {
            return Some(0);
        }
        let buffered = self.waiting.front().map(|first| first.since + self.limits.buffered_ms);
        let seal = (!self.journal.is_sealed()).then_some(self.last_write + self.limits.seal_ms);
        [buffered, seal, self.shelves.slice_due()].into_iter().flatten().min()
    }

    fn is_full(&self) -> bool {
        // Enough for a batch of its own; exact sizes do not matter here.
        self.waiting.len() > self.limits.batch_bytes / 256
    }

    /// Does what is due: at most one batch, then some of what the store is owed. Every event tells of
    /// something that is on disk.
    ///
    /// # Errors
    /// When the disk or the store refuses. Nothing more is written then; see [`Failure`].
    pub fn turn(&mut self, now: Millis) -> Result<Vec<LogEvent>, Failure> {
        self.alive()?;
        let mut events = Vec::new();
        if self.batch_is_due(now) {
            if let Some(through) = self.write_batch(now)? {
                self.feed_store(now)?;
                events.push(LogEvent::Durable { through, position: self.position() });
            }
        } else if !self.journal.is_sealed() && now >= self.last_write + self.limits.seal_ms {
            self.seal(now)?;
        }
        self.feed_store(now)?;
        let retained = self.shelves.retain(now, self.running(now), self.life, &self.limits);
        self.stored(retained)?;
        let counted = self.shelves.tell_counted(self.position());
        events.extend(self.stored(counted)?);
        Ok(events)
    }

    fn batch_is_due(&self, now: Millis) -> bool {
        let forced = self.waiting.iter().any(|waiting| waiting.forced);
        let old = self.waiting.front().is_some_and(|first| now >= first.since + self.limits.buffered_ms);
        forced || old || self.is_full()
    }

    /// Writes everything that waits, an empty batch behind it, and makes the store durable as far as it goes.
    ///
    /// # Errors
    /// As [`Core::turn`].
    pub fn finish(&mut self, now: Millis) -> Result<Vec<LogEvent>, Failure> {
        self.alive()?;
        let mut through = None;
        while !self.waiting.is_empty() {
            through = self.write_batch(now)?.or(through);
        }
        if !self.journal.is_sealed() {
            self.seal(now)?;
        }
        self.feed_store(now)?;
        let durable = self.shelves.make_durable();
        self.stored(durable)?;
        let position = self.position();
        Ok(through.map(|through| LogEvent::Durable { through, position }).into_iter().collect())
    }

    /// Lets go of the store's files.
    pub fn close(&mut self) {
        self.shelves.close();
    }

    /// The store was opened and counted up to the start of this life.
    pub fn store_opened(&mut self, archive: Archive<S>) {
        self.shelves.opened(archive);
    }

    /// The store cannot be read: the journal goes on alone.
    pub fn store_unreadable(&mut self, why: String) -> LogEvent {
        self.shelves.unreadable();
        LogEvent::Unreadable { why }
    }

    /// Writes and forces one batch of what waits; the newest token in it, if the driver gave one.
    fn write_batch(&mut self, now: Millis) -> Result<Option<Token>, Failure> {
        let mut batch = Vec::new();
        let mut taken = 0;
        while let Some(next) = self.waiting.front() {
            if !batch.is_empty() && taken + next.bytes.len() > self.limits.batch_bytes {
                break;
            }
            taken += next.bytes.len();
            batch.extend(self.waiting.pop_front());
        }
        let records: Vec<Vec<u8>> =
            batch.iter_mut().map(|waiting| std::mem::take(&mut waiting.bytes)).collect();
        self.make_room(now, journal::body_len(&records))?;
        let running_ms = self.running(now);
        let first_position = self.journal.next_position();
        let written = self.journal.write(&records, running_ms);
        self.done(written)?;
        if batch.iter().any(|waiting| is_commit(&waiting.record)) {
            crash::here(CrashPoint::DecisionAppended);
        }
        let forced = self.journal.force();
        if !sings(Canary::GoOnAfterDoubt) {
            self.done(forced)?;
        }
        self.last_write = now;
        let through = batch.last().map(|waiting| waiting.token).filter(|token| *token > 0);
        let (mut decided, mut ended) = (false, false);
        for ((position, waiting), bytes) in (first_position..).zip(batch).zip(records) {
            self.image.apply(position, running_ms, &waiting.record);
            decided |= is_commit(&waiting.record);
            ended |= matches!(waiting.record, Record::Ended { .. });
            self.shelves.owe(Kept { position, running_ms, bytes, record: waiting.record });
        }
        if decided {
            crash::here(CrashPoint::DecisionForced);
        }
        if ended {
            crash::here(CrashPoint::Ended);
        }
        Ok(through)
    }

    /// An empty batch behind the last one: were that one damaged now, it would no longer look torn.
    fn seal(&mut self, now: Millis) -> Result<(), Failure> {
        self.make_room(now, 0)?;
        let running_ms = self.running(now);
        let written = self.journal.write(&[], running_ms);
        self.done(written)?;
        let forced = self.journal.force();
        self.done(forced)?;
        self.last_write = now;
        Ok(())
    }

    /// Makes room for a batch: in the other half when the store has everything; else in what is kept of this
    /// one, and then by growing it.
    fn make_room(&mut self, now: Millis, body_len: usize) -> Result<(), Failure> {
        if self.journal.fits(body_len) {
            return Ok(());
        }
        if self.shelves.is_ready() {
            self.change_half(now)?;
        }
        if self.journal.fits_at_all(body_len) {
            return Ok(());
        }
        if self.journal.size() > self.limits.half_bytes.saturating_mul(self.limits.growth)
            && !self.shelves.is_ready()
        {
            let size = self.journal.size();
            return Err(self.fail(format!(
                "the journal has grown to {size} bytes and cannot change halves, because the store is not there"
            )));
        }
        let grown = self.journal.grow(body_len, self.limits.half_bytes);
        self.done(grown)
    }

    /// Everything in this half is made durable in the store; only then is the other half overwritten.
    fn change_half(&mut self, now: Millis) -> Result<(), Failure> {
        let durable = self.shelves.make_durable();
        self.stored(durable)?;
        crash::here(CrashPoint::HalfStored);
        let running_ms = self.running(now);
        let first_position = self.journal.next_position();
        let mut carried = self.image.carried();
        if sings(Canary::ForgetToCarry) {
            carried.retain(|record| record.gtid().is_none());
        }
        let encoded: Result<Vec<_>, _> = carried.iter().map(codec::encode).collect();
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => return Err(self.fail(error.to_string())),
        };
        let changed = self.journal.change(&encoded, running_ms, self.limits.half_bytes);
        self.done(changed)?;
        for ((position, record), bytes) in (first_position..).zip(carried).zip(encoded) {
            self.shelves.owe(Kept { position, running_ms, bytes, record });
        }
        // None of it may wait: the store is ready only while it is owed nothing.
        let fed = self.shelves.feed(running_ms, usize::MAX);
        self.stored(fed)
    }

    /// Gives the store what it is owed: all of it once it was counted, some of it before.
    fn feed_store(&mut self, now: Millis) -> Result<(), Failure> {
        let fed = self.shelves.feed(self.running(now), self.limits.catch_up);
        self.stored(fed)
    }

    fn running(&self, now: Millis) -> u64 {
        self.running_before.saturating_add(now)
    }

    fn alive(&self) -> Result<(), Failure> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, why: String) -> Failure {
        let failure = Failure(why);
        self.failed = Some(failure.clone());
        failure
    }

    fn done<T>(&mut self, result: Result<T, DiskError>) -> Result<T, Failure> {
        result.map_err(|error| self.fail(error.to_string()))
    }

    fn stored<T>(&mut self, result: Result<T, StoreError>) -> Result<T, Failure> {
        result.map_err(|error| self.fail(format!("the log's store failed: {error}")))
    }
}

/// What the newest half says, folded; and whose log it is.
pub(super) fn fold<D: Disk>(
    journal: &Journal<D>,
    recovered: &Recovered,
) -> Result<(Image, Identity), Refusal> {
    let mut image = Image::default();
    for kept in &recovered.kept {
        image.apply(kept.position, kept.running_ms, &kept.record);
    }
    match image.identity().cloned() {
        Some(identity) => Ok((image, identity)),
        None => {
            let found = "the newest half does not say whose log it is";
            Err(Refusal::new(RefusalKind::Damaged, journal.path(), found).at(0))
        }
    }
}

fn is_commit(record: &Record) -> bool {
    match record {
        Record::Decided(decided) => decided.decision == Decision::Commit,
        Record::Delegated(_) => true,
        Record::Identity(_)
        | Record::Epoch(_)
        | Record::Lease { .. }
        | Record::Begun(_)
        | Record::Ended { .. }
        | Record::Heuristic(_)
        | Record::Resolved(_)
        | Record::Carried(_)
        | Record::Acknowledged(_)
        | Record::WrittenOff(_)
        | Record::Compared(_) => false,
    }
}
