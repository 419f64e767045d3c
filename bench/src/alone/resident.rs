//! What this process uses, as Linux counts it.

use std::fs;
use std::time::Duration;

/// Memory in mebibytes, now; 0 where there is no /proc.
pub(crate) fn mebibytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines().filter_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = lines.next().and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.unwrap_or(0.0) / 1024.0
}

/// Processor time of the threads so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Processor {
    /// Of the log's writing thread.
    pub(crate) log: Duration,
    /// Of all others.
    pub(crate) rest: Duration,
}

impl Processor {
    /// Until now; nothing where there is no /proc.
    pub(crate) fn now() -> Self {
        let mut used = Self::default();
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let spent = read("schedstat").split(' ').next().and_then(|text| text.parse().ok());
            let spent = Duration::from_nanos(spent.unwrap_or(0));
            if read("comm").trim() == "votum-log" {
                used.log += spent;
            } else {
                used.rest += spent;
            }
        }
        used
    }

    /// Since an earlier look. A thread that ended took its time with it.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { log: self.log.saturating_sub(earlier.log), rest: self.rest.saturating_sub(earlier.rest) }
    }
}
