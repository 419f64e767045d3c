//! Log lines: through tracing, on standard error, as text for people or as JSON for collectors.

use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// The environment variable that overrides the configured filter.
pub const FILTER_VARIABLE: &str = "VOTUM_LOG";

/// Section `[logging]` of a server's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Which lines are written, for example `info` or `warn,votum_coordinator::driver=debug`.
    pub filter: String,
    /// How they are written.
    pub format: Format,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One line of text, coloured on a terminal unless `NO_COLOR` is set.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Logging {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: Format::Text }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error("{0}")]
    Filter(String),
    /// This process logs already.
    #[error("logging was set up twice in this process: {0}")]
    Twice(#[from] TryInitError),
}

impl Logging {
    /// What is wrong with this section, for [`Check`](super::config::Check).
    pub fn problems(&self) -> Vec<String> {
        parse(&self.filter, "logging.filter").err().into_iter().collect()
    }

    /// Sets logging up for the whole process, once.
    ///
    /// # Errors
    /// When the filter, from here or from `VOTUM_LOG`, cannot be read; or when logging stands already.
    pub fn init(&self) -> Result<(), LoggingError> {
        let overriding = std::env::var(FILTER_VARIABLE).ok().filter(|filter| !filter.is_empty());
        let filter = match &overriding {
            Some(filter) => parse(filter, FILTER_VARIABLE),
            None => parse(&self.filter, "logging.filter"),
        };
        let filter = filter.map_err(LoggingError::Filter)?;
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(!no_color && std::io::stderr().is_terminal());
        match self.format {
            Format::Text => lines.finish().try_init()?,
            Format::Json => lines.json().finish().try_init()?,
        }
        Ok(())
    }
}

fn parse(filter: &str, origin: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|error| {
        format!("{origin} is not a log filter ({filter:?}: {error}): write a level such as info, or target=level,…")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_a_problem_with_a_remedy() {
        assert!(Logging::default().problems().is_empty());
        let wrong = Logging { filter: "votum=loud".to_owned(), ..Logging::default() };
        let problems = wrong.problems();
        assert!(matches!(problems.as_slice(), [line] if line.contains("votum=loud")), "{problems:?}");
    }

    #[test]
    fn the_section_may_be_empty_or_partial() {
        let read = |text: &str| toml::from_str::<Logging>(text).unwrap();
        assert_eq!(read(""), Logging::default());
        assert_eq!(read("format = \"json\"").format, Format::Json);
    }
}
