//! The crash matrix: real processes and real servers, killed at every named point of coordinator, agent and
//! client, alone and in pairs, with everything judged after each.
//!
//! `make test` runs every point once with two participants and a handful of pairs, `make matrix` all of it.
//! `VOTUM_MATRIX_SEED` draws other pairs, `VOTUM_MATRIX_PAIRS` more of them, `VOTUM_MATRIX_ONLY` runs the cases
//! whose description contains it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(test)]

mod case;
mod cases;
mod draw;
mod lane;
mod last_agent;
mod run;
mod scenes;
mod supervisor;

use std::cell::RefCell;

use case::{Case, Frozen, Who, Work};
use cases::{
    aged, at_once, frozen, frozen_syncs, one_phase, pair, power_cut, power_cuts, scenes, singles, twice,
};
use draw::Draw;
use last_agent::{last_agent, last_agent_singles};
use run::{Report, play, run};
use scenes::Scene;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

async fn all_of(mut cases: Vec<Case>, mut scenes: Vec<(Scene, usize)>, seed: u64, lanes: usize) {
    if let Ok(only) = std::env::var("VOTUM_MATRIX_ONLY") {
        cases.retain(|case| case.to_string().contains(&only));
        scenes.retain(|(scene, _)| format!("{scene:?}").contains(&only));
    }
    let report = RefCell::new(Report::new(cases.len() + scenes.len()));
    futures::future::join(run(cases, lanes, &report), play(scenes, &report)).await;
    report.borrow().finish(seed);
}

/// I1 to I15 after each.
#[tokio::test]
async fn every_crash_point_once_and_a_drawn_handful_of_pairs_keep_every_promise() {
    let seed = number("VOTUM_MATRIX_SEED", 1);
    let mut cases = singles(2);
    cases.extend(
        [Frozen::Everything, Frozen::Journal, Frozen::Store].map(|part| frozen(2, 2, part, Work::Transfer)),
    );
    cases.push(frozen(2, 12, Frozen::Everything, Work::Load));
    cases.push(power_cut(Who::Coordinator, "decision-forced@8", 2, Work::Load));
    let mut draw = Draw::new(seed);
    cases.extend(last_agent_singles(2));
    cases.extend((0..number("VOTUM_MATRIX_PAIRS", 10)).map(|_| pair(&mut draw, 2)));
    let scenes = scenes(2).into_iter().map(|scene| (scene, 2)).collect();
    all_of(cases, scenes, seed, 2).await;
}

/// I1 to I15 after each.
#[tokio::test]
#[ignore = "make matrix"]
async fn crash_matrix() {
    let seed = number("VOTUM_MATRIX_SEED", 1);
    let mut draw = Draw::new(seed);
    let (mut cases, mut plays) = (Vec::new(), Vec::new());
    for banks in 1..=3 {
        plays.extend(scenes(banks).into_iter().map(|scene| (scene, banks)));
        cases.extend(singles(banks));
        cases.extend(twice(banks));
        cases.extend(aged(banks));
        cases.extend(frozen_syncs(banks));
        cases.extend(power_cuts(banks));
        cases.extend(at_once(banks));
    }
    cases.extend(one_phase());
    cases.extend([2, 3].into_iter().flat_map(last_agent));
    let pairs = number("VOTUM_MATRIX_PAIRS", 300);
    for _ in 0..pairs {
        let banks = 1 + draw.below(3);
        cases.push(pair(&mut draw, banks));
    }
    all_of(cases, plays, seed, 3).await;
}
