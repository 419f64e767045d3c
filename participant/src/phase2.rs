//! Carries out decisions at the database: commits or rolls back a prepared branch, again and again until it
//! is known how it ended. Any attempt but the first compares what is prepared first: a gid may have been
//! prepared again with other work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use tokio::sync::watch;
use tracing::Instrument as _;
use votum_proto::names::{Gid, Life};
use votum_proto::runtime::Backoff;
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::agent_message::Kind as Message;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::gone::XidStatus;

use crate::agent::{Inner, Participant};
use crate::branch::{Ending, reason};
use crate::crash::{self, CrashPoint};
use crate::database::{Aftermath, DatabaseError, Found, Policy, ServerFacts};
use crate::registry::{Key, OrderControl, OrderSlot, Registry, Stage};

/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
    },
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
            Self::Commit { gid, .. } => Some(gid),
            Self::Rollback { gid, .. } => gid.as_ref(),
        }
    }

    /// Whether carrying out one is carrying out the other.
    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Commit { gid, xid8, listed_xid, compare_first: _ },
                Self::Commit { gid: other_gid, xid8: other_xid8, listed_xid: other_listed, compare_first: _ },
            ) => (gid, xid8, listed_xid) == (other_gid, other_xid8, other_listed),
            (Self::Rollback { .. }, Self::Rollback { .. }) => self == other,
            (Self::Commit { .. }, Self::Rollback { .. }) | (Self::Rollback { .. }, Self::Commit { .. }) => {
                false
            }
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
        if slot.life == life && slot.order.same_as(&order) && slot.queued.is_empty() {
            return;
        }
        if !slot.queued.iter().any(|(by, queued)| *by == life && queued.same_as(&order)) {
            slot.queued.push_back((life, order));
        }
        return;
    }
    let control = Arc::new(OrderControl {
        stop: watch::Sender::new(false),
        stage: watch::Sender::new(Stage::Interruptible),
    });
    let slot =
        OrderSlot { life, order: order.clone(), queued: VecDeque::new(), control: Arc::clone(&control) };
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
        loop {
            let end = Attempts::new(&self, &control).carry_out(&order).await;
            control.stage.send_replace(Stage::Done);
            let mut registry = self.agent.lock();
            let Some(slot) = registry.orders.get_mut(&self.key) else { return };
            let life = slot.life;
            let next = slot.queued.pop_front();
            if let Some((life, next)) = &next {
                slot.life = *life;
                slot.order = next.clone();
                slot.control = Arc::new(OrderControl {
                    stop: watch::Sender::new(false),
                    stage: watch::Sender::new(Stage::Interruptible),
                });
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
        let was_commit = match order {
            Order::Commit { .. } => true,
            Order::Rollback { .. } => false,
        };
        tracing::debug!(was_commit, ?end, "the branch has ended");
        let speaking =
            registry.coordinators.get(&gtid.coordinator_id).and_then(|known| known.fence.speaking());
        if speaking == Some(life) {
            registry.report(
                gtid,
                Message::BranchEnd(v1::BranchEnd {
                    gtid: gtid.to_string(),
                    participant: participant.to_string(),
                    gid: order.gid().map(ToString::to_string).unwrap_or_default(),
                    was_commit,
                    kind: Some(end),
                }),
            );
        }
    }
}

/// The attempts at one order.
struct Attempts<'a> {
    task: &'a Task,
    control: &'a OrderControl,
    backoff: Backoff,
    attempts: u32,
    /// SQLSTATE and message of the last failure told.
    told: Option<(String, String)>,
}

/// A newer life took over: the order is dropped.
struct Stopped;

