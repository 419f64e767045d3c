//! The agent's interface to a simulated database.

use std::sync::Arc;

use async_trait::async_trait;
use votum_participant::database::{
    Aftermath, BackendId, BeginOptions, Canceller, Command, Condition, Database, DatabaseError,
    DatabaseListing, Found, FoundAttached, Gate, Kept, MayEnd, OnePhase, Policy, Preparation,
    PreparedAttached, RowSink, ServerFacts, Session, Statement, Stood, XidOutcome,
};
use votum_proto::names::{CoordinatorId, Gid, ParticipantName};
use votum_proto::runtime::BoxFuture;
use votum_proto::v1;

use super::commands::{self, Done};
use super::connection::{Connection, Host, ROLE, SqlError, end_backend};
use super::one_phase;
use super::statement::Doing;

/// A database behind an agent.
pub struct Behind(pub Arc<Host>);

fn low_half(xid: u64) -> u32 {
    (xid & u64::from(u32::MAX)) as u32
}

impl Behind {
    async fn connect(&self) -> Result<Connection, DatabaseError> {
        Connection::open(&self.0).await.map_err(|error| error.into_database_error(Command::Connect))
    }

    /// A connection of an application's own.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn application(&self) -> Result<Box<dyn Session>, DatabaseError> {
        Ok(Box::new(SimulatedSession::new(self.connect().await?, false)))
    }

    async fn end_prepared(&self, gid: &Gid, gate: &dyn Gate, commit: bool) -> Result<bool, DatabaseError> {
        let connection = self.connect().await?;
        if !gate.enter() {
            return Ok(false);
        }
        let (host, pid, gid) = (Arc::clone(&self.0), connection.pid, gid.to_string());
        let done = connection
            .call(async move { commands::end_prepared(host, Some(pid), gid, commit, ROLE).await })
            .await;
        let command = if commit { Command::CommitPrepared } else { Command::RollbackPrepared };
        done.map(|()| true).map_err(|error| error.into_database_error(command))
    }
}

#[async_trait]
impl Database for Behind {
    fn name(&self) -> &ParticipantName {
        &self.0.name
    }

    fn attached_roles(&self) -> &[String] {
        &[]
    }

    async fn open_session(&self, _: Option<std::time::Duration>) -> Result<Box<dyn Session>, DatabaseError> {
        let connection = self.connect().await?;
        Ok(Box::new(SimulatedSession::new(connection, true)))
    }

    async fn commit_prepared(
        &self,
        gid: &Gid,
        _: Option<&str>,
        gate: &dyn Gate,
    ) -> Result<bool, DatabaseError> {
        self.end_prepared(gid, gate, true).await
    }

    async fn rollback_prepared(
        &self,
        gid: &Gid,
        _: Option<&str>,
        gate: &dyn Gate,
    ) -> Result<bool, DatabaseError> {
        self.end_prepared(gid, gate, false).await
    }

    async fn find(&self, gid: &Gid) -> Result<Found, DatabaseError> {
        let connection = self.connect().await?;
        let (host, gid) = (Arc::clone(&self.0), gid.to_string());
        let found = connection.call(async move {
            host.work().await;
            let found = host.server().state.prepared.get(&gid).cloned();
            let ours = found.as_ref().is_some_and(|(_, prepared)| prepared.owner == ROLE);
            let (xid, facts) = (found.map(|(xid, _)| low_half(xid)), commands::facts(&host));
            Ok(Found { xid, ours, owner: None, facts })
        });
        found.await.map_err(|error| error.into_database_error(Command::Listing))
    }

    async fn find_attached(&self, gids: &[Gid]) -> Result<FoundAttached, DatabaseError> {
        let connection = self.connect().await?;
        let (host, gids) = (Arc::clone(&self.0), gids.to_vec());
        let found = connection.call(async move {
            host.work().await;
            let facts = commands::facts(&host);
            let server = host.server();
            let row = |gid: &Gid| {
                let (xid8, prepared) = server.state.prepared.get(&gid.to_string())?;
                let may_end = if prepared.owner == ROLE { MayEnd::Yes } else { MayEnd::Undeclared };
                let (owner, database) = (prepared.owner.clone(), "bank".to_owned());
                Some(PreparedAttached { gid: gid.clone(), xid8: *xid8, owner, database, may_end })
            };
            let prepared = gids.iter().filter_map(row).collect();
            Ok(FoundAttached { facts, database: "bank".into(), may_be_ahead_of_standbys: true, prepared })
        });
        found.await.map_err(|error| error.into_database_error(Command::Listing))
    }

    async fn is_being_ended(&self, gid: &Gid) -> Result<bool, DatabaseError> {
        let connection = self.connect().await?;
        let (host, gid) = (Arc::clone(&self.0), gid.to_string());
        let ended = connection.call(async move {
            host.work().await;
            let server = host.server();
            let at_it = server.backends.values().any(|backend| backend.ends.as_ref() == Some(&gid));
            Ok(at_it)
        });
        ended.await.map_err(|error| error.into_database_error(Command::Listing))
    }

