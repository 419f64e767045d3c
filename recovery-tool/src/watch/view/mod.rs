//! The model as widgets. Nothing here asks or decides anything.

mod columns;
mod header;
mod look;
mod overlay;
mod table;
mod tables;
#[cfg(test)]
mod tests;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use self::look::Look;
use super::model::{Model, Table};
use crate::render::Style;

/// The smallest terminal that shows everything, in columns and lines.
const SMALLEST: (u16, u16) = (80, 24);

/// The keys, in the order in which they are needed.
const KEYS: [(&str, &str); 8] = [
    ("↑↓", "move"),
    ("Tab", "table"),
    ("Enter", "show"),
    ("e", "explain"),
    ("r", "resolve"),
    ("p", "pause"),
    ("?", "help"),
    ("q", "quit"),
];

/// Draws the whole picture; answers how many lines the text of an overlay can be scrolled.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, style: Style) -> usize {
    let (look, area) = (Look::new(style), frame.area());
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        too_small(frame, area);
        return 0;
    }
    let header = header::lines(model, look, area.width);
    let notice = model.notice.as_deref();
    let rows = Layout::vertical([
        Constraint::Length(u16::try_from(header.len()).unwrap_or(u16::MAX)),
        Constraint::Fill(1),
        Constraint::Length(u16::from(notice.is_some())),
        Constraint::Length(1),
    ]);
    let [above, middle, said, keys] = rows.areas(area);
    frame.render_widget(Paragraph::new(header), above);
    draw_tables(frame, middle, model, look);
    if let Some(notice) = notice {
        frame.render_widget(Line::styled(notice.to_owned(), look.warning()), said);
    }
    frame.render_widget(footer(look), keys);
    model.overlay.as_ref().map_or(0, |overlay| overlay::draw(frame, middle, model, overlay, look))
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let text = format!(
        "This terminal has {} columns and {} lines; `votumctl watch` needs {} and {}. Make it larger, or end \
         with q and use `votumctl status` and `votumctl in-doubt`.",
        area.width, area.height, SMALLEST.0, SMALLEST.1
    );
    let lines: Vec<Line<'_>> =
        textwrap::wrap(&text, usize::from(area.width)).into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn footer(look: Look) -> Line<'static> {
    let key = |(key, what): (&'static str, &'static str)| {
        [Span::styled(key, look.heading()), Span::raw(format!(" {what}  "))]
    };
    Line::from_iter(KEYS.into_iter().flat_map(key))
}

/// The three tables share the lines that there are: each gets what it needs, or what is left, the one in focus
/// first.
fn draw_tables(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let all = [
        tables::participants(model, look),
        tables::in_doubt(model, look, area.width),
        tables::alarms(model, look),
    ];
    let order = match model.table {
        Table::Participants => [0, 1, 2],
        Table::InDoubt => [1, 2, 0],
        Table::Alarms => [2, 1, 0],
    };
    let wanted = all.each_ref().map(|table| table.wanted(area.width));
    let least = all.each_ref().map(|table| table.least(area.width));
    let heights = shares(wanted, least, order, usize::from(area.height));
    let constraints = heights.map(|height| Constraint::Length(u16::try_from(height).unwrap_or(u16::MAX)));
    let areas: [Rect; 3] = Layout::vertical(constraints).areas(area);
    for (table, area) in all.iter().zip(areas) {
        table.draw(frame, area, look);
    }
}

/// How many lines each table gets: at least `least`, as much of `wanted` as there is in that order, and what
/// nobody wants goes to the one in the middle.
fn shares(wanted: [usize; 3], least: [usize; 3], order: [usize; 3], lines: usize) -> [usize; 3] {
    let mut left = lines;
    let mut given = [0; 3];
    for at in order {
        if let (Some(given), Some(least)) = (given.get_mut(at), least.get(at)) {
            *given = (*least).min(left);
            left -= *given;
        }
    }
    for at in order {
        if let (Some(given), Some(wanted)) = (given.get_mut(at), wanted.get(at)) {
            let more = wanted.saturating_sub(*given).min(left);
            *given += more;
            left -= more;
        }
    }
    let [participants, in_doubt, alarms] = given;
    [participants, in_doubt + left, alarms]
}
