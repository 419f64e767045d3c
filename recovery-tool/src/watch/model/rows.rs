//! The rows of the tables, and which one is selected.

use crate::document::{Alarm, InDoubt, Prepared, Status, Summary};

/// The alarm of a log that lacks something.
const STALE: &str = "VOTUM-1401";

/// The tables, from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::watch) enum Table {
    Participants,
    InDoubt,
    Alarms,
}

impl Table {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Participants => Self::InDoubt,
            Self::InDoubt => Self::Alarms,
            Self::Alarms => Self::Participants,
        }
    }

    pub(super) fn previous(self) -> Self {
        self.next().next()
    }
}

/// What the coordinator said of what is in doubt.
#[derive(Debug)]
pub(in crate::watch) struct Doubts {
    pub(in crate::watch) document: InDoubt,
    /// Decided, and not acknowledged by somebody who could not be asked: what is prepared there cannot be
    /// listed.
    pub(in crate::watch) owed: Vec<Summary>,
}

/// One row of what is in doubt.
#[derive(Debug, Clone, Copy)]
pub(in crate::watch) enum Doubt<'a> {
    /// Prepared, and ours.
    Ours(&'a Prepared),
    /// Decided, and perhaps prepared at somebody who could not be asked.
    Owed(&'a Summary),
    /// Prepared, and not ours.
    Foreign(&'a Prepared),
}

impl Doubts {
    /// Ours, the oldest first; then what could not be looked at; then what is not ours.
    pub(in crate::watch) fn rows(&self) -> Vec<Doubt<'_>> {
        let ours = self.document.branches.iter().map(Doubt::Ours);
        let foreign = self.document.foreign.iter().map(Doubt::Foreign);
        ours.chain(self.owed.iter().map(Doubt::Owed)).chain(foreign).collect()
    }

    /// The participants that a transaction may be prepared at without being listed: those not heard.
    pub(super) fn keep_owed(document: &InDoubt, transactions: Vec<Summary>) -> Vec<Summary> {
        let unheard = |at: &String| document.unheard.iter().any(|unheard| unheard.participant == *at);
        transactions.into_iter().filter(|transaction| transaction.participants.iter().any(unheard)).collect()
    }
}

impl Doubt<'_> {
    /// What stays the same when rows move: a branch at a participant, or a transaction.
    pub(in crate::watch) fn key(&self) -> String {
        match self {
            Self::Ours(branch) | Self::Foreign(branch) => format!("{} at {}", branch.gid, branch.participant),
            Self::Owed(transaction) => transaction.gtid.clone(),
        }
    }

    /// The transaction that it belongs to.
    pub(in crate::watch) fn gtid(&self) -> Option<&str> {
        match self {
            Self::Ours(branch) => branch.gtid.as_deref(),
            Self::Owed(transaction) => Some(&transaction.gtid),
            Self::Foreign(_) => None,
        }
    }
}

/// One row of what asks for a person.
#[derive(Debug, Clone)]
pub(in crate::watch) enum Trouble<'a> {
    Alarm(&'a Alarm),
    /// Why `status` or `in-doubt` would end with 1, besides alarms.
    Reason(&'a str),
}

impl Trouble<'_> {
    pub(in crate::watch) fn key(&self) -> String {
        match self {
            Self::Alarm(Alarm { code, gtid, participant, .. }) => format!("{code} {gtid:?} {participant:?}"),
            // The duration in it grows.
            Self::Reason(why) => why.chars().filter(|c| !c.is_ascii_digit()).collect(),
        }
    }
}

/// Everything that asks for a person.
pub(super) fn troubles<'a>(status: Option<&'a Status>, doubts: Option<&'a Doubts>) -> Vec<Trouble<'a>> {
    let alarms = status.into_iter().flat_map(|status| &status.alarms).map(Trouble::Alarm);
    let of_status = status.into_iter().flat_map(|status| &status.attention);
    let of_doubts = doubts.into_iter().flat_map(|doubts| &doubts.document.attention);
    let more = of_status.chain(of_doubts).filter(|why| !is_alarmed(why, status));
    alarms.chain(more.map(|why| Trouble::Reason(why))).collect()
}

/// Whether an alarm says the same: that there are alarms, and what each is about, is to be seen.
fn is_alarmed(why: &str, status: Option<&Status>) -> bool {
    let mut alarms = status.into_iter().flat_map(|status| &status.alarms);
    if why.starts_with("there is an alarm") || why.starts_with("there are ") {
        return true;
    }
    if why.starts_with("the log is stale") {
        return alarms.any(|alarm| alarm.code == STALE);
    }
    // No alarm is about age.
    let named = |name: &String| why.split([' ', ':']).any(|word| word == name);
    !why.contains("has been in doubt") && alarms.any(|alarm| alarm.participant.as_ref().is_some_and(named))
}

/// Which row of a table is selected: by what it is, not by where it stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
    key: Option<String>,
    /// Where it stood last.
    index: usize,
    /// A person has moved it there.
    chosen: bool,
}

impl Cursor {
    /// Where the selected row stands now.
    pub(super) fn at(&self, keys: &[String]) -> Option<usize> {
        let key = self.key.as_ref()?;
        keys.iter().position(|candidate| candidate == key)
    }

    /// Selects a row by its place.
    pub(super) fn select(&mut self, keys: &[String], index: usize) {
        self.index = index.min(keys.len().saturating_sub(1));
        self.key = keys.get(self.index).cloned();
        self.chosen = true;
    }

    /// Follows the selected row to where it stands now. Where it is gone, the row in its place is selected
    /// instead; answers what is gone, if a person had chosen it.
    pub(super) fn follow(&mut self, keys: &[String]) -> Option<String> {
        if let Some(index) = self.at(keys) {
            self.index = index;
            return None;
        }
        let gone = self.key.take().filter(|_| self.chosen);
        let chosen = false;
        let index = self.index.min(keys.len().saturating_sub(1));
        *self = Self { key: keys.get(index).cloned(), index, chosen };
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(words: &str) -> Vec<String> {
        words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn the_selected_row_stays_selected_when_rows_move() {
        let mut cursor = Cursor::default();
        cursor.follow(&keys("a b c"));
        assert_eq!(cursor.at(&keys("a b c")), Some(0), "at first the first one");
        cursor.select(&keys("a b c"), 1);
        assert_eq!(cursor.follow(&keys("x y a b c")), None);
        assert_eq!(cursor.at(&keys("x y a b c")), Some(3));
    }

    #[test]
    fn what_is_gone_is_told_once_and_the_row_in_its_place_is_selected() {
        let mut cursor = Cursor::default();
        cursor.select(&keys("a b c"), 1);
        assert_eq!(cursor.follow(&keys("a c")), Some("b".into()));
        assert_eq!(cursor.at(&keys("a c")), Some(1));
        assert_eq!(cursor.follow(&keys("a")), None, "nobody had chosen that");
        assert_eq!(cursor.follow(&[]), None);
        assert_eq!(cursor.at(&[]), None);
    }
}
