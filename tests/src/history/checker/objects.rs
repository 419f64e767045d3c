//! Lists, accounts and claims: what the databases hold, and whether every answer is explained by it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Violations;
use super::facts::Facts;
use crate::history::record::{Action, Answer, Database, Effect, Isolation, Moved, Recorded, Statement, Tick};

/// Something whose changes have an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    List(u64),
    Account(u64),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(number) => write!(f, "list {number}"),
            Self::Account(number) => write!(f, "account {number}"),
        }
    }
}

/// What one statement saw of an object, besides what its own transaction had done.
#[derive(Debug, Clone)]
pub(super) struct Observation<'a> {
    pub(super) transaction: u64,
    pub(super) statement: u32,
    pub(super) participant: &'a str,
    pub(super) object: Object,
    /// How many changes by others it saw: those that stand first in the object's final order.
    pub(super) seen: usize,
    pub(super) begun: Tick,
    pub(super) ended: Tick,
    /// When the first statement of the branch was sent: a snapshot is no older.
    pub(super) branch_begun: Tick,
    pub(super) isolation: Isolation,
    /// The branch went back behind it.
    pub(super) undone: bool,
}

/// Who changed an object, in the final order of the changes; each change by its transaction.
pub(super) fn writers(database: &Database) -> BTreeMap<Object, Vec<u64>> {
    let mut writers = BTreeMap::new();
    for (list, effects) in &database.lists {
        let transactions = effects.iter().map(|effect| effect.transaction).collect();
        writers.insert(Object::List(*list), transactions);
    }
    for (account, moves) in moves(database) {
        let transactions = moves.iter().map(|moved| moved.effect.transaction).collect();
        writers.insert(Object::Account(account), transactions);
    }
    writers
}

/// The moves of each account, in the order of its versions.
fn moves(database: &Database) -> BTreeMap<u64, Vec<&Moved>> {
    let mut by_account: BTreeMap<u64, Vec<&Moved>> = BTreeMap::new();
    for moved in &database.moves {
        by_account.entry(moved.account).or_default().push(moved);
    }
    for moves in by_account.values_mut() {
        moves.sort_by_key(|moved| moved.version);
    }
    by_account
}

/// What the databases hold, by itself: every change follows from the one before it, and no money came or went.
pub(super) fn judge_holdings(facts: &Facts<'_>, violations: &mut Violations) {
    let opening = &facts.history.opening;
    let mut money = 0;
    for (participant, database) in &facts.history.end.databases {
        let moves = moves(database);
        for (account, held) in &database.accounts {
            money += held.balance;
            let chain = moves.get(account).map(Vec::as_slice).unwrap_or_default();
            let (version, balance) = follow(facts, participant, chain, opening.balance, violations);
            if (version, balance) != (held.version, held.balance) {
                let found = format!(
                    "account {account} at {participant} holds {} at version {}, and its moves lead to {balance} at \
                     version {version}",
                    held.balance, held.version
                );
                violations.add("isolation", chain.last().map(|moved| moved.effect.transaction), found);
            }
        }
        unique(facts, participant, database, violations);
        placed(facts, participant, database, violations);
    }
    let accounts = i64::try_from(opening.accounts * opening.participants.len() as u64).unwrap_or(i64::MAX);
    if money != accounts * opening.balance {
        let found =
            format!("the accounts hold {money} in all, and held {} at first", accounts * opening.balance);
        violations.add("I1", [], found);
    }
}

/// Follows the moves of an account from its opening: a gap or a jump is a change that was lost.
fn follow(
    facts: &Facts<'_>,
    participant: &str,
    chain: &[&Moved],
    opening: i64,
    violations: &mut Violations,
) -> (u64, i64) {
    let (mut version, mut balance, mut before) = (0, opening, None);
    for moved in chain {
        if moved.version != version + 1 || moved.balance != balance + moved.amount {
            let earlier = before.map(|effect: Effect| facts.name(effect.transaction));
            let found = format!(
                "a change of account {} at {participant} is lost: {} made it {} at version {} by moving {}, and \
                 before that it was {balance} at version {version}{}",
                moved.account,
                facts.name(moved.effect.transaction),
                moved.balance,
                moved.version,
                moved.amount,
                earlier.map(|name| format!(", by {name}")).unwrap_or_default()
            );
            let both = before.into_iter().chain([moved.effect]).map(|effect| effect.transaction);
            violations.add("isolation", both, found);
        }
        (version, balance, before) = (moved.version, moved.balance, Some(moved.effect));
    }
    (version, balance)
}

fn unique(facts: &Facts<'_>, participant: &str, database: &Database, violations: &mut Violations) {
    let mut holders: BTreeMap<u64, Effect> = BTreeMap::new();
    for (key, effect) in &database.claims {
        if let Some(other) = holders.insert(*key, *effect) {
            let both = [other.transaction, effect.transaction];
            let names = both.map(|number| facts.name(number)).join(" and ");
            violations.add("isolation", both, format!("key {key} at {participant} belongs to {names}"));
        }
    }
}

