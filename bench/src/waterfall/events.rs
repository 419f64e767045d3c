//! What happened when, as the processes' logs say.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use serde::Deserialize;

/// Something that happens once to a transaction, or once to each of its branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The client sends it.
    Sent,
    /// The client hears of its end.
    Told,
    Begun,
    /// All votes are in, and the decision goes to the log.
    Decides,
    /// It is forced.
    Decided,
    /// A branch's agent begins with its work.
    Works,
    Votes,
    /// It begins to commit.
    Commits,
    Ended,
}

impl Event {
    /// By the message of a line.
    fn said(message: &str) -> Option<Self> {
        Some(match message {
            "begun" => Self::Begun,
            "the votes are in" => Self::Decides,
            "decided" => Self::Decided,
            "begins with the work" => Self::Works,
            "votes yes" => Self::Votes,
            "begins to end the branch" => Self::Commits,
            "the branch has ended" => Self::Ended,
            _ => return None,
        })
    }
}

/// A line of a log.
#[derive(Deserialize)]
struct Line {
    timestamp: String,
    fields: Fields,
    #[serde(default)]
    span: Fields,
}

#[derive(Default, Deserialize)]
struct Fields {
    #[serde(default)]
    message: String,
    #[serde(default)]
    gtid: String,
    #[serde(default)]
    participant: String,
}

/// When something happened: by transaction, participant (empty where it is the transaction's own), and what it was.
#[derive(Debug, Default)]
pub(super) struct Events(BTreeMap<(String, String, Event), i128>);

impl Events {
    /// Adds what happened at `at`.
    ///
    /// # Errors
    /// When the clock stands before 1970.
    pub(super) fn add(
        &mut self,
        gtid: &str,
        participant: &str,
        event: Event,
        at: SystemTime,
    ) -> anyhow::Result<()> {
        let nanos = at.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        self.note(gtid, participant, event, i128::try_from(nanos)?);
        Ok(())
    }

    fn note(&mut self, gtid: &str, participant: &str, event: Event, at: i128) {
        // The first time counts.
        self.0.entry((gtid.to_owned(), participant.to_owned(), event)).or_insert(at);
    }

    /// Adds what a log says.
    ///
    /// # Errors
    /// When it cannot be read, or a line of it that is one has no time.
    pub(super) fn read(&mut self, log: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
        for line in text.lines() {
            self.take(line)?;
        }
        Ok(())
    }

    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        let Ok(Line { timestamp, fields, span }) = serde_json::from_str::<Line>(line) else { return Ok(()) };
        let Some(event) = Event::said(&fields.message) else { return Ok(()) };
        let gtid = if fields.gtid.is_empty() { &span.gtid } else { &fields.gtid };
        let at: prost_types::Timestamp =
            timestamp.parse().with_context(|| format!("the time of a line: {timestamp}"))?;
        let at = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
        self.note(gtid, &span.participant, event, at);
        Ok(())
    }

    /// How long after the client sent it, in µs: the median of the transactions that it sent; `None` when it happened
    /// to none.
    pub(super) fn median_us(&self, participant: &str, event: Event) -> Option<f64> {
        let sent = self.0.iter().filter(|((.., event), _)| *event == Event::Sent);
        let mut after: Vec<i128> = sent
            .filter_map(|((gtid, ..), sent)| {
                let at = self.0.get(&(gtid.clone(), participant.to_owned(), event))?;
                Some(at - sent)
            })
            .collect();
        after.sort_unstable();
        let nanos = *after.get(after.len() / 2)?;
        Some(i64::try_from(nanos).ok()? as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_what_the_client_sent_and_of_each_participant() {
        let mut events = Events::default();
        let line = |gtid: &str, participant: &str, nanos: u32, message: &str| {
            format!(
                "{{\"timestamp\":\"2026-01-01T00:00:00.{nanos:09}Z\",\"fields\":{{\"message\":\"{message}\"}},\
                 \"span\":{{\"gtid\":\"{gtid}\",\"participant\":\"{participant}\"}}}}"
            )
        };
        let begin: prost_types::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (gtid, after) in [("one", 3_000), ("two", 5_000), ("three", 100_000)] {
            events.take(&line(gtid, "bank-a", after, "votes yes")).unwrap();
            events.take(&line(gtid, "bank-a", after + 1, "votes yes")).unwrap();
            events.note(gtid, "", Event::Sent, i128::from(begin.seconds) * 1_000_000_000);
        }
        events.take(&line("not sent", "bank-a", 999_999_999, "votes yes")).unwrap();
        events.take("no JSON").unwrap();
        events.take(&line("one", "bank-b", 1, "something else")).unwrap();
        assert_eq!(events.median_us("bank-a", Event::Votes), Some(5.0));
        assert_eq!(events.median_us("bank-b", Event::Votes), None);
        assert!(events.take("{\"timestamp\":\"soon\",\"fields\":{\"message\":\"decided\"}}").is_err());
    }
}
