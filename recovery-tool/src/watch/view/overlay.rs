//! What lies over the tables.

use ratatui::Frame;
use ratatui::layout::{Margin, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use super::look::Look;
use crate::document::{Alarm, Participant, Prepared, Resolution, Shown};
use crate::explain;
use crate::failure::Failure;
use crate::render::{self, duration, maybe_duration};
use crate::watch::model::{Content, Feed, Model, Overlay, Settle, Step};

/// Wider lines are hard to read.
const WIDEST: u16 = 120;

const HELP: &str = "\
↑ ↓  j k        move to another row, or scroll a text; PgUp PgDn Home End too
Tab  ← →        the next or the previous table
Enter  s        show the transaction of the selected row (Enter at a participant: what is known of it)
e               explain the alarm: what it means, what is safe, what to do
r               settle the selected branch: a dry run first, then a confirmation that you type
p  Space        pause: the picture stays as it is
u  F5           ask now
+  -            ask less often, or more often
?               this help
q  Esc  Ctrl-C  close what is open; from the tables: end

IN DOUBT are prepared branches; they keep their locks until their database hears the decision. DECISION \
and WHAT WILL HAPPEN are the log's answer, by the recovery table of docs/protocol.md (RULE). Red ones wait \
for a person. BLOCKED says how many sessions wait for their locks, and for how long. HEURISTIC counts \
branches that ended otherwise than decided.

A row whose participant could not be asked has a ? there: what is prepared at it is not known.";

/// A line and how it looks.
type Text = Vec<(String, Style)>;

/// Draws it over the tables; answers how many lines its text can be scrolled.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, overlay: &Overlay, look: Look) -> usize {
    let width = area.width.min(WIDEST);
    let columns = usize::from(width.saturating_sub(4));
    let (title, text) = text(model, &overlay.content, look, columns);
    let lines = wrapped(text, columns);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let over =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let room = usize::from(height.saturating_sub(2));
    let furthest = lines.len().saturating_sub(room);
    let from = overlay.scrolled.min(furthest);
    let keys = if furthest > 0 {
        format!(" ↑↓ {}-{} of {}, Esc closes ", from + 1, from + room, lines.len())
    } else {
        " Esc closes ".to_owned()
    };
    let block = Block::bordered()
        .border_type(BorderType::Double)
        .border_style(look.heading())
        .title(format!(" {title} "))
        .title_bottom(Line::raw(keys).right_aligned());
    let inside = over.inner(Margin::new(2, 1));
    frame.render_widget(Clear, over);
    frame.render_widget(block, over);
    let shown: Vec<Line<'_>> = lines.into_iter().skip(from).take(room).collect();
    frame.render_widget(Paragraph::new(shown), inside);
    furthest
}

/// Lines that fit: broken between words, continued below where they begin.
fn wrapped(text: Text, columns: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (line, style) in text {
        let blanks: String = line.chars().take_while(|c| *c == ' ').collect();
        let options = textwrap::Options::new(columns).subsequent_indent(&blanks);
        let parts = textwrap::wrap(&line, options);
        lines.extend(parts.into_iter().map(|part| Line::styled(part.into_owned(), style)));
    }
    lines
}

fn plain(text: &str) -> Text {
    text.lines().map(|line| (line.to_owned(), Style::new())).collect()
}

fn text(model: &Model, content: &Content, look: Look, columns: usize) -> (String, Text) {
    // The plain text of the commands, for as many columns as there are here.
    let style = render::Style::columns(u16::try_from(columns).unwrap_or(u16::MAX));
    match content {
        Content::Help => ("Help".to_owned(), plain(HELP)),
        Content::Participant(name) => (name.clone(), participant(model, name, look)),
        Content::Explain(alarm) => (alarm.code.clone(), explained(alarm, look, style)),
        Content::Show { gtid, feed } => {
            (format!("{gtid}{}", since(model, feed.as_ref())), shown(feed, look, style))
        }
        Content::Settle(settle) => (format!("Settle {}", settle.branch.gid), settlement(settle, look, style)),
    }
}

