//! Retention: what may go goes, in the right order, and nothing else.

use std::sync::Arc;

use votum_proto::names::{Gtid, ParticipantName};

use super::world::*;
use crate::log::History as _;
use crate::log::history::Reader;
use crate::log::memory::MemoryStore;
use crate::log::store::{Store as _, key, u64_be};
use crate::protocol::record::*;

const HOUR: u64 = 3_600_000;

fn world(retention_ms: u64, retention_bytes: u64) -> World {
    let mut world = World::new();
    world.limits.retention_ms = retention_ms;
    world.limits.retention_bytes = retention_bytes;
    world
}

fn reader(world: &World) -> Reader<MemoryStore> {
    Reader::of(Arc::new(world.store.clone()), acme())
}

fn listed(core: &mut TestCore, now: u64) {
    for participant in ["bank-a", "bank-b"] {
        core.listed(now, participant.parse().unwrap(), None);
    }
}

/// Lets retention look at everything once.
fn pass(core: &mut TestCore, now: u64) {
    for slice in 0..20 {
        core.turn(now + slice * 1000).unwrap();
    }
}

fn run(core: &mut TestCore, now: u64, records: Vec<Record>) {
    let entries = records.into_iter().enumerate().map(|(at, record)| forced(at as u64 + 1, record)).collect();
    core.append(now, entries).unwrap();
    settle(core, now).unwrap();
}

#[test]
fn an_ended_transaction_goes_after_retention_once_its_participants_were_listed() {
    let mut world = world(HOUR, u64::MAX);
    let mut core = world.start().unwrap();
    let gtid = gtid(core.life(), 5);
    run(
        &mut core,
        10,
        vec![begun(&gtid), Record::Decided(commit(&gtid)), Record::Ended { gtid: gtid.clone() }],
    );
    let reader = reader(&world);
    let there = || !reader.transaction(&gtid).unwrap().records.is_empty();

    listed(&mut core, HOUR / 2);
    pass(&mut core, HOUR - 60_000);
    assert!(there(), "dropped before its retention was over");
    assert_eq!(reader.horizon().unwrap(), None);

    pass(&mut core, HOUR + 60_000);
    assert!(!there(), "not dropped");
    assert_eq!(reader.by_key("shop", "order-5").unwrap(), None);
    assert_eq!(reader.mark(&"bank-a".parse().unwrap()).unwrap(), Some(gtid.clone()));
    assert_eq!(reader.mark(&"bank-b".parse().unwrap()).unwrap(), Some(gtid.clone()));
    assert_eq!(reader.mark(&"bank-c".parse().unwrap()).unwrap(), None);
    assert_eq!(reader.horizon().unwrap(), Some(gtid.clone()));

    drop(core);
    world.lose_power();
    let core = world.start().unwrap();
    assert_eq!(reader.horizon().unwrap(), Some(gtid));
    drop(core);
}

#[test]
fn nothing_goes_before_every_participant_that_it_names_was_listed_after_it_ended() {
    for listed_before in [true, false] {
        let mut world = world(1000, u64::MAX);
        let mut core = world.start().unwrap();
        let gtid = gtid(core.life(), 5);
        if listed_before {
            listed(&mut core, 5);
        }
        run(&mut core, 10, vec![Record::Decided(commit(&gtid)), Record::Ended { gtid: gtid.clone() }]);
        core.listed(20, "bank-a".parse().unwrap(), None);
        pass(&mut core, HOUR);
        let reader = reader(&world);
        assert!(reader.transaction(&gtid).unwrap().ended, "bank-b was listed before the end only, or never");
        core.listed(HOUR, "bank-b".parse().unwrap(), None);
        pass(&mut core, 2 * HOUR);
        assert!(reader.transaction(&gtid).unwrap().records.is_empty());
    }
}

