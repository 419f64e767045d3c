//! One hosted session: a connection on which a branch's statements run.
//!
//! A branch's first trip opens its transaction, and its statement stands in the same trip behind that: under
//! one Sync it cannot run when BEGIN failed, where it would commit on its own.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::{CancelToken, Config};
use votum_proto::names::Gid;
use votum_proto::runtime::{BoxFuture, Clock, Monotonic};

use super::connect::Connector;
use super::failed;
use super::hosted::{Hosted, Roles};
use super::hosts::Timeline;
use super::known::Known;
use super::own::{self, Identity, Own, OwnStatements};
use super::timeouts::Timeouts;
use super::types::Types;
use super::wire::{Failed, Link, Signs, Trip, Unsendable};
use crate::database::{
    Aftermath, BackendId, BeginOptions, Canceller, Command, DatabaseError, OnePhase, Policy, Preparation,
    RowSink, ServerFacts, Session, Statement,
};
use crate::work::{Decided, Deciding, Results, Work, Worked};

pub(super) struct PostgresSession {
    pub(super) link: Link,
    signs: Arc<Signs>,
    token: CancelToken,
    server: Arc<Config>,
    timeline: Timeline,
    backend: BackendId,
    version: u32,
    pub(super) roles: Roles,
    standing: Option<Timeouts>,
    connector: Arc<Connector>,
    /// Sent with the first statement: one trip less.
    pub(super) pending_begin: Option<Opening>,
    pub(super) branch: BranchState,
    /// What the server said of itself when the connection was opened. A primary keeps its identity and its
    /// timeline as long as it keeps its connections.
    pub(super) facts: ServerFacts,
    /// Reset, and not used since.
    pub(super) clean: bool,
    /// A client's statement may have replaced one of ours, or had functions planned by settings of its own:
    /// nothing but a full reset is to be trusted.
    pub(super) tampered: bool,
    /// A client's statement came with code of its own, or failed in the middle: that may have prepared
    /// statements, of which nothing is seen.
    pub(super) may_have_prepared: bool,
    /// When the session's prepared statements were last listed.
    pub(super) listed: Monotonic,
    /// The reset that is on its way lists them.
    pub(super) lists: bool,
    /// The database has a place for commit markers, as far as was seen.
    pub(super) marks: bool,
    /// As [`own::CHANGES_WITHIN`], as far as was seen; true until that was looked up.
    pub(super) changes_within: bool,
    pub(super) clock: Arc<dyn Clock>,
    /// Statements that were run before.
    pub(super) known: Known,
    pub(super) own: OwnStatements,
    /// How many names were given to statements.
    pub(super) named: u64,
    /// Statements that are of no use any more: closed with the next trip.
    pub(super) unclosed: Vec<Arc<str>>,
}

/// How a branch's transaction is to be opened.
pub(super) struct Opening {
    begin: &'static Own,
    /// `None` where the session's own serve.
    timeouts: Option<Timeouts>,
}

/// What is known of the session's present transaction.
#[derive(Debug, Default)]
pub(super) struct BranchState {
    pub(super) read_only: bool,
    /// The server has begun it.
    pub(super) opened: bool,
    /// As [`Identity::began`]; `None` until the server has said.
    pub(super) began: Option<i64>,
    pub(super) xid8: Option<u64>,
    /// As [`Identity::own_role`]; false until the server has said.
    pub(super) own_role: bool,
    /// Its commit marker is in it.
    pub(super) marked: bool,
    /// What it was given or did has its session made ready only behind PREPARE.
    pub(super) resets_behind: bool,
    pub(super) types: Types,
}

impl BranchState {
    /// Compares what the server says of the present transaction with the one that was begun.
    pub(super) fn same_transaction(&mut self, found: Identity) -> Result<(), DatabaseError> {
        let same = self.began.is_none_or(|known| known == found.began)
            && self.xid8.is_none_or(|known| found.xid8 == Some(known));
        if !same {
            return Err(another_transaction());
        }
        self.began = Some(found.began);
        self.xid8 = found.xid8;
        self.own_role = found.own_role;
        Ok(())
    }
}

