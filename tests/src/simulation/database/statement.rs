//! The language of the simulated databases: one change, one look, one failure.

use super::server::Change;

/// What a statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// Moves money, and leaves a line.
    Change(Change),
    /// Reads an account.
    Look(u64),
    /// Fails.
    Fail,
}

impl Doing {
    /// As text, which an agent carries.
    pub fn text(&self) -> String {
        match self {
            Self::Change(Change { account, delta, tag, unique }) => {
                format!("move {account} {delta} {tag} {}", unique.as_deref().unwrap_or("-"))
            }
            Self::Look(account) => format!("look {account}"),
            Self::Fail => "fail".to_owned(),
        }
    }

    /// From its text.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["move", account, delta, tag, unique] => Some(Self::Change(Change {
                account: account.parse().ok()?,
                delta: delta.parse().ok()?,
                tag: (*tag).to_owned(),
                unique: (*unique != "-").then(|| (*unique).to_owned()),
            })),
            ["look", account] => Some(Self::Look(account.parse().ok()?)),
            ["fail"] => Some(Self::Fail),
            _ => None,
        }
    }
}
