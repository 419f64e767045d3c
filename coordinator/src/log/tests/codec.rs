//! The stable form of records and batches.

use proptest::prelude::*;

use super::world::*;
use crate::log::batch::{self, Found, Header};
use crate::log::codec::{DecodeError, EncodeError, MAX_RECORD, decode, encode};
use crate::protocol::record::*;

fn one_of_each() -> Vec<Record> {
    let gtid = gtid(life(7), 1042);
    vec![
        Record::Identity(identity()),
        Record::Epoch(EpochBegun { life: life(7), first_position: 300 }),
        Record::Lease { life: life(7), until: 8192 },
        begun(&gtid),
        Record::Decided(commit(&gtid)),
        Record::Decided(abort(&gtid)),
        Record::Delegated(commit(&gtid)),
        Record::Ended { gtid: gtid.clone() },
        heuristic(&gtid, HeuristicKind::Hazard),
        resolved(&gtid),
        acknowledged(&gtid),
        written_off(9),
        Record::Compared(compared(2)),
        Record::Carried(Box::new(Carried {
            position: 301,
            running_ms: 60_000,
            record: Record::Ended { gtid },
        })),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A change of any of these lines makes logs unreadable that are in use. A new form needs a new version.
#[test]
fn the_bytes_of_every_kind_of_record_are_those_of_version_1() {
    let bytes: String = one_of_each().iter().map(|record| hex(&encode(record).unwrap()) + "\n").collect();
    assert_eq!(bytes, include_str!("golden_records.txt"));
}

#[test]
fn every_kind_of_record_is_read_as_it_was_written() {
    for record in one_of_each() {
        assert_eq!(decode(&encode(&record).unwrap()).unwrap(), record);
    }
}

#[test]
fn a_record_of_an_unknown_version_or_kind_or_with_bytes_too_many_is_an_error() {
    let bytes = encode(&begun(&gtid(life(7), 1))).unwrap();
    let mut newer = bytes.clone();
    newer[0] = 2;
    assert_eq!(decode(&newer), Err(DecodeError::UnknownVersion(2)));
    let mut unknown = bytes.clone();
    unknown[1] = 99;
    assert_eq!(decode(&unknown), Err(DecodeError::UnknownKind(99)));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(decode(&longer), Err(DecodeError::Malformed { kind: 4, .. })));
    assert!(matches!(decode(&bytes[..bytes.len() - 1]), Err(DecodeError::Malformed { kind: 4, .. })));
    assert_eq!(decode(&[]), Err(DecodeError::Empty));
}

#[test]
fn the_largest_decision_that_the_bounds_allow_fits_even_when_carried() {
    let mut largest = commit(&gtid(life(u64::MAX), u64::MAX));
    largest.branches = (0..32u16)
        .map(|number| PreparedBranch {
            xid8: u64::MAX,
            system_identifier: u64::MAX,
            timeline: u32::MAX,
            ..branch(number, &"p".repeat(63))
        })
        .collect();
    assert_eq!(largest.branches.len(), MAX_BRANCHES);
    largest.key =
        Some(KeyRecord { client: "c".repeat(MAX_LABEL), key: "k".repeat(MAX_KEY), request_hash: [255; 32] });
    largest.label = "l".repeat(MAX_LABEL);
    let decided = Record::Decided(largest.clone());
    let carried =
        Record::Carried(Box::new(Carried { position: u64::MAX, running_ms: u64::MAX, record: decided }));
    assert!(encode(&carried).unwrap().len() <= MAX_RECORD);

    largest.label = "l".repeat(MAX_RECORD);
    assert!(matches!(encode(&Record::Decided(largest)), Err(EncodeError::TooLarge { .. })));
}

#[test]
fn a_carried_record_never_carries_another() {
    let carried = one_of_each().pop().unwrap();
    let twice = Record::Carried(Box::new(Carried { position: 1, running_ms: 1, record: carried.clone() }));
    assert_eq!(encode(&twice), Err(EncodeError::Nested));
    let mut bytes = vec![1, 10, 1, 1];
    bytes.extend(encode(&carried).unwrap());
    assert!(decode(&bytes).is_err());
}

#[test]
fn no_text_of_a_client_can_pose_as_a_batch() {
    let header = header(0);
    let (bytes, _) = batch::write(&header, &[]);
    assert!(std::str::from_utf8(&bytes[..4]).is_err());
}

fn header(body_len: u32) -> Header {
    Header {
        closing: false,
        life: life(7),
        first_position: 300,
        running_ms: 60_000,
        count: 1,
        body_len,
        own_pages: 16,
        other_pages: 16,
        previous: 0xdead_beef,
        checksum: 0,
    }
}

#[test]
fn the_bytes_of_a_batch_are_those_of_version_1() {
    let mut body = Vec::new();
    batch::push(&mut body, &[1, 7, 4]);
    let (bytes, _) = batch::write(&header(5), &body);
    assert_eq!(
        hex(&bytes),
        "ff5654fe0100000007000000000000002c0100000000000060ea000000000000c29a3f00010000000500000010000000\
         10000000efbeaddeb70f78d2685ced240300010704"
    );
    assert!(matches!(batch::read(&bytes, 0, 0), Found::Batch(read, _) if read.first_position == 300));
}

#[test]
fn an_intact_batch_of_a_newer_format_is_told_from_nothing() {
    let (mut bytes, _) = batch::write(&header(0), &[]);
    bytes[4] = 2;
    assert_eq!(batch::read(&bytes, 0, 0), Found::Nothing);
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(batch::read(&bytes, 0, 0), Found::UnknownVersion(2));
}

proptest! {
    #[test]
    fn the_decoder_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn the_decoder_never_panics_on_bytes_that_begin_well(
        kind in 0u8..14, bytes in proptest::collection::vec(any::<u8>(), 0..300)
    ) {
        let mut record = vec![1, kind];
        record.extend(bytes);
        let _ = decode(&record);
    }

    #[test]
    fn what_a_flipped_bit_leaves_decodes_to_something_else_or_not_at_all(at in 0usize..60, bit in 0u8..8) {
        let record = Record::Ended { gtid: gtid(life(7), 1042) };
        let mut bytes = encode(&record).unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
            prop_assert!(decode(&bytes).ok() != Some(record));
        }
    }

    #[test]
    fn reading_a_batch_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0u64..300) {
        let _ = batch::read(&bytes, at, 0);
        let _ = batch::records(3, &bytes);
    }

    #[test]
    fn a_decision_of_any_content_is_read_as_it_was_written(
        seq in any::<u64>(), epoch in any::<u64>(), xid8 in any::<u64>(), label in ".{0,20}", key in ".{0,40}"
    ) {
        let mut decided = commit(&gtid(life(epoch), seq));
        decided.label = label;
        decided.branches[0].xid8 = xid8;
        if let Some(named) = &mut decided.key { named.key = key; }
        let record = Record::Delegated(decided);
        prop_assert_eq!(decode(&encode(&record).unwrap()).unwrap(), record);
    }
}
