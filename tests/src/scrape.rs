//! Metrics, asked for as Prometheus asks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::eventually::{Found, eventually};
use crate::world::World;

/// What one process showed.
#[derive(Debug, Clone)]
pub struct Page(pub String);

impl Page {
    /// The value of one series; `None` where it is not shown.
    pub fn value(&self, series: &str) -> Option<f64> {
        let mut values = self.0.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        values.next()?.parse().ok()
    }

    /// Every metric that has at least one series, by the name that a rule uses, and its kind.
    pub fn metrics(&self) -> BTreeMap<String, String> {
        let mut metrics = BTreeMap::new();
        for line in self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let Some((family, kind)) = line.split_once(' ') else { continue };
            let name = if kind == "counter" { format!("{family}_total") } else { family.to_owned() };
            let sample = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
            let shown = |line: &str| {
                line.strip_prefix(&sample).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
            };
            if self.0.lines().any(shown) {
                metrics.insert(name, kind.to_owned());
            }
        }
        metrics
    }
}

/// The series of an alarm.
pub fn alarm(code: &str, participant: &str) -> String {
    format!("votum_alarm{{code=\"{code}\",participant=\"{participant}\"}}")
}

/// The series that `metric` has of a participant alone.
pub fn at(metric: &str, participant: &str) -> String {
    format!("{metric}{{participant=\"{participant}\"}}")
}

/// The coordinator's name among the processes of a world.
pub const COORDINATOR: &str = "coordinator";

impl World {
    /// Where `process`, the coordinator or a bank's agent, shows its metrics.
    pub fn metrics_socket(&self, process: &str) -> PathBuf {
        self.dir().join(format!("{process}.metrics.sock"))
    }

    /// The metrics of the coordinator, or of a bank's agent.
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn scrape(&self, process: &str) -> anyhow::Result<Page> {
        let mut connection = UnixStream::connect(self.metrics_socket(process)).await?;
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: votum\r\n\r\n").await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(Page(body.to_owned()))
    }

    /// Waits until `series` has this value, or is not shown.
    ///
    /// # Errors
    /// When it never comes to that: with the page that was seen last.
    pub async fn until_shown(&self, process: &str, series: &str, value: Option<f64>) -> anyhow::Result<Page> {
        let waiting = eventually(series, async || {
            Ok(match self.scrape(process).await {
                Ok(page) if page.value(series) == value => Found::Yes(page),
                Ok(page) => Found::NotYet(format!("{value:?} is awaited, and shown is\n{}", page.0)),
                Err(error) => Found::NotYet(format!("{error:#}")),
            })
        });
        Box::pin(waiting).await
    }
}
