//! What a PostgreSQL server is, as far as two-phase commit can tell: a log of what happened, of which a crash
//! keeps what was flushed and a failover what had reached the standby; everything else follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use votum_participant::database::{Kept, Stood};

use crate::simulation::random::Random;

/// One change that a transaction makes: money to an account, and a line that says which statement it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Which.
    pub account: u64,
    /// How much.
    pub delta: i64,
    /// Whose statement.
    pub tag: String,
    /// A key that no two changes may share, checked when the transaction is prepared or committed.
    pub unique: Option<String>,
}

/// One entry of the write-ahead log.
#[derive(Debug, Clone)]
pub enum Wal {
    /// A transaction wrote something: its id exists.
    Wrote(u64),
    /// It is prepared.
    Prepared(u64, Prepared),
    /// It was prepared, and is committed.
    CommitPrepared(u64, String),
    /// It was prepared, and is rolled back.
    RollbackPrepared(u64, String),
    /// It is committed.
    Committed(u64, Vec<Change>),
    /// A branch is committed in one phase, with its marker.
    OnePhase(u64, String, Vec<Change>),
    /// A branch's marker says that it never will be.
    Tombstone(String),
}

/// A prepared transaction.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Its name.
    pub gid: String,
    /// Its owner.
    pub owner: String,
    /// What it does.
    pub changes: Vec<Change>,
    /// When it was prepared.
    pub at: Duration,
    /// It carries a commit marker.
    pub marker: bool,
}

/// How a transaction id ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its changes are there.
    Committed,
    /// They are not.
    Aborted,
}

/// What the log adds up to.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Every change that is committed, in order, with its transaction's id.
    pub rows: Vec<(u64, Change)>,
    /// What is prepared, by gid.
    pub prepared: BTreeMap<String, (u64, Prepared)>,
    /// How ids ended.
    pub ended: BTreeMap<u64, Ended>,
    /// Commit markers by gid: whether it committed.
    pub markers: BTreeMap<String, bool>,
    /// The highest id seen.
    pub highest: u64,
}

impl State {
    fn apply(&mut self, record: &Wal) {
        match record {
            Wal::Wrote(xid) => self.highest = self.highest.max(*xid),
            Wal::Prepared(xid, prepared) => {
                self.highest = self.highest.max(*xid);
                self.prepared.insert(prepared.gid.clone(), (*xid, prepared.clone()));
            }
            Wal::CommitPrepared(xid, gid) => {
                if let Some((_, prepared)) = self.prepared.remove(gid) {
                    if prepared.marker {
                        self.markers.insert(gid.clone(), true);
                    }
                    self.rows.extend(prepared.changes.into_iter().map(|change| (*xid, change)));
                }
                self.ended.insert(*xid, Ended::Committed);
            }
            Wal::RollbackPrepared(xid, gid) => {
                self.prepared.remove(gid);
                self.ended.insert(*xid, Ended::Aborted);
            }
            Wal::Committed(xid, changes) => {
                self.highest = self.highest.max(*xid);
                self.rows.extend(changes.iter().map(|change| (*xid, change.clone())));
                self.ended.insert(*xid, Ended::Committed);
            }
            Wal::OnePhase(xid, gid, changes) => {
                self.markers.insert(gid.clone(), true);
                self.highest = self.highest.max(*xid);
                self.rows.extend(changes.iter().map(|change| (*xid, change.clone())));
                self.ended.insert(*xid, Ended::Committed);
            }
            Wal::Tombstone(gid) => {
                self.markers.insert(gid.clone(), false);
            }
        }
    }

    /// The keys that are taken.
    pub fn unique_keys(&self) -> BTreeSet<&str> {
        self.rows.iter().filter_map(|(_, change)| change.unique.as_deref()).collect()
    }
}

/// Who has a row locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A transaction in this session.
    Session(i32),
    /// A prepared transaction.
    Prepared(String),
}

