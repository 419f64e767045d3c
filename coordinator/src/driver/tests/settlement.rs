//! How a restart settles what it found.

use votum_proto::runtime::Monotonic;

use super::super::LocalId;
use super::super::settlement::Settlement;
use super::world::{decided_commit, gtid, name};
use crate::protocol::event::{Event, Report};
use crate::protocol::record::{Heuristic, HeuristicKind, Record};
use crate::protocol::transaction::Transaction;

#[test]
fn a_departure_is_named_apart_and_never_counted_as_committed() {
    let decided = decided_commit(6, 3);
    let departure = Record::Heuristic(Heuristic {
        gid: decided.gid(1),
        participant: name("b"),
        xid8: 701,
        kind: HeuristicKind::Rollback,
        detail: "rolled back by hand".into(),
    });
    let mut transaction = Transaction::recover([&Record::Decided(decided)]).unwrap();
    transaction.step(Event::BranchEnded { branch: 0, was_commit: true, report: Report::Done });
    transaction.step(Event::Durable(departure));

    let mut settlement = Settlement::new(Monotonic::default());
    let id = LocalId::from(&gtid(6, 3));
    settlement.owes(id);
    settlement.completed(id, &transaction);
    assert_eq!(
        settlement.sentence(4),
        "committed 1, rolled back 0 branches in 4 ms; departed from their decision: b 1 (VOTUM-1407)"
    );
}

#[test]
fn what_did_not_depart_is_not_spoken_of() {
    let mut transaction = Transaction::recover([&Record::Decided(decided_commit(6, 3))]).unwrap();
    for branch in 0..2 {
        transaction.step(Event::BranchEnded { branch, was_commit: true, report: Report::Done });
    }
    let mut settlement = Settlement::new(Monotonic::default());
    let id = LocalId::from(&gtid(6, 3));
    settlement.owes(id);
    settlement.completed(id, &transaction);
    assert_eq!(settlement.sentence(4), "committed 2, rolled back 0 branches in 4 ms");
}
