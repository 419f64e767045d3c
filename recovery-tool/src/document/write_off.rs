//! What a stale log lacks, and a person gives up.

use serde::Serialize;
use votum_proto::v1;

/// The answer of `votumctl write-off`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WriteOff {
    pub(crate) coordinator_id: String,
    pub(crate) through_epoch: u64,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) applied: bool,
}

/// One proof that the log is stale.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Evidence {
    pub(crate) shown_by: String,
    pub(crate) through_epoch: u64,
    pub(crate) what: String,
    pub(crate) witness_age_ms: Option<u64>,
}

/// A branch that waits for a person.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Waiting {
    pub(crate) participant: String,
    pub(crate) gid: String,
}

impl From<v1::WriteOffResponse> for WriteOff {
    fn from(answer: v1::WriteOffResponse) -> Self {
        let v1::WriteOffResponse { coordinator_id, through_epoch, evidence, waiting, applied } = answer;
        Self {
            coordinator_id,
            through_epoch,
            evidence: evidence.into_iter().map(Evidence::from).collect(),
            waiting: waiting.into_iter().map(Waiting::from).collect(),
            applied,
        }
    }
}

impl From<v1::StaleEvidence> for Evidence {
    fn from(evidence: v1::StaleEvidence) -> Self {
        let v1::StaleEvidence { shown_by, through_epoch, what, witness_age_ms } = evidence;
        Self { shown_by, through_epoch, what, witness_age_ms }
    }
}

impl From<v1::WaitingBranch> for Waiting {
    fn from(v1::WaitingBranch { participant, gid }: v1::WaitingBranch) -> Self {
        Self { participant, gid }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A log whose end is lacking, and which also lacks an epoch; one branch waits.
    pub(crate) fn lacking(applied: bool) -> v1::WriteOffResponse {
        let evidence = |by: &str, through_epoch, what: &str, witness_age_ms| v1::StaleEvidence {
            shown_by: format!("agent {by}"),
            through_epoch,
            what: what.into(),
            witness_age_ms,
        };
        v1::WriteOffResponse {
            coordinator_id: "acme".into(),
            through_epoch: 8,
            evidence: vec![
                evidence(
                    "bank-a:7420",
                    7,
                    "its witness saw position 90 of epoch 7, and this log ends at 80 there",
                    Some(7_200_000),
                ),
                evidence(
                    "bank-b:7420",
                    8,
                    "its witness saw epoch 8, which this log does not hold",
                    Some(4_000),
                ),
            ],
            waiting: vec![v1::WaitingBranch {
                participant: "bank-a".into(),
                gid: "votum_acme_7_3f9ac2_1042_0_2".into(),
            }],
            applied,
        }
    }

    #[test]
    fn what_is_no_witness_has_no_age() {
        let mut answer = lacking(false);
        answer.evidence[0].witness_age_ms = None;
        let document = serde_json::to_value(WriteOff::from(answer)).unwrap();
        assert_eq!(document["evidence"][0]["witness_age_ms"], serde_json::Value::Null);
        assert_eq!(document["evidence"][1]["witness_age_ms"], 4_000);
    }
}
