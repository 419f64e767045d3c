//! The judgement after each test: what stands in the databases, against what clients were told.
//!
//! [`judge`] is a pure function over collected [`Facts`], so that it can be shown to reject what it must.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ledger::{Told, Transfer};

/// Everything that the judgement rests on, read when all is up and settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What each bank holds.
    pub banks: BTreeMap<String, BankFacts>,
    /// What the clients saw, by transfer.
    pub transfers: BTreeMap<String, Transfer>,
    /// The money in all banks when the test began.
    pub money_at_first: i64,
}

/// What one bank holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BankFacts {
    /// Journal rows of each transfer.
    pub journal: BTreeMap<String, i64>,
    /// The sum over its accounts.
    pub money: i64,
    /// Prepared transactions and open sessions of ours that were still there at the deadline, described.
    pub left_behind: Vec<String>,
    /// Prepared transactions that the test planted, and that are not ours: gid and transaction id.
    pub foreign_planted: BTreeSet<(String, String)>,
    /// Those of them that are still there, unchanged.
    pub foreign_kept: BTreeSet<(String, String)>,
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant: I1, I4, …
    pub invariant: &'static str,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.found)
    }
}

/// Every promise that these facts break.
pub fn judge(facts: &Facts) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, transfer) in &facts.transfers {
        judge_transfer(facts, name, transfer, &mut violations);
    }
    for (bank, held) in &facts.banks {
        judge_bank(facts, bank, held, &mut violations);
    }
    let money: i64 = facts.banks.values().map(|bank| bank.money).sum();
    if money != facts.money_at_first {
        let found = format!("the banks hold {money} in all, and held {} at first", facts.money_at_first);
        violations.push(Violation { invariant: "I1", found });
    }
    violations
}

fn judge_transfer(facts: &Facts, name: &str, transfer: &Transfer, violations: &mut Vec<Violation>) {
    let mut broken = |invariant, what: String| {
        violations.push(Violation { invariant, found: format!("transfer {name} ({transfer}) {what}") });
    };
    let rows = |bank: &String| facts.banks.get(bank).and_then(|held| held.journal.get(name)).copied();
    let (present, absent): (BTreeSet<_>, BTreeSet<_>) =
        transfer.banks.iter().partition(|bank| rows(bank).is_some());

    for bank in &transfer.banks {
        if let Some(times @ 2..) = rows(bank) {
            broken("I15", format!("was carried out {times} times at {bank}"));
        }
    }
    for (bank, held) in &facts.banks {
        if held.journal.contains_key(name) && !transfer.banks.contains(bank) {
            broken("I15", format!("stands at {bank}, where it was never sent"));
        }
    }
    if !present.is_empty() && !absent.is_empty() {
        broken("I1", format!("stands at {present:?} and not at {absent:?}"));
    }
    let mut firm: Vec<Told> = transfer.told.iter().copied().filter(|told| *told != Told::Unknown).collect();
    firm.dedup();
    // A read-only transaction may later read as aborted: neither left anything anywhere.
    if firm.len() > 1 && firm != [Told::ReadOnly, Told::Aborted] {
        broken("I5", "was told two different outcomes".into());
    }
    for told in firm {
        match told {
            Told::Committed if !absent.is_empty() => {
                broken("I13", format!("was told committed, and is missing at {absent:?}"));
            }
            Told::Aborted if !present.is_empty() => {
                broken("I4", format!("was told aborted, and stands at {present:?}"));
            }
            Told::ReadOnly if !present.is_empty() => {
                broken("I5", format!("was told read-only, and stands at {present:?}"));
            }
            Told::Committed | Told::Aborted | Told::ReadOnly | Told::Unknown => {}
        }
    }
}

