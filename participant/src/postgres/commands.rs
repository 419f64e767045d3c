//! What the agent asks of the database on connections of its own: phase 2, listings, verification.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use votum_proto::names::{CoordinatorId, Epoch, Gid, ParticipantName};
use votum_proto::runtime::{BoxFuture, Seams};
use votum_proto::v1::gone::{Marker, XidStatus};

use super::condition::condition;
use super::connect::{Connection, Connector};
use super::lanes::{Lane, Lanes};
use super::listing::{FACTS, being_ended_query, list, parse_facts};
use super::session::PostgresSession;
use super::timeouts::Timeouts;
use super::{failure, first_row, marker, one_phase, policy, unexpected, witness};
use crate::config::{ConfigProblem, ParticipantConfig};
use crate::database::{
    Aftermath, BackendId, Command, Condition, Database, DatabaseError, DatabaseListing, Found, FoundAttached,
    Gate, Kept, ServerFacts, Session, Stood, XidOutcome,
};

/// How many connections end what one role prepared that is declared for attached work, at most.
const AS_ONE_OWNER: usize = 2;
/// How long a question to the server may take.
pub(super) const QUESTION_LIMIT: Duration = Duration::from_secs(10);

/// A PostgreSQL database.
pub(super) struct Postgres {
    name: ParticipantName,
    attached_roles: Vec<String>,
    connector: Connector,
    lanes: Lanes,
    /// What each role that is declared for attached work prepared is ended as that role.
    as_owners: BTreeMap<String, (Connector, Lanes)>,
    /// For listings and the like: they are answered also when every lane waits for a standby.
    control: Lane,
}

/// How a command on a lane ended.
enum Ended {
    /// The gate refused it: it was not sent.
    Refused,
    /// Done, and as safe as the role's settings ask for.
    Replicated,
    /// Done, but its wait for a synchronous standby was cancelled.
    Alone,
}

/// Lets everything pass.
pub(super) struct Open;

impl Gate for Open {
    fn enter(&self) -> bool {
        true
    }
}

impl Postgres {
    pub(super) fn new(participant: &ParticipantConfig, seams: Seams) -> Result<Self, ConfigProblem> {
        let lanes = participant.phase2_connections.unwrap_or(4);
        Ok(Self::over(participant, Connector::new(participant, seams)?, lanes))
    }

    /// Reached through `connector`, with so many phase-2 connections.
    pub(super) fn over(participant: &ParticipantConfig, connector: Connector, lanes: usize) -> Self {
        let as_owner = |role: &String| {
            (role.clone(), (connector.taking_the_part_of(role), Lanes::new(lanes.min(AS_ONE_OWNER))))
        };
        Self {
            name: participant.name.clone(),
            attached_roles: participant.attached_roles.clone(),
            as_owners: participant.attached_roles.iter().map(as_owner).collect(),
            connector,
            lanes: Lanes::new(lanes),
            control: Lane::default(),
        }
    }

    pub(super) fn seams(&self) -> &Seams {
        self.connector.seams()
    }

    /// Runs `work` on the phase-2 connection that has least to do.
    async fn on_lane<T>(
        &self,
        work: impl AsyncFnOnce(Arc<Connection>) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        self.on_lane_as(None, work).await
    }

    /// The same as a declared role. Which it is was read from the server: of one that is declared no more, the agent's
    /// own role hears what it may not do.
    async fn on_lane_as<T>(
        &self,
        owner: Option<&str>,
        work: impl AsyncFnOnce(Arc<Connection>) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let own = || (&self.connector, &self.lanes);
        let as_owner = owner.and_then(|owner| self.as_owners.get(owner));
        let (connector, lanes) = as_owner.map_or_else(own, |(connector, lanes)| (connector, lanes));
        lanes.run(connector, work).await
    }

    /// Runs a question on the connection kept for questions, in bounded time.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Connection) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let asking = async {
            let connection = self.control.connection(&self.connector).await?;
            question(&connection).await
        };
        match self.connector.seams().clock.timeout(QUESTION_LIMIT, asking).await {
            Ok(answer) => answer,
            Err(_) => {
                self.control.abandon().await;
                Err(DatabaseError {
                    policy: policy::policy(Command::Listing, ""),
                    aftermath: Aftermath::Broken,
                    sqlstate: String::new(),
                    message: format!("the server gave no answer within {} s", QUESTION_LIMIT.as_secs()),
                    retryable: true,
                    sql: None,
                })
            }
        }
    }

    /// COMMIT PREPARED or ROLLBACK PREPARED: each must stand alone, outside of any transaction.
    async fn end_prepared(
        &self,
        command: Command,
        statement: &str,
        owner: Option<&str>,
        gate: &dyn Gate,
    ) -> Result<Ended, DatabaseError> {
        self.on_lane_as(owner, async |connection| {
            if !gate.enter() {
                return Ok(Ended::Refused);
            }
            let waits_cancelled = connection.unreplicated();
            connection.client.batch_execute(statement).await.map_err(|error| failure(command, &error))?;
            Ok(if connection.unreplicated() == waits_cancelled { Ended::Replicated } else { Ended::Alone })
        })
        .await
    }

    async fn facts(connection: &Connection) -> Result<ServerFacts, DatabaseError> {
        connection.learned.facts(&connection.client, Command::OutcomeQuery).await
    }
}

