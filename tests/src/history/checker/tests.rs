//! Histories written by hand: good ones, which are accepted, and one for each way in which a promise can be
//! broken, each rejected with a sentence that names the transactions.

use std::collections::BTreeSet;

use super::{Violation, check};
use crate::history::record::{
    Account, Action, Answer, Asked, Database, Effect, End, Fault, History, Isolation, Logged, Moved, Opening,
    Question, Recorded, Statement, Told,
};

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

#[test]
fn what_was_promised_and_kept_is_accepted() {
    Draft::new().accepted();
    three_appends().accepted();
    two_transfers().accepted();
}

#[test]
fn a_history_survives_being_kept() {
    let history = three_appends().history;
    let text = serde_json::to_string(&history).unwrap();
    assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
}

#[test]
fn what_was_not_told_may_have_happened_or_not() {
    let mut draft = three_appends();
    draft.transaction(3).asked = Vec::new();
    draft.ask(3, Question::Commit, Told::Nothing).ask(3, Question::Find, Told::Unknown);
    draft.ask(3, Question::FindAtTheEnd, COMMITTED).accepted();
    let mut draft = three_appends();
    draft.transaction(3).asked = Vec::new();
    draft.history.end.log.remove(&gtid(3));
    for at in [A, B] {
        draft.database(at).lists.get_mut(&1).unwrap().pop();
    }
    draft.ask(3, Question::Commit, Told::Unknown);
    draft.ask(3, Question::FindAtTheEnd, Told::Aborted("presumed".into())).accepted();
}

#[test]
fn what_only_read_may_later_read_as_aborted_and_not_the_other_way_round() {
    let read = |draft: &mut Draft| {
        draft.begin(4, Isolation::Serializable);
        let seen = Answer::List(vec![effect(1, 1), effect(2, 1), effect(3, 1)]);
        draft.statement(4, A, 1, Action::ReadList { list: 1 }, seen);
    };
    let aborted = || Told::Aborted("presumed".into());
    let mut draft = three_appends();
    read(&mut draft);
    draft.ask(4, Question::Commit, Told::ReadOnly).ask(4, Question::Find, aborted()).accepted();
    let mut draft = three_appends();
    read(&mut draft);
    draft.ask(4, Question::Commit, aborted()).ask(4, Question::Find, Told::ReadOnly);
    draft.rejected("I5", &[4], "was told Aborted");
}

#[test]
fn a_commit_that_was_told_and_is_lost_is_rejected() {
    let mut draft = three_appends();
    for at in [A, B] {
        draft.database(at).lists.get_mut(&1).unwrap().pop();
    }
    draft.rejected("I13", &[3], "is lost");
}

#[test]
fn a_commit_that_happened_in_part_is_rejected() {
    let mut draft = three_appends();
    draft.database(B).lists.get_mut(&1).unwrap().pop();
    draft.rejected("I1", &[3], "#1 at bank-a stands, #101 at bank-b does not");
}

#[test]
fn an_unknown_outcome_that_happened_in_part_is_rejected() {
    let mut draft = three_appends();
    draft.transaction(3).asked = Vec::new();
    draft.ask(3, Question::Commit, Told::Unknown);
    draft.database(A).lists.get_mut(&1).unwrap().pop();
    draft.rejected("I1", &[3], "happened in part");
}

#[test]
fn an_effect_that_stands_twice_is_rejected() {
    let mut draft = three_appends();
    draft.database(A).lists.get_mut(&1).unwrap().push(effect(3, 1));
    draft.rejected("I15", &[3], "ran 2 times");
}

#[test]
fn an_abort_that_was_told_and_left_effects_is_rejected() {
    let mut draft = three_appends();
    draft.transaction(3).asked = Vec::new();
    draft.ask(3, Question::Commit, Told::Aborted("timeout".into()));
    draft.rejected("I4", &[3], "was told aborted, and left effects at bank-a, bank-b");
}

