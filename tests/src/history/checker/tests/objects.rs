//! Accounts, lists, and the money in all of them.

use super::*;

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
