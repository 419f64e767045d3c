//! A whole branch in one trip: BEGIN, its statements, PREPARE TRANSACTION and the reset, under one Sync.
//!
//! What stands behind a statement in the trip runs only if that succeeded, so that nothing is prepared that is not
//! whole. But all of it may have run before anything of it is heard, and so two things are otherwise than where one
//! statement comes after another:
//!
//! * What is looked at between two statements there (that the transaction, the role and the encoding are still
//!   ours) the server looks at here, in the trip, and refuses to go on; and only statements that can do nothing but
//!   read and write rows are run in this way.
//! * A connection that breaks at any answer may have prepared the branch.
//!
//! Statements that the session has not met go step by step, and so do branches that may need no PREPARE.

use votum_proto::names::Gid;

use super::own::{GUARD, LAST_GUARD, RESET_PREPARED, texts};
use super::prepare::{not_prepared, put, server_of_the_past};
use super::reset::Place;
use super::session::PostgresSession;
use super::statements::{Run, Way, copied_out};
use super::wire::{Failed, Tag, Transaction, Trip, Unsendable};
use super::{failed, marker, unexpected, unsendable};
use crate::control;
use crate::database::{Command, DatabaseError, Preparation, Session as _};
use crate::work::{Results, Work, Worked, step_by_step};

/// How [`GUARD`] refuses.
pub(super) const DIVISION_BY_ZERO: &str = "22012";

/// The statements of a branch, and how each is run.
pub(super) type Plan<'a> = Vec<(Run<'a>, Way)>;

impl PostgresSession {
    pub(super) async fn run_work(
        &mut self,
        work: &Work,
        gid: &Gid,
        one_phase: bool,
        results: &mut Results,
    ) -> Worked {
        if let Some(plan) = self.plan(work, one_phase) {
            let worked = self.in_one_trip(work, &plan, gid, results).await;
            if !is_guards(&worked) {
                return worked;
            }
            if let Err(error) = self.roll_back().await {
                return Worked::Failed { statement: 0, error };
            }
            results.clear();
        }
        step_by_step(self, work, gid, one_phase, results).await
    }

