//! The order of commits.
//!
//! A branch keeps its row locks until COMMIT PREPARED, which comes after the decision. So whoever changes
//! what t1 changed, or sees what t1 wrote, does so after t1's decision and before its own: in every database
//! these two relations follow the one order of decisions. Taken together over all databases they have no circle.
//! (A read that saw too little says nothing about decisions: a database may show a commit later than
//! another one does. Across databases there is no snapshot.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Violations;
use super::facts::Facts;
use super::graph::{Edge, Graph};
use super::objects::{Object, Observation, writers};
use crate::history::record::{Isolation, Question, Tick, Told};

/// Why one comes before another.
#[derive(Debug, Clone)]
struct Reason<'a> {
    participant: &'a str,
    object: Object,
    how: How,
}

#[derive(Debug, Clone, Copy)]
enum How {
    /// The second changed it after the first.
    Changed,
    /// The second saw what the first wrote.
    Saw,
    /// The first did not see what the second wrote.
    Missed,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::Changed => "the second changed it after the first",
            How::Saw => "the second saw the first's change",
            How::Missed => "the first did not see the second's change",
        };
        write!(f, "{} at {}, {how}", self.object, self.participant)
    }
}

/// The final orders of one database.
struct Orders<'a> {
    participant: &'a str,
    writers: BTreeMap<Object, Vec<u64>>,
}

impl Orders<'_> {
    /// The last change by others that an observation saw, and the first that it missed.
    fn around(&self, seen: &Observation<'_>) -> (Option<u64>, Option<u64>) {
        let last = seen.seen.checked_sub(1).and_then(|place| self.others(seen).nth(place));
        (last, self.others(seen).nth(seen.seen))
    }

    /// Who else changed what was observed.
    fn others(&self, seen: &Observation<'_>) -> impl Iterator<Item = u64> {
        let (all, own) = (self.writers.get(&seen.object), seen.transaction);
        all.into_iter().flatten().copied().filter(move |writer| *writer != own)
    }
}

pub(super) fn judge(facts: &Facts<'_>, observations: &[Observation<'_>], violations: &mut Violations) {
    let mut everywhere = Graph::default();
    for (participant, database) in &facts.history.end.databases {
        let orders = Orders { participant, writers: writers(database) };
        let here: Vec<&Observation<'_>> =
            observations.iter().filter(|seen| seen.participant == participant).collect();
        let local = decisions(facts, &orders, &here, &mut everywhere);
        snapshots(facts, &orders, &here, &local, violations);
        serializable(facts, &orders, &here, violations);
        real_time(facts, &orders, &here, violations);
    }
    if let Some(circle) = everywhere.circle() {
        let numbers = circle.iter().map(|(from, _, _)| *from);
        let found = format!("these commits come before each other: {}", told(facts, &circle));
        violations.add("order", numbers, found);
    }
}

/// Who changed after whom and who saw whom in one database; the same is added to `everywhere`.
fn decisions<'a>(
    facts: &Facts<'_>,
    orders: &Orders<'a>,
    here: &[&Observation<'_>],
    everywhere: &mut Graph<Reason<'a>>,
) -> Graph<Reason<'a>> {
    let mut local = Graph::default();
    let mut add = |from, to, object, how| {
        let reason = Reason { participant: orders.participant, object, how };
        local.add(from, to, reason.clone());
        everywhere.add(from, to, reason);
    };
    for (object, writers) in &orders.writers {
        for (before, after) in writers.iter().zip(writers.iter().skip(1)) {
            add(*before, *after, *object, How::Changed);
        }
    }
    for seen in here.iter().filter(|seen| facts.is_committed(seen.transaction)) {
        if let (Some(last), _) = orders.around(seen) {
            add(last, seen.transaction, seen.object, How::Saw);
        }
    }
    local
}

