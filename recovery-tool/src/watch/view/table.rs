//! One table: a title, columns that fit, rows of which one is selected, and the selected one in full.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::border;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, HighlightSpacing, Paragraph, Row, TableState};
use textwrap::core::display_width;

use super::columns::{Cell, Column, GAP, Kind, cut, fit};
use super::look::Look;

/// In front of the selected row.
const POINTER: &str = "> ";
/// As many lines as the selected row gets to itself.
const DETAIL: usize = 4;
/// As many rows as are shown at least, where there are so many.
const ROWS: usize = 2;

/// A table that knows how many lines it wants.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) title_style: Style,
    /// The keys move over its rows.
    pub(super) focused: bool,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Vec<Cell>>,
    pub(super) selected: Option<usize>,
    /// What is said where there are no rows.
    pub(super) empty: Cell,
    /// The selected row in full, in paragraphs.
    pub(super) detail: Vec<String>,
}

impl Table {
    /// How many lines it takes to show everything: at least the title, and a line below it.
    pub(super) fn wanted(&self, width: u16) -> usize {
        match self.rows.len() {
            0 => 2,
            rows => 2 + rows + self.detail_lines(width).len(),
        }
    }

    /// How many lines it takes to be of use.
    pub(super) fn least(&self, width: u16) -> usize {
        match self.rows.len() {
            0 => 2,
            rows => 2 + rows.min(ROWS) + self.detail_lines(width).len().min(if self.focused { 3 } else { 0 }),
        }
    }

    fn detail_lines(&self, width: u16) -> Vec<String> {
        let width = usize::from(width).saturating_sub(POINTER.len());
        let paragraphs = self.detail.iter().flat_map(|paragraph| textwrap::wrap(paragraph, width));
        paragraphs.take(DETAIL).map(std::borrow::Cow::into_owned).collect()
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>, area: Rect, look: Look) {
        let detail = self.detail_lines(area.width);
        // Title and columns stay; the rows come before what is said of one of them.
        let spare = usize::from(area.height).saturating_sub(2 + self.rows.len().min(ROWS));
        let detail: Vec<String> = detail.into_iter().take(spare).collect();
        // Right below the rows.
        let rows = u16::try_from(self.rows.len().max(1).saturating_add(2)).unwrap_or(u16::MAX);
        let lines = u16::try_from(detail.len()).unwrap_or_default();
        let above = rows.min(area.height.saturating_sub(lines));
        let [above, below] =
            Layout::vertical([Constraint::Length(above), Constraint::Length(lines)]).areas(area);
        let block = self.block(above, look);
        let inner = block.inner(above);
        frame.render_widget(block, above);
        if self.rows.is_empty() {
            let (text, style) = self.empty.clone();
            frame.render_widget(Line::styled(format!("{}{text}", " ".repeat(POINTER.len())), style), inner);
            return;
        }
        self.draw_rows(frame, inner, look);
        let line = |text: String| Line::styled(format!("{}{text}", " ".repeat(POINTER.len())), look.quiet());
        frame.render_widget(Paragraph::new(detail.into_iter().map(line).collect::<Vec<_>>()), below);
    }

    fn block(&self, area: Rect, look: Look) -> Block<'static> {
        let title_style =
            if self.focused { look.heading().patch(self.title_style) } else { self.title_style };
        // Below the title and the names of the columns.
        let room = usize::from(area.height).saturating_sub(2);
        let part = if self.rows.len() > room && room > 0 {
            let first = self.first(room);
            format!(" {}-{} of {} ", first + 1, (first + room).min(self.rows.len()), self.rows.len())
        } else {
            String::new()
        };
        let room = usize::from(area.width).saturating_sub(display_width(&part) + 3);
        let title = cut(&self.title, Kind::Sentence, room);
        let (set, border_style) =
            if self.focused { (border::THICK, look.heading()) } else { (border::PLAIN, look.quiet()) };
        Block::new()
            .borders(Borders::TOP)
            .border_set(set)
            .border_style(border_style)
            .title(Line::from(Span::styled(format!(" {title} "), title_style)))
            .title(Line::raw(part).right_aligned())
    }

    /// The first row that is shown: the selected one stands in the middle where it can.
    fn first(&self, room: usize) -> usize {
        let before = self.selected.unwrap_or_default().saturating_sub(room / 2);
        before.min(self.rows.len().saturating_sub(room))
    }

    fn draw_rows(&self, frame: &mut Frame<'_>, area: Rect, look: Look) {
        let shown = fit(self.columns, &self.rows, usize::from(area.width).saturating_sub(POINTER.len()));
        let title = |(at, width): &(usize, usize)| {
            let column = self.columns.get(*at).map(|column| cut(column.title, column.kind, *width));
            Span::styled(column.unwrap_or_default(), look.quiet())
        };
        let cell = |row: &[Cell], (at, width): &(usize, usize)| {
            let (text, style) = row.get(*at).cloned().unwrap_or_default();
            let kind = self.columns.get(*at).map(|column| column.kind);
            Span::styled(kind.map(|kind| cut(&text, kind, *width)).unwrap_or_default(), style)
        };
        let header = Row::new(shown.iter().map(title));
        let rows = self.rows.iter().map(|row| Row::new(shown.iter().map(|column| cell(row, column))));
        let widths =
            shown.iter().map(|(_, width)| Constraint::Length(u16::try_from(*width).unwrap_or(u16::MAX)));
        let table = ratatui::widgets::Table::new(rows, widths)
            .header(header)
            .column_spacing(u16::try_from(GAP).unwrap_or(1))
            .highlight_symbol(if self.focused { POINTER } else { "  " })
            .highlight_spacing(HighlightSpacing::Always)
            .row_highlight_style(if self.focused { look.selected() } else { Style::new() });
        let room = usize::from(area.height).saturating_sub(1);
        let mut state = TableState::new().with_offset(self.first(room)).with_selected(self.selected);
        frame.render_stateful_widget(table, area, &mut state);
    }
}
