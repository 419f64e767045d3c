//! The coordinator's health on one screen.

use std::fmt::Write as _;

use comfy_table::Color;

use super::{Column, Style, Table, count, duration, maybe_duration};
use crate::document::{Compared, Participant, Status, Unproven};

/// `votumctl status`, for people.
pub(crate) fn status(status: &Status, style: Style) -> String {
    let mut text = String::new();
    let name = style.heading(&format!("coordinator {}", status.coordinator_id));
    let since = if status.is_stopped() { "stopped".into() } else { format!("up {}", duration(status.up_ms)) };
    let _ = writeln!(
        text,
        "{name}  epoch {}  incarnation {}  version {}  {since}",
        status.epoch, status.incarnation, status.version
    );
    let log = &status.log;
    let _ = writeln!(
        text,
        "log          {}, position {}, remembers {}{}",
        log.state,
        log.position,
        duration(log.retention_reach_ms),
        if log.stale { ", STALE" } else { "" }
    );
    let _ = writeln!(
        text,
        "transactions {} in flight, {} decided and not acknowledged everywhere",
        status.in_flight, status.undelivered
    );
    if status.is_stopped() {
        let _ = write!(text, "{}", owed(&status.participants, style));
    } else {
        let _ = write!(text, "\n{}", participants(&status.participants, style));
    }
    for participant in &status.participants {
        let _ = write!(text, "{}", compared(participant));
    }
    if !status.alarms.is_empty() {
        let _ = write!(text, "\n{}", alarms(status, style));
    }
    if let Some(detail) = &log.stale_detail {
        let _ = writeln!(text, "\nThe log is stale: {detail}");
    }
    let _ = writeln!(text);
    if status.attention.is_empty() {
        let _ = writeln!(text, "Nothing needs attention.");
    }
    for why in &status.attention {
        let _ = writeln!(text, "{} {why}", style.alarming("!"));
    }
    text
}

/// To whom a log owes commits that nobody delivers now.
fn owed(participants: &[Participant], style: Style) -> String {
    if participants.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[Column::word("PARTICIPANT"), Column::number("COMMITS OWED")], style);
    for participant in participants {
        table.colored([(participant.participant.clone(), None), (participant.in_doubt.to_string(), None)]);
    }
    format!("\n{}", table.text())
}

fn participants(participants: &[Participant], style: Style) -> String {
    let columns = [
        Column::word("PARTICIPANT"),
        Column::word("AGENT"),
        Column::word("STATE"),
        Column::number("IN DOUBT"),
        Column::number("OLDEST"),
        Column::number("QUARANTINED"),
        Column::sentence("DETAIL"),
    ];
    let mut table = Table::new(&columns, style);
    for participant in participants {
        let (state, color) = match (participant.connected, participant.heard) {
            (false, _) => ("not connected", Some(Color::Red)),
            (true, false) => ("not heard", Some(Color::Yellow)),
            (true, true) => ("connected", Some(Color::Green)),
        };
        table.colored([
            (participant.participant.clone(), None),
            (participant.agent_address.clone(), None),
            (state.to_owned(), color),
            (participant.in_doubt.to_string(), None),
            (maybe_duration(participant.oldest_in_doubt_ms), None),
            (participant.quarantined.to_string(), (participant.quarantined > 0).then_some(Color::Red)),
            (participant.detail.clone().unwrap_or_default(), None),
        ]);
    }
    table.text()
}

/// What a person has compared there after a change of timeline. While nobody has, an alarm says so.
fn compared(Participant { participant, unproven, .. }: &Participant) -> String {
    let Some(Unproven { timeline, commits, acknowledged: Some(said) }) = unproven else {
        return String::new();
    };
    let Compared { operator, reason, position, .. } = said;
    let commits = count(*commits, "commit", "commits");
    format!(
        "\n{participant} changed to timeline {timeline}, and {commits} of before cannot be proven: acknowledged by \
         {operator} (position {position}): {reason}\n"
    )
}

