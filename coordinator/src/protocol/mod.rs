//! The protocol, pure: no async, clock, I/O, randomness, gRPC or SQL.

pub mod record;
