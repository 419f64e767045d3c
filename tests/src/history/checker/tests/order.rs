//! The order of transactions in several databases, and what each may see of another.

use super::*;

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