/// A branch with a snapshot saw all of a past: whoever it missed comes before nobody whom it saw.
fn snapshots(
    facts: &Facts<'_>,
    orders: &Orders<'_>,
    here: &[&Observation<'_>],
    local: &Graph<Reason<'_>>,
    violations: &mut Violations,
) {
    let mut branches: BTreeMap<u64, (BTreeSet<u64>, BTreeSet<u64>)> = BTreeMap::new();
    for seen in here.iter().filter(|seen| seen.isolation != Isolation::ReadCommitted) {
        let (saw, missed) = branches.entry(seen.transaction).or_default();
        let (last, next) = orders.around(seen);
        saw.extend(last);
        missed.extend(next);
    }
    for (number, (saw, missed)) in branches {
        let Some((seen, path)) = local.path(&missed, &saw) else { continue };
        let first = path.first().map_or(seen, |(from, _, _)| *from);
        let found = format!(
            "the snapshot of {} at {} shows {} and not {}, which came before it: {}",
            facts.name(number),
            orders.participant,
            facts.name(seen),
            facts.name(first),
            told(facts, &path)
        );
        violations.add("isolation", [number, seen, first], found);
    }
}

/// Those that asked for it ran as if one after another.
fn serializable(
    facts: &Facts<'_>,
    orders: &Orders<'_>,
    here: &[&Observation<'_>],
    violations: &mut Violations,
) {
    let takes_part = |number: &u64| {
        let one = facts.transactions.get(number);
        one.is_some_and(|one| one.isolation == Isolation::Serializable) && facts.is_finished(*number)
    };
    let mut graph = Graph::default();
    let mut add = |from: u64, to: u64, object, how| {
        if takes_part(&from) && takes_part(&to) {
            graph.add(from, to, Reason { participant: orders.participant, object, how });
        }
    };
    for (object, writers) in &orders.writers {
        for (before, after) in writers.iter().zip(writers.iter().skip(1)) {
            add(*before, *after, *object, How::Changed);
        }
    }
    for seen in here.iter().filter(|seen| !seen.undone) {
        let (last, next) = orders.around(seen);
        if let Some(last) = last {
            add(last, seen.transaction, seen.object, How::Saw);
        }
        if let Some(next) = next {
            add(seen.transaction, next, seen.object, How::Missed);
        }
    }
    if let Some(circle) = graph.circle() {
        let numbers = circle.iter().map(|(from, _, _)| *from);
        let found = format!("serializable transactions in a circle: {}", told(facts, &circle));
        violations.add("isolation", numbers, found);
    }
}

/// What is complete is seen by all that begins later; and nothing is seen before its commit was asked for.
fn real_time(facts: &Facts<'_>, orders: &Orders<'_>, here: &[&Observation<'_>], violations: &mut Violations) {
    let complete: BTreeMap<u64, Tick> =
        facts.committed().filter_map(|number| Some((number, completed(facts, number)?))).collect();
    for seen in here {
        let (last, _) = orders.around(seen);
        let looked = match seen.isolation {
            Isolation::ReadCommitted => seen.begun,
            Isolation::RepeatableRead | Isolation::Serializable => seen.branch_begun,
        };
        let reader = facts.name(seen.transaction);
        let what = format!("{} at {}, statement #{}", seen.object, orders.participant, seen.statement);
        let mut missed = orders.others(seen).skip(seen.seen);
        if let Some(next) = missed.find(|missed| complete.get(missed).is_some_and(|told| *told < looked)) {
            let writer = facts.name(next);
            let found = format!("{reader} did not see {writer}, whose client had been told before: {what}");
            violations.add("isolation", [seen.transaction, next], found);
        }
        if let Some(last) = last.filter(|last| asked(facts, *last).is_none_or(|asked| asked > seen.ended)) {
            let writer = facts.name(last);
            let found = format!("{reader} saw {writer} before anybody asked for its commit: {what}");
            violations.add("I2", [seen.transaction, last], found);
        }
    }
}

/// When a client was first told that a commit is complete everywhere.
fn completed(facts: &Facts<'_>, number: u64) -> Option<Tick> {
    let asked = facts.transactions.get(&number)?.asked.iter();
    asked.filter(|asked| asked.told == Told::Committed { completed: true }).map(|asked| asked.ended).min()
}

/// When its commit was first asked for.
fn asked(facts: &Facts<'_>, number: u64) -> Option<Tick> {
    let asked = facts.transactions.get(&number)?.asked.iter();
    asked.filter(|asked| asked.question == Question::Commit).map(|asked| asked.begun).min()
}

fn told(facts: &Facts<'_>, path: &[Edge<'_, Reason<'_>>]) -> String {
    let edge = |(from, to, reason): &Edge<'_, Reason<'_>>| {
        format!("{} before {} ({reason})", facts.name(*from), facts.name(*to))
    };
    path.iter().map(edge).collect::<Vec<_>>().join("; ")
}
