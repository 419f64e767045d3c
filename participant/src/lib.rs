//! The agent beside a PostgreSQL database.

mod config;
mod control;
pub mod crash;
pub mod database;
mod fence;
pub mod postgres;

pub use config::{AgentConfig, ConfigProblem, ParticipantConfig, Tls};
