//! Reading while the writer is between any two of its writes.

use std::sync::{Arc, Mutex};

use votum_proto::names::Gtid;

use super::world::*;
use crate::log::archive::Archive;
use crate::log::codec;
use crate::log::count::count;
use crate::log::history::Reader;
use crate::log::memory::MemoryStore;
use crate::log::store::{Pair, Store, StoreError, key};
use crate::log::{History as _, LogPosition};
use crate::protocol::record::*;

/// Called after each write.
type Look = Box<dyn FnMut() + Send>;

/// A store that shows somebody what it holds after each write.
#[derive(Default)]
struct Watched {
    store: MemoryStore,
    look: Mutex<Option<Look>>,
}

impl Watched {
    fn seen(&self, written: Result<(), StoreError>) -> Result<(), StoreError> {
        // What looks writes nothing.
        if let Some(look) = self.look.lock().unwrap().as_mut() {
            look();
        }
        written
    }
}

impl Store for Watched {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(key)
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.seen(self.store.put(key, value))
    }

    fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.seen(self.store.remove(key))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.store.scan(from, to, limit)
    }

    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.store.scan_back(from, to, limit)
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        self.store.make_durable()
    }

    fn close(&self) {
        self.store.close();
    }
}

fn open(store: &Arc<Watched>) -> Archive<Watched> {
    let identity = Identity { coordinator_id: acme(), key: [7; 32] };
    count(Arc::clone(store), &identity, &[]).unwrap()
}

fn put(archive: &mut Archive<Watched>, position: LogPosition, record: &Record) {
    archive.put(position, 5, &codec::encode(record).unwrap(), record).unwrap();
}

/// How many records of `gtid` were read after each write of `work`.
fn read_during(store: &Arc<Watched>, reader: Reader<Watched>, gtid: Gtid, work: impl FnOnce()) -> Vec<usize> {
    let read = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&read);
    let look: Look = Box::new(move || {
        noted.lock().unwrap().push(reader.transaction(&gtid).map_or(usize::MAX, |found| found.records.len()));
    });
    *store.look.lock().unwrap() = Some(look);
    work();
    *store.look.lock().unwrap() = None;
    std::mem::take(&mut read.lock().unwrap())
}

#[test]
fn who_reads_between_two_writes_sees_what_is_complete_and_never_damage() {
    let store = Arc::new(Watched::default());
    let mut archive = open(&store);
    let gtid = gtid(life(1), 5);
    let reader = archive.reader();
    let read = read_during(&store, reader, gtid.clone(), || {
        put(&mut archive, 1, &Record::Decided(commit(&gtid)));
        put(&mut archive, 2, &Record::Ended { gtid: gtid.clone() });
    });
    assert_eq!(read, [0, 0, 1, 1, 2], "key, way and record of the decision; way and record of the end");

    // What was there and is there no more is damage, also for one who reads a log at rest.
    store.remove(&key::record(1)).unwrap();
    for reader in [archive.reader(), Reader::of(Arc::clone(&store), acme())] {
        let lost = reader.transaction(&gtid).unwrap_err().to_string();
        assert!(lost.contains("position 1"), "{lost}");
    }
}
