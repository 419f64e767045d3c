//! What went wrong: a sentence with a remedy for the person, an exit code for the script.

use std::fmt;
use std::io;

use tonic::{Code, Status};
use votum_proto::address::Address;

/// How the process ends. `votumctl --help` and docs/votumctl-json.md list the numbers; they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Answered, and nobody is needed.
    Fine,
    /// Answered, and a person should look.
    Attention,
    /// What was typed cannot be done as it stands.
    Usage,
    /// The coordinator did not answer.
    Unreachable,
    /// It answered no; or a log, or a database, is broken.
    Refused,
}

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Attention => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
        }
    }
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// `VOTUM-…`; empty when nothing of Votum's said it.
    pub(crate) code: String,
    /// What happened, what it means, what to do.
    pub(crate) message: String,
}

impl Failure {
    /// What was typed cannot be done as it stands.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: String::new(), message: message.into() }
    }

    /// The log in a directory cannot be read.
    pub(crate) fn broken(code: &str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, code: code.to_owned(), message: message.into() }
    }

    /// Nobody answered at `address`.
    pub(crate) fn unreachable(address: &Address, why: &str) -> Self {
        let message = format!(
            "the coordinator at {address} does not answer: {why}. If it listens elsewhere, say where with \
             --coordinator or VOTUM_COORDINATOR. If it is stopped, read its log with --directory DIR (the \
             [log] directory of its configuration, or a copy); branches in doubt stay prepared until it is \
             started again"
        );
        Self { exit: Exit::Unreachable, code: String::new(), message }
    }

    /// The coordinator at `address` answered with an error, or the answer was lost.
    pub(crate) fn answered(address: &Address, status: &Status) -> Self {
        if let Some(detail) = votum_proto::error::detail(status) {
            return Self { exit: Exit::Refused, code: detail.code, message: status.message().to_owned() };
        }
        let lost = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown];
        if lost.contains(&status.code()) {
            // Where the connection itself failed, the status only says that it did.
            let why = std::error::Error::source(status).map(innermost);
            return Self::unreachable(address, why.as_deref().unwrap_or(status.message()));
        }
        let message = format!(
            "what answers at {address} does not answer as a Votum coordinator does ({:?}: {}). Check the \
             address: an agent, or another version of Votum, may listen there",
            status.code(),
            status.message()
        );
        Self { exit: Exit::Refused, code: String::new(), message }
    }
}

/// What the operating system said, below the layers that pass it on.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(below) = deepest.source() {
        deepest = below;
    }
    deepest.to_string()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code.as_str() {
            "" => f.write_str(&self.message),
            // A refusal of the log begins with its code already.
            code if self.message.starts_with(code) => f.write_str(&self.message),
            code => write!(f, "{code}: {}", self.message),
        }
    }
}

impl From<io::Error> for Failure {
    /// Only output is written here: the answer was there, and could not be shown.
    fn from(error: io::Error) -> Self {
        let message = format!("the answer could not be written to standard output: {error}");
        Self { exit: Exit::Refused, code: String::new(), message }
    }
}

#[cfg(test)]
mod tests {
    use votum_proto::v1::ErrorDetail;

    use super::*;

    fn address() -> Address {
        "127.0.0.1:7400".parse().unwrap()
    }

    #[test]
    fn a_coordinator_that_refuses_and_one_that_is_gone_end_differently() {
        let detail = ErrorDetail { code: "VOTUM-1204".into(), ..Default::default() };
        let refused = votum_proto::error::status(Code::NotFound, "never begun here", &detail);
        let failure = Failure::answered(&address(), &refused);
        assert_eq!((failure.exit.code(), failure.to_string()), (4, "VOTUM-1204: never begun here".into()));

        let gone = Failure::answered(&address(), &Status::unavailable("connection refused"));
        assert_eq!(gone.exit.code(), 3);
        assert!(gone.message.contains("--directory"), "no remedy: {gone}");

        let other = Failure::answered(&address(), &Status::unimplemented(""));
        assert_eq!(other.exit.code(), 4);
    }

    #[test]
    fn a_coordinator_that_is_not_ready_refuses_and_is_not_called_unreachable() {
        let detail = ErrorDetail { code: "VOTUM-1203".into(), ..Default::default() };
        let status = votum_proto::error::status(Code::Unavailable, "still reading its log", &detail);
        assert_eq!(Failure::answered(&address(), &status).exit, Exit::Refused);
    }

    #[test]
    fn exit_codes_are_those_that_are_documented() {
        let all = [Exit::Fine, Exit::Attention, Exit::Usage, Exit::Unreachable, Exit::Refused];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4]);
        for exit in all {
            let line = format!("  {}  ", exit.code());
            assert!(crate::cli::EXIT_CODES.contains(&line), "code {} is not in --help", exit.code());
        }
    }
}
