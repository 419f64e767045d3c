//! What a person has dealt with, or would say so of.

use serde::Serialize;
use votum_proto::v1;

use super::transactions::Heuristic;

/// The answer of `votumctl acknowledge`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Acknowledgement {
    pub(crate) gtid: String,
    pub(crate) departures: Vec<Heuristic>,
    pub(crate) applied: bool,
}

impl Acknowledgement {
    /// What was on the list of `gtid`.
    pub(crate) fn new(gtid: String, answer: v1::AcknowledgeResponse) -> Self {
        let v1::AcknowledgeResponse { departures, applied } = answer;
        Self { gtid, departures: departures.into_iter().map(Heuristic::from).collect(), applied }
    }
}

/// The answer of `votumctl acknowledge --timeline`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UnprovenAcknowledgement {
    pub(crate) participant: String,
    pub(crate) timeline: u32,
    pub(crate) commits: u64,
    pub(crate) applied: bool,
}

impl UnprovenAcknowledgement {
    /// What nobody could prove at `participant`.
    pub(crate) fn new(participant: String, answer: v1::AcknowledgeUnprovenResponse) -> Self {
        let v1::AcknowledgeUnprovenResponse { timeline, commits, applied } = answer;
        Self { participant, timeline, commits, applied }
    }
}
