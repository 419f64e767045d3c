//! Statements from anybody, judged beside PostgreSQL's own rules, written here a second time.

use crate::control::{Refused, refuse};

/// What the server would make of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It opens, ends or prepares a transaction.
    Control,
    /// COPY.
    Copy,
    /// Something else, or an error that is the server's to tell.
    Other,
    /// The server does not take it, whatever we say.
    Error,
}

/// What transaction control, and COPY, are refused, however they hide; nothing else is.
///
/// The first byte says what the rest is: even, a text; odd, numbers of pieces that statements are made of.
pub fn statement(bytes: &[u8]) {
    let [how, rest @ ..] = bytes else { return };
    let text = if how % 2 == 0 {
        let Ok(text) = std::str::from_utf8(rest) else { return };
        text.to_owned()
    } else {
        rest.iter().map(|piece| PIECES[usize::from(*piece) % PIECES.len()]).collect()
    };
    let refused = refuse(&text);
    match meaning(&text) {
        Meaning::Control => assert_eq!(refused, Some(Refused::TransactionControl), "{text:?}"),
        Meaning::Copy => assert_eq!(refused, Some(Refused::Copy), "{text:?}"),
        // What is cut off at a dollar, or has a semicolon on its way, may be refused for nothing.
        Meaning::Other if text.trim_start_matches(';').contains(['$', ';']) => {}
        Meaning::Other => assert_eq!(refused, None, "{text:?}"),
        Meaning::Error => {}
    }
}

/// What the scanner hands to the grammar.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// In lower case.
    Word(String),
    Semicolon,
    /// Any other one, or the end.
    Other,
    /// A comment that does not end.
    Broken,
}

/// Reads `gram.y`: statements that are empty do not count, and only one is taken at once.
pub(super) fn meaning(text: &str) -> Meaning {
    let mut rest = text.as_bytes();
    let mut token = next(&mut rest);
    while token == Token::Semicolon {
        token = next(&mut rest);
    }
    let first = match token {
        Token::Word(first) => first,
        Token::Other | Token::Semicolon => return Meaning::Other,
        Token::Broken => return Meaning::Error,
    };
    let word = |token: &Token, among: &[&str]| matches!(token, Token::Word(word) if among.contains(&&**word));
    match first.as_str() {
        "begin" | "start" | "commit" | "end" | "abort" => Meaning::Control,
        "rollback" => {
            let mut token = next(&mut rest);
            if word(&token, &["work", "transaction"]) {
                token = next(&mut rest);
            }
            match token {
                Token::Word(to) if to == "to" => Meaning::Other,
                // No word of the grammar has a dollar in it.
                Token::Word(name) if name.contains('$') => Meaning::Error,
                Token::Word(_) | Token::Semicolon | Token::Other | Token::Broken => Meaning::Control,
            }
        }
        "prepare" => match next(&mut rest) {
            token if word(&token, &["transaction"]) => Meaning::Control,
            Token::Word(_) => Meaning::Other,
            Token::Semicolon | Token::Other | Token::Broken => Meaning::Error,
        },
        "copy" => Meaning::Copy,
        _ => Meaning::Other,
    }
}

/// Reads `scan.l`: one token, behind white space and comments.
fn next(rest: &mut &[u8]) -> Token {
    loop {
        match **rest {
            [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..] => *rest = &rest[1..],
            [b'-', b'-', ..] => {
                let line = rest.iter().take_while(|byte| !matches!(byte, b'\n' | b'\r')).count();
                *rest = &rest[line..];
            }
            [b'/', b'*', ..] => {
                let Some(comment) = comment(rest) else { return Token::Broken };
                *rest = &rest[comment..];
            }
            [b';', ..] => {
                *rest = &rest[1..];
                return Token::Semicolon;
            }
            [b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.., ..] => {
                let goes_on =
                    |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
                let length = rest.iter().take_while(|byte| goes_on(byte)).count();
                let (word, after) = rest.split_at(length);
                *rest = after;
                return Token::Word(String::from_utf8_lossy(word).to_ascii_lowercase());
            }
            _ => return Token::Other,
        }
    }
}

/// The length of the block comment that stands here, with those within it.
fn comment(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0u32, 0);
    loop {
        match text.get(at..at + 2)? {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
}

/// What statements are made of, where it matters.
#[rustfmt::skip]
const PIECES: [&str; 48] = [
    "commit", "begin", "start", "end", "abort", "rollback", "work", "transaction", "to", "savepoint",
    "prepare", "prepared", "copy", "select", "COMMIT", "Rollback", "TO", "and chain", " ", "\t", "\n", "\r",
    "\x0c", "\x0b", ";", "/*", "*/", "*", "/", "--", "-", "$", "_", "é", "'", "\"", "(", "1", "a", "\0",
    "\u{a0}", "\u{2028}", "U&", "\\", "\u{feff}", ".", "::", "x",
];

/// Examples to begin with.
pub fn examples() -> Vec<Vec<u8>> {
    let texts = [
        "select 1",
        "commit and chain",
        ";;/* a /* b */ */ CoMmIt",
        "-- a\rrollback work to savepoint a",
        "rollback; to savepoint a",
        "PREPARE/* */TRANSACTION 'x'",
        "prepare p as select 1",
        "copy t from stdin",
        "/* ** // /*/ */ **/end",
        "end_of_day()",
    ];
    let texts = texts.map(|text| [&[0][..], text.as_bytes()].concat());
    // `/* */ rollback /* */ work to a`, and one piece after another.
    let pieces = [vec![1, 25, 26, 5, 25, 26, 6, 18, 8, 18, 38], (0..=48).map(|piece| piece | 1).collect()];
    texts.into_iter().chain(pieces).collect()
}
