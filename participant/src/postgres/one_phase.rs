//! A transaction's only branch is committed in one phase: its marker, and COMMIT. The marker says for ever how it
//! ended, whoever lost the answer: where the row is not there, it is inserted as aborted, and the branch can never
//! commit any more.

use tokio_postgres::Client;
use votum_proto::names::Gid;
use votum_proto::v1::gone::Marker;

use super::own::{RESET_BUT_STATEMENTS, RESET_ROLE, texts};
use super::prepare::{NotPrepared, put, server_of_the_past, standby_wait_cancelled, transaction_failed};
use super::session::{PostgresSession, another_transaction};
use super::wire::{Transaction, Trip, Unsendable};
use super::{failed, failure, first_row, marker, unexpected, unsendable};
use crate::database::{Command, DatabaseError, OnePhase, Policy, Preparation, ServerFacts};

/// What COMMIT would do after the last look at the branch is done before it: deferred triggers run, which may set
/// anything; cursors WITH HOLD would be run to their ends.
const BEFORE: [&str; 2] = ["SET CONSTRAINTS ALL IMMEDIATE", "CLOSE ALL"];

/// Whether it is still the same transaction; and whether one COMMIT binds all that it did.
const LOOK: &str = "SELECT pg_catalog.pg_current_xact_id_if_assigned(), \
     EXISTS (SELECT FROM pg_catalog.pg_foreign_server)";

/// The commit is on disk, and where the role waits for standbys on at least one, before it is answered.
const DURABLE: &str = "SELECT pg_catalog.set_config('synchronous_commit', CASE \
     WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'remote_apply' \
     THEN 'remote_apply' ELSE 'on' END, true)";

/// How long a tombstone waits for a COMMIT that is under way.
const WAITS: &str = "SET LOCAL lock_timeout = '2s'";

/// What the last look at a branch says.
struct Look {
    xid8: Option<u64>,
    foreign: bool,
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
        let Look { xid8, foreign } = match self.looked(trip).await {
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
        Ok((self.branch.marked && !foreign).then_some((xid8, self.facts)))
    }

    fn look(&mut self, key: &str) -> Result<Trip, Unsendable> {
        let mut trip = self.own_trip();
        if !self.branch.own_role {
            self.own.run(&mut trip, &RESET_ROLE, None)?;
        }
        for statement in BEFORE {
            put(&mut trip, statement)?;
        }
        put(&mut trip, LOOK)?;
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
        let look = row.as_ref().and_then(texts).and_then(|[xid8, foreign]| {
            Some(Look { xid8: xid8.and_then(|xid8| xid8.parse().ok()), foreign: foreign? == "t" })
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
        let tag = match self.second_done(trip).await {
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
        self.clean = self.was_reset(RESET_BUT_STATEMENTS.len()).await;
        if self.link.unreplicated() != waits_cancelled {
            return OnePhase::Unknown(standby_wait_cancelled("COMMIT"));
        }
        OnePhase::Committed
    }

    fn committing(&mut self) -> Result<Trip, Unsendable> {
        let mut trip = self.own_trip();
        put(&mut trip, DURABLE)?;
        put(&mut trip, "COMMIT")?;
        self.put_reset(&mut trip, &RESET_BUT_STATEMENTS)?;
        Ok(trip)
    }
}

/// Inserts the tombstone of a branch, or finds out what stands there.
pub(super) async fn settle(client: &Client, gid: &Gid) -> Result<Marker, DatabaseError> {
    let key = marker::key(gid);
    let tombstone = format!("{WAITS}; {DURABLE}; {}", marker::tombstone(&key));
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
