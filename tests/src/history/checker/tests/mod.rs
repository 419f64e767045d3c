//! Histories written by hand: good ones, which are accepted, and one for each way in which a promise can be
//! broken, each rejected with a sentence that names the transactions.

use std::collections::BTreeSet;

use super::{Violation, check};
use crate::history::record::{
    Account, Action, Answer, Asked, Database, Effect, End, Fault, History, Isolation, Logged, Moved, Opening,
    Question, Recorded, Statement, Told,
};

mod fates;
mod objects;
mod order;

const A: &str = "bank-a";
const B: &str = "bank-b";
const COMMITTED: Told = Told::Committed { completed: true };

fn gtid(number: u64) -> String {
    format!("h-1-3f9ac2-{number}")
}

fn effect(transaction: u64, statement: u32) -> Effect {
    Effect { transaction, statement }
}

/// A history under construction. Statement 1 of a transaction runs at bank A, statement 101 at bank B; moments
/// are counted as they are written down.
struct Draft {
    history: History,
    tick: u64,
}

impl Draft {
    /// Two banks with two accounts of 100 each, and nothing happened.
    fn new() -> Self {
        let accounts = || (0..2).map(|id| (id, Account { version: 0, balance: 100 })).collect();
        let database = || Database { accounts: accounts(), ..Database::default() };
        let databases = [(A.to_owned(), database()), (B.to_owned(), database())].into();
        let participants = [A.to_owned(), B.to_owned()].into();
        let opening = Opening { participants, accounts: 2, balance: 100 };
        let end = End { databases, ..End::default() };
        let history =
            History { seed: 1, opening, transactions: Vec::new(), faults: Vec::<Fault>::new(), end };
        Self { history, tick: 0 }
    }

    fn moment(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Begins t`number`.
    fn begin(&mut self, number: u64, isolation: Isolation) -> &mut Self {
        let begun = self.moment();
        self.history.transactions.push(Recorded {
            number,
            gtid: Some(gtid(number)),
            key: None,
            isolation,
            read_only: false,
            begun,
            statements: Vec::new(),
            asked: Vec::new(),
        });
        self
    }

    fn transaction(&mut self, number: u64) -> &mut Recorded {
        self.history.transactions.iter_mut().find(|one| one.number == number).unwrap()
    }

    fn statement(&mut self, number: u64, at: &str, place: u32, action: Action, answer: Answer) -> &mut Self {
        let (begun, ended) = (self.moment(), self.moment());
        let statement = Statement {
            number: place,
            participant: at.to_owned(),
            begun,
            ended,
            action,
            answer,
            undone: false,
        };
        self.transaction(number).statements.push(statement);
        self
    }

    fn ask(&mut self, number: u64, question: Question, told: Told) -> &mut Self {
        let (begun, ended) = (self.moment(), self.moment());
        self.transaction(number).asked.push(Asked { question, begun, ended, told });
        self
    }

    fn database(&mut self, at: &str) -> &mut Database {
        self.history.end.databases.get_mut(at).unwrap()
    }

    fn list(&mut self, at: &str, list: u64, effects: &[Effect]) -> &mut Self {
        self.database(at).lists.insert(list, effects.to_vec());
        self
    }

    /// The log holds t`number`'s commit, and that it has ended.
    fn logged(&mut self, number: u64, at: &[&str]) -> &mut Self {
        let commit: BTreeSet<String> = at.iter().map(|name| (*name).to_owned()).collect();
        let logged = Logged {
            commit: Some(commit),
            ended: true,
            listed: Some("committed".into()),
            ..Logged::default()
        };
        self.history.end.log.insert(gtid(number), logged);
        self
    }

    /// t`number` appends to list 1 at both banks and sees `seen` before itself; nothing of its end.
    fn appends(&mut self, number: u64, seen: [&[Effect]; 2]) -> &mut Self {
        self.begin(number, Isolation::ReadCommitted);
        for (at, place, seen) in [(A, 1, seen[0]), (B, 101, seen[1])] {
            let list = seen.iter().copied().chain([effect(number, place)]).collect();
            self.statement(number, at, place, Action::Append { list: 1 }, Answer::List(list));
        }
        self
    }

    fn violations(&self) -> Vec<Violation> {
        check(&self.history)
    }

    #[track_caller]
    fn accepted(&self) {
        assert_eq!(self.violations(), []);
    }

    /// Rejected, by a sentence with this promise, these transactions and this text; there may be others.
    #[track_caller]
    fn rejected(&self, promise: &str, transactions: &[u64], text: &str) {
        let violations = self.violations();
        let named: BTreeSet<u64> = transactions.iter().copied().collect();
        let said = |one: &&Violation| {
            let names = named.iter().all(|number| one.found.contains(&format!("t{number}")));
            one.promise == promise && one.transactions == named && one.found.contains(text) && names
        };
        let shown = Vec::from_iter(violations.iter().map(ToString::to_string)).join("\n");
        assert!(
            violations.iter().any(|one| said(&one)),
            "{promise} {transactions:?} {text:?} is not among:\n{shown}"
        );
    }
}

/// t1, t2 and t3 append to list 1 at both banks, one after another, and are told so.
fn three_appends() -> Draft {
    let mut draft = Draft::new();
    let at_a: Vec<Effect> = (1..=3).map(|number| effect(number, 1)).collect();
    let at_b: Vec<Effect> = (1..=3).map(|number| effect(number, 101)).collect();
    for number in 1..=3u64 {
        let before = usize::try_from(number).unwrap() - 1;
        draft.appends(number, [&at_a[..before], &at_b[..before]]);
        draft.ask(number, Question::Commit, COMMITTED).logged(number, &[A, B]);
    }
    for number in 1..=3u64 {
        draft.ask(number, Question::FindAtTheEnd, COMMITTED);
    }
    draft.list(A, 1, &at_a).list(B, 1, &at_b);
    draft
}

/// t1 moves 10 from account 0 at bank A to account 0 at bank B; then t2 does the same under row locks.
fn two_transfers() -> Draft {
    let mut draft = Draft::new();
    for number in 1..=2u64 {
        draft.begin(number, Isolation::RepeatableRead);
        let before = i64::try_from(number).unwrap() - 1;
        for (at, place, amount) in [(A, 1, -10), (B, 101, 10)] {
            let balance = |moves: i64| 100 + amount * moves;
            if number == 2 {
                let action = Action::ReadAccount { account: 0, lock: true };
                let answer = Answer::Account { version: 1, balance: balance(1) };
                draft.statement(2, at, place, action, answer);
            }
            let action = match number {
                1 => Action::Move { account: 0, amount },
                _ => Action::Put { account: 0, amount },
            };
            let (place, after) = (place + u32::from(number == 2), balance(before + 1));
            draft.statement(number, at, place, action, Answer::Account { version: number, balance: after });
            let database = draft.database(at);
            let moved =
                Moved { account: 0, version: number, effect: effect(number, place), amount, balance: after };
            database.moves.push(moved);
            database.accounts.insert(0, Account { version: number, balance: after });
        }
        draft.ask(number, Question::Commit, COMMITTED).logged(number, &[A, B]);
    }
    draft
}
