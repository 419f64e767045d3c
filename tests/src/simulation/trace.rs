//! What happened, in order, for a person to read: kept only where somebody will.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::executor::Executor;

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

/// Where production code's own log lines go: between the others.
pub struct LogLines {
    trace: Arc<Trace>,
    executor: Arc<Executor>,
}

impl LogLines {
    /// A subscriber that writes them into `trace`.
    pub fn subscriber(
        trace: &Arc<Trace>,
        executor: &Arc<Executor>,
    ) -> impl tracing::Subscriber + Send + Sync {
        let lines = Self { trace: Arc::clone(trace), executor: Arc::clone(executor) };
        tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(lines)
            .finish()
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl io::Write for &LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        self.trace.note(self.executor.now(), "log", || line.trim().to_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
