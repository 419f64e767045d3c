//! What was answered, what is selected, what lies over the tables, and what is to be asked next. A message in,
//! calls out; no clock, no terminal, no network.

mod aim;
mod feed;
mod overlay;
mod rates;
mod rows;
mod settle;
#[cfg(test)]
pub(super) mod tests;

use std::time::Duration;

use crossterm::event::KeyEvent;
use votum_proto::runtime::Monotonic;
use votum_proto::v1;

pub(super) use self::feed::Feed;
pub(super) use self::overlay::{Content, Overlay};
pub(super) use self::rates::Rates;
use self::rows::{Cursor, troubles};
pub(super) use self::rows::{Doubt, Doubts, Table, Trouble};
pub(super) use self::settle::{Settle, Step};
use super::input::{self, Action, Mode};
use crate::document::{InDoubt, List, Status};
use crate::failure::Failure;

/// How often it can be asked, in seconds.
const INTERVALS: [u64; 7] = [1, 2, 5, 10, 30, 60, 300];

/// How many rows a page is, whatever the table's height.
const PAGE: isize = 10;

/// What happened. There is one at a time, and none is kept.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub(super) enum Message {
    Key(KeyEvent),
    /// Time has passed.
    Tick,
    Answer(Answer),
    /// The process was asked to end.
    Stop,
}

/// What a call brought.
#[derive(Debug)]
pub(super) enum Answer {
    Status(Result<v1::GetStatusResponse, Failure>),
    /// With the transactions that are decided and not acknowledged, where somebody could not be asked.
    InDoubt(Result<(v1::ListInDoubtResponse, v1::ListTransactionsResponse), Failure>),
    Shown {
        gtid: String,
        answer: Result<v1::ShowTransactionResponse, Failure>,
    },
    Resolved {
        ticket: u64,
        answer: Result<v1::ResolveResponse, Failure>,
    },
}

/// What is to be asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    Status,
    InDoubt,
    Show { gtid: String },
    Resolve { ticket: u64, request: v1::ResolveRequest },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Model {
    operator: Result<String, Failure>,
    patience_ms: u64,
    pub(super) now: Monotonic,
    pub(super) interval: Duration,
    pub(super) paused: bool,
    pub(super) status: Feed<Status>,
    pub(super) in_doubt: Feed<Doubts>,
    pub(super) rates: Option<Rates>,
    /// The table whose rows the keys move over.
    pub(super) table: Table,
    participants: Cursor,
    doubts: Cursor,
    alarms: Cursor,
    pub(super) overlay: Option<Overlay>,
    /// A sentence for the person, until the next key.
    pub(super) notice: Option<String>,
    /// An order that was given and whose overlay was closed.
    ordered: Option<(u64, String)>,
    tickets: u64,
    done: bool,
}

impl Model {
    /// Nothing is known, everything is to be asked.
    pub(super) fn new(interval: Duration, patience_ms: u64, operator: Result<String, Failure>) -> Self {
        Self {
            operator,
            patience_ms,
            now: Monotonic::default(),
            interval,
            paused: false,
            status: Feed::default(),
            in_doubt: Feed::default(),
            rates: None,
            table: Table::InDoubt,
            participants: Cursor::default(),
            doubts: Cursor::default(),
            alarms: Cursor::default(),
            overlay: None,
            notice: None,
            ordered: None,
            tickets: 0,
            done: false,
        }
    }

    /// Whether the program is to end.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// What is to be said when the terminal is itself again: an order stands although nobody waits for its
    /// answer.
    pub(super) fn parting(&self) -> Option<String> {
        let open = self.overlay.as_ref().and_then(Overlay::settle).filter(|settle| settle.is_ordered());
        let branch = open.map(|settle| settle.branch.gid.as_str());
        let branch = branch.or(self.ordered.as_ref().map(|(_, gid)| gid.as_str()))?;
        Some(format!(
            "The order to settle {branch} was given, and its answer was not awaited: it stands. `votumctl in-doubt` \
             shows whether it was carried out."
        ))
    }

