use std::time::Duration;

use crossterm::event::KeyCode;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use votum_proto::v1;

use super::*;
use crate::document::fixed::{ailing, committing, everything, healthy, server, summary};
use crate::watch::model::tests::{HELD, Play, WAITING, dry, lost, refusal};
use crate::watch::model::{Answer, Message};

fn drawn(play: &mut Play, width: u16, height: u16, style: Style) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut furthest = 0;
    terminal.draw(|frame| furthest = draw(frame, &play.model, style)).unwrap();
    play.model.scrolled_at_most(furthest);
    terminal
}

/// What a person reads, line by line.
fn screen(play: &mut Play, width: u16, height: u16) -> String {
    let terminal = drawn(play, width, height, Style::plain(false));
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_healthy_coordinator_on_the_smallest_terminal() {
    let mut play = Play::new();
    play.answers(healthy(), v1::ListInDoubtResponse::default());
    let mut later = healthy();
    later.up_ms += 2_000;
    let counts = later.counts.as_mut().unwrap();
    counts.committed += 24;
    counts.forced_writes += 20;
    counts.forced_writes_us += 4_000;
    play.answers(later, v1::ListInDoubtResponse::default());
    let text = screen(&mut play, 80, 24);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("coordinator acme  HEALTHY") && lines[0].ends_with("every 2.0 s"), "{text}");
    says(lines[1], &["epoch 7-3f9ac2  up 4 min 12 s", "log ready, forced write 0.20 ms (10.0/s)"]);
    says(lines[2], &["3 in flight, 1 not acknowledged", "12.0/s committed, 0 aborted"]);
    says(&text, &["bank-a", "up 4 min 9 s", "Nothing is prepared anywhere.", "Nothing needs attention."]);
    says(lines[23], &["Tab table", "r resolve", "? help", "q quit"]);
}

#[test]
fn everything_that_is_wrong_is_on_the_smallest_terminal() {
    let text = screen(&mut Play::ailing(), 80, 24);
    says(&text, &["BROKEN: the log is stale", "log ready, STALE"]);
    says(
        &text,
        &["bank-b       DOWN", "In doubt: 2 branches, 2 blocked sessions; bank-b could not be asked"],
    );
    says(&text, &["2 for 3.1 s", "4 min  none", "3.2 s  commit", "VOTUM-1402"]);
    // The selected branch in full, as `resolve` wants it.
    says(&text, &[&format!("{WAITING} at bank-a, owner votum, xid 731"), "next: a person decides"]);
    says(&text, &["> bank-a"]);
    let lines: Vec<&str> = text.lines().collect();
    let last_row = lines.iter().position(|line| line.contains("not ours")).unwrap();
    assert!(lines[last_row + 1].contains(WAITING), "the selected row is told right below the rows\n{text}");
    assert!(!text.contains("WHAT WILL HAPPEN"), "that does not fit\n{text}");
}

#[test]
fn a_wide_terminal_shows_gids_agents_and_what_will_happen() {
    let text = screen(&mut Play::ailing(), 140, 40);
    says(&text, &["WHAT WILL HAPPEN", "a person decides: votumctl resolve", HELD, "http://127.0.0.1:7410"]);
    says(&text, &["connection refused", "nothing is known of what is prepared at bank-b"]);
}

#[test]
fn how_many_slots_are_taken_and_how_far_xmin_is_held_back_is_on_the_screen() {
    let mut play = Play::ailing();
    let text = screen(&mut play, 140, 40);
    says(&text, &["SLOTS", "XMIN AGE", "3/64", "12345"]);
    // On a small one in the words of who is selected.
    play.press(KeyCode::BackTab);
    let whole = "bank-a: 3 of 64 slots for prepared transactions are in use; the oldest, of 4 min, holds xmin back \
                 by 12345 transaction ids";
    let text = screen(&mut play, 80, 24);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains(whole), "{text}");
    for (used, color) in [(51, Color::Reset), (52, Color::Yellow), (64, Color::Red)] {
        let mut answer = everything();
        answer.servers = vec![server(used, 64)];
        play.answers(ailing(), answer);
        let drawn = drawn(&mut play, 140, 40, Style::terminal(true));
        let cells = drawn.backend().buffer().content();
        let wanted = format!("{used}/64");
        let at = cells
            .windows(wanted.len())
            .position(|cells| cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>() == wanted);
        assert_eq!(at.map(|at| cells[at].fg), Some(color), "{wanted}");
    }
    let mut answer = everything();
    answer.servers.clear();
    play.answers(ailing(), answer);
    assert!(!screen(&mut play, 140, 40).contains("/64"), "what is not known is not claimed");
}

