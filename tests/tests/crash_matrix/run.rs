//! Runs many cases, some of them side by side, and says how far it is.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use votum_proto::runtime::Seams;

use super::case::{Case, Place};
use super::cases::kind;
use super::lane::{Lane, Met};
use super::scenes::Scene;

/// Longer than any case that ends at all.
const LIMIT: Duration = Duration::from_secs(150);

/// How many cases make it worth while to begin another world for them.
const WORTH_A_WORLD: usize = 15;

/// What the cases of one row came to.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    cases: usize,
    deaths: usize,
    left: usize,
    failed: usize,
}

/// What all came to.
#[derive(Default)]
pub(crate) struct Report {
    rows: BTreeMap<&'static str, Row>,
    failures: Vec<String>,
    done: usize,
    all: usize,
}

impl Report {
    /// Of `all` cases and scenes.
    pub(crate) fn new(all: usize) -> Self {
        Self { all, ..Self::default() }
    }

    /// Notes one case that was run, or scene, and says so.
    pub(crate) fn note(&mut self, kind: &'static str, name: &str, met: anyhow::Result<Met>, took: Duration) {
        self.done += 1;
        let row = self.rows.entry(kind).or_default();
        row.cases += 1;
        let verdict = match met {
            Ok(Met { deaths, left }) => {
                row.deaths += deaths;
                row.left += left;
                "ok".to_owned()
            }
            Err(error) => {
                row.failed += 1;
                self.failures.push(format!("{name}\n{error:#}"));
                format!("FAILED: {error:#}")
            }
        };
        // Not by println: its output is held back until a test ends.
        let _ = writeln!(
            std::io::stderr(),
            "[{} of {}] {:.1} s  {name}: {verdict}",
            self.done,
            self.all,
            took.as_secs_f64()
        );
    }

    /// Prints the table.
    ///
    /// # Panics
    /// When a case failed, with all that did.
    pub(crate) fn finish(&self, seed: u64) {
        let mut table =
            format!("{:<50} {:>6} {:>7} {:>8} {:>7}\n", "", "cases", "deaths", "not met", "failed");
        let mut sum = Row::default();
        for (kind, row) in &self.rows {
            let Row { cases, deaths, left, failed } = row;
            table += &format!("{kind:<50} {cases:>6} {deaths:>7} {left:>8} {failed:>7}\n");
            sum = Row {
                cases: sum.cases + cases,
                deaths: sum.deaths + deaths,
                left: sum.left + left,
                failed: sum.failed + failed,
            };
        }
        let Row { cases, deaths, left, failed } = sum;
        table += &format!(
            "{:<50} {cases:>6} {deaths:>7} {left:>8} {failed:>7}\n",
            format!("in all (seed {seed})")
        );
        let _ = writeln!(std::io::stderr(), "\n{table}");
        assert!(
            self.failures.is_empty(),
            "{} cases failed (VOTUM_MATRIX_SEED={seed}):\n\n{}",
            self.failures.len(),
            self.failures.join("\n\n")
        );
    }
}

/// Runs `cases` in `lanes` lanes.
pub(crate) async fn run(cases: Vec<Case>, lanes: usize, report: &RefCell<Report>) {
    // Cases that can share a world stand together.
    let mut places: BTreeMap<Place, VecDeque<Case>> = BTreeMap::new();
    for case in cases {
        places.entry(case.place).or_default().push_back(case);
    }
    let queue = RefCell::new(Queue { places, served: BTreeMap::new() });
    let lane = async || {
        let mut open: Option<Lane> = None;
        let mut here = None;
        loop {
            // Not in the condition of a loop, which would hold the queue while the case runs.
            let next = queue.borrow_mut().next(here);
            let Some(case) = next else { return };
            here = Some(case.place);
            let clock = Seams::production().clock;
            let begun = clock.now();
            let met = clock.timeout(LIMIT, Box::pin(one(&mut open, &case))).await;
            let met = met.map_err(|_| anyhow::anyhow!("it did not end within {LIMIT:?}")).and_then(|met| met);
            if met.is_err() {
                // Nobody knows what it left.
                open = None;
            }
            report.borrow_mut().note(case.kind, &case.to_string(), met, clock.now().since(begun));
        }
    };
    futures::future::join_all((0..lanes).map(|_| lane())).await;
}

/// Plays scenes, one after another.
pub(crate) async fn play(scenes: Vec<(Scene, usize)>, report: &RefCell<Report>) {
    for (scene, banks) in scenes {
        let clock = Seams::production().clock;
        let begun = clock.now();
        let met = clock.timeout(LIMIT, Box::pin(scene.play(banks))).await;
        let met = met.unwrap_or_else(|_| Err(anyhow::anyhow!("it did not end within {LIMIT:?}")));
        let name = format!("{scene:?}, {banks} banks");
        report.borrow_mut().note(kind::ROW, &name, met, clock.now().since(begun));
    }
}

/// What is left to be done, and where somebody is at it.
struct Queue {
    places: BTreeMap<Place, VecDeque<Case>>,
    served: BTreeMap<Place, usize>,
}

impl Queue {
    /// The next case for a lane: at the place where it is; else where most is left for each that is there, if
    /// that is worth another world.
    fn next(&mut self, here: Option<Place>) -> Option<Case> {
        if let Some(case) = here.and_then(|here| self.places.get_mut(&here)).and_then(VecDeque::pop_front) {
            return Some(case);
        }
        if let Some(here) = here {
            self.served.entry(here).and_modify(|lanes| *lanes -= 1);
        }
        let there = |place: &Place| self.served.get(place).copied().unwrap_or(0);
        let share = |(place, cases): &(&Place, &mut VecDeque<Case>)| cases.len() / (there(place) + 1);
        let worth = |(place, cases): &(&Place, &mut VecDeque<Case>)| {
            cases.len() > if there(place) == 0 { 0 } else { WORTH_A_WORLD }
        };
        let (place, cases) = self.places.iter_mut().filter(worth).max_by_key(share)?;
        *self.served.entry(*place).or_default() += 1;
        cases.pop_front()
    }
}

async fn one(open: &mut Option<Lane>, case: &Case) -> anyhow::Result<Met> {
    if open.as_ref().is_none_or(|lane| lane.place != case.place) {
        // One at a time: a machine has room for so many servers.
        *open = None;
        *open = Some(Lane::open(case.place).await.context("making a world")?);
    }
    let lane = open.as_ref().context("there is no lane")?;
    lane.run(case).await
}
