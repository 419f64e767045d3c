//! Crashes at every write and sync: what was acknowledged is there afterwards, nothing else is invented, and
//! no crash leads to a refusal (I13).

use std::collections::BTreeSet;
use std::sync::Arc;

use votum_proto::names::{Epoch, Incarnation, Life};

use super::world::*;
use crate::log::count::count;
use crate::log::disk::Half;
use crate::log::history::Reader;
use crate::log::memory::{Fault, MemoryStore};
use crate::log::{History as _, LogEvent};
use crate::protocol::record::*;

/// Commits `transactions` one after another, with everything that goes with them. Returns the seqs whose
/// commit was acknowledged, and those whose end was.
fn work(core: &mut TestCore, transactions: u64) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut committed, mut ended) = (BTreeSet::new(), BTreeSet::new());
    let life = core.life();
    let mut now = 10;
    for seq in 1..=transactions {
        let gtid = gtid(life, seq);
        let entries =
            vec![buffered(seq * 10, begun(&gtid)), forced(seq * 10 + 1, Record::Decided(commit(&gtid)))];
        if core.append(now, entries).is_err() {
            break;
        }
        let Ok(through) = settle(core, now) else { break };
        if through.is_some_and(|through| through > seq * 10) {
            committed.insert(seq);
        }
        // Every third stays owed.
        if seq % 3 != 0 {
            now += 500;
            let ends = vec![buffered(seq * 10 + 2, Record::Ended { gtid })];
            if core.append(now, ends).is_err() {
                break;
            }
            now += 500;
            let Ok(through) = settle(core, now) else { break };
            if through.is_some_and(|through| through > seq * 10 + 1) {
                ended.insert(seq);
            }
        }
        now += 1000;
        if settle(core, now).is_err() {
            break;
        }
    }
    (committed, ended)
}

/// Judges what a start after the crash sees.
fn judge(world: &mut World, committed: &BTreeSet<u64>, ended: &BTreeSet<u64>, told: &str) {
    let core = world.start().unwrap_or_else(|refusal| panic!("{told}: refused after a crash: {refusal}"));
    let owed: BTreeSet<u64> =
        core.image().owed().filter_map(|owed| Some(owed.decided.as_ref()?.gtid.seq)).collect();
    for seq in committed.difference(ended) {
        // Its end may have reached the disk without being acknowledged.
        let history = reader(&world.store).transaction(&gtid(first_life(), *seq)).unwrap();
        assert!(owed.contains(seq) || history.ended, "{told}: commit {seq} was acknowledged and is gone");
    }
    let reader = reader(&world.store);
    for seq in 1..=50 {
        let gtid = gtid(first_life(), seq);
        let history = reader.transaction(&gtid).unwrap();
        if committed.contains(&seq) {
            assert_eq!(history.decided, Some(commit(&gtid)), "{told}: commit {seq} is not in the history");
            let found = reader.by_key("shop", &format!("order-{seq}")).unwrap();
            assert_eq!(found.map(|(found, _)| found), Some(gtid.clone()), "{told}: key of {seq}");
        }
        if ended.contains(&seq) {
            assert!(history.ended && !owed.contains(&seq), "{told}: the end of {seq} is gone");
        }
        if let Some(decided) = &history.decided {
            assert_eq!(*decided, commit(&gtid), "{told}: an invented decision");
        }
    }
}

fn first_life() -> Life {
    Life { epoch: Epoch(1), incarnation: Incarnation::from_low_bits(0x10_0001) }
}

fn reader(store: &MemoryStore) -> Reader<MemoryStore> {
    Reader::of(Arc::new(store.clone()), acme())
}

fn world() -> World {
    // Small, so that the halves change several times within the work.
    World::sized(4096)
}

