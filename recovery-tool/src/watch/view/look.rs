//! How things look. Nothing is told by color alone: whoever has none reads the same.

use ratatui::style::{Color, Modifier, Style};

#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    color: bool,
}

impl Look {
    pub(super) fn new(style: crate::render::Style) -> Self {
        Self { color: style.colored() }
    }

    fn colored(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    /// Needs a person.
    pub(super) fn alarming(self) -> Style {
        self.colored(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Deserves a look.
    pub(super) fn warning(self) -> Style {
        self.colored(Color::Yellow)
    }

    /// As it should be.
    pub(super) fn good(self) -> Style {
        self.colored(Color::Green)
    }

    pub(super) fn heading(self) -> Style {
        self.colored(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Less important than what stands around it.
    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
