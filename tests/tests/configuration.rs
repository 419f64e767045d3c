//! docs/configuration.md names every setting that there is, and no other, with the default that it has.

#![cfg(test)] // clippy then lets helpers fail as tests do

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use votum_participant::AgentConfig;
use votum_proto::service::config;

const COORDINATOR: &str = "coordinator_id = \"acme\"\nlisten = \"127.0.0.1:7400\"\n[log]\ndirectory = \"log\"\n\
    [[participants]]\nname = \"bank\"\nagent = \"127.0.0.1:7401\"\n";
const AGENT: &str = "listen = \"127.0.0.1:7401\"\n[[participants]]\nname = \"bank\"\n\
    connection = \"host=/run/postgresql user=votum dbname=bank\"\n";

#[test]
fn the_page_names_the_coordinators_settings_and_their_defaults() {
    compare("The coordinator", COORDINATOR, |file| {
        let read = votum_coordinator::config::Config::load(file).map_err(|errors| errors.to_string())?;
        Ok(serde_json::to_value(read).unwrap())
    });
}

#[test]
fn the_page_names_the_agents_settings_and_their_defaults() {
    compare("The agent", AGENT, |file| {
        let read: AgentConfig =
            config::load(file, "VOTUM_NO_SUCH_VARIABLE").map_err(|errors| errors.to_string())?;
        Ok(serde_json::to_value(read).unwrap())
    });
}

/// `smallest` is a file of the required settings alone, each on a line of its own.
#[track_caller]
fn compare(section: &str, smallest: &str, load: impl Fn(&Path) -> Result<Value, String>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("votum.toml");
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        load(&file)
    };
    let documented = documented(section);
    let mut settings = BTreeMap::new();
    flatten("", &load(smallest).unwrap(), &mut settings);
    assert_eq!(
        documented.keys().collect::<BTreeSet<_>>(),
        settings.keys().collect::<BTreeSet<_>>(),
        "the settings on the page (left) and in the program (right)"
    );

    let required = documented.iter().filter(|(_, default)| *default == "required").map(|(key, _)| key);
    let mut lines = 0;
    for key in required {
        let name = key.rsplit('.').next().unwrap();
        let without: Vec<&str> =
            smallest.lines().filter(|line| !line.starts_with(&format!("{name} ="))).collect();
        lines += smallest.lines().count() - without.len();
        let refused = load(&without.join("\n"));
        assert!(refused.is_err(), "{key} is not required: without it the file is accepted");
    }
    assert_eq!(
        lines,
        smallest.lines().filter(|line| line.contains('=')).count(),
        "settings that are required"
    );

    for (key, default) in &documented {
        let real = &settings[key];
        let agrees = match meant_by(default) {
            Some(meant) => meant == *real,
            // Words for "nothing", or for what stands elsewhere.
            None => match default.as_str() {
                "required" => true,
                "any" | "none" | "the agent's" | "the system's" => {
                    real.is_null() || *real == Value::Array(vec![])
                }
                _ => false,
            },
        };
        assert!(agrees, "{key}: the page says {default:?}, the program has {real}");
    }
}

/// The settings in the table of one section of the page, and what it says of their defaults.
fn documented(section: &str) -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let rows =
        rest.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
    let mut found = BTreeMap::new();
    for row in rows {
        let mut cells = row.split(" | ").map(str::trim);
        let (names, default) = (cells.next().unwrap(), cells.next().unwrap());
        for name in names.split('`').skip(1).step_by(2) {
            assert!(found.insert(name.to_owned(), default.to_owned()).is_none(), "{name} stands there twice");
        }
    }
    found
}

/// Settings by their full names, as the page writes them.
fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            let dot = if prefix.is_empty() { "" } else { "." };
            for (key, inner) in fields {
                flatten(&format!("{prefix}{dot}{key}"), inner, into);
            }
        }
        Value::Array(elements) if elements.iter().any(Value::is_object) => {
            for element in elements {
                flatten(&format!("{prefix}[]"), element, into);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            into.insert(prefix.to_owned(), value.clone());
        }
    }
}

/// A value as the page writes it: `` `text` ``, a number, or a number of binary units.
fn meant_by(default: &str) -> Option<Value> {
    if let Some(literal) = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
        return Some(literal.parse::<bool>().map_or_else(|_| literal.into(), Value::Bool));
    }
    let (number, unit) = default.split_once(' ').unwrap_or((default, ""));
    let factor: u64 = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok().map(|number| (number * factor).into())
}
