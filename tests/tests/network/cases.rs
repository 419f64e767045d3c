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
    /// How many of these messages of the transaction pass before.
    pub skip: u64,
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
        let which = if self.skip == 0 { "" } else { "second " };
        write!(f, "{} at {which}{} ({}), healed {heal}", self.fault, self.message, self.message.link())
    }
}

/// One in this many transactions has three participants instead of two.
const THREE: usize = 4;

fn case(place: usize, message: Message, fault: Fault, heal: Heal) -> Case {
    let banks = match message {
        Message::CommitOnePhase => 1,
        _ if place.is_multiple_of(THREE) => 3,
        _ => 2,
    };
    Case { message, skip: 0, fault, heal, banks }
}

/// Whether it comes by twice at a bank: for the statement that opens the session, and for one that goes on in it.
fn comes_twice(message: Message) -> bool {
    matches!(
        message,
        Message::Execute
            | Message::Started
            | Message::Finished
            | Message::SqlStatement
            | Message::SqlStatementDone
    )
}

/// Every fault at every message; those that last, healed soon and late; at statements also at the second.
pub fn all() -> Vec<Case> {
    let faults = Fault::ALL.into_iter().flat_map(|fault| {
        let late = fault.lasts().then_some((fault, Heal::Late));
        [(fault, Heal::Soon)].into_iter().chain(late)
    });
    let faults = Vec::from_iter(faults);
    let pairs = Message::ALL.iter().flat_map(|message| faults.iter().map(move |fault| (*message, *fault)));
    let cases = pairs.enumerate().map(|(place, (message, (fault, heal)))| case(place, message, fault, heal));
    let cases = Vec::from_iter(cases);
    let again = cases.iter().filter(|case| comes_twice(case.message)).map(|case| Case { skip: 1, ..*case });
    let again = Vec::from_iter(again);
    [cases, again].concat()
}

/// Each message of a link with two faults, so that every fault is met on every link that has five messages.
pub fn some(link: Link) -> Vec<Case> {
    let messages = Message::ALL.iter().filter(|message| message.link() == link);
    let faults =
        |place: usize| [place, place + Fault::ALL.len() / 2].map(|at| Fault::ALL[at % Fault::ALL.len()]);
    messages
        .enumerate()
        .flat_map(|(place, message)| {
            let [one, other] = faults(place).map(|fault| case(place, *message, fault, Heal::Soon));
            [one, Case { skip: u64::from(comes_twice(*message)), ..other }]
        })
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
        (Message::CommitOnePhase, Fault::Vanish),
        (Message::BranchEnd, Fault::HoldBack),
        (Message::SqlPrepared, Fault::HalfOpen),
        (Message::SqlCommitPreparedDone, Fault::Stall),
    ]
    .into_iter()
    .enumerate()
    .map(|(place, (message, fault))| case(place, message, fault, Heal::Late))
    .collect()
}
