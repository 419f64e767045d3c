//! What the server processes, coordinator and agent, do alike: read their configuration ([`config`]),
//! listen ([`listen`]), stop when they are told to ([`shutdown`]), write their log lines ([`logging`]) and show
//! their metrics ([`metrics`]).
//!
//! This is the outermost layer of a process: it deals with the real operating system and is not part of
//! what a simulation runs. Built only with the feature `service`, so that applications which link the
//! client do not carry it.

pub mod config;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod shutdown;