/// Every effect stands where its statement put it.
fn placed(facts: &Facts<'_>, participant: &str, database: &Database, violations: &mut Violations) {
    let lists = database
        .lists
        .iter()
        .flat_map(|(list, effects)| effects.iter().map(|effect| (*effect, Action::Append { list: *list })));
    let claims = database.claims.iter().map(|(key, effect)| (*effect, Action::Claim { key: *key }));
    let moves = database.moves.iter().map(|moved| {
        let Moved { account, amount, .. } = *moved;
        (moved.effect, Action::Move { account, amount })
    });
    for (effect, found) in lists.chain(claims).chain(moves) {
        let Some(sent) = facts.statement(participant, effect) else { continue };
        let same = match sent.action {
            Action::Put { account, amount } => Action::Move { account, amount },
            action @ (Action::Append { .. }
            | Action::Move { .. }
            | Action::Claim { .. }
            | Action::ReadList { .. }
            | Action::ReadAccount { .. }
            | Action::Savepoint) => action,
        };
        if same != found {
            let name = facts.name(effect.transaction);
            let found = format!("{name} sent {:?}, and {participant} holds {found:?}", sent.action);
            violations.add("I15", [effect.transaction], found);
        }
    }
}

/// What every statement saw, in terms of the final orders; what does not fit them is a violation.
pub(super) fn observations<'a>(facts: &Facts<'a>, violations: &mut Violations) -> Vec<Observation<'a>> {
    let mut observations = Vec::new();
    let moves: BTreeMap<&str, _> =
        facts.history.end.databases.iter().map(|(name, database)| (name.as_str(), moves(database))).collect();
    for one in facts.transactions.values().copied() {
        let participants: BTreeSet<&str> = one.statements.iter().map(|s| s.participant.as_str()).collect();
        for participant in participants {
            let Some(database) = facts.history.end.databases.get(participant) else { continue };
            let no_moves = BTreeMap::new();
            let moves = moves.get(participant).unwrap_or(&no_moves);
            let mut branch = BranchView { facts, one, participant, database, moves, locked: BTreeMap::new() };
            observations.extend(branch.observe(violations));
        }
    }
    observations
}

/// One branch, and the database that it worked in.
struct BranchView<'f, 'a> {
    facts: &'f Facts<'a>,
    one: &'a Recorded,
    participant: &'a str,
    database: &'a Database,
    moves: &'f BTreeMap<u64, Vec<&'a Moved>>,
    /// What was seen of an object when its row was first locked: from then on others cannot change it.
    locked: BTreeMap<Object, usize>,
}

