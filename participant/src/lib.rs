//! The agent beside a PostgreSQL database: runs clients' statements in branches, prepares them, and carries
//! out what the coordinator decides.
//!
//! The way of one branch: [`Agent::execute`] opens it and hands statements to its own task (`host`), which
//! alone touches the session; a Prepare arrives through [`Agent::serve_exchange`] (`exchange`) and is
//! answered with a vote; orders to commit or roll back are carried out by `phase2`; `listing` tells the
//! coordinator, unasked, what is prepared. Only [`postgres`] knows SQL.

mod agent;
mod attached;
#[cfg(test)]
#[path = "../../tests/fuzz/bounded.rs"]
mod bounded;
mod branch;
mod config;
mod control;
pub mod crash;
pub mod database;
mod errors;
mod exchange;
pub mod fence;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
mod listing;
mod metrics;
mod outbox;
mod phase2;
pub mod postgres;
mod preflight;
mod registry;
mod reply;
mod run;
pub mod server;
mod sessions;
mod verification;
mod witness;
pub mod work;

pub use agent::Agent;
pub use config::{AgentConfig, ConfigProblem, ParticipantConfig, Tls};
pub use run::{RunError, databases, run};