impl<'a> Attempts<'a> {
    fn new(task: &'a Task, control: &'a OrderControl) -> Self {
        Self { task, control, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), attempts: 0, told: None }
    }

    async fn carry_out(mut self, order: &Order) -> Option<End> {
        let end = match order {
            Order::Commit { gid, xid8, listed_xid, compare_first } => {
                self.commit(gid, Expected { xid8: *xid8, listed_xid: *listed_xid }, *compare_first).await
            }
            Order::Rollback { gid, xid8, listed_xid } => {
                self.roll_back(gid.as_ref(), Expected { xid8: *xid8, listed_xid: *listed_xid }).await
            }
        };
        end.ok()
    }

    async fn commit(&mut self, gid: &Gid, expected: Expected, compare_first: bool) -> Result<End, Stopped> {
        crash::here(CrashPoint::BeforeCommitPrepared);
        let ours = self.prepared_here(gid).is_some_and(|prepared| prepared == expected.xid8);
        let mut compare = compare_first || !ours;
        loop {
            if compare {
                let found = self.find(gid).await?;
                match found.xid {
                    None => return self.gone(gid, expected.xid8, &found).await,
                    Some(xid) if !expected.fits(xid) => return Ok(End::OtherXid(v1::OtherXid { xid })),
                    Some(_) => {}
                }
            }
            compare = true;
            let database = &self.task.participant.database;
            match self.at_the_database(database.commit_prepared(gid, self.control)).await? {
                Ok(()) => {
                    crash::here(CrashPoint::AfterCommitPrepared);
                    return Ok(End::Done(v1::Done {}));
                }
                Err(error) => self.trouble(gid, &error).await?,
            }
        }
    }

    async fn roll_back(&mut self, gid: Option<&Gid>, expected: Expected) -> Result<End, Stopped> {
        let never = Ok(End::NeverPrepared(v1::NeverPrepared {}));
        let branch = self.task.agent.lock().branch(&self.task.key);
        let mut prepared = None;
        if let Some(branch) = branch {
            branch.end(Ending {
                reason: reason(Cause::RolledBack, &branch.participant, "the transaction was rolled back"),
                report: false,
            });
            let standing = self.unless_stopped(branch.settled()).await?;
            // What a listing showed is there, whoever prepared it.
            if standing.prepared.is_none() && !standing.perhaps_prepared && expected.listed_xid == 0 {
                return never;
            }
            prepared = standing.prepared.filter(|_| standing.gid.as_ref() == gid);
        }
        let Some(gid) = gid else { return never };
        crash::here(CrashPoint::BeforeRollbackPrepared);
        let mut compare = !prepared.is_some_and(|known| expected.fits(low_half(known)));
        loop {
            if compare {
                let found = self.find(gid).await?;
                match found.xid {
                    None => return self.gone(gid, expected.xid8, &found).await,
                    Some(xid) if !expected.fits(xid) => return Ok(End::OtherXid(v1::OtherXid { xid })),
                    Some(_) => {}
                }
            }
            compare = true;
            let database = &self.task.participant.database;
            match self.at_the_database(database.rollback_prepared(gid, self.control)).await? {
                Ok(()) => {
                    crash::here(CrashPoint::AfterRollbackPrepared);
                    return Ok(End::Done(v1::Done {}));
                }
                Err(error) => self.trouble(gid, &error).await?,
            }
        }
    }

    /// The xid8 under which this process prepared `gid`, if it did.
    fn prepared_here(&self, gid: &Gid) -> Option<u64> {
        let branch = self.task.agent.lock().branch(&self.task.key)?;
        let standing = branch.standing();
        standing.prepared.filter(|_| standing.gid.as_ref() == Some(gid))
    }

    /// Looks for the gid on a server that is the participant.
    async fn find(&mut self, gid: &Gid) -> Result<Found, Stopped> {
        loop {
            let found = self.unless_stopped(self.task.participant.database.find(gid)).await?;
            match found.and_then(|found| self.judge(&found.facts).map(|()| found)) {
                Ok(found) => {
                    self.task.participant.note_answer(true);
                    return Ok(found);
                }
                Err(error) => self.trouble(gid, &error).await?,
            }
        }
    }

    /// A server in recovery, or another server, proves nothing (R11).
    fn judge(&self, facts: &ServerFacts) -> Result<(), DatabaseError> {
        let refuse = |message: String| DatabaseError {
            policy: Policy::Refuse,
            aftermath: Aftermath::Answered,
            sqlstate: String::new(),
            message,
            retryable: true,
            sql: None,
        };
        self.task.participant.identify(facts).map_err(refuse)?;
        if facts.in_recovery {
            return Err(refuse(
                "the server is in recovery: it is a standby, or still replaying; point the agent at the \
                 primary, or wait"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Finds out what became of a branch that is no longer prepared.
    async fn gone(&mut self, gid: &Gid, xid8: u64, found: &Found) -> Result<End, Stopped> {
        let end = |status: XidStatus, facts: &ServerFacts| {
            End::Gone(v1::Gone {
                system_identifier: facts.system_identifier,
                timeline: facts.timeline,
                in_recovery: facts.in_recovery,
                status: status.into(),
            })
        };
        if xid8 == 0 {
            return Ok(end(XidStatus::NotAsked, &found.facts));
        }
        let participant = Arc::clone(&self.task.participant);
        loop {
            let outcome = async {
                let outcome = participant.database.outcome(xid8).await?;
                self.judge(&outcome.facts)?;
                if outcome.status == XidStatus::Committed {
                    // It may be committed and not yet on disk, or not at the standby.
                    participant.database.confirm().await?;
                }
                Ok(outcome)
            };
            match self.unless_stopped(outcome).await? {
                Ok(outcome) => return Ok(end(outcome.status, &outcome.facts)),
                Err(error) => self.trouble(gid, &error).await?,
            }
        }
    }

    /// Ends a prepared transaction. Until it is sent it stops like everything else; after that it is left to
    /// finish.
    async fn at_the_database(
        &self,
        work: impl Future<Output = Result<bool, DatabaseError>>,
    ) -> Result<Result<(), DatabaseError>, Stopped> {
        let (work, stopped) = (std::pin::pin!(work), std::pin::pin!(self.stopped()));
        let done = match select(work, stopped).await {
            Either::Left((done, _)) => done,
            // This task alone enters, so that what is read here cannot change before the next line.
            Either::Right(((), work)) if *self.control.stage.borrow() == Stage::AtTheDatabase => work.await,
            Either::Right(_) => return Err(Stopped),
        };
        self.control.stage.send_replace(Stage::Interruptible);
        match done {
            Ok(true) => Ok(Ok(())),
            Ok(false) => Err(Stopped),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        match select(std::pin::pin!(self.stopped()), std::pin::pin!(work)).await {
            Either::Left(_) => Err(Stopped),
            Either::Right((done, _)) => Ok(done),
        }
    }

    async fn stopped(&self) {
        let mut stop = self.control.stop.subscribe();
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Tells of a failure when it is the first or a new one, and waits.
    async fn trouble(&mut self, gid: &Gid, error: &DatabaseError) -> Result<(), Stopped> {
        self.note(gid, error);
        self.pause(error).await
    }

    fn note(&mut self, gid: &Gid, error: &DatabaseError) {
        self.attempts += 1;
        let this = (error.sqlstate.clone(), error.message.clone());
        // A gid that is not there is looked into at once; only what comes back is trouble.
        if self.told.as_ref() == Some(&this) || (error.policy == Policy::Verify && self.attempts == 1) {
            return;
        }
        self.told = Some(this);
        let alarm = error.policy.alarms();
        if alarm {
            tracing::error!(code = "VOTUM-2101", %gid, %error, "phase 2 does not get on; it is tried again");
        } else {
            tracing::warn!(%gid, %error, "phase 2 does not get on; it is tried again");
        }
        let (gtid, participant) = &self.task.key;
        self.task.agent.lock().report(
            gtid,
            Message::Trouble(v1::PhaseTwoTrouble {
                gtid: gtid.to_string(),
                participant: participant.to_string(),
                gid: gid.to_string(),
                sqlstate: error.sqlstate.clone(),
                message: error.message.clone(),
                alarm,
                attempts: self.attempts,
            }),
        );
    }

    async fn pause(&mut self, error: &DatabaseError) -> Result<(), Stopped> {
        if error.policy == Policy::Verify && !error.broken() && self.attempts == 1 {
            return Ok(());
        }
        let Task { agent, participant, .. } = self.task;
        let pause = agent.seams.clock.sleep(self.backoff.delay(&*agent.seams.entropy));
        if !error.broken() {
            return self.unless_stopped(pause).await;
        }
        participant.note_answer(false);
        let answers = std::pin::pin!(participant.answers_again());
        self.unless_stopped(select(answers, pause)).await.map(drop)
    }
}

/// Which prepared transaction an order means; 0 stands for "not known", which fits any.
#[derive(Clone, Copy)]
struct Expected {
    xid8: u64,
    listed_xid: u32,
}

impl Expected {
    fn fits(self, xid: u32) -> bool {
        (self.xid8 == 0 || xid == low_half(self.xid8)) && (self.listed_xid == 0 || xid == self.listed_xid)
    }
}

/// The half of a transaction id that `pg_prepared_xacts` shows.
fn low_half(xid8: u64) -> u32 {
    (xid8 & u64::from(u32::MAX)) as u32
}
