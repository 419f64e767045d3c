//! How a restart settles what it found: counted, and said in one line when it is over.

use std::collections::{BTreeMap, BTreeSet};

use votum_proto::names::ParticipantName;
use votum_proto::runtime::Monotonic;

use super::{Driver, LocalId};
use crate::protocol::record::Heuristic;
use crate::protocol::transaction::Transaction;

/// What was found at the start, and what has become of it.
pub(super) struct Settlement {
    since: Monotonic,
    owed: BTreeSet<LocalId>,
    /// By gid: where.
    rolling_back: BTreeMap<String, ParticipantName>,
    heard: BTreeSet<ParticipantName>,
    committed: BTreeMap<ParticipantName, u64>,
    rolled_back: BTreeMap<ParticipantName, u64>,
    /// Decided commit, and ended otherwise, or nobody can say how.
    departed: BTreeMap<ParticipantName, u64>,
    said: bool,
}

impl Settlement {
    pub(super) fn new(since: Monotonic) -> Self {
        Self {
            since,
            owed: BTreeSet::new(),
            rolling_back: BTreeMap::new(),
            heard: BTreeSet::new(),
            committed: BTreeMap::new(),
            rolled_back: BTreeMap::new(),
            departed: BTreeMap::new(),
            said: false,
        }
    }

    pub(super) fn owes(&mut self, id: LocalId) {
        self.owed.insert(id);
    }

    pub(super) fn rolls_back(&mut self, gid: String, participant: &ParticipantName) {
        if !self.said {
            self.rolling_back.insert(gid, participant.clone());
        }
    }

    pub(super) fn heard(&mut self, participant: &ParticipantName) {
        if !self.said {
            self.heard.insert(participant.clone());
        }
    }

    /// A complete listing shows `there`, prepared or worked on. What was to be rolled back and is not there
    /// any more has been: the answer was lost with the agent, and will not come again.
    pub(super) fn listed(&mut self, participant: &ParticipantName, there: &BTreeSet<&str>) {
        let before = self.rolling_back.len();
        self.rolling_back.retain(|gid, at| at != participant || there.contains(gid.as_str()));
        let gone = (before - self.rolling_back.len()) as u64;
        if gone > 0 {
            *self.rolled_back.entry(participant.clone()).or_default() += gone;
        }
    }

    /// Absence counts only from now on: every participant has to be heard again.
    pub(super) fn hear_again(&mut self) {
        self.heard.clear();
    }

    /// Every branch of a commit that was owed has ended. An acknowledged one is committed, whether this life
    /// did it or a comparison found it so; one that departed is never called committed.
    pub(super) fn completed(&mut self, id: LocalId, transaction: &Transaction) {
        if !self.owed.remove(&id) {
            return;
        }
        for branch in transaction.decided().map(|decided| decided.branches.as_slice()).unwrap_or_default() {
            let departed = Heuristic::departures(transaction.heuristics());
            let departed = departed.map(|departure| departure.gid.branch).any(|gone| gone == branch.number);
            let ended = if transaction.acknowledged(branch.number) && !departed {
                &mut self.committed
            } else {
                &mut self.departed
            };
            *ended.entry(branch.participant.clone()).or_default() += 1;
        }
    }

    /// The decision of one that was owed was its branch's own, and is an abort.
    pub(super) fn aborted(&mut self, id: LocalId, participant: Option<&ParticipantName>, departed: bool) {
        if self.owed.remove(&id)
            && let Some(participant) = participant
        {
            let ended = if departed { &mut self.departed } else { &mut self.rolled_back };
            *ended.entry(participant.clone()).or_default() += 1;
        }
    }

    pub(super) fn rolled_back(&mut self, gid: &str, participant: &ParticipantName) {
        if self.rolling_back.remove(gid).is_some() {
            *self.rolled_back.entry(participant.clone()).or_default() += 1;
        }
    }
}

impl Settlement {
    /// What was settled, and where branches departed from their decision, if any did.
    pub(super) fn sentence(&self, ms: u128) -> String {
        let sum = |counts: &BTreeMap<ParticipantName, u64>| counts.values().sum::<u64>();
        let (committed, rolled_back) = (sum(&self.committed), sum(&self.rolled_back));
        let settled = format!("committed {committed}, rolled back {rolled_back} branches in {ms} ms");
        if self.departed.is_empty() {
            return settled;
        }
        format!("{settled}; departed from their decision: {} (VOTUM-1407)", counts(&self.departed))
    }
}

impl Driver {
    /// Says once, when every participant was heard in a counted log and nothing of the start is left, how
    /// many branches were settled, where, in what time.
    pub(super) fn settlement_progress(&mut self) {
        let settlement = &mut self.settlement;
        let over = !settlement.said
            && settlement.owed.is_empty()
            && settlement.rolling_back.is_empty()
            && self.lives.is_complete()
            && self.participants.keys().all(|participant| settlement.heard.contains(participant));
        if !over {
            return;
        }
        settlement.said = true;
        let ms = self.seams.clock.now().since(settlement.since).as_millis();
        tracing::info!(
            committed = %counts(&settlement.committed),
            rolled_back = %counts(&settlement.rolled_back),
            departed = %counts(&settlement.departed),
            ms,
            "VOTUM-1001 settled what earlier lives left: {}",
            settlement.sentence(ms),
        );
    }
}

fn counts(by_participant: &BTreeMap<ParticipantName, u64>) -> String {
    let each: Vec<String> = by_participant.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if each.is_empty() { "none".into() } else { each.join(", ") }
}
