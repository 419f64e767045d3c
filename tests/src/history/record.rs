//! What is written down of a run: what every client asked and was told and when, and what was found at the end.
//! Plain data, kept as JSON where a run failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A moment: the events of all clients of a run, counted by one counter. Of two moments the smaller one was
/// before the other.
pub type Tick = u64;

/// A run, from its opening to what was found when all was calm again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// What load and faults were drawn from.
    pub seed: u64,
    /// What the databases held at first.
    pub opening: Opening,
    /// What the clients saw, by transaction.
    pub transactions: Vec<Recorded>,
    /// What was done to processes and connections, in order.
    pub faults: Vec<Fault>,
    /// What was found at the end.
    pub end: End,
}

/// What the databases held at first: accounts, and no list, no claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The participants.
    pub participants: BTreeSet<String>,
    /// Each has the accounts 0 to `accounts` - 1, at version 0.
    pub accounts: u64,
    /// The balance of each.
    pub balance: i64,
}

/// One transaction, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number in the run, printed `t17`.
    pub number: u64,
    /// Its gtid, if the client learned it.
    pub gtid: Option<String>,
    /// Its idempotency key, if it bore one.
    pub key: Option<String>,
    /// The isolation that was asked for.
    pub isolation: Isolation,
    /// Opened READ ONLY.
    pub read_only: bool,
    /// When Begin was sent.
    pub begun: Tick,
    /// Its statements. Those at one participant stand in their order.
    pub statements: Vec<Statement>,
    /// What was asked about its end, and answered.
    pub asked: Vec<Asked>,
}

/// The isolation of every branch of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Each statement sees what was committed before it.
    ReadCommitted,
    /// All statements of a branch see one snapshot.
    RepeatableRead,
    /// As if one after another, at each database among those that ask for it.
    Serializable,
}

/// One statement, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Its number in the transaction.
    pub number: u32,
    /// Where it ran.
    pub participant: String,
    /// When it was sent.
    pub begun: Tick,
    /// When the answer, or its absence, was known.
    pub ended: Tick,
    /// What it does.
    pub action: Action,
    /// What was answered.
    pub answer: Answer,
    /// The branch went back behind it, to a savepoint.
    pub undone: bool,
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Appends its own [`Effect`] to a list, and returns the list.
    Append {
        /// Which list.
        list: u64,
    },
    /// Reads a list.
    ReadList {
        /// Which list.
        list: u64,
    },
    /// Changes a balance by an amount, whatever it is, and notes the move.
    Move {
        /// Which account.
        account: u64,
        /// By how much.
        amount: i64,
    },
    /// Sets a balance to what the client computed from a read under a row lock, and notes the move.
    Put {
        /// Which account.
        account: u64,
        /// By how much that differs from what was read.
        amount: i64,
    },
    /// Reads an account.
    ReadAccount {
        /// Which account.
        account: u64,
        /// With a row lock (FOR UPDATE).
        lock: bool,
    },
    /// Takes a unique key.
    Claim {
        /// Which key.
        key: u64,
    },
    /// Sets a savepoint, or goes back to it.
    Savepoint,
}

/// What a statement answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It ran, and says no more.
    Done,
    /// A list as it is after the statement.
    List(Vec<Effect>),
    /// An account as it is after the statement.
    Account {
        /// How often it was changed.
        version: u64,
        /// Its balance.
        balance: i64,
    },
    /// The database refused it, with this SQLSTATE.
    Refused(String),
    /// Votum turned it away: it was not run.
    TurnedAway(String),
    /// No answer: nobody knows whether it ran.
    Nothing(String),
}

/// A question about the end of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What was asked.
    pub question: Question,
    /// When.
    pub begun: Tick,
    /// When the answer, or its absence, was known.
    pub ended: Tick,
    /// The answer.
    pub told: Told,
}

/// What is asked about the end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Commit it.
    Commit,
    /// Roll it back.
    Rollback,
    /// What became of it?
    Find,
    /// What became of it, when everything was up and calm again?
    FindAtTheEnd,
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// COMMITTED.
    Committed {
        /// Every branch had acknowledged: the effects can be read.
        completed: bool,
    },
    /// READ_ONLY.
    ReadOnly,
    /// ABORTED, for this reason.
    Aborted(String),
    /// A branch departed from the decision, it said. Nobody in a run does that.
    Heuristic(String),
    /// UNKNOWN or in progress: to be asked again.
    Unknown,
    /// Never heard of, or EXPIRED.
    Forgotten(String),
    /// No answer.
    Nothing,
}

