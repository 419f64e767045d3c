//! What the agent remembers, behind one lock that is never held across a wait: coordinators and their
//! fences, branches, orders under way. Being one, it makes "is this life still the newest?" and the act that
//! depends on it a single step (I12).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;
use votum_proto::names::{CoordinatorId, Gid, Gtid, Life, ParticipantName};
use votum_proto::runtime::Monotonic;
use votum_proto::secret::EpochKey;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Message;

use crate::attached::Asked;
use crate::branch::{Branch, Phase};
use crate::database::Gate;
use crate::fence::Fence;
use crate::outbox::Outbox;
use crate::phase2::Order;
use crate::witness::Told;

/// A branch: one for each participant of a transaction.
pub(crate) type Key = (Gtid, ParticipantName);

/// How many branches are remembered after their end, so that a late or repeated message about one finds the
/// answer that was given. Forgetting one is harmless: its session's name, and with it its votes, never come
/// back.
const REMEMBERED: usize = 16_384;

/// Of how many of them the results of their statements are remembered, too: those that voted read-only.
const RESULTS_REMEMBERED: usize = 256;

/// Everything that the agent remembers.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) coordinators: BTreeMap<CoordinatorId, Coordinator>,
    pub(crate) branches: BTreeMap<Key, Arc<Branch>>,
    ended: VecDeque<Arc<Branch>>,
    pub(crate) orders: BTreeMap<Key, OrderSlot>,
    /// What is to be looked up of attached branches.
    pub(crate) attached: BTreeMap<ParticipantName, Asked>,
    observers: BTreeMap<u64, BTreeSet<(ParticipantName, Gid)>>,
    next_observer: u64,
    pub(crate) sessions_opened: u64,
    pub(crate) stopping: bool,
}

/// What is known of one coordinator_id.
#[derive(Default)]
pub(crate) struct Coordinator {
    pub(crate) fence: Fence,
    pub(crate) key: Option<EpochKey>,
    pub(crate) witness: Option<Remembered>,
    /// What the databases were told of it.
    pub(crate) told: BTreeMap<ParticipantName, Told>,
    pub(crate) stream: Option<Stream>,
    pub(crate) streams: u64,
}

/// How far a coordinator's log had reached, and when that was told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remembered {
    pub(crate) witness: v1::Witness,
    pub(crate) at: Monotonic,
}

/// The newest stream of a coordinator. Dropping it ends the stream.
pub(crate) struct Stream {
    pub(crate) number: u64,
    pub(crate) outbox: Outbox,
    /// The participants that its coordinator expects here, and that are not served.
    pub(crate) unserved: Vec<String>,
}

impl Coordinator {
    /// Sends to the newest stream, if there is one. What is lost with a stream is asked for again.
    pub(crate) fn report(&self, message: Message) {
        if let Some(stream) = &self.stream {
            stream.outbox.put(message);
        }
    }

    /// The same for what may wait some milliseconds for something to ride with.
    fn report_by_the_way(&self, message: Message) {
        if let Some(stream) = &self.stream {
            stream.outbox.put_by_the_way(message);
        }
    }

    /// Notes how far the coordinator's log reached when it spoke.
    pub(crate) fn note_witness(&mut self, witness: v1::Witness, now: Monotonic) {
        let reached = |witness: &v1::Witness| (witness.epoch, witness.position);
        if self.witness.as_ref().is_none_or(|known| reached(&witness) > reached(&known.witness)) {
            self.witness = Some(Remembered { witness, at: now });
        }
    }
}

/// An order under way for one branch, and those behind it.
pub(crate) struct OrderSlot {
    /// The life that gave it.
    pub(crate) life: Life,
    pub(crate) order: Order,
    pub(crate) queued: VecDeque<(Life, Order)>,
    pub(crate) control: Arc<OrderControl>,
    /// Its coordinator has taken the order back: what is at the database is left to finish, and no more.
    pub(crate) withdrawn: bool,
}

/// How an order's task is told to stop, and how it says where it is.
pub(crate) struct OrderControl {
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) stage: watch::Sender<Stage>,
    /// The last attempt met what takes a person to mend.
    pub(crate) needs_a_person: AtomicBool,
}

impl OrderControl {
    /// That of an order which begins.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            stop: watch::Sender::new(false),
            stage: watch::Sender::new(Stage::Interruptible),
            needs_a_person: AtomicBool::new(false),
        })
    }
}

impl Gate for OrderControl {
    fn enter(&self) -> bool {
        self.stage.send_replace(Stage::AtTheDatabase);
        !*self.stop.borrow()
    }
}

/// Where an order's task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Between attempts, or asking: it stops at once when told to.
    Interruptible,
    /// In COMMIT PREPARED or ROLLBACK PREPARED, which is left to finish.
    AtTheDatabase,
    /// Over.
    Done,
}

impl Registry {
    /// Sends to the newest stream of the transaction's coordinator.
    pub(crate) fn report(&self, gtid: &Gtid, message: Message) {
        if let Some(coordinator) = self.coordinators.get(&gtid.coordinator_id) {
            coordinator.report(message);
        }
    }

    /// The same for what may wait some milliseconds for something to ride with.
    pub(crate) fn report_by_the_way(&self, gtid: &Gtid, message: Message) {
        if let Some(coordinator) = self.coordinators.get(&gtid.coordinator_id) {
            coordinator.report_by_the_way(message);
        }
    }

