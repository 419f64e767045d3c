//! The store's side of the discipline: what it is owed, when it is ready, and its retention.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use votum_proto::names::{Life, ParticipantName};

use super::archive::Archive;
use super::config::Limits;
use super::discipline::Millis;
use super::judge::Kept;
use super::retention::{Listed, Terms};
use super::store::{Store, StoreError};
use super::{LogEvent, LogPosition, VerifiedOn};

/// How often retention looks at something when nothing is written, in milliseconds.
const SLICE_EVERY: Millis = 1000;
/// How many records retention may look at for each one written.
const LOOKS_PER_RECORD: usize = 2;

/// The store, on its way and after.
enum State<S> {
    /// It is being opened and counted.
    Opening,
    /// It is there.
    Open(Archive<S>),
    /// It cannot be read in this life, or was let go.
    Gone,
}

/// The store, and what the journal holds that the store does not yet.
pub(super) struct Shelves<S> {
    state: State<S>,
    backlog: VecDeque<Kept>,
    /// Whether the driver was told that absence means something.
    told: bool,
    listed: BTreeMap<ParticipantName, Listed>,
    last_slice: Millis,
    looks: usize,
}

impl<S: Store> Shelves<S> {
    pub(super) fn new() -> Self {
        Self {
            state: State::Opening,
            backlog: VecDeque::new(),
            told: false,
            listed: BTreeMap::new(),
            last_slice: 0,
            looks: 0,
        }
    }

    pub(super) fn opened(&mut self, archive: Archive<S>) {
        self.state = State::Open(archive);
    }

    pub(super) fn unreadable(&mut self) {
        self.state = State::Gone;
        self.backlog.clear();
    }

    pub(super) fn close(&mut self) {
        if let State::Open(archive) = std::mem::replace(&mut self.state, State::Gone) {
            archive.close();
        }
    }

    pub(super) fn listed(&mut self, participant: ParticipantName, listed: Listed) {
        self.listed.insert(participant, listed);
    }

    /// Notes it in a store that is there.
    pub(super) fn verified(
        &self,
        participant: &ParticipantName,
        on: VerifiedOn,
        running_ms: u64,
    ) -> Result<(), StoreError> {
        match &self.state {
            State::Open(archive) => archive.verified(participant, on, running_ms),
            State::Opening | State::Gone => Ok(()),
        }
    }

    /// The journal holds one more record, forced.
    pub(super) fn owe(&mut self, kept: Kept) {
        match self.state {
            State::Opening | State::Open(_) => self.backlog.push_back(kept),
            State::Gone => {}
        }
    }

    /// What the store is owed, for one who gives it to the store in another way.
    pub(super) fn take_backlog(&mut self) -> VecDeque<Kept> {
        std::mem::take(&mut self.backlog)
    }

    /// The store is there and holds everything that the journal does.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Open(_)) && self.backlog.is_empty()
    }

    /// The store is there and is still given what was written before.
    pub(super) fn is_catching_up(&self) -> bool {
        matches!(self.state, State::Open(_)) && !(self.told && self.backlog.is_empty())
    }

    /// When retention looks at something though nothing is written.
    pub(super) fn slice_due(&self) -> Option<Millis> {
        self.is_ready().then_some(self.last_slice + SLICE_EVERY)
    }

    /// Gives the store what it is owed: all of it once the driver was told that it is counted, at most `most`
    /// records before, so that no batch waits long.
    pub(super) fn feed(&mut self, running_ms: u64, most: usize) -> Result<(), StoreError> {
        let State::Open(archive) = &mut self.state else { return Ok(()) };
        archive.set_running(running_ms);
        let most = if self.told { usize::MAX } else { most };
        for _ in 0..most {
            let Some(kept) = self.backlog.pop_front() else { break };
            archive.put(kept.position, kept.running_ms, &kept.bytes, &kept.record)?;
            self.looks += LOOKS_PER_RECORD;
        }
        Ok(())
    }

    /// What the store was given is on disk when this returns.
    pub(super) fn make_durable(&self) -> Result<(), StoreError> {
        match &self.state {
            State::Open(archive) => archive.make_durable(),
            State::Opening | State::Gone => Ok(()),
        }
    }

    /// Once: the store holds everything up to `position`.
    pub(super) fn tell_counted(&mut self, position: LogPosition) -> Result<Option<LogEvent>, StoreError> {
        let State::Open(archive) = &self.state else { return Ok(None) };
        if self.told || !self.backlog.is_empty() {
            return Ok(None);
        }
        let lives = archive.lives(position)?;
        self.told = true;
        Ok(Some(LogEvent::Counted { history: Arc::new(archive.reader()), lives }))
    }

    /// A slice of retention, when enough was written since the last one, or when it is time.
    pub(super) fn retain(
        &mut self,
        now: Millis,
        running_ms: u64,
        life: Life,
        limits: &Limits,
    ) -> Result<(), StoreError> {
        let due = self.looks >= limits.slice || now >= self.last_slice + SLICE_EVERY;
        if !due || !self.is_ready() {
            return Ok(());
        }
        let State::Open(archive) = &mut self.state else { return Ok(()) };
        archive.retain(&Terms {
            now_ms: running_ms,
            retention_ms: limits.retention_ms,
            retention_bytes: limits.retention_bytes,
            life,
            listed: &self.listed,
            slice: limits.slice,
        })?;
        self.looks = 0;
        self.last_slice = now;
        Ok(())
    }
}