impl PostgresSession {
    pub(super) fn new(hosted: Hosted, connector: Connector) -> Self {
        let Hosted { link, signs, token, server, facts, timeline, backend, version, own, standing, marks } =
            hosted;
        let clock = Arc::clone(&connector.seams.clock);
        Self {
            link,
            signs,
            token,
            server,
            timeline,
            backend,
            version,
            roles: own,
            standing,
            connector: Arc::new(connector),
            pending_begin: None,
            branch: BranchState::default(),
            facts,
            clean: true,
            tampered: false,
            may_have_prepared: false,
            listed: clock.now(),
            lists: false,
            marks,
            changes_within: true,
            clock,
            known: Known::default(),
            own: OwnStatements::default(),
            named: 0,
            unclosed: Vec::new(),
        }
    }

    /// Whether its server was the primary once, and is not any more.
    pub(super) fn leads_to_the_past(&self) -> bool {
        !self.connector.hosts.is_current(self.timeline)
    }

    /// The beginning of a trip of the branch: opens its transaction, if that is still to be done.
    pub(super) fn trip(&mut self) -> Result<Trip, Unsendable> {
        let mut trip = Trip::default();
        self.own.begin_trip();
        for name in &self.unclosed {
            trip.close_statement(name)?;
        }
        if let Some(opening) = &self.pending_begin {
            self.own.run(&mut trip, opening.begin, None)?;
            if let Some(timeouts) = opening.timeouts {
                self.own.run(&mut trip, own::settings(self.version), Some(&timeouts.milliseconds()))?;
            }
        }
        Ok(trip)
    }

    /// Sends a trip that `trip` began; reads what it says of the opening. True when it opened the transaction.
    pub(super) async fn send(&mut self, trip: Trip) -> Result<bool, DatabaseError> {
        let begins = self.pending_begin.is_some();
        if let Err(lost) = self.link.send(trip).await {
            self.pending_begin = None;
            return Err(failed(Command::Statement, lost.into()));
        }
        self.begun().await?;
        Ok(begins)
    }

    /// Reads what a trip that was sent says of the opening, if it opened the transaction.
    pub(super) async fn begun(&mut self) -> Result<(), DatabaseError> {
        let Some(opening) = self.pending_begin.take() else { return Ok(()) };
        self.branch.began = self.opened(&opening).await.map_err(not_begun)?;
        self.branch.opened = true;
        Ok(())
    }

    /// When it began, if it was asked.
    async fn opened(&mut self, opening: &Opening) -> Result<Option<i64>, Failed> {
        let (begun, _) = self.link.done().await?;
        if !begun.is("BEGIN") {
            return Err(self.link.give_up("the beginning of a transaction").into());
        }
        if opening.timeouts.is_none() {
            return Ok(None);
        }
        let (_, row) = self.link.done().await?;
        let began = row.as_ref().and_then(|row| {
            let [began] = own::values(row)?;
            Some(i64::from_be_bytes(began?.try_into().ok()?))
        });
        match began {
            Some(began) => Ok(Some(began)),
            None => Err(self.link.give_up("the beginning of a transaction").into()),
        }
    }
}

/// A transaction that could not be opened leaves nothing to go on with.
fn not_begun(error: Failed) -> DatabaseError {
    let error = failed(Command::Begin, error);
    match error.aftermath {
        Aftermath::Broken => error,
        Aftermath::Answered | Aftermath::Replaced => {
            DatabaseError { aftermath: Aftermath::Replaced, ..error }
        }
    }
}

/// An error after which the branch cannot go on, though the connection stands.
pub(super) fn branch_ends(message: String) -> DatabaseError {
    DatabaseError {
        policy: Policy::VoteNo,
        aftermath: Aftermath::Replaced,
        sqlstate: String::new(),
        message,
        retryable: false,
        sql: None,
    }
}

