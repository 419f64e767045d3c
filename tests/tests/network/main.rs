//! The network fails at every message of the protocol, in every way that networks fail, and is healed: what was
//! told is true, nothing is left behind, and who did not touch the faulty link went on. I1, I4, I5, I6, I13, I15
//! after each case.
//!
//! `make matrix` tries every fault at every message. `VOTUM_MATRIX_ONLY` set to a part of a case's name, as it
//! is printed, tries only such cases.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]
#![allow(missing_docs, unreachable_pub)]
#![cfg(test)] // clippy then lets helpers fail as tests do

mod breaks;
mod cases;
mod contract;
mod matrix;
mod newer;
mod scripts;
mod site;
mod standstill;
mod successor;

use votum_tests::proxy::Link;

use crate::matrix::try_all;

/// How many installations are at work at once in each test.
const SITES: usize = 4;
/// The same, where most of the time is spent waiting.
const WAITING_SITES: usize = 8;
const ALL_SITES: usize = 16;

#[tokio::test]
async fn the_network_between_clients_and_coordinator_may_fail_at_any_message() {
    try_all(cases::some(Link::ClientCoordinator), SITES).await;
}

#[tokio::test]
async fn the_network_between_clients_and_agents_may_fail_at_any_message() {
    try_all(cases::some(Link::ClientAgent), SITES).await;
}

#[tokio::test]
async fn the_network_between_coordinator_and_agents_may_fail_at_any_message() {
    try_all(cases::some(Link::CoordinatorAgent), SITES).await;
}

#[tokio::test]
async fn the_network_between_agents_and_databases_may_fail_at_any_message() {
    try_all(cases::some(Link::AgentDatabase), SITES).await;
}

#[tokio::test]
async fn a_network_that_is_healed_after_every_timeout_has_passed_leaves_nothing_behind() {
    try_all(cases::late(), WAITING_SITES).await;
}

#[tokio::test]
#[ignore = "make matrix"]
async fn network_matrix() {
    try_all(cases::all(), ALL_SITES).await;
}