#[test]
fn a_commit_stays_while_an_older_one_may_be_prepared_undecided_where_it_was_carried_out() {
    let mut world = world(1000, u64::MAX);
    let mut core = world.start().unwrap();
    let [undecided, younger, aborted] = [4, 5, 6].map(|seq| gtid(core.life(), seq));
    let ended = Record::Ended { gtid: younger.clone() };
    run(&mut core, 10, vec![Record::Decided(commit(&younger)), ended, Record::Decided(abort(&aborted))]);
    core.listed(20, "bank-a".parse().unwrap(), None);
    core.listed(20, "bank-b".parse().unwrap(), Some(undecided.clone()));
    pass(&mut core, HOUR);
    let reader = reader(&world);
    let mark = || reader.mark(&"bank-b".parse().unwrap()).unwrap();
    assert!(reader.transaction(&younger).unwrap().ended, "its mark would pass {undecided}");
    assert!(reader.transaction(&aborted).unwrap().records.is_empty(), "its absence says abort as well");
    assert_eq!(mark(), None, "an abort that is forgotten is an abort still");

    core.listed(2 * HOUR, "bank-b".parse().unwrap(), Some(aborted));
    pass(&mut core, 3 * HOUR);
    assert!(reader.transaction(&younger).unwrap().records.is_empty());
    assert_eq!(mark(), Some(younger));
}

/// Its absence would say that everything of it was rolled back.
#[test]
fn an_abort_that_was_departed_from_raises_marks_as_a_commit_does() {
    let departures: [fn(&Gtid) -> Vec<Record>; 2] = [
        |gtid| vec![heuristic(gtid, HeuristicKind::Hazard), heuristic(gtid, HeuristicKind::Mended)],
        |gtid| vec![resolved(gtid)],
    ];
    for departure in departures {
        let mut world = world(1000, u64::MAX);
        let mut core = world.start().unwrap();
        let gtid = gtid(core.life(), 5);
        run(&mut core, 10, [vec![Record::Decided(abort(&gtid))], departure(&gtid)].concat());
        listed(&mut core, 20);
        pass(&mut core, HOUR);
        let reader = reader(&world);
        assert!(reader.transaction(&gtid).unwrap().records.is_empty());
        assert_eq!(
            reader.mark(&"bank-b".parse().unwrap()).unwrap(),
            Some(gtid.clone()),
            "{:?}",
            departure(&gtid)
        );
    }
}

#[test]
fn beyond_its_bytes_the_log_waits_for_nothing_undecided() {
    let mut world = world(24 * HOUR, 0);
    let mut core = world.start().unwrap();
    let [undecided, younger] = [4, 5].map(|seq| gtid(core.life(), seq));
    run(&mut core, 10, vec![Record::Decided(commit(&younger)), Record::Ended { gtid: younger.clone() }]);
    for participant in ["bank-a", "bank-b"] {
        core.listed(20, participant.parse().unwrap(), Some(undecided.clone()));
    }
    pass(&mut core, HOUR);
    assert!(reader(&world).transaction(&younger).unwrap().records.is_empty());
}

#[test]
fn what_is_owed_and_what_has_an_open_heuristic_never_goes() {
    let mut world = world(1000, 0);
    let mut core = world.start().unwrap();
    let [owed, delegated, hazard, mended, other] = [1, 2, 3, 4, 5].map(|seq| gtid(core.life(), seq));
    run(
        &mut core,
        10,
        vec![
            Record::Decided(commit(&owed)),
            Record::Delegated(commit(&delegated)),
            Record::Decided(commit(&hazard)),
            heuristic(&hazard, HeuristicKind::Hazard),
            Record::Ended { gtid: hazard.clone() },
            Record::Decided(commit(&mended)),
            heuristic(&mended, HeuristicKind::Hazard),
            heuristic(&mended, HeuristicKind::Mended),
            Record::Ended { gtid: mended.clone() },
            Record::Decided(commit(&other)),
            heuristic(&other, HeuristicKind::Rollback),
            Record::Ended { gtid: other.clone() },
        ],
    );
    listed(&mut core, HOUR);
    pass(&mut core, 2 * HOUR);
    let reader = reader(&world);
    for gtid in [&owed, &delegated, &hazard, &other] {
        assert!(!reader.transaction(gtid).unwrap().records.is_empty(), "{gtid} was dropped");
    }
    assert!(reader.transaction(&mended).unwrap().records.is_empty());
    let open = reader.heuristics().unwrap();
    assert_eq!(open.iter().map(|open| &open.gid.gtid).collect::<Vec<_>>(), [&hazard, &other]);

    run(&mut core, 3 * HOUR, vec![resolved(&hazard), acknowledged(&other)]);
    assert!(reader.heuristics().unwrap().is_empty(), "a person settled the one, and has seen the other");
    listed(&mut core, 3 * HOUR + 10);
    pass(&mut core, 4 * HOUR);
    assert!(reader.transaction(&hazard).unwrap().records.is_empty());
    assert!(reader.transaction(&other).unwrap().records.is_empty());
}

