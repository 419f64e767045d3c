//! Gauges, filled at each scrape from the coordinator's status.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use votum_proto::v1;

use crate::driver::{ALARMS, HEURISTIC};

type Number = Gauge<u64, AtomicU64>;
type Seconds = Gauge<f64, AtomicU64>;

/// What `votum_log_state` knows.
const LOG_STATES: [&str; 4] = ["counting", "ready", "unreadable", "latched"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Coordinator {
    coordinator_id: String,
    epoch: u64,
    incarnation: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LogState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct At {
    participant: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Link {
    participant: String,
    agent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Alarm {
    code: String,
    participant: String,
}

/// What is shown as it stands at a scrape.
#[derive(Default)]
pub(super) struct Gauges {
    coordinator: Family<Coordinator, Number>,
    up: Seconds,
    log_state: Family<LogState, Number>,
    log_stale: Number,
    log_position: Number,
    log_reach: Seconds,
    in_flight: Number,
    undelivered: Number,
    connected: Family<Link, Number>,
    heard: Family<At, Number>,
    in_doubt: Family<At, Number>,
    oldest_in_doubt: Family<At, Seconds>,
    quarantined: Family<At, Number>,
    heuristics: Family<At, Number>,
    alarms: Family<Alarm, Number>,
}

impl Gauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("coordinator", "Which life of which coordinator this is", self.coordinator.clone());
        let up = "How long this life has lasted";
        registry.register_with_unit("up", up, Unit::Seconds, self.up.clone());
        self.register_log(registry);
        registry.register("transactions_in_flight", "Live and undecided", self.in_flight.clone());
        let undelivered = "Decided, with acknowledgements owed";
        registry.register("transactions_undelivered", undelivered, self.undelivered.clone());
        self.register_participants(registry);
        registry.register("alarm", "Alarms that last", self.alarms.clone());
    }

    fn register_log(&self, registry: &mut Registry) {
        registry.register("log_state", "1 for the state that the log is in", self.log_state.clone());
        let stale = "1 where somebody has seen more of this log than it holds";
        registry.register("log_stale", stale, self.log_stale.clone());
        registry.register("log_position", "The newest position on disk", self.log_position.clone());
        let reach = "How far back the log remembers, in running time";
        registry.register_with_unit("log_reach", reach, Unit::Seconds, self.log_reach.clone());
    }

    fn register_participants(&self, registry: &mut Registry) {
        let connected = "1 while a stream to its agent stands";
        registry.register("participant_connected", connected, self.connected.clone());
        let heard = "1 once it was listed completely in this life";
        registry.register("participant_heard", heard, self.heard.clone());
        let in_doubt = "Prepared branches of ours in its last listing";
        registry.register("participant_in_doubt", in_doubt, self.in_doubt.clone());
        registry.register_with_unit(
            "participant_oldest_in_doubt",
            "The age of the oldest of them, when it was listed",
            Unit::Seconds,
            self.oldest_in_doubt.clone(),
        );
        let quarantined = "Branches that wait for a person";
        registry.register("participant_quarantined", quarantined, self.quarantined.clone());
        let heuristics = "Branches that ended otherwise than decided, which nobody has acknowledged";
        registry.register("participant_heuristics", heuristics, self.heuristics.clone());
    }

    /// Shows what `status` says, and nothing that was shown before.
    pub(super) fn show(&self, status: &v1::GetStatusResponse) {
        self.coordinator.clear();
        let coordinator = Coordinator {
            coordinator_id: status.coordinator_id.clone(),
            epoch: status.epoch,
            incarnation: status.incarnation.clone(),
            version: status.version.clone(),
        };
        self.coordinator.get_or_create(&coordinator).set(1);
        self.up.set(seconds(status.up_ms));
        for state in LOG_STATES {
            self.log_state.get_or_create(&LogState { state }).set(u64::from(status.log_state == state));
        }
        self.log_stale.set(u64::from(status.stale));
        self.log_position.set(status.log_position);
        self.log_reach.set(seconds(status.retention_reach_ms));
        self.in_flight.set(status.in_flight);
        self.undelivered.set(status.undelivered);
        self.show_alarms(&status.alarms);
        self.show_participants(status);
    }

    /// Every code that there is has a series without participant, so that a rule meets a zero and not a gap.
    fn show_alarms(&self, lasting: &[v1::Alarm]) {
        let mut counts: BTreeMap<(&str, &str), u64> = ALARMS.iter().map(|code| ((*code, ""), 0)).collect();
        for alarm in lasting {
            *counts.entry((&alarm.code, &alarm.participant)).or_default() += 1;
        }
        self.alarms.clear();
        for ((code, participant), count) in counts {
            let (code, participant) = (code.to_owned(), participant.to_owned());
            self.alarms.get_or_create(&Alarm { code, participant }).set(count);
        }
    }

    fn show_participants(&self, status: &v1::GetStatusResponse) {
        // Which participants there are does not change while the process runs, except where a heuristic
        // outcome is remembered of one that was taken out of the configuration.
        self.heuristics.clear();
        for known in &status.participants {
            let at = At { participant: known.participant.clone() };
            let link = Link { participant: known.participant.clone(), agent: known.agent_address.clone() };
            self.connected.get_or_create(&link).set(u64::from(known.connected));
            self.heard.get_or_create(&at).set(u64::from(known.heard));
            self.in_doubt.get_or_create(&at).set(known.in_doubt);
            self.oldest_in_doubt.get_or_create(&at).set(seconds(known.oldest_in_doubt_ms));
            self.quarantined.get_or_create(&at).set(known.quarantined);
            self.heuristics.get_or_create(&at).set(0);
        }
        for alarm in status.alarms.iter().filter(|alarm| alarm.code == HEURISTIC) {
            self.heuristics.get_or_create(&At { participant: alarm.participant.clone() }).inc();
        }
    }
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}
