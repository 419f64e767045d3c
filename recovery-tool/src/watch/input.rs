//! Keys to actions.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What the keys mean at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The tables.
    Tables,
    /// A text over them.
    Reading,
    /// A settlement asks: commit or roll back?
    Choosing,
    /// A settlement waits for words.
    Typing,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// End the program.
    Quit,
    /// Close what lies over the tables.
    Close,
    /// So many rows down; up where it is negative.
    Move(isize),
    /// So many screens down; up where it is negative.
    Page(isize),
    /// To the first row.
    First,
    /// To the last row.
    Last,
    NextTable,
    PreviousTable,
    /// What is known of the selected row.
    Open,
    /// The selected transaction.
    Show,
    /// The code of the selected alarm.
    Explain,
    /// Settle the selected branch.
    Resolve,
    Pause,
    /// Ask less often.
    Slower,
    /// Ask more often.
    Faster,
    /// Ask now.
    Refresh,
    Help,
    /// The branch is to be committed.
    Commit,
    /// The branch is to be rolled back.
    Rollback,
    /// A character of what is being typed.
    Type(char),
    /// Take back the last character.
    Erase,
    /// What was typed is complete.
    Submit,
}

/// What a key means; `None` where it means nothing.
pub(super) fn action(mode: Mode, key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let held = key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
    if held {
        let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
        return interrupt.then_some(Action::Quit);
    }
    match mode {
        Mode::Tables => in_tables(key.code),
        Mode::Reading => while_reading(key.code),
        Mode::Choosing => while_choosing(key.code),
        Mode::Typing => while_typing(key.code),
    }
}

fn in_tables(code: KeyCode) -> Option<Action> {
    // A key that is listed nowhere means nothing.
    #[allow(clippy::wildcard_enum_match_arm)]
    match code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Tab | KeyCode::Right => Some(Action::NextTable),
        KeyCode::BackTab | KeyCode::Left => Some(Action::PreviousTable),
        KeyCode::Enter => Some(Action::Open),
        KeyCode::Char('s') => Some(Action::Show),
        KeyCode::Char('e') => Some(Action::Explain),
        KeyCode::Char('r') => Some(Action::Resolve),
        KeyCode::Char('p' | ' ') => Some(Action::Pause),
        KeyCode::Char('+') => Some(Action::Slower),
        KeyCode::Char('-') => Some(Action::Faster),
        KeyCode::Char('u') | KeyCode::F(5) => Some(Action::Refresh),
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Some(Action::Help),
        other => moving(other),
    }
}

fn while_reading(code: KeyCode) -> Option<Action> {
    #[allow(clippy::wildcard_enum_match_arm)]
    match code {
        // Not Enter: pressed once more it would close what the one before began.
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Close),
        other => moving(other),
    }
}

fn while_choosing(code: KeyCode) -> Option<Action> {
    #[allow(clippy::wildcard_enum_match_arm)]
    match code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Close),
        KeyCode::Char('c') => Some(Action::Commit),
        KeyCode::Char('b') => Some(Action::Rollback),
        _ => None,
    }
}

fn while_typing(code: KeyCode) -> Option<Action> {
    #[allow(clippy::wildcard_enum_match_arm)]
    match code {
        KeyCode::Esc => Some(Action::Close),
        KeyCode::Enter => Some(Action::Submit),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Char(typed) => Some(Action::Type(typed)),
        _ => None,
    }
}

fn moving(code: KeyCode) -> Option<Action> {
    #[allow(clippy::wildcard_enum_match_arm)]
    match code {
        KeyCode::Up | KeyCode::Char('k') => Some(Action::Move(-1)),
        KeyCode::Down | KeyCode::Char('j') => Some(Action::Move(1)),
        KeyCode::PageUp => Some(Action::Page(-1)),
        KeyCode::PageDown => Some(Action::Page(1)),
        KeyCode::Home | KeyCode::Char('g') => Some(Action::First),
        KeyCode::End | KeyCode::Char('G') => Some(Action::Last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    fn means(mode: Mode, typed: char) -> Option<Action> {
        action(mode, key(KeyCode::Char(typed)))
    }

    #[test]
    fn ctrl_c_ends_it_whatever_is_open_and_no_other_control_key_does_anything() {
        for mode in [Mode::Tables, Mode::Reading, Mode::Choosing, Mode::Typing] {
            let held = |typed| action(mode, KeyEvent::new(KeyCode::Char(typed), KeyModifiers::CONTROL));
            assert_eq!(held('c'), Some(Action::Quit), "{mode:?}");
            assert_eq!(held('r'), None, "{mode:?}");
        }
    }

    #[test]
    fn q_and_escape_end_it_from_the_tables_and_close_what_lies_over_them() {
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(action(Mode::Tables, key(code)), Some(Action::Quit));
            assert_eq!(action(Mode::Reading, key(code)), Some(Action::Close));
            assert_eq!(action(Mode::Choosing, key(code)), Some(Action::Close));
        }
        assert_eq!(action(Mode::Typing, key(KeyCode::Esc)), Some(Action::Close));
        assert_eq!(action(Mode::Reading, key(KeyCode::Enter)), None, "pressed once too often");
    }

    #[test]
    fn what_is_typed_as_a_reason_is_text_and_never_a_command() {
        for typed in ['q', 'r', 'c', 'b', 'p', ' ', '?', '+'] {
            assert_eq!(means(Mode::Typing, typed), Some(Action::Type(typed)));
        }
    }

    #[test]
    fn arrows_and_letters_move_in_tables_and_texts() {
        for mode in [Mode::Tables, Mode::Reading] {
            for (code, letter, moved) in [(KeyCode::Up, 'k', -1), (KeyCode::Down, 'j', 1)] {
                assert_eq!(action(mode, key(code)), Some(Action::Move(moved)));
                assert_eq!(means(mode, letter), Some(Action::Move(moved)));
            }
        }
    }

    #[test]
    fn every_key_of_the_footer_does_what_it_says() {
        for (typed, meant) in [
            ('s', Action::Show),
            ('e', Action::Explain),
            ('r', Action::Resolve),
            ('p', Action::Pause),
            ('+', Action::Slower),
            ('-', Action::Faster),
            ('?', Action::Help),
        ] {
            assert_eq!(means(Mode::Tables, typed), Some(meant));
        }
        assert_eq!(action(Mode::Tables, key(KeyCode::Enter)), Some(Action::Open));
        assert_eq!(action(Mode::Tables, key(KeyCode::Tab)), Some(Action::NextTable));
    }

    #[test]
    fn only_a_choice_between_the_two_is_a_choice() {
        assert_eq!(means(Mode::Choosing, 'c'), Some(Action::Commit));
        assert_eq!(means(Mode::Choosing, 'b'), Some(Action::Rollback));
        assert_eq!(means(Mode::Choosing, 'r'), None, "the key that opened it, pressed twice");
        assert_eq!(action(Mode::Choosing, key(KeyCode::Enter)), None);
    }
}
