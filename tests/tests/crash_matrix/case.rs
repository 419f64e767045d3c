//! What is to happen in a case: who dies, where, and in which company.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use votum_tests::client;

/// Whoever can die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Coordinator,
    /// The agent of that bank.
    Agent(usize),
    /// The server of that bank: `immediate`, as in a power cut.
    Database(usize),
    /// The client, where it is a process of its own.
    Client,
}

/// What happens at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The process kills itself.
    Dies,
    /// At that moment it is killed, and these with it.
    Together(Vec<Who>),
    /// At that moment these are killed; it goes on.
    Meanwhile(Vec<Who>),
    /// What it writes from that sync on never reaches the disk: it goes on, dies before the next sync has
    /// returned, and finds this much of its log as it was.
    Frozen(Frozen),
}

/// Which part of the log's directory is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Frozen {
    Everything,
    /// The store's file had reached the disk all the same.
    Journal,
    /// The store's file had not, for longer than the journal: nobody syncs it between two changes of half.
    Store,
}

/// One life of a process: where it is struck, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fate {
    /// `NAME` or `NAME@N`.
    pub(crate) point: String,
    pub(crate) blow: Blow,
}

impl Fate {
    pub(crate) fn dies(point: impl Into<String>) -> Option<Self> {
        Some(Self { point: point.into(), blow: Blow::Dies })
    }

    pub(crate) fn with(point: impl Into<String>, blow: Blow) -> Option<Self> {
        Some(Self { point: point.into(), blow })
    }

    /// As `VOTUM_CRASH_POINT` takes it.
    pub(crate) fn choice(&self) -> String {
        let Self { point, blow } = self;
        match blow {
            Blow::Dies => point.clone(),
            Blow::Together(_) => format!("{point}=stop"),
            Blow::Meanwhile(_) => format!("{point}=pause"),
            Blow::Frozen(part) => {
                let time: u64 = point.split_once('@').and_then(|(_, time)| time.parse().ok()).unwrap_or(1);
                // A store may lag behind by several syncs of the journal.
                let later = if *part == Frozen::Store { time + 2 } else { time + 1 };
                format!("{point}=stop,batch-written@{later}")
            }
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.blow {
            Blow::Dies => write!(f, "{}", self.point),
            Blow::Together(others) => write!(f, "{} together with {others:?}", self.point),
            Blow::Meanwhile(others) => write!(f, "{} sees {others:?} die", self.point),
            Blow::Frozen(part) => write!(f, "{} frozen ({part:?})", self.point),
        }
    }
}

/// What clients do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// One transfer over all banks.
    Transfer,
    /// One after another, until every fate is met.
    Transfers,
    /// The same, each in one request.
    AtOnce,
    /// The same, and the last branch decides.
    LastAgent,
    /// The same; a statement and PREPARE take a tenth of a second at each bank.
    Slow,
    /// The same; the last bank refuses to prepare, once the others have.
    Refused,
    /// One transfer by a client that is a process of its own, and dies there.
    Client(Option<client::CrashPoint>),
    /// Transactions without an effect, until every fate is met: they fill the log.
    Fill,
    /// Two dozen clients, until every fate is met, or for some hundred transfers.
    Load,
}

/// The world that a case needs. Cases that need the same one share it, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) banks: usize,
    /// The journal's halves, and what history may take, are as small as they can be; the journal has changed
    /// halves before, and has been restarted.
    pub(crate) small_log: bool,
    /// Databases keep commit markers: what works at one bank alone is committed in one phase.
    pub(crate) markers: bool,
}

/// One case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Its row of the table.
    pub(crate) kind: &'static str,
    pub(crate) place: Place,
    pub(crate) work: Work,
    /// The lives of each process, in order; `None` where nothing happens in it.
    pub(crate) fates: BTreeMap<Who, VecDeque<Option<Fate>>>,
    /// Every fate must be met. Where points are drawn, one may exclude the other.
    pub(crate) must: bool,
}

impl Case {
    pub(crate) fn new(kind: &'static str, banks: usize, work: Work) -> Self {
        let place = Place { banks, small_log: false, markers: false };
        Self { kind, place, work, fates: BTreeMap::new(), must: true }
    }

    /// Adds a life.
    pub(crate) fn life(mut self, who: Who, fate: Option<Fate>) -> Self {
        self.fates.entry(who).or_default().push_back(fate);
        self
    }

    pub(crate) fn with_markers(mut self) -> Self {
        self.place.markers = true;
        self
    }

    pub(crate) fn small_log(mut self) -> Self {
        self.place.small_log = true;
        self
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { banks, small_log, markers } = self.place;
        let log = if small_log { ", small log" } else { "" };
        let kept = if markers { ", markers" } else { "" };
        write!(f, "{}, {banks} banks{log}{kept}, {:?}", self.kind, self.work)?;
        for (who, lives) in &self.fates {
            let lives = lives.iter().map(|fate| fate.as_ref().map_or("-".to_owned(), ToString::to_string));
            write!(f, "; {who:?}: {}", Vec::from_iter(lives).join(" then "))?;
        }
        Ok(())
    }
}
