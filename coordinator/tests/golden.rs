//! Logs that earlier versions wrote, kept in `tests/golden`: every version reads every one of them, for ever,
//! and finds in it what was written.
//!
//! Each directory there holds a log of one version: `log.tar.xz`, and `dump.txt`, what it says. They were made
//! by `make_a_golden_log` below, run by the version that they are of:
//!
//! ```text
//! VOTUM_MAKE_GOLDEN=tests/golden/0.1.0 cargo test -p votum-coordinator --test golden -- --ignored
//! ```
//!
//! A new one is added when the form of a record or a file changes; none is ever changed or taken away.

#![cfg(test)] // clippy then lets helpers fail as tests do

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use votum_coordinator::log::codec::encode;
use votum_coordinator::log::offline::{dump, open_history, verify};
use votum_coordinator::log::{Entry, LogConfig, LogEvent, OnFailure, Opened, initialize, open};
use votum_coordinator::protocol::record::*;
use votum_proto::names::{CoordinatorId, Gid, Gtid, Life};
use votum_proto::runtime::Seams;

const MAKE: &str = "VOTUM_MAKE_GOLDEN";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn acme() -> CoordinatorId {
    "acme".parse().unwrap()
}

fn config(directory: &Path) -> LogConfig {
    LogConfig {
        half_bytes: 64 << 10,
        cache_bytes: 1 << 20,
        on_failure: OnFailure::Latch,
        ..LogConfig::new(directory)
    }
}

/// Every golden log, unpacked.
fn unpacked() -> Vec<(PathBuf, tempfile::TempDir)> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(golden()).unwrap() {
        let version = entry.unwrap().path();
        if !version.is_dir() {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xJf").arg(version.join("log.tar.xz")).arg("-C").arg(folder.path());
        assert!(tar.status().unwrap().success(), "{} cannot be unpacked", version.display());
        logs.push((version, folder));
    }
    assert!(!logs.is_empty(), "no golden log in {}", golden().display());
    logs
}

/// What a log says, position by position: where it stands, when it was written, its kind, whose it is, and all
/// of it in the form that never changes.
fn dumped(directory: &Path) -> String {
    let mut text = String::new();
    let problems = dump(directory, |found| {
        let source = found.source.file_name().unwrap().to_string_lossy().into_owned();
        let (position, at, kind) = (found.position, found.running_ms, found.record.kind());
        let of = found.record.gtid().map(|gtid| format!(" of {gtid}")).unwrap_or_default();
        write!(text, "{position} {source} at {at} ms {kind}{of} ").unwrap();
        for byte in encode(&found.record).unwrap() {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
        ControlFlow::Continue(())
    });
    assert_eq!(problems.unwrap(), [], "in {}", directory.display());
    text
}

#[test]
fn every_log_of_an_earlier_version_says_what_it_said() {
    for (version, folder) in unpacked() {
        let directory = folder.path().join("log");
        let expected = std::fs::read_to_string(version.join("dump.txt")).unwrap();
        let found = dumped(&directory);
        for (line, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
            assert_eq!(found, expected, "line {} of {}", line + 1, version.display());
        }
        assert_eq!(found.lines().count(), expected.lines().count(), "{}", version.display());
        let report = verify(&directory);
        assert!(report.problems.is_empty() && report.warnings.is_empty(), "{report:?}");
    }
}

/// A life begins in it, works, and what was there before is there afterwards.
#[test]
fn every_log_of_an_earlier_version_is_carried_on() {
    for (version, folder) in unpacked() {
        let directory = folder.path().join("log");
        let name = version.display();
        let before = open_history(&directory).unwrap();
        let owed: Vec<_> = before.owed.iter().map(|owed| owed.decided.clone()).collect();
        let known = before.history.newest(1000).unwrap();
        let lives = before.lives.len();
        drop(before);
        assert!(!owed.is_empty() && known.len() > owed.len(), "{name}");

        let mut opened = open(config(&directory), &acme(), Seams::production()).unwrap();
        assert_eq!(opened.owed.iter().map(|owed| owed.decided.clone()).collect::<Vec<_>>(), owed, "{name}");
        counted(&mut opened);
        let life = opened.life;
        append(&mut opened, &mut 0, vec![Record::Decided(decided(&gtid(life, 1), 2, Decision::Commit))]);
        close(opened);

        let after = open_history(&directory).unwrap();
        assert_eq!(after.lives.len(), lives + 1, "{name}");
        assert_eq!(after.owed.len(), owed.len() + 1, "{name}");
        for gtid in known {
            assert!(!after.history.transaction(&gtid).unwrap().records.is_empty(), "{name}: {gtid} is gone");
        }
    }
}

fn gtid(life: Life, seq: u64) -> Gtid {
    Gtid { coordinator_id: acme(), life, seq }
}

fn decided(gtid: &Gtid, branches: u16, decision: Decision) -> Decided {
    let branch = |number: u16| PreparedBranch {
        number,
        participant: format!("bank-{number}").parse().unwrap(),
        xid8: 700 + u64::from(number),
        system_identifier: 7_300_000_000_000_000_001,
        timeline: 1,
        marker: number == 1,
    };
    let key = KeyRecord { client: "shop".into(), key: format!("order-{}", gtid.seq), request_hash: [7; 32] };
    Decided {
        gtid: gtid.clone(),
        key: (decision == Decision::Commit).then_some(key),
        decision,
        branches_named: branches,
        branches: (0..branches).map(branch).collect(),
        label: format!("transfer {}", gtid.seq),
    }
}

fn counted(opened: &mut Opened) {
    while !matches!(opened.events.blocking_recv().unwrap(), LogEvent::Counted { .. }) {}
}

fn append(opened: &mut Opened, token: &mut u64, records: Vec<Record>) {
    let entries = records.into_iter().map(|record| {
        *token += 1;
        Entry { token: *token, record, forced: true }
    });
    opened.log.append(entries.collect());
    let last = *token;
    while !matches!(opened.events.blocking_recv().unwrap(), LogEvent::Durable { through, .. } if through >= last)
    {
    }
}

fn close(mut opened: Opened) {
    opened.log.close();
    while !matches!(opened.events.blocking_recv().unwrap(), LogEvent::Closed) {}
}

/// Every kind of record, every kind of each kind, over three lives and changes of halves.
#[test]
#[ignore = "writes a directory into the repository"]
fn make_a_golden_log() {
    let target =
        std::env::var_os(MAKE).map(PathBuf::from).unwrap_or_else(|| panic!("{MAKE} names no directory"));
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target);
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("log");
    initialize(&config(&directory), &acme(), &*Seams::production().entropy).unwrap();
    for number in 1..=3 {
        let mut opened = open(config(&directory), &acme(), Seams::production()).unwrap();
        counted(&mut opened);
        write_life(&mut opened, number);
        close(opened);
    }
    std::fs::remove_file(directory.join("lock")).unwrap();
    std::fs::create_dir_all(&target).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "-cJf"]).arg(target.join("log.tar.xz"));
    assert!(tar.arg("-C").arg(folder.path()).arg("log").status().unwrap().success());
    std::fs::write(target.join("dump.txt"), dumped(&directory)).unwrap();
}

