//! Every message of the wire contract has a name, and so cases of its own.

use std::collections::BTreeSet;

use prost::Message as _;
use votum_proto::v1::FILE_DESCRIPTOR_SET;
use votum_tests::proxy::{Fault, Link, Message};

use crate::cases;

/// The oneofs of frames: how each kind is called in the contract, and here.
const KINDS: &[(&str, &str, Message)] = &[
    ("CoordinatorMessage", "hello", Message::CoordinatorHello),
    ("CoordinatorMessage", "prepare", Message::Prepare),
    ("CoordinatorMessage", "commit", Message::CommitBranch),
    ("CoordinatorMessage", "rollback", Message::RollbackBranch),
    ("CoordinatorMessage", "end_session", Message::EndSession),
    ("CoordinatorMessage", "list", Message::ListParticipant),
    ("CoordinatorMessage", "commit_one_phase", Message::CommitOnePhase),
    ("CoordinatorMessage", "commit_one_phase", Message::Decide),
    ("CoordinatorMessage", "verify_branches", Message::VerifyBranches),
    ("CoordinatorMessage", "prune_markers", Message::PruneMarkers),
    ("CoordinatorMessage", "verify_attached", Message::VerifyAttached),
    ("CoordinatorMessage", "hold", Message::HoldBranch),
    ("AgentMessage", "hello", Message::AgentHello),
    ("AgentMessage", "refusal", Message::Refusal),
    ("AgentMessage", "enlisted", Message::Enlisted),
    ("AgentMessage", "vote", Message::Vote),
    ("AgentMessage", "branch_end", Message::BranchEnd),
    ("AgentMessage", "branch_end", Message::Decided),
    ("AgentMessage", "session_lost", Message::SessionLost),
    ("AgentMessage", "listing", Message::Listing),
    ("AgentMessage", "trouble", Message::PhaseTwoTrouble),
    ("AgentMessage", "branches_verified", Message::BranchesVerified),
    ("AgentMessage", "held", Message::BranchHeld),
    ("ExecuteResponse", "started", Message::Started),
    ("ExecuteResponse", "row", Message::Row),
    ("ExecuteResponse", "finished", Message::Finished),
    ("Call", "begin", Message::Begin),
    ("Call", "commit", Message::Commit),
    ("Call", "rollback", Message::Rollback),
    ("Call", "get_transaction", Message::GetTransaction),
    ("Call", "transact", Message::Transact),
    ("Call", "execute", Message::Execute),
    ("Reply", "begin", Message::BeginReply),
    ("Reply", "commit", Message::CommitReply),
    ("Reply", "rollback", Message::RollbackReply),
    ("Reply", "get_transaction", Message::GetTransactionReply),
    ("Reply", "transact", Message::TransactReply),
    // Its parts are those of ExecuteResponse.
    ("Reply", "execute", Message::Started),
    ("Reply", "error", Message::CallError),
];

#[test]
fn every_kind_of_message_in_the_contract_has_a_name_here() {
    let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let messages = set.file.iter().flat_map(|file| &file.message_type);
    let frames: BTreeSet<&str> = KINDS.iter().map(|(message, ..)| *message).collect();
    let kinds = messages
        .filter(|message| frames.contains(message.name()))
        .flat_map(|message| message.field.iter().map(|field| (message.name(), field)))
        .filter(|(_, field)| field.oneof_index.is_some())
        .map(|(message, field)| (message, field.name()));
    let known: BTreeSet<(&str, &str)> = KINDS.iter().map(|(message, kind, _)| (*message, *kind)).collect();
    assert_eq!(BTreeSet::from_iter(kinds), known);
}

#[test]
fn every_method_that_clients_call_has_a_name_here() {
    let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let methods = services.filter(|service| service.name() != "Operator").flat_map(|service| {
        service.method.iter().map(|method| format!("{}/{}", service.name(), method.name()))
    });
    let known = [
        "Agent/Exchange",
        "Calls/Open",
        "Coordinator/Begin",
        "Coordinator/Commit",
        "Coordinator/GetTransaction",
        "Coordinator/Rollback",
        "Coordinator/Transact",
        "Participant/Execute",
    ];
    assert_eq!(BTreeSet::from_iter(methods), BTreeSet::from(known.map(str::to_owned)));
}

#[test]
fn every_message_is_tried_in_the_short_matrix_and_with_every_fault_in_the_long_one() {
    let short: BTreeSet<Message> =
        Link::ALL.into_iter().flat_map(cases::some).map(|case| case.message).collect();
    assert_eq!(short, BTreeSet::from_iter(Message::ALL.iter().copied()));
    let long: BTreeSet<(Message, Fault)> =
        cases::all().into_iter().map(|case| (case.message, case.fault)).collect();
    assert_eq!(long.len(), Message::ALL.len() * Fault::ALL.len());
}