    async fn outcome(&self, gid: &Gid, xid8: u64) -> Result<XidOutcome, DatabaseError> {
        let connection = self.connect().await?;
        let (host, gid) = (Arc::clone(&self.0), gid.to_string());
        let outcome = connection.call(async move {
            host.work().await;
            Ok(XidOutcome {
                status: commands::status(&host, xid8),
                marker: commands::marker(&host, &gid),
                facts: commands::facts(&host),
            })
        });
        outcome.await.map_err(|error| error.into_database_error(Command::OutcomeQuery))
    }

    async fn settle(&self, gid: &Gid) -> Result<XidOutcome, DatabaseError> {
        let connection = self.connect().await?;
        let (host, gid) = (Arc::clone(&self.0), gid.to_string());
        let settled = connection.call(async move {
            one_phase::settle(Arc::clone(&host), gid.clone()).await?;
            Ok(XidOutcome {
                status: v1::gone::XidStatus::NotAsked,
                marker: commands::marker(&host, &gid),
                facts: commands::facts(&host),
            })
        });
        settled.await.map_err(|error| error.into_database_error(Command::Settle))
    }

    async fn confirm(&self) -> Result<(), DatabaseError> {
        let connection = self.connect().await?;
        let confirmed = connection.call(commands::confirm(Arc::clone(&self.0)));
        confirmed.await.map_err(|error| error.into_database_error(Command::OutcomeQuery))
    }

    async fn list(&self, _details: bool) -> Result<DatabaseListing, DatabaseError> {
        let connection = self.connect().await?;
        let host = Arc::clone(&self.0);
        let listing = connection.call(async move {
            host.work().await;
            let fails =
                !host.is_calm() && host.random.draw(|random| random.chance(host.manners.listing_fails));
            if fails {
                return Err(SqlError::new("57014", "canceling statement due to statement timeout"));
            }
            let now = host.executor.now();
            let facts = commands::facts(&host);
            let mut server = host.server();
            server.listings += 1;
            let prepared = server
                .state
                .prepared
                .iter()
                .map(|(gid, (xid, prepared))| v1::PreparedTransaction {
                    gid: gid.clone(),
                    xid: low_half(*xid),
                    owner: prepared.owner.clone(),
                    database: "bank".into(),
                    age_ms: u64::try_from(now.saturating_sub(prepared.at).as_millis()).unwrap_or(0),
                    ..Default::default()
                })
                .collect();
            let can_decide = server.markers;
            Ok(DatabaseListing { facts, role: ROLE.into(), database: "bank".into(), can_decide, prepared })
        });
        listing.await.map_err(|error| error.into_database_error(Command::Listing))
    }

    async fn keep(&self, _: &CoordinatorId, kept: &Kept) -> Result<Stood, DatabaseError> {
        // Where no administrator has made a place for it, the agents' memories are all there is.
        if self.0.server().row == Stood::Nowhere {
            return Ok(Stood::Nowhere);
        }
        let connection = self.connect().await?;
        let (host, kept) = (Arc::clone(&self.0), *kept);
        let stood = connection.call(async move {
            host.work().await;
            Ok(host.server().keep(kept))
        });
        stood.await.map_err(|error| error.into_database_error(Command::Listing))
    }

    async fn end_backend(&self, backend: &BackendId) -> Result<bool, DatabaseError> {
        let connection = self.connect().await?;
        let (host, pid, started) = (Arc::clone(&self.0), backend.pid, backend.started.clone());
        let same_life = connection.started() == started;
        let ended = connection.call(async move {
            host.work().await;
            if !same_life {
                return Ok(true);
            }
            let gone = {
                let mut server = host.server();
                match server.backends.get_mut(&pid) {
                    None => true,
                    Some(backend) if backend.busy => {
                        backend.terminated = true;
                        false
                    }
                    Some(_) => {
                        end_backend(&mut server, pid);
                        true
                    }
                }
            };
            host.stir();
            Ok(gone)
        });
        ended.await.map_err(|error| error.into_database_error(Command::Connect))
    }

    fn next_break(&self) -> BoxFuture<()> {
        let mut breaks = self.0.breaks.subscribe();
        Box::pin(async move {
            let _ = breaks.changed().await;
        })
    }

    async fn condition(&self) -> Result<Condition, DatabaseError> {
        Ok(Condition::default())
    }
}

struct SimulatedSession {
    connection: Connection,
    /// Its branches bear commit markers where the database keeps them: an agent's.
    marks: bool,
    /// A transaction that opens with its first statement.
    begin: Option<bool>,
    limit: std::time::Duration,
}

impl SimulatedSession {
    fn new(connection: Connection, marks: bool) -> Self {
        Self { connection, marks, begin: None, limit: std::time::Duration::ZERO }
    }
}

struct CancelRequest(Arc<Host>, i32);

#[async_trait]
impl Canceller for CancelRequest {
    async fn cancel(&self) -> Result<(), DatabaseError> {
        self.0.travel().await;
        if let Some(backend) = self.0.server().backends.get_mut(&self.1)
            && backend.busy
        {
            backend.cancelled = true;
        }
        self.0.stir();
        Ok(())
    }
}

