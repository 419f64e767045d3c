//! Real PostgreSQL servers, each in a temporary directory of its own.

mod install;
mod seat;
mod server;
mod shared;
mod standby;
mod standstill;
mod streaming;

pub use seat::Seat;
pub use server::{Options, ROLE, Server};
pub use shared::{fresh_database, shared};