fn write_life(opened: &mut Opened, number: u64) {
    let life = opened.life;
    let mut token = 0;
    let kinds = [
        AbortKind::RolledBack,
        AbortKind::Timeout,
        AbortKind::VotedNo,
        AbortKind::BranchLost,
        AbortKind::Coordinator,
    ];
    for seq in 1..=24 + 12 * number {
        let gtid = gtid(life, seq);
        let begun = Begun {
            gtid: gtid.clone(),
            label: format!("transfer {seq}"),
            client: "shop".into(),
            timeout_ms: 60_000,
        };
        let reason = AbortReason {
            kind: kinds[usize::try_from(seq).unwrap() % kinds.len()],
            participant: Some("bank-1".parse().unwrap()),
            sqlstate: "23505".into(),
            message: "duplicate key".into(),
        };
        let gid = Gid { gtid: gtid.clone(), branch: 1, branches: 2 };
        let heuristic = |kind| {
            Record::Heuristic(Heuristic {
                gid: gid.clone(),
                participant: "bank-1".parse().unwrap(),
                xid8: 701,
                kind,
                detail: "gone".into(),
            })
        };
        let resolved = Record::Resolved(Resolved {
            gid: gid.clone(),
            participant: "bank-1".parse().unwrap(),
            xid: 701,
            commit: seq % 2 == 0,
            operator: "ann".into(),
            reason: "the disk of bank-1 is gone".into(),
        });
        let commit = Record::Decided(decided(&gtid, 2, Decision::Commit));
        let ended = Record::Ended { gtid: gtid.clone() };
        let mut records = vec![Record::Begun(begun)];
        records.extend(match seq % 12 {
            0 => vec![commit],
            1 => vec![Record::Decided(decided(&gtid, 3, Decision::Abort(reason)))],
            2 => vec![Record::Delegated(decided(&gtid, 1, Decision::Commit))],
            3 => vec![commit, heuristic(HeuristicKind::Rollback), ended],
            4 => vec![commit, heuristic(HeuristicKind::Hazard), heuristic(HeuristicKind::Mended), ended],
            5 => vec![commit, heuristic(HeuristicKind::Hazard), resolved, ended],
            6 => vec![
                Record::Decided(decided(&gtid, 2, Decision::Abort(reason))),
                heuristic(HeuristicKind::Commit),
            ],
            7 => vec![Record::Decided(decided(&gtid, 32, Decision::Commit)), ended],
            8 => vec![Record::Lease { life, until: 10_000 + seq }, commit, ended],
            9 => Vec::new(),
            _ => vec![commit, ended],
        });
        append(opened, &mut token, records);
    }
}
