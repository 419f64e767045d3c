//! The decision log against the databases and the clients, and what is left open.

use std::collections::BTreeMap;

use super::Violations;
use super::facts::Facts;
use crate::history::record::{Logged, Recorded, Told};

pub(super) fn judge(facts: &Facts<'_>, violations: &mut Violations) {
    for left in &facts.history.end.left_behind {
        violations.add("I6", [], format!("left behind: {left}"));
    }
    let by_gtid: BTreeMap<&str, &Recorded> =
        facts.transactions.values().filter_map(|one| one.gtid.as_deref().map(|gtid| (gtid, *one))).collect();
    for (gtid, logged) in &facts.history.end.log {
        match by_gtid.get(gtid.as_str()) {
            Some(one) => known(facts, one, gtid, logged, violations),
            // A Begin whose answer was lost: nobody can have asked for its commit.
            None if logged.commit.is_some() => {
                let label = logged.label.as_deref().unwrap_or("without a label");
                let found = format!("{gtid} ({label}) is committed in the log, and no client knew it");
                violations.add("I2", [], found);
            }
            None => {}
        }
    }
    for number in facts.committed() {
        undecided(facts, number, violations);
    }
}

/// A transaction that a client knew: what the log says of it.
fn known(facts: &Facts<'_>, one: &Recorded, gtid: &str, logged: &Logged, violations: &mut Violations) {
    let mut add = |promise, found| violations.add(promise, [one.number], found);
    let name = facts.name(one.number);
    let Some(at) = &logged.commit else {
        if logged.listed.as_deref().is_some_and(|state| unsettled(state) || state == "committed") {
            add("I6", format!("{name} is not committed in the log, and listed as {:?}", logged.listed));
        }
        return;
    };
    if logged.abort {
        add("I1", format!("{name}: the log holds a commit and an abort of {gtid}"));
    }
    if !logged.ended {
        add("I6", format!("{name} is committed, and the log does not say that it has ended"));
    }
    if logged.listed.as_deref().is_some_and(|state| state != "committed") {
        add("I6", format!("{name} is committed in the log, and listed as {:?}", logged.listed));
    }
    for participant in one.expected().into_keys().filter(|participant| !at.contains(*participant)) {
        let found = format!("{name} wrote at {participant}, and its decision in the log does not name that");
        add("I1", found);
    }
}

fn unsettled(state: &str) -> bool {
    ["active", "preparing", "deciding", "committing", "aborting", "delegating", "one-phase"].contains(&state)
}

/// What happened, or was said to have, without a decision on disk (I3).
fn undecided(facts: &Facts<'_>, number: u64, violations: &mut Violations) {
    let Some(one) = facts.transactions.get(&number) else { return };
    let logged = one.gtid.as_ref().and_then(|gtid| facts.history.end.log.get(gtid));
    if logged.is_some_and(|logged| logged.commit.is_some()) {
        return;
    }
    let told = if one.told(|told| matches!(told, Told::Committed { .. })) {
        "was told committed"
    } else {
        "happened"
    };
    let found = format!("{} {told}, and the log holds no commit of it", facts.name(number));
    violations.add("I3", [number], found);
}
