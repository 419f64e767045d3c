//! The history check, for about a minute: random transactions under random kills and cuts, judged against the
//! databases and the log. `make history` does it for as long as one likes.

#![cfg(test)] // clippy then lets helpers fail as tests do

use votum_tests::history::figures::Figures;
use votum_tests::history::record::History;
use votum_tests::history::round::{Extent, kept_at, run};

/// Bounded by what is done, not by time. The seed fixes the load and the faults; how they meet is new each time.
async fn round(seed: u64) -> Figures {
    let figures = Box::pin(run(seed, Extent::of(700, 12), |_| ())).await.unwrap();
    println!("{figures}");
    assert!(figures.told.get("committed").is_some_and(|count| *count > 100), "hardly anything committed");
    assert!(figures.one_phase > 10, "hardly anything was committed in one phase");
    assert!(!figures.kills.is_empty() && !figures.cuts.is_empty(), "nothing was done to it");
    figures
}

#[tokio::test]
async fn what_clients_were_told_under_kills_and_cuts_is_what_the_databases_hold() {
    for seed in [20_261_121, 7] {
        round(seed).await;
    }
}

#[tokio::test]
async fn a_falsified_database_is_noticed_and_the_history_kept() {
    let seed = 77;
    let falsify = Some("UPDATE purses SET balance = balance + 1 WHERE id = 0; DELETE FROM claims");
    let extent = Extent { falsify, ..Extent::of(120, 8) };
    let said = format!("{:#}", Box::pin(run(seed, extent, |_| ())).await.unwrap_err());
    for part in ["promises were broken under seed 77", "I1: ", "happened in part", "the accounts hold"] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    let kept = kept_at(seed);
    assert!(said.contains(&kept.display().to_string()), "where the history is kept is not said:\n{said}");
    let history: History = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert_eq!(history.seed, seed);
    std::fs::remove_file(kept).unwrap();
}
