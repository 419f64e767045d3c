//! What Prometheus is shown of an agent. Votes and durations are counted where they happen
//! ([`Counts`]); everything else is taken at each scrape: from what the agent knows, and from one question to
//! each participant's server. docs/metrics.md names all of them.

mod counts;
mod gauges;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use votum_proto::service::metrics::Page;

use self::counts::CountFamilies;
pub(crate) use self::counts::Counts;
use self::gauges::Gauges;
use crate::agent::{Agent, Inner, Participant};
use crate::database::Condition;

/// How long a scrape waits for the servers, all at once. One that does not answer is shown as such.
const PATIENCE: Duration = Duration::from_secs(2);

/// All metrics of one agent.
pub(crate) struct Metrics {
    counts: CountFamilies,
    gauges: Gauges,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("votum");
        let counts = CountFamilies::default();
        counts.register(&mut registry);
        let gauges = Gauges::default();
        gauges.register(&mut registry);
        Self { counts, gauges, registry }
    }
}

impl Metrics {
    /// What is counted of one participant.
    pub(crate) fn of(&self, participant: &str) -> Counts {
        self.counts.of(participant)
    }
}

/// Makes pages of `agent`'s metrics. A scrape asks each participant's server once.
pub(crate) fn page(agent: Agent) -> Page {
    Arc::new(move || {
        let agent = agent.clone();
        Box::pin(async move { made(&agent.inner).await })
    })
}

async fn made(agent: &Inner) -> Result<String, String> {
    let participants: Vec<_> = agent.participants.values().collect();
    let conditions = join_all(participants.iter().map(|participant| condition(agent, participant))).await;
    let metrics = &agent.metrics;
    metrics.gauges.show(agent);
    for (participant, condition) in participants.iter().zip(&conditions) {
        metrics.gauges.show_server(participant.name().as_str(), condition.as_ref());
    }
    let mut text = String::new();
    encode(&mut text, &metrics.registry).map_err(|error| format!("the page cannot be written: {error}"))?;
    Ok(text)
}

/// How the participant's server stands, if it says so in time.
async fn condition(agent: &Inner, participant: &Participant) -> Option<Condition> {
    let asked = agent.seams.clock.timeout(PATIENCE, participant.database.condition()).await;
    asked.ok()?.ok()
}