#[test]
fn an_aborted_one_has_ended_with_its_decision_and_one_without_any_goes_when_its_life_is_over() {
    let mut world = world(HOUR, u64::MAX);
    let mut core = world.start().unwrap();
    let [aborted, undecided] = [1, 2].map(|seq| gtid(core.life(), seq));
    run(&mut core, 10, vec![begun(&aborted), begun(&undecided), Record::Decided(abort(&aborted))]);
    listed(&mut core, 20);
    core.finish(HOUR / 2).unwrap();
    drop(core);
    let mut core = world.start().unwrap();
    listed(&mut core, 1);
    let reader = reader(&world);
    pass(&mut core, 1000);
    assert!(!reader.transaction(&aborted).unwrap().records.is_empty());
    pass(&mut core, HOUR);
    assert!(reader.transaction(&aborted).unwrap().records.is_empty());
    assert!(reader.transaction(&undecided).unwrap().records.is_empty());
    assert_eq!(reader.horizon().unwrap(), Some(undecided));
}

#[test]
fn running_time_goes_on_over_restarts() {
    let mut world = world(HOUR, u64::MAX);
    let mut core = world.start().unwrap();
    let gtid = gtid(core.life(), 1);
    run(&mut core, 10, vec![Record::Decided(abort(&gtid))]);
    for _ in 0..3 {
        core.append(HOUR / 2, vec![forced(1, begun(&gtid))]).unwrap();
        settle(&mut core, HOUR / 2).unwrap();
        core.finish(HOUR / 2 + 1000).unwrap();
        core = world.start().unwrap();
    }
    listed(&mut core, 1);
    pass(&mut core, 1000);
    assert_eq!(reader(&world).transaction(&gtid).unwrap().decided, None, "its hour is over");
}

#[test]
fn beyond_its_bytes_the_log_forgets_the_oldest_before_their_time_and_stays_bounded() {
    let bytes = 60_000;
    let mut world = world(24 * HOUR, bytes);
    world.limits.slice = 64;
    let mut core = world.start().unwrap();
    let life = core.life();
    let mut now = 10;
    for seq in 1..=3000 {
        let gtid = gtid(life, seq);
        run(&mut core, now, vec![begun(&gtid), Record::Decided(commit(&gtid)), Record::Ended { gtid }]);
        now += 10;
        listed(&mut core, now);
    }
    pass(&mut core, now);
    let reader = reader(&world);
    assert!(reader.transaction(&gtid(life, 1)).unwrap().records.is_empty());
    assert!(reader.transaction(&gtid(life, 3000)).unwrap().ended, "the newest must stay");
    let kept: usize = (1..=3000).filter(|seq| reader.transaction(&gtid(life, *seq)).unwrap().ended).count();
    assert!((50..500).contains(&kept), "{kept} kept");
    // Everything adds up at the next start.
    drop(core);
    world.lose_power();
    world.start().unwrap();
}

