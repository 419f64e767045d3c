//! The end of a branch on its session: PREPARE, or the COMMIT of one that wrote nothing, in one trip with what
//! makes the session ready for the next branch.
//!
//! PREPARE TRANSACTION and COMMIT "succeed" in a transaction that has failed: they roll it back, and say so
//! by nothing but the name of the command that was done. That name is read here, and before that what the
//! server said of the transaction at the end of the last trip. No savepoint has to guard them.

use votum_proto::names::Gid;

use super::own::{LAST_LEFTOVERS, MARK, RESET_BUT_STATEMENTS, RESET_PREPARED, RESET_ROLE, texts};
use super::reset::Place;
use super::session::PostgresSession;
use super::wire::{Failed, Form, Tag, Transaction, Trip, Unsendable};
use super::{failed, marker, unexpected, unsendable};
use crate::database::{Aftermath, Command, DatabaseError, Policy, Preparation};

/// For branches that are to be committed on their own word.
const MAY_HAVE_WRITTEN: &str = "SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL \
     OR EXISTS (SELECT FROM pg_catalog.pg_foreign_server)";

impl PostgresSession {
    pub(super) async fn prepare_branch(&mut self, gid: &Gid, one_phase: bool) -> Preparation {
        if self.pending_begin.take().is_some() || !self.branch.opened {
            return Preparation::Refused(unexpected(Command::Prepare, "no transaction was begun"));
        }
        match self.link.transaction() {
            Transaction::Open => {}
            Transaction::Failed | Transaction::None => return Preparation::Refused(transaction_failed()),
        }
        if self.leads_to_the_past() {
            return Preparation::Refused(server_of_the_past());
        }
        if self.branch.xid8.is_none() {
            let committable = if self.branch.read_only {
                Ok(true)
            } else {
                self.may_have_written().await.map(|written| !written)
            };
            match committable {
                Ok(true) => return self.commit_read_only().await,
                Ok(false) => {}
                Err(error) => return Preparation::Refused(error),
            }
        }
        if one_phase && self.marks && self.branch.xid8.is_some() {
            match self.ready(gid).await {
                Ok(Some((xid8, facts))) => return Preparation::Ready { xid8, facts },
                Ok(None) => {}
                Err(refused) => return refused,
            }
        }
        self.prepare_transaction(gid).await
    }

    /// Asks once more, past all names that a client may have taken, whether the transaction has written; and
    /// whether this database has foreign servers, whose writes leave it without an xid.
    async fn may_have_written(&mut self) -> Result<bool, DatabaseError> {
        let mut trip = self.own_trip();
        put(&mut trip, MAY_HAVE_WRITTEN).map_err(|error| unsendable(Command::CommitReadOnly, &error))?;
        let asked = async {
            self.link.send(trip).await?;
            let (_, row) = self.link.done().await?;
            self.link.finish().await?;
            Ok(row)
        };
        let row = asked.await.map_err(|error| failed(Command::CommitReadOnly, error))?;
        self.own.end_trip();
        row.as_ref()
            .and_then(texts)
            .and_then(|[written]| Some(written? == "t"))
            .ok_or_else(|| unexpected(Command::CommitReadOnly, "whether it has written"))
    }

    /// COMMIT rather than ROLLBACK: only a commit runs the serializable checks. Cursors are closed before it:
    /// those WITH HOLD would be run to their ends within COMMIT, and what their functions write would stand.
    async fn commit_read_only(&mut self) -> Preparation {
        let mut trip = self.own_trip();
        let put = put(&mut trip, "CLOSE ALL")
            .and_then(|()| put(&mut trip, "COMMIT"))
            .and_then(|()| self.put_reset(&mut trip, &RESET_BUT_STATEMENTS));
        if let Err(error) = put {
            return Preparation::Refused(unsendable(Command::CommitReadOnly, &error));
        }
        match self.second_done(trip).await {
            Err(error) => Preparation::Refused(failed(Command::CommitReadOnly, error)),
            Ok(tag) if tag.is("COMMIT") => {
                self.clean = self.was_reset(RESET_BUT_STATEMENTS.len()).await;
                Preparation::ReadOnly
            }
            Ok(_) => Preparation::Refused(transaction_failed()),
        }
    }