/// An open transaction.
#[derive(Debug, Clone, Default)]
pub struct Open {
    /// Drawn when it wrote first.
    pub xid: Option<u64>,
    /// What it has done.
    pub changes: Vec<Change>,
    /// An error happened: everything but ROLLBACK is refused.
    pub failed: bool,
    /// Begun READ ONLY.
    pub read_only: bool,
    /// It has inserted the marker of this branch, and waits to be committed.
    pub marked: Option<String>,
}

/// A server process.
#[derive(Debug, Default)]
pub struct Backend {
    /// Its transaction.
    pub open: Option<Open>,
    /// It runs a command.
    pub busy: bool,
    /// It can be ended no more: its PREPARE or COMMIT is in the log already.
    pub critical: bool,
    /// The prepared transaction that it was told to end.
    pub ends: Option<String>,
    /// Its client is gone: it ends when it has finished.
    pub orphaned: bool,
    /// Somebody asked for its end.
    pub terminated: bool,
    /// Somebody asked it to cancel what it runs.
    pub cancelled: bool,
}

/// What a crash or a failover took away, for the judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// A prepared transaction, and its transaction id.
    Prepare(String, u64),
    /// The end of a prepared transaction, which is prepared again or gone.
    End(String),
    /// A branch that was committed in one phase, with its marker.
    OnePhase(String),
}

/// A server: memory, and the log on disk.
#[derive(Debug)]
pub struct Server {
    /// Given when it was made.
    pub system_identifier: u64,
    /// Grows with every promotion.
    pub timeline: u32,
    /// Whether it takes connections.
    pub up: bool,
    /// Counts its lives: what began in an earlier one is nobody's any more.
    pub life: u64,
    /// The log: on disk as far as `flushed`.
    pub wal: Vec<Wal>,
    /// How many records are on disk.
    pub flushed: usize,
    /// What has been carried out.
    pub state: State,
    /// The next id.
    pub next_xid: u64,
    /// Server processes by pid.
    pub backends: BTreeMap<i32, Backend>,
    /// The next pid.
    pub next_pid: i32,
    /// Locked accounts.
    pub locks: BTreeMap<u64, Holder>,
    /// gids that somebody works on.
    pub busy: BTreeSet<String>,
    /// How many transactions may be prepared at once.
    pub slots: usize,
    /// What failovers took away.
    pub lost: Vec<Lost>,
    /// How many listings were given in full.
    pub listings: u64,
    /// What stands of the coordinator. A failover takes none of it: what was lost with it is an older proof.
    pub row: Stood,
    /// Whether branches leave commit markers.
    pub markers: bool,
}

impl Server {
    /// A new, empty server.
    pub fn new(system_identifier: u64, slots: usize) -> Self {
        Self {
            system_identifier,
            timeline: 1,
            up: true,
            life: 1,
            wal: Vec::new(),
            flushed: 0,
            state: State::default(),
            next_xid: 700,
            backends: BTreeMap::new(),
            next_pid: 100,
            locks: BTreeMap::new(),
            busy: BTreeSet::new(),
            slots,
            lost: Vec::new(),
            listings: 0,
            row: Stood::Nowhere,
            markers: false,
        }
    }

    /// Writes a record into the log; its number.
    pub fn write(&mut self, record: Wal) -> usize {
        self.wal.push(record);
        self.wal.len()
    }

    /// The log is on disk as far as `through`, and what stands there has happened.
    pub fn flush(&mut self, through: usize) {
        self.flushed = self.flushed.max(through);
    }

    /// Carries out a record that was flushed.
    pub fn carry_out(&mut self, number: usize) {
        if let Some(record) = number.checked_sub(1).and_then(|place| self.wal.get(place)) {
            self.state.apply(record);
        }
    }

    /// The next transaction id. It is not durable before something is flushed.
    pub fn draw_xid(&mut self) -> u64 {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.write(Wal::Wrote(xid));
        xid
    }

