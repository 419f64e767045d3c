//! One link between two parts: what has passed, where a fault is to happen, and what is wrong with it now.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::fault::Fault;
use super::message::{Direction, Link, Message};
use crate::eventually::{Found, eventually};

/// One link of one installation, with all of its connections. A fault is armed at a message; it is sprung when
/// that message comes by, once.
#[derive(Debug)]
pub struct Wire {
    link: Link,
    state: Mutex<State>,
    /// Wakes everything that passes bytes.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    armed: Vec<Armed>,
    /// At which messages faults have happened, since the last [`Wire::forget`].
    sprung: Vec<Message>,
    /// What lasts, and in the direction of which message it began.
    lasting: Option<(Fault, Direction)>,
    moment: Moment,
    seen: BTreeMap<Message, u64>,
}

#[derive(Debug)]
struct Armed {
    at: Message,
    fault: Fault,
    /// How many of these messages pass before.
    skip: u64,
}

/// How often a wire has been healed and cut: what a connection remembers of its past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Moment {
    pub(super) heals: u64,
    pub(super) cuts: u64,
}

/// What holds for a direction of a connection at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Bytes pass.
    Pass,
    /// They wait.
    Wait,
    /// They are lost.
    Lose,
    /// The connection is reset.
    Cut,
}

impl Wire {
    pub(super) fn new(link: Link, changed: watch::Sender<()>) -> Self {
        Self { link, state: Mutex::default(), changed }
    }

    /// `fault` happens when the next `message` comes by.
    pub fn arm(&self, message: Message, fault: Fault) {
        self.arm_after(0, message, fault);
    }

    /// The same, once `skip` of these messages have passed.
    pub fn arm_after(&self, skip: u64, message: Message, fault: Fault) {
        self.lock().armed.push(Armed { at: message, fault, skip });
    }

    /// `fault` begins at once, without a message; in the direction of requests where it has one. Only what lasts
    /// can begin so.
    pub fn begin(&self, fault: Fault) {
        self.change(|state| state.lasting = Some((fault, Direction::Onward)));
    }

    /// Resets every connection that stands. New ones are accepted.
    pub fn cut(&self) {
        self.change(|state| state.moment.cuts += 1);
    }

    /// Ends every fault that lasts. Those that are armed stay so.
    pub fn heal(&self) {
        self.change(|state| {
            state.lasting = None;
            state.moment.heals += 1;
        });
    }

    /// Forgets the faults that are armed.
    pub fn disarm(&self) {
        self.lock().armed.clear();
    }

    /// Forgets the faults that have happened: [`Wire::until_sprung`] waits for the next.
    pub fn forget(&self) {
        self.lock().sprung.clear();
    }

    /// How often a message has come by, also those that were lost.
    pub fn seen(&self, message: Message) -> u64 {
        self.lock().seen.get(&message).copied().unwrap_or_default()
    }

    /// Waits until the fault that is armed at `message` has happened.
    ///
    /// # Errors
    /// When it has not in time: with what has come by.
    pub async fn until_sprung(&self, message: Message) -> anyhow::Result<()> {
        eventually(&format!("a fault happens at {message}, {}", self.link), async || {
            let state = self.lock();
            Ok(if state.sprung.contains(&message) {
                Found::Yes(())
            } else {
                Found::NotYet(format!("armed: {:?}; what came by: {:?}", state.armed, state.seen))
            })
        })
        .await
    }

    /// Waits until `message` has come by more than `times` times.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn until_seen(&self, message: Message, times: u64) -> anyhow::Result<()> {
        eventually(&format!("{message} comes by"), async || {
            let state = self.lock();
            let seen = state.seen.get(&message).copied().unwrap_or_default();
            Ok(if seen > times {
                Found::Yes(())
            } else {
                Found::NotYet(format!("what came by: {:?}", state.seen))
            })
        })
        .await
    }

    /// Notes messages that are about to pass, and says which fault happens at them.
    pub(super) fn meet(&self, messages: &[Message], direction: Direction) -> Option<Fault> {
        if messages.is_empty() {
            return None;
        }
        let fault = {
            let mut state = self.lock();
            for message in messages {
                *state.seen.entry(*message).or_default() += 1;
            }
            let fault = state.spring(messages)?;
            if fault.lasts() {
                state.lasting = Some((fault, direction));
            }
            fault
        };
        self.changed.send_replace(());
        Some(fault)
    }

    pub(super) fn moment(&self) -> Moment {
        self.lock().moment
    }

    /// What holds for a connection that was opened at `born`. `lost`: the number of heals when this direction
    /// first lost something.
    pub(super) fn rule(&self, direction: Direction, born: Moment, lost: Option<u64>) -> Rule {
        let state = self.lock();
        let is_forgotten = lost.is_some_and(|heals| state.moment.heals > heals);
        if is_forgotten || state.moment.cuts > born.cuts {
            return Rule::Cut;
        }
        match state.lasting {
            Some((Fault::Sever, _)) => Rule::Cut,
            Some((Fault::Stall, _)) => Rule::Wait,
            Some((Fault::HalfOpen, _)) => Rule::Lose,
            Some((Fault::Vanish, of)) if of == direction => Rule::Lose,
            // What holds for one connection alone is kept there.
            Some((
                Fault::Vanish
                | Fault::Reset
                | Fault::Close
                | Fault::HalfClose
                | Fault::Delay
                | Fault::HoldBack
                | Fault::Trickle,
                _,
            ))
            | None => Rule::Pass,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn spring(&mut self, messages: &[Message]) -> Option<Fault> {
        for message in messages {
            let Some(place) = self.armed.iter().position(|armed| armed.at == *message) else { continue };
            let armed = self.armed.get_mut(place)?;
            if armed.skip > 0 {
                armed.skip -= 1;
                continue;
            }
            self.sprung.push(*message);
            return Some(self.armed.remove(place).fault);
        }
        None
    }
}
