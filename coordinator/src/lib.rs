//! The coordinator: protocol, decision log, driver, transport, gRPC server.

#[cfg(test)]
#[path = "../../tests/fuzz/bounded.rs"]
mod bounded;
pub mod config;
pub mod crash;
pub mod driver;
pub mod log;
pub mod metrics;
pub mod protocol;
pub mod removal;
pub mod run;
pub mod server;
pub mod transport;
