//! The last branch of a transaction, whose commit decides: BEGIN, its statements, its commit marker, COMMIT and the reset,
//! under one Sync.
//!
//! As in a trip that prepares (`work`), what stands behind a statement runs only if that succeeded. But here all of it
//! may be committed before anything of it is heard: so it is the server that looks, in the trip, whether the marker is
//! there and whether COMMIT binds all that was done; and a connection that breaks at any answer leaves it to the marker
//! to say how the branch ended. Only statements that the session keeps parsed go that way: they return no rows, of which
//! there could be more than an answer holds.

use votum_proto::names::Gid;

use super::one_phase::BEFORE;
use super::own::{DURABLE, GUARD_COMMIT, MARK_OR_REFUSE, Own, RESET_COMMITTED, texts};
use super::prepare::{put, server_of_the_past, transaction_failed};
use super::session::PostgresSession;
use super::statements::Way;
use super::wire::{Failed, Form, Transaction, Trip, Unsendable};
use super::work::{DIVISION_BY_ZERO, Plan};
use super::{failed, marker, unexpected, unsendable};
use crate::database::{
    Aftermath, Command, DatabaseError, OnePhase, Policy, Preparation, ServerFacts, Session as _,
};
use crate::work::{Decided, Deciding, Results, decide_step_by_step};

/// How far the trip came behind the statements.
enum Behind {
    /// COMMIT is next.
    Marked,
    /// The server's look refused to go on: step by step that can be served, or is refused for what it is.
    Guarded,
    /// It can never commit.
    Refused(DatabaseError),
    /// Nobody can say.
    Unknown(DatabaseError),
}

impl PostgresSession {
    pub(super) async fn decide_work(&mut self, deciding: &Deciding, results: &mut Results) -> Decided {
        if let Err(error) = deciding.may_run_on(&self.facts) {
            return Decided::Ended(OnePhase::Refused(error));
        }
        if let Some(plan) = self.plan_to_commit(deciding) {
            if let Some(decided) = self.commit_in_one_trip(deciding, &plan, results).await {
                return decided;
            }
            if let Err(error) = self.roll_back().await {
                return Decided::Failed { statement: 0, error };
            }
            results.clear();
        }
        decide_step_by_step(self, deciding, results).await
    }

    /// Leaves the open transaction with its marker, whether it has written or not.
    pub(super) async fn ready_to_decide(&mut self, gid: &Gid) -> Result<ServerFacts, DatabaseError> {
        if self.pending_begin.take().is_some() || !self.branch.opened {
            return Err(unexpected(Command::Prepare, "no transaction was begun"));
        }
        match self.link.transaction() {
            Transaction::Open => {}
            Transaction::Failed | Transaction::None => return Err(transaction_failed()),
        }
        if self.leads_to_the_past() {
            return Err(server_of_the_past());
        }
        if self.branch.xid8.is_none() {
            self.branch.xid8 = Some(self.assign_id().await?);
        }
        match self.ready(gid).await {
            Ok(Some((_, facts))) => Ok(facts),
            Ok(None) => Err(cannot_decide()),
            Err(Preparation::Refused(error) | Preparation::Unsound(error) | Preparation::Unknown(error)) => {
                Err(error)
            }
            Err(Preparation::Prepared { .. } | Preparation::ReadOnly | Preparation::Ready { .. }) => {
                Err(unexpected(Command::Prepare, "a refusal that is none"))
            }
        }
    }

    /// Has the server give an id to a transaction that has written nothing.
    async fn assign_id(&mut self) -> Result<u64, DatabaseError> {
        let mut trip = self.own_trip();
        put(&mut trip, "SELECT pg_catalog.pg_current_xact_id()")
            .map_err(|error| unsendable(Command::Statement, &error))?;
        let asked = async {
            self.link.send(trip).await?;
            let (_, row) = self.link.done().await?;
            self.link.finish().await?;
            Ok(row)
        };
        let row = asked.await.map_err(|error| failed(Command::Statement, error))?;
        self.own.end_trip();
        let read = row.as_ref().and_then(texts).and_then(|[xid8]| xid8?.parse().ok());
        read.ok_or_else(|| unexpected(Command::Statement, "its transaction id"))
    }

