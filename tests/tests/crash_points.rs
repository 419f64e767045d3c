//! The coordinator killed at every named point of a commit, and what its restart makes of that. No program as
//! it is released knows a crash point.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use votum_client::{Error, Outcome, Status, Votum, Wait};
use votum_coordinator::crash::CrashPoint as AtCoordinator;
use votum_participant::crash::CrashPoint as AtAgent;
use votum_tests::inspect::Settled;
use votum_tests::ledger::Ledger;
use votum_tests::process::{Build, CRASH_VARIABLE, program};
use votum_tests::teller::transfer_under_key;
use votum_tests::world::World;

#[test]
fn a_program_as_it_is_released_contains_no_crash_point() {
    let coordinator: Vec<&str> = AtCoordinator::ALL.iter().map(|point| point.name()).collect();
    let agent = AtAgent::ALL.iter().map(|point| point.name()).collect();
    for (binary, names) in [("votum-coordinator", coordinator), ("votum-participant", agent)] {
        let names: BTreeSet<&str> = names.into_iter().chain([CRASH_VARIABLE]).collect();
        let found = |build| found_in(&program(build, binary).unwrap(), &names);
        assert_eq!(found(Build::Plain), BTreeSet::new(), "{binary} as it is released (see `make binaries`)");
        assert_eq!(found(Build::CrashPoints), names, "{binary} with crash points");
    }
}

/// Those of `names` that stand in a file. By grep: programs with debug information are large.
fn found_in<'a>(file: &Path, names: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let patterns = names.iter().flat_map(|name| ["-e", name]);
    let mut grep = Command::new("grep");
    grep.args(["--text", "--only-matching", "--fixed-strings"]).args(patterns);
    let output = grep.arg(file).env("LC_ALL", "C").output();
    let found = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    names.iter().copied().filter(|name| found.lines().any(|line| line == *name)).collect()
}

/// What must become of a transaction whose coordinator dies at a point.
struct Expected {
    point: &'static str,
    committed: bool,
    /// Branches that the restart commits, or rolls back, and says so.
    settled: (u64, u64),
    /// How many branches are prepared when it dies, where nobody but the test knows when they are.
    prepared: Option<u64>,
    wait: Wait,
}

/// One row for each point that every commit passes once; the crash matrix has the others.
fn expected(point: AtCoordinator, banks: u64) -> Option<Expected> {
    use AtCoordinator::{
        AfterLastPrepare, AllAcknowledged, BatchForced, BatchWritten, BeforeFirstPrepare, Begun,
        BetweenPrepares, BranchHeld, ClientTold, DecisionAppended, DecisionForced, DepartureRecorded, Ended,
        FirstParticipantTold, HalfCarried, HalfClosed, HalfStored, HandedOver, JudgedR0, JudgedR1, JudgedR1x,
        JudgedR3, JudgedR5, JudgedR6, JudgedR8, JudgedR10, JudgedR11, JudgedR12, JudgedR13, JudgedR14,
        JudgedR15, JudgedR16, LifeBegun, LogCounted, OnePhaseAnswered, RetentionDropped, RetentionDropping,
        RetentionMarked, VotesIn,
    };
    let (committed, settled) = match point {
        // Its gtid was never told: the client begins once more, and that commits.
        Begun => (true, (0, 0)),
        BeforeFirstPrepare => (false, (0, 0)),
        BetweenPrepares => (false, (0, 1)),
        AfterLastPrepare | VotesIn => (false, (0, banks)),
        // What was appended survives the process: only a machine's crash could lose it.
        DecisionAppended | DecisionForced | ClientTold | FirstParticipantTold | AllAcknowledged => {
            (true, (banks, 0))
        }
        Ended => (true, (0, 0)),
        // The crash matrix has those of a start, of the log, and of the recovery table.
        LifeBegun | LogCounted | BatchWritten | BatchForced | HalfStored | HalfCarried | HalfClosed
        | RetentionMarked | RetentionDropping | RetentionDropped | JudgedR0 | JudgedR1 | JudgedR1x
        | JudgedR3 | JudgedR5 | JudgedR6 | JudgedR8 | JudgedR10 | JudgedR11 | JudgedR12 | JudgedR14
        | JudgedR15 | JudgedR16 => return None,
        // `one_phase.rs` and `last_agent.rs` have those of a commit in one phase.
        HandedOver | OnePhaseAnswered | JudgedR13 => return None,
        // `departures.rs` has those of an operator's departure.
        BranchHeld | DepartureRecorded => return None,
    };
    let prepared = matches!(point, BetweenPrepares | AfterLastPrepare).then_some(settled.1);
    let wait = if point == ClientTold { Wait::Decided } else { Wait::Completed };
    Some(Expected { point: point.name(), committed, settled, prepared, wait })
}

