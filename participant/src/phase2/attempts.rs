//! The attempts at one order: again and again until it is known how the branch ended. Any attempt but the
//! first compares what is prepared first: a gid may have been prepared again with other work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{Either, select};
use votum_proto::names::Gid;
use votum_proto::runtime::Backoff;
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::agent_message::Kind as Message;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::gone::{Marker, XidStatus};

use super::{NO_PROGRESS, Order, Task};
use crate::branch::{Ending, reason};
use crate::crash::{self, CrashPoint};
use crate::database::{Aftermath, DatabaseError, Found, Policy, ServerFacts, XidOutcome};
use crate::registry::{OrderControl, Stage};

/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The attempts at one order.
pub(super) struct Attempts<'a> {
    pub(super) task: &'a Task,
    control: &'a OrderControl,
    backoff: Backoff,
    attempts: u32,
    /// SQLSTATE and message of the last failure told.
    told: Option<(String, String)>,
}

/// A newer life took over: the order is dropped.
pub(super) struct Stopped;

/// How a prepared transaction is to end.
#[derive(Clone, Copy)]
enum Decision {
    Commit,
    Rollback,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(task: &'a Task, control: &'a OrderControl) -> Self {
        Self { task, control, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), attempts: 0, told: None }
    }

    /// Until the branch has ended; `None` where a newer life took over.
    pub(super) async fn carry_out(mut self, order: &Order) -> Option<End> {
        let end = match order {
            Order::Commit { gid, xid8, listed_xid, compare_first, nobody_waits: _ } => {
                self.commit(gid, Expected { xid8: *xid8, listed_xid: *listed_xid }, *compare_first).await
            }
            Order::OnePhase { gid } => self.one_phase(gid).await,
            Order::Rollback { gid, xid8, listed_xid } => {
                self.roll_back(gid.as_ref(), Expected { xid8: *xid8, listed_xid: *listed_xid }).await
            }
        };
        end.ok()
    }

    async fn commit(&mut self, gid: &Gid, expected: Expected, compare_first: bool) -> Result<End, Stopped> {
        crash::here(CrashPoint::BeforeCommitPrepared);
        let ours = self.prepared_here(gid).is_some_and(|prepared| prepared == expected.xid8);
        self.until_ended(Decision::Commit, gid, expected, compare_first || !ours).await
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
            // Nor does a branch under another name say anything of this one.
            let same = gid.is_none() || standing.gid.is_none() || standing.gid.as_ref() == gid;
            if same && standing.prepared.is_none() && !standing.perhaps_prepared && expected.listed_xid == 0 {
                return never;
            }
            prepared = standing.prepared.filter(|_| standing.gid.as_ref() == gid);
        }
        let Some(gid) = gid else { return never };
        crash::here(CrashPoint::BeforeRollbackPrepared);
        let ours = prepared.is_some_and(|known| expected.fits(low_half(known)));
        self.until_ended(Decision::Rollback, gid, expected, !ours).await
    }

    /// Ends what is prepared as decided, or finds out how it ended otherwise. Any attempt but the first
    /// compares.
    async fn until_ended(
        &mut self,
        decision: Decision,
        gid: &Gid,
        expected: Expected,
        mut compare: bool,
    ) -> Result<End, Stopped> {
        let mut owner = None;
        loop {
            if compare {
                let found = self.find(gid).await?;
                match found.xid {
                    None => return self.gone(gid, expected.xid8, &found).await,
                    // A stranger's, under our name: ours is not there any more. What it is, listings show (R12).
                    Some(xid) if !found.ours && !expected.names(xid) => {
                        return self.gone(gid, expected.xid8, &found).await;
                    }
                    Some(xid) if !expected.fits(xid) => return Ok(End::OtherXid(v1::OtherXid { xid })),
                    Some(_) => owner = found.owner,
                }
            }
            compare = true;
            let database = &self.task.participant.database;
            let (work, during, after) = match decision {
                Decision::Commit => (
                    database.commit_prepared(gid, owner.as_deref(), self.control),
                    CrashPoint::DuringCommitPrepared,
                    CrashPoint::AfterCommitPrepared,
                ),
                Decision::Rollback => (
                    database.rollback_prepared(gid, owner.as_deref(), self.control),
                    CrashPoint::DuringRollbackPrepared,
                    CrashPoint::AfterRollbackPrepared,
                ),
            };
            match self.at_the_database(crash::during(during, work)).await? {
                Ok(()) => {
                    crash::here(after);
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
    pub(super) async fn find(&mut self, gid: &Gid) -> Result<Found, Stopped> {
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
    pub(super) fn judge(&self, facts: &ServerFacts) -> Result<(), DatabaseError> {
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
        let end = |outcome: XidOutcome| End::Gone(outcome.into_wire());
        if xid8 == 0 {
            let (status, marker) = (XidStatus::NotAsked, Marker::Unspecified);
            return Ok(end(XidOutcome { status, marker, facts: found.facts }));
        }
        let participant = Arc::clone(&self.task.participant);
        loop {
            let outcome = async {
                let outcome = participant.database.outcome(gid, xid8).await?;
                self.judge(&outcome.facts)?;
                if outcome.status == XidStatus::Committed || outcome.marker == Marker::Committed {
                    // It may be committed and not yet on disk, or not at the standby.
                    participant.database.confirm().await?;
                }
                Ok(outcome)
            };
            match self.unless_stopped(outcome).await? {
                Ok(outcome) => return Ok(end(outcome)),
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

    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
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
    pub(super) async fn trouble(&mut self, gid: &Gid, error: &DatabaseError) -> Result<(), Stopped> {
        self.note(gid, error);
        self.pause(error).await
    }

    fn note(&mut self, gid: &Gid, error: &DatabaseError) {
        self.attempts += 1;
        let alarm = error.policy.alarms();
        self.control.needs_a_person.store(alarm, Ordering::Relaxed);
        let this = (error.sqlstate.clone(), error.message.clone());
        // A gid that is not there is looked into at once; only what comes back is trouble.
        if self.told.as_ref() == Some(&this) || (error.policy == Policy::Verify && self.attempts == 1) {
            return;
        }
        self.told = Some(this);
        if alarm {
            tracing::error!(code = NO_PROGRESS, %gid, %error, "phase 2 does not get on; it is tried again");
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
    /// Whether it is known to be the one that is meant.
    fn names(self, xid: u32) -> bool {
        (self.xid8 != 0 || self.listed_xid != 0) && self.fits(xid)
    }

    fn fits(self, xid: u32) -> bool {
        (self.xid8 == 0 || xid == low_half(self.xid8)) && (self.listed_xid == 0 || xid == self.listed_xid)
    }
}

/// The half of a transaction id that `pg_prepared_xacts` shows.
fn low_half(xid8: u64) -> u32 {
    (xid8 & u64::from(u32::MAX)) as u32
}
