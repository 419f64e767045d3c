//! The model catches mistakes: each canary that lies in the protocol is switched on, and a counterexample is
//! demanded of a model that holds without it.

use std::time::Duration;

use stateright::{Checker as _, HasDiscoveries, Model as _};
use votum_proto::canary::{Canary, choose};
use votum_proto::runtime::Seams;

use super::bounds::{Bounds, Fault};
use super::transcript::transcript;

/// How long the model may look for one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The canaries that the model can hear, each with the bounds that make it sing. The others lie in the log,
/// the transport or the agent, which the model does not run: the simulation hears those.
fn songs() -> Vec<(Canary, Bounds)> {
    let ordinary = |faults| Bounds::plain("ordinary").executed().with(faults, Fault::ORDINARY);
    let heuristic = |faults| Bounds::plain("persons and failovers").executed().with(faults, Fault::HEURISTIC);
    let log = || Bounds::plain("an older copy of the log").executed().with(2, Fault::LOG);
    vec![
        (Canary::CommitBeforeForced, ordinary(0)),
        (Canary::AnswerBeforeForced, ordinary(0)),
        (Canary::DecideWithoutLastVote, ordinary(0)),
        (Canary::TimeoutWhileDeciding, ordinary(1)),
        (Canary::PresumeAbortWhenStale, log()),
        (Canary::ActOnUnjudgedHello, log()),
        (Canary::PresumeAbortUncounted, heuristic(2)),
        (Canary::DropSweep, ordinary(2)),
        (Canary::AcknowledgeBlindly, heuristic(1)),
        (Canary::CommitWithoutComparing, heuristic(1)),
        (Canary::ForgetEnded, heuristic(1)),
        (Canary::PrepareAfterRestart, ordinary(1)),
        (Canary::SkipFence, ordinary(2)),
    ]
}

#[test]
fn the_model_catches_every_mistake_in_the_protocol() {
    let clock = Seams::production().clock;
    let mut deaf = Vec::new();
    for (canary, bounds) in songs() {
        choose(Some(canary));
        let started = clock.now();
        let name = bounds.name;
        let checker = bounds.checker().finish_when(HasDiscoveries::AnyFailures).timeout(PATIENCE);
        let checker = checker.spawn_bfs().join();
        let seconds = clock.now().since(started).as_secs_f32();
        let states = checker.unique_state_count();
        let found =
            checker.discoveries().into_iter().min_by_key(|(_, path)| path.clone().into_actions().len());
        choose(None);
        match found {
            Some((property, path)) => {
                let steps = path.clone().into_actions().len();
                let canary = format!("{canary:?}");
                println!("{canary:<24} {steps:>3} steps {states:>8} states {seconds:>5.1} s  {property}");
                if std::env::var_os("VOTUM_TRANSCRIPTS").is_some() {
                    println!("{}", transcript(path));
                }
            }
            None => deaf.push(format!("{canary:?}: nothing in {states} states ({name}), {seconds:.1} s")),
        }
    }
    assert!(deaf.is_empty(), "the model did not catch\n{}", deaf.join("\n"));
}
