//! EIO and ENOSPC at each call upon each file, by a process that begins a log, opens one, works on one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use super::child::{EXIT_LOG_FAILED, EXIT_REFUSED, Role, Said, run};
use super::place::{BEFORE, Expected, Place, judge, judge_owed};
use super::tracer::{Call, Fault, hang, inject, observe};

/// How many transactions a child commits: the journal changes halves meanwhile.
const COMMITS: u64 = 30;

/// The faults to try, of a process that makes `calls`: each call's first, last and one between, or all.
fn faults(calls: impl IntoIterator<Item = (Call, u64)>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (call, count) in calls {
        let takes_space = ["write", "pwrite64", "fallocate", "ftruncate", "mkdir", "rename", "openat"]
            .contains(&&*call.name);
        let errors: &[&'static str] = if takes_space { &["EIO", "ENOSPC"] } else { &["EIO"] };
        let mut nths: Vec<u64> =
            if super::full() { (1..=count).collect() } else { vec![1, count.div_ceil(2), count] };
        nths.dedup();
        for nth in nths {
            for (at, error) in errors.iter().copied().enumerate() {
                // A few: one error or the other.
                if super::full() || (nth as usize + at).is_multiple_of(errors.len()) {
                    faults.push(Fault { call: call.clone(), error, nth, for_good: nth % 2 == 0 });
                }
            }
        }
    }
    faults
}

/// Tries each fault, two at a time; how many were met.
fn try_each(faults: Vec<Fault>, attempt: impl Fn(&Fault) -> bool + Sync) -> usize {
    let (total, met, failed) = (faults.len(), Mutex::new(0), Mutex::new(Vec::new()));
    let queue = Mutex::new(faults.into_iter().enumerate());
    let next = || queue.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((number, fault)) = next() {
                    if super::full() && number % 50 == 0 {
                        println!("{number} of {total}: {fault}");
                    }
                    match catch_unwind(AssertUnwindSafe(|| attempt(&fault))) {
                        Ok(was_met) => *met.lock().unwrap() += usize::from(was_met),
                        Err(_) => failed.lock().unwrap().push(fault.to_string()),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {total} failed, see above: {failed:#?}", failed.len());
    met.into_inner().unwrap()
}

/// A refusal at a start or a beginning names the file and says what to do.
#[track_caller]
pub(crate) fn is_a_good_refusal(refusal: &str, directory: &Path, why: &str) {
    let names_it = refusal.contains(&directory.display().to_string());
    assert!(
        names_it && refusal.contains("VOTUM-11") && refusal.contains("What to do"),
        "{why}: not a refusal that helps: {refusal}"
    );
}

/// A child that met an error ended in one of the ways that are allowed, and said so.
#[track_caller]
fn ended_well(said: &Said, directory: &Path, why: &str) {
    match said.code {
        Some(0) => {}
        Some(EXIT_REFUSED) => {
            is_a_good_refusal(said.refused.as_deref().unwrap_or_default(), directory, why);
        }
        Some(EXIT_LOG_FAILED) => assert!(said.life.is_some(), "{why}: {said:?}"),
        code => panic!("{why}: ended with {code:?}: {}", said.transcript),
    }
    if let Some(unreadable) = &said.unreadable {
        is_a_good_refusal(unreadable, directory, why);
    }
}

/// I3, I11, I13: errors of writes and syncs while it works, at the start, while halves change.
#[test]
fn an_error_of_any_call_upon_the_log_loses_nothing_that_was_acknowledged() {
    let place = Place::worked();
    let example = place.copy();
    let (calls, _, said) = observe(Role::Commit(COMMITS), &example.log());
    assert_eq!((said.code, said.committed), (Some(0), COMMITS), "{}", said.transcript);
    let syncs = |file: &str| {
        let call = Call { name: "fdatasync".into(), file: file.into() };
        calls.get(&call).copied().unwrap_or(0)
    };
    assert!(syncs("journal-a") > 2 && syncs("journal-b") > 2 && syncs("store/db") > 0, "{calls:?}");

    let met = try_each(faults(calls), |fault| {
        let place = place.copy();
        let (said, met) = inject(Role::Commit(COMMITS), &place.log(), fault);
        let why = fault.to_string();
        ended_well(&said, &place.log(), &why);
        let must_fail = ["fdatasync", "fsync", "pwrite64"].contains(&&*fault.call.name)
            && fault.call.file.starts_with("journal-a");
        assert!(!(met && must_fail && said.code == Some(0)), "{why}: nobody noticed it: {}", said.transcript);
        let mut expected = vec![Expected { life: place.life, acknowledged: BEFORE }];
        if let Some(life) = said.life {
            expected.push(Expected { life, acknowledged: said.committed });
        }
        if fault.call == (Call { name: "pread64".into(), file: "store/db".into() }) {
            // The disk gives sled an error for what it gave us a moment before: then sled overwrites it.
            let (session, history) = judge_owed(&place.log(), &expected, &why);
            if let Err(unreadable) = history {
                is_a_good_refusal(&unreadable, &place.log(), &why);
            }
            session.close();
        } else {
            judge(&place.log(), &expected, &why);
        }
        met
    });
    assert!(met >= 20, "only {met} faults were met");
}

/// I3, I11: what was acknowledged is there, and what was not is not waited for for ever.
#[test]
fn a_sync_that_hangs_ends_the_process_and_loses_nothing_that_was_acknowledged() {
    let place = Place::worked();
    let sync = Call { name: "fdatasync".into(), file: "journal-a".into() };
    for nth in [1, 3] {
        let place = place.copy();
        let (said, met) = hang(Role::CommitWithin(COMMITS, 2_000), &place.log(), &sync, nth);
        let why = format!("the {nth}. sync hangs");
        assert!(met, "{why}: {}", said.transcript);
        assert_eq!(said.code, Some(EXIT_LOG_FAILED), "{why}: {}", said.transcript);
        assert!(said.committed < COMMITS, "{why}: {}", said.transcript);
        let mut expected = vec![Expected { life: place.life, acknowledged: BEFORE }];
        if let Some(life) = said.life {
            expected.push(Expected { life, acknowledged: said.committed });
        }
        judge(&place.log(), &expected, &why);
    }
}

/// A log is there whole or not at all: one whose beginning met an error is not opened, and is begun again.
#[test]
fn an_error_while_a_log_is_made_leaves_a_directory_that_can_be_initialized_again() {
    let example = tempfile::tempdir().unwrap();
    let (calls, _, said) = observe(Role::Initialize, &example.path().join("log"));
    assert_eq!(said.code, Some(0), "{}", said.transcript);
    let met = try_each(faults(calls), |fault| {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("log");
        let (said, met) = inject(Role::Initialize, &directory, fault);
        let why = fault.to_string();
        ended_well(&said, &directory, &why);
        if said.code != Some(0) {
            let opened = run(Role::Commit(1), &directory, &[]);
            if opened.code == Some(EXIT_REFUSED) {
                let refusal = opened.refused.unwrap();
                assert!(refusal.contains("VOTUM-1101"), "{why}: {refusal}");
                let again = run(Role::Initialize, &directory, &[]);
                assert_eq!(again.code, Some(0), "{why}: {}", again.transcript);
            } else {
                // All that was left to be done was to force the name of the directory.
                assert_eq!(opened.code, Some(0), "{why}: {}", opened.transcript);
            }
        }
        let worked = run(Role::Commit(1), &directory, &[]);
        assert_eq!((worked.code, worked.committed), (Some(0), 1), "{why}: {}", worked.transcript);
        met
    });
    assert!(met >= 20, "only {met} faults were met");
}

/// After an error of a sync the page cache shows what the disk does not hold: every file is forced and
/// forgotten before it is read.
#[test]
fn a_start_forces_every_file_before_it_reads_any() {
    let place = Place::worked();
    let (_, order, said) = observe(Role::Commit(0), &place.log());
    assert_eq!(said.code, Some(0), "{}", said.transcript);
    for file in ["journal-a", "journal-b", "store/db"] {
        let first = |names: &[&str]| {
            order
                .iter()
                .position(|call| names.contains(&&*call.name) && call.file == Path::new(file))
                .unwrap()
        };
        let (forced, read) = (first(&["fsync"]), first(&["read", "pread64"]));
        assert!(forced < read, "{file} is read before it is forced: {order:?}");
    }
}
