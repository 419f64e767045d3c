//! What the three tables show.

use ratatui::style::Style;
use votum_coordinator::driver::HEURISTIC;

use super::columns::{Cell, Column, Kind};
use super::look::Look;
use super::table::Table;
use crate::document::{Participant, Prepared, Server, Status, Summary};
use crate::render::{count, duration, maybe_duration};
use crate::watch::model::{self, Doubt, Doubts, Model, Trouble};

/// From here on a branch is named by its gid, below by its transaction, which is shorter.
const WIDE: u16 = 120;

const PARTICIPANTS: [Column; 10] = [
    Column::new("PARTICIPANT", Kind::Name, u8::MAX),
    Column::new("LINK", Kind::Word, u8::MAX),
    Column::new("IN DOUBT", Kind::Word, u8::MAX),
    Column::new("OLDEST", Kind::Word, 7),
    Column::new("QUARANTINED", Kind::Word, 6),
    Column::new("HEURISTIC", Kind::Word, 5),
    Column::new("SLOTS", Kind::Word, 4),
    Column::new("XMIN AGE", Kind::Word, 3),
    Column::new("AGENT", Kind::Word, 1),
    Column::new("DETAIL", Kind::Sentence, 2),
];

const IN_DOUBT: [Column; 7] = [
    Column::new("PARTICIPANT", Kind::Name, u8::MAX),
    Column::new("BRANCH", Kind::Name, u8::MAX),
    Column::new("AGE", Kind::Word, u8::MAX),
    Column::new("DECISION", Kind::Word, u8::MAX),
    Column::new("RULE", Kind::Word, 1),
    Column::new("BLOCKED", Kind::Word, u8::MAX),
    Column::new("WHAT WILL HAPPEN", Kind::Sentence, 2),
];

const ALARMS: [Column; 4] = [
    Column::new("ALARM", Kind::Word, u8::MAX),
    Column::new("PARTICIPANT", Kind::Name, 2),
    Column::new("ABOUT", Kind::Name, 1),
    Column::new("WHAT WAS SEEN", Kind::Sentence, u8::MAX),
];

/// Each participant: its link, and what is in doubt there.
pub(super) fn participants(model: &Model, look: Look) -> Table {
    let status = model.status.last();
    let server = |of: &Participant| server_of(model.in_doubt.last(), &of.participant);
    let rows = status
        .map(|status| status.participants.iter().map(|row| participant(row, server(row), status, look)));
    let selected = model.selected(model::Table::Participants);
    let chosen = status.and_then(|status| status.participants.get(selected?));
    let detail = chosen.and_then(|row| Some(format!("{}: {}", row.participant, row.detail.as_ref()?)));
    let slots = chosen.and_then(server).map(about_server);
    let focused = model.table == model::Table::Participants;
    Table {
        title: "Participants".to_owned(),
        title_style: Style::new(),
        focused,
        columns: &PARTICIPANTS,
        rows: rows.into_iter().flatten().collect(),
        selected,
        empty: (unknown_or(status, "none is configured"), look.quiet()),
        detail: detail.into_iter().chain(slots).filter(|_| focused).collect(),
    }
}

/// What its agent said last of a participant's server.
fn server_of<'a>(doubts: Option<&'a Doubts>, participant: &str) -> Option<&'a Server> {
    doubts?.document.servers.iter().find(|server| server.participant == participant)
}

fn about_server(
    Server { participant, slots_used, slots, oldest_prepared_ms, xmin_held_back }: &Server,
) -> String {
    let text = format!("{participant}: {slots_used} of {slots} slots for prepared transactions are in use");
    match oldest_prepared_ms {
        None => text,
        Some(oldest) => {
            let ids = count(*xmin_held_back, "transaction id", "transaction ids");
            format!("{text}; the oldest, of {}, holds xmin back by {ids}", duration(*oldest))
        }
    }
}

/// All are taken: nothing more is prepared there. Four fifths are: that is near.
fn slots(Server { slots_used, slots, .. }: &Server, look: Look) -> Cell {
    let style = if slots_used >= slots {
        look.alarming()
    } else if slots_used.saturating_mul(5) > slots.saturating_mul(4) {
        look.warning()
    } else {
        Style::new()
    };
    (format!("{slots_used}/{slots}"), style)
}