    pub(super) async fn second_done(&mut self, trip: Trip) -> Result<Tag, Failed> {
        self.link.send(trip).await?;
        self.link.done().await?;
        Ok(self.link.done().await?.0)
    }

    async fn prepare_transaction(&mut self, gid: &Gid) -> Preparation {
        let beside = Beside {
            role: !self.branch.own_role,
            ask: self.branch.xid8.is_none(),
            // One that has written nothing so far stays as it is.
            mark: self.marks && self.branch.xid8.is_some() && !self.branch.marked,
            reset: self.place_of_reset(),
        };
        let trip = match self.preparing(gid, beside) {
            Ok(trip) => trip,
            Err(error) => return Preparation::Refused(unsendable(Command::Prepare, &error)),
        };
        let waits_cancelled = self.link.unreplicated();
        let Prepared { asked, marker, own_roles, tag } = match self.prepared(trip, beside).await {
            Ok(done) => done,
            Err(NotPrepared::Unmarked(error)) => return self.unmarked(failed(Command::Prepare, error)),
            Err(NotPrepared::Failed(error)) => return not_prepared(failed(Command::Prepare, error)),
        };
        let xid8 = self.branch.xid8.or(asked);
        let marker = marker || self.branch.marked;
        let preparation = self.was_prepared(&tag, waits_cancelled, xid8, marker, beside.reset).await;
        self.clean &= own_roles;
        preparation
    }

    /// What the end of a trip that prepares says, with what it did and how often a wait for a standby had been
    /// cancelled before it.
    pub(super) async fn was_prepared(
        &mut self,
        tag: &Tag,
        waits_cancelled: u64,
        xid8: Option<u64>,
        marker: bool,
        reset: Place,
    ) -> Preparation {
        if tag.is("ROLLBACK") {
            return Preparation::Refused(transaction_failed());
        }
        if !tag.is("PREPARE TRANSACTION") {
            let lost = self.link.give_up("something else than PREPARE TRANSACTION was done");
            return not_prepared(failed(Command::Prepare, lost.into()));
        }
        self.clean = match reset {
            Place::BeforePrepare => self.is_ready().await,
            Place::BehindPrepare => self.was_reset(RESET_PREPARED.len()).await,
        };
        if self.link.unreplicated() != waits_cancelled {
            return Preparation::Unsound(standby_wait_cancelled("PREPARE TRANSACTION"));
        }
        match xid8 {
            None => Preparation::Unsound(unexpected(Command::Prepare, "its transaction id")),
            Some(xid8) => Preparation::Prepared { xid8, facts: self.facts, marker },
        }
    }

    /// The trip that prepares, with what goes before that.
    fn preparing(&mut self, gid: &Gid, beside: Beside) -> Result<Trip, Unsendable> {
        let mut trip = self.own_trip();
        if beside.role {
            self.own.run(&mut trip, &RESET_ROLE, None)?;
        }
        if beside.ask {
            put(&mut trip, "SELECT pg_catalog.pg_current_xact_id()")?;
        }
        if beside.mark {
            self.put_marker(&mut trip, &marker::key(gid))?;
        }
        if beside.reset == Place::BeforePrepare {
            self.own.run(&mut trip, &LAST_LEFTOVERS, None)?;
            self.put_reset_before(&mut trip)?;
        }
        put(&mut trip, &format!("PREPARE TRANSACTION '{gid}'"))?;
        if beside.reset == Place::BehindPrepare {
            self.put_reset(&mut trip, &RESET_PREPARED)?;
        }
        Ok(trip)
    }

    /// By the session's own statement, unless a client may have put another in its place.
    pub(super) fn put_marker(&mut self, trip: &mut Trip, key: &str) -> Result<(), Unsendable> {
        if !self.tampered && !self.may_have_prepared {
            return self.own.run(trip, &MARK, Some(key));
        }
        trip.parse("", marker::INSERTION, &[])?;
        trip.bind_own("", Some(key), Form::Text)?;
        trip.execute()
    }

