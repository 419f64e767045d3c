//! What stands above the tables: who answers, how it is, how fast it goes.

use std::time::Duration;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::look::Look;
use crate::document::Status;
use crate::failure::Failure;
use crate::render::{count, duration};
use crate::watch::model::Model;

/// A picture this much older than it should be is called old.
const OLD: Duration = Duration::from_secs(3);

/// As many lines of a failure are shown.
const LINES: usize = 3;

/// The lines, for a terminal of so many columns.
pub(super) fn lines(model: &Model, look: Look, width: u16) -> Vec<Line<'static>> {
    let mut lines = vec![first(model, look, usize::from(width))];
    if let Some(status) = model.status.last() {
        lines.push(log(model, status, look));
        lines.push(transactions(model, status, look));
    } else if model.status.failure().is_none() {
        lines.push(Line::raw("Asking the coordinator …"));
    }
    // What is in doubt is asked apart, and may fail alone.
    let failure = model.status.failure().map(|failure| (failure, model.status.next_in(model.now)));
    let other = || model.in_doubt.failure().map(|failure| (failure, model.in_doubt.next_in(model.now)));
    if let Some((failure, next)) = failure.or_else(other) {
        lines.extend(why(failure, next, look, usize::from(width)));
    }
    lines
}

/// Who, how it is, and how old that is.
fn first(model: &Model, look: Look, width: usize) -> Line<'static> {
    let name = model
        .status
        .last()
        .map_or("coordinator".to_owned(), |status| format!("coordinator {}", status.coordinator_id));
    let (word, style) = state(model, look);
    let (right, right_style) = age(model, look);
    let used = [&name, &word, &right].iter().map(|text| textwrap::core::display_width(text)).sum::<usize>();
    let gap = " ".repeat(width.saturating_sub(used + 2).max(1));
    Line::from_iter([
        Span::styled(name, look.heading()),
        Span::raw("  "),
        Span::styled(word, style),
        Span::raw(gap),
        Span::styled(right, right_style),
    ])
}

/// As `status` judges it.
fn state(model: &Model, look: Look) -> (String, Style) {
    let Some(status) = model.status.last() else {
        return match model.status.failure() {
            Some(_) => ("NO ANSWER".to_owned(), look.alarming()),
            None => (String::new(), Style::new()),
        };
    };
    if model.status.failure().is_some() {
        return ("NO ANSWER: this is an old picture".to_owned(), look.alarming());
    }
    if let Some(why) = broken(status) {
        return (format!("BROKEN: {why}"), look.alarming());
    }
    match model.trouble_rows().len() as u64 {
        0 if model.in_doubt.last().is_none() => ("asking what is in doubt …".to_owned(), Style::new()),
        0 => ("HEALTHY".to_owned(), look.good()),
        many => {
            (format!("ATTENTION: {}", count(many, "thing to look at", "things to look at")), look.alarming())
        }
    }
}

/// What keeps it from beginning transactions until a person has acted.
fn broken(status: &Status) -> Option<String> {
    if status.log.stale {
        return Some("the log is stale".to_owned());
    }
    ["unreadable", "latched"]
        .contains(&status.log.state.as_str())
        .then(|| format!("the log is {}", status.log.state))
}

/// How old the oldest part of the picture is, and how often it is renewed.
fn age(model: &Model, look: Look) -> (String, Style) {
    let ages = [model.status.age(model.now), model.in_doubt.age(model.now)];
    let oldest = ages.into_iter().flatten().max().unwrap_or_default();
    let old = duration(millis(oldest));
    if model.status.failure().is_some() || model.in_doubt.failure().is_some() {
        // Before the first answer there is no picture.
        let text = if model.status.last().is_some() { format!("{old} old") } else { String::new() };
        return (text, look.alarming());
    }
    if model.paused {
        return (format!("PAUSED, {old} old"), look.warning());
    }
    let every = format!("every {}", duration(millis(model.interval)));
    if oldest > model.interval + OLD {
        return (format!("{old} old, {every}"), look.warning());
    }
    (every, look.quiet())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn log(model: &Model, status: &Status, look: Look) -> Line<'static> {
    let log = &status.log;
    let written = match model.rates {
        Some(rates) => {
            let per_second = rate(rates.forced_writes);
            let took = |ms| format!(", forced write {ms:.2} ms ({per_second}/s)");
            rates.forced_write_ms.map_or(", no forced writes".to_owned(), took)
        }
        None => String::new(),
    };
    let style = if log.state == "ready" && !log.stale { Style::new() } else { look.alarming() };
    Line::from_iter([
        Span::raw(format!("epoch {}-{}  up {}  ", status.epoch, status.incarnation, duration(status.up_ms))),
        Span::styled(format!("log {}{}", log.state, if log.stale { ", STALE" } else { "" }), style),
        Span::raw(written),
    ])
}

fn transactions(model: &Model, status: &Status, look: Look) -> Line<'static> {
    let now = format!("{} in flight, {} not acknowledged  ", status.in_flight, status.undelivered);
    let rates = match model.rates {
        Some(rates) => {
            let read_only = match rates.read_only {
                none if none <= 0.0 => String::new(),
                some => format!(", {} read-only", rate(some)),
            };
            format!("{}/s committed, {} aborted{read_only}", rate(rates.committed), rate(rates.aborted))
        }
        None => String::new(),
    };
    Line::from_iter([Span::raw(now), Span::styled(rates, look.heading())])
}

/// One digit behind the point where that says something.
fn rate(per_second: f64) -> String {
    if per_second >= 100.0 || per_second <= 0.0 {
        format!("{per_second:.0}")
    } else {
        format!("{per_second:.1}")
    }
}

fn why(failure: &Failure, next: Option<Duration>, look: Look, width: usize) -> Vec<Line<'static>> {
    let again = match next {
        Some(wait) => format!("trying again in {}", duration(millis(wait))),
        None => "trying again now".to_owned(),
    };
    let text = format!("! {again}: {failure}");
    let mut lines = textwrap::wrap(&text, width);
    if lines.len() > LINES {
        lines.truncate(LINES);
        if let Some(last) = lines.last_mut() {
            *last = format!("{} …", last.chars().take(width.saturating_sub(2)).collect::<String>()).into();
        }
    }
    lines.into_iter().map(|line| Line::styled(line.into_owned(), look.alarming())).collect()
}
