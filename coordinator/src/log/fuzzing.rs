//! What must hold of a log's bytes when nobody vouches for them. Fuzz targets call these, and so does a
//! bounded run with every test; in a build for use they are not.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a failure is what is looked for

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

use crc32c::{crc32c, crc32c_append};
use votum_proto::names::{CoordinatorId, Gtid, Incarnation, Life};

use super::batch::{ALIGN, HEADER};
use super::codec::{self, MAX_RECORD};
use super::config::Limits;
use super::discipline::{Birth, Core};
use super::disk::Half;
use super::journal::Journal;
use super::memory::{MemoryDisk, MemoryStore};
use super::salvage::in_half;
use super::{Entry, salvage};
use crate::protocol::record::{Decided, Decision, Identity, PreparedBranch, Record};

/// The size of each half of the example, in bytes.
const HALF: u64 = 8 << 10;

/// A record decodes to something that encodes to itself and whose names print as they parse, or says why not.
pub fn record(bytes: &[u8]) {
    match codec::decode(bytes) {
        Ok(record) => {
            // Bytes may be written longer than they need be: their record is then too long to be written.
            if let Ok(encoded) = codec::encode(&record) {
                assert!(encoded.len() <= MAX_RECORD);
                assert_eq!(codec::decode(&encoded), Ok(record.clone()));
            }
            if let Some(gtid) = record.gtid() {
                assert_eq!(gtid.to_string().parse().as_ref(), Ok(gtid));
            }
            assert!(!record.to_string().is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A journal that was patched is opened, again and again, or refused by the name of its file.
///
/// The first byte of `patch` says how: bit 0: which half; bit 1: the rest replaces it, else it is laid over
/// it at the place in the next two bytes; bit 2: the batch that stands there gets the checksums that fit.
pub fn journal(patch: &[u8]) {
    let Some(halves) = patched(patch) else { return };
    let disk = MemoryDisk::new();
    for (half, bytes) in Half::BOTH.into_iter().zip(halves) {
        disk.set_bytes(half, bytes);
    }
    disk.restart();
    for restart in 0..2 {
        match start(&disk) {
            Ok(core) => assert!(core.position() > 0),
            Err(refusal) => {
                assert_eq!(restart, 0, "opened once, and then refused: {refusal}");
                let said = refusal.to_string();
                assert!(said.contains("VOTUM-11") && said.contains("journal-"), "{said}");
                return;
            }
        }
        disk.restart_process();
    }
}

/// Salvage walks over anything: what it gives lies where it says.
pub fn salvaged(patch: &[u8]) {
    let Some(halves) = patched(patch) else { return };
    for bytes in halves {
        let walked = in_half(Path::new("journal"), &bytes, &[], &mut |found: salvage::Salvaged| {
            let offset = found.offset.unwrap();
            assert!(offset.is_multiple_of(ALIGN) && offset + (HEADER as u64) <= bytes.len() as u64);
            ControlFlow::Continue(())
        });
        assert!(walked.is_continue());
    }
}

fn acme() -> CoordinatorId {
    "acme".parse().unwrap()
}

type ExampleCore = Core<MemoryDisk, MemoryStore>;

fn start(disk: &MemoryDisk) -> Result<ExampleCore, super::Refusal> {
    let birth = Birth { incarnation: Incarnation::from_low_bits(0x3f_9ac2), lease: 100, epoch_above: 0 };
    let limits = Limits { half_bytes: HALF, ..Limits::default() };
    Ok(Core::start(disk.clone(), limits, &acme(), birth)?.core)
}

/// Both halves of a journal that has changed halves and owes commits.
fn example() -> &'static [Vec<u8>; 2] {
    static EXAMPLE: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let disk = MemoryDisk::new();
        let identity = Identity { coordinator_id: acme(), key: [9; 32] };
        let first = codec::encode(&Record::Identity(identity)).unwrap();
        Journal::format(disk.clone(), HALF, &[first]).unwrap();
        let mut core = start(&disk).unwrap();
        let store = std::sync::Arc::new(MemoryStore::new());
        let recovered = Journal::recover(disk.clone()).unwrap().1;
        core.store_opened(super::count::count(store, core.identity(), &recovered.kept).unwrap());
        core.turn(0).unwrap();
        let life = core.life();
        for seq in 1..=40 {
            let gtid = Gtid { coordinator_id: acme(), life, seq };
            let mut entries = vec![(Record::Decided(commit(&gtid)), true)];
            if seq % 10 != 0 {
                entries.push((Record::Ended { gtid }, false));
            }
            let token = |at: usize| 2 * seq + at as u64;
            let entries = entries.into_iter().enumerate();
            let entries =
                entries.map(|(at, (record, forced))| Entry { token: token(at), record, forced }).collect();
            core.append(10, entries).unwrap();
            core.turn(10).unwrap();
        }
        core.finish(1000).unwrap();
        Half::BOTH.map(|half| disk.bytes(half))
    })
}

fn commit(gtid: &Gtid) -> Decided {
    Decided {
        gtid: gtid.clone(),
        decision: Decision::Commit,
        branches_named: 1,
        branches: vec![PreparedBranch {
            number: 0,
            participant: "bank".parse().unwrap(),
            xid8: 700,
            system_identifier: 7,
            timeline: 1,
            marker: false,
        }],
        key: None,
        label: "transfer".into(),
    }
}

/// The example with a patch; see [`journal`].
fn patched(patch: &[u8]) -> Option<[Vec<u8>; 2]> {
    let [how, low, high, rest @ ..] = patch else { return None };
    let mut halves = example().clone();
    let half = &mut halves[usize::from(how & 1)];
    let at = usize::from(u16::from_le_bytes([*low, *high])) % half.len();
    if how & 2 == 0 {
        let end = half.len().min(at + rest.len());
        half[at..end].copy_from_slice(&rest[..end - at]);
    } else {
        *half = rest.to_vec();
    }
    if how & 4 != 0 {
        seal(half, at - at % usize::try_from(ALIGN).unwrap());
    }
    Some(halves)
}

/// Gives what stands at `at` the checksums of a batch, whatever it says.
fn seal(half: &mut [u8], at: usize) {
    let Some(batch) = half.get_mut(at..) else { return };
    if batch.len() < HEADER {
        return;
    }
    let number = |batch: &[u8], at: usize| u32::from_le_bytes(batch[at..at + 4].try_into().unwrap());
    let end = HEADER.saturating_add(number(batch, 40) as usize).min(batch.len());
    let checksum = crc32c_append(crc32c_append(number(batch, 52), &batch[..56]), &batch[HEADER..end]);
    batch[56..60].copy_from_slice(&checksum.to_le_bytes());
    let header = crc32c(&batch[..60]);
    batch[60..64].copy_from_slice(&header.to_le_bytes());
}

/// Examples to begin with: patches of every field of a header, at batches of both halves.
pub fn patches() -> Vec<Vec<u8>> {
    let mut patches = Vec::new();
    for (how, bytes) in [4u8, 5].into_iter().zip(example()) {
        let batches = (0..bytes.len()).step_by(64).filter(|at| bytes[*at..].starts_with(&[0xff, b'V']));
        for at in batches.step_by(3) {
            for (field, width) in [
                (4, 1),
                (5, 1),
                (8, 8),
                (16, 8),
                (24, 8),
                (32, 4),
                (36, 4),
                (40, 4),
                (44, 4),
                (48, 4),
                (52, 4),
            ] {
                let place = u16::try_from(at + field).unwrap().to_le_bytes();
                patches.push([&[how][..], &place, &vec![0xff; width]].concat());
            }
        }
        patches.push([&[how | 2, 0, 0][..], bytes].concat());
    }
    patches
}

/// Examples to begin with: a record of each of some kinds.
pub fn records() -> Vec<Vec<u8>> {
    let life =
        Life { epoch: votum_proto::names::Epoch(7), incarnation: Incarnation::from_low_bits(0x3f_9ac2) };
    let gtid = Gtid { coordinator_id: acme(), life, seq: 1042 };
    let records = [
        Record::Identity(Identity { coordinator_id: acme(), key: [9; 32] }),
        Record::Lease { life, until: 100 },
        Record::Decided(commit(&gtid)),
        Record::Ended { gtid: gtid.clone() },
        Record::Carried(Box::new(crate::protocol::record::Carried {
            position: 9,
            running_ms: 5,
            record: Record::Delegated(commit(&gtid)),
        })),
    ];
    records.iter().map(|record| codec::encode(record).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use crate::bounded::run;

    #[test]
    fn any_bytes_are_a_record_or_refused_with_a_reason() {
        run("record", 20_000, super::records(), super::record);
    }

    #[test]
    fn a_journal_patched_anyhow_is_opened_or_refused_by_name() {
        run("journal", 4_000, super::patches(), super::journal);
    }

    #[test]
    fn salvage_walks_over_anything() {
        run("salvage", 2_000, super::patches(), super::salvaged);
    }
}
