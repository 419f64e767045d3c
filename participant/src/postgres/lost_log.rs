//! What databases alone hold of a coordinator's transactions, for when its log is gone for good; and the ending
//! of what is prepared there, past coordinator and agent.
//!
//! Nothing is concluded here. Who reads lists what is prepared first and asks for the markers after that, in a
//! later statement: what is committed in between is then listed, or has its marker, and never neither.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tokio_postgres::SimpleQueryRow;
use votum_proto::names::{BranchNumber, CoordinatorId, Gtid, ParticipantName};
use votum_proto::runtime::Seams;

use super::commands::Postgres;
use super::connect::Connector;
use super::listing::{FACTS, parse_facts};
use super::{connection, failure, first_row, rows, unexpected};
use crate::config::{AgentConfig, ConfigProblem, ParticipantConfig};
use crate::database::{Aftermath, Command, DatabaseError, ServerFacts};

mod ending;

pub(super) use ending::MAY_END;
pub use ending::{Action, MayEnd, Settled, statement};

/// How the tool's own sessions begin their names.
const OWN_NAME: &str = "votumctl lost-log";
/// How agents' sessions begin theirs (see `connect`).
const AGENTS_NAME: &str = "votum-participant ";
/// How many transactions are asked about in one statement.
const AT_ONCE: usize = 500;

/// The database of one participant, as its agent's configuration has it.
pub struct Place {
    /// The participant.
    pub participant: ParticipantName,
    /// The configuration that it stands in, for people.
    pub file: String,
    /// Where its server is: `HOST:PORT`, or a directory with a socket.
    pub address: String,
    /// Which database.
    pub database: String,
    configured: ParticipantConfig,
    connector: Connector,
    run: Run,
    postgres: Postgres,
}

/// Which database it is, however it is reached: a server by the moment at which it was started, since clones
/// share a system identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The server's system identifier.
    pub system_identifier: u64,
    /// When the server was started, in its own notation.
    pub started: String,
    /// The database's name there.
    pub database: String,
}

/// One prepared transaction whose name begins as the coordinator's do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedSeen {
    /// Its name.
    pub gid: String,
    /// The low 32 bits of its transaction id.
    pub xid: u32,
    /// Whose; `None` where the role was dropped.
    pub owner: Option<String>,
    /// In which database of the server.
    pub database: String,
    /// When it was prepared, by the server's clock, in UTC.
    pub prepared_at: String,
    /// For how long it has been prepared, in milliseconds.
    pub age_ms: u64,
    /// The agent's role owns it, or one that is declared for attached work.
    pub owner_is_ours: bool,
    /// Whether the agent's role may end it.
    pub may_end: MayEnd,
}

/// A session of an agent, or of another `votumctl lost-log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSeen {
    /// Its server process.
    pub pid: i32,
    /// What it calls itself.
    pub application_name: String,
}

/// What was found prepared.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Which database it is.
    pub identity: Identity,
    /// The server.
    pub facts: ServerFacts,
    /// Of the whole server, oldest first.
    pub prepared: Vec<PreparedSeen>,
    /// Sessions in this database that may change what is prepared.
    pub sessions: Vec<SessionSeen>,
}

/// A commit marker: how one branch ended, or cannot end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkerSeen {
    /// Of which transaction.
    pub gtid: Gtid,
    /// Of which branch.
    pub branch: BranchNumber,
    /// The branch's transaction committed; otherwise it never can.
    pub committed: bool,
}

/// The commit markers of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Markers {
    /// There is no table for them.
    NoTable,
    /// The role may not read them.
    Denied,
    /// Those of the transactions that were asked about.
    Read(Vec<MarkerSeen>),
}

/// What all sessions of one run of the tool call themselves: so that two runs see each other, and none takes
/// itself for an agent.
#[derive(Debug, Clone)]
pub struct Run(String);

impl Run {
    /// A new one.
    pub fn new(seams: &Seams) -> Self {
        Self(format!("{OWN_NAME} {:016x}", seams.entropy.bits()))
    }
}

