//! Opens the connections of hosted sessions, and cancels what runs on them.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{CancelToken, Config};

use super::connect::Connector;
use super::hosts::{Reached, Timeline};
use super::listing::{FACTS, facts};
use super::marker::USABLE;
use super::own::texts;
use super::timeouts::{STANDING, Timeouts, may_be_for_settings};
use super::wire::{self, Link, NotOpened, Opened, Signs};
use super::{failure, policy};
use crate::database::{Aftermath, BackendId, Command, DatabaseError, Policy, ServerFacts};

/// Which server process it is, whether it takes writes, as which roles, its default timeouts, whether there is a
/// place for commit markers, and which server it is.
fn opening_question() -> String {
    format!(
        "SELECT pid, (pg_catalog.date_part('epoch', backend_start) * 1000000)::bigint, \
         pg_catalog.current_setting('transaction_read_only'), current_user, session_user, \
         {STANDING}, {USABLE}, {FACTS} \
         FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()"
    )
}

/// As whom the agent works. They differ where its role has a default for `role`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roles {
    /// What it prepares belongs to this one.
    pub(super) current: String,
    pub(super) session: String,
}

/// An open connection for hosted branches.
pub(super) struct Hosted {
    pub(super) link: Link,
    pub(super) signs: Arc<Signs>,
    /// Names the server process to itself.
    pub(super) token: CancelToken,
    /// The server to which it leads.
    pub(super) server: Arc<Config>,
    pub(super) facts: ServerFacts,
    pub(super) timeline: Timeline,
    pub(super) backend: BackendId,
    /// The server's major version; 0 when it did not say.
    pub(super) version: u32,
    pub(super) own: Roles,
    /// The timeouts that a transaction has without being given any; `None` when they are not all the same.
    pub(super) standing: Option<Timeouts>,
    /// The database has a place for commit markers.
    pub(super) marks: bool,
}

impl Connector {
    /// Sends a cancel request, which is a connection of its own, to the server that the connection leads to.
    pub(super) async fn cancel(&self, server: &Config, token: &CancelToken) -> Result<(), DatabaseError> {
        let clock = &*self.seams.clock;
        wire::cancel(server, self.tls.as_ref(), clock, token).await.map_err(|why| not_opened(&why))
    }

    /// Opens a connection for hosted branches, most of which will need these timeouts.
    pub(super) async fn connect_hosted(&self, timeouts: Option<Timeouts>) -> Result<Hosted, DatabaseError> {
        let Reached { opened, timeline } = self
            .hosts
            .reach(&*self.seams.clock, |server| {
                Box::pin(async move {
                    let hosted = self.open_hosted(server, timeouts).await?;
                    let facts = hosted.facts;
                    Ok((hosted, Some(facts)))
                })
            })
            .await?;
        Ok(Hosted { timeline, ..opened })
    }

    async fn open_hosted(
        &self,
        server: Arc<Config>,
        timeouts: Option<Timeouts>,
    ) -> Result<Hosted, DatabaseError> {
        let opened = self.open_with(&server, timeouts).await.map_err(|why| not_opened(&why))?;
        let version = self.shown.version(&opened.server_version);
        let token = opened.token.clone();
        let signs = Signs::new(self.breaks.clone());
        let mut link = Link::new(opened, Arc::clone(&signs), &self.seams);
        let row =
            link.ask(&opening_question()).await.map_err(|error| super::failed(Command::Connect, error))?;
        let read = row.as_ref().and_then(texts::<10>).and_then(
            |[pid, started, read_only, current, session, standing, marks, system, in_recovery, wal_file]| {
                // As the other connections send it back: a number of microseconds.
                let started: i64 = started?.parse().ok()?;
                let backend = BackendId { pid: pid?.parse().ok()?, started: started.to_string() };
                let own = Roles { current: current?.to_owned(), session: session?.to_owned() };
                let marks = marks == Some("t");
                let facts = facts([system, in_recovery, wal_file])?;
                Some((backend, read_only? == "on", own, standing.and_then(Timeouts::read), marks, facts))
            },
        );
        let (backend, read_only, own, standing, marks, facts) =
            read.ok_or_else(|| super::unexpected(Command::Connect, "no row of pg_stat_activity is our own"))?;
        refuse_other_servers(&server, read_only)?;
        let timeline = Timeline::default();
        Ok(Hosted { link, signs, token, server, facts, timeline, backend, version, own, standing, marks })
    }

    async fn open_with(&self, server: &Config, timeouts: Option<Timeouts>) -> Result<Opened, NotOpened> {
        let open = async |config: &Config| wire::open(config, self.tls.as_ref(), &*self.seams.clock).await;
        if let Some(options) = timeouts.and_then(|timeouts| self.shown.options(server, timeouts)) {
            let mut config = server.clone();
            config.options(options);
            match open(&config).await {
                Err(NotOpened::Driver(error)) if may_be_for_settings(&error) => {
                    let opened = open(server).await?;
                    self.shown.refused_settings();
                    return Ok(opened);
                }
                opened => return opened,
            }
        }
        open(server).await
    }
}

/// Holds a server against what the connection string asks for with `target_session_attrs`.
fn refuse_other_servers(server: &Config, read_only: bool) -> Result<(), DatabaseError> {
    let wanted = server.get_target_session_attrs();
    let what = match read_only {
        true if wanted == TargetSessionAttrs::ReadWrite => "does not allow writes",
        false if wanted == TargetSessionAttrs::ReadOnly => "is not read only",
        true | false => return Ok(()),
    };
    Err(broken(
        format!("the database {what}, as target_session_attrs asks"),
        policy::policy(Command::Connect, ""),
    ))
}

/// The limit passed while a connection was being opened.
pub(super) fn no_answer(limit: Duration) -> DatabaseError {
    broken(format!("the server did not let us in within {} s", limit.as_secs()), Policy::Retry)
}

fn broken(message: String, policy: Policy) -> DatabaseError {
    DatabaseError {
        policy,
        aftermath: Aftermath::Broken,
        sqlstate: String::new(),
        message,
        retryable: true,
        sql: None,
    }
}

/// Why no connection was had, in the agent's words.
fn not_opened(why: &NotOpened) -> DatabaseError {
    let message = match why {
        NotOpened::Driver(error) => return failure(Command::Connect, error),
        NotOpened::Socket(error) => format!("error connecting to server: {error}"),
        NotOpened::Tls(error) => format!("error performing TLS handshake: {error}"),
        NotOpened::NotHandedOver => "the server went on speaking after it had said that it was ready".into(),
    };
    broken(message, policy::policy(Command::Connect, ""))
}
