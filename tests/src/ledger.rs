//! What clients asked for, and what they were told: the other half of the evidence in a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// What a client was told of one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// COMMITTED.
    Committed,
    /// READ_ONLY.
    ReadOnly,
    /// ABORTED.
    Aborted,
    /// UNKNOWN, or no answer at all.
    Unknown,
}

/// One transfer, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// The banks at which it writes one journal row each.
    pub banks: BTreeSet<String>,
    /// Its gtid, once the client knew it.
    pub gtid: Option<String>,
    /// Everything that was said of it, in order; later answers to the same question included.
    pub told: Vec<Told>,
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gtid = self.gtid.as_deref().unwrap_or("(gtid never told)");
        let banks = Vec::from_iter(self.banks.iter().map(String::as_str)).join(", ");
        write!(f, "{gtid} at {banks}: told {:?}", self.told)
    }
}

/// Every transfer of a test, by the name that its journal rows bear. Shared by all its clients.
#[derive(Debug, Default)]
pub struct Ledger {
    transfers: Mutex<BTreeMap<String, Transfer>>,
}

impl Ledger {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client is about to begin `transfer`, with one journal row at each of `banks`.
    pub fn intend<'a>(&self, transfer: &str, banks: impl IntoIterator<Item = &'a str>) {
        self.change(transfer, |entry| entry.banks = banks.into_iter().map(str::to_owned).collect());
    }

    /// The client learned the gtid.
    pub fn begun(&self, transfer: &str, gtid: &str) {
        self.change(transfer, |entry| entry.gtid = Some(gtid.to_owned()));
    }

    /// The client was told how it ended.
    pub fn told(&self, transfer: &str, told: Told) {
        self.change(transfer, |entry| entry.told.push(told));
    }

    fn change(&self, transfer: &str, change: impl FnOnce(&mut Transfer)) {
        let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        change(transfers.entry(transfer.to_owned()).or_default());
    }

    /// How many transfers were told `told` last.
    pub fn count(&self, told: Told) -> usize {
        self.transfers().values().filter(|transfer| transfer.told.last() == Some(&told)).count()
    }

    /// All of it, as it stands.
    pub fn transfers(&self) -> BTreeMap<String, Transfer> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
