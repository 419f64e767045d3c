//! Answers for people, and where they go.

mod acknowledgement;
mod doctor;
mod in_doubt;
mod log;
mod lost_log;
mod page;
mod resolution;
mod status;
mod table;
mod transactions;
mod write_off;

use std::io::{self, Write};

use comfy_table::Color;
use serde::Serialize;

pub(crate) use acknowledgement::{acknowledgement, unproven_acknowledgement};
pub(crate) use doctor::doctor;
pub(crate) use in_doubt::in_doubt;
pub(crate) use log::{dump_heading, dumped, salvage_end, salvage_heading, salvaged, verified};
pub(crate) use lost_log::lost_log;
pub(crate) use page::{page, titles};
pub(crate) use resolution::resolution;
pub(crate) use status::status;
pub(crate) use table::{Column, Table};
pub(crate) use transactions::{list, shown};
pub(crate) use write_off::write_off;

use crate::failure::Failure;

/// How text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether there are colors.
    color: bool,
    /// Tables fit into so many columns; `None`: into the terminal, or, where there is none, they are as wide
    /// as they are.
    width: Option<u16>,
    terminal: bool,
}

impl Style {
    /// For a terminal, as wide as it is.
    pub(crate) fn terminal(color: bool) -> Self {
        Self { color, width: None, terminal: true }
    }

    /// For a file or a pipe: no line is broken.
    pub(crate) fn plain(color: bool) -> Self {
        Self { color, width: None, terminal: false }
    }

    /// Without colors, for so many columns of a terminal.
    pub(crate) fn columns(width: u16) -> Self {
        Self { color: false, width: Some(width), terminal: true }
    }

    /// How many columns there are for text; without end where there is no terminal.
    pub(crate) fn text_width(self) -> usize {
        let terminal = || comfy_table::Table::new().width().filter(|_| self.terminal);
        self.width.or_else(terminal).map_or(usize::MAX, usize::from)
    }

    /// Whether there are colors.
    pub(crate) fn colored(self) -> bool {
        self.color
    }

    /// `text` in bold, where there are colors.
    pub(crate) fn heading(self, text: &str) -> String {
        if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// `text` as something that needs a person, where there are colors.
    pub(crate) fn alarming(self, text: &str) -> String {
        if self.color { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Where answers go.
pub(crate) struct Screen<'a> {
    out: &'a mut dyn Write,
    style: Style,
    json: bool,
}

impl<'a> Screen<'a> {
    /// Writes to `out`: JSON, or text in that style.
    pub(crate) fn new(out: &'a mut dyn Write, style: Style, json: bool) -> Self {
        Self { out, style, json }
    }

    /// How to draw, where a person looks at a terminal; `None` for a file, a pipe or a program.
    pub(crate) fn live(&self) -> Option<Style> {
        (self.style.terminal && !self.json).then_some(self.style)
    }

    /// One answer: the document, or what `text` makes of it.
    ///
    /// # Errors
    /// When it cannot be written. A reader that went away (`| head`) is no error.
    pub(crate) fn answer<T: Serialize>(
        &mut self,
        document: &T,
        text: impl FnOnce(&T, Style) -> String,
    ) -> io::Result<()> {
        let written = if self.json { pretty(document)? } else { text(document, self.style) };
        self.write(written.trim_end())
    }

    /// One of many answers, which follow one another: a JSON document on one line, or what `text` makes of it.
    /// Says whether anybody reads on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn line<T: Serialize>(
        &mut self,
        document: &T,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<bool> {
        let line = if self.json { serde_json::to_string(document)? } else { text(document) };
        match writeln!(self.out, "{line}") {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A sentence for people; nothing where a program reads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn remark(&mut self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.write(text) }
    }

    /// Text that is for a program, though not JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn raw(&mut self, text: &str) -> io::Result<()> {
        self.write(text.trim_end())
    }

    /// The failure as a document, where a program reads; people are told on stderr.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn failure(&mut self, failure: &Failure) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let code = (!failure.code.is_empty()).then_some(failure.code.as_str());
        let error = FailureDocument { code, exit_code: failure.exit.code(), message: &failure.message };
        // On one line: it may be the last of many documents.
        let line = serde_json::to_string(&ErrorDocument { error })?;
        self.write(&line)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        match writeln!(self.out, "{text}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: FailureDocument<'a>,
}

#[derive(Serialize)]
struct FailureDocument<'a> {
    code: Option<&'a str>,
    exit_code: u8,
    message: &'a str,
}

fn pretty<T: Serialize>(document: &T) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(document)?)
}

/// A duration in milliseconds, for people.
pub(crate) fn duration(ms: u64) -> String {
    const SECOND: u64 = 1_000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..10_000 => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        10_000..MINUTE => format!("{} s", ms / SECOND),
        MINUTE..HOUR => format!("{} min {} s", ms / MINUTE, ms % MINUTE / SECOND).replace(" 0 s", ""),
        HOUR..DAY => format!("{} h {} min", ms / HOUR, ms % HOUR / MINUTE).replace(" 0 min", ""),
        DAY.. => format!("{} d {} h", ms / DAY, ms % DAY / HOUR).replace(" 0 h", ""),
    }
}

/// A duration, or a dash where none is known.
pub(crate) fn maybe_duration(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), duration)
}

/// `1 branch`, `2 branches`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// What a state or an outcome looks like.
fn state_color(state: &str) -> Option<Color> {
    match state {
        "heuristic" | "quarantined" | "hazard" => Some(Color::Red),
        "committing" | "aborting" | "deciding" | "delegating" | "one-phase" | "unknown" | "undecided" => {
            Some(Color::Yellow)
        }
        "committed" | "acknowledged" => Some(Color::Green),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_that_people_say() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (3_240, "3.2 s"),
            (59_999, "59 s"),
            (240_000, "4 min"),
            (250_000, "4 min 10 s"),
            (600_000, "10 min"),
            (3_600_000, "1 h"),
            (11_520_000, "3 h 12 min"),
            (180_000_000, "2 d 2 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn a_failure_is_a_document_of_its_own_where_a_program_reads() {
        let mut out = Vec::new();
        let failure = Failure::broken("VOTUM-1107", "damaged");
        Screen::new(&mut out, Style::plain(false), true).failure(&failure).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(document["error"]["exit_code"], 4);
        assert_eq!(document["error"]["code"], "VOTUM-1107");
        out.clear();
        Screen::new(&mut out, Style::plain(false), false).failure(&failure).unwrap();
        assert!(out.is_empty(), "people are told on stderr, once");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut closed = Closed;
        let mut screen = Screen::new(&mut closed, Style::plain(false), false);
        assert!(screen.answer(&1, |_, _| "text".into()).is_ok());
        assert!(!screen.line(&1, |_| "text".into()).unwrap());
    }
}