    /// Takes in what happened at `now`; answers what is to be asked.
    pub(super) fn update(&mut self, now: Monotonic, message: Message) -> Vec<Call> {
        self.now = now;
        let mut calls = Vec::new();
        match message {
            Message::Key(key) => {
                if let Some(action) = input::action(self.mode(), key) {
                    self.notice = None;
                    calls.extend(self.act(action));
                }
            }
            Message::Answer(answer) => self.take(answer),
            Message::Tick => {}
            Message::Stop => self.done = true,
        }
        calls.extend(self.due());
        calls
    }

    /// What is due now.
    fn due(&mut self) -> Vec<Call> {
        if self.done {
            return Vec::new();
        }
        let (now, paused) = (self.now, self.paused);
        let status = self.status.ask(now, paused).then_some(Call::Status);
        let in_doubt = self.in_doubt.ask(now, paused).then_some(Call::InDoubt);
        let shown = self.overlay.as_mut().and_then(|overlay| overlay.due(now, paused));
        status.into_iter().chain(in_doubt).chain(shown).collect()
    }

    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Status(answer) => {
                let status = answer.map(|answer| Status::new(answer, self.patience_ms));
                if let Ok(after) = &status {
                    self.rates = self.status.last().and_then(|before| Rates::between(before, after));
                }
                self.status.answered(self.now, self.interval, status);
            }
            Answer::InDoubt(answer) => {
                let doubts = answer.map(|(prepared, owed)| {
                    let document = InDoubt::from(prepared);
                    let owed = Doubts::keep_owed(&document, List::from(owed).transactions);
                    Doubts { document, owed }
                });
                self.in_doubt.answered(self.now, self.interval, doubts);
            }
            Answer::Shown { gtid, answer } => {
                if let Some(overlay) = &mut self.overlay {
                    overlay.shown(self.now, self.interval, &gtid, answer);
                }
            }
            Answer::Resolved { ticket, answer } => self.take_resolved(ticket, answer),
        }
        self.follow();
    }

    fn take_resolved(&mut self, ticket: u64, answer: Result<v1::ResolveResponse, Failure>) {
        let open = self.overlay.as_mut().and_then(Overlay::settle_mut);
        if let Some(settle) = open.filter(|settle| settle.ticket == ticket) {
            let ordered = settle.is_ordered();
            settle.answered(answer);
            if ordered {
                // The picture has changed.
                self.hurry();
            }
        } else if let Some((_, gid)) = self.ordered.take_if(|(ordered, _)| *ordered == ticket) {
            self.hurry();
            self.notice = Some(match answer {
                Ok(answer) => format!("{gid}: {}", answer.result),
                Err(failure) => format!("{gid}: {failure}"),
            });
        }
    }

    /// The cursors follow their rows.
    fn follow(&mut self) {
        let (participants, doubts, alarms) =
            (self.keys(Table::Participants), self.keys(Table::InDoubt), self.keys(Table::Alarms));
        self.participants.follow(&participants);
        self.alarms.follow(&alarms);
        if let Some(gone) = self.doubts.follow(&doubts) {
            self.notice = Some(format!("{gone} is no longer in the list"));
        }
    }

    /// What the keys mean at this moment.
    fn mode(&self) -> Mode {
        match &self.overlay {
            None => Mode::Tables,
            Some(overlay) => overlay.mode(),
        }
    }

    fn act(&mut self, action: Action) -> Option<Call> {
        match action {
            Action::Quit => self.done = true,
            Action::Close => self.close(),
            Action::Move(by) => self.step(by),
            Action::Page(by) => self.step(by * PAGE),
            Action::First => self.step(isize::MIN),
            Action::Last => self.step(isize::MAX),
            Action::NextTable => self.table = self.table.next(),
            Action::PreviousTable => self.table = self.table.previous(),
            Action::Open => self.open(),
            Action::Show => self.show(),
            Action::Explain => self.explain(),
            Action::Resolve => self.resolve(),
            Action::Pause => self.pause(),
            Action::Slower => self.pace(|at| at + 1),
            Action::Faster => self.pace(|at| at.saturating_sub(1)),
            Action::Refresh => self.hurry(),
            Action::Help => self.overlay = Some(Overlay::new(Content::Help)),
            Action::Commit => self.with_settle(|settle| settle.choose(true)),
            Action::Rollback => self.with_settle(|settle| settle.choose(false)),
            Action::Type(character) => self.with_settle(|settle| settle.typed(character)),
            Action::Erase => self.with_settle(Settle::erase),
            Action::Submit => return self.submit(),
        }
        None
    }

    fn with_settle(&mut self, change: impl FnOnce(&mut Settle)) {
        if let Some(settle) = self.overlay.as_mut().and_then(Overlay::settle_mut) {
            change(settle);
        }
    }

    fn submit(&mut self) -> Option<Call> {
        let settle = self.overlay.as_mut().and_then(Overlay::settle_mut)?;
        let request = settle.submit()?;
        Some(Call::Resolve { ticket: settle.ticket, request })
    }

    fn close(&mut self) {
        let closed = self.overlay.take();
        if let Some(settle) = closed.as_ref().and_then(Overlay::settle).filter(|settle| settle.is_ordered()) {
            self.notice = Some("the order was given; its answer will be shown here".to_owned());
            self.ordered = Some((settle.ticket, settle.branch.gid.clone()));
        }
    }

    fn step(&mut self, by: isize) {
        if let Some(overlay) = &mut self.overlay {
            overlay.scroll(by);
            return;
        }
        let keys = self.keys(self.table);
        let cursor = self.cursor_mut(self.table);
        let from = isize::try_from(cursor.at(&keys).unwrap_or_default()).unwrap_or_default();
        let to = usize::try_from(from.saturating_add(by)).unwrap_or_default();
        cursor.select(&keys, to);
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        if !self.paused {
            self.hurry();
        }
    }

    fn hurry(&mut self) {
        self.status.hurry();
        self.in_doubt.hurry();
    }

    /// The interval at another place of the list of intervals.
    fn pace(&mut self, other: impl FnOnce(usize) -> usize) {
        let seconds = self.interval.as_secs();
        let at = INTERVALS.iter().position(|known| *known >= seconds).unwrap_or(INTERVALS.len() - 1);
        if let Some(interval) = INTERVALS.get(other(at)) {
            self.interval = Duration::from_secs(*interval);
            self.hurry();
        }
    }

    /// The keys of a table's rows, from the top.
    fn keys(&self, table: Table) -> Vec<String> {
        match table {
            Table::Participants => {
                let status = self.status.last().into_iter();
                status.flat_map(|status| &status.participants).map(|row| row.participant.clone()).collect()
            }
            Table::InDoubt => self.doubt_rows().iter().map(Doubt::key).collect(),
            Table::Alarms => self.trouble_rows().iter().map(Trouble::key).collect(),
        }
    }

    fn cursor(&self, table: Table) -> &Cursor {
        match table {
            Table::Participants => &self.participants,
            Table::InDoubt => &self.doubts,
            Table::Alarms => &self.alarms,
        }
    }

    fn cursor_mut(&mut self, table: Table) -> &mut Cursor {
        match table {
            Table::Participants => &mut self.participants,
            Table::InDoubt => &mut self.doubts,
            Table::Alarms => &mut self.alarms,
        }
    }

    /// Which row of a table is selected, counted from the top.
    pub(super) fn selected(&self, table: Table) -> Option<usize> {
        self.cursor(table).at(&self.keys(table))
    }

    pub(super) fn doubt_rows(&self) -> Vec<Doubt<'_>> {
        self.in_doubt.last().map(Doubts::rows).unwrap_or_default()
    }

    pub(super) fn trouble_rows(&self) -> Vec<Trouble<'_>> {
        troubles(self.status.last(), self.in_doubt.last())
    }

    /// The selected row of what is in doubt.
    pub(super) fn selected_doubt(&self) -> Option<Doubt<'_>> {
        self.selected(Table::InDoubt).and_then(|at| self.doubt_rows().get(at).copied())
    }

    /// The selected row of the alarms.
    pub(super) fn selected_trouble(&self) -> Option<Trouble<'_>> {
        self.selected(Table::Alarms).and_then(|at| self.trouble_rows().get(at).cloned())
    }

    /// The name of the selected participant.
    pub(super) fn selected_participant(&self) -> Option<String> {
        let at = self.selected(Table::Participants)?;
        self.status.last()?.participants.get(at).map(|row| row.participant.clone())
    }

    /// The view says how far the overlay's text goes.
    pub(super) fn scrolled_at_most(&mut self, furthest: usize) {
        if let Some(overlay) = &mut self.overlay {
            overlay.scrolled = overlay.scrolled.min(furthest);
        }
    }
}
