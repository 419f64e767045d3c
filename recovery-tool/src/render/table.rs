//! Tables without lines: they fit a terminal, and where they are piped each row is one line.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Width};

use super::Style;

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    right: bool,
    breaks: bool,
}

impl Column {
    /// Text that is never broken: names, words.
    pub(crate) fn word(title: &'static str) -> Self {
        Self { title, right: false, breaks: false }
    }

    /// Numbers and durations.
    pub(crate) fn number(title: &'static str) -> Self {
        Self { title, right: true, breaks: false }
    }

    /// Sentences, which are broken where the terminal ends.
    pub(crate) fn sentence(title: &'static str) -> Self {
        Self { title, right: false, breaks: true }
    }
}

/// A table that grows by rows.
pub(crate) struct Table {
    inner: comfy_table::Table,
    style: Style,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(columns: &[Column], style: Style) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(NOTHING);
        // The library asks the terminal only where there is one, and colors only where there are to be colors.
        if style.color {
            inner.enforce_styling();
        }
        if style.terminal {
            inner.set_content_arrangement(ContentArrangement::Dynamic);
        }
        if !style.terminal || style.width.is_some() {
            inner.force_no_tty();
        }
        if let Some(width) = style.width {
            inner.set_width(width);
        }
        let header = |column: &Column| Cell::new(column.title).add_attribute(Attribute::Bold);
        inner.set_header(columns.iter().map(header));
        for (column, shape) in inner.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            if shape.right {
                column.set_cell_alignment(CellAlignment::Right);
            }
            column.set_constraint(if shape.breaks {
                // Room for the title and the padding.
                let least = u16::try_from(shape.title.len() + 2).unwrap_or(u16::MAX);
                ColumnConstraint::LowerBoundary(Width::Fixed(least))
            } else {
                ColumnConstraint::ContentWidth
            });
        }
        Self { inner, style }
    }

    /// Adds a row of plain text.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.colored(cells.into_iter().map(|cell| (cell.into(), None)));
    }

    /// Adds a row with colors.
    pub(crate) fn colored(&mut self, cells: impl IntoIterator<Item = (String, Option<Color>)>) {
        let color = self.style.color;
        let cell = |(text, fg): (String, Option<Color>)| match fg.filter(|_| color) {
            Some(fg) => Cell::new(text).fg(fg),
            None => Cell::new(text),
        };
        let row: Vec<Cell> = cells.into_iter().map(cell).collect();
        self.inner.add_row(row);
    }

    /// The whole of it, without blanks at the ends of lines; one newline at the end.
    pub(crate) fn text(&self) -> String {
        format!("{}\n", self.inner.trim_fmt())
    }
}
