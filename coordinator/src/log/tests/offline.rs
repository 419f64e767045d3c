//! Looking at a stopped log.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::files::Place;
use super::world::*;
use crate::log::RefusalKind;
use crate::log::offline::{dump, open_history, verify};
use crate::log::salvage::{Trust, salvage};
use crate::protocol::record::*;

/// A stopped log, long enough that the journal has changed halves.
fn stopped() -> (Place, votum_proto::names::Life) {
    let place = Place::initialized();
    let mut running = place.open();
    let life = running.opened.life;
    running.history();
    for seq in 1..=600u64 {
        let gtid = gtid(life, seq);
        running.append(vec![forced(2 * seq, Record::Decided(commit(&gtid)))]);
        if seq != 300 {
            running.append(vec![forced(2 * seq + 1, Record::Ended { gtid })]);
        }
    }
    running.close();
    (place, life)
}

fn bytes(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in [place.path(), place.file("store")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                found.insert(path.display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_stopped_log_answers_questions_and_not_a_byte_of_it_changes() {
    let (place, life) = stopped();
    let before = bytes(&place);
    let log = open_history(&place.path()).unwrap();
    assert_eq!(log.identity.coordinator_id, acme());
    assert_eq!((log.lives.len(), log.owed.len()), (1, 1));
    assert!(log.history.transaction(&gtid(life, 1)).unwrap().ended);
    assert_eq!(log.history.newest(1).unwrap(), [gtid(life, 600)]);
    drop(log);
    let report = verify(&place.path());
    assert!(report.problems.is_empty() && report.warnings.is_empty(), "{report:?}");
    assert_eq!((report.owed, report.lives.len()), (1, 1));
    let mut positions = Vec::new();
    let problems = dump(&place.path(), |dumped| {
        if !matches!(dumped.record, Record::Carried(_)) {
            positions.push(dumped.position);
        }
        ControlFlow::Continue(())
    });
    assert!(problems.unwrap().is_empty());
    assert!(positions.is_sorted() && positions.len() == 3 + 600 + 599, "{}", positions.len());
    assert_eq!(bytes(&place), before);
}

#[test]
fn a_running_log_is_not_looked_at_from_outside() {
    let place = Place::initialized();
    let running = place.open();
    assert_eq!(open_history(&place.path()).err().unwrap().kind, RefusalKind::InUse);
    assert_eq!(verify(&place.path()).problems[0].kind, RefusalKind::InUse);
    running.close();
    assert!(verify(&place.path()).problems.is_empty());
}

#[test]
fn salvage_finds_what_is_left_of_a_damaged_log_and_calls_it_doubtful() {
    let (place, _) = stopped();
    let count = || {
        let (mut sure, mut doubtful) = (0, 0);
        let problems = salvage(&place.path(), |salvaged| {
            assert!(salvaged.record.is_ok());
            match (salvaged.trust, salvaged.offset) {
                (Trust::InChain, _) => sure += 1,
                (Trust::Doubtful, Some(_)) => doubtful += 1,
                (Trust::Doubtful, None) => {}
            }
            ControlFlow::Continue(())
        });
        (sure, doubtful, problems.unwrap().len())
    };
    let (sure, _, problems) = count();
    assert!(sure > 300 && problems == 0);
    let newest = verify(&place.path()).newest.unwrap();
    let mut damaged = std::fs::read(&newest).unwrap();
    damaged[20] ^= 1;
    std::fs::write(&newest, damaged).unwrap();
    assert_eq!(verify(&place.path()).problems[0].kind, RefusalKind::Damaged);
    let (sure, doubtful, problems) = count();
    assert!(sure == 0 && doubtful > 100 && problems == 1, "{sure} {doubtful} {problems}");
}

#[test]
fn a_dump_gives_what_the_journal_holds_when_the_store_is_gone() {
    let (place, _) = stopped();
    std::fs::remove_dir_all(place.file("store")).unwrap();
    let mut records = 0;
    let problems = dump(&place.path(), |_| {
        records += 1;
        ControlFlow::Continue(())
    });
    assert!(problems.unwrap().len() == 1 && records > 10);
    let report = verify(&place.path());
    assert_eq!((report.problems.len(), report.owed), (1, 1));
}