fn participant(row: &Participant, server: Option<&Server>, status: &Status, look: Look) -> Vec<Cell> {
    let since = duration(row.link_ms);
    let link = match (row.connected, row.heard) {
        (false, _) => (format!("DOWN {since}"), look.alarming()),
        (true, false) => (format!("not heard {since}"), look.warning()),
        (true, true) => (format!("up {since}"), look.good()),
    };
    let departed = |alarm: &&crate::document::Alarm| {
        alarm.code == HEURISTIC && alarm.participant.as_ref() == Some(&row.participant)
    };
    let heuristics = status.alarms.iter().filter(departed).count() as u64;
    let number = |n: u64, style: Style| (n.to_string(), if n > 0 { style } else { Style::new() });
    vec![
        plain(&row.participant),
        link,
        number(row.in_doubt, look.warning()),
        plain(&maybe_duration(row.oldest_in_doubt_ms)),
        number(row.quarantined, look.alarming()),
        number(heuristics, look.alarming()),
        server.map_or_else(|| plain("-"), |server| slots(server, look)),
        plain(&server.map_or_else(|| "-".to_owned(), |server| server.xmin_held_back.to_string())),
        plain(&row.agent_address),
        plain(row.detail.as_deref().unwrap_or_default()),
    ]
}

fn plain(text: &str) -> Cell {
    (text.to_owned(), Style::new())
}

/// Before the first answer nothing is claimed.
fn unknown_or<T>(known: Option<&T>, text: &str) -> String {
    if known.is_some() { text.to_owned() } else { "not known yet".to_owned() }
}

/// What is prepared, and what may be.
pub(super) fn in_doubt(model: &Model, look: Look, width: u16) -> Table {
    let doubts = model.in_doubt.last();
    let row = |(doubts, row): (&Doubts, &Doubt<'_>)| match row {
        Doubt::Ours(branch) => ours(branch, look, width >= WIDE),
        Doubt::Owed(transaction) => owed(doubts, transaction, look),
        Doubt::Foreign(branch) => foreign(branch, look),
    };
    let rows = model.doubt_rows();
    let rows = doubts.map(|doubts| rows.iter().map(|of| row((doubts, of))).collect());
    let unheard = doubts.map(|doubts| names_of_unheard(doubts)).unwrap_or_default();
    let nothing = if unheard.is_empty() {
        ("Nothing is prepared anywhere.".to_owned(), look.good())
    } else {
        ("Nothing of ours is prepared where it could be asked.".to_owned(), look.warning())
    };
    let selected = model.selected(model::Table::InDoubt);
    Table {
        title: title(doubts, &unheard),
        title_style: if unheard.is_empty() { Style::new() } else { look.alarming() },
        focused: model.table == model::Table::InDoubt,
        columns: &IN_DOUBT,
        rows: rows.unwrap_or_default(),
        selected,
        empty: if doubts.is_some() { nothing } else { (unknown_or(doubts, ""), look.quiet()) },
        detail: model.selected_doubt().map(|row| about(&row)).unwrap_or_default(),
    }
}

fn names_of_unheard(doubts: &Doubts) -> Vec<&str> {
    doubts.document.unheard.iter().map(|unheard| unheard.participant.as_str()).collect()
}

fn title(doubts: Option<&Doubts>, unheard: &[&str]) -> String {
    let Some(doubts) = doubts else { return "In doubt".to_owned() };
    let branches = &doubts.document.branches;
    let mut title = format!("In doubt: {}", count(branches.len() as u64, "branch", "branches"));
    let waiting: u32 = branches.iter().map(|branch| branch.blocked_sessions).sum();
    if waiting > 0 {
        title = format!("{title}, {}", count(waiting.into(), "blocked session", "blocked sessions"));
    }
    if !unheard.is_empty() {
        title = format!("{title}; {} could not be asked", unheard.join(", "));
    }
    title
}

fn ours(branch: &Prepared, look: Look, wide: bool) -> Vec<Cell> {
    let needed = if branch.needs_a_person() { look.alarming() } else { Style::new() };
    let name = if wide { &branch.gid } else { branch.gtid.as_ref().unwrap_or(&branch.gid) };
    let decision = match (&branch.decision, branch.age_ms) {
        (Some(decision), _) => decision.clone(),
        (None, Some(_)) => "-".to_owned(),
        // Its agent is working on it.
        (None, None) => "busy".to_owned(),
    };
    vec![
        plain(&branch.participant),
        (name.clone(), needed),
        plain(&maybe_duration(branch.age_ms)),
        plain(&decision),
        (branch.rule.clone().unwrap_or_else(|| "-".to_owned()), needed),
        blocked(branch, look),
        (branch.next.clone(), needed),
    ]
}