    async fn prepared(&mut self, trip: Trip, beside: Beside) -> Result<Prepared, NotPrepared> {
        self.link.send(trip).await?;
        if beside.role {
            self.link.done().await?;
        }
        let row = if beside.ask { self.link.done().await?.1 } else { None };
        let asked = row.as_ref().and_then(texts).and_then(|[xid8]| xid8?.parse().ok());
        // A rule or a trigger of an administrator's may keep the row out.
        let marker = beside.mark && self.link.done().await.map_err(NotPrepared::unmarked)?.0.rows() == 1;
        let mut own_roles = true;
        if beside.reset == Place::BeforePrepare {
            let (_, left) = self.link.done().await?;
            own_roles = self.has_own_roles(left.as_ref());
            self.did_reset().await?;
        }
        Ok(Prepared { asked, marker, own_roles, tag: self.link.done().await?.0 })
    }

    /// The marker was refused: the table may be gone, or this role's right to it. That is looked up before the
    /// next branch, which then does without.
    pub(super) fn unmarked(&mut self, error: DatabaseError) -> Preparation {
        (self.marks, self.may_have_prepared) = (false, true);
        let message =
            format!("the branch's commit marker could not be kept in votum.marker: {}", error.message);
        not_prepared(DatabaseError { message, sql: None, retryable: true, ..error })
    }

    pub(super) fn own_trip(&mut self) -> Trip {
        self.own.begin_trip();
        Trip::default()
    }
}

/// What goes before PREPARE TRANSACTION in its trip.
#[derive(Clone, Copy)]
struct Beside {
    /// Back to the agent's own role.
    role: bool,
    /// A question for the xid.
    ask: bool,
    /// The commit marker.
    mark: bool,
    /// What makes the session ready for the next branch.
    reset: Place,
}

/// What the trip that prepares says.
struct Prepared {
    asked: Option<u64>,
    marker: bool,
    /// The session works as the agent's own roles, if that was asked.
    own_roles: bool,
    tag: Tag,
}

/// Why it did not go to its end.
pub(super) enum NotPrepared {
    /// The marker was refused.
    Unmarked(Failed),
    Failed(Failed),
}

impl NotPrepared {
    pub(super) fn unmarked(error: Failed) -> Self {
        match error {
            Failed::Refused(_) => Self::Unmarked(error),
            Failed::Lost(_) => Self::Failed(error),
        }
    }
}

impl<E: Into<Failed>> From<E> for NotPrepared {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Puts a statement into a trip that is run this once.
pub(super) fn put(trip: &mut Trip, statement: &str) -> Result<(), Unsendable> {
    trip.parse("", statement, &[])?;
    trip.bind_own("", None, Form::Text)?;
    trip.execute()
}

/// Nothing that is prepared there would be found again.
pub(super) fn server_of_the_past() -> DatabaseError {
    DatabaseError {
        policy: Policy::VoteNo,
        aftermath: Aftermath::Replaced,
        sqlstate: String::new(),
        message: "another server has become the primary since the branch was begun".into(),
        retryable: true,
        sql: None,
    }
}

/// As PostgreSQL says it of any other statement.
pub(super) fn transaction_failed() -> DatabaseError {
    DatabaseError {
        policy: super::policy::policy(Command::Prepare, "25P02"),
        aftermath: Aftermath::Answered,
        sqlstate: "25P02".into(),
        message:
            "a statement of the branch failed, and nothing was rolled back to a savepoint before it: the \
                  transaction can only be rolled back"
                .into(),
        retryable: false,
        sql: None,
    }
}

pub(super) fn standby_wait_cancelled(command: &str) -> DatabaseError {
    DatabaseError {
        policy: Policy::VoteNo,
        aftermath: Aftermath::Answered,
        sqlstate: "01000".into(),
        message: format!("{command} was cancelled while it waited for a synchronous standby"),
        retryable: false,
        sql: None,
    }
}

pub(super) fn not_prepared(error: DatabaseError) -> Preparation {
    match (error.policy, error.aftermath) {
        (Policy::Verify, _) | (_, Aftermath::Broken) => Preparation::Unknown(error),
        (_, Aftermath::Answered | Aftermath::Replaced) => Preparation::Refused(error),
    }
}
