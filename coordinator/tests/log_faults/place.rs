//! Logs in directories, and what is in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use votum_coordinator::log::{
    Entry, History, LogConfig, LogEvent, OnFailure, Opened, Refusal, RefusalKind, initialize, open,
};
use votum_coordinator::protocol::record::{Begun, Decided, Decision, PreparedBranch, Record};
use votum_proto::names::{CoordinatorId, Gtid, Life};
use votum_proto::runtime::Seams;

/// Of those that [`Session::work`] commits, every so many-th is left owed.
pub(crate) const OWED_EVERY: u64 = 10;
/// How many transactions a log has seen before a disk fails: it has changed halves.
pub(crate) const BEFORE: u64 = 60;

pub(crate) fn acme() -> CoordinatorId {
    "acme".parse().unwrap()
}

pub(crate) fn config(directory: &Path, on_failure: OnFailure) -> LogConfig {
    LogConfig {
        half_bytes: 64 << 10,
        watchdog: Duration::from_secs(60),
        cache_bytes: 1 << 20,
        lease: 1000,
        on_failure,
        ..LogConfig::new(directory)
    }
}

pub(crate) fn gtid(life: Life, seq: u64) -> Gtid {
    Gtid { coordinator_id: acme(), life, seq }
}

/// Large, so that a few of them fill a half.
fn commit(gtid: &Gtid) -> Decided {
    let branch = |number| PreparedBranch {
        number,
        participant: format!("{}-{number}", "bank".repeat(10)).parse().unwrap(),
        xid8: 1 << 40,
        system_identifier: u64::MAX,
        timeline: 1,
        marker: false,
    };
    Decided {
        gtid: gtid.clone(),
        decision: Decision::Commit,
        branches_named: 24,
        branches: (0..24).map(branch).collect(),
        key: None,
        label: format!("transfer {}", gtid.seq),
    }
}

/// An opened log.
pub(crate) struct Session {
    pub(crate) opened: Opened,
    token: u64,
}

impl Session {
    pub(crate) fn open(directory: &Path, on_failure: OnFailure) -> Result<Self, Refusal> {
        Self::open_with(&config(directory, on_failure))
    }

    pub(crate) fn open_with(config: &LogConfig) -> Result<Self, Refusal> {
        // A process that another test is just starting holds what was open here until it is its own program:
        // also a lock.
        for _ in 0..500 {
            match open(config.clone(), &acme(), Seams::production()) {
                Err(refusal) if refusal.kind == RefusalKind::InUse => {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                opened => return Ok(Self { opened: opened?, token: 0 }),
            }
        }
        panic!("{} stays locked", config.directory.display())
    }

    /// The next thing that the log says. A log that hangs is ended by its watchdog.
    pub(crate) fn next(&mut self) -> LogEvent {
        self.opened.events.blocking_recv().expect("the log went silent")
    }

    /// The history, or why there is none.
    pub(crate) fn history(&mut self) -> Result<Arc<dyn History>, String> {
        loop {
            match self.next() {
                LogEvent::Counted { history, .. } => return Ok(history),
                LogEvent::Unreadable { why } | LogEvent::Doubtful { why } => return Err(why),
                LogEvent::Durable { .. } | LogEvent::Closed => {}
            }
        }
    }

    /// Commits transactions one after another; `told` is called with each that is durable.
    pub(crate) fn work(&mut self, transactions: u64, told: impl Fn(u64)) {
        for seq in 1..=transactions {
            let gtid = gtid(self.opened.life, seq);
            let begun =
                Begun { gtid: gtid.clone(), label: "transfer".into(), client: "shop".into(), timeout_ms: 1 };
            self.token += 2;
            let decided = Record::Decided(commit(&gtid));
            self.append(vec![(self.token - 1, Record::Begun(begun), false), (self.token, decided, true)]);
            if !self.durable(self.token) {
                return;
            }
            told(seq);
            if seq % OWED_EVERY != 0 {
                self.token += 1;
                self.append(vec![(self.token, Record::Ended { gtid }, false)]);
            }
        }
    }

    fn append(&self, entries: Vec<(u64, Record, bool)>) {
        let entries = entries.into_iter().map(|(token, record, forced)| Entry { token, record, forced });
        self.opened.log.append(entries.collect());
    }

    fn durable(&mut self, token: u64) -> bool {
        loop {
            match self.next() {
                LogEvent::Durable { through, .. } if through >= token => return true,
                LogEvent::Doubtful { .. } | LogEvent::Closed => return false,
                LogEvent::Durable { .. } | LogEvent::Counted { .. } | LogEvent::Unreadable { .. } => {}
            }
        }
    }

    pub(crate) fn close(mut self) {
        self.opened.log.close();
        while !matches!(self.next(), LogEvent::Closed) {}
    }

    /// The seqs of the commits of `life` that are owed.
    pub(crate) fn owed(&self, life: Life) -> BTreeSet<u64> {
        let decided = self.opened.owed.iter().filter_map(|owed| owed.decided.as_ref());
        decided.filter(|decided| decided.gtid.life == life).map(|decided| decided.gtid.seq).collect()
    }
}

/// A log that has worked and was closed in order.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    /// The life that did the work.
    pub(crate) life: Life,
}

