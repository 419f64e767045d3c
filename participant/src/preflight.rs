//! Looks at every database at the agent's start, and again for as long as one of them cannot serve.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agent::Agent;
use crate::config::AgentConfig;
use crate::postgres::preflight::{Finding, Severity, examine, judge};

/// How long a database that cannot serve is left alone until it is looked at again.
const AGAIN: Duration = Duration::from_secs(10);

/// What a finding is about, however often it is made.
type Subject = (&'static str, String);

/// Logs what keeps a database from serving, or will, with what mends it, and that it is over. The agent serves
/// all the same: what cannot be reached now is tried again when it is needed.
pub(crate) async fn look(agent: &Agent, config: &AgentConfig) {
    let seams = &agent.inner.seams;
    let mut known = BTreeMap::new();
    loop {
        let examined = match examine(config, "this agent's configuration", seams).await {
            Ok(examined) => examined,
            Err(problem) => return tracing::warn!("the databases are not looked at: {problem}"),
        };
        let findings = judge(&examined, None);
        known = tell(&findings, &known);
        for participant in agent.inner.participants.values() {
            let at_it = |finding: &&Finding| finding.participants.contains(participant.name());
            participant.note_faults(errors(&findings).filter(at_it).map(|finding| finding.code).collect());
        }
        if errors(&findings).next().is_none() {
            return;
        }
        seams.clock.sleep(AGAIN).await;
    }
}

fn errors(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Error)
}

/// Says what is new, and which errors are over; returns what is known now.
fn tell(findings: &[Finding], known: &BTreeMap<Subject, Severity>) -> BTreeMap<Subject, Severity> {
    let mut now = BTreeMap::new();
    for finding in findings {
        let (code, participant) = (finding.code, finding.names());
        if now.insert((code, participant.clone()), finding.severity).is_some()
            || known.get(&(code, participant.clone())) == Some(&finding.severity)
        {
            continue;
        }
        match finding.severity {
            Severity::Error => tracing::error!(code, participant, "{finding}"),
            Severity::Warning => tracing::warn!(code, participant, "{finding}"),
            Severity::Note => tracing::info!(code, participant, "{finding}"),
        }
    }
    let over = |(subject, was): &(&Subject, &Severity)| {
        **was == Severity::Error && now.get(*subject) != Some(&Severity::Error)
    };
    for ((code, participant), _) in known.iter().filter(over) {
        tracing::info!(code, participant, "the alarm is over");
    }
    now
}
