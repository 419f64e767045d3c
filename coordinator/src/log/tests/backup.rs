//! Backups of real logs, and the way back.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use votum_proto::names::Epoch;

use super::files::{Place, Running};
use super::world::*;
use crate::log::backup::{backup, restore};
use crate::log::config::{INITIALIZING_FILE, LOCK_FILE, RESTORED_FILE};
use crate::log::{Refusal, RefusalKind, Restored};
use crate::protocol::record::*;

/// A log with a commit of each seq up to `commits`, which was closed.
fn place(commits: u64) -> Place {
    let place = Place::initialized();
    let mut running = place.open();
    running.history();
    let life = running.opened.life;
    running.append((1..=commits).map(|seq| forced(seq, Record::Decided(commit(&gtid(life, seq))))).collect());
    running.close();
    place
}

fn refused<T>(result: Result<T, Refusal>) -> RefusalKind {
    result.err().unwrap().kind
}

fn restored(running: &Running) -> Option<Restored> {
    running.opened.restored.clone()
}

fn files(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && !path.ends_with(LOCK_FILE));
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn a_backup_of_a_log_that_is_written_to_holds_what_was_acknowledged_before_it_began() {
    let place = Place::initialized();
    let (acknowledged, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut running = place.open();
    running.history();
    let life = running.opened.life;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut running = running;
            let mut seq = 0;
            while !enough.load(Ordering::Relaxed) {
                seq += 1;
                let gtid = gtid(life, seq);
                let decided = forced(2 * seq, Record::Decided(commit(&gtid)));
                running.append(vec![decided, forced(2 * seq + 1, Record::Ended { gtid })]);
                acknowledged.store(seq, Ordering::SeqCst);
            }
            running.close();
        });
        for round in 0..20u64 {
            // Some rounds begin in the middle of a half, some at its end.
            while acknowledged.load(Ordering::SeqCst) < round * 37 {
                std::thread::yield_now();
            }
            let before = acknowledged.load(Ordering::SeqCst);
            let copy = Place::nothing();
            let report = backup(&place.path(), &copy.path()).unwrap();
            assert_eq!(report.identity, Some(identity_of(&place)));
            let mut again = copy.open();
            let history = again.history();
            for seq in 1..=before {
                assert!(history.transaction(&gtid(life, seq)).unwrap().decided.is_some(), "{round}: {seq}");
            }
            assert!(restored(&again).is_some(), "a backup that is put in place by hand says what it is");
            again.close();
        }
        enough.store(true, Ordering::Relaxed);
        writing.join().unwrap();
    });
}

fn identity_of(place: &Place) -> Identity {
    let copy = Place::nothing();
    backup(&place.path(), &copy.path()).unwrap().identity.unwrap()
}

#[test]
fn a_backup_goes_over_nothing_and_changes_nothing_where_it_comes_from() {
    let place = place(3);
    let before = files(&place.path());
    let copy = Place::nothing();
    backup(&place.path(), &copy.path()).unwrap();
    assert!(files(&place.path()) == before, "what was backed up has changed");
    let first = files(&copy.path());
    assert_eq!(refused(backup(&place.path(), &copy.path())), RefusalKind::NotEmpty);
    assert_eq!(refused(restore(&place.path(), &copy.path())), RefusalKind::NotEmpty);
    assert!(files(&copy.path()) == first, "a backup was changed");
    let other = Place::nothing();
    std::fs::create_dir_all(other.path()).unwrap();
    std::fs::write(other.file("letter.txt"), "dear").unwrap();
    assert_eq!(refused(backup(&place.path(), &other.path())), RefusalKind::NotEmpty);
    assert_eq!(
        refused(backup(&Place::nothing().path(), &Place::nothing().path())),
        RefusalKind::NotInitialized
    );
}

#[test]
fn a_copy_that_was_interrupted_is_no_log_and_is_made_again() {
    let place = place(3);
    let copy = Place::nothing();
    backup(&place.path(), &copy.path()).unwrap();
    std::fs::write(copy.file(INITIALIZING_FILE), "").unwrap();
    assert_eq!(refused(restore(&copy.path(), &Place::nothing().path())), RefusalKind::NotInitialized);
    backup(&place.path(), &copy.path()).unwrap();
    copy.open().close();
}

#[test]
fn a_damaged_log_is_backed_up_as_nothing_that_anybody_would_open() {
    let place = place(300);
    let mut bytes = std::fs::read(place.file("journal-a")).unwrap();
    bytes[4096] ^= 1;
    std::fs::write(place.file("journal-a"), bytes).unwrap();
    let copy = Place::nothing();
    assert_eq!(refused(backup(&place.path(), &copy.path())), RefusalKind::Damaged);
    assert_eq!(refused(restore(&copy.path(), &Place::nothing().path())), RefusalKind::NotInitialized);
}

#[test]
fn a_restored_log_says_so_at_every_start_until_a_person_has_written_off_what_it_lacks() {
    let place = place(3);
    let (copy, back) = (Place::nothing(), Place::nothing());
    backup(&place.path(), &copy.path()).unwrap();
    restore(&copy.path(), &back.path()).unwrap();
    let mut through = None;
    assert_eq!(restored(&place.open()), None, "what was backed up is no backup");
    for _ in 0..2 {
        let mut running = back.open();
        running.history();
        let Restored { through: epoch, what } = restored(&running).unwrap();
        assert!(what.contains("epoch 1, position"), "{what}");
        assert!(epoch > running.opened.life.epoch, "as many lives as may have begun since");
        assert_eq!(through.replace(epoch).unwrap_or(epoch), epoch, "it is the same at every start");
        running.append(vec![forced(1, written_off(5))]);
        running.close();
    }
    let through = through.unwrap();
    let mut running = back.open();
    running.append(vec![forced(1, written_off(through.0))]);
    assert!(restored(&running).is_some());
    running.close();
    for _ in 0..2 {
        let running = back.open();
        assert_eq!(restored(&running), None);
        assert!(!back.file(RESTORED_FILE).exists());
        assert!(running.opened.life.epoch > through);
        assert_eq!(running.opened.written_off, Some(through));
        running.close();
    }
    assert!(Epoch(1) < through);
}

#[test]
fn a_restored_log_that_does_not_say_what_was_restored_is_not_taken_for_whole() {
    let (place, back) = (place(3), Place::nothing());
    restore(&place.path(), &back.path()).unwrap();
    std::fs::write(back.file(RESTORED_FILE), "?").unwrap();
    let refusal = back.try_open().err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::Damaged);
    assert!(refusal.to_string().contains(RESTORED_FILE), "{refusal}");
}
