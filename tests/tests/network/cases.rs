//! Which faults are tried at which messages.

use std::fmt;

use votum_tests::proxy::{Fault, Link, Message};

/// When the network is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heal {
    /// Once others have been seen to go on.
    Soon,
    /// After longer than every timeout.
    Late,
}

/// One fault at one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    pub message: Message,
    pub fault: Fault,
    pub heal: Heal,
    /// How many banks the transaction writes to.
    pub banks: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heal = match self.heal {
            Heal::Soon => "soon",
            Heal::Late => "late",
        };
        write!(f, "{} at {} ({}), healed {heal}", self.fault, self.message, self.message.link())
    }
}

/// One in this many transactions has three participants instead of two.
const THREE: usize = 4;

fn case(place: usize, message: Message, fault: Fault, heal: Heal) -> Case {
    Case { message, fault, heal, banks: if place % THREE == 0 { 3 } else { 2 } }
}

/// Every fault at every message; those that last, healed soon and late.
pub fn all() -> Vec<Case> {
    let faults = Fault::ALL.into_iter().flat_map(|fault| {
        let late = fault.lasts().then_some((fault, Heal::Late));
        [(fault, Heal::Soon)].into_iter().chain(late)
    });
    let faults = Vec::from_iter(faults);
    let pairs = Message::ALL.iter().flat_map(|message| faults.iter().map(move |fault| (*message, *fault)));
    pairs.enumerate().map(|(place, (message, (fault, heal)))| case(place, message, fault, heal)).collect()
}

/// Each message of a link with two faults, so that every fault is met on every link that has five messages.
pub fn some(link: Link) -> Vec<Case> {
    let messages = Message::ALL.iter().filter(|message| message.link() == link);
    let faults =
        |place: usize| [place, place + Fault::ALL.len() / 2].map(|at| Fault::ALL[at % Fault::ALL.len()]);
    messages
        .enumerate()
        .flat_map(|(place, message)| faults(place).map(|fault| case(place, *message, fault, Heal::Soon)))
        .collect()
}

/// A few that are healed late.
pub fn late() -> Vec<Case> {
    [
        (Message::CommitReply, Fault::HalfOpen),
        (Message::Finished, Fault::Vanish),
        (Message::Prepare, Fault::HalfOpen),
        (Message::Vote, Fault::Stall),
        (Message::CommitBranch, Fault::Sever),
        (Message::BranchEnd, Fault::HoldBack),
        (Message::SqlPrepared, Fault::HalfOpen),
        (Message::SqlCommitPreparedDone, Fault::Stall),
    ]
    .into_iter()
    .enumerate()
    .map(|(place, (message, fault))| case(place, message, fault, Heal::Late))
    .collect()
}
