//! Schedules with attached branches, and the rows of the recovery table that their names meet.

use votum_proto::names::{Epoch, Gid, Incarnation, Life, SessionName};

use super::super::event::{BranchClaim, Effect, Event, Vote};
use super::super::history::TransactionHistory;
use super::super::knowledge::{Known, Owner, Readable};
use super::super::lives::{LifeSeen, Lives};
use super::super::record::{AbortKind, AbortReason, Record};
use super::super::recovery::{Action, Row, judge_prepared};
use super::super::standing::Standing;
use super::super::transaction::Transaction;
use super::super::transaction::tests::{begin, commit_requested, forced_record, name, voted, words, yes};

/// Attached at a; hosted at b, once Commit says so.
fn attached() -> Transaction {
    begin().with_attached(vec![name("a")])
}

fn no() -> Vote {
    Vote::No(AbortReason {
        kind: AbortKind::VotedNo,
        participant: None,
        sqlstate: String::new(),
        message: String::new(),
    })
}

fn gid(text: &str) -> Gid {
    text.parse().unwrap()
}

const AT_A: &str = "votum_acme_7_3f9ac2_1_0_0";
const AT_B: &str = "votum_acme_7_3f9ac2_1_1_0";

/// Both have voted yes, the decision is on its way to the disk.
fn deciding() -> (Transaction, Record) {
    let mut transaction = attached();
    transaction.step(commit_requested(&["b"]));
    transaction.step(voted("a", 0, yes(700)));
    let effects = transaction.step(voted("b", 1, yes(800)));
    (transaction, forced_record(&effects))
}

#[test]
fn attached_branches_come_first_and_no_name_says_how_many_there_are() {
    let mut transaction = attached();
    let named: Vec<_> = transaction.attached_gids().map(|(_, gid)| gid).collect();
    assert_eq!(named, [gid(AT_A)]);
    let effects = transaction.step(commit_requested(&["b"]));
    assert_eq!(words(&effects), "attached@a prepare@b");
    let (Effect::SendVerifyAttached { gid: first, .. }, Effect::SendPrepare { gid: second, one_phase, .. }) =
        (&effects[0], &effects[1])
    else {
        panic!("{effects:?}")
    };
    assert_eq!((first, second, one_phase), (&gid(AT_A), &gid(AT_B), &false));
}

#[test]
fn a_commit_waits_for_attached_branches_and_orders_all_by_the_names_that_they_were_given() {
    let (mut transaction, record) = deciding();
    let effects = transaction.step(Event::Durable(record.clone()));
    assert_eq!(words(&effects), "decided commit@a commit@b");
    let recovered = Transaction::recover([&record]).unwrap();
    for transaction in [transaction, recovered] {
        let decided = transaction.decided().unwrap();
        assert_eq!([decided.gid(0), decided.gid(1)], [gid(AT_A), gid(AT_B)]);
    }
}

#[test]
fn a_commit_that_names_no_branch_is_not_read_only_where_one_is_attached() {
    let mut transaction = attached();
    let effects = transaction.step(Event::CommitRequested { claims: Vec::new() });
    assert_eq!(words(&effects), "attached@a");
    assert_eq!(transaction.standing(), Standing::InProgress("preparing"));
}

#[test]
fn an_attached_branch_that_is_absent_aborts_and_whatever_stands_there_is_rolled_back() {
    let mut transaction = attached();
    transaction.step(commit_requested(&["b"]));
    transaction.step(voted("b", 1, yes(800)));
    let effects = transaction.step(voted("a", 0, no()));
    assert_eq!(words(&effects), "buffer Decided decided rollback@a(gid,0) rollback@b(gid,800)");
}

#[test]
fn an_attached_branch_is_never_read_only_and_never_committed_in_one_phase() {
    let prepared =
        super::super::event::Prepared { xid8: 700, system_identifier: 11, timeline: 1, marker: true };
    for vote in [Vote::ReadOnly, Vote::Ready(prepared)] {
        let mut transaction = attached();
        transaction.step(Event::CommitRequested { claims: Vec::new() });
        transaction.step(voted("a", 0, vote));
        assert!(matches!(transaction.standing(), Standing::Aborted(_)), "{transaction:?}");
    }
}

#[test]
fn a_timeout_rolls_back_what_may_be_prepared_before_commit_was_asked_for() {
    let mut transaction = attached();
    let effects = transaction.step(Event::TimedOut);
    assert_eq!(words(&effects), "buffer Decided decided rollback@a(gid,0) completed retire");
}