#[test]
fn no_table_takes_the_room_of_the_others_and_long_ones_scroll_to_what_is_selected() {
    let mut many = everything();
    for n in 0..50 {
        let mut branch = many.branches[0].clone();
        let row = branch.row.as_mut().unwrap();
        row.gid = format!("votum_acme_7_3f9ac2_{n}_0_2");
        row.age_ms = 1_000 + n;
        branch.gtid = format!("acme-7-3f9ac2-{n}");
        many.branches.push(branch);
    }
    let mut status = ailing();
    for n in 0..30 {
        status.alarms.push(v1::Alarm {
            code: "VOTUM-1403".into(),
            detail: format!("alarm {n}"),
            ..Default::default()
        });
    }
    let mut play = Play::new();
    play.answers(status, many);
    let text = screen(&mut play, 80, 24);
    says(&text, &["bank-b could not be… ━━ 1-7 of 53"]);
    says(&text, &["bank-b       DOWN", "VOTUM-1402", "of 53", "of 35", "q quit"]);
    assert!(!text.contains("acme-7-3f9ac2-20 "), "{text}");
    for _ in 0..31 {
        play.press(KeyCode::Down);
    }
    let text = screen(&mut play, 80, 24);
    let selected = text.lines().find(|line| line.starts_with("> ")).unwrap();
    assert!(selected.contains("acme-7-3f9ac2-20 "), "{text}");
    play.press(KeyCode::Tab);
    play.press(KeyCode::End);
    let text = screen(&mut play, 80, 24);
    says(&text, &["> ", "nothing is known of what is prepared at bank-b"]);
}

#[test]
fn without_an_answer_the_last_picture_stays_with_its_age_and_the_reason_in_red() {
    let mut play = Play::ailing();
    play.seconds = 12;
    play.happens(Message::Answer(Answer::Status(Err(lost()))));
    play.happens(Message::Answer(Answer::InDoubt(Err(lost()))));
    let text = screen(&mut play, 80, 24);
    says(
        &text,
        &["NO ANSWER: this is an old picture", "12 s old", "Connection refused", "trying again in 2.0 s"],
    );
    says(&text, &[WAITING, "VOTUM-1402", "bank-a"]);
    let colored = drawn(&mut play, 80, 24, Style::terminal(true));
    let cell = &colored.backend().buffer()[(79, 0)];
    assert_eq!((cell.symbol(), cell.fg), ("d", Color::Red), "the age");
}

#[test]
fn before_the_first_answer_nothing_is_claimed() {
    let mut play = Play::new();
    let text = screen(&mut play, 80, 24);
    says(&text, &["Asking the coordinator"]);
    assert!(!text.contains("HEALTHY") && !text.contains("Nothing"), "{text}");
    play.happens(Message::Answer(Answer::Status(Ok(healthy()))));
    let text = screen(&mut play, 80, 24);
    assert!(!text.contains("HEALTHY") && !text.contains("Nothing"), "what is in doubt is not known\n{text}");
    let mut nobody = Play::new();
    nobody.happens(Message::Answer(Answer::Status(Err(lost()))));
    says(&screen(&mut nobody, 80, 24), &["NO ANSWER", "127.0.0.1:7400", "--coordinator"]);
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    for (width, height) in [(79, 24), (80, 23), (30, 8)] {
        let text = screen(&mut Play::ailing(), width, height);
        says(&text.replace('\n', " "), &[&format!("{width} columns and {height} lines"), "80 and 24"]);
    }
}

#[test]
fn colors_are_there_only_where_they_are_wanted_and_nothing_rests_on_them() {
    let mut play = Play::ailing();
    let plain = drawn(&mut play, 80, 24, Style::plain(false));
    let buffer = plain.backend().buffer();
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(buffer.content.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)), "the selected row");
    let colored = drawn(&mut play, 80, 24, Style::terminal(true));
    assert!(colored.backend().buffer().content.iter().any(|cell| cell.fg == Color::Red));
}

#[test]
fn a_transaction_that_cannot_be_looked_at_is_a_row_of_its_own() {
    let mut play = Play::new();
    play.happens(Message::Answer(Answer::Status(Ok(ailing()))));
    let listed = v1::ListTransactionsResponse { transactions: vec![summary("committing")] };
    let mut doubts = everything();
    doubts.branches.clear();
    doubts.foreign.clear();
    play.happens(Message::Answer(Answer::InDoubt(Ok((doubts, listed)))));
    let text = screen(&mut play, 80, 24);
    says(&text, &["> bank-b", "acme-7-3f9ac2-1042", "acme-7-3f9ac2-1042 is decided, and not acknowledged"]);
}

