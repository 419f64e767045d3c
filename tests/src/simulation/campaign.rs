//! Many seeds, one after another, with what they amount to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::draw::Size;
use super::plan::Plan;
use super::run::{Report, run};
use super::shrink::shrink;

/// What many runs amount to.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    /// Seeds.
    pub seeds: u64,
    /// Transactions begun.
    pub begun: u64,
    /// Transactions that a client was told are committed.
    pub committed: u64,
    /// Faults.
    pub faults: u64,
    /// Simulated time.
    pub lasted: Duration,
}

impl Sum {
    /// Takes in what others have done.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.begun += other.begun;
        self.committed += other.committed;
        self.faults += other.faults;
        self.lasted += other.lasted;
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} seeds: {} transactions ({} committed), {} faults, {:.1} h simulated",
            self.seeds,
            self.begun,
            self.committed,
            self.faults,
            self.lasted.as_secs_f64() / 3600.0
        )
    }
}

/// A seed that broke an invariant.
#[derive(Debug)]
pub struct Broken {
    /// Which.
    pub seed: u64,
    /// What it broke.
    pub what: Vec<String>,
}

/// Runs one seed.
///
/// # Errors
/// What it broke.
pub fn one(seed: u64, size: Size, sum: &mut Sum) -> Result<(), Broken> {
    let plan = Plan::draw(seed, size);
    let report = guarded(&plan);
    sum.seeds += 1;
    sum.begun += report.transactions.0 as u64;
    sum.committed += report.transactions.1 as u64;
    sum.faults += plan.faults.len() as u64;
    sum.lasted += report.lasted;
    if report.broken.is_empty() { Ok(()) } else { Err(Broken { seed, what: report.broken }) }
}

/// A panic of production code is a failure of its seed.
fn guarded(plan: &Plan) -> Report {
    catch_unwind(AssertUnwindSafe(|| run(plan, false))).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
        Report {
            broken: vec![format!("panic: {}", why.unwrap_or_default())],
            transcript: String::new(),
            lasted: Duration::ZERO,
            turns: 0,
            transactions: (0, 0),
        }
    })
}

/// How a person reads a failure: the seed, what it broke, and the shrunk transcript.
pub fn explain(broken: &Broken, size: Size) -> String {
    let plan = Plan::draw(broken.seed, size);
    let (smallest, report) = shrink(&plan);
    format!(
        "seed {} breaks:\n  {}\n\nshrunk to {} pieces of work and {} faults, it breaks:\n  {}\n\nfaults: {:#?}\n\n\
         work: {:#?}\n\n{}",
        broken.seed,
        broken.what.join("\n  "),
        smallest.work.len(),
        smallest.faults.len(),
        report.broken.join("\n  "),
        smallest.faults,
        smallest.work,
        report.transcript
    )
}