#[test]
fn an_abort_that_others_saw_is_rejected() {
    let mut draft = three_appends();
    draft.begin(4, Isolation::ReadCommitted);
    draft.statement(4, A, 1, Action::Append { list: 2 }, Answer::List(vec![effect(4, 1)]));
    draft.ask(4, Question::Commit, Told::Aborted("voted no".into()));
    draft.begin(5, Isolation::ReadCommitted);
    draft.statement(5, A, 1, Action::ReadList { list: 2 }, Answer::List(vec![effect(4, 1)]));
    draft.ask(5, Question::Commit, Told::ReadOnly);
    draft.rejected("I4", &[4, 5], "which is not committed");
}

#[test]
fn a_read_only_answer_to_one_that_wrote_is_rejected() {
    let mut draft = three_appends();
    draft.transaction(3).asked = Vec::new();
    draft.ask(3, Question::Commit, Told::ReadOnly);
    draft.rejected("I5", &[3], "was told read-only, and it wrote");
}

#[test]
fn an_answer_that_contradicts_an_earlier_one_is_rejected() {
    let mut draft = three_appends();
    draft.ask(2, Question::Find, Told::Aborted("presumed".into()));
    draft.rejected("I5", &[2], "was told Committed { completed: true }, and then Aborted");
}

#[test]
fn a_transaction_that_is_forgotten_or_unsettled_at_the_end_is_rejected() {
    let mut draft = three_appends();
    draft.ask(2, Question::Find, Told::Forgotten("NOT_FOUND".into()));
    draft.rejected("I7", &[2], "was forgotten");
    let mut draft = three_appends();
    draft.ask(2, Question::FindAtTheEnd, Told::Unknown);
    draft.rejected("I6", &[2], "is not settled");
    let mut draft = three_appends();
    draft.ask(2, Question::FindAtTheEnd, Told::Committed { completed: false });
    draft.rejected("I6", &[2], "is not settled");
}

#[test]
fn a_departure_from_a_decision_is_rejected() {
    let mut draft = three_appends();
    draft.ask(2, Question::Find, Told::Heuristic("rolled back at bank-a".into()));
    draft.rejected("I1", &[2], "departed from its decision");
}

#[test]
fn a_commit_that_nobody_asked_for_is_rejected() {
    let mut draft = three_appends();
    draft.transaction(3).asked = Vec::new();
    draft.rejected("I2", &[3], "nobody ever asked for its commit");
    let mut draft = three_appends();
    draft.logged(9, &[A]);
    draft.rejected("I2", &[], "no client knew it");
}

#[test]
fn a_commit_with_a_statement_that_was_refused_or_never_answered_is_rejected() {
    let mut draft = three_appends();
    draft.statement(3, B, 102, Action::Claim { key: 1 }, Answer::Refused("23505".into()));
    draft.rejected("I15", &[3], "was refused by its database (23505)");
    let mut draft = three_appends();
    draft.statement(3, B, 102, Action::Claim { key: 1 }, Answer::Nothing("connection lost".into()));
    draft.rejected("I15", &[3], "was never answered");
}

#[test]
fn a_statement_that_was_refused_behind_a_savepoint_is_no_obstacle() {
    let mut draft = three_appends();
    draft.statement(3, B, 102, Action::Claim { key: 1 }, Answer::Refused("23505".into()));
    draft.transaction(3).statements.last_mut().unwrap().undone = true;
    draft.accepted();
}

#[test]
fn a_statement_that_was_undone_and_stands_is_rejected() {
    let mut draft = three_appends();
    draft.statement(3, B, 102, Action::Claim { key: 1 }, Answer::Done);
    draft.transaction(3).statements.last_mut().unwrap().undone = true;
    draft.accepted();
    draft.database(B).claims.push((1, effect(3, 102)));
    draft.rejected("I15", &[3], "was undone by a return to its savepoint");
}

#[test]
fn an_effect_that_nobody_sent_there_is_rejected() {
    let mut draft = three_appends();
    draft.database(A).claims.push((1, effect(3, 7)));
    draft.rejected("I15", &[3], "was never sent there");
    let mut draft = three_appends();
    draft.database(A).claims.push((1, effect(8, 1)));
    draft.rejected("I15", &[8], "no client ever sent it");
    let mut draft = three_appends();
    let list = draft.database(A).lists.remove(&1).unwrap();
    draft.list(A, 2, &list);
    draft.rejected("I15", &[3], "sent Append { list: 1 }, and bank-a holds Append { list: 2 }");
}

