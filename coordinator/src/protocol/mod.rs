//! The protocol, pure: no async, clock, I/O, randomness, gRPC or SQL.
//!
//! ```text
//! Active -> Preparing -> Deciding -> Committing -> Committed
//! Active | Preparing -> Aborting -> Aborted
//! Preparing -> ReadOnly
//! Preparing -> Delegating -> OnePhase -> Committed | Aborted
//! ```
//!
//! [`transaction::Transaction::step`] takes one [`event::Event`] and answers with [`event::Effect`]s: plain
//! data that the driver carries out in order. Time enters as `TimedOut`, durability as `Durable`: a record
//! goes out alone, and what rests on it is an effect of its return. From Deciding on no timer and no
//! Rollback acts. Recovery folds the log's records through the same `apply` as the live path, and asks
//! [`recovery`]'s table what to do with what is found at a participant, and [`gone`] what is proven by what is not.

pub mod event;
pub mod gone;
pub mod history;
pub mod knowledge;
pub mod last_agent;
pub mod lives;
pub mod one_phase;
pub mod record;
pub mod recovery;
pub mod standing;
pub mod transaction;

mod attached;
mod departure;
mod describe;
mod ending;
mod voting;