impl<'a> BranchView<'_, 'a> {
    fn observe(&mut self, violations: &mut Violations) -> Vec<Observation<'a>> {
        let (one, participant) = (self.one, self.participant);
        let statements: Vec<&'a Statement> =
            one.statements.iter().filter(|statement| statement.participant == participant).collect();
        let branch_begun = statements.first().map_or(0, |first| first.begun);
        let mut observations = Vec::new();
        for (place, statement) in statements.iter().enumerate() {
            let before = statements.get(..=place).unwrap_or_default();
            let Some((object, seen)) = self.seen(statement, before) else { continue };
            let seen = match seen {
                Ok(seen) => seen,
                Err((promise, other, found)) => {
                    let found = format!(
                        "{}: statement #{} at {participant} saw {object} as it never was: {found}",
                        self.facts.name(one.number),
                        statement.number
                    );
                    violations.add(promise, other.into_iter().chain([one.number]), found);
                    continue;
                }
            };
            self.under_lock(statement, object, seen, violations);
            observations.push(Observation {
                transaction: one.number,
                statement: statement.number,
                participant,
                object,
                seen,
                begun: statement.begun,
                ended: statement.ended,
                branch_begun,
                isolation: one.isolation,
                undone: statement.undone,
            });
        }
        observations
    }

    /// How many changes by others a statement saw, if it looked at anything; or which promise that breaks.
    fn seen(&self, statement: &'a Statement, until: &[&'a Statement]) -> Option<(Object, Seen)> {
        match (&statement.answer, statement.action) {
            (Answer::List(effects), Action::Append { list } | Action::ReadList { list }) => {
                Some((Object::List(list), self.list_seen(list, effects, statement, until)))
            }
            (
                Answer::Account { version, balance },
                Action::Move { account, .. }
                | Action::Put { account, .. }
                | Action::ReadAccount { account, .. },
            ) => {
                let seen = self.account_seen(account, *version, *balance, until);
                Some((Object::Account(account), seen))
            }
            (
                Answer::Done
                | Answer::List(_)
                | Answer::Account { .. }
                | Answer::Refused(_)
                | Answer::TurnedAway(_)
                | Answer::Nothing(_),
                Action::Append { .. }
                | Action::ReadList { .. }
                | Action::Move { .. }
                | Action::Put { .. }
                | Action::ReadAccount { .. }
                | Action::Claim { .. }
                | Action::Savepoint,
            ) => None,
        }
    }

    fn list_seen(&self, list: u64, answer: &[Effect], statement: &Statement, until: &[&Statement]) -> Seen {
        let number = self.one.number;
        let (own, others): (Vec<&Effect>, Vec<&Effect>) =
            answer.iter().partition(|effect| effect.transaction == number);
        let ran = |s: &&&Statement| {
            s.action == (Action::Append { list }) && s.ran() && (!s.undone || s.number == statement.number)
        };
        let expected: Vec<u32> = until.iter().filter(ran).map(|s| s.number).collect();
        if own.iter().map(|effect| effect.statement).ne(expected.iter().copied()) {
            let found = format!("of its own it saw {}, and had appended #{expected:?}", shown(&own));
            return Err(("I15", None, found));
        }
        let stands = self.database.lists.get(&list).map(Vec::as_slice).unwrap_or_default();
        let mut finally = stands.iter().filter(|effect| effect.transaction != number);
        for other in &others {
            if finally.next() == Some(*other) {
                continue;
            }
            let name = self.facts.name(other.transaction);
            if !self.facts.is_committed(other.transaction) {
                let found = format!("it saw {other} of {name}, which is not committed");
                return Err(("I4", Some(other.transaction), found));
            }
            let found = format!(
                "it saw {other} of {name} after {}, where the list has another order",
                shown(&others)
            );
            return Err(("isolation", Some(other.transaction), found));
        }
        let own_place = stands.iter().position(|effect| effect.transaction == number);
        if statement.action.writes()
            && !statement.undone
            && own_place.is_some_and(|place| place != others.len())
        {
            let found =
                format!("it appended behind {} others, and stands behind {own_place:?}", others.len());
            return Err(("isolation", None, found));
        }
        Ok(others.len())
    }

    fn account_seen(&self, account: u64, version: u64, balance: i64, until: &[&Statement]) -> Seen {
        let (mut own, mut own_amount) = (0u64, 0);
        for statement in until.iter().filter(|statement| statement.ran() && !statement.undone) {
            if let Action::Move { account: moved, amount } | Action::Put { account: moved, amount } =
                statement.action
                && moved == account
            {
                own += 1;
                own_amount += amount;
            }
        }
        let seen = version.checked_sub(own).and_then(|seen| usize::try_from(seen).ok());
        let Some(seen) = seen else {
            return Err(("I15", None, format!("version {version}, after {own} moves of its own")));
        };
        let others: Vec<&&Moved> = self
            .moves
            .get(&account)
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter(|moved| moved.effect.transaction != self.one.number)
            .collect();
        let Some(before) = others.get(..seen) else {
            let found = format!("{seen} moves by others, of which only {} are committed", others.len());
            return Err(("I4", None, found));
        };
        let amount: i64 = before.iter().map(|moved| moved.amount).sum();
        let expected = self.facts.history.opening.balance + amount + own_amount;
        if balance != expected {
            let last = before.last().map(|moved| moved.effect.transaction);
            let by = last.map(|last| format!(", made by {}", self.facts.name(last))).unwrap_or_default();
            let found = format!("balance {balance} at version {version}, where it was {expected}{by}");
            return Err(("isolation", last, found));
        }
        Ok(seen)
    }

    /// Under a row lock nobody else changes what was seen.
    fn under_lock(
        &mut self,
        statement: &Statement,
        object: Object,
        seen: usize,
        violations: &mut Violations,
    ) {
        let locks =
            statement.action.writes() || matches!(statement.action, Action::ReadAccount { lock: true, .. });
        let Some(first) = self.locked.get(&object) else {
            // Going back to a savepoint gives back the locks taken since.
            if locks && !statement.undone {
                self.locked.insert(object, seen);
            }
            return;
        };
        if seen != *first {
            let found = format!(
                "{} held a lock on {object} at {}, having seen {first} changes by others, and at statement #{} saw \
                 {seen}",
                self.facts.name(self.one.number),
                self.participant,
                statement.number
            );
            violations.add("isolation", [self.one.number], found);
        }
    }
}

/// How many changes by others were seen; or the broken promise, the other transaction, and what was found.
type Seen = Result<usize, (&'static str, Option<u64>, String)>;

fn shown(effects: &[&Effect]) -> String {
    let last = effects.iter().rev().take(4).rev().map(ToString::to_string);
    format!("[{}]", Vec::from_iter(last).join(", "))
}