#[test]
fn work_under_one_key_that_happened_twice_is_rejected() {
    let mut draft = three_appends();
    for number in [1, 3] {
        draft.transaction(number).key = Some("k1".into());
    }
    draft.rejected("I15", &[1, 3], "key k1");
}

#[test]
fn a_key_that_two_hold_is_rejected() {
    let mut draft = three_appends();
    for number in [1, 2] {
        draft.statement(number, A, 2, Action::Claim { key: 5 }, Answer::Done);
        draft.database(A).claims.push((5, effect(number, 2)));
    }
    draft.rejected("isolation", &[1, 2], "key 5 at bank-a belongs to");
}

#[test]
fn orders_that_contradict_each_other_in_two_databases_are_rejected() {
    let mut draft = Draft::new();
    draft.appends(1, [&[], &[effect(2, 101)]]).appends(2, [&[effect(1, 1)], &[]]);
    for number in [1, 2] {
        draft.ask(number, Question::Commit, Told::Committed { completed: false }).logged(number, &[A, B]);
    }
    draft.list(A, 1, &[effect(1, 1), effect(2, 1)]).list(B, 1, &[effect(2, 101), effect(1, 101)]);
    draft.rejected("order", &[1, 2], "these commits come before each other");
}

#[test]
fn a_circle_through_a_read_and_a_write_in_different_databases_is_rejected() {
    let mut draft = Draft::new();
    // t1 writes at A and sees at B what t2 wrote; t2 writes at B and sees at A what t1 wrote.
    for (number, own, other, place) in [(1, A, B, 1), (2, B, A, 2)] {
        draft.begin(number, Isolation::ReadCommitted);
        draft.statement(number, own, 1, Action::Append { list: 1 }, Answer::List(vec![effect(number, 1)]));
        let seen = Answer::List(vec![effect(3 - place, 1)]);
        draft.statement(number, other, 101, Action::ReadList { list: 1 }, seen);
    }
    for number in [1, 2] {
        draft.ask(number, Question::Commit, Told::Committed { completed: false }).logged(number, &[A, B]);
    }
    draft.list(A, 1, &[effect(1, 1)]).list(B, 1, &[effect(2, 1)]);
    draft.rejected("order", &[1, 2], "the second saw the first's change");
}

#[test]
fn a_read_that_has_not_seen_a_commit_elsewhere_is_no_circle() {
    let mut draft = three_appends();
    // Before t3's client was told: bank A showed t3 and bank B did not yet.
    draft.transaction(3).asked = Vec::new();
    draft.ask(3, Question::Commit, Told::Unknown);
    draft.begin(4, Isolation::RepeatableRead);
    let [at_a, at_b] = [3, 2].map(|seen| (1..=seen).collect::<Vec<u64>>());
    let list = |seen: &[u64], place| Answer::List(seen.iter().map(|number| effect(*number, place)).collect());
    draft.statement(4, A, 1, Action::ReadList { list: 1 }, list(&at_a, 1));
    draft.statement(4, B, 101, Action::ReadList { list: 1 }, list(&at_b, 101));
    draft.ask(4, Question::Commit, Told::ReadOnly);
    draft.accepted();
}

#[test]
fn an_update_that_is_lost_is_rejected() {
    // t2 computed from what was there before t1.
    let mut draft = two_transfers();
    let database = draft.database(A);
    database.moves[1].balance = 90;
    database.accounts.insert(0, Account { version: 2, balance: 90 });
    draft.rejected("isolation", &[1, 2], "a change of account 0 at bank-a is lost");
    // Both made version 1.
    let mut draft = two_transfers();
    let database = draft.database(A);
    (database.moves[1].version, database.moves[1].balance) = (1, 90);
    database.accounts.insert(0, Account { version: 1, balance: 90 });
    draft.rejected("isolation", &[1, 2], "a change of account 0 at bank-a is lost");
}