/// Reads what `pg_xact_status` answers.
fn read_status(text: Option<&str>) -> Option<XidStatus> {
    match text {
        None => Some(XidStatus::Forgotten),
        Some("committed") => Some(XidStatus::Committed),
        Some("aborted") => Some(XidStatus::Aborted),
        Some("in progress") => Some(XidStatus::InProgress),
        Some(_) => None,
    }
}

#[async_trait]
impl Database for Postgres {
    fn name(&self) -> &ParticipantName {
        &self.name
    }

    fn attached_roles(&self) -> &[String] {
        &self.attached_roles
    }

    async fn open_session(&self, limit: Option<Duration>) -> Result<Box<dyn Session>, DatabaseError> {
        let hosted = self.connector.connect_hosted(limit.map(Timeouts::behind)).await?;
        Ok(Box::new(PostgresSession::new(hosted, self.connector.clone())))
    }

    async fn commit_prepared(
        &self,
        gid: &Gid,
        owner: Option<&str>,
        gate: &dyn Gate,
    ) -> Result<bool, DatabaseError> {
        let statement = format!("COMMIT PREPARED '{gid}'");
        match self.end_prepared(Command::CommitPrepared, &statement, owner, gate).await? {
            Ended::Refused => Ok(false),
            Ended::Replicated => Ok(true),
            // Somebody cancelled the wait for the standby. The commit stands; wait for it again.
            Ended::Alone => self.confirm().await.map(|()| true),
        }
    }

    async fn rollback_prepared(
        &self,
        gid: &Gid,
        owner: Option<&str>,
        gate: &dyn Gate,
    ) -> Result<bool, DatabaseError> {
        let statement = format!("ROLLBACK PREPARED '{gid}'");
        match self.end_prepared(Command::RollbackPrepared, &statement, owner, gate).await? {
            Ended::Refused => Ok(false),
            Ended::Replicated | Ended::Alone => Ok(true),
        }
    }

    async fn find(&self, gid: &Gid) -> Result<Found, DatabaseError> {
        self.on_lane(async |connection| {
            connection.learned.find(&connection.client, gid, &self.attached_roles).await
        })
        .await
    }

    async fn find_attached(&self, gids: &[Gid]) -> Result<FoundAttached, DatabaseError> {
        self.ask(async |connection| {
            connection.learned.find_attached(&connection.client, gids, &self.attached_roles).await
        })
        .await
    }

    async fn is_being_ended(&self, gid: &Gid) -> Result<bool, DatabaseError> {
        self.ask(async |connection| {
            let answer = connection
                .client
                .simple_query(&being_ended_query(gid))
                .await
                .map_err(|error| failure(Command::Listing, &error))?;
            match first_row(&answer).and_then(|row| row.get(0)) {
                Some("t") => Ok(true),
                Some("f") => Ok(false),
                Some(_) | None => Err(unexpected(Command::Listing, "whether anybody is ending it")),
            }
        })
        .await
    }

    async fn outcome(&self, gid: &Gid, xid8: u64) -> Result<XidOutcome, DatabaseError> {
        self.on_lane(async |connection| {
            // Read first, for the case that the server answers the second question with an error alone. A
            // connection stays with one server, and a server that has left recovery does not go back.
            let before = Self::facts(&connection).await?;
            let marker = marker::ask(&connection.client, gid).await?;
            let query = format!("SELECT {FACTS}, pg_catalog.pg_xact_status('{xid8}'::pg_catalog.xid8)");
            let answer = match connection.client.simple_query(&query).await {
                Ok(answer) => answer,
                Err(error) => {
                    let error = failure(Command::OutcomeQuery, &error);
                    return match error.policy {
                        crate::database::Policy::Acknowledge => {
                            Ok(XidOutcome { status: XidStatus::NotReached, marker, facts: before })
                        }
                        crate::database::Policy::VoteNo
                        | crate::database::Policy::Verify
                        | crate::database::Policy::Retry
                        | crate::database::Policy::RetryWithAlarm
                        | crate::database::Policy::Refuse => Err(error),
                    };
                }
            };
            first_row(&answer)
                .and_then(|row| {
                    Some(XidOutcome { status: read_status(row.get(3))?, marker, facts: parse_facts(row, 0)? })
                })
                .ok_or_else(|| unexpected(Command::OutcomeQuery, "the status of a transaction id"))
        })
        .await
    }