/// The databases of one agent's configuration, which `file` names to people. Connects to none yet.
///
/// # Errors
/// When a connection string, a password's source or certificates cannot be used.
pub fn places(
    config: &AgentConfig,
    file: &str,
    run: &Run,
    seams: &Seams,
) -> Result<Vec<Place>, ConfigProblem> {
    config
        .resolved_participants()
        .iter()
        .map(|participant| {
            let named = |problem: ConfigProblem| {
                ConfigProblem(format!("participant {}: {}", participant.name, problem.0))
            };
            Place::new(participant, file, run, seams).map_err(named)
        })
        .collect()
}

impl Place {
    fn new(
        participant: &ParticipantConfig,
        file: &str,
        run: &Run,
        seams: &Seams,
    ) -> Result<Self, ConfigProblem> {
        let read = connection::read(participant)?;
        let mut connector = Connector::new(participant, seams.clone())?;
        connector.hosts.call(&run.0);
        Ok(Self {
            participant: participant.name.clone(),
            file: file.to_owned(),
            address: connection::address(&read),
            database: read.get_dbname().unwrap_or_default().to_owned(),
            configured: participant.clone(),
            run: run.clone(),
            postgres: Postgres::over(participant, connector.clone(), 1),
            connector,
        })
    }

    /// Lists what is prepared under the names of `coordinator`, or of one transaction of it.
    ///
    /// # Errors
    /// When the server cannot be asked, or is a standby: then nothing is known of this database.
    pub async fn list(
        &self,
        coordinator: &CoordinatorId,
        only: Option<&Gtid>,
    ) -> Result<Listed, DatabaseError> {
        let listing = prepared_query(&prefix(coordinator, only));
        let sessions = format!(
            "SELECT pid, application_name FROM pg_catalog.pg_stat_activity \
             WHERE datname = pg_catalog.current_database() AND application_name <> '{}' \
             AND (application_name LIKE '{AGENTS_NAME}%' OR application_name LIKE '{OWN_NAME}%') ORDER BY pid",
            self.run.0
        );
        let (listed, sessions) = self
            .postgres
            .ask(async |connection| {
                let failed = |error| failure(Command::Listing, &error);
                let listed = connection.client.simple_query(&listing).await.map_err(failed)?;
                Ok((listed, connection.client.simple_query(&sessions).await.map_err(failed)?))
            })
            .await?;
        let unreadable = || unexpected(Command::Listing, "a row of pg_prepared_xacts");
        let first = first_row(&listed).ok_or_else(unreadable)?;
        let (facts, identity) = parse_server(first).ok_or_else(unreadable)?;
        if facts.in_recovery {
            return Err(standby());
        }
        let role = first.get(ROLE_COLUMN).unwrap_or_default();
        let mut prepared = Vec::new();
        for row in rows(&listed).filter(|row| row.get(ROLE_COLUMN + 1).is_some()) {
            let mut seen = parse_prepared(row).ok_or_else(unreadable)?;
            seen.owner_is_ours = seen
                .owner
                .as_ref()
                .is_some_and(|owner| owner == role || self.configured.attached_roles.contains(owner));
            prepared.push(seen);
        }
        let session = |row: &SimpleQueryRow| {
            Some(SessionSeen { pid: row.get(0)?.parse().ok()?, application_name: row.get(1)?.to_owned() })
        };
        let sessions = rows(&sessions).map(session).collect::<Option<_>>().ok_or_else(unreadable)?;
        Ok(Listed { identity, facts, prepared, sessions })
    }

    /// Reads the commit markers of these transactions: after every listing that they are held against.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn markers(&self, of: &BTreeSet<Gtid>) -> Result<Markers, DatabaseError> {
        let failed = |error| failure(Command::Listing, &error);
        let place = format!("SELECT {MARKER_PLACE}");
        let place = self
            .postgres
            .ask(async |connection| connection.client.simple_query(&place).await.map_err(failed))
            .await?;
        match first_row(&place).and_then(|row| row.get(0)) {
            None => return Ok(Markers::NoTable),
            Some("t") => {}
            Some(_) => return Ok(Markers::Denied),
        }
        let mut found = Vec::new();
        let all: Vec<&Gtid> = of.iter().collect();
        for some in all.chunks(AT_ONCE) {
            let query = marker_query(some);
            let answer = self
                .postgres
                .ask(async |connection| connection.client.simple_query(&query).await.map_err(failed))
                .await?;
            for row in rows(&answer) {
                let read = parse_marker(row, some);
                found.push(read.ok_or_else(|| unexpected(Command::Listing, "a row of votum.marker"))?);
            }
        }
        Ok(Markers::Read(found))
    }
}

