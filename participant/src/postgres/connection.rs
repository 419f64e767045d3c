//! The connection string of a participant: read, and held against what an agent can work with.

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::config::{ConfigProblem, ParticipantConfig, Tls};

/// The connection string, read.
pub(super) fn read(participant: &ParticipantConfig) -> Result<Config, ConfigProblem> {
    // The driver's error repeats no value, so it cannot repeat a password.
    participant.connection.parse::<Config>().map_err(|error| {
        ConfigProblem(format!(
            "connection cannot be read ({error}): write \"host=… port=… user=… dbname=…\" or a \
             postgresql:// URL"
        ))
    })
}

/// What is wrong with it, a sentence each.
pub(crate) fn problems(participant: &ParticipantConfig) -> Vec<String> {
    match read(participant) {
        Err(problem) => vec![problem.0],
        Ok(config) => problems_of(participant, &config),
    }
}

fn problems_of(participant: &ParticipantConfig, config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    if config.get_password().is_some() {
        problems.push(
            "connection holds a password, which would be visible to everybody who reads this file: put it \
             in a file of its own and name that with password_file, or use password_env"
                .into(),
        );
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        problems.push("connection names no host".into());
    }
    if config.get_hosts().len().max(config.get_hostaddrs().len()) > 1 {
        problems.push(
            "connection names several hosts: a participant is one server, because what it answers about \
             a transaction must come from the server that ran it"
                .into(),
        );
    }
    if config.get_user().is_none() {
        problems.push("connection names no user".into());
    }
    if config.get_dbname().is_none() {
        problems.push("connection names no dbname".into());
    }
    let by_socket = config.get_hosts().iter().any(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(_) => false,
    });
    if by_socket && participant.tls != Tls::Disable {
        problems.push("tls over a Unix socket is not possible: leave tls out".into());
    }
    problems
}

/// Where its server is, for people: `HOST:PORT`, or the socket.
pub(super) fn address(connection: &Config) -> String {
    let port = connection.get_ports().first().copied().unwrap_or(5432);
    match (connection.get_hosts().first(), connection.get_hostaddrs().first()) {
        (Some(Host::Tcp(host)), _) => format!("{host}:{port}"),
        (Some(Host::Unix(directory)), _) => format!("{}/.s.PGSQL.{port}", directory.display()),
        (None, Some(address)) => format!("{address}:{port}"),
        (None, None) => String::new(),
    }
}