#[async_trait]
impl Session for SimulatedSession {
    async fn begin(&mut self, options: &BeginOptions) -> Result<(), DatabaseError> {
        self.begin = Some(options.read_only);
        self.limit = options.timeout.saturating_add(std::time::Duration::from_secs(5));
        Ok(())
    }

    async fn run(&mut self, statement: &Statement, sink: &mut dyn RowSink) -> Result<u64, DatabaseError> {
        let failed = |error: SqlError| error.into_database_error(Command::Statement);
        let Some(doing) = Doing::parse(&statement.text) else {
            return Err(failed(SqlError::new("42601", "syntax error")));
        };
        let (host, pid, limit) = (Arc::clone(&self.connection.host), self.connection.pid, self.limit);
        let begin = self.begin.take();
        let ran = self.connection.call(async move {
            if let Some(read_only) = begin {
                commands::begin(&host, pid, read_only)?;
            }
            commands::run(host, pid, doing, limit).await
        });
        let (rows, value) = ran.await.map_err(failed)?;
        if let Some(value) = value {
            sink.columns(vec![v1::Column { name: "balance".into(), type_oid: 20, type_name: "int8".into() }])
                .await;
            let value = v1::Value { kind: Some(v1::value::Kind::Int64(value)) };
            sink.row(v1::Row { values: vec![value] }).await;
        } else {
            sink.columns(Vec::new()).await;
        }
        Ok(rows)
    }

    async fn prepare(&mut self, gid: &Gid, one_phase: bool) -> Preparation {
        let (host, pid, gid) = (Arc::clone(&self.connection.host), self.connection.pid, gid.to_string());
        let marks = self.marks;
        let prepared = self.connection.call(async move {
            let done = commands::prepare(Arc::clone(&host), pid, gid, one_phase, marks).await?;
            Ok((done, commands::facts(&host)))
        });
        let marker = marks && self.connection.host.server().markers;
        match prepared.await {
            Ok((Done::ReadOnly, _)) => Preparation::ReadOnly,
            Ok((Done::Ready(xid8), facts)) => Preparation::Ready { xid8, facts },
            Ok((Done::Prepared { xid8, unreplicated: false }, facts)) => {
                Preparation::Prepared { xid8, facts, marker }
            }
            Ok((Done::Prepared { unreplicated: true, .. }, _)) => {
                let warning = SqlError::new("01000", "canceling wait for synchronous replication");
                Preparation::Unsound(warning.into_database_error(Command::Prepare))
            }
            Err(error) => {
                let error = error.into_database_error(Command::Prepare);
                match (error.policy, error.aftermath) {
                    (Policy::Verify, _) | (_, Aftermath::Broken) => Preparation::Unknown(error),
                    (_, Aftermath::Answered | Aftermath::Replaced) => Preparation::Refused(error),
                }
            }
        }
    }

    async fn ready(&mut self, gid: &Gid) -> Result<ServerFacts, DatabaseError> {
        let (host, pid, gid) = (Arc::clone(&self.connection.host), self.connection.pid, gid.to_string());
        let ready = self.connection.call(async move {
            commands::ready_to_decide(&host, pid, &gid).await?;
            Ok(commands::facts(&host))
        });
        ready.await.map_err(|error| error.into_database_error(Command::CommitOnePhase))
    }

    async fn commit_one_phase(&mut self) -> OnePhase {
        let (host, pid) = (Arc::clone(&self.connection.host), self.connection.pid);
        let committed = self.connection.call(one_phase::commit(host, pid)).await;
        let failed = |error: SqlError| error.into_database_error(Command::CommitOnePhase);
        match committed {
            Ok(false) => OnePhase::Committed,
            Ok(true) => OnePhase::Unknown(failed(SqlError::new(
                "01000",
                "canceling wait for synchronous replication",
            ))),
            Err(error) => {
                let error = failed(error);
                let refused = error.policy == Policy::VoteNo && !error.broken();
                if refused { OnePhase::Refused(error) } else { OnePhase::Unknown(error) }
            }
        }
    }

    async fn roll_back(&mut self) -> Result<(), DatabaseError> {
        if self.begin.take().is_some() {
            return Ok(());
        }
        let (host, pid) = (Arc::clone(&self.connection.host), self.connection.pid);
        let rolled_back = self.connection.call(async move {
            host.server().abort(pid);
            host.stir();
            Ok(())
        });
        rolled_back.await.map_err(|error| error.into_database_error(Command::Statement))
    }

    async fn reset(&mut self) -> Result<(), DatabaseError> {
        let reset = self.connection.call(async { Ok(()) });
        reset.await.map_err(|error| error.into_database_error(Command::Statement))
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::new(CancelRequest(Arc::clone(&self.connection.host), self.connection.pid))
    }

    fn backend(&self) -> BackendId {
        BackendId { pid: self.connection.pid, started: self.connection.started() }
    }

    fn lost(&self) -> BoxFuture<()> {
        Box::pin(self.connection.lost())
    }

    fn is_lost(&self) -> bool {
        self.connection.is_lost()
    }
}
