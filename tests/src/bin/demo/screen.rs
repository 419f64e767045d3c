//! What the demonstration prints: calm text, on a terminal with a little weight and a progress bar.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How many lines of a program's output are shown.
const QUOTED: usize = 8;

/// Where it prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    styled: bool,
}

impl Screen {
    /// Standard output, with weight and colour where that is a terminal and `NO_COLOR` is not set.
    pub(crate) fn open() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { styled: std::io::stdout().is_terminal() && !plain }
    }

    /// Begins a part.
    pub(crate) fn heading(self, text: &str) {
        println!("\n{}", self.style("1", text));
    }

    /// A line of a part.
    pub(crate) fn line(self, text: &str) {
        println!("  {text}");
    }

    /// A line that says that something holds, or does not.
    pub(crate) fn verdict(self, holds: bool, text: &str) {
        let mark = if holds { self.style("32", "✓") } else { self.style("31", "✗") };
        println!("  {mark} {text}");
    }

    /// A command, and the beginning of what it printed.
    pub(crate) fn quote(self, command: &str, output: &str) {
        println!("\n  {}", self.style("1", &format!("$ {command}")));
        let lines: Vec<&str> = output.trim().lines().collect();
        for line in lines.iter().take(QUOTED) {
            println!("  {}", self.style("2", line));
        }
        if lines.len() > QUOTED {
            println!("  {}", self.style("2", &format!("… {} more", lines.len() - QUOTED)));
        }
        println!();
    }

    /// Rows in columns.
    pub(crate) fn table(self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }

    /// A bar for `steps` steps; nothing is drawn where standard output is not a terminal.
    pub(crate) fn bar(self, steps: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("  {wide_bar} {pos}/{len}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌"));
        bar
    }

    fn style(self, code: &str, text: &str) -> String {
        if self.styled { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Cents, as money is written.
pub(crate) fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", count(cents.unsigned_abs() / 100), cents.unsigned_abs() % 100)
}

/// A number with its thousands set apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_with_cents_and_thousands() {
        assert_eq!(
            [0, 5, 100_000, 123_456_789, -150].map(money),
            ["0.00", "0.05", "1,000.00", "1,234,567.89", "-1.50"]
        );
    }
}
