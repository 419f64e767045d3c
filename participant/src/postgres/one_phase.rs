//! A transaction's only branch is committed in one phase: its marker, and COMMIT. The marker says for ever how it
//! ended, whoever lost the answer: where the row is not there, it is inserted as aborted, and the branch can never
//! commit any more.

use tokio_postgres::Client;
use votum_proto::names::Gid;
use votum_proto::v1::gone::Marker;

use super::own::{CLOSE_ALL, CONSTRAINTS, DURABLE, LOOK, Own, RESET_COMMITTED, RESET_ROLE, texts};
use super::prepare::{NotPrepared, put, server_of_the_past, standby_wait_cancelled, transaction_failed};
use super::session::{PostgresSession, another_transaction};
use super::wire::{Failed, Tag, Transaction, Trip, Unsendable};
use super::{failed, failure, first_row, marker, unexpected, unsendable};
use crate::database::{Command, DatabaseError, OnePhase, Policy, Preparation, ServerFacts};

/// What COMMIT would do after the last look at the branch is done before it: deferred triggers run, which may set
/// anything; cursors WITH HOLD would be run to their ends.
pub(super) static BEFORE: [&Own; 2] = [&CONSTRAINTS, &CLOSE_ALL];

/// How long a tombstone waits for a COMMIT that is under way, before it is tried again: what else goes over its
/// connection waits with it.
const WAITS: &str = "SET LOCAL lock_timeout = '200ms'";

/// What the last look at a branch says.
struct Look {
    xid8: Option<u64>,
    unbound: bool,
}

impl PostgresSession {
    /// Whether the open transaction can be committed in one phase: then its marker is in it, and nothing is left to
    /// do but COMMIT. `None` where it has to be prepared: the database has foreign servers, which one COMMIT does
    /// not bind, or keeps no marker.
    ///
    /// # Errors
    /// As `prepare` has it.
    pub(super) async fn ready(&mut self, gid: &Gid) -> Result<Option<(u64, ServerFacts)>, Preparation> {
        let trip = self.look(&marker::key(gid));
        let trip = trip.map_err(|error| Preparation::Refused(unsendable(Command::Statement, &error)))?;
        let Look { xid8, unbound } = match self.looked(trip).await {
            Ok(look) => look,
            Err(NotPrepared::Unmarked(error)) => {
                return Err(self.unmarked(failed(Command::Statement, error)));
            }
            Err(NotPrepared::Failed(error)) => {
                return Err(Preparation::Refused(failed(Command::Statement, error)));
            }
        };
        let Some(xid8) = xid8.filter(|xid8| self.branch.xid8 == Some(*xid8)) else {
            return Err(Preparation::Refused(another_transaction()));
        };
        Ok((self.branch.marked && !unbound).then_some((xid8, self.facts)))
    }

    fn look(&mut self, key: &str) -> Result<Trip, Unsendable> {
        let mut trip = self.own_trip();
        if !self.branch.own_role {
            self.own.run(&mut trip, &RESET_ROLE, None)?;
        }
        for own in BEFORE.into_iter().chain([&LOOK]) {
            self.put_own(&mut trip, own)?;
        }
        self.put_marker(&mut trip, key)?;
        Ok(trip)
    }

    async fn looked(&mut self, trip: Trip) -> Result<Look, NotPrepared> {
        let before = usize::from(!self.branch.own_role) + BEFORE.len();
        self.link.send(trip).await?;
        for _ in 0..before {
            self.link.done().await?;
        }
        let (_, row) = self.link.done().await?;
        // A rule or a trigger of an administrator's may keep the row out.
        let marked = self.link.done().await.map_err(NotPrepared::unmarked)?.0.rows() == 1;
        self.link.finish().await?;
        self.own.end_trip();
        (self.branch.own_role, self.branch.marked) = (true, marked);
        let look = row.as_ref().and_then(texts).and_then(|[xid8, unbound]| {
            Some(Look { xid8: xid8.and_then(|xid8| xid8.parse().ok()), unbound: unbound? == "t" })
        });
        match look {
            Some(look) => Ok(look),
            None => Err(self.link.give_up("the transaction's id").into()),
        }
    }

