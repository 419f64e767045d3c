//! What is accepted and what is refused.

use super::*;

const SMALL: &str = r#"
    coordinator_id = "acme"
    listen = "127.0.0.1:7400"
    [log]
    directory = "log"
    [[participants]]
    name = "bank-a"
    agent = "127.0.0.1:7401"
    [[participants]]
    name = "bank-b"
    agent = "unix:/run/votum/agent.sock"
    [[participants]]
    name = "bank-c"
    agent = "http://127.0.0.1:7401"
"#;

fn read(text: &str) -> (tempfile::TempDir, Result<Config, ConfigErrors>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coordinator.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file);
    (directory, config)
}

#[test]
fn a_small_file_is_enough_and_its_log_lies_beside_it() {
    let (directory, config) = read(SMALL);
    let config = config.unwrap();
    assert_eq!(config.log.directory, directory.path().join("log"));
    assert_eq!(config.limits, Limits::default());
    assert!(!config.insecure);
    assert_eq!(config.metrics.listen, None, "metrics are served although nobody asked for them");
}

#[test]
fn the_log_has_to_remember_an_hour_or_twice_the_longest_timeout_or_all_that_was_asked_for() {
    let mut config = read(SMALL).1.unwrap();
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    assert_eq!(config.least_reach(), hours(2));
    config.limits.max_timeout_ms = 60_000;
    assert_eq!(config.least_reach(), hours(1));
    config.limits.max_timeout_ms = 5 * 3_600_000;
    assert_eq!(config.least_reach(), hours(10));
    config.log.retention_hours = 3;
    assert_eq!(config.least_reach(), hours(3));
}

#[test]
fn participants_that_share_an_address_share_a_link() {
    let agents = read(SMALL).1.unwrap().agents();
    let names =
        |agent: &AgentConfig| -> Vec<String> { agent.participants.iter().map(ToString::to_string).collect() };
    assert_eq!(agents.iter().map(names).collect::<Vec<_>>(), [vec!["bank-a", "bank-c"], vec!["bank-b"]]);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let (_directory, config) = read(
        r#"
        coordinator_id = "acme"
        listen = "0.0.0.0:7400"
        [log]
        directory = ""
        half_bytes = 5
        [limits]
        default_timeout_ms = 0
        max_transactions = 0
        [logging]
        filter = "votum=loud"
        [metrics]
        listen = "0.0.0.0:7400"
        [[participants]]
        name = "bank"
        agent = "0.0.0.0:7400"
        [[participants]]
        name = "bank"
        agent = "127.0.0.1:7402"
        "#,
    );
    let errors = config.unwrap_err();
    for expected in [
        "listen on 127.0.0.1 or a Unix socket, or write insecure = true",
        "or write insecure = true under [metrics]",
        "metrics.listen is the same address as listen",
        "log.directory is empty",
        "log.half_bytes = 5",
        "limits.default_timeout_ms = 0",
        "limits.max_transactions = 0",
        "logging.filter",
        "bank is configured twice",
        "coordinator's own address",
    ] {
        let found = errors.mistakes().iter().filter(|mistake| mistake.contains(expected)).count();
        assert_eq!(found, 1, "{expected:?} in {errors}");
    }
    assert_eq!(errors.mistakes().len(), 10, "{errors}");
}

#[test]
fn mistakes_of_form_are_all_reported_too() {
    let (_directory, config) = read(
        r#"
        coordinator_id = "ACME"
        listen = "nowhere"
        lisen = "127.0.0.1:1"
        [log]
        lease = "many"
        [[participants]]
        name = "Bank"
        "#,
    );
    let errors = config.unwrap_err();
    for expected in
        ["coordinator_id", "listen is wrong", "lisen", "log.directory", "log.lease", "name", "agent"]
    {
        assert!(errors.mistakes().iter().any(|mistake| mistake.contains(expected)), "{expected}: {errors}");
    }
}

#[test]
fn no_participants_is_a_mistake() {
    let (_directory, config) =
        read("coordinator_id = \"acme\"\nlisten = \"127.0.0.1:0\"\n[log]\ndirectory = \"/log\"");
    let errors = config.unwrap_err();
    assert!(matches!(errors.mistakes(), [only] if only.contains("[[participants]]")), "{errors}");
}

#[test]
fn a_timeout_is_the_default_when_none_is_asked_for_and_never_above_the_bound() {
    let limits = Limits::default();
    assert_eq!(limits.timeout(0), Duration::from_secs(30));
    assert_eq!(limits.timeout(5), Duration::from_millis(5));
    assert_eq!(limits.timeout(u64::MAX), Duration::from_secs(3600));
}
