//! Damage to the journal: refused, or harmless; never another history.

use super::world::*;
use crate::log::RefusalKind;
use crate::log::disk::Half;
use crate::log::half::HalfView;
use crate::log::journal::Journal;
use crate::protocol::record::*;

/// A world whose journal has changed halves and was closed in order; and the decisions it owes.
fn lived(changes: bool) -> (World, Vec<u64>) {
    let mut world = World::new();
    let mut core = world.start().unwrap();
    let life = core.life();
    let most = if changes { 120 } else { 25 };
    for seq in 1..=most {
        let gtid = gtid(life, seq);
        core.append(10, vec![forced(2 * seq, Record::Decided(commit(&gtid)))]).unwrap();
        if seq % 20 != 0 {
            core.append(10, vec![buffered(2 * seq + 1, Record::Ended { gtid })]).unwrap();
        }
        settle(&mut core, 10).unwrap();
    }
    core.finish(5_000).unwrap();
    (world, (1..=most).filter(|seq| seq % 20 == 0).collect())
}

fn owed(core: &TestCore) -> Vec<u64> {
    core.image().owed().filter_map(|owed| Some(owed.decided.as_ref()?.gtid.seq)).collect()
}

fn flip_everywhere(changes: bool) {
    let (world, expected) = lived(changes);
    let mut refused = 0;
    for half in Half::BOTH {
        let bytes = world.disk.bytes(half);
        for offset in (0..bytes.len()).step_by(64).flat_map(|at| [at, at + 21, at + 40, at + 62]) {
            let mut damaged = world.copy();
            let mut flipped = bytes.clone();
            flipped[offset] ^= 0x10;
            damaged.disk.set_bytes(half, flipped);
            match damaged.begin() {
                Ok(started) => {
                    let found = owed(&started.core);
                    assert_eq!(found, expected, "byte {offset} of {half:?} changed what is owed");
                }
                Err(refusal) => {
                    assert_eq!(refusal.kind, RefusalKind::Damaged, "{refusal}");
                    assert!(refusal.to_string().contains("journal-"), "{refusal}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 100, "only {refused} refusals");
}

#[test]
fn a_flipped_bit_in_a_young_journal_is_refused_or_harmless() {
    flip_everywhere(false);
}

#[test]
fn a_flipped_bit_in_a_journal_that_changed_halves_is_refused_or_harmless() {
    flip_everywhere(true);
}

#[test]
fn a_truncated_half_is_refused_whatever_is_left_of_it() {
    let (world, _) = lived(true);
    for half in Half::BOTH {
        let bytes = world.disk.bytes(half);
        for length in [0, 1, 64, 4096, bytes.len() / 2, bytes.len() - 1] {
            let mut truncated = world.copy();
            truncated.disk.set_bytes(half, bytes[..length].to_vec());
            let refusal = truncated.begin().err().unwrap_or_else(|| panic!("{half:?} of {length} accepted"));
            assert!(matches!(refusal.kind, RefusalKind::Truncated | RefusalKind::Damaged), "{refusal}");
        }
    }
}

#[test]
fn a_half_that_was_zeroed_is_refused_or_harmless() {
    let (world, expected) = lived(true);
    let mut refused = 0;
    for half in Half::BOTH {
        let mut zeroed = world.copy();
        zeroed.disk.set_bytes(half, vec![0; world.disk.bytes(half).len()]);
        match zeroed.begin() {
            Ok(started) => assert_eq!(owed(&started.core), expected),
            Err(_) => refused += 1,
        }
    }
    assert_eq!(refused, 1, "the newest half must be missed");
}

#[test]
fn a_half_from_another_time_is_refused_or_harmless() {
    let (mut world, expected) = lived(true);
    let then = world.copy();
    let mut core = world.start().unwrap();
    let life = core.life();
    for seq in 1..=200 {
        let gtid = gtid(life, seq);
        core.append(10, vec![forced(seq, Record::Decided(abort(&gtid)))]).unwrap();
        settle(&mut core, 10).unwrap();
    }
    drop(core);
    for half in Half::BOTH {
        let mut mixed = world.copy();
        mixed.disk.set_bytes(half, then.disk.bytes(half));
        match mixed.begin() {
            Ok(started) => assert_eq!(owed(&started.core), expected),
            Err(refusal) => assert!(
                matches!(refusal.kind, RefusalKind::HalvesDisagree | RefusalKind::Damaged),
                "{refusal}"
            ),
        }
    }
}

/// Where the closing batch of the older half stands.
fn closing(bytes: &[u8]) -> usize {
    let view = HalfView::read(bytes.to_vec()).unwrap();
    assert!(view.closed.is_some(), "the half is not closed");
    view.end.try_into().unwrap()
}

fn newest(world: &World) -> Half {
    let first = |half| HalfView::read(world.disk.bytes(half)).unwrap().first().unwrap().first_position;
    if first(Half::A) > first(Half::B) { Half::A } else { Half::B }
}

#[test]
fn with_its_first_batch_and_the_closing_batch_both_damaged_the_newest_half_is_still_missed() {
    let (mut world, _) = lived(true);
    let newest = newest(&world);
    let mut older = world.disk.bytes(newest.other());
    let at = closing(&older);
    older[at] ^= 1;
    world.disk.set_bytes(newest.other(), older);
    let mut bytes = world.disk.bytes(newest);
    bytes[70] ^= 1;
    world.disk.set_bytes(newest, bytes);
    let refusal = world.begin().err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::Damaged);
    assert!(refusal.file.ends_with(newest.file_name()), "{refusal}");
}

#[test]
fn a_start_closes_the_half_that_a_crash_left_open() {
    let (mut world, _) = lived(true);
    let newest = newest(&world);
    let mut older = world.disk.bytes(newest.other());
    let at = closing(&older);
    older[at..at + 64].fill(0);
    world.disk.set_bytes(newest.other(), older);
    drop(world.begin().unwrap());
    world.disk.restart();
    closing(&world.disk.bytes(newest.other()));
}

#[test]
fn halves_of_two_logs_are_refused() {
    let (world, _) = lived(true);
    let mut other = World::sized(8 * HALF);
    let mut core = other.start().unwrap();
    for seq in 1..=260 {
        let decided = Record::Decided(commit(&gtid(core.life(), seq)));
        core.append(10, vec![forced(seq, decided)]).unwrap();
        settle(&mut core, 10).unwrap();
    }
    drop(core);
    // Its first half reaches further than the other log's did when that one changed halves.
    let mut second = world.disk.bytes(newest(&world));
    second.resize(other.disk.bytes(Half::B).len(), 0);
    other.disk.set_bytes(Half::B, second);
    let refusal = other.begin().err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::HalvesDisagree, "{refusal}");
}

#[test]
fn the_log_of_another_coordinator_is_refused_before_anything_is_written() {
    let (world, _) = lived(false);
    let before = world.disk.bytes(Half::A);
    let birth = crate::log::discipline::Birth {
        incarnation: votum_proto::names::Incarnation::from_low_bits(1),
        lease: 1,
        epoch_above: 0,
    };
    let other = "other".parse().unwrap();
    let refusal = TestCore::start(world.disk.clone(), limits(), &other, birth).err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::OtherCoordinator);
    assert_eq!(world.disk.bytes(Half::A), before);
}

/// The next life would take a lower epoch, and the start after that would find the chain broken.
#[test]
fn a_last_batch_of_an_epoch_that_no_record_tells_of_is_refused_before_anything_is_written() {
    let (mut world, _) = lived(false);
    let (mut journal, _) = Journal::recover(world.disk.clone()).unwrap();
    journal.begin_life(life(99)).unwrap();
    journal.write(&[], 6_000).unwrap();
    journal.force().unwrap();
    let before = world.disk.bytes(Half::A);
    let refusal = world.begin().err().expect("a life was begun behind it");
    assert_eq!(refusal.kind, RefusalKind::Damaged, "{refusal}");
    assert!(refusal.to_string().contains("epoch 99"), "{refusal}");
    assert_eq!(world.disk.bytes(Half::A), before);
}

#[test]
fn a_record_of_an_unknown_kind_is_refused_with_its_position() {
    let mut world = World::new();
    let identity = crate::log::codec::encode(&Record::Identity(identity())).unwrap();
    world.disk.set_bytes(Half::A, Vec::new());
    world.disk.set_bytes(Half::B, Vec::new());
    Journal::format(world.disk.clone(), HALF, &[identity, vec![1, 77, 0]]).unwrap();
    let refusal = world.begin().err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::UnknownFormat);
    assert!(refusal.to_string().contains("position 2"), "{refusal}");
}

#[test]
fn a_store_that_lost_records_which_the_journal_no_longer_holds_is_not_counted() {
    let (mut world, _) = lived(true);
    let started = world.begin().unwrap();
    let count = |store: &crate::log::memory::MemoryStore| {
        crate::log::count::count(std::sync::Arc::new(store.copy()), started.core.identity(), &started.kept)
    };
    assert!(count(&world.store).is_ok());
    use crate::log::store::{Store as _, key};
    let holed = world.store.copy();
    holed.remove(&key::record(7)).unwrap();
    let error = count(&holed).err().unwrap();
    assert!(error.to_string().contains("position 7"), "{error}");
    // What the journal still holds is filled.
    let tail = world.store.copy();
    for kept in &started.kept {
        tail.remove(&key::record(kept.position)).unwrap();
    }
    assert!(count(&tail).is_ok());
    // Ahead of the journal: the journal lost something.
    let ahead = world.store.copy();
    let value = crate::log::store::record_value(1 << 40, 0, &[1, 7, 4]);
    ahead.put(&key::record(1 << 40), &value).unwrap();
    assert!(count(&ahead).is_err());
    // Damaged.
    let flipped = world.store.copy();
    let mut value = flipped.get(&key::record(9)).unwrap().unwrap();
    value[14] ^= 1;
    flipped.put(&key::record(9), &value).unwrap();
    assert!(count(&flipped).is_err());
    // Intact, and not what the journal holds.
    let other = world.store.copy();
    let kept = started.kept.iter().find(|kept| !matches!(kept.record, Record::Carried(_))).unwrap();
    let bytes = crate::log::codec::encode(&begun(&gtid(life(1), 1))).unwrap();
    let value = crate::log::store::record_value(kept.position, kept.running_ms, &bytes);
    other.put(&key::record(kept.position), &value).unwrap();
    assert!(count(&other).is_err());
    // Another log's.
    assert!(count(&crate::log::memory::MemoryStore::new()).is_err());
}
