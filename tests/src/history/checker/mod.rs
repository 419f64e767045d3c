//! The judgement over a recorded run. Pure: the same history gives the same verdict.
//!
//! What is checked, and why it must hold:
//! - **Fates** (`fates`): told committed: every statement that ran is there, once; told aborted: none is; not
//!   told: all or none. What was told is never contradicted, and known at the end.
//! - **Objects** (`objects`): every answer is explained by the final order of each list and account: nobody saw
//!   what was not committed, and nobody's change was lost.
//! - **Order** (`order`): who changed after whom, and who saw whom, never goes in a circle, over all
//!   databases together; snapshots are snapshots; what is complete is seen by all that begins later.
//! - **Log** (`log`): the decision log and the databases tell the same story, and nothing is left open.
//!
//! A history tells nothing of what was neither answered nor left in a database: a checker cannot see that a
//! lock was held for too short a time if nobody came by meanwhile.

mod facts;
mod fates;
mod graph;
mod log;
mod objects;
mod order;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use super::record::History;

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant, `I1` to `I15`; or `order`, or `isolation`.
    pub promise: &'static str,
    /// The transactions concerned.
    pub transactions: BTreeSet<u64>,
    /// What was found; it names them.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.found)
    }
}

/// Every promise that the run broke.
pub fn check(history: &History) -> Vec<Violation> {
    let facts = facts::Facts::of(history);
    let mut violations = Violations::default();
    fates::judge(&facts, &mut violations);
    log::judge(&facts, &mut violations);
    objects::judge_holdings(&facts, &mut violations);
    let observations = objects::observations(&facts, &mut violations);
    order::judge(&facts, &observations, &mut violations);
    violations.found
}

/// What was found so far.
#[derive(Debug, Default)]
struct Violations {
    found: Vec<Violation>,
}

impl Violations {
    fn add(&mut self, promise: &'static str, transactions: impl IntoIterator<Item = u64>, found: String) {
        self.found.push(Violation { promise, transactions: transactions.into_iter().collect(), found });
    }
}