#[test]
fn a_row_that_changed_under_its_lock_is_rejected() {
    let mut draft = two_transfers();
    let one = draft.transaction(2);
    // It locked the row, saw nothing of t1, and then wrote behind it.
    one.statements[0].answer = Answer::Account { version: 0, balance: 100 };
    draft.rejected("isolation", &[2], "held a lock on account 0 at bank-a");
}

#[test]
fn money_that_came_from_nowhere_is_rejected() {
    let mut draft = two_transfers();
    draft.database(B).accounts.insert(1, Account { version: 0, balance: 105 });
    draft.rejected("I1", &[], "the accounts hold 405 in all, and held 400 at first");
    draft.rejected("isolation", &[], "account 1 at bank-b holds 105");
}

#[test]
fn a_list_that_was_seen_in_another_order_is_rejected() {
    let mut draft = three_appends();
    draft.begin(4, Isolation::ReadCommitted);
    let seen = Answer::List(vec![effect(2, 1), effect(1, 1)]);
    draft.statement(4, A, 1, Action::ReadList { list: 1 }, seen).ask(4, Question::Commit, Told::ReadOnly);
    draft.rejected("isolation", &[2, 4], "as it never was");
}

#[test]
fn a_list_from_which_somebody_vanished_is_rejected() {
    let mut draft = three_appends();
    draft.begin(4, Isolation::ReadCommitted);
    let seen = Answer::List(vec![effect(1, 1), effect(3, 1)]);
    draft.statement(4, A, 1, Action::ReadList { list: 1 }, seen).ask(4, Question::Commit, Told::ReadOnly);
    draft.rejected("isolation", &[3, 4], "as it never was");
}

#[test]
fn a_balance_that_never_was_is_rejected() {
    let mut draft = two_transfers();
    draft.begin(4, Isolation::ReadCommitted);
    let action = Action::ReadAccount { account: 0, lock: false };
    draft.statement(4, A, 1, action, Answer::Account { version: 1, balance: 95 });
    draft.rejected("isolation", &[1, 4], "balance 95 at version 1, where it was 90");
    draft.statement(4, A, 2, action, Answer::Account { version: 3, balance: 70 });
    draft.rejected("I4", &[4], "3 moves by others, of which only 2 are committed");
}

#[test]
fn a_branch_that_does_not_see_its_own_work_once_is_rejected() {
    let mut draft = three_appends();
    draft.statement(3, A, 2, Action::ReadList { list: 1 }, Answer::List(vec![effect(1, 1), effect(2, 1)]));
    draft.rejected("I15", &[3], "of its own it saw []");
    let mut draft = three_appends();
    let twice = vec![effect(1, 1), effect(2, 1), effect(3, 1), effect(3, 1)];
    draft.statement(3, A, 2, Action::ReadList { list: 1 }, Answer::List(twice));
    draft.rejected("I15", &[3], "of its own it saw [t3#1, t3#1]");
}

/// t1 appends to list 1 and then t2 to list 2, both at bank A, t2 having seen t1.
fn one_saw_the_other() -> Draft {
    let mut draft = Draft::new();
    draft.begin(1, Isolation::Serializable);
    draft.statement(1, A, 1, Action::Append { list: 1 }, Answer::List(vec![effect(1, 1)]));
    draft.ask(1, Question::Commit, Told::Committed { completed: false }).logged(1, &[A]);
    draft.begin(2, Isolation::Serializable);
    draft.statement(2, A, 1, Action::ReadList { list: 1 }, Answer::List(vec![effect(1, 1)]));
    draft.statement(2, A, 2, Action::Append { list: 2 }, Answer::List(vec![effect(2, 2)]));
    draft.ask(2, Question::Commit, Told::Committed { completed: false }).logged(2, &[A]);
    draft.list(A, 1, &[effect(1, 1)]).list(A, 2, &[effect(2, 2)]);
    draft
}

