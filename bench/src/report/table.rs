//! The report for people.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use super::Report;
use super::spread::Spread;
use super::summary::Summary;
use crate::latency::Percentiles;
use crate::point::Point;

const LATENCIES: [&str; 6] = ["p50", "p90", "p95", "p99", "p99.9", "max ms"];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.settings)?;
        let (open, closed): (Vec<&Summary>, Vec<&Summary>) =
            self.summary.iter().partition(|one| one.point.is_open());
        if !closed.is_empty() {
            writeln!(f, "\nClosed loops: each worker begins when it has the answer to its last.")?;
            writeln!(f, "{}", closed_loops(&closed))?;
        }
        if !open.is_empty() {
            writeln!(f, "\nOpen loops: latency counts from when a transaction should have begun.")?;
            writeln!(f, "{}", open_loops(&open))?;
            overloaded(f, &open)?;
        }
        if self.summary.iter().any(|one| one.read_latency_ms.is_some()) {
            writeln!(f, "\nOf these, transactions that only read:\n{}", reads(&self.summary))?;
        }
        errors(f, &self.summary)
    }
}

fn closed_loops(rows: &[&Summary]) -> Table {
    let first = ["workers", "", "tx/s (least to most)"];
    let mut table = table(first.into_iter().chain(LATENCIES).chain(["errors", "of direct (least to most)"]));
    for one in rows {
        let cells = [one.point.workers().to_string(), one.contender.to_string()];
        let cells = cells.into_iter().chain([spread(one.transactions_per_second, 0)]);
        let cells = cells.chain(latencies(one.latency_ms.as_ref()));
        let of_direct = one.throughput_of_direct.map(|ratio| spread(ratio, 2)).unwrap_or_default();
        table.add_row(cells.chain([one.failed().to_string(), of_direct]));
    }
    aligned(table, &[1])
}

fn open_loops(rows: &[&Summary]) -> Table {
    let first = ["a second", "at once", "", "done a second (least to most)"];
    let last =
        ["late p99 ms", "under way at the end", "never begun", "errors", "p50 by direct's (least to most)"];
    let mut table = table(first.into_iter().chain(LATENCIES).chain(last));
    for one in rows {
        let (rate, in_flight) = match one.point {
            Point::Open { rate, in_flight } => (rate, in_flight),
            Point::Closed { .. } => continue,
        };
        let cells = [rate.to_string(), in_flight.to_string(), one.contender.to_string()];
        let cells = cells.into_iter().chain([spread(one.transactions_per_second, 0)]);
        let cells = cells.chain(latencies(one.latency_ms.as_ref()));
        table.add_row(cells.chain([
            one.late_p99_ms.map(|late| format!("{:.2}", late.median)).unwrap_or_default(),
            one.unfinished.to_string(),
            one.never_begun.to_string(),
            one.failed().to_string(),
            one.p50_of_direct.map(|ratio| spread(ratio, 2)).unwrap_or_default(),
        ]));
    }
    aligned(table, &[2])
}

fn reads(rows: &[Summary]) -> Table {
    let mut table = table(["", ""].into_iter().chain(LATENCIES));
    for one in rows {
        let cells = [one.point.to_string(), one.contender.to_string()];
        table.add_row(cells.into_iter().chain(latencies(one.read_latency_ms.as_ref())));
    }
    aligned(table, &[0, 1])
}

/// What latencies are worth where not everything could begin.
fn overloaded(f: &mut fmt::Formatter<'_>, rows: &[&Summary]) -> fmt::Result {
    for one in rows.iter().filter(|one| one.never_begun > 0) {
        writeln!(
            f,
            "{}, {}: more arrived than it could do. {} transactions never began; the latencies are those of \
             the others, and would grow with a longer measurement.",
            one.point, one.contender, one.never_begun
        )?;
    }
    Ok(())
}

fn errors(f: &mut fmt::Formatter<'_>, rows: &[Summary]) -> fmt::Result {
    for one in rows.iter().filter(|one| !one.errors.is_empty()) {
        let kinds: Vec<String> = one.errors.iter().map(|(kind, times)| format!("{times} × {kind}")).collect();
        writeln!(f, "Errors at {}, {}: {}", one.point, one.contender, kinds.join("; "))?;
    }
    Ok(())
}

fn latencies(of: Option<&Percentiles>) -> [String; 6] {
    match of {
        Some(Percentiles { p50, p90, p95, p99, p99_9, max }) => {
            [p50, p90, p95, p99, p99_9, max].map(|one| format!("{one:.2}"))
        }
        None => [const { String::new() }; 6],
    }
}

fn spread(Spread { median, least, most }: Spread, digits: usize) -> String {
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}

fn table<'a>(columns: impl Iterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(columns);
    table
}

/// Numbers to the right, names to the left.
fn aligned(mut table: Table, names: &[usize]) -> Table {
    for (place, column) in table.column_iter_mut().enumerate() {
        let alignment = if names.contains(&place) { CellAlignment::Left } else { CellAlignment::Right };
        column.set_cell_alignment(alignment);
    }
    table
}
