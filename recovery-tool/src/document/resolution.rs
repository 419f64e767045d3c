//! A settlement by hand, or what it would be.

use serde::Serialize;
use votum_proto::v1;

/// The answer of `votumctl resolve`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Resolution {
    pub(crate) gid: String,
    pub(crate) participant: String,
    /// commit or rollback.
    pub(crate) action: &'static str,
    pub(crate) statements: Vec<String>,
    /// commit or abort where it departs from that; else empty.
    pub(crate) departs_from: String,
    /// How the transaction then stands; empty where it does not depart.
    pub(crate) consequence: String,
    pub(crate) judgement: String,
    pub(crate) applied: bool,
    pub(crate) result: String,
}

impl Resolution {
    /// What was asked, and what came of it.
    pub(crate) fn new(gid: String, participant: String, commit: bool, answer: v1::ResolveResponse) -> Self {
        Self {
            gid,
            participant,
            action: if commit { "commit" } else { "rollback" },
            statements: answer.statements,
            departs_from: if answer.consequence.is_empty() { String::new() } else { answer.decision },
            consequence: answer.consequence,
            judgement: answer.judgement,
            applied: answer.applied,
            result: answer.result,
        }
    }

    /// Whether this dry run ended where there is something for a person to decide: the coordinator says so.
    pub(crate) fn waits_for_a_person(&self) -> bool {
        !self.applied && self.result.contains("dry run")
    }
}
