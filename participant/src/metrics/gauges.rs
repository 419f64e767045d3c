//! Gauges, filled at each scrape.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::agent::{Inner, NOT_SERVED};
use crate::database::Condition;
use crate::phase2::NO_PROGRESS;

type Number = Gauge<u64, AtomicU64>;
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Agent {
    instance: String,
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Link {
    coordinator: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct At {
    participant: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Alarm {
    code: &'static str,
    participant: String,
}

/// What is shown as it stands at a scrape.
#[derive(Default)]
pub(super) struct Gauges {
    agent: Family<Agent, Number>,
    links: Family<Link, Number>,
    sessions_used: Family<At, Number>,
    sessions_limit: Family<At, Number>,
    sessions_waiting: Family<At, Number>,
    orders: Family<At, Number>,
    prepared: Family<At, Number>,
    answers: Family<At, Number>,
    slots_used: Family<At, Number>,
    slots_limit: Family<At, Number>,
    oldest_prepared: Family<At, Seconds>,
    xmin_held_back: Family<At, Number>,
    alarms: Family<Alarm, Number>,
}

impl Gauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("agent", "Which life of the agent this is", self.agent.clone());
        let links = "1 while a stream of this coordinator stands";
        registry.register("agent_link_up", links, self.links.clone());
        self.register_work(registry);
        self.register_server(registry);
        registry.register("alarm", "Alarms that last", self.alarms.clone());
    }

    fn register_work(&self, registry: &mut Registry) {
        let used = "Sessions in which a branch is open or that are being reset";
        registry.register("agent_sessions_used", used, self.sessions_used.clone());
        registry.register("agent_sessions_limit", "The most sessions", self.sessions_limit.clone());
        let waiting = "Branches that wait for a session";
        registry.register("agent_sessions_waiting", waiting, self.sessions_waiting.clone());
        let orders = "Branches of which an order of phase 2 came and is not carried out";
        registry.register("agent_orders", orders, self.orders.clone());
        let prepared = "Prepared transactions of ours in the last listing";
        registry.register("agent_prepared", prepared, self.prepared.clone());
    }

    fn register_server(&self, registry: &mut Registry) {
        let answers = "1 where the server answered this scrape";
        registry.register("agent_server_answers", answers, self.answers.clone());
        let used = "Transactions prepared at the server, whosever they are";
        registry.register("agent_prepared_slots_used", used, self.slots_used.clone());
        let limit = "The server's max_prepared_transactions";
        registry.register("agent_prepared_slots_limit", limit, self.slots_limit.clone());
        registry.register_with_unit(
            "agent_oldest_prepared",
            "The age of the oldest transaction prepared in the database, whosever it is",
            Unit::Seconds,
            self.oldest_prepared.clone(),
        );
        registry.register(
            "agent_xmin_held_back",
            "How many transaction ids the oldest transaction prepared in the database lies back",
            self.xmin_held_back.clone(),
        );
    }

    /// Shows what the agent knows, and nothing that was shown before.
    pub(super) fn show(&self, agent: &Inner) {
        let instance = format!("{:016x}", agent.instance);
        self.agent.get_or_create(&Agent { instance, version: env!("CARGO_PKG_VERSION") }).set(1);
        // A code has a series from the beginning, so that a rule meets a zero and not a gap.
        let mut alarms: BTreeMap<(&'static str, String), u64> = BTreeMap::new();
        for code in [NO_PROGRESS, NOT_SERVED] {
            alarms.insert((code, String::new()), 0);
        }
        let mut orders: BTreeMap<String, u64> = BTreeMap::new();
        let registry = agent.lock();
        for (id, coordinator) in &registry.coordinators {
            let link = Link { coordinator: id.to_string() };
            self.links.get_or_create(&link).set(u64::from(coordinator.stream.is_some()));
            for unserved in coordinator.stream.iter().flat_map(|stream| &stream.unserved) {
                *alarms.entry((NOT_SERVED, unserved.clone())).or_default() += 1;
            }
        }
        for ((_, participant), slot) in &registry.orders {
            *orders.entry(participant.to_string()).or_default() += 1;
            if slot.control.needs_a_person.load(Ordering::Relaxed) {
                *alarms.entry((NO_PROGRESS, participant.to_string())).or_default() += 1;
            }
        }
        drop(registry);
        for (name, participant) in &agent.participants {
            let at = At { participant: name.to_string() };
            let sessions = participant.sessions.usage();
            self.sessions_used.get_or_create(&at).set(sessions.used as u64);
            self.sessions_limit.get_or_create(&at).set(agent.config.sessions as u64);
            self.sessions_waiting.get_or_create(&at).set(sessions.waiting as u64);
            self.orders.get_or_create(&at).set(orders.remove(name.as_str()).unwrap_or(0));
            self.prepared.get_or_create(&at).set(participant.prepared.load(Ordering::Relaxed));
            for code in participant.faults() {
                *alarms.entry((code, name.to_string())).or_default() += 1;
            }
        }
        self.alarms.clear();
        for ((code, participant), count) in alarms {
            self.alarms.get_or_create(&Alarm { code, participant }).set(count);
        }
    }

    /// Shows how the participant's server stands; of one that does not say so, nothing but that.
    pub(super) fn show_server(&self, participant: &str, condition: Option<&Condition>) {
        let at = At { participant: participant.to_owned() };
        self.answers.get_or_create(&at).set(u64::from(condition.is_some()));
        let Some(condition) = condition else {
            for gauge in [&self.slots_used, &self.slots_limit, &self.xmin_held_back] {
                gauge.remove(&at);
            }
            self.oldest_prepared.remove(&at);
            return;
        };
        self.slots_used.get_or_create(&at).set(condition.slots_used);
        self.slots_limit.get_or_create(&at).set(condition.slots);
        self.oldest_prepared
            .get_or_create(&at)
            .set(condition.oldest_prepared.unwrap_or_default().as_secs_f64());
        self.xmin_held_back.get_or_create(&at).set(condition.xmin_held_back);
    }
}