    /// How it is done in one trip, if that can be.
    fn plan_to_commit<'a>(&self, deciding: &'a Deciding) -> Option<Plan<'a>> {
        let plan = self.plan(&deciding.work, false)?;
        let kept = |way: &Way| matches!(way, Way::Named { keep: true, .. });
        (self.marks && plan.iter().all(|(_, way)| kept(way))).then_some(plan)
    }

    /// `None` where it is to be done step by step.
    async fn commit_in_one_trip(
        &mut self,
        deciding: &Deciding,
        plan: &Plan<'_>,
        results: &mut Results,
    ) -> Option<Decided> {
        let first = |error| Some(Decided::Failed { statement: 0, error });
        if let Err(error) = self.begin(&deciding.work.options).await {
            return first(error);
        }
        if self.leads_to_the_past() {
            return first(server_of_the_past());
        }
        let waits_cancelled = self.link.unreplicated();
        let trip = match self.whole_commit(plan, &deciding.gid) {
            Ok(trip) => trip,
            Err(error) => {
                self.pending_begin = None;
                return first(unsendable(Command::Statement, &error));
            }
        };
        if let Err(lost) = self.link.send(trip).await {
            self.pending_begin = None;
            return Some(unknown(failed(Command::Statement, lost.into())));
        }
        match self.begun().await {
            Ok(()) => {}
            Err(error) if error.broken() => return Some(unknown(error)),
            Err(error) => return first(error),
        }
        for (statement, (run, way)) in plan.iter().enumerate() {
            results.begin();
            let done = self.reply(run, way, results).await;
            // Its results take nothing that could be too much.
            let Err(error) = done.and_then(|(tag, _)| results.end(tag.rows())) else { continue };
            self.has_failed(run);
            return Some(if error.broken() || !self.link.is_settled() {
                unknown(error)
            } else {
                Decided::Failed { statement, error }
            });
        }
        match self.behind().await {
            Behind::Marked => {
                let done = self.link.done().await.map(|(tag, _)| tag);
                Some(Decided::Ended(self.was_committed(done, waits_cancelled).await))
            }
            Behind::Guarded => None,
            Behind::Refused(error) => Some(Decided::Ended(OnePhase::Refused(error))),
            Behind::Unknown(error) => Some(unknown(error)),
        }
    }

    fn whole_commit(&mut self, plan: &Plan<'_>, gid: &Gid) -> Result<Trip, Unsendable> {
        let mut trip = self.trip()?;
        for (run, way) in plan {
            run.put(&mut trip, way)?;
        }
        for own in BEFORE {
            self.put_own(&mut trip, own)?;
        }
        let role = self.roles.current.clone();
        self.put_own_with(&mut trip, &GUARD_COMMIT, &role)?;
        self.put_own_with(&mut trip, &MARK_OR_REFUSE, &marker::key(gid))?;
        self.put_own(&mut trip, &DURABLE)?;
        put(&mut trip, "COMMIT")?;
        self.put_reset(&mut trip, &RESET_COMMITTED)?;
        Ok(trip)
    }

    /// By the session's own statement, unless a client may have put another in its place.
    fn put_own_with(&mut self, trip: &mut Trip, own: &Own, parameter: &str) -> Result<(), Unsendable> {
        if !self.tampered && !self.may_have_prepared {
            return self.own.run(trip, own, Some(parameter));
        }
        trip.parse("", own.text(), &[])?;
        trip.bind_own("", Some(parameter), Form::Text)?;
        trip.execute()
    }

    /// All statements have run: reads what stands between them and COMMIT.
    async fn behind(&mut self) -> Behind {
        for _ in BEFORE {
            if let Err(error) = self.link.done().await {
                return stopped(error);
            }
        }
        match self.link.done().await {
            Ok((_, row)) => {
                if let Some([_, _, reading @ ..]) = row.as_ref().and_then(texts::<6>) {
                    self.link.note_reading(&reading);
                }
            }
            Err(error) => return guarded(error),
        }
        if let Err(error) = self.link.done().await {
            let error = failed(Command::CommitOnePhase, error);
            return match error.sqlstate.as_str() {
                DIVISION_BY_ZERO => Behind::Guarded,
                _ if error.broken() => Behind::Unknown(error),
                _ => self.not_marked(error),
            };
        }
        match self.link.done().await {
            Ok(_) => Behind::Marked,
            Err(error) => stopped(error),
        }
    }

    /// The marker was refused: somebody has settled the branch as aborted, or the table may be gone. That is looked
    /// up before the next branch.
    fn not_marked(&mut self, error: DatabaseError) -> Behind {
        (self.marks, self.may_have_prepared) = (false, true);
        let message =
            format!("the branch's commit marker could not be kept in votum.marker: {}", error.message);
        Behind::Refused(DatabaseError { message, sql: None, retryable: true, ..error })
    }
}

fn unknown(error: DatabaseError) -> Decided {
    Decided::Ended(OnePhase::Unknown(error))
}

/// A refusal before COMMIT: the server has not come to it.
fn stopped(error: Failed) -> Behind {
    let error = failed(Command::CommitOnePhase, error);
    if error.broken() { Behind::Unknown(error) } else { Behind::Refused(error) }
}

/// The same, of a look of ours.
fn guarded(error: Failed) -> Behind {
    let error = failed(Command::CommitOnePhase, error);
    match error.sqlstate.as_str() {
        DIVISION_BY_ZERO => Behind::Guarded,
        _ if error.broken() => Behind::Unknown(error),
        _ => Behind::Refused(error),
    }
}

fn cannot_decide() -> DatabaseError {
    DatabaseError {
        policy: Policy::VoteNo,
        aftermath: Aftermath::Answered,
        sqlstate: String::new(),
        message: "the branch was to decide by its commit, and cannot: its database keeps no commit marker of it, or \
                  has foreign servers or deferrable triggers now; run the transaction again"
            .into(),
        retryable: true,
        sql: None,
    }
}
