//! What became of each transaction, by what was told, what stands, and what the log says.

use super::*;

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
