//! The model: every schedule of one or two transactions, within bounds, over the real protocol.
//!
//! What runs here is the code that runs in production wherever it is pure: `Transaction::step`, `apply`,
//! `recover` and `resume`, the recovery table, what is known of a transaction and answered about it, what a
//! hello and a listing prove, and the agent's fence. Around it stands a shell as thin as it could be made:
//!
//! | file | what it is | what it mirrors |
//! |---|---|---|
//! | `coordinator`, `knowledge` | effects are carried out, messages become events | the coordinator's `driver` |
//! | `agent`, `orders` | a branch's life, listings, orders; a database | the agent's `exchange`, `host`, `phase2`, `listing` |
//! | `steps`, `faults` | what may happen next, and go wrong | the world |
//! | `properties` | the invariants, by number | docs/protocol.md |
//!
//! The agent's side and the databases are told again, since the agent's tasks are written against sessions and
//! locks: a step of the model is what a task does between two waits. What they hide from the model, the
//! simulation and the tests on real servers have to show.
//!
//! Messages under way are a set: any of them may be the next to arrive, so that they arrive in any order, and
//! late across reconnects. A fault loses one, repeats one, breaks a stream, ends a process at any moment, and
//! so on (`bounds`). A model allows so many faults, of all kinds together; their number is part of the state.
//! What goes on by itself is not bounded, and ends by itself: in a state where it changes nothing any more
//! everything must be settled (I6).

#![cfg(test)] // clippy then lets helpers fail as tests do

mod agent;
mod bounds;
#[cfg(feature = "canaries")]
mod canaries;
mod coordinator;
mod faults;
mod knowledge;
mod orders;
#[cfg(not(feature = "canaries"))]
mod proofs;
mod properties;
mod state;
mod steps;
mod transcript;
