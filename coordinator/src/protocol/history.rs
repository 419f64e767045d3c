//! What a log holds of one transaction, folded.

use super::record::{Decided, Heuristic, HeuristicKind, Record, Resolved};

/// What a log holds of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionHistory {
    /// The decision, commit or abort.
    pub decided: Option<Decided>,
    /// A decision handed to its one branch.
    pub delegated: Option<Decided>,
    /// Whether every branch acknowledged.
    pub ended: bool,
    /// Departures from the decision.
    pub heuristics: Vec<Heuristic>,
    /// What people settled.
    pub resolved: Vec<Resolved>,
    /// Every record, with its position and the running time at which it was written (ms).
    pub records: Vec<(u64, u64, Record)>,
}

impl TransactionHistory {
    /// Folds one record of this transaction. The first decision stands.
    pub fn add(&mut self, position: u64, running_ms: u64, record: Record) {
        match &record {
            Record::Decided(decided) => {
                self.decided.get_or_insert_with(|| decided.clone());
            }
            Record::Delegated(decided) => {
                self.delegated.get_or_insert_with(|| decided.clone());
            }
            Record::Ended { .. } => self.ended = true,
            Record::Heuristic(heuristic) => self.heuristics.push(heuristic.clone()),
            Record::Resolved(resolved) => self.resolved.push(resolved.clone()),
            Record::Identity(_)
            | Record::Epoch(_)
            | Record::Lease { .. }
            | Record::Begun(_)
            | Record::Carried(_)
            | Record::Acknowledged(_)
            | Record::WrittenOff(_)
            | Record::Compared(_) => {}
        }
        self.records.push((position, running_ms, record));
    }

    /// The departures that nobody has acknowledged: a branch that was mended, or that a person settled or
    /// acknowledged afterwards, is off the list.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &Heuristic> {
        self.records.iter().enumerate().filter_map(|(at, (_, _, record))| {
            let Record::Heuristic(heuristic) = record else { return None };
            let later = self.records.iter().skip(at + 1).any(|(_, _, later)| supersedes(later, heuristic));
            (heuristic.kind != HeuristicKind::Mended && !later).then_some(heuristic)
        })
    }
}

fn supersedes(later: &Record, heuristic: &Heuristic) -> bool {
    match later {
        Record::Heuristic(later) => later.gid == heuristic.gid,
        Record::Resolved(resolved) => resolved.gid == heuristic.gid,
        Record::Acknowledged(acknowledged) => acknowledged.gid == heuristic.gid,
        Record::Identity(_)
        | Record::Epoch(_)
        | Record::Lease { .. }
        | Record::Begun(_)
        | Record::Decided(_)
        | Record::Delegated(_)
        | Record::Ended { .. }
        | Record::Carried(_)
        | Record::WrittenOff(_)
        | Record::Compared(_) => false,
    }
}
