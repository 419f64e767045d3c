//! Statements that a session has met before.
//!
//! Those without result columns are parsed and planned once, for all branches that come by, provided that
//! their parameters are of types that are in [`SAFE`]. A parameter keeps the type that was inferred when the
//! statement was parsed. Where the column's type has changed since, a value of one of these types either fits
//! the new one or is refused: then the statement is forgotten, and parsed anew the next time. Others could
//! lose a part of the value on the way, in silence: a double that of a numeric, a date the time of day, a
//! numeric what stands behind the point.
//!
//! Nor may their text hold a literal in quotes. It is read when the statement is parsed: 'now' would stay the
//! time of the first branch, and a date or a time what it was by the first branch's settings.
//!
//! Of the others it is remembered that their columns were of built-in types, about which nothing has to be
//! asked: they are parsed anew each time, since a later change of a table may change what a query returns,
//! but in one trip with their execution.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::types::Type;

/// What a parameter may be without losing a part of a value that fits another type.
const SAFE: [Type; 8] =
    [Type::BOOL, Type::BYTEA, Type::INT2, Type::INT4, Type::INT8, Type::TEXT, Type::UUID, Type::VARCHAR];

/// How many statements a session keeps. One that comes later is asked about each time.
const MOST: usize = 64;

/// The longest text that is kept, in bytes.
const LONGEST: usize = 4096;

/// What a session knows of a statement.
#[derive(Debug, Clone)]
pub(super) enum Met {
    /// The server keeps it under this name; it has no columns.
    Kept(Arc<str>),
    /// Its columns were of built-in types.
    BuiltIn,
}

/// A statement's text, and the types that were declared for its parameters, by their OIDs.
type Key = (String, Vec<u32>);

/// The statements of one session.
#[derive(Default)]
pub(super) struct Known {
    statements: BTreeMap<Key, Met>,
}

/// Whether the server may keep a statement of this text, with these parameters and this number of columns.
pub(super) fn may_be_kept(text: &str, parameters: &[u32], columns: usize) -> bool {
    columns == 0
        && parameters.iter().all(|oid| SAFE.iter().any(|safe| safe.oid() == *oid))
        && !may_hold_quotes(text)
}

/// Whether something may stand in it in quotes, or between dollars: of the latter, all that is no parameter.
fn may_hold_quotes(text: &str) -> bool {
    let mut behind_dollars = text.split('$').skip(1);
    text.contains('\'') || behind_dollars.any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

impl Known {
    pub(super) fn find(&self, text: &str, declared: &[u32]) -> Option<Met> {
        if self.statements.is_empty() {
            return None;
        }
        self.statements.get(&(text.to_owned(), declared.to_vec())).cloned()
    }

    /// Whether there is room for a statement of this text.
    pub(super) fn has_room(&self, text: &str) -> bool {
        self.statements.len() < MOST && text.len() <= LONGEST
    }

    pub(super) fn note(&mut self, text: &str, declared: &[u32], met: Met) {
        if self.has_room(text) {
            self.statements.insert((text.to_owned(), declared.to_vec()), met);
        }
    }

    /// The statement has failed: whatever is known of it may be out of date. Returns the name under which
    /// the server keeps it.
    pub(super) fn forget(&mut self, text: &str, declared: &[u32]) -> Option<Arc<str>> {
        match self.statements.remove(&(text.to_owned(), declared.to_vec()))? {
            Met::Kept(name) => Some(name),
            Met::BuiltIn => None,
        }
    }

    /// The server knows none of them any more.
    pub(super) fn clear(&mut self) {
        self.statements.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_by_another_branchs_clock_or_settings_is_not_kept() {
        let kept = |text: &str| may_be_kept(text, &[Type::INT8.oid()], 0);
        assert!(kept("UPDATE t SET n = $1, m = $2 WHERE id = 7"));
        for text in [
            "INSERT INTO t VALUES ($1, 'now')",
            "INSERT INTO t VALUES ($1, E'now')",
            "INSERT INTO t VALUES ($1, $$now$$)",
            "INSERT INTO t VALUES ($1, $at$now$at$)",
        ] {
            assert!(!kept(text), "{text}");
        }
    }
}
