//! What must hold of requests that anybody may send. Fuzz targets call this, and so does a bounded run with
//! every test; in a build for use it is not there.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a failure is what is looked for

use prost::Message;
use votum_proto::v1;

use super::translate;
use crate::config::Limits;
use crate::driver::request::RequestError;
use crate::log::codec;
use crate::protocol::record::{
    Begun, Compared, Decided, Decision, KeyRecord, MAX_BRANCHES, MAX_LABEL, MAX_TEXT, PreparedBranch, Record,
    cut,
};

/// A request is refused in words, or what it asks for fits in the log's records.
///
/// The first byte says which kind of request the rest is.
pub fn request(bytes: &[u8]) {
    let [kind, rest @ ..] = bytes else { return };
    match kind % 8 {
        0 => begin(rest),
        1 => commit(rest),
        2 => resolve(rest),
        3 => acknowledge(rest),
        4 => write_off(rest),
        5 => acknowledge_unproven(rest),
        6 => transact(rest),
        _ => {
            if let Ok(request) = v1::ListInDoubtRequest::decode(rest) {
                let _ = judged(translate::in_doubt(&request));
            }
        }
    }
}

fn judged<T>(translated: Result<T, RequestError>) -> Option<T> {
    match translated {
        Ok(request) => Some(request),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fn begin(bytes: &[u8]) {
    let Ok(request) = v1::BeginRequest::decode(bytes) else { return };
    let limits = Limits::default();
    let Some(begin) = judged(translate::begin(request.clone(), &limits)) else { return };
    assert_eq!(begin.timeout, limits.timeout(request.timeout_ms));
    let gtid: votum_proto::names::Gtid =
        "abcdefghijklmnop-18446744073709551615-3f9ac2-18446744073709551615".parse().unwrap();
    let begun =
        Begun { gtid: gtid.clone(), label: begin.label.clone(), client: begin.client, timeout_ms: u64::MAX };
    codec::encode(&Record::Begun(begun)).unwrap();
    let key = begin.key.unwrap_or(KeyRecord {
        client: String::new(),
        key: String::new(),
        request_hash: [0xff; 32],
    });
    codec::encode(&Record::Decided(largest(gtid, begin.label, key))).unwrap();
}

/// The decision over as many branches as there may be, each as large as it may be.
fn largest(gtid: votum_proto::names::Gtid, label: String, key: KeyRecord) -> Decided {
    let branch = |number| PreparedBranch {
        number,
        participant: "p".repeat(63).parse().unwrap(),
        xid8: u64::MAX,
        system_identifier: u64::MAX,
        timeline: u32::MAX,
        marker: true,
    };
    let branches = u16::try_from(MAX_BRANCHES).unwrap();
    Decided {
        gtid,
        decision: Decision::Commit,
        branches_named: branches,
        branches: (0..branches).map(branch).collect(),
        key: Some(key),
        label,
    }
}

fn commit(bytes: &[u8]) {
    let Ok(request) = v1::CommitRequest::decode(bytes) else { return };
    let gtid = request.gtid.clone();
    let Some(commit) = judged(translate::commit(request)) else { return };
    assert_eq!(commit.gtid.to_string(), gtid);
    assert!(commit.branches.len() <= MAX_BRANCHES);
    for (at, branch) in commit.branches.iter().enumerate() {
        assert!(commit.branches[at + 1..].iter().all(|other| other.participant != branch.participant));
    }
}

fn transact(bytes: &[u8]) {
    let Ok(request) = v1::TransactRequest::decode(bytes) else { return };
    let limits = Limits::default();
    let Some(transact) = judged(translate::transact(request.clone(), &limits)) else { return };
    assert_eq!(transact.begin.timeout, limits.timeout(request.timeout_ms));
    assert!((1..=MAX_BRANCHES).contains(&transact.branches.len()));
    let names: std::collections::BTreeSet<_> = transact.branches.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), transact.branches.len());
    assert!(transact.branches.iter().all(|(_, work)| !work.statements.is_empty()));
    // What names the request, and how it is answered, is not what it does.
    let again = v1::TransactRequest {
        attempt: 7,
        life: "7-3f9ac2".into(),
        timeout_ms: 7,
        wait: 1,
        repeated: true,
        ..request
    };
    let again = judged(translate::transact(again, &limits)).unwrap();
    assert_eq!(again.begin.key, transact.begin.key);
}

