//! A history, arranged for questions.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::record::{Effect, History, Recorded, Statement, Told};

/// A history, with ways into it.
pub(super) struct Facts<'a> {
    pub(super) history: &'a History,
    /// The transactions by their numbers.
    pub(super) transactions: BTreeMap<u64, &'a Recorded>,
    /// What each left in each database: how often each statement's effect is there.
    held: BTreeMap<u64, BTreeMap<&'a str, BTreeMap<u32, usize>>>,
    /// Those that happened, by any evidence: an effect, the log, or what a client was told.
    committed: BTreeSet<u64>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let transactions: BTreeMap<u64, &Recorded> =
            history.transactions.iter().map(|one| (one.number, one)).collect();
        let mut held: BTreeMap<u64, BTreeMap<&str, BTreeMap<u32, usize>>> = BTreeMap::new();
        for (participant, database) in &history.end.databases {
            let lists = database.lists.values().flatten();
            let moves = database.moves.iter().map(|moved| &moved.effect);
            let claims = database.claims.iter().map(|(_, effect)| effect);
            for Effect { transaction, statement } in lists.chain(moves).chain(claims) {
                let there = held.entry(*transaction).or_default().entry(participant).or_default();
                *there.entry(*statement).or_default() += 1;
            }
        }
        let mut committed: BTreeSet<u64> = held.keys().copied().collect();
        for one in transactions.values() {
            let logged = one.gtid.as_ref().and_then(|gtid| history.end.log.get(gtid));
            if one.told(|told| matches!(told, Told::Committed { .. }))
                || logged.is_some_and(|logged| logged.commit.is_some())
            {
                committed.insert(one.number);
            }
        }
        Self { history, transactions, held, committed }
    }

    /// Whether a transaction happened.
    pub(super) fn is_committed(&self, number: u64) -> bool {
        self.committed.contains(&number)
    }

    /// Whether it happened, or read to its end.
    pub(super) fn is_finished(&self, number: u64) -> bool {
        let read = |one: &&Recorded| one.told(|told| *told == Told::ReadOnly);
        self.is_committed(number) || self.transactions.get(&number).is_some_and(read)
    }

    /// Every transaction that happened.
    pub(super) fn committed(&self) -> impl Iterator<Item = u64> {
        self.committed.iter().copied()
    }

    /// What a transaction left: by participant, how often each statement's effect is there.
    pub(super) fn held(&self, number: u64) -> BTreeMap<&'a str, BTreeMap<u32, usize>> {
        self.held.get(&number).cloned().unwrap_or_default()
    }

    /// Every transaction that left anything.
    pub(super) fn holders(&self) -> impl Iterator<Item = u64> {
        self.held.keys().copied()
    }

    /// A statement by what it left.
    pub(super) fn statement(&self, participant: &str, effect: Effect) -> Option<&'a Statement> {
        self.transactions
            .get(&effect.transaction)?
            .statements
            .iter()
            .find(|statement| statement.number == effect.statement && statement.participant == participant)
    }

    /// A transaction, as messages name it.
    pub(super) fn name(&self, number: u64) -> String {
        let gtid = self.transactions.get(&number).and_then(|one| one.gtid.as_deref());
        gtid.map_or_else(|| format!("t{number}"), |gtid| format!("t{number} ({gtid})"))
    }
}

impl Recorded {
    /// Whether any answer is such.
    pub(super) fn told(&self, such: impl Fn(&Told) -> bool) -> bool {
        self.asked.iter().any(|asked| such(&asked.told))
    }

    /// What it must leave if it happens: by participant, the statements that wrote and were not undone.
    pub(super) fn expected(&self) -> BTreeMap<&str, BTreeSet<u32>> {
        let mut expected: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for statement in &self.statements {
            if statement.action.writes() && statement.ran() && !statement.undone {
                expected.entry(&statement.participant).or_default().insert(statement.number);
            }
        }
        expected
    }
}