pub(super) fn another_transaction() -> DatabaseError {
    branch_ends(
        "a statement ended the branch's transaction and left another in its place; the branch cannot go on"
            .into(),
    )
}

#[async_trait]
impl Session for PostgresSession {
    async fn begin(&mut self, options: &BeginOptions) -> Result<(), DatabaseError> {
        let needed = Timeouts::behind(options.timeout);
        let served = self.standing.is_some_and(|standing| standing.serves(needed));
        // A READ ONLY transaction needs the snapshot, too, that they take.
        let timeouts = Some(needed).filter(|_| options.read_only || !served);
        let begin = own::begin(options.isolation, options.read_only);
        self.pending_begin = Some(Opening { begin, timeouts });
        let (read_only, resets_behind) = (options.read_only, timeouts.is_some());
        self.branch = BranchState { read_only, resets_behind, ..BranchState::default() };
        self.clean = false;
        Ok(())
    }

    async fn run(&mut self, statement: &Statement, sink: &mut dyn RowSink) -> Result<u64, DatabaseError> {
        self.run_statement(statement, sink).await
    }

    async fn prepare(&mut self, gid: &Gid, one_phase: bool) -> Preparation {
        self.prepare_branch(gid, one_phase).await
    }

    async fn work(&mut self, work: &Work, gid: &Gid, one_phase: bool, results: &mut Results) -> Worked {
        self.run_work(work, gid, one_phase, results).await
    }

    async fn ready(&mut self, gid: &Gid) -> Result<ServerFacts, DatabaseError> {
        self.ready_to_decide(gid).await
    }

    async fn decide(&mut self, deciding: &Deciding, results: &mut Results) -> Decided {
        self.decide_work(deciding, results).await
    }

    async fn commit_one_phase(&mut self) -> OnePhase {
        self.commit_ready().await
    }

    async fn roll_back(&mut self) -> Result<(), DatabaseError> {
        self.branch = BranchState::default();
        if self.pending_begin.take().is_some() {
            return Ok(());
        }
        self.link.batch("ROLLBACK").await.map_err(|error| failed(Command::Statement, error))
    }

    async fn reset(&mut self) -> Result<(), DatabaseError> {
        self.branch = BranchState::default();
        self.reset_session().await
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::new(CancelRequest {
            token: self.token.clone(),
            server: Arc::clone(&self.server),
            connector: Arc::clone(&self.connector),
        })
    }

    fn backend(&self) -> BackendId {
        self.backend.clone()
    }

    fn lost(&self) -> BoxFuture<()> {
        let mut closed = self.signs.closed();
        Box::pin(async move {
            // An error means that the session is gone, and the connection with it.
            let _ = closed.wait_for(|closed| *closed).await;
        })
    }

    fn is_lost(&self) -> bool {
        self.signs.is_closed() || self.leads_to_the_past()
    }
}

/// PostgreSQL's cancel request: a connection of its own that names the backend.
struct CancelRequest {
    token: CancelToken,
    server: Arc<Config>,
    connector: Arc<Connector>,
}

#[async_trait]
impl Canceller for CancelRequest {
    async fn cancel(&self) -> Result<(), DatabaseError> {
        self.connector.cancel(&self.server, &self.token).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_changed_or_vanished_is_noticed() {
        let mut branch = BranchState::default();
        let mut is_same = |began, xid8| branch.same_transaction(Identity { began, xid8, own_role: true });
        assert!(is_same(10, None).is_ok());
        assert!(is_same(10, Some(7)).is_ok());
        assert!(is_same(10, Some(7)).is_ok());
        for (began, xid8) in [(11, Some(7)), (10, Some(8)), (10, None)] {
            let error = is_same(began, xid8).unwrap_err();
            assert_eq!(error.aftermath, Aftermath::Replaced);
        }
    }
}
