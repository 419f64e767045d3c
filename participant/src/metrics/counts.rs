//! Votes, and how long PREPARE and the orders after it take.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use votum_proto::v1::vote::Kind as Vote;

/// Seconds, from half a millisecond to a minute.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

type Histograms<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Voted {
    participant: String,
    vote: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct At {
    participant: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ordered {
    participant: String,
    order: &'static str,
}

/// What is counted, of all participants.
pub(super) struct CountFamilies {
    votes: Family<Voted, Counter>,
    prepare: Histograms<At>,
    phase_two: Histograms<Ordered>,
}

impl Default for CountFamilies {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            votes: Family::default(),
            prepare: Family::new_with_constructor(histogram),
            phase_two: Family::new_with_constructor(histogram),
        }
    }
}

/// What is counted of one participant.
pub(crate) struct Counts {
    yes: Counter,
    no: Counter,
    read_only: Counter,
    ready: Counter,
    prepare: Histogram,
    commit: Histogram,
    rollback: Histogram,
}

impl Counts {
    /// A branch has given its vote.
    pub(crate) fn voted(&self, vote: &Vote) {
        match vote {
            Vote::Yes(_) => self.yes.inc(),
            Vote::No(_) => self.no.inc(),
            Vote::ReadOnly(_) => self.read_only.inc(),
            Vote::Ready(_) => self.ready.inc(),
        };
    }

    /// An attempt to prepare, or to commit what wrote nothing, has ended one way or the other.
    pub(crate) fn prepared(&self, after: Duration) {
        self.prepare.observe(after.as_secs_f64());
    }

    /// An order was carried out.
    pub(crate) fn carried_out(&self, was_commit: bool, after: Duration) {
        let of = if was_commit { &self.commit } else { &self.rollback };
        of.observe(after.as_secs_f64());
    }
}

impl CountFamilies {
    pub(super) fn of(&self, participant: &str) -> Counts {
        let vote = |vote| self.votes.get_or_create_owned(&Voted { participant: participant.into(), vote });
        let order =
            |order| self.phase_two.get_or_create_owned(&Ordered { participant: participant.into(), order });
        Counts {
            yes: vote("yes"),
            no: vote("no"),
            read_only: vote("read-only"),
            ready: vote("ready"),
            prepare: self.prepare.get_or_create_owned(&At { participant: participant.into() }),
            commit: order("commit"),
            rollback: order("rollback"),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("agent_votes", "Votes given", self.votes.clone());
        registry.register_with_unit(
            "agent_prepare",
            "How long the database took to prepare a branch, or to commit one that wrote nothing",
            Unit::Seconds,
            self.prepare.clone(),
        );
        registry.register_with_unit(
            "agent_phase_two",
            "How long orders took from their arrival until they were carried out",
            Unit::Seconds,
            self.phase_two.clone(),
        );
    }
}
