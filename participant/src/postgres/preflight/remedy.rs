//! The exact statements and lines that mend something.

pub(super) use super::super::witness::quoted as identifier;
use super::facts::{Facts, Setting};
use super::finding::{Place, Remedy};

/// What it takes until a changed setting of the server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// The configuration is read again.
    Reloaded,
    /// The server is started again.
    Restarted,
}

const RESTART: &str = "then restart the server, its standbys before it";
pub(super) const RECONNECT: &str = "then restart the agent, whose connections keep what they began with";

/// Statements for a superuser.
pub(super) fn statements(lines: impl IntoIterator<Item = String>, advice: &str) -> Remedy {
    Remedy { place: Place::Database, lines: lines.into_iter().collect(), advice: advice.to_owned() }
}

/// No line mends it.
pub(super) fn person(advice: impl Into<String>) -> Remedy {
    Remedy { place: Place::Person, lines: Vec::new(), advice: advice.into() }
}

/// One line of the agent's configuration.
pub(super) fn agent_line(line: impl Into<String>, advice: &str) -> Remedy {
    Remedy { place: Place::AgentFile, lines: vec![line.into()], advice: advice.to_owned() }
}

/// Changes a setting of the whole server. What its start command says goes before its files.
pub(super) fn server_setting(facts: &Facts, name: &str, value: &str, holds: Holds) -> Remedy {
    let source = facts.settings.get(name).map_or("", |setting| setting.source.as_str());
    if source == "command line" {
        return Remedy {
            place: Place::StartCommand,
            lines: vec![format!("-c {name}={value}")],
            advice: format!("in place of what the command says of {name} now; {RESTART}"),
        };
    }
    let set = format!("ALTER SYSTEM SET {name} = {value}");
    match holds {
        Holds::Reloaded => statements([set, "SELECT pg_reload_conf()".to_owned()], ""),
        Holds::Restarted => statements([set], RESTART),
    }
}

/// Changes a setting for the agent's role, where the value that holds now was set or above that.
pub(super) fn role_setting(facts: &Facts, name: &str, setting: &Setting, value: &str) -> Remedy {
    let role = identifier(&facts.role.session);
    match setting.source.as_str() {
        "client" => agent_line(
            format!("-c {name}={value}"),
            "at the end of `options` in the participant's connection; then restart the agent",
        ),
        "database user" => {
            let database = identifier(&facts.database);
            let set = format!("ALTER ROLE {role} IN DATABASE {database} SET {name} = {value}");
            statements([set], RECONNECT)
        }
        _ => statements([format!("ALTER ROLE {role} SET {name} = {value}")], RECONNECT),
    }
}

/// A text as SQL takes it, whatever is in it and whatever `standard_conforming_strings` says. Nothing in it
/// reaches a terminal as a command to it.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if !quoted.contains(|c: char| c == '\\' || c.is_control()) {
        return format!("'{quoted}'");
    }
    let mut escaped = String::new();
    for c in quoted.chars() {
        match c {
            '\\' => escaped.push_str(r"\\"),
            c if c.is_control() => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    format!("E'{escaped}'")
}

/// A text for people: what a terminal would take for a command is shown as its number.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}