fn standby() -> DatabaseError {
    DatabaseError {
        policy: crate::database::Policy::Refuse,
        aftermath: Aftermath::Answered,
        sqlstate: String::new(),
        message: "the server is in recovery: it is a standby, or still replaying, and does not show what is \
                  prepared. Point the agent's configuration at the primary, or wait"
            .into(),
        retryable: true,
        sql: None,
    }
}

/// How the names of its branches begin.
fn prefix(coordinator: &CoordinatorId, only: Option<&Gtid>) -> String {
    match only {
        None => format!("votum_{coordinator}_"),
        Some(Gtid { coordinator_id, life, seq }) => {
            format!("votum_{coordinator_id}_{}_{}_{seq}_", life.epoch, life.incarnation)
        }
    }
}

/// Behind the three columns of [`FACTS`] and the three of an identity's rest.
const ROLE_COLUMN: usize = 5;

fn prepared_query(prefix: &str) -> String {
    format!(
        "SELECT {FACTS}, pg_catalog.pg_postmaster_start_time(), pg_catalog.current_database(), current_user, \
         p.gid, p.transaction, p.owner, p.database, \
         pg_catalog.to_char(p.prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
         GREATEST(0, (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared) * 1000))::bigint, \
         {} FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_prepared_xacts p \
         ON pg_catalog.left(p.gid, {}) = '{prefix}' ORDER BY p.prepared, p.gid",
        MAY_END,
        prefix.len()
    )
}

fn parse_server(row: &SimpleQueryRow) -> Option<(ServerFacts, Identity)> {
    let facts = parse_facts(row, 0)?;
    let identity = Identity {
        system_identifier: facts.system_identifier,
        started: row.get(3)?.to_owned(),
        database: row.get(4)?.to_owned(),
    };
    Some((facts, identity))
}

fn parse_prepared(row: &SimpleQueryRow) -> Option<PreparedSeen> {
    let text = |column: usize| row.get(ROLE_COLUMN + column);
    Some(PreparedSeen {
        gid: text(1)?.to_owned(),
        xid: text(2)?.parse().ok()?,
        owner: text(3).map(str::to_owned),
        database: text(4)?.to_owned(),
        prepared_at: text(5)?.to_owned(),
        age_ms: text(6)?.parse().ok()?,
        owner_is_ours: false,
        may_end: MayEnd::read(row.get(ROLE_COLUMN)?, text(7)?)?,
    })
}

/// Whether this role may read the markers; null where there is no table.
const MARKER_PLACE: &str = "(SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
     AND pg_catalog.has_table_privilege(c.oid, 'SELECT') FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = 'votum' AND c.relname = 'marker')";

/// The markers of these transactions, of one coordinator.
fn marker_query(of: &[&Gtid]) -> String {
    let mut values = String::new();
    for (place, Gtid { coordinator_id, life, seq }) in of.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let _ = write!(
            values,
            "{comma}({place}, '{coordinator_id}', {}, {}, {seq})",
            life.epoch,
            life.incarnation.get()
        );
    }
    format!(
        "SELECT asked.place, m.branch, m.committed \
         FROM (VALUES {values}) AS asked (place, coordinator_id, epoch, incarnation, seq) \
         JOIN votum.marker m ON (m.coordinator_id, m.epoch, m.incarnation, m.seq) \
         = (asked.coordinator_id, asked.epoch, asked.incarnation, asked.seq) ORDER BY 1, 2"
    )
}

fn parse_marker(row: &SimpleQueryRow, asked: &[&Gtid]) -> Option<MarkerSeen> {
    let place: usize = row.get(0)?.parse().ok()?;
    Some(MarkerSeen {
        gtid: (*asked.get(place)?).clone(),
        branch: row.get(1)?.parse().ok()?,
        committed: row.get(2)? == "t",
    })
}