    async fn outcomes(&self, branches: &[(Gid, u64)]) -> Result<Vec<XidOutcome>, DatabaseError> {
        if branches.is_empty() {
            return Ok(Vec::new());
        }
        let unreadable = || unexpected(Command::OutcomeQuery, "the status of transaction ids");
        let (facts, (statuses, markers)) = self
            .on_lane(async |connection| {
                let facts = Self::facts(&connection).await?;
                Ok((facts, marker::ask_many(&connection.client, branches).await?))
            })
            .await?;
        if [statuses.len(), markers.len()] != [branches.len(); 2] {
            return Err(unreadable());
        }
        // Ids are given out in order: where the lowest of these has not been, none has.
        let is_beyond = |status: &Option<String>| status.as_deref() == Some("beyond");
        let beyond = branches.iter().zip(&statuses).filter(|(_, status)| is_beyond(status));
        let none_reached = match beyond.map(|(branch, _)| branch).min_by_key(|(_, xid8)| *xid8) {
            Some((gid, xid8)) => self.outcome(gid, *xid8).await?.status == XidStatus::NotReached,
            None => false,
        };
        let mut outcomes = Vec::with_capacity(branches.len());
        for (((gid, xid8), status), said) in branches.iter().zip(&statuses).zip(&markers) {
            let marker = match said.as_deref() {
                None => Marker::Unspecified,
                Some("absent") => Marker::Absent,
                Some("committed") => Marker::Committed,
                Some(_) => Marker::Aborted,
            };
            outcomes.push(match status.as_deref() {
                Some("beyond") if none_reached => XidOutcome { status: XidStatus::NotReached, marker, facts },
                Some("beyond") => self.outcome(gid, *xid8).await?,
                text => XidOutcome { status: read_status(text).ok_or_else(unreadable)?, marker, facts },
            });
        }
        Ok(outcomes)
    }

    async fn settle(&self, gid: &Gid) -> Result<XidOutcome, DatabaseError> {
        self.on_lane(async |connection| {
            // A connection stays with one server, and a server that has left recovery does not go back.
            let facts = Self::facts(&connection).await?;
            let marker = one_phase::settle(&connection.client, gid).await?;
            if !self.connector.serves(&connection) {
                return Err(unexpected(Command::Settle, "a former primary's"));
            }
            Ok(XidOutcome { status: XidStatus::NotAsked, marker, facts })
        })
        .await
    }

    async fn prune_markers(
        &self,
        coordinator: &CoordinatorId,
        above: Epoch,
        below: (Epoch, u64),
    ) -> Result<u64, DatabaseError> {
        self.ask(async |connection| marker::prune(&connection.client, coordinator, above, below).await).await
    }

    async fn confirm(&self) -> Result<(), DatabaseError> {
        let statement = "SELECT pg_catalog.pg_logical_emit_message(true, 'votum', '')";
        match self.end_prepared(Command::CommitPrepared, statement, None, &Open).await? {
            Ended::Replicated => Ok(()),
            Ended::Refused | Ended::Alone => {
                let what = "the wait for a synchronous standby was cancelled again";
                Err(unexpected(Command::CommitPrepared, what))
            }
        }
    }

    async fn list(&self, details: bool) -> Result<DatabaseListing, DatabaseError> {
        self.ask(async |connection| list(&connection.client, details).await).await
    }

    async fn keep(&self, coordinator: &CoordinatorId, kept: &Kept) -> Result<Stood, DatabaseError> {
        self.ask(async |connection| witness::keep(&connection.client, coordinator, kept).await).await
    }

    async fn end_backend(&self, backend: &BackendId) -> Result<bool, DatabaseError> {
        let BackendId { pid, started } = backend;
        // One that cannot be compared proves nothing: it is not one that is gone.
        let started: i64 =
            started.parse().map_err(|_| unexpected(Command::Listing, "when a server process was started"))?;
        let query = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = {pid} \
             AND (pg_catalog.date_part('epoch', backend_start) * 1000000)::bigint = {started}"
        );
        self.ask(async |connection| {
            let answer = connection
                .client
                .simple_query(&query)
                .await
                .map_err(|error| failure(Command::Listing, &error))?;
            Ok(first_row(&answer).is_none())
        })
        .await
    }

    fn next_break(&self) -> BoxFuture<()> {
        self.connector.next_break()
    }

    async fn condition(&self) -> Result<Condition, DatabaseError> {
        self.ask(async |connection| condition(connection).await).await
    }
}
