//! The agent's role at one participant: what it may do, and by which settings its sessions begin.

use super::super::checks;
use super::super::facts::{Facts, Setting};
use super::super::finding::{Place, Remedy, Severity};
use super::super::remedy::{RECONNECT, agent_line, identifier, role_setting, statements};
use super::{Member, Report};

pub(super) fn judge(member: &Member<'_>, report: &mut Report<'_>) {
    privileges(member, report);
    attached_roles(member, report);
    defaults(member, report);
    timeouts(member, report);
    memory(member, report);
    markers(member, report);
    search_path(member, report);
}

fn privileges(member: &Member<'_>, report: &mut Report<'_>) {
    let role = &member.facts.role;
    let current = identifier(&role.current);
    if !member.facts.denied.is_empty() {
        let grants = member.facts.denied.iter().map(|what| format!("GRANT {what} TO {current}"));
        let seen = format!("the role {} is denied {}", role.current, member.facts.denied.join(" and "));
        report.add(&checks::PRIVILEGES, Severity::Error, seen, statements(grants, ""));
    }
    let works_as = format!("the role {} works as {}", role.session, role.current);
    let grant = |what| {
        let line = format!("GRANT {what} TO {current}");
        statements([line], "or have the agent's role keep its own: ALTER ROLE … RESET role")
    };
    if !role.sees_own_sessions {
        let seen = format!("{works_as}, which is not shown when sessions of {} began", role.session);
        report.add(&checks::BLIND, Severity::Error, seen, grant("pg_read_all_stats"));
    }
    if !role.ends_own_sessions {
        let seen = format!("{works_as}, which may not end sessions of {}", role.session);
        report.add(&checks::POWERLESS, Severity::Warning, seen, grant("pg_signal_backend"));
    }
    if role.superuser {
        let line = format!("ALTER ROLE {} NOSUPERUSER", identifier(&role.session));
        let advice = "after it was granted what the statements of its clients need; then restart the agent";
        let seen = format!("the role {} is a superuser", role.session);
        report.add(&checks::SUPERUSER, Severity::Warning, seen, statements([line], advice));
    }
}

fn attached_roles(member: &Member<'_>, report: &mut Report<'_>) {
    let session = &member.facts.role.session;
    for attached in member.facts.attached.iter().filter(|attached| !attached.may_be_taken) {
        let name = identifier(&attached.name);
        let grant = match member.facts.major >= 16 {
            true => format!("GRANT {name} TO {} WITH SET TRUE", identifier(session)),
            false => format!("GRANT {name} TO {}", identifier(session)),
        };
        let (seen, lines) = match attached.exists {
            true => (format!("the role {session} may not become {}", attached.name), vec![grant]),
            false => {
                let create = format!("CREATE ROLE {name} LOGIN");
                (format!("there is no role {}", attached.name), vec![create, grant])
            }
        };
        let advice = "or take it out of `attached_roles`";
        report.add(&checks::ATTACHED_ROLE, Severity::Warning, seen, statements(lines, advice));
    }
}

/// How a setting is shown, and where it comes from.
fn shown(name: &str, setting: &Setting) -> String {
    format!("{name} is {} in the agent's sessions (from: {})", setting.value, setting.source)
}

fn defaults(member: &Member<'_>, report: &mut Report<'_>) {
    const READ_ONLY: &str = "default_transaction_read_only";
    const COMMIT: &str = "synchronous_commit";
    let facts = member.facts;
    if let Some(setting) = facts.setting_at(READ_ONLY, "on") {
        let mut remedy = role_setting(facts, READ_ONLY, setting, "off");
        if remedy.place == Place::Database {
            // Where the database's own default is meant, it holds for whoever mends it, too.
            remedy.lines.insert(0, format!("SET {READ_ONLY} = off"));
        }
        report.add(&checks::READ_ONLY, Severity::Error, shown(READ_ONLY, setting), remedy);
    }
    let standbys = facts.settings.get("synchronous_standby_names");
    let has_standbys = standbys.is_some_and(|names| !names.value.is_empty());
    let alone =
        facts.setting_at(COMMIT, "off").or(facts.setting_at(COMMIT, "local").filter(|_| has_standbys));
    if let Some(setting) = alone {
        let remedy = role_setting(facts, COMMIT, setting, "on");
        report.add(&checks::COMMITS_ALONE, Severity::Warning, shown(COMMIT, setting), remedy);
    }
}

fn timeouts(member: &Member<'_>, report: &mut Report<'_>) {
    let facts = member.facts;
    let set = |name: &str| {
        let setting = facts.settings.get(name)?;
        let ms: u64 = setting.value.parse().ok()?;
        (ms > 0).then_some((setting, ms))
    };
    let in_ms = |name: &str, setting: &Setting, ms: u64| {
        format!("{name} is {ms} ms in the agent's sessions (from: {})", setting.source)
    };
    for (name, check, severity) in [
        ("idle_session_timeout", &checks::IDLE_TIMEOUT, Severity::Warning),
        ("transaction_timeout", &checks::TRANSACTION_TIMEOUT, Severity::Warning),
        ("lock_timeout", &checks::LOCK_TIMEOUT, Severity::Note),
    ] {
        if let Some((setting, ms)) = set(name) {
            report.add(check, severity, in_ms(name, setting, ms), role_setting(facts, name, setting, "0"));
        }
    }
    for name in ["statement_timeout", "idle_in_transaction_session_timeout"] {
        if let Some((setting, ms)) = set(name).filter(|(_, ms)| *ms < member.subject.max_branch_timeout_ms) {
            let remedy = agent_line(
                format!("max_branch_timeout_ms = {ms}"),
                "if branches are to end after that time; then restart the agent",
            );
            report.add(&checks::BRANCH_TIMEOUT, Severity::Note, in_ms(name, setting, ms), remedy);
        }
    }
}

fn memory(member: &Member<'_>, report: &mut Report<'_>) {
    let role = &member.facts.role.current;
    let seen = match member.facts.keeps_witness {
        Some(true) => return,
        Some(false) => format!("the role {role} may not keep rows in votum.witness"),
        None => "there is no table votum.witness".to_owned(),
    };
    report.add(&checks::FORGETFUL, Severity::Note, seen, install(member, ""));
}

fn markers(member: &Member<'_>, report: &mut Report<'_>) {
    if member.facts.keeps_markers == Some(false) {
        let seen = format!("the role {} may not keep rows in votum.marker", member.facts.role.current);
        report.add(&checks::UNMARKED, Severity::Warning, seen, install(member, " --commit-marker"));
    }
}

/// What gives the role its places in the schema votum.
fn install(member: &Member<'_>, option: &str) -> Remedy {
    let word = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let (role, database) = (word(&member.facts.role.current), word(&member.facts.database));
    let line = format!("votumctl install --role {role}{option} | psql --dbname {database}");
    let advice = "at its server, as somebody who may create a schema there".to_owned();
    Remedy { place: Place::Shell, lines: vec![line], advice }
}

/// A role that is called votum itself has the schema of that name on its path, as "$user".
fn search_path(member: &Member<'_>, report: &mut Report<'_>) {
    let Facts { role, database, path_without_votum, .. } = member.facts;
    if let Some(rest) = path_without_votum {
        let seen = format!("the schema votum is on the search path of the role {}", role.session);
        let (role, database) = (identifier(&role.session), identifier(database));
        let line = format!("ALTER ROLE {role} IN DATABASE {database} SET search_path = {rest}");
        report.add(&checks::SHADOWED, Severity::Warning, seen, statements([line], RECONNECT));
    }
}
