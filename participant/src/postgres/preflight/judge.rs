//! Holds what servers say against what is configured. Pure: the same facts give the same findings.

mod installation;
mod prepared;
mod role;
mod server;

use votum_proto::names::ParticipantName;

use super::checks::Check;
use super::facts::Facts;
use super::finding::{Finding, Remedy, Severity};
use super::{CoordinatorSeen, Examined, Subject};

/// Everything that is not as it should be, the worst first. Without a coordinator's configuration nothing is
/// said of who knows whom.
pub fn judge(examined: &[Examined], coordinator: Option<&CoordinatorSeen>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut reached = Vec::new();
    for Examined { subject, answer } in examined {
        match answer {
            Ok(facts) => reached.push(Member { subject, facts }),
            Err(error) => findings.push(installation::unanswered(subject, error)),
        }
    }
    for member in &reached {
        role::judge(member, &mut Report { participants: vec![member.name()], findings: &mut findings });
    }
    for members in servers(&reached) {
        server::judge(&members, &mut Report { participants: members.names(), findings: &mut findings });
        prepared::judge(&members, &mut findings);
    }
    installation::same_database(&reached, &mut findings);
    installation::names(examined, coordinator, &mut findings);
    findings.sort_by(|one, other| {
        let key = |finding: &Finding| (std::cmp::Reverse(finding.severity), finding.code);
        key(one).cmp(&key(other)).then_with(|| one.participants.cmp(&other.participants))
    });
    findings
}

/// Findings about the same participants.
struct Report<'a> {
    participants: Vec<ParticipantName>,
    findings: &'a mut Vec<Finding>,
}

impl Report<'_> {
    fn add(&mut self, check: &Check, severity: Severity, seen: String, remedy: Remedy) {
        let participants = self.participants.clone();
        self.findings.push(Finding::new(check, severity, participants, seen, remedy));
    }
}

/// A participant whose server answered.
#[derive(Debug, Clone, Copy)]
struct Member<'a> {
    subject: &'a Subject,
    facts: &'a Facts,
}

impl Member<'_> {
    fn name(&self) -> ParticipantName {
        self.subject.participant.clone()
    }
}

/// The participants of one server.
struct Members<'a> {
    /// Whose facts stand for the server's own.
    first: Member<'a>,
    all: Vec<Member<'a>>,
}

impl Members<'_> {
    fn names(&self) -> Vec<ParticipantName> {
        let mut names: Vec<ParticipantName> = self.all.iter().map(Member::name).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The participants, server by server. One whose server may not be told has a server of its own.
fn servers<'a>(reached: &[Member<'a>]) -> Vec<Members<'a>> {
    let identifier = |member: &Member<'_>| member.facts.server.map(|server| server.system_identifier);
    let mut servers: Vec<Members<'a>> = Vec::new();
    for member in reached {
        let known = identifier(member)
            .and_then(|known| servers.iter_mut().find(|server| identifier(&server.first) == Some(known)));
        match known {
            Some(server) => server.all.push(*member),
            None => servers.push(Members { first: *member, all: vec![*member] }),
        }
    }
    servers
}

/// A warning, or an error where it is `grave`.
fn graded(grave: bool) -> Severity {
    if grave { Severity::Error } else { Severity::Warning }
}
