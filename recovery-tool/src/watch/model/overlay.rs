//! What lies over the tables.

use std::time::Duration;

use votum_proto::runtime::Monotonic;
use votum_proto::v1;

use super::settle::{Settle, Step};
use super::{Call, Feed, Mode};
use crate::document::{Alarm, Shown};
use crate::failure::Failure;

/// What lies over the tables, and how far it was scrolled.
#[derive(Debug)]
pub(in crate::watch) struct Overlay {
    pub(in crate::watch) content: Content,
    /// In lines.
    pub(in crate::watch) scrolled: usize,
}

#[derive(Debug)]
pub(in crate::watch) enum Content {
    Help,
    /// All that the status says of a participant.
    Participant(String),
    /// An alarm, with the page of its code.
    Explain(Alarm),
    /// A transaction, asked for again as the rest is.
    Show {
        gtid: String,
        feed: Box<Feed<Shown>>,
    },
    Settle(Box<Settle>),
}

impl Content {
    pub(super) fn show(gtid: String) -> Self {
        Self::Show { gtid, feed: Box::default() }
    }
}

impl Overlay {
    pub(super) fn new(content: Content) -> Self {
        Self { content, scrolled: 0 }
    }

    pub(super) fn settle(&self) -> Option<&Settle> {
        match &self.content {
            Content::Settle(settle) => Some(settle),
            Content::Help | Content::Participant(_) | Content::Explain(_) | Content::Show { .. } => None,
        }
    }

    pub(super) fn settle_mut(&mut self) -> Option<&mut Settle> {
        match &mut self.content {
            Content::Settle(settle) => Some(settle),
            Content::Help | Content::Participant(_) | Content::Explain(_) | Content::Show { .. } => None,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match self.settle().map(|settle| &settle.step) {
            Some(Step::Choosing) => Mode::Choosing,
            Some(Step::Reasoning | Step::Confirming { .. }) => Mode::Typing,
            Some(Step::Trying | Step::Applying | Step::Ended(_) | Step::Unknown(_)) | None => Mode::Reading,
        }
    }

    pub(super) fn scroll(&mut self, by: isize) {
        self.scrolled = self.scrolled.saturating_add_signed(by);
    }

    /// What is to be asked for it now.
    pub(super) fn due(&mut self, now: Monotonic, paused: bool) -> Option<Call> {
        match &mut self.content {
            Content::Show { gtid, feed } => feed.ask(now, paused).then(|| Call::Show { gtid: gtid.clone() }),
            Content::Help | Content::Participant(_) | Content::Explain(_) | Content::Settle(_) => None,
        }
    }

    /// What is known of a transaction. Another one may be shown by now.
    pub(super) fn shown(
        &mut self,
        now: Monotonic,
        interval: Duration,
        about: &str,
        answer: Result<v1::ShowTransactionResponse, Failure>,
    ) {
        if let Content::Show { gtid, feed } = &mut self.content
            && gtid == about
        {
            feed.answered(now, interval, answer.map(Shown::from));
        }
    }
}