fn alarms(status: &Status, style: Style) -> String {
    let columns = [
        Column::word("ALARM"),
        Column::word("TRANSACTION"),
        Column::word("PARTICIPANT"),
        Column::sentence("WHAT WAS SEEN"),
    ];
    let mut table = Table::new(&columns, style);
    for alarm in &status.alarms {
        table.colored([
            (alarm.code.clone(), Some(Color::Red)),
            (alarm.gtid.clone().unwrap_or_else(|| "-".into()), None),
            (alarm.participant.clone().unwrap_or_else(|| "-".into()), None),
            (alarm.detail.clone(), None),
        ]);
    }
    let all = count(status.alarms.len() as u64, "alarm", "alarms");
    format!("{}{}\n", table.text(), format_args!("{all}: `votumctl explain CODE` says what each means"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Status;

    fn fixed(answer: votum_proto::v1::GetStatusResponse, style: Style) -> String {
        status(&Status::new(answer, 60_000), style)
    }

    use crate::document::fixed::{ailing, healthy};

    #[test]
    fn a_healthy_coordinator_on_one_screen() {
        let expected = "\
coordinator acme  epoch 7  incarnation 3f9ac2  version 0.1.0  up 4 min 10 s
log          ready, position 4711, remembers 2 h
transactions 3 in flight, 1 decided and not acknowledged everywhere

PARTICIPANT  AGENT                  STATE      IN DOUBT  OLDEST  QUARANTINED  DETAIL
bank-a       http://127.0.0.1:7410  connected         0       -            0
bank-b       http://127.0.0.1:7420  connected         0       -            0

Nothing needs attention.
";
        assert_eq!(fixed(healthy(), Style::plain(false)), expected);
    }

    #[test]
    fn an_ailing_coordinator_on_a_narrow_terminal() {
        let expected = "\
coordinator acme  epoch 7  incarnation 3f9ac2  version 0.1.0  up 4 min 10 s
log          ready, position 4711, remembers 2 h, STALE
transactions 3 in flight, 1 decided and not acknowledged everywhere

PARTICIPANT  AGENT                  STATE          IN DOUBT      OLDEST  QUARANTINED  DETAIL
bank-a       http://127.0.0.1:7410  connected             2  1 min 30 s            1
bank-b       http://127.0.0.1:7420  not connected         0           -            0  connection
                                                                                      refused

bank-b changed to timeline 2, and 12 commits of before cannot be proven: acknowledged by ada (position 4700): \
4713: compared, nothing is missing

ALARM       TRANSACTION                PARTICIPANT  WHAT WAS SEEN
VOTUM-1402  votum_acme_5_aaaaaa_9_0_2  bank-a       a person decides
1 alarm: `votumctl explain CODE` says what each means

The log is stale: bank-a has seen epoch 9

! there is an alarm
! the log is stale: nothing is begun, and no abort is presumed
! 1 branch waits for a person at bank-a: votumctl in-doubt
! a branch at bank-a has been in doubt for 1 min 30 s: votumctl in-doubt
! bank-b is not connected: what is in doubt there stays so
";
        assert_eq!(fixed(ailing(), Style::columns(100)), expected);
    }

    #[test]
    fn the_log_of_a_stopped_coordinator_says_to_whom_it_owes_commits() {
        let mut answer = healthy();
        answer.log_state = crate::document::STOPPED.into();
        answer.in_flight = 0;
        answer.participants.truncate(1);
        answer.participants[0].in_doubt = 1;
        let expected = "\
coordinator acme  epoch 7  incarnation 3f9ac2  version 0.1.0  stopped
log          stopped, position 4711, remembers 2 h
transactions 0 in flight, 1 decided and not acknowledged everywhere

PARTICIPANT  COMMITS OWED
bank-a                  1

! 1 committed branch is perhaps still prepared at bank-a, with its locks: start the coordinator
";
        assert_eq!(fixed(answer, Style::plain(false)), expected);
    }

    #[test]
    fn colors_only_where_they_are_asked_for() {
        assert!(!fixed(ailing(), Style::plain(false)).contains('\x1b'));
        assert!(fixed(ailing(), Style::plain(true)).contains("\x1b["));
    }
}
