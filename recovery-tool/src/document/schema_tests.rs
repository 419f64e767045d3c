//! The documents, held against `docs/votumctl-json.md`: what is emitted is documented, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use votum_coordinator::log::salvage::Trust;
use votum_proto::v1;

use super::{
    Acknowledgement, DumpedRecord, InDoubt, List, ProblemLine, Resolution, SalvagedRecord, Shown, Status,
    UnprovenAcknowledgement, Verified, WriteOff, fixed,
};
use crate::failure::Failure;
use crate::render::{Screen, Style};

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/votumctl-json.md"));

/// Every key in a document, as the page writes it: `a`, `a.b`, `a[].b`.
fn keys_of(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                keys.insert(key.clone());
                keys_of(member, &key, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys_of(item, &format!("{path}[]"), keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn keys<T: Serialize>(documents: &[T]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for document in documents {
        keys_of(&serde_json::to_value(document).unwrap(), "", &mut keys);
    }
    keys
}

/// The keys in the table after each `<!-- document: NAME -->`.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let mut documents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in PAGE.lines() {
        if let Some(name) = line.strip_prefix("<!-- document: ").and_then(|rest| rest.strip_suffix(" -->")) {
            name.clone_into(&mut current);
        } else if line.is_empty() {
            current.clear();
        } else if !current.is_empty() && line.starts_with("| `") {
            let cell = line.split('|').nth(1).unwrap();
            let keys = cell.split(',').map(|key| key.trim().trim_matches('`').to_owned());
            documents.entry(current.clone()).or_default().extend(keys);
        }
    }
    documents
}

fn failure() -> Value {
    let mut out = Vec::new();
    let failure = Failure::broken("VOTUM-1107", "damaged");
    Screen::new(&mut out, Style::plain(false), true).failure(&failure).unwrap();
    serde_json::from_slice(&out).unwrap()
}

/// The keys of `foreign` are said to be those of `branches`.
fn in_doubt() -> BTreeSet<String> {
    let all = keys(&[InDoubt::from(fixed::everything())]);
    let (foreign, ours): (BTreeSet<String>, BTreeSet<String>) =
        all.into_iter().partition(|key| key.starts_with("foreign[]"));
    for key in foreign {
        assert!(ours.contains(&key.replace("foreign", "branches")), "{key}");
    }
    ours
}

#[test]
fn every_key_that_is_emitted_is_documented_and_no_other() {
    let list = v1::ListTransactionsResponse { transactions: vec![fixed::summary("active")] };
    let verified = Verified::new(Path::new("/log"), fixed::report());
    let problems = verified.problems.iter().cloned().map(|problem| ProblemLine { problem });
    let answer = v1::ResolveResponse { statements: vec!["bank-a: …".into()], ..Default::default() };
    let resolution = Resolution::new("gid".into(), "bank-a".into(), true, answer);
    let departures = vec![v1::HeuristicBranch::default()];
    let answer = v1::AcknowledgeResponse { departures, applied: true };
    let acknowledgement = Acknowledgement::new("gtid".into(), answer);
    let answer = v1::AcknowledgeUnprovenResponse { timeline: 2, commits: 12, applied: true };
    let unproven = UnprovenAcknowledgement::new("bank-b".into(), answer);
    let emitted: BTreeMap<String, BTreeSet<String>> = [
        ("error", keys(&[failure()])),
        ("status", keys(&[Status::new(fixed::ailing(), 60_000)])),
        ("list", keys(&[List::from(list)])),
        ("show", keys(&[Shown::from(fixed::committing()), Shown::from(fixed::departed())])),
        ("in-doubt", in_doubt()),
        ("resolve", keys(&[resolution])),
        ("acknowledge", keys(&[acknowledgement])),
        ("acknowledge-timeline", keys(&[unproven])),
        ("lost-log", keys(&[fixed::lost(false), fixed::lost(true)])),
        ("write-off", keys(&[WriteOff::from(fixed::lacking(true))])),
        ("problem", keys(&problems.collect::<Vec<_>>())),
        ("verify", keys(&[verified])),
        ("dump", keys(&[DumpedRecord::from(fixed::dumped())])),
        ("salvage", keys(&[SalvagedRecord::from(fixed::salvaged(Trust::Doubtful))])),
        ("doctor", keys(&[fixed::ailing_databases()])),
        ("explain", keys(&[crate::explain::page("VOTUM-1402").unwrap()])),
    ]
    .into_iter()
    .map(|(name, keys)| (name.to_owned(), keys))
    .collect();
    let documented = documented();
    for (name, keys) in &emitted {
        assert_eq!(documented.get(name), Some(keys), "document {name}");
    }
    assert_eq!(emitted.len(), documented.len(), "the page describes a document that nothing emits");
}
