//! Real PostgreSQL servers, each in a temporary directory of its own.

mod failover;
mod install;
mod server;
mod shared;
mod standby;
mod standstill;

pub use failover::Received;
pub use server::{Options, ROLE, Server};
pub use shared::{fresh_database, shared};
