//! The server itself: version, recovery, slots, connections, durability.

use super::super::Subject;
use super::super::checks;
use super::super::facts::Facts;
use super::super::finding::{Finding, Severity};
use super::super::remedy::{Holds, agent_line, identifier, person, server_setting, statements};
use super::{Member, Members, Report, graded};

/// The versions that Votum is tested on.
const OLDEST: u32 = 15;
const NEWEST: u32 = 18;

/// Connections of an agent beside its sessions and those of phase 2: for listings, and to spare.
const FEW_MORE: u64 = 3;

pub(super) fn judge(members: &Members<'_>, report: &mut Report<'_>) {
    let facts = members.first.facts;
    if facts.major != 0 && facts.major < OLDEST {
        let advice = format!("upgrade the server to PostgreSQL {OLDEST} or later, at most {NEWEST}");
        report.add(&checks::TOO_OLD, Severity::Error, version(facts), person(advice));
    }
    if facts.major > NEWEST {
        let advice = format!("keep to PostgreSQL {OLDEST} to {NEWEST}, or ask for a newer Votum");
        report.add(&checks::TOO_NEW, Severity::Warning, version(facts), person(advice));
    }
    if facts.server.is_some_and(|server| server.in_recovery) {
        let subject = members.first.subject;
        let line = format!(
            "connection = \"host=PRIMARY user={} dbname={}\"",
            subject.user.replace(['"', '\\'], ""),
            subject.database.replace(['"', '\\'], "")
        );
        let advice = "the primary's address in the place of PRIMARY; then restart the agent. Only where the \
                      primary is gone for good: promote this server";
        let seen = format!("the server at {} is a standby, or still recovering", subject.address);
        report.add(&checks::STANDBY, Severity::Error, seen, agent_line(line, advice));
    }
    slots(members, report);
    connections(members, report);
    limits(members, report);
    durability(facts, report);
}

fn version(facts: &Facts) -> String {
    format!("the server is PostgreSQL {}", facts.version)
}

fn sessions(members: &Members<'_>) -> u64 {
    members.all.iter().map(|member| member.subject.sessions as u64).sum()
}

fn slots(members: &Members<'_>, report: &mut Report<'_>) {
    const NAME: &str = "max_prepared_transactions";
    let facts = members.first.facts;
    let Some(slots) = facts.number(NAME) else { return };
    let (sessions, taken) = (sessions(members), facts.prepared.len() as u64);
    // What is decided and not yet delivered keeps its slot, while its session serves the next branch.
    let plenty = (sessions * 2).max(taken * 2).max(slots);
    let raise = || server_setting(facts, NAME, &plenty.to_string(), Holds::Restarted);
    if slots == 0 {
        report.add(&checks::NO_SLOTS, Severity::Error, format!("{NAME} is 0"), raise());
        return;
    }
    if slots < sessions {
        let seen = format!("{NAME} is {slots}, and agents open up to {sessions} branches at once");
        report.add(&checks::FEW_SLOTS, Severity::Warning, seen, raise());
    }
    if taken * 5 >= slots * 4 {
        let seen = format!("{taken} of the {slots} slots for prepared transactions are taken");
        report.add(&checks::SLOTS_TAKEN, graded(taken >= slots), seen, raise());
    }
}

/// What one participant may need.
fn needed(subject: &Subject) -> u64 {
    subject.sessions as u64 + subject.phase2_connections as u64 + FEW_MORE
}

fn connections(members: &Members<'_>, report: &mut Report<'_>) {
    let facts = members.first.facts;
    let ordinary: Vec<_> = members.all.iter().filter(|member| !member.facts.role.superuser).collect();
    let needed: u64 = ordinary.iter().map(|member| needed(member.subject)).sum();
    let Some(most) = facts.number("max_connections") else { return };
    let reserved = facts.number("superuser_reserved_connections").unwrap_or(0)
        + facts.number("reserved_connections").unwrap_or(0);
    if most.saturating_sub(reserved) < needed {
        let seen =
            format!("max_connections is {most}, {reserved} of them reserved, and agents may need {needed}");
        let value = (needed + reserved).to_string();
        let remedy = server_setting(facts, "max_connections", &value, Holds::Restarted);
        report.add(&checks::FEW_CONNECTIONS, Severity::Warning, seen, remedy);
    }
}

/// The limits of the agents' roles, which hold for all databases of the server together, and of the databases.
fn limits(members: &Members<'_>, report: &mut Report<'_>) {
    for (place, member) in members.all.iter().enumerate() {
        let facts = member.facts;
        if facts.role.superuser {
            continue;
        }
        let alike = |other: &&Member<'_>| other.facts.role.session == facts.role.session;
        if !members.all.iter().take(place).any(|other| alike(&other)) {
            let sharing: Vec<&Member<'_>> = members.all.iter().filter(alike).collect();
            too_few("role", &facts.role.session, facts.role.connections, &sharing, report.findings);
        }
        too_few("database", &facts.database, facts.database_connections, &[member], report.findings);
    }
}

fn too_few(kind: &str, name: &str, limit: Option<u64>, sharing: &[&Member<'_>], findings: &mut Vec<Finding>) {
    let needed: u64 = sharing.iter().map(|member| needed(member.subject)).sum();
    let Some(limit) = limit.filter(|limit| *limit < needed) else { return };
    let names = sharing.iter().map(|member| member.name()).collect();
    let seen = format!("the {kind} {name} is limited to {limit} connections, and agents may need {needed}");
    let line = format!("ALTER {} {} CONNECTION LIMIT {needed}", kind.to_uppercase(), identifier(name));
    let remedy = statements([line], "or -1 for no limit, or fewer `sessions` in the agent's configuration");
    findings.push(Finding::new(&checks::CONNECTION_LIMIT, Severity::Warning, names, seen, remedy));
}

fn durability(facts: &Facts, report: &mut Report<'_>) {
    for (name, check, severity) in [
        ("fsync", &checks::NO_FSYNC, Severity::Error),
        ("full_page_writes", &checks::TORN_PAGES, Severity::Warning),
    ] {
        if facts.setting_at(name, "off").is_some() {
            let remedy = server_setting(facts, name, "on", Holds::Reloaded);
            report.add(check, severity, format!("{name} is off"), remedy);
        }
    }
}