    /// How the work is done in one trip, if that can be.
    pub(super) fn plan<'a>(&self, work: &'a Work, one_phase: bool) -> Option<Plan<'a>> {
        if work.options.read_only || (one_phase && self.marks) {
            return None;
        }
        let known = |statement| {
            let run = Run::new(statement);
            let way = self.known_way(&run)?;
            Some((run, way))
        };
        let plain = work.statements.iter().all(|statement| control::is_plain(&statement.text));
        if plain { work.statements.iter().map(known).collect() } else { None }
    }

    async fn in_one_trip(
        &mut self,
        work: &Work,
        plan: &Plan<'_>,
        gid: &Gid,
        results: &mut Results,
    ) -> Worked {
        let first = |error| Worked::Failed { statement: 0, error };
        if let Err(error) = self.begin(&work.options).await {
            return first(error);
        }
        if self.leads_to_the_past() {
            return first(server_of_the_past());
        }
        let waits_cancelled = self.link.unreplicated();
        let reset = self.place_of_reset();
        let trip = match self.whole(plan, gid, reset) {
            Ok(trip) => trip,
            Err(error) => {
                self.pending_begin = None;
                return first(unsendable(Command::Statement, &error));
            }
        };
        if let Err(lost) = self.link.send(trip).await {
            self.pending_begin = None;
            return first(failed(Command::Statement, lost.into()));
        }
        match self.begun().await {
            Ok(()) => {}
            Err(error) if error.broken() => return Worked::Ended(Preparation::Unknown(error)),
            Err(error) => return first(error),
        }
        for (number, (run, way)) in plan.iter().enumerate() {
            results.begin();
            let done = self
                .reply(run, way, results)
                .await
                .and_then(|(tag, copied)| if copied { Err(copied_out()) } else { results.end(tag.rows()) });
            if let Err(error) = done {
                return self.stopped(number, run, error).await;
            }
        }
        self.end_of_trip(plan.len().saturating_sub(1), waits_cancelled, reset).await
    }

    /// The whole trip.
    fn whole(&mut self, plan: &Plan<'_>, gid: &Gid, reset: Place) -> Result<Trip, Unsendable> {
        let mut trip = self.trip()?;
        for (run, way) in plan {
            run.put(&mut trip, way)?;
        }
        let guard = if reset == Place::BeforePrepare { &LAST_GUARD } else { &GUARD };
        self.own.run(&mut trip, guard, Some(&self.roles.current))?;
        if self.marks {
            self.put_marker(&mut trip, &marker::key(gid))?;
        }
        if reset == Place::BeforePrepare {
            self.put_reset_before(&mut trip)?;
        }
        put(&mut trip, &format!("PREPARE TRANSACTION '{gid}'"))?;
        if reset == Place::BehindPrepare {
            self.put_reset(&mut trip, &RESET_PREPARED)?;
        }
        Ok(trip)
    }

    /// A statement was refused, or what it answered is not to be taken, though it ran and what follows it, too.
    async fn stopped(&mut self, statement: usize, run: &Run<'_>, error: DatabaseError) -> Worked {
        self.has_failed(run);
        if error.broken() {
            return Worked::Ended(Preparation::Unknown(error));
        }
        if self.link.is_settled() {
            return Worked::Failed { statement, error };
        }
        match self.link.finish().await {
            Ok(()) => Worked::Ended(Preparation::Unsound(error)),
            // Something behind it was refused.
            Err(Failed::Refused(_)) => Worked::Failed { statement, error },
            Err(lost @ Failed::Lost(_)) => {
                Worked::Ended(Preparation::Unknown(failed(Command::Prepare, lost)))
            }
        }
    }

    /// All statements have run: reads what comes behind them.
    async fn end_of_trip(&mut self, last: usize, waits_cancelled: u64, reset: Place) -> Worked {
        let guarded = match self.link.done().await {
            Ok((_, row)) => row,
            Err(error) => return not_guarded(last, failed(Command::Prepare, error)),
        };
        let Some([Some(xid8), _, reading @ ..]) = guarded.as_ref().and_then(texts::<6>) else {
            let lost = self.link.give_up("the transaction's id");
            return Worked::Ended(not_prepared(failed(Command::Prepare, lost.into())));
        };
        let xid8 = xid8.parse().ok();
        self.link.note_reading(&reading);
        let marked = if self.marks {
            match self.link.done().await {
                // A rule or a trigger of an administrator's may keep the row out.
                Ok((tag, _)) => tag.rows() == 1,
                Err(error @ Failed::Refused(_)) => {
                    return Worked::Ended(self.unmarked(failed(Command::Prepare, error)));
                }
                Err(lost) => return Worked::Ended(not_prepared(failed(Command::Prepare, lost))),
            }
        } else {
            false
        };
        if reset == Place::BeforePrepare
            && let Err(error) = self.did_reset().await
        {
            return Worked::Ended(not_prepared(failed(Command::Prepare, error)));
        }
        Worked::Ended(match self.link.done().await {
            Ok((tag, _)) => self.whole_was_prepared(&tag, waits_cancelled, xid8, marked, reset).await,
            Err(error) => not_prepared(failed(Command::Prepare, error)),
        })
    }

    async fn whole_was_prepared(
        &mut self,
        tag: &Tag,
        waits_cancelled: u64,
        xid8: Option<u64>,
        marked: bool,
        reset: Place,
    ) -> Preparation {
        let preparation = self.was_prepared(tag, waits_cancelled, xid8, marked, reset).await;
        if matches!(preparation, Preparation::Prepared { .. }) && self.link.transaction() != Transaction::None
        {
            return Preparation::Unsound(unexpected(Command::Prepare, "that it is over"));
        }
        preparation
    }
}

/// The look before PREPARE was refused, or nobody knows whether it was.
fn not_guarded(last: usize, error: DatabaseError) -> Worked {
    if error.broken() {
        return Worked::Ended(Preparation::Unknown(error));
    }
    // No statement of a client's was refused: those have answered.
    let sql = error.sql.filter(|_| error.sqlstate != DIVISION_BY_ZERO);
    Worked::Failed { statement: last, error: DatabaseError { sql, ..error } }
}

/// A function has left the session in another role, or in another encoding. Step by step that can be served, or is
/// refused for what it is.
fn is_guards(worked: &Worked) -> bool {
    match worked {
        Worked::Failed { error, .. } => error.sqlstate == DIVISION_BY_ZERO && error.sql.is_none(),
        Worked::Ended(_) => false,
    }
}
