//! The whole log on real files and sled.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use votum_proto::names::CoordinatorId;
use votum_proto::runtime::Seams;

use super::world::*;
use crate::log::config::{INITIALIZING_FILE, LOCK_FILE, STORE_FOLDER};
use crate::log::{
    Entry, History, KnownLife, LogConfig, LogEvent, OnFailure, Opened, Refusal, RefusalKind, Token,
    initialize, open,
};
use crate::protocol::record::*;

pub(super) fn config(directory: &Path) -> LogConfig {
    LogConfig {
        half_bytes: 64 << 10,
        watchdog: Duration::from_secs(60),
        on_failure: OnFailure::Latch,
        cache_bytes: 1 << 20,
        lease: 1000,
        ..LogConfig::new(directory)
    }
}

/// A log in a temporary folder.
pub(super) struct Place(tempfile::TempDir);

impl Place {
    pub(super) fn initialized() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        initialize(&config(&place.path()), &acme(), &*Seams::production().entropy).unwrap();
        place
    }

    /// Nothing is there yet.
    pub(super) fn nothing() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> std::path::PathBuf {
        self.0.path().join("log")
    }

    pub(super) fn try_open(&self) -> Result<Opened, Refusal> {
        open(config(&self.path()), &acme(), Seams::production())
    }

    pub(super) fn open(&self) -> Running {
        Running::new(self.try_open().unwrap())
    }

    pub(super) fn file(&self, name: &str) -> std::path::PathBuf {
        self.path().join(name)
    }
}

/// An opened log, with what it has said.
pub(super) struct Running {
    pub(super) opened: Opened,
    durable: Token,
    counted: Option<(Arc<dyn History>, Vec<KnownLife>)>,
    unreadable: Option<String>,
    doubtful: Option<String>,
    closed: bool,
}

impl Running {
    pub(super) fn new(opened: Opened) -> Self {
        Self { opened, durable: 0, counted: None, unreadable: None, doubtful: None, closed: false }
    }

    /// Takes events until `done` says so.
    pub(super) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock = Seams::production().clock;
        while !done(self) {
            let next = async { clock.timeout(Duration::from_secs(30), self.opened.events.recv()).await };
            let _entered = runtime.enter();
            let event = runtime.block_on(next).unwrap_or_else(|_| panic!("nothing came while {what}"));
            match event.unwrap_or_else(|| panic!("the log went silent while {what}")) {
                LogEvent::Durable { through, .. } => self.durable = through,
                LogEvent::Counted { history, lives } => self.counted = Some((history, lives)),
                LogEvent::Unreadable { why } => self.unreadable = Some(why),
                LogEvent::Doubtful { why } => self.doubtful = Some(why),
                LogEvent::Closed => self.closed = true,
            }
        }
    }

    pub(super) fn history(&mut self) -> Arc<dyn History> {
        self.until("the store is counted", |running| running.counted.is_some());
        Arc::clone(&self.counted.as_ref().unwrap().0)
    }

    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let last = entries.last().unwrap().token;
        self.opened.log.append(entries);
        self.until("an entry is forced", |running| running.durable >= last || running.doubtful.is_some());
    }

    pub(super) fn close(mut self) {
        self.opened.log.close();
        self.until("the log closes", |running| running.closed);
    }

    fn owed(&self) -> Vec<u64> {
        self.opened.owed.iter().filter_map(|owed| Some(owed.decided.as_ref()?.gtid.seq)).collect()
    }
}

