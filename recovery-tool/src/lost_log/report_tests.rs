//! What is written into a report, and read of it again.

use super::*;

fn acme() -> CoordinatorId {
    "acme".parse().unwrap()
}

fn gtid() -> Gtid {
    "acme-7-3f9ac2-1042".parse().unwrap()
}

fn run() -> Entry {
    Entry::Run {
        coordinator_id: "acme".into(),
        version: "0.1.0".into(),
        operator: "ada".into(),
        reason: "4714".into(),
        databases: Vec::new(),
    }
}

fn prepared() -> Prepared {
    Prepared {
        participant: "bank-a".into(),
        system_identifier: u64::MAX.to_string(),
        gid: "votum_acme_7_3f9ac2_1042_0_2".into(),
        xid: 731,
        owner: "votum".into(),
        prepared_at: "2026-11-22T06:40:00Z".into(),
    }
}

fn decided(action: Action) -> Entry {
    Entry::Decided {
        gtid: gtid(),
        action: super::super::word(action).to_owned(),
        verdict: "person".into(),
        operator: Some("ada".into()),
        reason: Some("4714".into()),
        known: String::new(),
        prepared: vec![prepared()],
        markers: Vec::new(),
    }
}

fn attempt() -> Entry {
    Entry::Attempt { gtid: gtid(), branch: prepared(), statement: "COMMIT PREPARED '…'".into() }
}

fn result() -> Entry {
    Entry::Result { gtid: gtid(), branch: prepared(), result: Outcome::Done, detail: None }
}

/// A directory, and in it a report of these entries.
fn written(entries: &[Entry]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report");
    let (mut report, earlier) = Report::open(&path, &acme()).unwrap();
    assert_eq!(earlier, Earlier::default());
    entries.iter().for_each(|entry| report.append(entry, 1).unwrap());
    (dir, path)
}

#[test]
fn what_was_written_is_read_again_and_the_first_decision_stands() {
    let entries = [run(), decided(Action::Commit), attempt(), run(), decided(Action::RollBack)];
    let (_dir, path) = written(&entries);
    let earlier = earlier(&path, &acme()).unwrap();
    assert_eq!(earlier.decided[&gtid()].action, Action::Commit);
    assert_eq!(earlier.open, [(gtid(), prepared())]);
    let name = ("bank-a".to_owned(), prepared().gid);
    assert_eq!(earlier.xids[&name], [731].into());
    let (_dir, path) = written(&[run(), attempt(), result()]);
    assert_eq!(super::earlier(&path, &acme()).unwrap().open, []);
}

#[test]
fn a_line_that_an_interrupted_run_left_unfinished_is_passed_over_and_stays() {
    let (_dir, path) = written(&[run(), decided(Action::Commit), attempt()]);
    let whole = std::fs::read(&path).unwrap();
    assert!((0..whole.len()).all(|length| read(&text(&whole[..length]), &acme()).is_ok()));
    for length in (0..whole.len()).step_by(11) {
        let left = &whole[..length];
        std::fs::write(&path, left).unwrap();
        let (mut report, _) = Report::open(&path, &acme()).unwrap();
        report.append(&run(), 2).unwrap();
        report.append(&decided(Action::RollBack), 2).unwrap();
        drop(report);
        let again = earlier(&path, &acme()).unwrap();
        let complete = |line: &&[u8]| serde_json::from_slice::<serde_json::Value>(line).is_ok();
        let lines = left.split(|byte| *byte == b'\n').filter(complete).count();
        let stands = if lines >= 2 { Action::Commit } else { Action::RollBack };
        assert_eq!(again.decided[&gtid()].action, stands, "{length} bytes");
        assert!(std::fs::read(&path).unwrap().starts_with(left), "evidence was taken away");
    }
}

#[test]
fn what_is_no_report_or_another_coordinators_is_refused() {
    let (_dir, path) = written(&[run(), decided(Action::Commit)]);
    let whole = std::fs::read_to_string(&path).unwrap();
    assert!(earlier(&path, &"other".parse().unwrap()).is_err());
    let (first, rest) = whole.split_once('\n').unwrap();
    let torn_within = format!("{first}\n{{\"at\n{rest}");
    for text in ["listen = 3\nsessions = 4\n", rest, &torn_within] {
        std::fs::write(&path, text).unwrap();
        assert!(earlier(&path, &acme()).is_err(), "{text}");
        assert!(Report::open(&path, &acme()).is_err(), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "it was written to");
    }
}

#[test]
fn two_runs_never_write_to_one_report() {
    let (_dir, path) = written(&[]);
    let (first, _) = Report::open(&path, &acme()).unwrap();
    let refused = Report::open(&path, &acme()).unwrap_err();
    assert!(refused.message.contains("another run"), "{refused}");
    drop(first);
    assert!(Report::open(&path, &acme()).is_ok());
}
