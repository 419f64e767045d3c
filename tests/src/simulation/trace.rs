//! What happened, in order, for a person to read: kept only where somebody will.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The transcript of one run.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Option<Mutex<String>>,
}

impl Trace {
    /// One that keeps what it is told, or does not.
    pub fn new(kept: bool) -> Self {
        Self { lines: kept.then(Mutex::default) }
    }

    /// Whether anything is kept.
    pub fn is_kept(&self) -> bool {
        self.lines.is_some()
    }

    /// Notes what `who` did or met at `now`.
    pub fn note(&self, now: Duration, who: &str, what: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let what = what();
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writeln!(lines, "{:>4}.{:06}  {who:<14} {what}", now.as_secs(), now.subsec_micros());
        }
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        self.lines
            .as_ref()
            .map(|lines| lines.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }
}