#[test]
fn a_log_remembers_over_a_restart_what_it_acknowledged() {
    let place = Place::initialized();
    let mut running = place.open();
    let life = running.opened.life;
    assert_eq!((life.epoch.0, running.opened.leased_until), (1, 1000));
    for seq in 1..=20u64 {
        let gtid = gtid(life, seq);
        running.append(vec![
            buffered(10 * seq, begun(&gtid)),
            forced(10 * seq + 1, Record::Decided(commit(&gtid))),
        ]);
        if seq % 2 == 0 {
            running.append(vec![buffered(10 * seq + 2, Record::Ended { gtid })]);
        }
    }
    let key = running.opened.identity.key;
    running.close();

    let mut running = place.open();
    assert_eq!(running.opened.identity.key, key);
    assert_eq!(running.opened.life.epoch.0, 2);
    assert_eq!(running.owed(), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    let history = running.history();
    assert_eq!(history.newest(3).unwrap(), [20, 19, 18].map(|seq| gtid(life, seq)));
    let found = history.transaction(&gtid(life, 20)).unwrap();
    assert_eq!((found.decided, found.ended), (Some(commit(&gtid(life, 20))), true));
    assert_eq!(history.by_key("shop", "order-7").unwrap().unwrap().0, gtid(life, 7));
    assert_eq!(history.by_key("other", "order-7").unwrap(), None);
    let lives = &running.counted.as_ref().unwrap().1;
    assert_eq!(lives.iter().map(|life| life.begun.life.epoch.0).collect::<Vec<_>>(), [1, 2]);
    running.close();
    assert!(history.newest(1).is_err(), "a closed log still answers");
}

#[test]
fn several_threads_append_through_many_changes_of_halves_and_all_is_there_after_reopening() {
    let place = Place::initialized();
    let mut running = place.open();
    let life = running.opened.life;
    let tokens = std::sync::atomic::AtomicU64::new(1);
    let order = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let log = Arc::clone(&running.opened.log);
            let (tokens, order) = (&tokens, &order);
            scope.spawn(move || {
                for number in 0..500u64 {
                    let gtid = gtid(life, worker * 500 + number + 1);
                    let _in_order = order.lock().unwrap();
                    let token = tokens.fetch_add(3, std::sync::atomic::Ordering::Relaxed);
                    let mut entries = vec![
                        buffered(token, begun(&gtid)),
                        forced(token + 1, Record::Decided(commit(&gtid))),
                    ];
                    if number % 50 != 0 {
                        entries.push(buffered(token + 2, Record::Ended { gtid }));
                    }
                    log.append(entries);
                }
            });
        }
    });
    let last = tokens.into_inner() - 2;
    running.until("everything is forced", |running| running.durable >= last);
    running.close();
    let mut running = place.open();
    assert_eq!(running.owed().len(), 40);
    let history = running.history();
    for seq in 1..=2000 {
        let found = history.transaction(&gtid(life, seq)).unwrap();
        assert_eq!(found.decided, Some(commit(&gtid(life, seq))));
    }
    running.close();
    // And once more, counted from what a close left.
    let mut running = place.open();
    running.history();
    running.close();
}

#[test]
fn a_copy_of_the_directory_taken_at_any_moment_opens_with_all_that_was_acknowledged() {
    let place = Place::initialized();
    let mut running = place.open();
    let life = running.opened.life;
    running.history();
    for round in 0..10u64 {
        for seq in round * 60 + 1..=round * 60 + 60 {
            let gtid = gtid(life, seq);
            running.append(vec![forced(seq, Record::Decided(commit(&gtid)))]);
        }
        // What kill -9 leaves: whatever was written, in the page cache.
        let copy = Place(tempfile::tempdir().unwrap());
        copy_folder(&place.path(), &copy.path());
        let mut again = copy.open();
        assert_eq!(again.owed().len() as u64, round * 60 + 60);
        let history = again.history();
        assert!(history.transaction(&gtid(life, round * 60 + 60)).unwrap().decided.is_some());
        again.close();
    }
    running.close();
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_directory_without_a_log_is_refused_and_one_with_a_log_is_not_initialized_again() {
    let empty = Place(tempfile::tempdir().unwrap());
    assert_eq!(empty.try_open().err().unwrap().kind, RefusalKind::NotInitialized);
    std::fs::create_dir_all(empty.path()).unwrap();
    assert_eq!(empty.try_open().err().unwrap().kind, RefusalKind::NotInitialized);
    let entropy = Seams::production().entropy;
    let place = Place::initialized();
    let again = initialize(&config(&place.path()), &acme(), &*entropy);
    assert_eq!(again.unwrap_err().kind, RefusalKind::NotEmpty);
    std::fs::write(empty.file("letter.txt"), "dear").unwrap();
    let refusal = initialize(&config(&empty.path()), &acme(), &*entropy).unwrap_err();
    assert_eq!(refusal.code(), "VOTUM-1102");
    assert!(refusal.to_string().contains("letter.txt is there"), "{refusal}");
    let path = empty.path().display().to_string();
    assert_eq!(refusal.to_string().matches(&path).count(), 1, "the path stands there once: {refusal}");
}

#[test]
fn an_interrupted_initialization_is_run_again() {
    let place = Place::initialized();
    std::fs::write(place.file(INITIALIZING_FILE), "").unwrap();
    std::fs::remove_file(place.file("journal-b")).unwrap();
    assert_eq!(place.try_open().err().unwrap().kind, RefusalKind::NotInitialized);
    initialize(&config(&place.path()), &acme(), &*Seams::production().entropy).unwrap();
    place.open().close();
}

#[test]
fn a_missing_file_another_coordinator_and_a_second_opener_are_refused() {
    let place = Place::initialized();
    let other: CoordinatorId = "other".parse().unwrap();
    let refusal = open(config(&place.path()), &other, Seams::production()).err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::OtherCoordinator);
    assert!(refusal.to_string().contains("acme") && refusal.to_string().contains("other"), "{refusal}");

    let running = place.open();
    let refusal = place.try_open().err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::InUse);
    assert!(refusal.file.ends_with(LOCK_FILE));
    running.close();

    let journal = place.file("journal-b");
    let away = place.file("elsewhere");
    std::fs::rename(&journal, &away).unwrap();
    assert_eq!(place.try_open().err().unwrap().kind, RefusalKind::MissingFile);
    std::fs::rename(&away, &journal).unwrap();
    place.open().close();
}