#[test]
fn a_crash_at_any_write_or_sync_loses_nothing_acknowledged_and_invents_nothing() {
    let mut sample = world();
    let mut core = sample.start().unwrap();
    let (all, _) = work(&mut core, 24);
    assert_eq!(all.len(), 24);
    let operations = sample.disk.operations();
    assert!(operations > 100, "too little happened: {operations}");
    let mut faults =
        vec![Fault::PowerLost, Fault::Killed, Fault::Error, Fault::Holes(true), Fault::Holes(false)];
    faults.extend([0, 1, 32, 63, 64, 100, 512, 5000].map(Fault::Torn));
    faults.extend([64, 512, 1024].map(Fault::Headless));
    for operation in 0..operations {
        for fault in &faults {
            let told = format!("operation {operation}, {fault:?}");
            let mut world = world();
            world.disk.fail_at(operation, *fault);
            let (committed, ended) = match world.start() {
                Ok(mut core) => work(&mut core, 24),
                // It acknowledged nothing.
                Err(_) => Default::default(),
            };
            match fault {
                Fault::Killed => world.disk.restart_process(),
                Fault::PowerLost | Fault::Torn(_) | Fault::Holes(_) | Fault::Headless(_) => {
                    world.lose_power();
                }
                // The process ends by itself; what it wrote may or may not be on disk.
                Fault::Error if operation % 2 == 0 => world.disk.restart_process(),
                Fault::Error => world.lose_power(),
            }
            judge(&mut world, &committed, &ended, &told);
        }
    }
}

#[test]
fn a_death_between_any_two_writes_of_the_store_leaves_a_history_that_is_whole() {
    for writes in 0.. {
        let mut world = world();
        let mut core = world.start().unwrap();
        world.store.stop_after(writes);
        let (committed, ended) = work(&mut core, 5);
        let stopped = world.store.is_stopped();
        drop(core);
        world.disk.restart_process();
        world.store.restart_process();
        judge(&mut world, &committed, &ended, &format!("after {writes} writes of the store"));
        if !stopped {
            assert!(writes > 30, "too little happened: {writes}");
            return;
        }
    }
}

#[test]
fn crashes_one_after_another_while_starting_never_lead_to_a_refusal() {
    let mut world = world();
    let mut core = world.start().unwrap();
    let (committed, ended) = work(&mut core, 20);
    drop(core);
    world.lose_power();
    for round in 0..40usize {
        world.disk.fail_at(round % 4, if round % 3 == 0 { Fault::Torn(70) } else { Fault::PowerLost });
        // The store is never there: the process dies first.
        if let Ok(started) = world.begin() {
            drop(started);
        }
        if round % 2 == 0 { world.lose_power() } else { world.disk.restart_process() }
    }
    judge(&mut world, &committed, &ended, "after many starts");
}

#[test]
fn an_error_of_a_sync_acknowledges_nothing_more() {
    let mut world = World::new();
    let mut core = world.start().unwrap();
    world.disk.fail_at(world.disk.operations() + 1, Fault::Error);
    let decided = Record::Decided(commit(&gtid(core.life(), 1)));
    core.append(10, vec![forced(1, decided.clone())]).unwrap();
    assert!(core.turn(10).is_err());
    assert!(core.turn(20).is_err(), "the log went on after a doubtful write");
    assert!(core.append(20, vec![forced(2, decided)]).is_err());
    assert_eq!(core.due(), None);
}

#[test]
fn an_error_of_the_store_acknowledges_nothing_more() {
    let mut world = World::new();
    let mut core = world.start().unwrap();
    world.store.break_down("input/output error");
    core.append(10, vec![forced(1, Record::Decided(commit(&gtid(core.life(), 1))))]).unwrap();
    assert!(core.turn(10).is_err());
    assert!(core.turn(20).is_err());
}

#[test]
fn a_buffered_entry_waits_for_company_and_is_on_disk_within_a_second() {
    let mut world = World::new();
    let mut core = world.start().unwrap();
    settle(&mut core, 5_000).unwrap();
    let before = core.position();
    core.append(5_000, vec![buffered(1, begun(&gtid(core.life(), 1)))]).unwrap();
    assert_eq!(settle(&mut core, 5_000).unwrap(), None);
    assert_eq!(core.position(), before, "a buffered entry was forced at once");
    let due = core.due().unwrap();
    assert!(due <= 6_000, "due at {due}");
    assert_eq!(settle(&mut core, due).unwrap(), Some(1));
    // And the seal behind it, within another second.
    let due = core.due().unwrap();
    assert!(due <= 7_000);
    let operations = world.disk.operations();
    settle(&mut core, due).unwrap();
    assert_eq!(world.disk.operations(), operations + 2, "no sealing batch");
}