    /// Sends a branch's vote, if it was asked for one and has one.
    pub(crate) fn report_vote(&self, branch: &Branch) {
        let standing = branch.standing();
        let (Some(gid), Some(vote)) = (standing.gid, standing.vote) else { return };
        self.report_one_vote(branch, &gid, vote);
    }

    /// Sends this vote on a branch.
    pub(crate) fn report_one_vote(&self, branch: &Branch, gid: &Gid, vote: v1::vote::Kind) {
        // A newer life did not ask for it (I12): it finds what is prepared in the listing.
        if self.speaking(&branch.gtid.coordinator_id) != Some(branch.gtid.life) {
            return;
        }
        self.report(&branch.gtid, Message::Vote(branch.vote_on(gid, vote)));
    }

    /// The life of a coordinator whose words have an effect here.
    pub(crate) fn speaking(&self, of: &CoordinatorId) -> Option<Life> {
        self.coordinators.get(of).and_then(|coordinator| coordinator.fence.speaking())
    }

    /// The branches at `participant` of older lives of a coordinator, in whose sessions something may run.
    pub(crate) fn older_branches(
        &self,
        of: &CoordinatorId,
        participant: &ParticipantName,
    ) -> Vec<Arc<Branch>> {
        let speaking = self.speaking(of);
        let here = |branch: &&Arc<Branch>| {
            branch.gtid.coordinator_id == *of
                && branch.participant == *participant
                && Some(branch.gtid.life) != speaking
        };
        self.branches.values().filter(here).filter(|branch| !branch.is_quiet()).map(Arc::clone).collect()
    }

    /// The branch `key`, unless it is not remembered.
    pub(crate) fn branch(&self, key: &Key) -> Option<Arc<Branch>> {
        self.branches.get(key).map(Arc::clone)
    }

    /// Forgets a branch that never came to be.
    pub(crate) fn remove(&mut self, branch: &Arc<Branch>) {
        let key = (branch.gtid.clone(), branch.participant.clone());
        if self.branches.get(&key).is_some_and(|known| Arc::ptr_eq(known, branch)) {
            self.branches.remove(&key);
        }
    }

    /// Notes that a branch has ended: it is remembered for a while. Called again when it is noted already.
    pub(crate) fn retire(&mut self, branch: &Arc<Branch>) {
        self.ended.push_back(Arc::clone(branch));
        let older = self.ended.len().checked_sub(RESULTS_REMEMBERED + 1);
        if let Some(older) = older.and_then(|place| self.ended.get(place)) {
            older.forget_results();
        }
        while self.ended.len() > REMEMBERED {
            if let Some(oldest) = self.ended.pop_front() {
                self.remove(&oldest);
            }
        }
    }

    /// Notes that work on a gid begins: no listing that is being taken may judge it.
    pub(crate) fn busy(&mut self, participant: &ParticipantName, gid: &Gid) {
        for seen in self.observers.values_mut() {
            seen.insert((participant.clone(), gid.clone()));
        }
    }

    /// Begins to observe which gids are worked on, for a listing.
    pub(crate) fn observe(&mut self) -> u64 {
        self.next_observer += 1;
        let now = self.busy_now().collect();
        self.observers.insert(self.next_observer, now);
        self.next_observer
    }

    /// Ends an observation that led to no listing.
    pub(crate) fn unobserve(&mut self, observer: u64) {
        self.observers.remove(&observer);
    }

    /// Ends an observation: the gids that were worked on at any moment of it at `participant`.
    pub(crate) fn observed(&mut self, observer: u64, participant: &ParticipantName) -> BTreeSet<Gid> {
        let seen = self.observers.remove(&observer).unwrap_or_default();
        seen.into_iter().filter(|(at, _)| at == participant).map(|(_, gid)| gid).collect()
    }

    fn busy_now(&self) -> impl Iterator<Item = (ParticipantName, Gid)> {
        let branches = self.branches.iter().filter_map(|((_, participant), branch)| {
            let standing = branch.standing();
            let working = match standing.phase {
                Phase::Preparing | Phase::Unsettled => true,
                Phase::Open | Phase::Ready | Phase::Committing | Phase::Settled => false,
            };
            standing.gid.filter(|_| working).map(|gid| (participant.clone(), gid))
        });
        let orders = self.orders.iter().filter_map(|((_, participant), slot)| {
            slot.order.gid().map(|gid| (participant.clone(), gid.clone()))
        });
        branches.chain(orders)
    }

    /// The open, unprepared sessions of a coordinator at `participant`.
    pub(crate) fn open_sessions(
        &self,
        of: &CoordinatorId,
        participant: &ParticipantName,
    ) -> Vec<v1::OpenSession> {
        self.branches
            .values()
            .filter(|branch| branch.gtid.coordinator_id == *of && branch.participant == *participant)
            .filter(|branch| match branch.standing().phase {
                Phase::Open | Phase::Preparing | Phase::Ready => true,
                Phase::Committing | Phase::Unsettled | Phase::Settled => false,
            })
            .map(|branch| v1::OpenSession {
                gtid: branch.gtid.to_string(),
                session: Some(branch.session.into()),
            })
            .collect()
    }
}
