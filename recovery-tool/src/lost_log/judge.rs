//! From evidence to a verdict: a pure function, which asks nobody.
//!
//! What is known of a transaction without its log, from the strongest on. Only two things prove a decision: a
//! branch that committed (its marker is part of its own transaction), and a branch that never can (a tombstone
//! is written only once nothing can be committed any more). Everything else is for a person, and nothing is
//! guessed: what is absent proves nothing but what [`Why`] says.

use std::collections::{BTreeMap, BTreeSet};

use votum_participant::postgres::lost_log::Action;
use votum_proto::names::BranchNumber;

use super::evidence::{Evidence, Mark, View};

/// What may be done about a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The decision is proven.
    Must(Action),
    /// A person must choose.
    Person,
    /// Nothing is concluded, and nobody may choose, before a database was read or given up.
    Unread,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// A branch committed.
    Committed(Mark),
    /// A branch can never commit.
    NeverCommits(Mark),
    /// What was found cannot all be true of one transaction.
    Contradiction(Contradiction),
    /// A missing branch may be in a database that was not read.
    Unread {
        /// The participants that could not be read.
        participants: Vec<String>,
        /// What is missing; empty where nobody knows how many branches there are.
        missing: Vec<BranchNumber>,
    },
    /// A branch is prepared in a database that no configuration names.
    Elsewhere(Vec<String>),
    /// There are more branches than databases that were read: the configuration of one was not given.
    TooFewDatabases { branches: BranchNumber, databases: usize, missing: Vec<BranchNumber> },
    /// Nobody knows how many branches there are.
    CountUnknown,
    /// Every branch is prepared.
    AllPrepared,
    /// Branches are missing, and no database has a marker of them; every one has a place for markers.
    MissingUnmarked(Vec<BranchNumber>),
    /// Branches are missing, and some databases could not have told of them.
    MissingUnknown {
        missing: Vec<BranchNumber>,
        /// Participants without markers, or given up.
        silent: Vec<String>,
    },
}

/// What cannot all be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contradiction {
    /// The branches' names say different numbers of branches.
    Counts(Vec<BranchNumber>),
    /// One branch is prepared at two participants.
    Twice(BranchNumber),
    /// A branch committed, and another can never commit.
    BothMarks(Mark, Mark),
    /// A branch has a marker, and is prepared.
    MarkedAndPrepared(Mark),
    /// A marker of a branch that the transaction does not have.
    Beyond(Mark),
}

/// The verdict on one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) why: Why,
}

/// Judges one transaction by what was found of it in the databases that could be read.
pub(crate) fn judge(evidence: &Evidence, view: &View) -> Judgement {
    let why = contradiction(evidence)
        .map(Why::Contradiction)
        .or_else(|| mark(evidence, true).map(Why::Committed))
        .unwrap_or_else(|| without_commit(evidence, view));
    Judgement { verdict: verdict(&why), why }
}

fn verdict(why: &Why) -> Verdict {
    match why {
        Why::Committed(_) => Verdict::Must(Action::Commit),
        Why::NeverCommits(_) => Verdict::Must(Action::RollBack),
        Why::Unread { .. } | Why::Elsewhere(_) | Why::TooFewDatabases { .. } => Verdict::Unread,
        Why::Contradiction(_)
        | Why::CountUnknown
        | Why::AllPrepared
        | Why::MissingUnmarked(_)
        | Why::MissingUnknown { .. } => Verdict::Person,
    }
}

/// No branch is known to have committed.
fn without_commit(evidence: &Evidence, view: &View) -> Why {
    let branches = count(evidence);
    let missing = missing(evidence);
    let complete = branches > 0 && missing.is_empty();
    if !evidence.elsewhere.is_empty() {
        return Why::Elsewhere(evidence.elsewhere.iter().cloned().collect());
    }
    if !complete && !view.unread.is_empty() {
        return Why::Unread { participants: view.unread.clone(), missing };
    }
    // A transaction has one branch at each participant.
    let databases = view.read + view.given_up.len();
    if !complete && usize::from(branches) > databases {
        return Why::TooFewDatabases { branches, databases, missing };
    }
    if let Some(never) = mark(evidence, false) {
        return Why::NeverCommits(never);
    }
    if branches == 0 {
        return Why::CountUnknown;
    }
    if complete {
        return Why::AllPrepared;
    }
    let silent: Vec<String> = view.without_markers.iter().chain(&view.given_up).cloned().collect();
    if silent.is_empty() { Why::MissingUnmarked(missing) } else { Why::MissingUnknown { missing, silent } }
}

/// What in the evidence cannot all be true.
fn contradiction(evidence: &Evidence) -> Option<Contradiction> {
    let counts: BTreeSet<BranchNumber> = evidence.prepared.iter().map(|branch| branch.gid.branches).collect();
    if counts.len() > 1 {
        return Some(Contradiction::Counts(counts.into_iter().collect()));
    }
    let mut times: BTreeMap<BranchNumber, u32> = BTreeMap::new();
    for branch in &evidence.prepared {
        *times.entry(branch.gid.branch).or_default() += 1;
    }
    if let Some((branch, _)) = times.iter().find(|(_, times)| **times > 1) {
        return Some(Contradiction::Twice(*branch));
    }
    if let (Some(committed), Some(never)) = (mark(evidence, true), mark(evidence, false)) {
        return Some(Contradiction::BothMarks(committed, never));
    }
    let branches = count(evidence);
    if let Some(mark) = evidence.marks.iter().find(|mark| branches > 0 && mark.branch >= branches) {
        return Some(Contradiction::Beyond(mark.clone()));
    }
    let prepared = |mark: &&Mark| times.contains_key(&mark.branch);
    evidence.marks.iter().find(prepared).cloned().map(Contradiction::MarkedAndPrepared)
}

/// The first marker of that kind.
fn mark(evidence: &Evidence, committed: bool) -> Option<Mark> {
    evidence.marks.iter().find(|mark| mark.committed == committed).cloned()
}

/// How many branches there are; 0: nobody knows.
pub(crate) fn count(evidence: &Evidence) -> BranchNumber {
    evidence.prepared.first().map_or(0, |branch| branch.gid.branches)
}

/// The branches that are neither prepared nor marked; empty where nobody knows how many there are.
pub(crate) fn missing(evidence: &Evidence) -> Vec<BranchNumber> {
    let prepared = evidence.prepared.iter().map(|branch| branch.gid.branch);
    let known: BTreeSet<BranchNumber> =
        prepared.chain(evidence.marks.iter().map(|mark| mark.branch)).collect();
    (0..count(evidence)).filter(|branch| !known.contains(branch)).collect()
}