#[test]
fn one_batch_takes_everything_that_waits_and_one_sync() {
    let mut world = World::new();
    let mut core = world.start().unwrap();
    let operations = world.disk.operations();
    for seq in 1..=50 {
        core.append(10, vec![forced(seq, Record::Decided(commit(&gtid(core.life(), seq))))]).unwrap();
    }
    let events = core.turn(10).unwrap();
    assert!(matches!(events[..], [LogEvent::Durable { through: 50, .. }]));
    assert_eq!(world.disk.operations(), operations + 2, "one write and one sync");
}

#[test]
fn every_start_begins_an_epoch_and_lives_are_known_for_ever() {
    let mut world = world();
    for epoch in 1..=60u64 {
        let mut core = world.start().unwrap();
        assert_eq!(core.life().epoch.0, epoch);
        work(&mut core, 4);
        assert_eq!(core.image().lives(core.position()).last().unwrap().leased_until, 100);
        core.finish(100_000).unwrap();
    }
    let Ok(started) = world.begin() else { panic!() };
    let mut core = started.core;
    let archive = count(Arc::new(world.store.clone()), core.identity(), &started.kept).unwrap();
    core.store_opened(archive);
    let Some(LogEvent::Counted { lives, .. }) = core.turn(0).unwrap().pop() else { panic!() };
    assert_eq!(lives.len(), 61);
    for pair in lives.windows(2) {
        assert_eq!(pair[0].last_position + 1, pair[1].begun.first_position);
    }
    assert_eq!(core.image().lives(core.position()), lives, "the journal carries the recent ones");
}

/// It stays in the journal through every change of halves, and in the store for ever: absence proves nothing
/// of those epochs as long as the log is there.
#[test]
fn what_was_written_off_is_known_for_ever_and_the_next_epoch_is_above_it() {
    let mut world = world();
    let mut core = world.start().unwrap();
    core.append(0, vec![forced(1, written_off(40)), forced(2, written_off(9))]).unwrap();
    settle(&mut core, 0).unwrap();
    let written = |core: &TestCore| core.image().written_off().map(|written_off| written_off.through);
    for _ in 0..3 {
        work(&mut core, 200);
        world.lose_power();
        let life = core.life();
        core = world.start().unwrap();
        assert_eq!(written(&core), Some(Epoch(40)));
        assert!(core.life().epoch > life.epoch.max(Epoch(40)), "{}", core.life());
    }
}

#[test]
fn what_is_owed_outgrows_a_half_and_is_carried_all_the_same() {
    let mut world = world();
    let mut core = world.start().unwrap();
    let life = core.life();
    for seq in 1..=300 {
        core.append(10, vec![forced(seq, Record::Decided(commit(&gtid(life, seq))))]).unwrap();
        settle(&mut core, 10).unwrap();
    }
    drop(core);
    world.lose_power();
    let core = world.start().unwrap();
    assert_eq!(core.image().owed().count(), 300);
}

/// The first batch of a half may be larger than all that stood in it.
#[test]
fn a_crash_while_much_is_carried_never_leads_to_a_refusal() {
    let owe = |core: &mut TestCore| {
        let mut acknowledged = BTreeSet::new();
        for seq in 1..=90 {
            let decided = Record::Decided(commit(&gtid(first_life(), seq)));
            if core.append(10, vec![forced(seq, decided)]).is_err() || settle(core, 10).is_err() {
                break;
            }
            acknowledged.insert(seq);
        }
        acknowledged
    };
    let mut sample = world();
    owe(&mut sample.start().unwrap());
    for operation in 0..sample.disk.operations() {
        for fault in [Fault::Headless(64), Fault::Headless(512), Fault::Holes(false), Fault::Torn(700)] {
            let mut world = world();
            world.disk.fail_at(operation, fault);
            let acknowledged = world.start().map(|mut core| owe(&mut core)).unwrap_or_default();
            world.lose_power();
            judge(&mut world, &acknowledged, &BTreeSet::new(), &format!("operation {operation}, {fault:?}"));
        }
    }
}

