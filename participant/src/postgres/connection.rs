//! The connection string of a participant: read, and held against what an agent can work with.

use tokio_postgres::Config;
use tokio_postgres::config::{Host, TargetSessionAttrs};

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
    problems.extend(problems_of_hosts(config));
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

/// What is wrong with the hosts, where there are several.
fn problems_of_hosts(config: &Config) -> Vec<String> {
    let (names, addresses, ports) =
        (config.get_hosts().len(), config.get_hostaddrs().len(), config.get_ports().len());
    let hosts = names.max(addresses);
    let mut problems = Vec::new();
    if names > 0 && addresses > 0 && names != addresses {
        problems.push(format!(
            "connection names several hosts, {names} by host and {addresses} by hostaddr: give each both, or one \
             of the two to all"
        ));
    }
    if ports > 1 && ports != hosts {
        problems.push(format!(
            "connection names several hosts or ports, {hosts} and {ports}: give each host its port, or all of \
             them one"
        ));
    }
    if hosts > 1 && config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
        problems.push(
            "connection names several hosts and target_session_attrs=read-only: an agent works with the \
             primary; leave that out"
                .into(),
        );
    }
    problems
}

/// The same connection string for each of its hosts alone.
pub(super) fn each_host(config: &Config) -> Vec<Config> {
    let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
    if hosts <= 1 {
        return vec![config.clone()];
    }
    let one = |place: usize| {
        let mut one = without_hosts(config);
        match config.get_hosts().get(place) {
            Some(Host::Tcp(name)) => drop(one.host(name.as_str())),
            Some(Host::Unix(directory)) => drop(one.host_path(directory)),
            None => {}
        }
        if let Some(address) = config.get_hostaddrs().get(place) {
            one.hostaddr(*address);
        }
        // One port is that of all.
        if let Some(port) = config.get_ports().get(place).or(config.get_ports().first()) {
            one.port(*port);
        }
        one
    };
    (0..hosts).map(one).collect()
}

/// Everything else that a connection string says.
fn without_hosts(config: &Config) -> Config {
    let mut rest = Config::new();
    if let Some(user) = config.get_user() {
        rest.user(user);
    }
    if let Some(password) = config.get_password() {
        rest.password(password);
    }
    if let Some(database) = config.get_dbname() {
        rest.dbname(database);
    }
    if let Some(options) = config.get_options() {
        rest.options(options);
    }
    if let Some(name) = config.get_application_name() {
        rest.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        rest.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        rest.tcp_user_timeout(*limit);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        rest.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        rest.keepalives_retries(retries);
    }
    rest.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    rest.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    rest.channel_binding(config.get_channel_binding());
    rest.target_session_attrs(config.get_target_session_attrs());
    rest
}

/// Where its servers are, for people: `HOST:PORT`, or the socket; those of several hosts one after another.
pub(super) fn address(connection: &Config) -> String {
    let hosts = each_host(connection);
    hosts.iter().map(address_of_one).collect::<Vec<_>>().join(", ")
}

fn address_of_one(connection: &Config) -> String {
    let port = connection.get_ports().first().copied().unwrap_or(5432);
    match (connection.get_hosts().first(), connection.get_hostaddrs().first()) {
        (Some(Host::Tcp(host)), _) => format!("{host}:{port}"),
        (Some(Host::Unix(directory)), _) => format!("{}/.s.PGSQL.{port}", directory.display()),
        (None, Some(address)) => format!("{address}:{port}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(connection: &str) -> String {
        address(&connection.parse().unwrap())
    }

    #[test]
    fn each_host_has_its_port_or_that_of_all() {
        assert_eq!(addresses("host=a,b user=u port=1,2"), "a:1, b:2");
        assert_eq!(addresses("host=a,b user=u port=7"), "a:7, b:7");
        assert_eq!(addresses("host=a,b user=u"), "a:5432, b:5432");
        assert_eq!(addresses("postgresql://u@a:1,b:2/d"), "a:1, b:2");
        assert_eq!(addresses("host=/run/a,/run/b port=1,2"), "/run/a/.s.PGSQL.1, /run/b/.s.PGSQL.2");
        assert_eq!(addresses("hostaddr=10.0.0.1,10.0.0.2 port=1,2"), "10.0.0.1:1, 10.0.0.2:2");
    }

    #[test]
    fn each_host_has_everything_else_that_the_string_says() {
        let rest = "user=u password=p dbname=d options='-c work_mem=1MB' application_name=n sslmode=require \
                    sslnegotiation=direct channel_binding=require target_session_attrs=read-write \
                    connect_timeout=3 tcp_user_timeout=4 keepalives=0 keepalives_idle=5 keepalives_interval=6 \
                    keepalives_retries=7";
        let all: Config = format!("host=a,b port=1,2 {rest}").parse().unwrap();
        let alone: Vec<Config> = [("a", 1), ("b", 2)]
            .iter()
            .map(|(host, port)| format!("host={host} port={port} {rest}").parse().unwrap())
            .collect();
        assert_eq!(each_host(&all), alone);
    }

    #[test]
    fn several_hosts_are_taken_unless_they_cannot_be_told_apart() {
        let problems = |hosts: &str| {
            let config: Config = format!("{hosts} user=u dbname=d").parse().unwrap();
            problems_of_hosts(&config).len()
        };
        for fine in [
            "host=a",
            "host=a,b",
            "host=a,b port=1",
            "host=a,b port=1,2 target_session_attrs=read-write",
            "host=a,b hostaddr=10.0.0.1,10.0.0.2",
        ] {
            assert_eq!(problems(fine), 0, "{fine}");
        }
        for wrong in [
            "host=a,b,c port=1,2",
            "host=a port=1,2",
            "host=a,b hostaddr=10.0.0.1",
            "host=a,b target_session_attrs=read-only",
        ] {
            assert_eq!(problems(wrong), 1, "{wrong}");
        }
    }
}
