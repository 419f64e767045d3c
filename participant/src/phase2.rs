//! Carries out decisions at the database: takes orders in, and has each branch's carried out one after another.

mod attempts;
pub(crate) mod hold;
mod one_phase;

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::Instrument as _;
use votum_proto::names::{Gid, Life};
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Message;
use votum_proto::v1::branch_end::Kind as End;

use self::attempts::Attempts;
use crate::agent::{Inner, Participant};
use crate::crash::{self, CrashPoint};
use crate::registry::{Key, OrderControl, OrderSlot, Registry, Stage};

/// Phase 2 does not get on at the database, and takes a person.
pub(crate) const NO_PROGRESS: &str = "VOTUM-2101";

/// A coordinator's order about one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Commit what is prepared.
    Commit {
        gid: Gid,
        /// 0: not known, not compared.
        xid8: u64,
        /// The low half of the transaction id that a listing showed; 0: not known, not compared.
        listed_xid: u32,
        compare_first: bool,
        /// The acknowledgement may ride with what is said next.
        nobody_waits: bool,
    },
    /// Commit what its session has left open for that, or settle how it ended.
    OnePhase { gid: Gid },
    /// End the session, or roll back what is prepared.
    Rollback {
        /// `None` where Prepare was never sent.
        gid: Option<Gid>,
        /// 0: not known, not compared.
        xid8: u64,
        /// The low half of the transaction id that a listing showed; 0: not known, not compared.
        listed_xid: u32,
    },
}

impl Order {
    /// The gid that it concerns.
    pub(crate) fn gid(&self) -> Option<&Gid> {
        match self {
            Self::Commit { gid, .. } | Self::OnePhase { gid } => Some(gid),
            Self::Rollback { gid, .. } => gid.as_ref(),
        }
    }

    /// Whether it is one to commit.
    fn commits(&self) -> bool {
        match self {
            Self::Commit { .. } | Self::OnePhase { .. } => true,
            Self::Rollback { .. } => false,
        }
    }

    /// Whether carrying out one is carrying out the other.
    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Commit { gid, xid8, listed_xid, compare_first: _, nobody_waits: _ },
                Self::Commit {
                    gid: other_gid,
                    xid8: other_xid8,
                    listed_xid: other_listed,
                    compare_first: _,
                    nobody_waits: _,
                },
            ) => (gid, xid8, listed_xid) == (other_gid, other_xid8, other_listed),
            (Self::Rollback { .. }, _) | (Self::OnePhase { .. }, _) => self == other,
            (Self::Commit { .. }, Self::Rollback { .. } | Self::OnePhase { .. }) => false,
        }
    }
}

/// Takes an order in, under the lock: the same one is carried out once, however often and over however many
/// streams it comes; another one for the same branch waits.
pub(crate) fn admit(
    agent: &Arc<Inner>,
    registry: &mut Registry,
    participant: &Arc<Participant>,
    key: Key,
    life: Life,
    order: Order,
) {
    if let Some(gid) = order.gid() {
        registry.busy(&key.1, gid);
    }
    if let Some(slot) = registry.orders.get_mut(&key) {
        // One that was withdrawn is not carried out any more: what comes after it is.
        if slot.life == life && slot.order.same_as(&order) && slot.queued.is_empty() && !slot.withdrawn {
            return;
        }
        if !slot.queued.iter().any(|(by, queued)| *by == life && queued.same_as(&order)) {
            slot.queued.push_back((life, order));
        }
        return;
    }
    let control = OrderControl::new();
    let slot = OrderSlot {
        life,
        order: order.clone(),
        queued: VecDeque::new(),
        control: Arc::clone(&control),
        withdrawn: false,
    };
    let span = tracing::info_span!("phase 2", gtid = %key.0, participant = %key.1);
    let task = Task { agent: Arc::clone(agent), participant: Arc::clone(participant), key: key.clone() };
    registry.orders.insert(key, slot);
    agent.seams.spawn(async move { task.work(order, control).await }.instrument(span));
}

/// The orders of one branch, carried out one after another.
struct Task {
    agent: Arc<Inner>,
    participant: Arc<Participant>,
    key: Key,
}

impl Task {
    async fn work(self, mut order: Order, mut control: Arc<OrderControl>) {
        let clock = Arc::clone(&self.agent.seams.clock);
        loop {
            let begun = clock.now();
            tracing::debug!(was_commit = order.commits(), "begins to end the branch");
            let end = Attempts::new(&self, &control).carry_out(&order).await;
            if end.is_some() {
                let was_commit = order.commits();
                self.participant.counts.carried_out(was_commit, clock.now().since(begun));
            }
            let mut registry = self.agent.lock();
            // Under the lock: who sees it finds the slot emptied, and the end reported.
            control.stage.send_replace(Stage::Done);
            let Some(slot) = registry.orders.get_mut(&self.key) else { return };
            let life = slot.life;
            let next = slot.queued.pop_front();
            if let Some((life, next)) = &next {
                slot.life = *life;
                slot.order = next.clone();
                slot.withdrawn = false;
                slot.control = OrderControl::new();
                control = Arc::clone(&slot.control);
            } else {
                registry.orders.remove(&self.key);
            }
            if let Some(end) = end {
                self.report(&mut registry, life, &order, end);
            }
            match next {
                Some((_, next)) => order = next,
                None => return,
            }
        }
    }

    fn report(&self, registry: &mut Registry, life: Life, order: &Order, end: End) {
        if let Some(branch) = registry.branch(&self.key).filter(|branch| branch.spend()) {
            registry.retire(&branch);
        }
        let (gtid, participant) = &self.key;
        let was_commit = order.commits();
        let beside = match order {
            Order::OnePhase { .. } => registry.branch(&self.key).and_then(|branch| branch.take_beside()),
            Order::Commit { .. } | Order::Rollback { .. } => None,
        };
        let (results, failed) = match (&end, beside) {
            (End::Done(_), Some(beside)) => (beside.results.clone(), None),
            (End::Refused(_), Some(beside)) => (Vec::new(), beside.failed.as_deref().cloned()),
            (_, _) => (Vec::new(), None),
        };
        let rides = match order {
            Order::Commit { nobody_waits, .. } => *nobody_waits && matches!(end, End::Done(_)),
            Order::OnePhase { .. } | Order::Rollback { .. } => false,
        };
        tracing::debug!(was_commit, ?end, "the branch has ended");
        let speaking =
            registry.coordinators.get(&gtid.coordinator_id).and_then(|known| known.fence.speaking());
        if speaking == Some(life) {
            let ended = Message::BranchEnd(v1::BranchEnd {
                gtid: gtid.to_string(),
                participant: participant.to_string(),
                gid: order.gid().map(ToString::to_string).unwrap_or_default(),
                was_commit,
                kind: Some(end),
                results,
                failed,
            });
            if rides {
                registry.report_by_the_way(gtid, ended);
            } else {
                registry.report(gtid, ended);
            }
            crash::here(CrashPoint::AcknowledgementSent);
        }
    }
}
