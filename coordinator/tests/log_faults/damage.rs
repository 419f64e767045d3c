//! What a disk gives back is not what was written: bits, ends of files, whole files, in every file of a log.

use std::path::{Path, PathBuf};

use votum_coordinator::log::offline::verify;
use votum_coordinator::log::{OnFailure, RefusalKind};

use super::kernel_errors::is_a_good_refusal;
use super::place::{BEFORE, Expected, Place, Session, copy, judge, judge_owed};

/// Batches begin at multiples of this, and at the bytes of their header that are listed below.
const ALIGN: usize = 64;
const MAGIC: [u8; 4] = [0xff, b'V', b'T', 0xfe];
/// One byte of each field of a header; then a record's length, its version, kind and body.
const CLASSES: [usize; 19] = [0, 4, 5, 6, 8, 16, 24, 32, 36, 40, 44, 48, 52, 56, 60, 64, 66, 67, 90];

/// What became of a damaged log.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Served,
    StoreLost,
    Refused(RefusalKind),
}

/// Opens it, as a start would: served with all that was acknowledged, or refused, and verify says the same.
#[track_caller]
fn fate(place: &Place, why: &str) -> Fate {
    let report = verify(&place.log());
    for problem in &report.problems {
        is_a_good_refusal(&problem.to_string(), &place.log(), why);
    }
    let expected = [Expected { life: place.life, acknowledged: BEFORE }];
    match Session::open(&place.log(), OnFailure::Latch) {
        Err(refusal) => {
            is_a_good_refusal(&refusal.to_string(), &place.log(), why);
            assert_eq!(report.problems.first().map(|problem| problem.kind), Some(refusal.kind), "{why}");
            return Fate::Refused(refusal.kind);
        }
        Ok(session) => session.close(),
    }
    if report.problems.is_empty() {
        judge(&place.log(), &expected, why);
        return Fate::Served;
    }
    let (session, history) = judge_owed(&place.log(), &expected, why);
    let unreadable = history.err().unwrap_or_else(|| panic!("{why}: verify alone complains: {report:?}"));
    is_a_good_refusal(&unreadable, &place.log(), why);
    session.close();
    Fate::StoreLost
}

/// A copy of `place` with one file changed.
fn changed(place: &Place, file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Place {
    let copy = place.copy();
    let path = copy.log().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    copy
}

fn files(place: &Place) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["", "store"] {
        for entry in std::fs::read_dir(place.log().join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                files.push(Path::new(folder).join(entry.file_name()));
            }
        }
    }
    files.sort();
    files
}

/// Where batches begin, in a journal.
fn batches(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).step_by(ALIGN).filter(|at| bytes[*at..].starts_with(&MAGIC)).collect()
}

/// The offsets to try in a file: a byte of each class, of each batch, or of some; elsewhere evenly.
fn offsets(file: &Path, bytes: &[u8]) -> Vec<usize> {
    if file.to_string_lossy().starts_with("journal") {
        let batches = batches(bytes);
        let step = if super::full() { 1 } else { batches.len().div_ceil(3).max(1) };
        let mut offsets = Vec::new();
        for (number, at) in batches.iter().rev().step_by(step).enumerate() {
            let few = CLASSES.iter().skip(number % 3).step_by(if super::full() { 1 } else { 3 });
            offsets.extend(few.map(|class| at + class));
        }
        return offsets;
    }
    let samples = if super::full() { 400 } else { 16 };
    (0..bytes.len()).step_by((bytes.len() / samples).max(1)).collect()
}

/// No decision that is owed, and none that was told, is ever lost in silence or becomes another one.
#[test]
fn a_flipped_bit_in_any_file_is_harmless_or_refused_with_its_place() {
    let place = Place::worked();
    let (mut served, mut refused, mut lost) = (0, 0, 0);
    for file in files(&place) {
        let bytes = std::fs::read(place.log().join(&file)).unwrap();
        for offset in offsets(&file, &bytes) {
            let why = format!("bit {} of byte {offset} of {}", offset % 8, file.display());
            let damaged = changed(&place, &file, |bytes| bytes[offset] ^= 1 << (offset % 8));
            match fate(&damaged, &why) {
                Fate::Served => served += 1,
                Fate::StoreLost => lost += 1,
                Fate::Refused(kind) => {
                    let known = [RefusalKind::Damaged, RefusalKind::Truncated, RefusalKind::UnknownFormat];
                    assert!(known.contains(&kind), "{why}: {kind:?}");
                    refused += 1;
                }
            }
        }
    }
    println!("served {served}, refused {refused}, without its store {lost}");
    assert!(served > 0 && refused > 10 && lost > 0, "{served} {refused} {lost}");
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    let place = Place::worked();
    for file in files(&place) {
        let bytes = std::fs::read(place.log().join(&file)).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let journal = file.to_string_lossy().starts_with("journal");
        let mut ends = vec![0, 1, bytes.len() / 2, bytes.len() - 1];
        if journal {
            let batches = batches(&bytes);
            let step = if super::full() { 1 } else { batches.len().div_ceil(4).max(1) };
            ends.extend(batches.iter().step_by(step).flat_map(|at| [*at, at + ALIGN, at + ALIGN + 9]));
        }
        for end in ends {
            let why = format!("{} ends at byte {end} of {}", file.display(), bytes.len());
            let fate = fate(&changed(&place, &file, |bytes| bytes.truncate(end)), &why);
            let expected = match &fate {
                Fate::Refused(RefusalKind::Truncated | RefusalKind::Damaged) => journal,
                Fate::Served | Fate::StoreLost => !journal,
                Fate::Refused(_) => false,
            };
            assert!(expected, "{why}: {fate:?}");
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let place = Place::worked();
    for file in ["journal-a", "journal-b", "store/db"] {
        let copy = place.copy();
        std::fs::remove_file(copy.log().join(file)).unwrap();
        let expected = match file {
            "store/db" => Fate::StoreLost,
            _ => Fate::Refused(RefusalKind::MissingFile),
        };
        assert_eq!(fate(&copy, file), expected, "{file}");
    }
}

/// Files from different days, put together: never a history that was not.
#[test]
fn a_file_of_an_older_copy_is_refused_or_harmless() {
    let place = Place::worked();
    let older = place.copy();
    let mut session = Session::open(&place.log(), OnFailure::Latch).unwrap();
    session.history().unwrap();
    session.work(BEFORE, |_| {});
    let since = Expected { life: session.opened.life, acknowledged: BEFORE };
    session.close();
    for file in ["journal-a", "journal-b", "store"] {
        let mixed = place.copy();
        let target = mixed.log().join(file);
        match file {
            "store" => std::fs::remove_dir_all(&target).unwrap(),
            _ => std::fs::remove_file(&target).unwrap(),
        }
        copy(&older.log().join(file), &target);
        let fate = fate(&mixed, file);
        match file {
            "store" => assert_eq!(fate, Fate::StoreLost, "what the journal let go of is not in this store"),
            _ if fate == Fate::Served => {
                judge(&mixed.log(), &[since, Expected { life: place.life, acknowledged: BEFORE }], file);
            }
            _ => assert!(
                matches!(fate, Fate::Refused(RefusalKind::HalvesDisagree | RefusalKind::Damaged)),
                "{file}: {fate:?}"
            ),
        }
    }
}
