//! Statements that a session has met before: parsed and planned once, for all branches that come by.
//!
//! Only statements without result columns are kept, since a later change of a table may change what a query
//! returns; and only with parameters of types that are in [`SAFE`]. A parameter keeps the type that was
//! inferred when the statement was parsed. Where the column's type has changed since, a value of one of these
//! types either fits the new one or is refused: then the statement is forgotten, and parsed anew the next
//! time. Others could lose a part of the value on the way, in silence: a double that of a numeric, a date the
//! time of day.

use std::collections::BTreeMap;

use tokio_postgres::Statement;
use tokio_postgres::types::Type;

/// What a parameter may be without losing a part of a value that fits another type.
const SAFE: [Type; 9] = [
    Type::BOOL,
    Type::BYTEA,
    Type::INT2,
    Type::INT4,
    Type::INT8,
    Type::NUMERIC,
    Type::TEXT,
    Type::UUID,
    Type::VARCHAR,
];

/// How many statements a session keeps. One that comes later is parsed each time.
const MOST: usize = 64;

/// The longest text that is kept, in bytes.
const LONGEST: usize = 4096;

/// The statements of one session, by their text and the types that were declared for their parameters.
#[derive(Default)]
pub(super) struct Known {
    statements: BTreeMap<(String, Vec<u32>), Statement>,
}

fn key(text: &str, declared: &[Type]) -> (String, Vec<u32>) {
    (text.to_owned(), declared.iter().map(Type::oid).collect())
}

impl Known {
    pub(super) fn find(&self, text: &str, declared: &[Type]) -> Option<Statement> {
        if self.statements.is_empty() {
            return None;
        }
        self.statements.get(&key(text, declared)).cloned()
    }

    /// Keeps a statement that may be kept.
    pub(super) fn keep(&mut self, text: &str, declared: &[Type], statement: &Statement) {
        let room = self.statements.len() < MOST && text.len() <= LONGEST;
        let safe = statement.columns().is_empty() && statement.params().iter().all(|one| SAFE.contains(one));
        if room && safe {
            self.statements.insert(key(text, declared), statement.clone());
        }
    }

    /// The statement has failed: whatever it was kept with may be out of date.
    pub(super) fn forget(&mut self, text: &str, declared: &[Type]) {
        self.statements.remove(&key(text, declared));
    }

    /// The server knows none of them any more.
    pub(super) fn clear(&mut self) {
        self.statements.clear();
    }
}