#[test]
fn a_transaction_is_shown_over_the_tables_and_scrolls() {
    let mut play = Play::ailing();
    play.press(KeyCode::Enter);
    says(&screen(&mut play, 80, 24), &["acme-7-3f9ac2-1042", "Asking the coordinator"]);
    let mut long = committing();
    for position in 0..40 {
        let record = v1::LogRecord { position, kind: "Heuristic".into(), ..Default::default() };
        long.records.push(record);
    }
    let gtid = "acme-7-3f9ac2-1042".to_owned();
    play.happens(Message::Answer(Answer::Shown { gtid, answer: Ok(long) }));
    let text = screen(&mut play, 80, 24);
    says(&text, &["COMMITTED, not yet acknowledged by bank-b", "↑↓ 1-", "Esc closes"]);
    assert!(!text.contains("42 records in the log"), "{text}");
    play.press(KeyCode::End);
    says(&screen(&mut play, 80, 24), &["42 records in the log"]);
    play.press(KeyCode::Up);
    let text = screen(&mut play, 80, 24);
    assert!(!text.contains("42 records in the log"), "one line up from the end, at once\n{text}");
}

#[test]
fn an_explanation_begins_with_what_was_seen() {
    let mut play = Play::ailing();
    play.types("e");
    let text = screen(&mut play, 80, 24);
    says(
        &text,
        &["VOTUM-1402", "! a person decides", "about bank-a, votum_acme_5_aaaaaa_9_0_2", "What it means"],
    );
}

#[test]
fn a_participant_in_full() {
    let mut play = Play::ailing();
    play.press(KeyCode::BackTab);
    play.press(KeyCode::Down);
    play.press(KeyCode::Enter);
    says(&screen(&mut play, 80, 24), &["NOT CONNECTED", "http://127.0.0.1:7420", "connection refused"]);
}

#[test]
fn the_settlement_shows_each_step() {
    let mut play = Play::ailing();
    play.types("r");
    says(
        &screen(&mut play, 80, 24),
        &[WAITING, "decision     none (rule R10)", "c   commit it", "b   roll it back"],
    );
    play.types("b");
    play.types("ticket");
    says(&screen(&mut play, 80, 24), &["action       rollback, by ada", "> ticket_"]);
    play.press(KeyCode::Enter);
    says(&screen(&mut play, 80, 24), &["Asking what would be done"]);
    play.resolved(Ok(dry()));
    let text = screen(&mut play, 80, 24);
    says(&text, &["Dry run: nothing is done yet.", &format!("bank-a: ROLLBACK PREPARED '{WAITING}'")]);
    says(&text, &["its record may have been dropped", "type: rollback bank-a"]);
    play.types("no");
    play.press(KeyCode::Enter);
    says(&screen(&mut play, 80, 24), &["That was something else: nothing was done."]);
    play.types("rollback bank-a");
    play.press(KeyCode::Enter);
    says(&screen(&mut play, 80, 24), &["The order is given"]);
    play.resolved(Ok(v1::ResolveResponse { applied: true, result: "done".into(), ..dry() }));
    says(&screen(&mut play, 80, 24), &["Settled", "result     done"]);
}

#[test]
fn a_refusal_is_shown_with_its_code() {
    let mut play = Play::ailing();
    play.asks_to_settle();
    play.resolved(Err(refusal()));
    says(&screen(&mut play, 80, 24), &["Refused: nothing was done.", "VOTUM-1201: the decision is COMMIT"]);
}

#[test]
fn what_others_wrote_cannot_draw_on_the_terminal() {
    let mut hostile = everything();
    hostile.branches[0].next = "\x1b[2Jgone\rover\tit".into();
    hostile.foreign[0].row.as_mut().unwrap().gid = "\x1b]0;title\x07".into();
    let mut play = Play::new();
    play.answers(ailing(), hostile);
    for (width, height) in [(80, 24), (140, 40)] {
        let text = screen(&mut play, width, height);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn any_size_can_be_drawn_whatever_is_open() {
    for keys in ["", "?", "s", "e", "r", "rb", "\t", "\t\t"] {
        let mut play = Play::ailing();
        for key in keys.chars() {
            play.press(if key == '\t' { KeyCode::Tab } else { KeyCode::Char(key) });
        }
        play.seconds = 9;
        play.happens(Message::Answer(Answer::Status(Err(lost()))));
        for (width, height) in [(1, 1), (80, 24), (81, 25), (100, 30), (140, 40), (400, 100)] {
            screen(&mut play, width, height);
        }
    }
}

#[test]
fn lines_are_shared_so_that_each_table_is_of_use() {
    let least = [4, 6, 4];
    assert_eq!(shares([4, 7, 4], least, [1, 2, 0], 20), [4, 12, 4], "what nobody wants goes to the middle");
    assert_eq!(shares([30, 30, 30], least, [1, 2, 0], 20), [4, 12, 4]);
    assert_eq!(shares([30, 30, 30], least, [0, 1, 2], 20), [10, 6, 4]);
    assert_eq!(shares([30, 30, 30], least, [2, 1, 0], 5), [0, 1, 4]);
}

#[test]
fn the_picture_is_old_when_answers_stay_out() {
    let mut play = Play::ailing();
    play.seconds = 30;
    play.happens(Message::Tick);
    says(&screen(&mut play, 80, 24), &["30 s old, every 2.0 s"]);
    assert_eq!(play.model.interval, Duration::from_secs(2));
}