    /// Notes `kept` beside what stands there, of which the newer counts; what stood there.
    pub fn keep(&mut self, kept: Kept) -> Stood {
        let stood = self.row;
        self.row = match stood {
            Stood::Nowhere => Stood::Nowhere,
            Stood::Nothing => Stood::Kept(kept),
            Stood::Kept(before) => {
                let newer = kept.fence.epoch > before.fence.epoch;
                let fence = if newer { kept.fence } else { before.fence };
                let saw = |kept: &Kept| kept.witness.map(|seen| (seen.epoch, seen.position));
                let witness = if saw(&kept) > saw(&before) { kept.witness } else { before.witness };
                Stood::Kept(Kept { fence, witness })
            }
        };
        stood
    }

    /// Transactions of others, one after the other.
    pub fn others_commit(&mut self, transactions: u64) {
        for _ in 0..transactions {
            let xid = self.draw_xid();
            let number = self.write(Wal::Committed(xid, Vec::new()));
            self.flush(number);
            self.carry_out(number);
        }
    }

    /// The server stops at once; what was not flushed may be gone.
    pub fn crash(&mut self, random: &mut Random) {
        let kept = random.between(self.flushed as u64, self.wal.len() as u64 + 1);
        self.up = false;
        self.begin_again(usize::try_from(kept).unwrap_or(self.flushed));
    }

    /// A standby takes over that has not seen the last `behind` records.
    pub fn fail_over(&mut self, behind: usize) {
        let reached = self.flushed.saturating_sub(behind);
        for record in self.wal.get(reached..self.flushed).unwrap_or_default() {
            match record {
                Wal::Prepared(xid, prepared) => self.lost.push(Lost::Prepare(prepared.gid.clone(), *xid)),
                Wal::CommitPrepared(_, gid) | Wal::RollbackPrepared(_, gid) => {
                    self.lost.push(Lost::End(gid.clone()));
                }
                Wal::OnePhase(_, gid, _) => self.lost.push(Lost::OnePhase(gid.clone())),
                Wal::Wrote(_) | Wal::Committed(..) | Wal::Tombstone(_) => {}
            }
        }
        self.up = false;
        self.timeline += 1;
        self.begin_again(reached);
    }

    fn begin_again(&mut self, kept: usize) {
        self.life += 1;
        self.wal.truncate(kept);
        self.flushed = kept;
        self.state = State::default();
        for record in &self.wal {
            self.state.apply(record);
        }
        self.next_xid = self.state.highest.max(699) + 1;
        self.backends.clear();
        self.busy.clear();
        self.locks.clear();
        for (gid, (_, prepared)) in &self.state.prepared {
            for change in &prepared.changes {
                self.locks.insert(change.account, Holder::Prepared(gid.clone()));
            }
        }
    }

    /// Frees what `holder` has locked.
    pub fn unlock(&mut self, holder: &Holder) {
        self.locks.retain(|_, by| by != holder);
    }

    /// Gives the locks of a session to what it has prepared.
    pub fn hand_over_locks(&mut self, pid: i32, gid: &str) {
        for holder in self.locks.values_mut().filter(|holder| **holder == Holder::Session(pid)) {
            *holder = Holder::Prepared(gid.to_owned());
        }
    }

    /// Ends a session's transaction without a trace.
    pub fn abort(&mut self, pid: i32) {
        if let Some(open) = self.backends.get_mut(&pid).and_then(|backend| backend.open.take())
            && let Some(xid) = open.xid
        {
            self.state.ended.entry(xid).or_insert(Ended::Aborted);
        }
        self.unlock(&Holder::Session(pid));
    }

    /// What the server remembers of an id: `Some(None)` while it is under way, `None` when it has not given it
    /// out.
    pub fn status(&self, xid: u64) -> Option<Option<Ended>> {
        if xid >= self.next_xid {
            return None;
        }
        if let Some(ended) = self.state.ended.get(&xid) {
            return Some(Some(*ended));
        }
        let open = self
            .backends
            .values()
            .any(|backend| backend.open.as_ref().is_some_and(|open| open.xid == Some(xid)));
        let prepared = self.state.prepared.values().any(|(id, _)| *id == xid);
        if open || prepared { Some(None) } else { Some(Some(Ended::Aborted)) }
    }
}