/// How old a text is, where it is not what would be answered now.
fn since<T>(model: &Model, feed: &Feed<T>) -> String {
    match feed.age(model.now) {
        Some(age) if feed.failure().is_some() || model.paused => {
            format!(", as it was {} ago", duration(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
        }
        Some(_) | None => String::new(),
    }
}

fn shown(feed: &Feed<Shown>, look: Look, style: render::Style) -> Text {
    let mut text = failed(feed.failure(), look);
    match feed.last() {
        Some(shown) => text.extend(plain(&render::shown(shown, style))),
        None if text.is_empty() => text.extend(plain("Asking the coordinator …")),
        None => {}
    }
    text
}

fn failed(failure: Option<&Failure>, look: Look) -> Text {
    failure.map(|failure| (format!("! {failure}"), look.alarming())).into_iter().collect()
}

fn explained(alarm: &Alarm, look: Look, style: render::Style) -> Text {
    let about = [&alarm.participant, &alarm.gtid].into_iter().flatten().cloned().collect::<Vec<_>>();
    let mut text = vec![(format!("! {}", alarm.detail), look.alarming())];
    if !about.is_empty() {
        text.push((format!("  about {}", about.join(", ")), Style::new()));
    }
    text.push(Default::default());
    match explain::page(&alarm.code) {
        Some(page) => text.extend(plain(&render::page(page, style))),
        None => text.extend(plain("This votumctl has no page on it: it may be older than the coordinator.")),
    }
    text
}

fn participant(model: &Model, name: &str, look: Look) -> Text {
    let status = model.status.last();
    let row = status.and_then(|status| status.participants.iter().find(|row| row.participant == name));
    let Some(row) = row else { return plain("The coordinator no longer knows this participant.") };
    let Participant { agent_address, connected, heard, link_ms, detail, .. } = row;
    let since = duration(*link_ms);
    let (link, style) = match connected {
        true => (format!("a stream to its agent stands since {since}"), look.good()),
        false => (format!("NOT CONNECTED since {since}: what is in doubt there stays so"), look.alarming()),
    };
    let listed = if *heard { "yes, in this epoch" } else { "not yet in this epoch" };
    let mut text = vec![
        (format!("agent        {agent_address}"), Style::new()),
        (format!("link         {link}"), style),
        (format!("listed       {listed}"), Style::new()),
        (format!("in doubt     {}", row.in_doubt), Style::new()),
        (format!("oldest       {}", maybe_duration(row.oldest_in_doubt_ms)), Style::new()),
        (format!("quarantined  {}", row.quarantined), Style::new()),
    ];
    if let Some(detail) = detail {
        text.push((format!("detail       {detail}"), look.warning()));
    }
    let unheard = model.in_doubt.last().into_iter().flat_map(|doubts| &doubts.document.unheard);
    for unheard in unheard.filter(|unheard| unheard.participant == name) {
        text.push((format!("in-doubt     could not be asked: {}", unheard.reason), look.alarming()));
    }
    text
}

/// The dialogue that settles a branch: what it is, what was chosen, and what comes next.
fn settlement(settle: &Settle, look: Look, style: render::Style) -> Text {
    let mut text = branch(&settle.branch);
    text.push(Default::default());
    let chosen = || {
        vec![
            (format!("action       {}, by {}", settle.action(), settle.operator), look.heading()),
            (format!("reason       {}", settle.reason), Style::new()),
            Default::default(),
        ]
    };
    match &settle.step {
        Step::Choosing => text.extend([
            ("What is to become of it?".to_owned(), look.heading()),
            ("  c   commit it".to_owned(), Style::new()),
            ("  b   roll it back".to_owned(), Style::new()),
            Default::default(),
            ("Nothing is done yet: a dry run comes first.".to_owned(), look.quiet()),
        ]),
        Step::Reasoning => text.extend([
            (format!("action       {}, by {}", settle.action(), settle.operator), look.heading()),
            (
                "Why? It is kept in the log: a ticket, and what you found out. Enter goes on.".into(),
                Style::new(),
            ),
            (format!("> {}_", settle.reason), look.heading()),
        ]),
        Step::Trying => {
            text.extend(chosen());
            text.extend(plain("Asking what would be done …"));
        }
        Step::Confirming { dry, typed, mistaken } => {
            text.extend(chosen());
            text.extend(confirmation(settle, dry, typed, *mistaken, look, style));
        }
        Step::Applying => {
            text.extend(chosen());
            text.push(("The order is given; waiting for the database …".to_owned(), look.warning()));
        }
        Step::Ended(Ok(document)) => {
            text.extend(chosen());
            text.extend(plain(&render::resolution(document, true, style)));
        }
        Step::Unknown(failure) => {
            text.extend(chosen());
            let what =
                "The order was given, and what became of it is not known. It stands if it reached the log.";
            text.push((what.to_owned(), look.alarming()));
            text.extend(failed(Some(failure), look));
        }
        Step::Ended(Err(failure)) => {
            text.push(("Refused: nothing was done.".to_owned(), look.alarming()));
            text.extend(failed(Some(failure), look));
        }
    }
    text
}

fn branch(branch: &Prepared) -> Text {
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let line = |name: &str, what: String| (format!("{name:<13}{what}"), Style::new());
    vec![
        line("branch", branch.gid.clone()),
        line(
            "participant",
            format!("{}, prepared {} ago", branch.participant, maybe_duration(branch.age_ms)),
        ),
        line("decision", format!("{} (rule {})", dash(&branch.decision), dash(&branch.rule))),
        line("next", branch.next.clone()),
    ]
}

fn confirmation(
    settle: &Settle,
    dry: &Resolution,
    typed: &str,
    mistaken: bool,
    look: Look,
    style: render::Style,
) -> Text {
    let mut text = plain(&render::resolution(dry, true, style));
    if let Some((heading, how)) = text.first_mut() {
        (*heading, *how) = ("Dry run: nothing is done yet.".to_owned(), look.heading());
    }
    text.push(Default::default());
    if mistaken {
        text.push(("That was something else: nothing was done.".to_owned(), look.alarming()));
    }
    text.push((
        format!("To do it, type: {}   and press Enter. Esc leaves it undone.", settle.words()),
        look.warning(),
    ));
    text.push((format!("> {typed}_"), look.heading()));
    text
}