    /// Commits what is ready.
    pub(super) async fn commit_ready(&mut self) -> OnePhase {
        if self.leads_to_the_past() {
            return OnePhase::Refused(server_of_the_past());
        }
        let open = self.link.transaction() == Transaction::Open && self.branch.marked;
        if !open {
            return OnePhase::Refused(transaction_failed());
        }
        let trip = match self.committing() {
            Ok(trip) => trip,
            Err(error) => return OnePhase::Refused(unsendable(Command::CommitOnePhase, &error)),
        };
        let waits_cancelled = self.link.unreplicated();
        let done = self.second_done(trip).await;
        self.was_committed(done, waits_cancelled).await
    }

    /// What COMMIT answered, with how often a wait for a standby had been cancelled before it.
    pub(super) async fn was_committed(
        &mut self,
        done: Result<Tag, Failed>,
        waits_cancelled: u64,
    ) -> OnePhase {
        let tag = match done {
            Ok(tag) => tag,
            Err(error) => {
                let error = failed(Command::CommitOnePhase, error);
                let refused = error.policy == Policy::VoteNo && !error.broken();
                return if refused { OnePhase::Refused(error) } else { OnePhase::Unknown(error) };
            }
        };
        if tag.is("ROLLBACK") {
            return OnePhase::Refused(transaction_failed());
        }
        if !tag.is("COMMIT") {
            let lost = self.link.give_up("something else than COMMIT was done");
            return OnePhase::Unknown(failed(Command::CommitOnePhase, lost.into()));
        }
        self.clean = self.was_reset(RESET_COMMITTED.len()).await;
        if self.link.unreplicated() != waits_cancelled {
            return OnePhase::Unknown(standby_wait_cancelled("COMMIT"));
        }
        if self.leads_to_the_past() {
            // Whether the present primary has it, its marker says there.
            return OnePhase::Unknown(server_of_the_past());
        }
        OnePhase::Committed
    }

    /// By the session's own statement, unless a client may have put another in its place.
    pub(super) fn put_own(&mut self, trip: &mut Trip, own: &Own) -> Result<(), Unsendable> {
        if self.tampered || self.may_have_prepared {
            put(trip, own.text())
        } else {
            self.own.run(trip, own, None)
        }
    }

    fn committing(&mut self) -> Result<Trip, Unsendable> {
        let mut trip = self.own_trip();
        self.put_own(&mut trip, &DURABLE)?;
        put(&mut trip, "COMMIT")?;
        self.put_reset(&mut trip, &RESET_COMMITTED)?;
        Ok(trip)
    }
}

/// Inserts the tombstone of a branch, or finds out what stands there.
pub(super) async fn settle(client: &Client, gid: &Gid) -> Result<Marker, DatabaseError> {
    let key = marker::key(gid);
    let tombstone = format!("{WAITS}; {}; {}", DURABLE.text(), marker::tombstone(&key));
    match client.batch_execute(&tombstone).await.map_err(|error| failure(Command::Settle, &error)) {
        Ok(()) => {}
        Err(error) if error.policy == Policy::Acknowledge => {}
        Err(error) => return Err(error),
    }
    // In a statement of its own, which sees what the other waited for, or what a rule has made of it.
    let question = marker::question(&key);
    let answer = client.simple_query(&question).await.map_err(|error| failure(Command::Settle, &error))?;
    match first_row(&answer).and_then(|row| row.get(0)) {
        Some("t") => Ok(Marker::Committed),
        Some("f") => Ok(Marker::Aborted),
        Some(_) | None => Err(unexpected(Command::Settle, "a tombstone that is not there")),
    }
}
