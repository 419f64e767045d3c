//! Each model is explored to its end, and no state of it may break an invariant.

use std::collections::BTreeMap;
use std::time::Duration;

use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker as _, HasDiscoveries, Model as _};
use votum_proto::runtime::Seams;

use super::bounds::{Bounds, Fault};
use super::transcript::transcript;

/// Explores a model to its end. At least so many states must be there: fewer mean that it has lost its point.
#[track_caller]
fn prove(bounds: Bounds, at_least: usize) {
    let clock = Seams::production().clock;
    let started = clock.now();
    let name = bounds.name;
    let checker = bounds.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs();
    let checker = checker.join_and_report(&mut Progress(name));
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let seconds = clock.now().since(started).as_secs_f32();
    println!("{name}: {states} states, {depth} steps deep, {seconds:.1} s");
    let broken: Vec<String> = checker
        .discoveries()
        .into_iter()
        .map(|(property, path)| format!("\n{property}: not so after\n{}", transcript(path)))
        .collect();
    assert!(broken.is_empty(), "{name}: {}", broken.concat());
    assert!(states >= at_least, "{name} has only {states} states: it explores less than it was made for");
}

/// Says now and then how far the exploration is.
struct Progress(&'static str);

impl Reporter<Bounds> for Progress {
    fn report_checking(&mut self, data: ReportData) {
        let seconds = data.duration.as_secs();
        if !data.done && seconds > 0 && seconds.is_multiple_of(10) {
            println!("{}: {} states, {} steps deep, {seconds} s", self.0, data.unique_states, data.max_depth);
        }
    }

    fn report_discoveries(&mut self, _: &Bounds, _: BTreeMap<&'static str, ReportDiscovery<Bounds>>) {}

    fn delay(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// The bounds that fit into every run of the tests.
mod near {
    use super::{Bounds, Fault, prove};

    #[test]
    #[ignore = "runs optimized: make test, or cargo test --profile proof"]
    fn one_transaction_survives_any_two_faults() {
        let bounds = Bounds::plain("one transaction at two participants, two faults");
        prove(bounds.executed().with(2, Fault::ORDINARY), 150_000);
    }

    #[test]
    #[ignore = "runs optimized: make test, or cargo test --profile proof"]
    fn one_transaction_survives_any_fault_from_its_begin_on() {
        let bounds = Bounds::plain("one transaction of two statements a branch, from its begin, one fault");
        prove(Bounds { statements: 2, ..bounds }.with(1, Fault::ORDINARY), 40_000);
    }

    #[test]
    #[ignore = "runs optimized: make test, or cargo test --profile proof"]
    fn a_branch_that_wrote_nothing_changes_nothing() {
        let bounds = Bounds::plain("one transaction at two participants, one of them read, two faults");
        prove(Bounds { read_only: &[1], ..bounds }.executed().with(2, Fault::ORDINARY), 80_000);
    }

    #[test]
    #[ignore = "runs optimized: make test, or cargo test --profile proof"]
    fn three_participants_survive_any_fault() {
        let bounds = Bounds::plain("one transaction at three participants, one fault");
        prove(Bounds { participants: 3, ..bounds }.executed().with(1, Fault::ORDINARY), 120_000);
    }

    #[test]
    #[ignore = "runs optimized: make test, or cargo test --profile proof"]
    fn two_transactions_survive_a_crash_or_a_lost_message() {
        let bounds = Bounds::plain("two transactions at two participants, one crash or lost message");
        let kinds = [Fault::CrashCoordinator, Fault::Lose];
        prove(Bounds { transactions: 2, ..bounds }.executed().with(1, &kinds), 50_000);
    }

    #[test]
    #[ignore = "runs optimized: make test, or cargo test --profile proof"]
    fn what_persons_and_failovers_do_is_found_and_recorded() {
        let bounds = Bounds::plain("one transaction under persons, impostors, failovers, two faults");
        prove(Bounds { foreign: true, ..bounds }.executed().with(2, Fault::HEURISTIC), 40_000);
    }

    #[test]
    #[ignore = "runs optimized: make test, or cargo test --profile proof"]
    fn an_older_copy_of_the_log_presumes_nothing_once_it_is_proven_stale() {
        let bounds = Bounds::plain("one transaction over a log that is replaced, three faults");
        prove(bounds.executed().with(3, Fault::LOG), 100_000);
    }
}

/// Bounds that take minutes each.
mod far {
    use super::{Bounds, Fault, prove};

    #[test]
    #[ignore = "takes minutes: make model"]
    fn one_transaction_survives_any_three_faults() {
        let bounds = Bounds::plain("one transaction at two participants, three faults");
        prove(bounds.executed().with(3, Fault::ORDINARY), 1_000_000);
    }

    #[test]
    #[ignore = "takes minutes: make model"]
    fn one_transaction_survives_any_two_faults_from_its_begin_on() {
        let bounds = Bounds::plain("one transaction at two participants, from its begin, two faults");
        prove(bounds.with(2, Fault::ORDINARY), 500_000);
    }

    #[test]
    #[ignore = "takes minutes: make model"]
    fn two_transactions_survive_any_fault() {
        let bounds = Bounds::plain("two transactions at two participants, one fault");
        prove(Bounds { transactions: 2, ..bounds }.executed().with(1, Fault::ORDINARY), 1_500_000);
    }

    #[test]
    #[ignore = "takes minutes: make model"]
    fn three_participants_survive_any_two_faults() {
        let bounds = Bounds::plain("one transaction at three participants, two faults");
        prove(Bounds { participants: 3, ..bounds }.executed().with(2, Fault::ORDINARY), 1_000_000);
    }

    #[test]
    #[ignore = "takes minutes: make model"]
    fn what_persons_and_failovers_do_three_times_is_found_and_recorded() {
        let bounds = Bounds::plain("one transaction under persons, impostors, failovers, three faults");
        prove(Bounds { foreign: true, ..bounds }.executed().with(3, Fault::HEURISTIC), 200_000);
    }
}