#[test]
fn an_agent_that_restarted_is_asked_again_for_it_has_nothing_of_an_attached_branch() {
    let mut transaction = attached();
    let seen = |instance| Event::AgentSeen { participant: name("a"), instance };
    assert_eq!(words(&transaction.step(seen(77))), "");
    transaction.step(commit_requested(&["b"]));
    assert_eq!(words(&transaction.step(seen(78))), "attached@a");
    transaction.step(voted("a", 0, yes(700)));
    assert_eq!(words(&transaction.step(seen(79))), "");
    assert_eq!(transaction.standing(), Standing::InProgress("preparing"));
}

/// I15: what the client was told of statements at an attached participant would be lost.
#[test]
fn i15_a_participant_is_either_attached_or_hosted() {
    let session = SessionName { agent_instance: 9, counter: 1 };
    let mut transaction = attached();
    assert_eq!(words(&transaction.step(commit_requested(&["a", "b"]))), "refuse");
    transaction.step(Event::Enlisted { participant: name("a"), session });
    assert_eq!(words(&transaction.step(commit_requested(&["b"]))), "refuse");
    assert_eq!(transaction.standing(), Standing::InProgress("active"));
    let mut late = attached();
    late.step(commit_requested(&["b"]));
    assert_eq!(words(&late.step(Event::Enlisted { participant: name("a"), session })), "end@a");
}

#[test]
fn all_branches_together_are_bounded() {
    let many = |count: usize| (0..count).map(|n| name(&format!("p{n}"))).collect::<Vec<_>>();
    let claim = |participant| BranchClaim {
        participant,
        session: SessionName { agent_instance: 9, counter: 1 },
        last_ordinal: 1,
    };
    let mut full = begin().with_attached(many(32));
    assert_eq!(words(&full.step(Event::CommitRequested { claims: vec![claim(name("b"))] })), "refuse");
}

/// The row that applies to what is listed under an attached branch's name, prepared by a declared role.
fn row(live: Option<&Transaction>, records: &[Record], xid: u32, by_agent: bool) -> (Row, Action) {
    let mut history = TransactionHistory::default();
    for (position, record) in (1..).zip(records) {
        history.add(position, 0, record.clone());
    }
    let life = Life { epoch: Epoch(7), incarnation: Incarnation::from_low_bits(0x3f9ac2) };
    let lives = Lives::new(vec![LifeSeen { life, leased_until: 2000, last_position: 9 }], true);
    let gid = gid(AT_A);
    let known = Known {
        coordinator_id: &gid.gtid.coordinator_id,
        lives: &lives,
        readable: Readable::Whole,
        stale: None,
        unheard: None,
        live,
        history: &history,
    };
    let owner = Owner { by_agent, in_database: true };
    let says = known.of_prepared(&name("a"), &gid, xid, Some(&owner), &|| Ok(None));
    let verdict = judge_prepared(&name("a"), gid.branch, xid, &says);
    (verdict.row, verdict.action)
}

#[test]
fn r6_what_is_prepared_before_commit_is_asked_for_is_left_to_the_live_protocol() {
    let mut transaction = attached();
    assert_eq!(row(Some(&transaction), &[], 700, true), (Row::R6, Action::Leave));
    transaction.step(commit_requested(&["b"]));
    assert_eq!(row(Some(&transaction), &[], 700, true), (Row::R6, Action::Leave));
}

#[test]
fn r1_a_recorded_commit_is_delivered_to_an_attached_branch_and_r1x_to_no_other_work() {
    let (_, record) = deciding();
    let commit = Action::Commit { xid8: 700, mends: false };
    assert_eq!(row(None, std::slice::from_ref(&record), 700, true), (Row::R1, commit.clone()));
    // Whatever its owner has become.
    assert_eq!(row(None, std::slice::from_ref(&record), 700, false), (Row::R1, commit));
    assert_eq!(row(None, std::slice::from_ref(&record), 701, true).0, Row::R1x);
}

#[test]
fn r14_and_r5_what_is_prepared_after_the_abort_is_rolled_back() {
    let mut transaction = attached();
    let effects = transaction.step(Event::TimedOut);
    let Some(Effect::Persist { record, .. }) = effects.first() else { panic!("{effects:?}") };
    let rolled_back = Action::Rollback { alarm: None };
    assert_eq!(row(None, std::slice::from_ref(record), 700, true), (Row::R14, rolled_back.clone()));
    // A crash may take the record of an abort.
    assert_eq!(row(None, &[], 700, true), (Row::R5, rolled_back));
}

#[test]
fn r12_what_an_undeclared_role_prepares_under_the_name_is_never_touched() {
    assert_eq!(row(Some(&attached()), &[], 700, false), (Row::R12, Action::Leave));
    assert_eq!(row(None, &[], 700, false), (Row::R12, Action::Leave));
}