#[test]
fn a_snapshot_with_a_hole_is_rejected_and_read_committed_may_have_it() {
    for isolation in [Isolation::RepeatableRead, Isolation::Serializable, Isolation::ReadCommitted] {
        let mut draft = one_saw_the_other();
        draft.begin(3, isolation);
        draft.statement(3, A, 1, Action::ReadList { list: 1 }, Answer::List(Vec::new()));
        draft.statement(3, A, 2, Action::ReadList { list: 2 }, Answer::List(vec![effect(2, 2)]));
        draft.ask(3, Question::Commit, Told::ReadOnly);
        if isolation == Isolation::ReadCommitted {
            draft.accepted();
        } else {
            draft.rejected("isolation", &[1, 2, 3], "the snapshot of t3");
        }
    }
}

#[test]
fn write_skew_is_rejected_among_serializable_transactions_only() {
    for isolation in [Isolation::Serializable, Isolation::RepeatableRead] {
        let mut draft = Draft::new();
        for (number, own, other) in [(1, 1, 2), (2, 2, 1)] {
            draft.begin(number, isolation);
            draft.statement(number, A, 1, Action::ReadList { list: other }, Answer::List(Vec::new()));
            let appended = Answer::List(vec![effect(number, 2)]);
            draft.statement(number, A, 2, Action::Append { list: own }, appended);
        }
        for number in [1, 2] {
            draft.ask(number, Question::Commit, COMMITTED).logged(number, &[A]);
            draft.list(A, number, &[effect(number, 2)]);
        }
        if isolation == Isolation::Serializable {
            draft.rejected("isolation", &[1, 2], "serializable transactions in a circle");
        } else {
            draft.accepted();
        }
    }
}

#[test]
fn a_read_that_misses_what_was_complete_before_is_rejected() {
    let mut draft = three_appends();
    draft.begin(4, Isolation::RepeatableRead);
    let seen = Answer::List(vec![effect(1, 1), effect(2, 1)]);
    draft.statement(4, A, 1, Action::ReadList { list: 1 }, seen).ask(4, Question::Commit, Told::ReadOnly);
    draft.rejected("isolation", &[3, 4], "whose client had been told before");
}

#[test]
fn an_effect_that_was_seen_before_its_commit_was_asked_for_is_rejected() {
    let mut draft = three_appends();
    let asked = std::mem::take(&mut draft.transaction(3).asked);
    draft.begin(4, Isolation::ReadCommitted);
    let seen = Answer::List(vec![effect(1, 1), effect(2, 1), effect(3, 1)]);
    draft.statement(4, A, 1, Action::ReadList { list: 1 }, seen).ask(4, Question::Commit, Told::ReadOnly);
    draft.ask(3, Question::Commit, COMMITTED);
    draft.rejected("I2", &[3, 4], "before anybody asked for its commit");
    drop(asked);
}

#[test]
fn a_log_that_tells_another_story_is_rejected() {
    let mut draft = three_appends();
    draft.history.end.log.remove(&gtid(2));
    draft.rejected("I3", &[2], "was told committed, and the log holds no commit of it");
    let mut draft = three_appends();
    draft.history.end.log.get_mut(&gtid(2)).unwrap().abort = true;
    draft.rejected("I1", &[2], "a commit and an abort");
    let mut draft = three_appends();
    draft.history.end.log.get_mut(&gtid(2)).unwrap().ended = false;
    draft.rejected("I6", &[2], "does not say that it has ended");
    let mut draft = three_appends();
    draft.logged(2, &[A]);
    draft.rejected("I1", &[2], "wrote at bank-b, and its decision in the log does not name that");
    let mut draft = three_appends();
    draft.history.end.log.get_mut(&gtid(2)).unwrap().listed = Some("committing".into());
    draft.rejected("I6", &[2], "listed as Some(\"committing\")");
}

#[test]
fn what_is_left_behind_is_rejected() {
    let mut draft = three_appends();
    draft.history.end.left_behind.push("prepared transaction votum_h_1_3f9ac2_1_0_2 at bank-a".into());
    draft.rejected("I6", &[], "left behind: prepared transaction");
}
