//! The floors: clients that prepare and commit at every bank by themselves.
//!
//! They force nothing of their own before the second phase: a crash between the phases would leave prepared
//! transactions that nobody decides. That is what a coordinator is for, and what it costs is measured here.

mod direct;
mod piped;
mod session;

pub(crate) use direct::Direct;
pub(crate) use piped::Piped;
pub(crate) use session::connect;
