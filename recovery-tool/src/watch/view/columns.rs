//! Which columns fit, and how wide they are.

use ratatui::style::Style;
use textwrap::core::display_width;

/// Between two columns.
pub(super) const GAP: usize = 2;

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, which is cut in its middle where there is no room: both ends tell it from others.
    Name,
    /// A word, a number or a duration: never cut.
    Word,
    /// Takes the room that is left, and is cut at its end.
    Sentence,
}

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) kind: Kind,
    /// The lower, the sooner it is left out where there is no room.
    pub(super) rank: u8,
}

impl Column {
    pub(super) const fn new(title: &'static str, kind: Kind, rank: u8) -> Self {
        Self { title, kind, rank }
    }
}

/// A cell: what it says, and how that looks.
pub(super) type Cell = (String, Style);

/// As much of a sentence as makes sense.
const LEAST_SENTENCE: usize = 30;
/// As short as a name may be cut.
const LEAST_NAME: usize = 12;

/// The columns that are shown within `room`, each with its width: those of the lowest rank are left out, then
/// names are cut.
pub(super) fn fit(columns: &[Column], rows: &[Vec<Cell>], room: usize) -> Vec<(usize, usize)> {
    let widest = |at: usize, column: &Column| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|(text, _)| display_width(text));
        cells.chain([display_width(column.title)]).max().unwrap_or_default()
    };
    let full: Vec<usize> = columns.iter().enumerate().map(|(at, column)| widest(at, column)).collect();
    let mut shown: Vec<(usize, &Column, usize)> =
        columns.iter().enumerate().zip(&full).map(|((at, column), full)| (at, column, *full)).collect();
    let least = |shown: &[(usize, &Column, usize)]| {
        let each = |(_, column, full): &(usize, &Column, usize)| match column.kind {
            Kind::Sentence => (*full).min(LEAST_SENTENCE),
            Kind::Name | Kind::Word => *full,
        };
        shown.iter().map(each).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    };
    while least(&shown) > room {
        let lowest = shown.iter().map(|(_, column, _)| column.rank).min().unwrap_or(u8::MAX);
        // What has the highest rank is never left out.
        if lowest == u8::MAX {
            break;
        }
        shown.retain(|(_, column, _)| column.rank > lowest);
    }
    cut_names(&mut shown, least, room);
    spread(&shown, room)
}

/// The longest name loses a column after the other.
fn cut_names(
    shown: &mut [(usize, &Column, usize)],
    least: impl Fn(&[(usize, &Column, usize)]) -> usize,
    room: usize,
) {
    while least(shown) > room {
        let names = shown.iter_mut().filter(|(_, column, _)| column.kind == Kind::Name);
        match names.max_by_key(|(_, _, width)| *width) {
            Some((_, _, width)) if *width > LEAST_NAME => *width -= 1,
            Some(_) | None => return,
        }
    }
}

/// Sentences take what is left.
fn spread(shown: &[(usize, &Column, usize)], room: usize) -> Vec<(usize, usize)> {
    let sentence = |column: &Column| column.kind == Kind::Sentence;
    let fixed: usize =
        shown.iter().filter(|(_, column, _)| !sentence(column)).map(|(_, _, width)| width).sum();
    let sentences = shown.iter().filter(|(_, column, _)| sentence(column)).count();
    let left = room.saturating_sub(fixed + GAP * shown.len().saturating_sub(1));
    let share = left.checked_div(sentences).unwrap_or_default();
    let width =
        |(at, column, width): &(usize, &Column, usize)| (*at, if sentence(column) { share } else { *width });
    shown.iter().map(width).collect()
}

/// `text` in at most `width` columns.
pub(super) fn cut(text: &str, kind: Kind, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    match kind {
        Kind::Name => {
            let (head, tail) = (room / 2, room - room / 2);
            let end: String = start(text.chars().rev(), tail).chars().rev().collect();
            format!("{}…{end}", start(text.chars(), head))
        }
        Kind::Word | Kind::Sentence => format!("{}…", start(text.chars(), room).trim_end()),
    }
}

/// As many characters as fit.
fn start(characters: impl Iterator<Item = char>, width: usize) -> String {
    let mut text = String::new();
    for character in characters {
        text.push(character);
        if display_width(&text) > width {
            text.pop();
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::new("NAME", Kind::Name, u8::MAX),
        Column::new("AGE", Kind::Word, u8::MAX),
        Column::new("OWNER", Kind::Word, 1),
        Column::new("WHAT", Kind::Sentence, 2),
    ];

    fn widths(room: usize) -> Vec<(usize, usize)> {
        let row = ["a_name_of_twenty_char", "12 s", "votum", "it is rolled back by itself"];
        fit(&COLUMNS, &[row.map(|text| (text.to_owned(), Style::new())).to_vec()], room)
    }

    #[test]
    fn sentences_take_what_is_left() {
        assert_eq!(widths(80), [(0, 21), (1, 4), (2, 5), (3, 44)]);
        assert_eq!(widths(63), [(0, 21), (1, 4), (2, 5), (3, 27)]);
    }

    #[test]
    fn columns_go_by_rank_and_names_are_cut_last() {
        assert_eq!(widths(62), [(0, 21), (1, 4), (3, 33)]);
        assert_eq!(widths(40), [(0, 21), (1, 4)]);
        assert_eq!(widths(20), [(0, 14), (1, 4)]);
        assert_eq!(widths(5), [(0, 12), (1, 4)], "shorter than that no name says anything");
    }

    #[test]
    fn a_name_keeps_both_ends_and_a_sentence_its_beginning() {
        assert_eq!(cut("votum_acme_7_3f9ac2_1042_0_2", Kind::Name, 15), "votum_a…042_0_2");
        assert_eq!(cut("it is rolled back", Kind::Sentence, 7), "it is…");
        assert_eq!(cut("äöü", Kind::Name, 3), "äöü");
        assert_eq!(cut("漢字漢字", Kind::Sentence, 5), "漢字…");
    }
}
