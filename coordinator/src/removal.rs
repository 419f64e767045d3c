//! Whether participants that the configuration no longer names are still owed commits: taking one away too
//! early leaves a branch prepared there, with its locks, and nobody to commit it.

use std::collections::BTreeMap;
use std::fmt;

use votum_proto::names::{Gtid, ParticipantName};

use crate::config::Config;
use crate::log::{Refusal, RefusalKind, offline};
use crate::protocol::standing::Standing;
use crate::protocol::transaction::Transaction;

/// A participant that was taken away too early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillOwed {
    /// Which.
    pub participant: ParticipantName,
    /// The oldest of the commits.
    pub oldest: Gtid,
    /// How many it may be owed: acknowledgements of single branches are not written.
    pub commits: usize,
}

impl fmt::Display for StillOwed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { participant, oldest, commits } = self;
        let commits = match commits {
            1 => "1 commit".to_owned(),
            more => format!("{more} commits"),
        };
        write!(
            f,
            "participants: {participant} is not named any more, and the log does not say that {commits} at it \
             arrived ({oldest} is the oldest). What is prepared there keeps its locks: name {participant} again, \
             until `votumctl show {oldest}` says that every branch has ended"
        )
    }
}

/// The participants that the log in the configuration's directory owes a commit and that the configuration
/// does not name, by name. A directory without a log owes nothing. A coordinator may be running on it.
///
/// # Errors
/// When the log is there and cannot be read.
pub fn still_owed(config: &Config) -> Result<Vec<StillOwed>, Refusal> {
    let histories = match offline::owed(&config.log.directory) {
        Err(refusal) if refusal.kind == RefusalKind::NotInitialized => return Ok(Vec::new()),
        read => read?,
    };
    let mut owed: BTreeMap<ParticipantName, StillOwed> = BTreeMap::new();
    for history in histories {
        let records = history.records.iter().map(|(_, _, record)| record);
        let Some(transaction) = Transaction::recover(records.collect::<Vec<_>>()) else { continue };
        let pending = match transaction.standing() {
            Standing::Committed { pending } => pending,
            // Its branch is to say what was decided.
            Standing::InProgress(_) => transaction.branches().into_iter().map(|b| b.participant).collect(),
            Standing::Aborted(_) | Standing::ReadOnly => continue,
        };
        let removed =
            |participant: &ParticipantName| config.participants.iter().all(|p| p.name != *participant);
        for participant in pending.into_iter().filter(removed) {
            let oldest = transaction.gtid().clone();
            let first = StillOwed { participant: participant.clone(), oldest, commits: 0 };
            owed.entry(participant).or_insert(first).commits += 1;
        }
    }
    Ok(owed.into_values().collect())
}
