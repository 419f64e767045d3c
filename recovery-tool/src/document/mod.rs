//! What is printed, as data. Serialized these are the JSON documents of `docs/votumctl-json.md`: a name in
//! them is never changed and never taken away.
//!
//! `None` is `null` in JSON and means that it is not known or does not apply; durations are milliseconds.

mod acknowledgement;
mod doctor;
mod in_doubt;
mod lost_log;
mod records;
mod resolution;
#[cfg(test)]
mod schema_tests;
mod status;
mod transactions;
mod write_off;

pub(crate) use acknowledgement::{Acknowledgement, UnprovenAcknowledgement};
pub(crate) use doctor::{Doctor, Finding, Looked};
pub(crate) use in_doubt::{InDoubt, Prepared, Server, Unheard};
pub(crate) use lost_log::{Acted, Considered, LostLog, Transaction};
pub(crate) use records::{DumpedRecord, Problem, ProblemLine, SalvagedRecord, Verified};
pub(crate) use resolution::Resolution;
pub(crate) use status::{Alarm, Compared, Participant, STOPPED, Status, Unproven};
pub(crate) use transactions::{List, Outcome, Shown, Summary};
pub(crate) use write_off::WriteOff;

/// An empty text of the wire is no text.
fn known(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Fixed answers for the tests of this crate.
#[cfg(test)]
pub(crate) mod fixed {
    pub(crate) use super::doctor::tests::{ailing as ailing_databases, sound as sound_databases};
    pub(crate) use super::in_doubt::tests::{everything, server};
    pub(crate) use super::lost_log::tests::lost;
    pub(crate) use super::records::tests::{dumped, report, salvaged};
    pub(crate) use super::status::tests::{ailing, healthy};
    pub(crate) use super::transactions::tests::{committing, departed, summary};
    pub(crate) use super::write_off::tests::lacking;
}
