//! Crash points are for tests of our own: no program as it is released knows one.

use votum_coordinator::crash::CrashPoint as AtCoordinator;
use votum_participant::crash::CrashPoint as AtAgent;
use votum_tests::process::{Build, CRASH_VARIABLE, program};

/// The names that `VOTUM_CRASH_POINT` takes at the coordinator. The names themselves are compiled in only
/// with the feature, which this test is built without.
const COORDINATOR: [&str; AtCoordinator::ALL.len()] = [
    "begun",
    "before-first-prepare",
    "between-prepares",
    "after-last-prepare",
    "votes-in",
    "decision-appended",
    "decision-forced",
    "client-told",
    "first-participant-told",
    "all-acknowledged",
    "ended-on-disk",
];

/// The same, at the agent.
const AGENT: [&str; AtAgent::ALL.len()] = [
    "before-begin",
    "after-begin",
    "statement-run",
    "before-prepare",
    "after-prepare",
    "vote-sent",
    "before-commit-prepared",
    "after-commit-prepared",
    "before-rollback-prepared",
    "after-rollback-prepared",
];

#[test]
fn a_program_as_it_is_released_contains_no_crash_point() {
    for (binary, names) in [("votum-coordinator", &COORDINATOR[..]), ("votum-participant", &AGENT)] {
        let released = std::fs::read(program(Build::Plain, binary).unwrap()).unwrap();
        let for_tests = std::fs::read(program(Build::CrashPoints, binary).unwrap()).unwrap();
        // One word alone may stand in a program for other reasons.
        for name in names.iter().filter(|name| name.contains('-')).chain([&CRASH_VARIABLE]) {
            assert!(!contains(&released, name), "{binary} as it is released contains {name}");
            assert!(contains(&for_tests, name), "{name} is not a crash point of {binary}: this test is old");
        }
    }
}

fn contains(program: &[u8], name: &str) -> bool {
    program.windows(name.len()).any(|bytes| bytes == name.as_bytes())
}
