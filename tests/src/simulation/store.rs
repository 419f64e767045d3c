//! A store in memory that loses, when the power goes, what came after some write that was not made durable.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use votum_coordinator::log::forgetful::ForgetfulMap;
use votum_coordinator::log::store::{Pair, Store, StoreError};

use super::disk::Down;
use super::random::Random;

#[derive(Debug, Clone, Default)]
struct Shelves {
    map: ForgetfulMap,
    holder: u64,
    unreadable: bool,
}

/// The store, as one process holds it.
#[derive(Debug, Clone, Default)]
pub struct SimulatedStore {
    shelves: Arc<Mutex<Shelves>>,
    holder: u64,
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
        let map = &mut self.shelves().map;
        match how {
            Down::Killed => map.force(),
            Down::PowerLost => map.lose_all_but(random.index(map.unforced() + 1)),
        }
    }

    /// Nothing can be read or written, or again.
    pub fn set_unreadable(&self, unreadable: bool) {
        self.shelves().unreadable = unreadable;
    }

    /// A store of its own that holds what is seen now.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut map = self.shelves().map.clone();
        map.force();
        Self { shelves: Arc::new(Mutex::new(Shelves { map, ..Shelves::default() })), holder: 0 }
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

impl Store for SimulatedStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.held()?.map.get(key))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.held()?.map.set(key, Some(value));
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.held()?.map.set(key, None);
        Ok(())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(self.held()?.map.range(from, to).take(limit).collect())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(self.held()?.map.range(from, to).rev().take(limit).collect())
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        self.held()?.map.force();
        Ok(())
    }

    fn close(&self) {}
}
