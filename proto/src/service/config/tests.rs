//! A configuration's mistakes, all of them, each where it stands.

use serde::Deserialize;

use super::*;
use crate::address::Address;
use crate::names::ParticipantName;

#[derive(Debug, Deserialize)]
struct Config {
    listen: Address,
    #[serde(default)]
    insecure: bool,
    log: Log,
    #[serde(default)]
    participants: Vec<Participant>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sync {
    On,
    Off,
}

#[derive(Debug, Deserialize)]
struct Log {
    directory: PathBuf,
    size: u64,
    sync: Option<Sync>,
}

#[derive(Debug, Deserialize)]
struct Participant {
    name: ParticipantName,
    #[allow(dead_code)] // read by serde alone
    agent: Address,
}

impl Check for Config {
    fn problems(&self) -> Vec<String> {
        if self.insecure && self.participants.is_empty() {
            vec!["participants is empty: add one".to_owned()]
        } else {
            Vec::new()
        }
    }
}

fn load_text(text: &str, prefix: &str) -> Result<Config, ConfigErrors> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("votum.toml");
    std::fs::write(&file, text).unwrap();
    load(&file, prefix)
}

fn mistakes(text: &str) -> Vec<String> {
    load_text(text, "VOTUM_NO_SUCH_VARIABLE").unwrap_err().mistakes
}

/// Each mistake begins with the expected words, and there is no other.
#[track_caller]
fn assert_mistakes(text: &str, expected: &[&str]) {
    let found = mistakes(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for words in expected {
        assert!(found.iter().any(|line| line.starts_with(words)), "{words:?} not in {found:#?}");
    }
}

const GOOD: &str = "listen = \"127.0.0.1:7400\"\n[log]\ndirectory = \"/tmp\"\nsize = 5\nsync = \"on\"\n\
                    [[participants]]\nname = \"bank_a\"\nagent = \"unix:/a\"\n";

#[test]
fn a_correct_file_is_read() {
    let config = load_text(GOOD, "VOTUM_NO_SUCH_VARIABLE").unwrap();
    assert_eq!(config.listen, "127.0.0.1:7400".parse().unwrap());
    assert_eq!(config.log.directory, Path::new("/tmp"));
    assert_eq!(config.log.size, 5);
    assert!(matches!(config.log.sync, Some(Sync::On)));
    assert_eq!(config.participants[0].name.as_str(), "bank_a");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    assert_mistakes(
        "listen = \"nowhere\"\nlisten_too = 1\n[log]\nsize = \"big\"\nsync = \"perhaps\"\n\
         [[participants]]\nname = \"Bank A\"\nagnet = \"unix:/a\"\n[[participants]]\nname = \"b\"\nagent = \"x\"\n",
        &[
            "listen is wrong",
            "listen_too is not a setting",
            "log.directory is missing",
            "log.size is wrong",
            "log.sync is wrong",
            "participants.0.name is wrong",
            "participants.0.agnet is not a setting",
            "participants.0.agent is missing",
            "participants.1.agent is wrong",
        ],
    );
}

#[test]
fn a_missing_section_does_not_hide_what_is_wrong_elsewhere() {
    assert_mistakes(
        "listen = \"127.0.0.1:1\"\ninsecure = 3\n",
        &["insecure is wrong", "log is missing", "log.directory is missing", "log.size is missing"],
    );
    assert_mistakes("insecure = [[[", &["it is not TOML"]);
}

#[test]
fn meaning_is_checked_beside_unknown_keys() {
    assert_mistakes(
        "colour = 1\nlisten = \"127.0.0.1:1\"\ninsecure = true\n[log]\ndirectory = \"/\"\nsize = 1\n",
        &["colour is not a setting", "participants is empty"],
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<Config>(Path::new("/no/such/votum.toml"), "VOTUM_X").unwrap_err();
    assert!(error.to_string().contains("/no/such/votum.toml"), "{error}");
    assert!(error.to_string().contains("--config"), "{error}");
}

/// The test process's own environment cannot be changed safely, so a child of it runs the ignored test
/// below with one that was given to it.
#[test]
fn the_environment_overrides_the_file_and_its_mistakes_name_the_variable() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "service::config::tests::child_reads_the_environment"])
        .env("VOTUM_TEST_CHILD", "1")
        .env("VOTUM_TESTED__LOG__SIZE", "9")
        .env("VOTUM_TESTED__LISTEN", "unix:/run/votum.sock")
        .env("VOTUM_TESTED__INSECURE", "perhaps")
        .env("VOTUM_TESTED__COLOUR", "red")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "the child ran no test");
}

#[test]
#[ignore = "run by the_environment_overrides_the_file_and_its_mistakes_name_the_variable"]
fn child_reads_the_environment() {
    if std::env::var_os("VOTUM_TEST_CHILD").is_none() {
        return;
    }
    let errors = load_text(GOOD, "VOTUM_TESTED").unwrap_err().mistakes;
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors.iter().any(|line| line.contains("variable VOTUM_TESTED__INSECURE)")), "{errors:#?}");
    assert!(errors.iter().any(|line| line.contains("variable VOTUM_TESTED__COLOUR)")), "{errors:#?}");
    let figment = Figment::from(Toml::string(GOOD)).merge(Env::prefixed("VOTUM_TESTED__").split("__"));
    assert_eq!(figment.extract_inner::<u64>("log.size").unwrap(), 9);
}
