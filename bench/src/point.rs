//! Under which load a measurement is made.

use std::fmt;

use serde::Serialize;

/// How work is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub(crate) enum Point {
    /// Each worker begins its next transaction when the last one has ended.
    Closed {
        /// How many.
        workers: u32,
    },
    /// Transactions arrive evenly, whether or not the last ones have ended.
    Open {
        /// How many each second.
        rate: u32,
        /// How many may be under way at once.
        in_flight: u32,
    },
}

impl Point {
    /// How many transactions may be under way at once, each by a worker of its own.
    pub(crate) fn workers(self) -> u32 {
        match self {
            Self::Closed { workers } => workers,
            Self::Open { in_flight, .. } => in_flight,
        }
    }

    /// Whether it is an open loop.
    pub(crate) fn is_open(self) -> bool {
        match self {
            Self::Closed { .. } => false,
            Self::Open { .. } => true,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { workers: 1 } => f.write_str("1 worker"),
            Self::Closed { workers } => write!(f, "{workers} workers"),
            Self::Open { rate, .. } => write!(f, "{rate} a second"),
        }
    }
}