#[tokio::test]
async fn a_coordinator_killed_at_any_point_of_a_commit_with_one_participant_settles_it() {
    killed_at_every_point(1).await;
}

#[tokio::test]
async fn a_coordinator_killed_at_any_point_of_a_commit_with_two_participants_settles_it() {
    killed_at_every_point(2).await;
}

#[tokio::test]
async fn a_coordinator_killed_at_any_point_of_a_commit_with_three_participants_settles_it() {
    killed_at_every_point(3).await;
}

/// One world, one log, killed again and again: I5, I6, I8, I13, I14, I15.
async fn killed_at_every_point(banks: usize) {
    let world = World::builder().banks(banks).prepare().await.unwrap();
    for bank in &world.banks {
        bank.agent.start(None).unwrap();
        bank.plant_foreign(&format!("other_tool_{}", bank.database)).await.unwrap();
    }
    let ledger = Arc::new(Ledger::new());
    for expected in AtCoordinator::ALL.iter().filter_map(|point| expected(*point, banks as u64)) {
        killed_at(&world, &ledger, &expected).await;
    }
    world.check(&ledger).await.unwrap();
}

async fn killed_at(world: &World, ledger: &Ledger, expected: &Expected) {
    let point = expected.point;
    if world.coordinator.is_running().unwrap() {
        // In order, so that nothing of the point before is left to be settled.
        world.coordinator.terminate().unwrap();
        world.coordinator.wait_exit().await.unwrap();
    }
    let choice = if expected.prepared.is_some() { format!("{point}=stop") } else { point.to_owned() };
    world.start_coordinator(Some(&choice)).await.unwrap();
    let votum = Votum::options().client_name("teller").wait(expected.wait);
    let votum = votum.connect(&world.address().to_string()).await.unwrap();
    let client = transfer_under_key(world, ledger, &votum, point);
    let restart = async {
        match expected.prepared {
            Some(branches) => dies_when_prepared(world, branches).await,
            None => world.coordinator.wait_crash().await.unwrap(),
        }
        world.restart_and_settle(None).await.unwrap()
    };
    let (told, settled) = futures::future::join(client, restart).await;
    let (gtid, outcome) = told.unwrap();

    assert_eq!(outcome.is_committed(), expected.committed, "{point}: {outcome:?}");
    if !expected.committed {
        assert!(matches!(outcome, Outcome::Aborted(_)), "{point}: {outcome:?}");
    }
    said(&settled, expected);
    asked_again(&votum, point, &gtid, expected.committed).await;
}

/// Kills a coordinator that does nothing more, once what it has sent last was carried out.
async fn dies_when_prepared(world: &World, branches: u64) {
    let coordinator = &world.coordinator;
    coordinator.wait_stopped().await.unwrap();
    // What it has sent may not have left yet.
    coordinator.thaw().unwrap();
    world.until_prepared(usize::try_from(branches).unwrap()).await.unwrap();
    coordinator.kill9().unwrap();
}

/// The line for the person on call: how many, where, in what time.
fn said(settled: &Settled, expected: &Expected) {
    let Settled { committed, rolled_back, line } = settled;
    assert_eq!((*committed, *rolled_back), expected.settled, "{}: {line}", expected.point);
    assert!(line.contains(" ms"), "{line}");
    if *committed > 0 {
        assert!(line.contains("bank-a 1"), "where is not said: {line}");
    }
}

/// By gtid and by key; and a retry under the key does not run the work again (I15).
async fn asked_again(votum: &Votum, key: &str, gtid: &str, committed: bool) {
    let found = votum.transaction(gtid).await.unwrap();
    let by_key = votum.transaction_by_key(key).await;
    let retried = votum.begin().label(key).idempotency_key(key).digest(key).await;
    if committed {
        assert!(matches!(&found.status, Status::Committed(_)), "{key}: {found:?}");
        assert_eq!(by_key.unwrap().gtid, gtid, "{key}");
        match retried {
            Err(Error::KeyTaken { gtid: taken, alive: false, .. }) => assert_eq!(taken, gtid, "{key}"),
            other => panic!("{key}: the key of a committed transaction was not refused: {other:?}"),
        }
    } else {
        assert!(matches!(&found.status, Status::Aborted(_)), "{key}: {found:?}");
        assert!(by_key.is_err(), "{key}: an aborted transaction keeps its key: {by_key:?}");
        retried.unwrap().rollback().await.unwrap();
    }
}