#[test]
fn without_the_store_the_journal_grows_and_nothing_is_lost() {
    let mut world = world();
    let started = world.begin().unwrap();
    let mut core = started.core;
    core.store_unreadable("damaged".into());
    let life = core.life();
    for seq in 1..=100 {
        core.append(10, vec![forced(seq, Record::Decided(commit(&gtid(life, seq))))]).unwrap();
        assert_eq!(settle(&mut core, 10).unwrap(), Some(seq));
    }
    drop(core);
    world.lose_power();
    assert_eq!(world.start().unwrap().image().owed().count(), 100);
}

/// Commits one after another until `until` says so; how many were acknowledged.
fn commit_until(world: &World, core: &mut TestCore, until: impl Fn(&World, u64) -> bool) -> u64 {
    let life = core.life();
    for seq in 1.. {
        core.append(10, vec![forced(seq, Record::Decided(commit(&gtid(life, seq))))]).unwrap();
        if settle(core, 10).is_err() || until(world, seq) {
            return seq - 1;
        }
    }
    unreachable!("the seqs have run out")
}

/// What a full disk does: the store fails at the change of halves, and no file can be made longer.
#[test]
fn a_half_that_cannot_be_left_has_room_for_lives_that_deliver_what_is_owed() {
    let mut example = World::sized(64 << 10);
    let mut core = example.start().unwrap();
    let other_half_is_used = |world: &World, _| world.disk.bytes(Half::B)[0] != 0;
    let fitting = commit_until(&example, &mut core, other_half_is_used);
    assert!(fitting > 100, "{fitting}");

    let mut world = World::sized(64 << 10);
    let mut core = world.start().unwrap();
    let life = core.life();
    let sizes = |world: &World| Half::BOTH.map(|half| world.disk.bytes(half).len());
    let before = sizes(&world);
    commit_until(&world, &mut core, |world, seq| {
        if seq == fitting {
            world.store.break_down("no space left on device");
        }
        false
    });
    drop(core);
    for seq in 1..=20 {
        world.disk.restart_process();
        let mut core = world.begin().unwrap().core;
        assert_eq!(core.image().owed().count() as u64, fitting + 1 - seq);
        core.store_unreadable("no space left on device".into());
        core.append(10, vec![buffered(1, Record::Ended { gtid: gtid(life, seq) })]).unwrap();
        core.finish(500).unwrap();
    }
    assert_eq!(sizes(&world), before, "room on the disk was needed");
}

#[test]
fn a_journal_that_cannot_grow_further_fails_and_acknowledges_nothing() {
    let mut world = world();
    world.limits.growth = 2;
    let mut core = world.begin().unwrap().core;
    core.store_unreadable("damaged".into());
    let life = core.life();
    let failed = (1..=1000).any(|seq| {
        let decided = Record::Decided(commit(&gtid(life, seq)));
        core.append(10, vec![forced(seq, decided)]).is_err() || settle(&mut core, 10).is_err()
    });
    assert!(failed);
}

#[test]
fn the_driver_sees_every_record_of_an_owed_transaction() {
    let mut world = world();
    let mut core = world.start().unwrap();
    let gtid = gtid(core.life(), 1);
    let entries = vec![
        forced(1, Record::Delegated(commit(&gtid))),
        buffered(2, heuristic(&gtid, HeuristicKind::Hazard)),
        forced(3, resolved(&gtid)),
    ];
    core.append(10, entries).unwrap();
    settle(&mut core, 10).unwrap();
    // Over a change of halves.
    for seq in 2..=40 {
        let gtid = super::world::gtid(core.life(), seq);
        core.append(10, vec![forced(10 * seq, Record::Decided(abort(&gtid)))]).unwrap();
        settle(&mut core, 10).unwrap();
    }
    drop(core);
    world.lose_power();
    let core = world.start().unwrap();
    let owed: Vec<_> = core.image().owed().cloned().collect();
    assert_eq!(owed.len(), 1);
    assert_eq!(owed[0].delegated, Some(commit(&gtid)));
    assert_eq!((owed[0].heuristics.len(), owed[0].resolved.len()), (1, 1));
}