#[test]
fn a_key_used_again_survives_the_going_of_its_first_bearer() {
    let mut world = world(HOUR, u64::MAX);
    let mut core = world.start().unwrap();
    let [first, second] = [1, 2].map(|seq| gtid(core.life(), seq));
    let mut again = commit(&second);
    again.key = commit(&first).key;
    run(&mut core, 10, vec![Record::Decided(commit(&first)), Record::Ended { gtid: first.clone() }]);
    run(&mut core, HOUR, vec![Record::Decided(again), Record::Ended { gtid: second.clone() }]);
    listed(&mut core, HOUR + 10);
    pass(&mut core, HOUR + 60_000);
    let reader = reader(&world);
    assert!(reader.transaction(&first).unwrap().records.is_empty());
    assert_eq!(reader.by_key("shop", "order-1").unwrap().unwrap().0, second);
}

/// What was to go before the crash went at the start.
fn nothing_lies_in_a_gap(world: &World) {
    let (from, to) = key::table(key::GAPS);
    let reader = reader(world);
    for (first, last) in world.store.scan(&from, &to, usize::MAX).unwrap() {
        for position in u64_be(&first, 1).unwrap()..=u64_be(&last, 0).unwrap() {
            assert!(reader.record(position).unwrap().is_none(), "position {position} lies in a gap");
        }
    }
}

#[test]
fn a_crash_between_any_two_writes_of_retention_leaves_a_store_that_counts() {
    for keep in 0..400usize {
        let mut world = world(HOUR, u64::MAX);
        let mut core = world.start().unwrap();
        let life = core.life();
        for seq in 1..=10 {
            let gtid = gtid(life, seq);
            let mut records = vec![begun(&gtid), Record::Decided(commit(&gtid))];
            if seq % 4 != 0 {
                records.push(Record::Ended { gtid });
            }
            run(&mut core, 10, records);
        }
        listed(&mut core, 20);
        core.finish(30).unwrap();
        world.store.stop_after(keep);
        for slice in 0..20 {
            if core.turn(2 * HOUR + slice * 1000).is_err() {
                break;
            }
        }
        let done = !world.store.is_stopped();
        drop(core);
        world.disk.restart_process();
        world.store.restart_process();
        let core = world.start().unwrap_or_else(|refusal| panic!("after {keep} writes: {refusal}"));
        nothing_lies_in_a_gap(&world);
        assert_eq!(core.image().owed().count(), 2);
        let reader = reader(&world);
        for seq in 1..=10 {
            let found = reader.transaction(&gtid(life, seq)).unwrap();
            if found.records.is_empty() {
                assert!(reader.horizon().unwrap() >= Some(gtid(life, seq)), "gone without a horizon");
            }
            assert!(seq % 4 != 0 || found.decided.is_some());
        }
        if done {
            assert!(keep > 50, "retention did too little to test");
            return;
        }
    }
    panic!("retention never came to its end");
}

#[test]
fn what_a_person_compared_last_is_kept_for_ever_and_over_a_loss_of_power() {
    let mut world = world(HOUR, u64::MAX);
    let mut core = world.start().unwrap();
    let bank: ParticipantName = "bank-b".parse().unwrap();
    let said = |timeline| Record::Compared(compared(timeline));
    run(&mut core, 10, vec![said(2), said(3)]);
    let found = || reader(&world).compared(&bank).unwrap().map(|at| (at.position, at.compared));
    let (newest, _) = found().unwrap();
    pass(&mut core, 2 * HOUR);
    assert_eq!(found(), Some((newest, compared(3))));
    assert_eq!(reader(&world).record(newest - 1).unwrap(), None, "the one before has gone");
    assert_eq!(reader(&world).compared(&"bank-a".parse().unwrap()).unwrap(), None);

    drop(core);
    world.lose_power();
    let core = world.start().unwrap();
    assert_eq!(reader(&world).compared(&bank).unwrap().map(|at| at.compared), Some(compared(3)));
    drop(core);
}