fn resolve(bytes: &[u8]) {
    let Ok(request) = v1::ResolveRequest::decode(bytes) else { return };
    let gid = request.gid.clone();
    let Some(resolve) = judged(translate::resolve(request)) else { return };
    assert_eq!(resolve.gid.to_string(), gid);
    assert!(!resolve.apply || !resolve.operator.is_empty() && !resolve.reason.is_empty());
}

fn acknowledge(bytes: &[u8]) {
    let Ok(request) = v1::AcknowledgeRequest::decode(bytes) else { return };
    let gtid = request.gtid.clone();
    let Some(acknowledge) = judged(translate::acknowledge(request)) else { return };
    assert_eq!(acknowledge.gtid.to_string(), gtid);
    assert!(!acknowledge.apply || !acknowledge.operator.is_empty() && !acknowledge.reason.is_empty());
}

fn acknowledge_unproven(bytes: &[u8]) {
    let Ok(request) = v1::AcknowledgeUnprovenRequest::decode(bytes) else { return };
    let Some(order) = judged(translate::acknowledge_unproven(request)) else { return };
    assert!(order.timeline != 0 && (!order.apply || !order.operator.is_empty() && !order.reason.is_empty()));
    let compared = Compared {
        participant: order.participant,
        system_identifier: u64::MAX,
        timeline: order.timeline,
        unproven: u64::MAX,
        operator: cut(&order.operator, MAX_LABEL),
        reason: cut(&order.reason, MAX_TEXT),
    };
    codec::encode(&Record::Compared(compared)).unwrap();
}

fn write_off(bytes: &[u8]) {
    let Ok(request) = v1::WriteOffRequest::decode(bytes) else { return };
    let Some(write_off) = judged(translate::write_off(request)) else { return };
    assert!(!write_off.apply || !write_off.operator.is_empty() && !write_off.reason.is_empty());
}

/// Examples to begin with: one request of each kind.
pub fn examples() -> Vec<Vec<u8>> {
    let begin = v1::BeginRequest {
        timeout_ms: 1_000,
        idempotency_key: "order-7".into(),
        client_name: "shop".into(),
        label: "transfer".into(),
        ..Default::default()
    };
    let claim = |participant: &str| v1::BranchClaim {
        participant: participant.into(),
        session: Some(v1::SessionName { agent_instance: 7, counter: 1 }),
        last_ordinal: 2,
    };
    let commit = v1::CommitRequest {
        gtid: "acme-7-3f9ac2-1042".into(),
        secret: vec![7; 32],
        branches: vec![claim("bank-a"), claim("bank-b")],
        ..Default::default()
    };
    let resolve = v1::ResolveRequest {
        gid: "votum_acme_7_3f9ac2_1042_0_2".into(),
        participant: "bank-a".into(),
        action: v1::resolve_request::Action::Commit.into(),
        operator: "ann".into(),
        reason: "the log says so".into(),
        apply: true,
        heuristic: true,
    };
    let in_doubt = v1::ListInDoubtRequest { participant: "bank-a".into(), wait_ms: 7 };
    let acknowledge = v1::AcknowledgeRequest {
        gtid: "acme-7-3f9ac2-1042".into(),
        participant: "bank-a".into(),
        operator: "ann".into(),
        reason: "repaid by hand".into(),
        apply: true,
    };
    let write_off = v1::WriteOffRequest {
        coordinator_id: "acme".into(),
        operator: "ann".into(),
        reason: "the disk is gone".into(),
        apply: true,
    };
    let acknowledge_unproven = v1::AcknowledgeUnprovenRequest {
        participant: "bank-a".into(),
        timeline: 2,
        operator: "ann".into(),
        reason: "compared by hand".into(),
        apply: true,
    };
    let work = |participant: &str| v1::BranchWork {
        participant: participant.into(),
        statements: vec![v1::WorkStatement { statement: "select 1".into(), ..Default::default() }],
        ..Default::default()
    };
    let transact = v1::TransactRequest {
        idempotency_key: "order-7".into(),
        client_name: "shop".into(),
        branches: vec![work("bank-a"), work("bank-b")],
        ..Default::default()
    };
    let requests = [
        begin.encode_to_vec(),
        commit.encode_to_vec(),
        resolve.encode_to_vec(),
        acknowledge.encode_to_vec(),
        write_off.encode_to_vec(),
        acknowledge_unproven.encode_to_vec(),
        transact.encode_to_vec(),
        in_doubt.encode_to_vec(),
    ];
    requests.into_iter().zip(0u8..).map(|(bytes, kind)| [vec![kind], bytes].concat()).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_request_is_refused_in_words_or_fits_in_the_log() {
        crate::bounded::run("request", 20_000, super::examples(), super::request);
    }
}
