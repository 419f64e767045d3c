//! The driver against a log and an agent in the test's hand.

#[cfg(test)]
mod acknowledge;
#[cfg(test)]
mod admission;
#[cfg_attr(not(test), allow(dead_code))] // as `world`
mod agent;
#[cfg(test)]
mod attached;
#[cfg(test)]
mod depart;
#[allow(unreachable_pub)] // for the fuzzer
pub mod frames;
#[cfg(test)]
mod inquiry;
#[cfg(test)]
mod last_agent;
#[cfg(test)]
mod lease;
#[cfg(test)]
mod live;
#[cfg(test)]
mod lookups;
#[cfg_attr(not(test), allow(dead_code))] // as `world`
mod memory_log;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod one_phase;
#[cfg(test)]
mod pruning;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod resolve;
#[cfg(test)]
mod room;
#[cfg(test)]
mod settlement;
#[cfg(test)]
mod transact;
#[cfg(test)]
mod unproven;
#[cfg(test)]
mod verification;
#[cfg_attr(not(test), allow(dead_code))] // the fuzzer needs a part of it
mod world;
#[cfg(test)]
mod write_off;
