//! The history check: a random load under random kills and cuts, written down as its clients saw it, and judged
//! against what is found in the databases and in the log at the end.
//!
//! [`workload`] draws transactions from a seed, [`client`] carries them out and keeps the [`record`], [`faults`]
//! kills and cuts meanwhile, [`collect`] reads what is there when all is calm again, and [`checker`], which is
//! pure, says which promises were broken. [`round`] is all of that once, on an installation of its own.
//!
//! The seed fixes what is drawn, not how processes and threads interleave: the same seed is the same load under
//! the same faults, and another schedule. That is why the history of a run that failed is kept in a file.

pub mod checker;
pub mod client;
pub mod collect;
pub mod dice;
pub mod faults;
pub mod figures;
pub mod record;
pub mod round;
pub mod stage;
pub mod workload;
