//! A store in memory that loses, when the power goes, what came after some write that was not made durable.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use votum_coordinator::log::store::{Pair, Store, StoreError};

use super::disk::Down;
use super::random::Random;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone, Default)]
struct Shelves {
    seen: Map,
    durable: Map,
    /// Since the last time that all was made durable, in order; `None`: removed.
    pending: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    holder: u64,
    unreadable: bool,
}

/// The store, as one process holds it.
#[derive(Debug, Clone, Default)]
pub struct SimulatedStore {
    shelves: Arc<Mutex<Shelves>>,
    holder: u64,
}

fn apply(map: &mut Map, (key, value): (Vec<u8>, Option<Vec<u8>>)) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl SimulatedStore {
    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle for a process that starts now. Every earlier one is detached.
    #[must_use]
    pub fn attach(&self) -> Self {
        let mut shelves = self.shelves();
        shelves.holder += 1;
        Self { shelves: Arc::clone(&self.shelves), holder: shelves.holder }
    }

    /// The machine goes down.
    pub fn go_down(&self, how: Down, random: &mut Random) {
        let mut shelves = self.shelves();
        let pending = std::mem::take(&mut shelves.pending);
        let kept = match how {
            Down::Killed => pending.len(),
            Down::PowerLost => random.index(pending.len() + 1),
        };
        for write in pending.into_iter().take(kept) {
            apply(&mut shelves.durable, write);
        }
        shelves.seen = shelves.durable.clone();
    }

    /// Nothing can be read or written, or again.
    pub fn set_unreadable(&self, unreadable: bool) {
        self.shelves().unreadable = unreadable;
    }

    /// A store of its own that holds what is seen now.
    #[must_use]
    pub fn copy(&self) -> Self {
        let shelves = self.shelves();
        let copy = Shelves { durable: shelves.seen.clone(), ..Shelves::default() };
        let copy = Shelves { seen: copy.durable.clone(), ..copy };
        Self { shelves: Arc::new(Mutex::new(copy)), holder: 0 }
    }

    fn held(&self) -> Result<MutexGuard<'_, Shelves>, StoreError> {
        let shelves = self.shelves();
        if shelves.unreadable {
            return Err(StoreError("its file is damaged".into()));
        }
        if shelves.holder == self.holder {
            return Ok(shelves);
        }
        Err(StoreError("the disk is attached elsewhere".into()))
    }
}

fn range<'a>(map: &'a Map, from: &[u8], to: &[u8]) -> impl DoubleEndedIterator<Item = Pair> + 'a {
    map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
        .map(|(key, value)| (key.clone(), value.clone()))
}

impl Store for SimulatedStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.held()?.seen.get(key).cloned())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut shelves = self.held()?;
        shelves.pending.push((key.to_vec(), Some(value.to_vec())));
        shelves.seen.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        let mut shelves = self.held()?;
        shelves.pending.push((key.to_vec(), None));
        shelves.seen.remove(key);
        Ok(())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(range(&self.held()?.seen, from, to).take(limit).collect())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(range(&self.held()?.seen, from, to).rev().take(limit).collect())
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        let mut shelves = self.held()?;
        for write in std::mem::take(&mut shelves.pending) {
            apply(&mut shelves.durable, write);
        }
        Ok(())
    }

    fn close(&self) {}
}
