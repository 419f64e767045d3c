//! What became of each transaction, against what its client was told.

use std::collections::BTreeMap;

use super::Violations;
use super::facts::Facts;
use crate::history::record::{Answer, Asked, Question, Recorded, Told};

pub(super) fn judge(facts: &Facts<'_>, violations: &mut Violations) {
    for one in facts.transactions.values() {
        atomic(facts, one, violations);
        exact(facts, one, violations);
        permitted(facts, one, violations);
        truthful(facts, one, violations);
    }
    for number in facts.holders().filter(|number| !facts.transactions.contains_key(number)) {
        violations.add("I15", [number], format!("t{number} left effects, and no client ever sent it"));
    }
    once_per_key(facts, violations);
}

/// All of it or nothing (I1), everywhere if committed was told (I13), nowhere if aborted was (I4).
fn atomic(facts: &Facts<'_>, one: &Recorded, violations: &mut Violations) {
    let held = facts.held(one.number);
    let expected = one.expected();
    let there = |participant: &str, statement: &u32| {
        held.get(participant).is_some_and(|statements| statements.contains_key(statement))
    };
    let (mut present, mut missing) = (Vec::new(), Vec::new());
    for (participant, statements) in &expected {
        for statement in statements {
            let side = if there(participant, statement) { &mut present } else { &mut missing };
            side.push(format!("#{statement} at {participant}"));
        }
    }
    let name = facts.name(one.number);
    let mut add = |promise, found| violations.add(promise, [one.number], found);
    let committed = facts.is_committed(one.number);
    if committed && !present.is_empty() && !missing.is_empty() {
        let (present, missing) = (present.join(", "), missing.join(", "));
        add("I1", format!("{name} happened in part: {present} stands, {missing} does not; {}", said(one)));
    } else if committed && !missing.is_empty() {
        add("I13", format!("{name} is lost: nothing of {} stands; {}", missing.join(", "), said(one)));
    }
    if one.told(|told| matches!(told, Told::Aborted(_))) && !held.is_empty() {
        let at = Vec::from_iter(held.keys().copied()).join(", ");
        add("I4", format!("{name} was told aborted, and left effects at {at}; {}", said(one)));
    }
    if one.told(|told| *told == Told::ReadOnly) && !(held.is_empty() && expected.is_empty()) {
        add("I5", format!("{name} was told read-only, and it wrote; {}", said(one)));
    }
}

/// Exactly the statements that its client knows to have run, each once (I15).
fn exact(facts: &Facts<'_>, one: &Recorded, violations: &mut Violations) {
    let name = facts.name(one.number);
    for (participant, statements) in facts.held(one.number) {
        for (number, times) in statements {
            let sent = one.statements.iter().find(|s| s.number == number && s.participant == participant);
            let wrong = match sent {
                None => Some("was never sent there".to_owned()),
                Some(sent) if sent.undone => Some("was undone by a return to its savepoint".to_owned()),
                Some(sent) if !sent.ran() => Some(format!("was answered by {:?}", sent.answer)),
                Some(_) if times > 1 => Some(format!("was sent once, and ran {times} times")),
                Some(_) => None,
            };
            if let Some(wrong) = wrong {
                let found = format!("{name}: statement #{number} stands at {participant}, and {wrong}");
                violations.add("I15", [one.number], found);
            }
        }
    }
}

/// Only what was asked to commit commits (I2), and not with a statement of which nobody knows, or which its
/// database refused (I15).
fn permitted(facts: &Facts<'_>, one: &Recorded, violations: &mut Violations) {
    if !facts.is_committed(one.number) {
        return;
    }
    let name = facts.name(one.number);
    if !one.commit_asked() {
        violations.add("I2", [one.number], format!("{name} happened, and nobody ever asked for its commit"));
    }
    for statement in one.statements.iter().filter(|statement| !statement.undone) {
        let (number, participant) = (statement.number, &statement.participant);
        let found = match &statement.answer {
            Answer::Refused(sqlstate) => format!("was refused by its database ({sqlstate})"),
            Answer::Nothing(why) => format!("was never answered ({why})"),
            Answer::Done | Answer::List(_) | Answer::Account { .. } | Answer::TurnedAway(_) => continue,
        };
        let found = format!("{name} happened, although its statement #{number} at {participant} {found}");
        violations.add("I15", [one.number], found);
    }
}

/// No answer contradicts another (I5); none is forgotten (I7); at the end all is known (I6).
fn truthful(facts: &Facts<'_>, one: &Recorded, violations: &mut Violations) {
    let name = facts.name(one.number);
    let mut add = |promise, found| violations.add(promise, [one.number], found);
    let mut firm = one.asked.iter().filter(|asked| kind(&asked.told).is_some()).peekable();
    if let Some(first) = firm.peek().copied()
        && let Some(other) = firm.find(|other| contradict(first, other))
    {
        add("I5", format!("{name} was told {:?}, and then {:?}", first.told, other.told));
    }
    for asked in &one.asked {
        match &asked.told {
            Told::Heuristic(what) => {
                add("I1", format!("{name} departed from its decision, it was said: {what}"));
            }
            Told::Forgotten(what) => add("I7", format!("{name} was forgotten: {what}")),
            Told::Unknown | Told::Nothing | Told::Committed { completed: false }
                if asked.question == Question::FindAtTheEnd =>
            {
                add("I6", format!("{name} is not settled, although all is up: {:?}", asked.told));
            }
            Told::Committed { .. } | Told::ReadOnly | Told::Aborted(_) | Told::Unknown | Told::Nothing => {}
        }
    }
}

/// The kind of an answer that is an outcome.
fn kind(told: &Told) -> Option<&'static str> {
    match told {
        Told::Committed { .. } => Some("committed"),
        Told::ReadOnly => Some("read-only"),
        Told::Aborted(_) => Some("aborted"),
        Told::Heuristic(_) | Told::Unknown | Told::Forgotten(_) | Told::Nothing => None,
    }
}

fn contradict(first: &Asked, other: &Asked) -> bool {
    let [first_kind, other_kind] = [first, other].map(|asked| kind(&asked.told));
    // What only read may later read as aborted: it had no effect either way. The order of two answers is known
    // where one question was asked after the other's answer.
    let read_then_aborted = match (first_kind, other_kind) {
        (Some("read-only"), Some("aborted")) => first.begun <= other.ended,
        (Some("aborted"), Some("read-only")) => other.begun <= first.ended,
        _ => false,
    };
    first_kind != other_kind && !read_then_aborted
}

/// Work under one idempotency key happens at most once (I15).
fn once_per_key(facts: &Facts<'_>, violations: &mut Violations) {
    let mut by_key: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for one in facts.transactions.values().filter(|one| facts.is_committed(one.number)) {
        if let Some(key) = &one.key {
            by_key.entry(key).or_default().push(one.number);
        }
    }
    for (key, numbers) in by_key.into_iter().filter(|(_, numbers)| numbers.len() > 1) {
        let names = Vec::from_iter(numbers.iter().map(|number| facts.name(*number))).join(" and ");
        violations.add("I15", numbers, format!("key {key} was used by one job, and {names} happened"));
    }
}

/// Everything that was said of a transaction.
fn said(one: &Recorded) -> String {
    if one.asked.is_empty() {
        return "nothing was said of it".to_owned();
    }
    let said = one.asked.iter().map(|asked| format!("{:?}: {:?}", asked.question, asked.told));
    format!("its client was told {}", Vec::from_iter(said).join(", "))
}