fn blocked(branch: &Prepared, look: Look) -> Cell {
    match branch.blocked_sessions {
        0 => plain("-"),
        waiting => (format!("{waiting} for {}", duration(branch.longest_wait_ms)), look.warning()),
    }
}

fn owed(doubts: &Doubts, transaction: &Summary, look: Look) -> Vec<Cell> {
    let unheard = names_of_unheard(doubts);
    let at = transaction.participants.iter().map(String::as_str).filter(|at| unheard.contains(at));
    let at: Vec<&str> = at.collect();
    vec![
        (at.join(", "), look.warning()),
        plain(&transaction.gtid),
        plain(&maybe_duration(transaction.age_ms)),
        plain("commit"),
        plain("-"),
        plain("?"),
        (format!("COMMIT PREPARED once {} can be asked", at.join(", ")), look.warning()),
    ]
}

fn foreign(branch: &Prepared, look: Look) -> Vec<Cell> {
    let quiet = |text: &str| (text.to_owned(), look.quiet());
    vec![
        quiet(&branch.participant),
        quiet(&branch.gid),
        quiet(&maybe_duration(branch.age_ms)),
        quiet("not ours"),
        quiet(branch.rule.as_deref().unwrap_or("-")),
        blocked(branch, look),
        quiet(&branch.next),
    ]
}

/// The selected row in full: its names, what will happen, what it keeps locked.
fn about(row: &Doubt<'_>) -> Vec<String> {
    let branch = match row {
        Doubt::Ours(branch) | Doubt::Foreign(branch) => branch,
        Doubt::Owed(transaction) => {
            return vec![
                format!("{} is decided, and not acknowledged everywhere: s shows it", transaction.gtid),
                "What is prepared where nobody can be asked keeps its locks.".to_owned(),
            ];
        }
    };
    let mut name = format!("{} at {}", branch.gid, branch.participant);
    if let Some(owner) = &branch.owner {
        name = format!("{name}, owner {owner}");
    }
    if let Some(xid) = branch.xid {
        name = format!("{name}, xid {xid}");
    }
    vec![name, format!("next: {}", branch.next), locked(branch)]
}

fn locked(branch: &Prepared) -> String {
    let locks = if branch.locks.is_empty() { "no table".to_owned() } else { branch.locks.join(", ") };
    match branch.blocked_sessions {
        0 => format!("keeps locked: {locks}; nobody waits for it"),
        waiting => format!(
            "keeps locked: {locks}; {} for it, the longest since {}",
            count(waiting.into(), "session waits", "sessions wait"),
            duration(branch.longest_wait_ms)
        ),
    }
}

/// What asks for a person: alarms first, then what is no alarm.
pub(super) fn alarms(model: &Model, look: Look) -> Table {
    let troubles = model.trouble_rows();
    let selected = model.selected(model::Table::Alarms);
    let focused = model.table == model::Table::Alarms;
    let nothing = ("Nothing needs attention.".to_owned(), look.good());
    let known = model.status.last().filter(|_| model.in_doubt.last().is_some());
    Table {
        title: format!("Needs attention: {}", troubles.len()),
        title_style: if troubles.is_empty() { Style::new() } else { look.alarming() },
        focused,
        columns: &ALARMS,
        rows: troubles.iter().map(|trouble| self::trouble(trouble, look)).collect(),
        selected,
        empty: if known.is_some() { nothing } else { (unknown_or(known, ""), look.quiet()) },
        detail: selected.and_then(|at| troubles.get(at)).map(seen).into_iter().collect(),
    }
}

fn trouble(trouble: &Trouble<'_>, look: Look) -> Vec<Cell> {
    match trouble {
        Trouble::Alarm(alarm) => vec![
            (alarm.code.clone(), look.alarming()),
            plain(alarm.participant.as_deref().unwrap_or("-")),
            plain(alarm.gtid.as_deref().unwrap_or("-")),
            plain(&alarm.detail),
        ],
        Trouble::Reason(why) => vec![("!".to_owned(), look.alarming()), plain("-"), plain("-"), plain(why)],
    }
}

fn seen(trouble: &Trouble<'_>) -> String {
    match trouble {
        Trouble::Alarm(alarm) => {
            // Most of them name it themselves.
            let about = alarm.gtid.as_ref().filter(|gtid| !alarm.detail.contains(gtid.as_str()));
            about.map_or(alarm.detail.clone(), |gtid| format!("{gtid}: {}", alarm.detail))
        }
        Trouble::Reason(why) => (*why).to_owned(),
    }
}
