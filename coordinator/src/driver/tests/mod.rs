//! The driver against a log and an agent in the test's hand.

mod frames;
mod live;
mod lookups;
mod recovery;
mod settlement;
mod world;