impl Place {
    /// One with [`BEFORE`] transactions.
    pub(crate) fn worked() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("log");
        initialize(&config(&directory, OnFailure::Latch), &acme(), &*Seams::production().entropy).unwrap();
        let mut session = Session::open(&directory, OnFailure::Latch).unwrap();
        session.history().unwrap();
        session.work(BEFORE, |_| {});
        let life = session.opened.life;
        session.close();
        Self { folder, life }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The same log in another directory.
    pub(crate) fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&self.log(), &folder.path().join("log"));
        Self { folder, life: self.life }
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// What of a life's work has to be in a log afterwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) life: Life,
    /// So many were acknowledged, from seq 1 on.
    pub(crate) acknowledged: u64,
}

/// The judgement over a log on a disk that works again: it opens and is counted, and every commit that was
/// acknowledged is there, owed if nothing ended it. At most one more is: the one that nobody was told of.
#[track_caller]
pub(crate) fn judge(directory: &Path, expected: &[Expected], why: &str) {
    let (session, history) = judge_owed(directory, expected, why);
    let history = history.unwrap_or_else(|error| panic!("{why}: not counted: {error}"));
    for Expected { life, acknowledged } in expected {
        for seq in 1..=*acknowledged {
            let found = history.transaction(&gtid(*life, seq)).unwrap();
            assert!(found.decided.is_some(), "{why}: {life} told of {seq}, and it is not there");
        }
        let beyond = history.transaction(&gtid(*life, acknowledged + 2)).unwrap();
        assert!(beyond.records.is_empty(), "{why}: nobody asked for {beyond:?}");
    }
    session.close();
}

/// The same of what is owed alone: the store may be lost, and says so.
#[track_caller]
pub(crate) fn judge_owed(
    directory: &Path,
    expected: &[Expected],
    why: &str,
) -> (Session, Result<Arc<dyn History>, String>) {
    let mut session = Session::open(directory, OnFailure::Latch)
        .unwrap_or_else(|refusal| panic!("{why}: a disk that works again is refused: {refusal}"));
    for expected in expected {
        let owed = session.owed(expected.life);
        let must: Vec<u64> = (1..=expected.acknowledged).filter(|seq| seq % OWED_EVERY == 0).collect();
        let lost: Vec<&u64> = must.iter().filter(|seq| !owed.contains(seq)).collect();
        assert!(lost.is_empty(), "{why}: {lost:?} of {} are not owed any more", expected.life);
    }
    let history = session.history();
    (session, history)
}
