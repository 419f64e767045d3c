//! What is printed.

use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use super::arguments::Asks;
use super::resident::Processor;
use crate::latency::Latencies;
use crate::report::Spread;

/// How often memory is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// Under what load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) participants: u32,
    pub(crate) in_flight: u32,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in flight, {} participants", self.in_flight, self.participants)
    }
}

/// One measurement.
pub(crate) struct Measured {
    /// Outcomes that callers were told.
    pub(crate) told: u64,
    pub(crate) seconds: f64,
    /// Forced writes, and what they took together.
    pub(crate) forced: u64,
    pub(crate) forced_us: u64,
    /// Of the outcomes, the commits.
    pub(crate) decided: u64,
    pub(crate) processor: Processor,
    /// The most that the process had resident.
    pub(crate) mebibytes: f64,
    pub(crate) latencies: Latencies,
}

impl Measured {
    /// Outcomes told each second.
    pub(crate) fn rate(&self) -> f64 {
        self.told as f64 / self.seconds
    }

    fn each(&self, amount: f64) -> f64 {
        if self.told == 0 { 0.0 } else { amount / self.told as f64 }
    }

    fn forced_each(&self) -> f64 {
        self.each(self.forced as f64)
    }

    fn forced_ms(&self) -> f64 {
        if self.forced == 0 { 0.0 } else { self.forced_us as f64 / 1e3 / self.forced as f64 }
    }

    fn log_us(&self) -> f64 {
        self.each(self.processor.log.as_secs_f64() * 1e6)
    }

    fn rest_us(&self) -> f64 {
        self.each(self.processor.rest.as_secs_f64() * 1e6)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} outcomes a second, {} forced writes of {:.2} ms for {} commits, p99 {:.2} ms, {:.0} MiB; \
             for each, {:.1} µs of the log's thread and {:.1} of the others",
            self.rate(),
            self.forced,
            self.forced_ms(),
            self.decided,
            self.latencies.at(0.99),
            self.mebibytes,
            self.log_us(),
            self.rest_us(),
        )
    }
}

/// The medians of all rounds.
pub(crate) fn table(asks: Asks, rounds: &[(Point, Vec<Measured>)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "participants",
        "in flight",
        "",
        "outcomes/s (least to most)",
        "p50 ms",
        "p99 ms",
        "forced writes each",
        "log's thread µs",
        "other threads µs",
        "MiB",
    ]);
    for (point, measured) in rounds {
        let middle = |of: fn(&Measured) -> f64| Spread::of(measured.iter().map(of)).map_or(0.0, |s| s.median);
        let rate = Spread::of(measured.iter().map(Measured::rate));
        table.add_row([
            point.participants.to_string(),
            point.in_flight.to_string(),
            asks.to_string(),
            rate.map(|s| format!("{:.0} ({:.0} to {:.0})", s.median, s.least, s.most)).unwrap_or_default(),
            format!("{:.2}", middle(|one| one.latencies.at(0.5))),
            format!("{:.2}", middle(|one| one.latencies.at(0.99))),
            format!("{:.4}", middle(Measured::forced_each)),
            format!("{:.1}", middle(Measured::log_us)),
            format!("{:.1}", middle(Measured::rest_us)),
            format!("{:.0}", middle(|one| one.mebibytes)),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A bar of `length` things.
pub(crate) fn bar(length: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let template = format!("{{wide_bar}} {{human_pos}}/{{human_len}} {what}  {{msg}}");
    let style = ProgressStyle::with_template(&template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌"));
    bar
}
