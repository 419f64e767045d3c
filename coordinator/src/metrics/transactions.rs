//! Transactions by outcome, and how long they stay in each state.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::SECONDS;
use crate::protocol::record::AbortKind;

/// The states that a transaction leaves again.
const STATES: [&str; 5] = ["active", "preparing", "deciding", "committing", "aborting"];

/// What the driver counts. Clones count together.
#[derive(Debug, Clone)]
pub struct Transactions {
    begun: Counter,
    ended: Family<Ended, Counter>,
    in_state: Family<InState, Histogram, fn() -> Histogram>,
    /// The same, found by name without a lock that all states share.
    by_state: BTreeMap<&'static str, Histogram>,
    /// Aborts for whichever reason.
    aborts: Counter,
    last_agent: Family<Asked, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    decided: &'static str,
}

/// Where a transaction that asked for a last agent is decided.
const DECIDED: [&str; 2] = ["coordinator", "participant"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

impl Default for Transactions {
    fn default() -> Self {
        let in_state = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        let by_state = STATES.map(|state| (state, in_state.get_or_create_owned(&InState { state })));
        let ended = Family::<Ended, Counter>::default();
        for outcome in ["committed", "read-only"] {
            drop(ended.get_or_create(&Ended { outcome, reason: "" }));
        }
        let (begun, aborts) = (Counter::default(), Counter::default());
        let last_agent = Family::<Asked, Counter>::default();
        for decided in DECIDED {
            drop(last_agent.get_or_create(&Asked { decided }));
        }
        Self { begun, ended, in_state, by_state: by_state.into(), aborts, last_agent }
    }
}

impl Transactions {
    /// One was begun.
    pub(crate) fn begun(&self) {
        self.begun.inc();
    }

    /// The commit of one stands.
    pub(crate) fn committed(&self) {
        self.ended.get_or_create(&Ended { outcome: "committed", reason: "" }).inc();
    }

    /// One wrote nothing anywhere, and has ended.
    pub(crate) fn read_only(&self) {
        self.ended.get_or_create(&Ended { outcome: "read-only", reason: "" }).inc();
    }

    /// The abort of one stands.
    pub(crate) fn aborted(&self, kind: AbortKind) {
        let reason = match kind {
            AbortKind::RolledBack => "rolled-back",
            AbortKind::Timeout => "timeout",
            AbortKind::VotedNo => "voted-no",
            AbortKind::BranchLost => "branch-lost",
            AbortKind::Coordinator => "coordinator",
        };
        self.ended.get_or_create(&Ended { outcome: "aborted", reason }).inc();
        self.aborts.inc();
    }

    /// One asked for a branch to decide, which was found or not.
    pub(crate) fn asked_for_last_agent(&self, found: bool) {
        let [coordinator, participant] = DECIDED;
        let decided = if found { participant } else { coordinator };
        self.last_agent.get_or_create(&Asked { decided }).inc();
    }

    /// One has left `state`, in which it was for so long.
    pub(crate) fn left(&self, state: &str, after: Duration) {
        if let Some(histogram) = self.by_state.get(state) {
            histogram.observe(after.as_secs_f64());
        }
    }

    pub(super) fn number_begun(&self) -> u64 {
        self.begun.get()
    }

    pub(super) fn number_committed(&self) -> u64 {
        self.ended_as("committed")
    }

    pub(super) fn number_read_only(&self) -> u64 {
        self.ended_as("read-only")
    }

    pub(super) fn number_aborted(&self) -> u64 {
        self.aborts.get()
    }

    fn ended_as(&self, outcome: &'static str) -> u64 {
        self.ended.get(&Ended { outcome, reason: "" }).map_or(0, |counter| counter.get())
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("transactions_begun", "Transactions begun", self.begun.clone());
        registry.register("transactions", "Transactions whose outcome stands", self.ended.clone());
        registry.register(
            "transactions_last_agent",
            "Transactions that asked for a last agent, by where they are decided",
            self.last_agent.clone(),
        );
        registry.register_with_unit(
            "transaction_state",
            "How long transactions were in each state of the protocol",
            Unit::Seconds,
            self.in_state.clone(),
        );
    }
}