#[test]
fn a_snapshot_that_a_crash_interrupted_is_no_reason_to_refuse() {
    let place = Place::initialized();
    place.open().close();
    let left = place.file(STORE_FOLDER).join("snap.0000000000000001.generating");
    std::fs::write(&left, "half").unwrap();
    let mut running = place.open();
    running.history();
    running.close();
    assert!(!left.exists());
}

#[test]
fn with_a_damaged_store_the_owed_decisions_are_served_and_new_ones_are_still_forced() {
    let place = Place::initialized();
    let mut running = place.open();
    let life = running.opened.life;
    running.history();
    // Enough that the journal no longer holds the beginning.
    for seq in 1..=800u64 {
        let gtid = gtid(life, seq);
        let mut entries = vec![forced(2 * seq, Record::Decided(commit(&gtid)))];
        if seq > 5 {
            entries.push(forced(2 * seq + 1, Record::Ended { gtid }));
        }
        running.append(entries);
    }
    running.close();
    let data = place.file(STORE_FOLDER).join("db");
    let whole = std::fs::read(&data).unwrap();
    let mut told = std::collections::BTreeSet::new();
    for at in [0, whole.len() / 4, whole.len() / 2, whole.len()] {
        let mut damaged = whole.clone();
        damaged.truncate(at.max(1));
        let middle = damaged.len() / 2;
        for byte in damaged.iter_mut().skip(middle).take(5000) {
            *byte ^= 0x5a;
        }
        std::fs::write(&data, &damaged).unwrap();
        let mut running = place.open();
        assert_eq!(running.owed(), [1, 2, 3, 4, 5]);
        running.until("the store is judged", |running| {
            running.unreadable.is_some() || running.counted.is_some()
        });
        let why = running.unreadable.clone().unwrap_or_else(|| panic!("{at}: damage was not noticed"));
        assert!(why.contains("VOTUM-111") && why.contains("db"), "{why}");
        told.insert(why);
        running.append(vec![forced(1, Record::Ended { gtid: gtid(life, 1) })]);
        assert!(running.doubtful.is_none());
        running.close();
        // For the next round nothing has ended.
        let mut running = Running::new(place.try_open().unwrap());
        assert_eq!(running.owed(), [2, 3, 4, 5]);
        running.append(vec![forced(1, Record::Decided(commit(&gtid(life, 1))))]);
        running.close();
    }
    std::fs::remove_file(&data).unwrap();
    let mut running = place.open();
    running.until("the store is judged", |running| running.unreadable.is_some());
    running.close();
    assert!(!data.exists(), "a lost store was replaced by an empty one");
}

#[test]
fn a_disk_that_refuses_latches_the_log_and_it_still_closes() {
    let place = Place::initialized();
    let mut running = place.open();
    let gtid = gtid(running.opened.life, 1);
    let mut oversized = commit(&gtid);
    oversized.label = "l".repeat(5000);
    running.append(vec![forced(1, Record::Decided(oversized))]);
    assert!(running.doubtful.is_some());
    running.opened.log.append(vec![forced(2, Record::Decided(commit(&gtid)))]);
    running.opened.log.close();
    running.until("the log closes", |running| running.closed);
    assert_eq!(running.durable, 0, "something was acknowledged after a failure");
    let running = place.open();
    assert!(running.owed().is_empty());
    running.close();
}
