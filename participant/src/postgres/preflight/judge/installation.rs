//! What only shows when several configurations are laid side by side, and servers that do not answer.

use votum_proto::names::ParticipantName;

use super::super::checks;
use super::super::finding::{Finding, Place, Remedy, Severity};
use super::super::remedy::{agent_line, identifier, person, statements};
use super::super::{CoordinatorSeen, Examined, Subject};
use super::Member;
use crate::database::DatabaseError;

/// A server that does not answer, or refused to.
pub(super) fn unanswered(subject: &Subject, error: &DatabaseError) -> Finding {
    let Subject { address, user, database, .. } = subject;
    let (user_id, database_id) = (identifier(user), identifier(database));
    let remedy = match error.sqlstate.as_str() {
        "3D000" => statements(
            [format!("CREATE DATABASE {database_id} OWNER {user_id}")],
            "in any database of the server; or correct `dbname` in the participant's connection",
        ),
        "42501" => statements([format!("GRANT CONNECT ON DATABASE {database_id} TO {user_id}")], ""),
        "28P01" => agent_line(
            "password_file = \"/etc/votum/PARTICIPANT.password\"",
            "a file that holds the role's password and nothing else; or give the role that password",
        ),
        code if code.starts_with("28") => Remedy {
            place: Place::HostBasedAuthentication,
            lines: vec![match address.starts_with('/') {
                true => format!("local {database_id} {user_id} scram-sha-256"),
                false => format!("host {database_id} {user_id} AGENT_ADDRESS/32 scram-sha-256"),
            }],
            advice: "before lines that fit as well; then SELECT pg_reload_conf(). Where the role itself is \
                     missing: CREATE ROLE … LOGIN PASSWORD '…'"
                .to_owned(),
        },
        "53300" => person("end sessions that nobody needs, or raise max_connections and restart the server"),
        "" | "57P01" | "57P02" | "57P03" => person(format!(
            "start the server at {address}, or correct the participant's connection in {}",
            subject.file
        )),
        _ => person(format!("mend what the server says to the role {user} in the database {database}")),
    };
    let seen = format!("the server at {address} cannot be asked: {error}");
    Finding::new(&checks::UNANSWERED, Severity::Error, vec![subject.participant.clone()], seen, remedy)
}

/// Participants that are one database (system identifier and OID), under different names.
pub(super) fn same_database(reached: &[Member<'_>], findings: &mut Vec<Finding>) {
    let which = |member: &Member<'_>| {
        member.facts.server.map(|server| (server.system_identifier, member.facts.database_oid))
    };
    for (place, member) in reached.iter().enumerate() {
        let Some(database) = which(member) else { continue };
        let earlier = reached.iter().take(place);
        let Some(first) = earlier.clone().find(|other| which(other) == Some(database)) else { continue };
        if earlier.clone().any(|other| other.name() == member.name()) {
            continue;
        }
        let (one, other) = (first.subject, member.subject);
        let seen = format!(
            "{} (in {}) and {} (in {}) are both the database {} of the server {:016x}",
            one.participant, one.file, other.participant, other.file, member.facts.database, database.0
        );
        let remedy = agent_line(
            format!("name = \"{}\"", other.participant),
            "correct the `connection` beside that name, or take that [[participants]] out here and at the \
             coordinator",
        );
        let participants = vec![one.participant.clone(), other.participant.clone()];
        findings.push(Finding::new(&checks::SAME_DATABASE, Severity::Error, participants, seen, remedy));
    }
}

/// Names: given twice, or known on one side only.
pub(super) fn names(
    examined: &[Examined],
    coordinator: Option<&CoordinatorSeen>,
    findings: &mut Vec<Finding>,
) {
    for (place, Examined { subject, .. }) in examined.iter().enumerate() {
        let earlier = examined.iter().take(place).map(|other| &other.subject);
        if let Some(first) = earlier.clone().find(|other| other.participant == subject.participant) {
            findings.push(twice(first, subject));
        }
    }
    let Some(coordinator) = coordinator else { return };
    let served = |name: &ParticipantName| examined.iter().any(|one| one.subject.participant == *name);
    for name in coordinator.participants.iter().filter(|name| !served(name)) {
        findings.push(no_agent(coordinator, name));
    }
    for Examined { subject, .. } in examined {
        if !coordinator.participants.contains(&subject.participant) {
            findings.push(no_coordinator(coordinator, subject));
        } else if !subject.coordinators.is_empty()
            && !subject.coordinators.contains(&coordinator.coordinator_id)
        {
            findings.push(not_served(coordinator, subject));
        }
    }
}

fn twice(first: &Subject, second: &Subject) -> Finding {
    let name = &second.participant;
    let seen = format!("{name} is configured in {} and in {}", first.file, second.file);
    let remedy = agent_line(
        format!("name = \"{name}\""),
        "give one of the two another name, in the coordinator's configuration as well, or take it out of the \
         agent's configuration that its coordinator does not dial",
    );
    Finding::new(&checks::SAME_NAME, Severity::Error, vec![name.clone()], seen, remedy)
}

fn no_agent(coordinator: &CoordinatorSeen, name: &ParticipantName) -> Finding {
    let seen =
        format!("{name} stands in {}, and in no agent's configuration that was given", coordinator.file);
    let remedy = Remedy {
        place: Place::Shell,
        lines: vec!["votumctl doctor --agent-config FILE".to_owned()],
        advice: format!(
            "with the file of the agent that serves {name} as well; or correct the name on one of the two sides"
        ),
    };
    Finding::new(&checks::NO_AGENT, Severity::Warning, vec![name.clone()], seen, remedy)
}

fn no_coordinator(coordinator: &CoordinatorSeen, subject: &Subject) -> Finding {
    let name = &subject.participant;
    let remedy = Remedy {
        place: Place::CoordinatorFile,
        lines: vec!["[[participants]]".into(), format!("name = \"{name}\""), "agent = \"ADDRESS\"".into()],
        advice: "with the address that its agent listens on; then restart the coordinator".to_owned(),
    };
    let seen = format!("{name} stands in {}, and not in {}", subject.file, coordinator.file);
    Finding::new(&checks::NO_COORDINATOR, Severity::Warning, vec![name.clone()], seen, remedy)
}

fn not_served(coordinator: &CoordinatorSeen, subject: &Subject) -> Finding {
    let mut served: Vec<String> = subject.coordinators.iter().map(|id| format!("\"{id}\"")).collect();
    let seen = format!(
        "the agent of {} serves the coordinators {} only, and {} is that of {}",
        subject.participant,
        served.join(", "),
        coordinator.file,
        coordinator.coordinator_id
    );
    served.push(format!("\"{}\"", coordinator.coordinator_id));
    let remedy = agent_line(format!("coordinators = [{}]", served.join(", ")), "then restart the agent");
    Finding::new(&checks::NOT_SERVED, Severity::Error, vec![subject.participant.clone()], seen, remedy)
}