/// What was done to a process or a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When it began.
    pub begun: Tick,
    /// In words.
    pub what: String,
}

/// What was found when all was up and calm again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// What each participant's database holds.
    pub databases: BTreeMap<String, Database>,
    /// What the decision log says, by gtid.
    pub log: BTreeMap<String, Logged>,
    /// Prepared transactions, sessions and alarms that were still there at the deadline, described.
    pub left_behind: Vec<String>,
}

/// What one database holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The lists, each in its order.
    pub lists: BTreeMap<u64, Vec<Effect>>,
    /// The accounts.
    pub accounts: BTreeMap<u64, Account>,
    /// Every move of every account.
    pub moves: Vec<Moved>,
    /// Every claim: its key, and who took it.
    pub claims: Vec<(u64, Effect)>,
}

/// One account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// How often it was changed.
    pub version: u64,
    /// Its balance.
    pub balance: i64,
}

/// One move of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Which account.
    pub account: u64,
    /// Its version after the move.
    pub version: u64,
    /// Whose move it is.
    pub effect: Effect,
    /// By how much the balance changed.
    pub amount: i64,
    /// The balance after it.
    pub balance: i64,
}

/// What the decision log says of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// What it was called when it was begun.
    pub label: Option<String>,
    /// Decided commit, at these participants.
    pub commit: Option<BTreeSet<String>>,
    /// Decided abort.
    pub abort: bool,
    /// Its decision was its only branch's own.
    #[serde(default)]
    pub delegated: bool,
    /// Nothing is owed any more.
    pub ended: bool,
    /// Its state in `votumctl list`.
    pub listed: Option<String>,
}

/// What a statement leaves in a database: which statement of which transaction it was. Printed `t17#3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Effect {
    /// The number of the transaction.
    pub transaction: u64,
    /// The number of the statement in it.
    pub statement: u32,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}#{}", self.transaction, self.statement)
    }
}

/// Text that is not the name of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAnEffect(String);

impl fmt::Display for NotAnEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not the name of an effect, as t17#3 is", self.0)
    }
}

impl std::error::Error for NotAnEffect {}

impl FromStr for Effect {
    type Err = NotAnEffect;

    fn from_str(text: &str) -> Result<Self, NotAnEffect> {
        let parts = text.strip_prefix('t').and_then(|rest| rest.split_once('#'));
        let read = parts.and_then(|(transaction, statement)| {
            Some(Self { transaction: transaction.parse().ok()?, statement: statement.parse().ok()? })
        });
        read.ok_or_else(|| NotAnEffect(text.to_owned()))
    }
}

impl TryFrom<String> for Effect {
    type Error = NotAnEffect;

    fn try_from(text: String) -> Result<Self, NotAnEffect> {
        text.parse()
    }
}

impl From<Effect> for String {
    fn from(effect: Effect) -> Self {
        effect.to_string()
    }
}

impl Recorded {
    /// What it is called in the log and in messages.
    pub fn name(&self) -> String {
        format!("t{}", self.number)
    }

    /// Whether its client ever asked for its commit.
    pub fn commit_asked(&self) -> bool {
        self.asked.iter().any(|asked| asked.question == Question::Commit)
    }
}

impl Statement {
    /// Whether it was answered, and not refused.
    pub fn ran(&self) -> bool {
        match &self.answer {
            Answer::Done | Answer::List(_) | Answer::Account { .. } => true,
            Answer::Refused(_) | Answer::TurnedAway(_) | Answer::Nothing(_) => false,
        }
    }
}

impl Action {
    /// Whether it leaves an [`Effect`].
    pub fn writes(self) -> bool {
        match self {
            Self::Append { .. } | Self::Move { .. } | Self::Put { .. } | Self::Claim { .. } => true,
            Self::ReadList { .. } | Self::ReadAccount { .. } | Self::Savepoint => false,
        }
    }
}
