//! Everything in one thread, under one clock, from one seed: the coordinator (driver, transport, the
//! discipline of its log), agents, databases, clients, and what goes wrong between them.
//!
//! What runs here is production code behind its own seams: time, randomness and tasks ([`executor`]), the
//! journal's disk and the store ([`disk`], [`store`]), the agent's database ([`database`]), the wires between
//! coordinator and agents ([`network`]). Nothing of the protocol, the driver or recovery is told again.
//!
//! A run has a phase in which things go wrong and only safety is judged, and then a calm phase in which
//! everything must come to its end ([`mod@run`]). [`draw`] makes the [`plan`] of what happens, [`faults`] lets
//! it happen, [`clients`] do the work, some of it on connections of their own (`application`), [`asking`] the coordinator, and [`book`] keeps what they were told;
//! [`monitor`] watches the wires and [`judge`] judges the end, by the numbers of the invariants.
//!
//! In some runs persons come: failovers take a commit that is on its way, a log is lost for good and written off
//! (`copies`), an operator settles branches and acknowledges departures (`operator`).

pub mod agents;
mod application;
pub mod asking;
pub mod at_once;
pub mod book;
pub mod campaign;
pub mod clients;
pub mod coordinator;
mod copies;
pub mod database;
mod describe;
pub mod disk;
pub mod draw;
pub mod executor;
pub mod faults;
pub mod judge;
pub mod monitor;
pub mod network;
mod operator;
pub mod plan;
pub mod random;
pub mod run;
pub mod shrink;
pub mod store;
pub mod trace;
pub mod world;

pub use self::draw::Size;
pub use self::plan::Plan;
pub use self::run::{Report, run};
