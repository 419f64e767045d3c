//! The pages of `votumctl explain`.

use std::fmt::Write as _;

use super::{Column, Style, Table};
use crate::explain::Page;

/// Wider paragraphs are hard to read, however wide the terminal is.
const WIDEST: usize = 100;

/// `votumctl explain`, for people.
pub(crate) fn titles(pages: &[&Page], style: Style) -> String {
    let mut table = Table::new(&[Column::word("CODE"), Column::sentence("WHAT HAPPENED")], style);
    for page in pages {
        table.row([page.code, page.title]);
    }
    table.text()
}

/// `votumctl explain CODE`, for people.
pub(crate) fn page(page: &Page, style: Style) -> String {
    let mut text = format!("{}\n", style.heading(&format!("{}: {}", page.code, page.title)));
    for (heading, sentences) in [
        ("What it means", page.meaning),
        ("Likely cause", page.cause),
        ("What is safe", page.safe),
        ("What to do", page.remedy),
    ] {
        let _ = write!(text, "\n{heading}\n{}", paragraph(sentences, style.text_width().min(WIDEST)));
    }
    text
}

/// `text` indented, in lines of at most `width` columns.
fn paragraph(text: &str, width: usize) -> String {
    let (mut lines, mut line) = (String::new(), String::from(" "));
    for word in text.split(' ') {
        if line.len() > 1 && line.len() + 1 + word.len() > width {
            let _ = writeln!(lines, "{line}");
            line = String::from(" ");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(lines, "{line}");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_broken_between_words() {
        let expected = "  one two three\n  four\n  a-long-word-of-its-own\n  five\n";
        assert_eq!(paragraph("one two three four a-long-word-of-its-own five", 16), expected);
    }

    #[test]
    fn a_page_says_what_it_means_what_is_safe_and_what_to_do() {
        let text = page(crate::explain::page("1402").unwrap(), Style::plain(false));
        for heading in ["VOTUM-1402: ", "\nWhat it means\n  ", "\nWhat is safe\n  ", "\nWhat to do\n  "] {
            assert!(text.contains(heading), "{text}");
        }
        assert!(text.lines().all(|line| line.len() <= WIDEST), "{text}");
    }
}
