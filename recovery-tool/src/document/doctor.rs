//! What the databases of participants are like.

use serde::Serialize;
use votum_participant::postgres::preflight::{self, Examined, Place, Severity};

use super::known;
use crate::failure::Exit;

/// The answer of `votumctl doctor`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Doctor {
    pub(crate) participants: Vec<Looked>,
    /// The worst first.
    pub(crate) findings: Vec<Finding>,
    #[serde(skip)]
    worst: Option<Severity>,
}

/// One participant that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Looked {
    pub(crate) participant: String,
    pub(crate) file: String,
    pub(crate) server: String,
    pub(crate) database: String,
    pub(crate) role: String,
    pub(crate) answers: bool,
    pub(crate) version: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    pub(crate) code: String,
    pub(crate) severity: String,
    pub(crate) participants: Vec<String>,
    pub(crate) seen: String,
    pub(crate) why: String,
    pub(crate) remedy: Remedy,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Remedy {
    pub(crate) place: String,
    pub(crate) lines: Vec<String>,
    pub(crate) advice: Option<String>,
    #[serde(skip)]
    pub(crate) statements: bool,
}

impl Doctor {
    /// What was looked at, and what was found.
    pub(crate) fn new(examined: &[Examined], findings: Vec<preflight::Finding>) -> Self {
        Self {
            participants: examined.iter().map(Looked::from).collect(),
            worst: findings.iter().map(|finding| finding.severity).max(),
            findings: findings.into_iter().map(Finding::from).collect(),
        }
    }

    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        match self.worst {
            None | Some(Severity::Note) => Exit::Fine,
            Some(Severity::Warning) => Exit::Attention,
            Some(Severity::Error) => Exit::Refused,
        }
    }
}

impl From<&Examined> for Looked {
    fn from(Examined { subject, answer }: &Examined) -> Self {
        Self {
            participant: subject.participant.to_string(),
            file: subject.file.clone(),
            server: subject.address.clone(),
            database: subject.database.clone(),
            role: subject.user.clone(),
            answers: answer.is_ok(),
            version: answer.as_ref().ok().map(|facts| facts.version.clone()),
        }
    }
}

impl From<preflight::Finding> for Finding {
    fn from(finding: preflight::Finding) -> Self {
        let preflight::Remedy { place, lines, advice } = finding.remedy;
        Self {
            code: finding.code.to_owned(),
            severity: finding.severity.to_string(),
            participants: finding.participants.iter().map(ToString::to_string).collect(),
            seen: finding.seen,
            why: finding.why.to_owned(),
            remedy: Remedy {
                place: place.name().to_owned(),
                lines,
                advice: known(advice),
                statements: place == Place::Database,
            },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use votum_participant::postgres::preflight::{Facts, PreparedSeen, Setting, Subject, judge};

    use super::*;

    fn subject(name: &str, port: u16) -> Subject {
        Subject {
            participant: name.parse().unwrap(),
            file: format!("/etc/votum/{name}.toml"),
            coordinators: Vec::new(),
            sessions: 32,
            phase2_connections: 4,
            max_branch_timeout_ms: 600_000,
            address: format!("127.0.0.1:{port}"),
            user: "votum".into(),
            database: "bank".into(),
        }
    }

    fn bank(settings: &[(&str, &str)]) -> Examined {
        let setting = |(name, value): &(&str, &str)| {
            let setting = Setting { value: (*value).to_owned(), source: "default".into() };
            ((*name).to_owned(), setting)
        };
        let facts = Facts {
            keeps_witness: Some(true),
            version: "15.18".into(),
            major: 15,
            database: "bank".into(),
            settings: settings.iter().map(setting).collect(),
            ..Facts::default()
        };
        Examined { subject: subject("bank-a", 5432), answer: Ok(facts) }
    }

    fn look(examined: &[Examined]) -> Doctor {
        Doctor::new(examined, judge(examined, None))
    }

    /// A database without a fault.
    pub(crate) fn sound() -> Doctor {
        look(&[bank(&[])])
    }

    /// Two, with a finding of each severity.
    pub(crate) fn ailing() -> Doctor {
        let mut a = bank(&[("max_prepared_transactions", "0"), ("full_page_writes", "off")]);
        if let Ok(facts) = &mut a.answer {
            let prepared =
                PreparedSeen { gid: "other".into(), database: "bank".into(), age: 5, ..Default::default() };
            facts.prepared = vec![prepared];
        }
        let b = votum_participant::database::DatabaseError {
            policy: votum_participant::database::Policy::Retry,
            aftermath: votum_participant::database::Aftermath::Broken,
            sqlstate: String::new(),
            message: "connection refused".into(),
            retryable: true,
            sql: None,
        };
        look(&[a, Examined { subject: subject("bank-b", 5433), answer: Err(b) }])
    }

    #[test]
    fn the_worst_finding_says_how_it_ends() {
        let with = |settings: &[(&str, &str)]| look(&[bank(settings)]).exit();
        assert_eq!(sound().exit(), Exit::Fine);
        assert_eq!(with(&[("lock_timeout", "5000")]), Exit::Fine);
        assert_eq!(with(&[("lock_timeout", "5000"), ("full_page_writes", "off")]), Exit::Attention);
        assert_eq!(with(&[("full_page_writes", "off"), ("fsync", "off")]), Exit::Refused);
    }
}