fn judge_bank(facts: &Facts, bank: &str, held: &BankFacts, violations: &mut Vec<Violation>) {
    for transfer in held.journal.keys().filter(|transfer| !facts.transfers.contains_key(*transfer)) {
        let found = format!("{bank} holds transfer {transfer}, which no client asked for");
        violations.push(Violation { invariant: "I15", found });
    }
    for left in &held.left_behind {
        violations.push(Violation { invariant: "I6", found: format!("left behind at {bank}: {left}") });
    }
    for (gid, xid) in held.foreign_planted.difference(&held.foreign_kept) {
        let found = format!("foreign prepared transaction {gid} (xid {xid}) at {bank} was touched");
        violations.push(Violation { invariant: "I8", found });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two banks and one transfer of 10 between them, told `told`, with so many rows at each bank.
    fn facts(told: &[Told], rows: [i64; 2]) -> Facts {
        let bank = |rows: i64, money| BankFacts {
            journal: (rows > 0).then(|| ("t".to_owned(), rows)).into_iter().collect(),
            money,
            ..BankFacts::default()
        };
        let [a, b] = rows;
        let transfer = Transfer {
            banks: ["bank-a".to_owned(), "bank-b".to_owned()].into(),
            gtid: Some("acme-1-3f9ac2-1".into()),
            told: told.to_vec(),
        };
        Facts {
            banks: [
                ("bank-a".to_owned(), bank(a, 100 - 10 * a)),
                ("bank-b".to_owned(), bank(b, 100 + 10 * b)),
            ]
            .into(),
            transfers: [("t".to_owned(), transfer)].into(),
            money_at_first: 200,
        }
    }

    fn broken(facts: &Facts) -> Vec<&'static str> {
        judge(facts).iter().map(|violation| violation.invariant).collect()
    }

    #[test]
    fn what_was_promised_and_kept_is_accepted() {
        use Told::{Aborted, Committed, ReadOnly, Unknown};
        for (told, rows) in [
            (&[Committed][..], [1, 1]),
            (&[Unknown, Committed], [1, 1]),
            (&[Unknown], [1, 1]),
            (&[Unknown], [0, 0]),
            (&[], [1, 1]),
            (&[], [0, 0]),
            (&[Aborted, Aborted], [0, 0]),
            (&[ReadOnly, Aborted], [0, 0]),
        ] {
            assert_eq!(judge(&facts(told, rows)), [], "{told:?} {rows:?}");
        }
    }

    #[test]
    fn half_a_transfer_is_rejected() {
        assert_eq!(broken(&facts(&[Told::Unknown], [1, 0])), ["I1", "I1"], "agreement, and the money");
    }

    #[test]
    fn a_commit_that_was_told_and_is_not_there_is_rejected() {
        assert_eq!(broken(&facts(&[Told::Committed], [0, 0])), ["I13"]);
    }

    #[test]
    fn an_abort_that_was_told_and_did_happen_is_rejected() {
        assert_eq!(broken(&facts(&[Told::Aborted], [1, 1])), ["I4"]);
        assert_eq!(broken(&facts(&[Told::ReadOnly], [1, 1])), ["I5"]);
    }

    #[test]
    fn two_answers_to_one_question_are_rejected() {
        assert_eq!(broken(&facts(&[Told::Aborted, Told::Committed], [1, 1])), ["I5", "I4"]);
        assert_eq!(broken(&facts(&[Told::Committed, Told::Unknown, Told::Aborted], [1, 1])), ["I5", "I4"]);
    }

    #[test]
    fn a_transfer_that_happened_twice_is_rejected_although_the_money_adds_up() {
        assert_eq!(broken(&facts(&[Told::Committed], [2, 2])), ["I15", "I15"]);
    }

    #[test]
    fn a_transfer_where_or_when_nobody_asked_for_it_is_rejected() {
        let mut unasked = facts(&[Told::Committed], [1, 1]);
        unasked.transfers.clear();
        assert_eq!(broken(&unasked), ["I15", "I15"]);
        let mut elsewhere = facts(&[Told::Committed], [1, 1]);
        elsewhere.transfers.get_mut("t").unwrap().banks.remove("bank-b");
        assert_eq!(broken(&elsewhere), ["I15"]);
    }

    #[test]
    fn what_is_left_behind_and_what_is_not_ours_are_watched() {
        let mut left = facts(&[Told::Committed], [1, 1]);
        left.banks.get_mut("bank-a").unwrap().left_behind.push("votum_acme_1_3f9ac2_1_0_2".into());
        assert_eq!(broken(&left), ["I6"]);
        let mut touched = facts(&[Told::Committed], [1, 1]);
        let bank = touched.banks.get_mut("bank-b").unwrap();
        bank.foreign_planted.insert(("other_tool".into(), "731".into()));
        assert_eq!(broken(&touched), ["I8"]);
        let bank = touched.banks.get_mut("bank-b").unwrap();
        bank.foreign_kept.insert(("other_tool".into(), "732".into()));
        assert_eq!(broken(&touched), ["I8"], "the same name prepared again is not the same transaction");
    }
}
