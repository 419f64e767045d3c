//! Why an embedded coordinator was not opened.

use std::io;

use votum_coordinator::log::Refusal;
use votum_participant::RunError;
use votum_proto::address::Address;

/// Why an embedded coordinator was not opened. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What was set cannot be: every mistake at once, a line each.
    #[error("{}", .0.join("\n"))]
    Misconfigured(Vec<String>),
    /// A participant's database cannot be configured as it stands.
    #[error(transparent)]
    Participant(#[from] RunError),
    /// The log refuses to be opened, or made: it is in use, not there, another coordinator's, or damaged.
    #[error(transparent)]
    Log(#[from] Refusal),
    /// Operators cannot be served where they were to be.
    #[error(
        "cannot listen for operators on {address}: {source}. Stop what listens there, or listen elsewhere"
    )]
    Operator {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The tokio runtime ended while the log was being opened.
    #[error("the runtime ended while the log was being opened")]
    RuntimeEnded,
}
