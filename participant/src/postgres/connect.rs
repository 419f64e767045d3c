//! Opens the agent's own connections: their options, TLS, passwords, and a driver that watches for what the server says on
//! its own account.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::tls::{MakeTlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use votum_proto::runtime::{BoxFuture, Seams};

use super::hosts::{Hosts, Opening, Reached, Timeline};
use super::listing::{FACTS, parse_facts};
use super::lookup::Learned;
use super::timeouts::Shown;
use super::{failure, first_row, tls, unexpected};
use crate::config::{ConfigProblem, ParticipantConfig, Tls};
use crate::database::{Command, DatabaseError};

/// How long the whole of opening a connection may take, where there is one server to connect to.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Opens connections to one database.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) hosts: Hosts,
    pub(super) tls: Option<MakeRustlsConnect>,
    pub(super) seams: Seams,
    pub(super) breaks: watch::Sender<u64>,
    pub(super) shown: Arc<Shown>,
}

impl Connector {
    pub(super) fn new(participant: &ParticipantConfig, seams: Seams) -> Result<Self, ConfigProblem> {
        let mut config: Config = super::connection::read(participant)?;
        if let Some(password) = password(participant)? {
            config.password(password);
        }
        config.application_name(format!("votum-participant {}", participant.name));
        config.connect_timeout(Duration::from_secs(5));
        // A peer that is gone without a word is noticed within half a minute, not after two hours.
        config.keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(25));
        let tls = match participant.tls {
            Tls::Disable => {
                config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                None
            }
            Tls::Require | Tls::VerifyFull => {
                config.ssl_mode(tokio_postgres::config::SslMode::Require);
                Some(tls::connector(participant)?)
            }
        };
        let hosts = Hosts::new(&config);
        Ok(Self { hosts, tls, seams, breaks: watch::Sender::new(0), shown: Arc::default() })
    }

    pub(super) fn seams(&self) -> &Seams {
        &self.seams
    }

    /// Opens connections whose role is this one from their beginning.
    pub(super) fn taking_the_part_of(&self, role: &str) -> Self {
        let mut connector = self.clone();
        connector.hosts.take_the_part_of(&escaped(role));
        connector
    }

    /// Resolves at the next breaking of any connection opened here.
    pub(super) fn next_break(&self) -> BoxFuture<()> {
        let mut breaks = self.breaks.subscribe();
        Box::pin(async move {
            if breaks.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    /// Whether a connection stands, and leads to where connections lead now.
    pub(super) fn serves(&self, connection: &Connection) -> bool {
        !connection.is_lost() && self.hosts.is_current(connection.timeline)
    }

    pub(super) async fn connect(&self) -> Result<Connection, DatabaseError> {
        let Reached { opened, timeline } =
            self.hosts.reach(&*self.seams.clock, |config| Box::pin(self.connect_to(config))).await?;
        Ok(Connection { timeline, ..opened })
    }

    /// Opens a connection to one server, and asks who it is: COMMIT PREPARED names a branch, and not the system
    /// that it is in. Where there are others it has to say so. The only one may be a standby, or unable to say:
    /// what it shows is judged with every answer.
    async fn connect_to(&self, config: Arc<Config>) -> Opening<Connection> {
        let connection = match &self.tls {
            None => Box::pin(self.connect_over(&config, NoTls)).await?,
            Some(tls) => Box::pin(self.connect_over(&config, tls.clone())).await?,
        };
        let asked = connection.client.simple_query(&format!("SELECT {FACTS}")).await;
        let several = self.hosts.are_several();
        if !several && asked.as_ref().is_err_and(|error| error.as_db_error().is_some()) {
            return Ok((connection, None));
        }
        let answer: Vec<SimpleQueryMessage> = asked.map_err(|error| failure(Command::Connect, &error))?;
        let facts = first_row(&answer).and_then(|row| parse_facts(row, 0));
        let facts = facts.ok_or_else(|| unexpected(Command::Connect, "server facts"))?;
        connection.learned.note(&facts);
        Ok((connection, Some(facts).filter(|facts| several || !facts.in_recovery)))
    }

    async fn connect_over<T>(&self, config: &Config, tls: T) -> Result<Connection, DatabaseError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: TlsStream + Send + 'static,
    {
        let failed = |error| failure(Command::Connect, &error);
        let (client, mut connection) = config.connect(tls).await.map_err(failed)?;
        if let Some(version) = connection.parameter("server_version") {
            self.shown.version(version);
        }
        let signs = Arc::new(Signs { unreplicated: AtomicU64::new(0) });
        let (watcher, breaks) = (Arc::clone(&signs), self.breaks.clone());
        self.seams.spawn(async move {
            let ended = loop {
                match std::future::poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notice(notice))) => watcher.notice(&notice),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            };
            if let Some(error) = ended {
                tracing::warn!(%error, "a connection to the database broke");
                breaks.send_modify(|count| *count += 1);
            }
        });
        Ok(Connection { client, learned: Learned::default(), signs, timeline: Timeline::default() })
    }
}

/// One open connection.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) learned: Learned,
    signs: Arc<Signs>,
    /// Where it leads.
    pub(super) timeline: Timeline,
}

impl Connection {
    pub(super) fn is_lost(&self) -> bool {
        self.client.is_closed()
    }

    /// How often a wait for a synchronous standby was cancelled on this connection.
    pub(super) fn unreplicated(&self) -> u64 {
        self.signs.unreplicated.load(Ordering::Acquire)
    }
}

/// What the server said on its own account.
struct Signs {
    unreplicated: AtomicU64,
}

impl Signs {
    fn notice(&self, notice: &tokio_postgres::error::DbError) {
        // The warning of a cancelled wait has no SQLSTATE of its own, and its text may be translated; the
        // routine that raised it tells it from a RAISE WARNING of the application.
        let warning = notice.severity() != "NOTICE" && notice.code().code().starts_with("01");
        let by_wait = notice.routine().is_none_or(|routine| routine.starts_with("SyncRep"));
        if warning && by_wait {
            self.unreplicated.fetch_add(1, Ordering::AcqRel);
            tracing::warn!(message = notice.message(), "the wait for a synchronous standby was cancelled");
        } else {
            tracing::debug!(severity = notice.severity(), message = notice.message(), "notice");
        }
    }
}

pub(super) fn major_version(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The password, from its file or its variable. It is never part of a log line: `tokio_postgres::Config`
/// hides it in its own Debug form.
fn password(participant: &ParticipantConfig) -> Result<Option<String>, ConfigProblem> {
    if let Some(file) = &participant.password_file {
        return read_password(file).map(Some);
    }
    if let Some(variable) = &participant.password_env {
        return std::env::var(variable).map(Some).map_err(|_| {
            ConfigProblem(format!("password_env names {variable}, which is not set in the environment"))
        });
    }
    Ok(None)
}

fn read_password(file: &Path) -> Result<String, ConfigProblem> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        ConfigProblem(format!("the password file {} cannot be read: {error}", file.display()))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// As the options of a connection are read: a space ends one, unless it stands behind a backslash.
fn escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        if c == '\\' || c.is_whitespace() {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_role_of_any_name_is_one_option() {
        assert_eq!(escaped("app"), "app");
        assert_eq!(escaped(r"the app\s"), r"the\ app\\s");
    }
}
