//! Deliberate mistakes in production code, one at a time: the simulation catches them, and no program as it is
//! built knows one. `make canaries` builds the mistakes in, runs all of them and prints the table.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::path::Path;
use std::process::Command;

use votum_proto::canary::Canary;
use votum_tests::process::{Build, program};

/// Those that stand in a file. By grep: programs with debug information are large.
fn found_in(file: &Path) -> Vec<String> {
    let names: Vec<String> = Canary::ALL.iter().map(|canary| format!("{canary:?}")).collect();
    let mut grep = Command::new("grep");
    grep.args(["--text", "--only-matching", "--fixed-strings"]);
    grep.args(names.iter().flat_map(|name| ["-e", name.as_str()])).arg(file).env("LC_ALL", "C");
    let output = grep.output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    names.into_iter().filter(|name| found.lines().any(|line| line == name)).collect()
}

#[test]
fn no_program_contains_a_canary() {
    for binary in ["votum-coordinator", "votum-participant", "votumctl"] {
        assert_eq!(found_in(&program(Build::Plain, binary).unwrap()), Vec::<String>::new(), "{binary}");
    }
    // That the search finds them where they are: this very test names them.
    assert_eq!(found_in(&std::env::current_exe().unwrap()).len(), Canary::ALL.len());
}

#[cfg(feature = "canaries")]
mod singing {
    use votum_proto::canary::choose;
    use votum_proto::runtime::Seams;
    use votum_tests::simulation::Size;
    use votum_tests::simulation::campaign::{Sum, one};

    use super::*;

    /// How many seeds may pass before a canary counts as unheard.
    const PATIENCE: u64 = 4_000;

    /// Mistakes that only the model can see, and why.
    const FOR_THE_MODEL: &[Canary] = &[];

    #[test]
    fn the_simulation_catches_every_mistake() {
        let clock = Seams::production().clock;
        let mut unheard = Vec::new();
        println!("| mistake | caught by the simulation, as | after seeds | seconds |\n|---|---|---|---|");
        for canary in Canary::ALL {
            if FOR_THE_MODEL.contains(&canary) {
                continue;
            }
            choose(Some(canary));
            let started = clock.now();
            let mut sum = Sum::default();
            let caught = (0..PATIENCE).find_map(|seed| one(seed, Size::default(), &mut sum).err());
            choose(None);
            let seconds = clock.now().since(started).as_secs_f32();
            match caught {
                Some(broken) => {
                    let what = broken.what.first().cloned().unwrap_or_default();
                    println!("| {canary:?} | {what} | {} | {seconds:.1} |", sum.seeds);
                }
                None => {
                    println!("| {canary:?} | - | {} | {seconds:.1} |", sum.seeds);
                    unheard.push(canary);
                }
            }
        }
        assert!(unheard.is_empty(), "nobody heard {unheard:?}");
    }
}
