//! From the wire's words to the driver's, with every bound checked.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use votum_proto::names::{Gtid, NameError, ParticipantName};
use votum_proto::v1;

use crate::config::Limits;
use crate::driver::request::{
    Acknowledge, AcknowledgeUnproven, Begin, BranchClaim, Commit, RequestError, Resolve, Transact, Wait,
    WriteOff,
};
use crate::protocol::record::{KeyRecord, MAX_BRANCHES, MAX_KEY, MAX_LABEL, MAX_TEXT, cut};

/// The longest digest that a client may give of its work, in bytes.
const MAX_DIGEST: usize = 64;
/// How long agents have to answer an operator's question when the question does not say, and at most.
const LISTING_WAIT_MS: u64 = 5_000;
const LONGEST_LISTING_WAIT_MS: u64 = 60_000;

/// A name from the wire.
///
/// # Errors
/// [`RequestError::Invalid`], with what was expected.
pub fn name<T: FromStr<Err = NameError>>(text: &str) -> Result<T, RequestError> {
    text.parse().map_err(|error: NameError| RequestError::Invalid(error.to_string()))
}

/// A Begin.
///
/// # Errors
/// [`RequestError::Invalid`], naming the field and its bound.
pub fn begin(request: v1::BeginRequest, limits: &Limits) -> Result<Begin, RequestError> {
    let isolation = v1::Isolation::try_from(request.isolation).map_err(|_| {
        RequestError::Invalid(format!("isolation {} is not one of enum Isolation", request.isolation))
    })?;
    bounded("idempotency_key", request.idempotency_key.len(), MAX_KEY)?;
    bounded("client_name", request.client_name.len(), MAX_LABEL)?;
    bounded("request_digest", request.request_digest.len(), MAX_DIGEST)?;
    bounded("label", request.label.len(), MAX_LABEL)?;
    bounded("attached", request.attached.len(), MAX_BRANCHES)?;
    bounded("participants", request.participants.len(), MAX_BRANCHES)?;
    if request.read_only && !request.attached.is_empty() {
        return Err(RequestError::Invalid(
            "what is prepared is never read-only: leave `attached` empty in a READ ONLY transaction".into(),
        ));
    }
    let attached = request.attached.iter().map(|text| name(text)).collect::<Result<Vec<_>, _>>()?;
    let participants = request.participants.iter().map(|text| name(text)).collect::<Result<Vec<_>, _>>()?;
    let request_hash = request_hash(isolation, &request);
    let v1::BeginRequest { timeout_ms, idempotency_key, client_name, label, .. } = request;
    let key = (!idempotency_key.is_empty()).then(|| KeyRecord {
        client: client_name.clone(),
        key: idempotency_key,
        request_hash,
    });
    let timeout = limits.timeout(timeout_ms);
    Ok(Begin { timeout, key, client: client_name, label, attached, participants })
}

/// What an idempotency key stands for: the parameters of Begin and the client's own digest of the work, but
/// neither the key nor the timeout, which a retry may choose afresh, nor where it expects to work. Kept in the log: this may never change.
fn request_hash(isolation: v1::Isolation, request: &v1::BeginRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"votum.v1.Begin\0");
    hash.update(i32::from(isolation).to_be_bytes());
    hash.update([u8::from(request.read_only)]);
    // Each with its length before it: no two requests may run together into the same bytes.
    for field in [request.label.as_bytes(), &request.request_digest] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    // As ever, where there are none.
    for participant in &request.attached {
        hash.update((participant.len() as u64).to_be_bytes());
        hash.update(participant.as_bytes());
    }
    hash.finalize().into()
}

/// A Commit.
///
/// # Errors
/// [`RequestError::Invalid`], naming the branch.
pub fn commit(request: v1::CommitRequest) -> Result<Commit, RequestError> {
    bounded("the number of branches", request.branches.len(), MAX_BRANCHES)?;
    let wait = wait(request.wait());
    let gtid: Gtid = name(&request.gtid)?;
    let branches = request.branches.iter().map(claim).collect::<Result<Vec<_>, _>>()?;
    one_each(branches.iter().map(|branch| &branch.participant))?;
    Ok(Commit { gtid, secret: request.secret, branches, wait })
}

fn claim(claim: &v1::BranchClaim) -> Result<BranchClaim, RequestError> {
    let participant: ParticipantName = name(&claim.participant)?;
    let session = claim.session.ok_or_else(|| {
        RequestError::Invalid(format!(
            "the branch at participant {participant} names no session: show the one that the reply to its \
             first Execute carried"
        ))
    })?;
    Ok(BranchClaim { participant, session: session.into(), last_ordinal: claim.last_ordinal })
}

/// A whole transaction.
///
/// # Errors
/// [`RequestError::Invalid`], naming the field and its bound, or the branch.
pub fn transact(mut request: v1::TransactRequest, limits: &Limits) -> Result<Transact, RequestError> {
    let isolation = v1::Isolation::try_from(request.isolation).map_err(|_| {
        RequestError::Invalid(format!("isolation {} is not one of enum Isolation", request.isolation))
    })?;
    bounded("idempotency_key", request.idempotency_key.len(), MAX_KEY)?;
    bounded("client_name", request.client_name.len(), MAX_LABEL)?;
    bounded("label", request.label.len(), MAX_LABEL)?;
    bounded("the number of branches", request.branches.len(), MAX_BRANCHES)?;
    let wait = wait(request.wait());
    let key = std::mem::take(&mut request.idempotency_key);
    let client = std::mem::take(&mut request.client_name);
    let timeout = limits.timeout(std::mem::take(&mut request.timeout_ms));
    let attempt = Some(std::mem::take(&mut request.attempt)).filter(|attempt| *attempt != 0);
    let life = std::mem::take(&mut request.life);
    let repeated = std::mem::take(&mut request.repeated);
    let last_agent = std::mem::take(&mut request.last_agent);
    request.wait = 0;
    let key = (!key.is_empty()).then(|| KeyRecord {
        client: client.clone(),
        key,
        request_hash: work_hash(&request),
    });
    let branches = request.branches.into_iter().map(work).collect::<Result<Vec<_>, _>>()?;
    one_each(branches.iter().map(|(participant, _)| participant))?;
    if branches.is_empty() {
        return Err(RequestError::Invalid("name at least one branch".into()));
    }
    let label = request.label;
    let begin = Begin { timeout, key, client, label, attached: Vec::new(), participants: Vec::new() };
    let read_only = request.read_only;
    Ok(Transact { begin, isolation, read_only, branches, wait, attempt, life, repeated, last_agent })
}

/// What an idempotency key of a whole transaction stands for: all but the key and its client, the timeout, what the
/// answer waits for, and what names the request itself. Kept in the log: this may never change.
fn work_hash(request: &v1::TransactRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"votum.v1.Transact\0");
    hash.update(request.encode_to_vec());
    hash.finalize().into()
}

fn work(work: v1::BranchWork) -> Result<(ParticipantName, v1::BranchWork), RequestError> {
    let participant: ParticipantName = name(&work.participant)?;
    if work.statements.is_empty() {
        return Err(RequestError::Invalid(format!(
            "the branch at participant {participant} has no statement"
        )));
    }
    let mut parameters = work.statements.iter().flat_map(|statement| &statement.parameters);
    if parameters.any(|parameter| parameter.kind.is_none()) {
        return Err(RequestError::Invalid(format!(
            "a parameter at participant {participant} holds no value: NULL is written null: true"
        )));
    }
    Ok((participant, work))
}

fn wait(wait: v1::commit_request::Wait) -> Wait {
    match wait {
        v1::commit_request::Wait::Unspecified | v1::commit_request::Wait::Completed => Wait::Completed,
        v1::commit_request::Wait::Decided => Wait::Decided,
    }
}

fn one_each<'a>(mut participants: impl Iterator<Item = &'a ParticipantName>) -> Result<(), RequestError> {
    let mut seen = BTreeSet::new();
    match participants.find(|participant| !seen.insert(*participant)) {
        None => Ok(()),
        Some(twice) => Err(RequestError::Invalid(format!(
            "participant {twice} is named twice: a transaction has one branch at each participant"
        ))),
    }
}

/// What a rollback gives as its reason: cut rather than refused, for a rollback should not fail over words.
pub fn reason(text: &str) -> String {
    cut(text, MAX_TEXT)
}

/// Which participant an operator asks about, and how long agents have to answer.
///
/// # Errors
/// [`RequestError::Invalid`] when the participant's name is not one.
pub fn in_doubt(
    request: &v1::ListInDoubtRequest,
) -> Result<(Option<ParticipantName>, Duration), RequestError> {
    let participant = match request.participant.as_str() {
        "" => None,
        text => Some(name(text)?),
    };
    let wait_ms = if request.wait_ms == 0 { LISTING_WAIT_MS } else { request.wait_ms };
    Ok((participant, Duration::from_millis(wait_ms.min(LONGEST_LISTING_WAIT_MS))))
}

/// A settlement by hand.
///
/// # Errors
/// [`RequestError::Invalid`]: a name that is not one, no action, or an order that does not say who gives it.
pub fn resolve(request: v1::ResolveRequest) -> Result<Resolve, RequestError> {
    let commit = match request.action() {
        v1::resolve_request::Action::Commit => true,
        v1::resolve_request::Action::Rollback => false,
        v1::resolve_request::Action::Unspecified => {
            return Err(RequestError::Invalid("say whether to commit or to roll back the branch".into()));
        }
    };
    said(&request.operator, &request.reason, request.apply)?;
    Ok(Resolve {
        gid: name(&request.gid)?,
        participant: name(&request.participant)?,
        commit,
        operator: request.operator,
        reason: request.reason,
        apply: request.apply,
        heuristic: request.heuristic,
    })
}

/// What a person has dealt with.
///
/// # Errors
/// [`RequestError::Invalid`]: a name that is not one, or an order that does not say who gives it.
pub fn acknowledge(request: v1::AcknowledgeRequest) -> Result<Acknowledge, RequestError> {
    said(&request.operator, &request.reason, request.apply)?;
    let at = request.participant.as_str();
    Ok(Acknowledge {
        gtid: name(&request.gtid)?,
        participant: if at.is_empty() { None } else { Some(name(at)?) },
        operator: request.operator,
        reason: request.reason,
        apply: request.apply,
    })
}

/// What a person has compared.
///
/// # Errors
/// [`RequestError::Invalid`]: no participant, no timeline, or an order that does not say who gives it.
pub fn acknowledge_unproven(
    request: v1::AcknowledgeUnprovenRequest,
) -> Result<AcknowledgeUnproven, RequestError> {
    said(&request.operator, &request.reason, request.apply)?;
    let v1::AcknowledgeUnprovenRequest { participant, timeline, operator, reason, apply } = request;
    if timeline == 0 {
        return Err(RequestError::Invalid("say on which timeline the databases were compared".into()));
    }
    Ok(AcknowledgeUnproven { participant: name(&participant)?, timeline, operator, reason, apply })
}

/// An order to write off what a stale log lacks.
///
/// # Errors
/// [`RequestError::Invalid`], when it does not say who and why.
pub fn write_off(request: v1::WriteOffRequest) -> Result<WriteOff, RequestError> {
    said(&request.operator, &request.reason, request.apply)?;
    let v1::WriteOffRequest { coordinator_id, operator, reason, apply } = request;
    Ok(WriteOff { coordinator_id, operator, reason, apply })
}

/// Whether an order says who gives it, and why.
fn said(operator: &str, reason: &str, apply: bool) -> Result<(), RequestError> {
    bounded("operator", operator.len(), MAX_LABEL)?;
    bounded("reason", reason.len(), MAX_TEXT)?;
    if apply && (operator.is_empty() || reason.is_empty()) {
        return Err(RequestError::Invalid("say who does it and why: both are kept in the log".into()));
    }
    Ok(())
}

fn bounded(what: &str, found: usize, most: usize) -> Result<(), RequestError> {
    if found <= most {
        return Ok(());
    }
    let unit = if what.starts_with("the number") { "" } else { " bytes" };
    Err(RequestError::Invalid(format!("{what} is {found}{unit}; at most {most} are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin_with(change: impl FnOnce(&mut v1::BeginRequest)) -> Result<Begin, RequestError> {
        let mut request = v1::BeginRequest { idempotency_key: "k".into(), ..Default::default() };
        change(&mut request);
        begin(request, &Limits::default())
    }

    fn hash_with(change: impl FnOnce(&mut v1::BeginRequest)) -> [u8; 32] {
        begin_with(change).unwrap().key.unwrap().request_hash
    }

    fn refused<T>(result: Result<T, RequestError>) -> String {
        match result {
            Err(RequestError::Invalid(why)) => why,
            Err(other) => panic!("refused otherwise: {other}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[test]
    fn every_bound_of_begin_is_checked() {
        assert!(begin_with(|r| r.idempotency_key = "k".repeat(MAX_KEY)).is_ok());
        for (field, why) in [
            ("idempotency_key", refused(begin_with(|r| r.idempotency_key = "k".repeat(MAX_KEY + 1)))),
            ("client_name", refused(begin_with(|r| r.client_name = "c".repeat(MAX_LABEL + 1)))),
            ("label", refused(begin_with(|r| r.label = "l".repeat(MAX_LABEL + 1)))),
            ("request_digest", refused(begin_with(|r| r.request_digest = vec![0; MAX_DIGEST + 1]))),
            ("isolation", refused(begin_with(|r| r.isolation = 17))),
            ("attached", refused(begin_with(|r| r.attached = vec!["bank".into(); MAX_BRANCHES + 1]))),
            ("participant", refused(begin_with(|r| r.attached.push("Bank".into())))),
        ] {
            assert!(why.contains(field), "{field}: {why}");
        }
        assert_eq!(begin(v1::BeginRequest::default(), &Limits::default()).unwrap().key, None);
    }

    #[test]
    fn the_hash_of_a_request_covers_what_it_does_and_not_how_it_is_retried() {
        let plain = hash_with(|_| ());
        assert_eq!(plain, hash_with(|r| r.timeout_ms = 5));
        assert_eq!(plain, hash_with(|r| r.idempotency_key = "other".into()));
        let different = [
            plain,
            hash_with(|r| r.read_only = true),
            hash_with(|r| r.set_isolation(v1::Isolation::Serializable)),
            hash_with(|r| r.label = "ab".into()),
            hash_with(|r| r.attached = vec!["ab".into()]),
            hash_with(|r| r.attached = vec!["a".into(), "b".into()]),
            hash_with(|r| r.request_digest = b"ab".to_vec()),
            hash_with(|r| {
                r.label = "a".into();
                r.request_digest = b"b".to_vec();
            }),
        ];
        let distinct: BTreeSet<_> = different.iter().collect();
        assert_eq!(distinct.len(), different.len());
    }

    /// A hash that changed with a release would make every retry across it a mismatch.
    #[test]
    fn the_hash_of_a_request_is_the_same_for_ever() {
        let hash = hash_with(|r| {
            r.label = "transfer".into();
            r.request_digest = b"digest".to_vec();
            r.read_only = true;
            r.set_isolation(v1::Isolation::RepeatableRead);
        });
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "2823bc6b7b185d712f0aed084bae6b72a0301fcff592013b99a920d905417cce");
    }

    fn commit_of(branches: Vec<v1::BranchClaim>) -> Result<Commit, RequestError> {
        commit(v1::CommitRequest { gtid: "acme-7-3f9ac2-1".into(), branches, ..Default::default() })
    }

    fn at(participant: &str) -> v1::BranchClaim {
        let session = v1::SessionName { agent_instance: 1, counter: 1 };
        v1::BranchClaim { participant: participant.into(), session: Some(session), last_ordinal: 1 }
    }

    #[test]
    fn a_commit_names_each_participant_once_with_its_session() {
        let commit = commit_of(vec![at("a"), at("b")]).unwrap();
        assert_eq!((commit.branches.len(), commit.wait), (2, Wait::Completed));
        assert!(refused(commit_of(vec![at("a"), at("b"), at("a")])).contains("a is named twice"));
        assert!(
            refused(commit_of(vec![v1::BranchClaim { session: None, ..at("a") }])).contains("no session")
        );
        assert!(refused(commit_of(vec![at("A")])).contains("participant"));
        let many = |n: usize| (0..n).map(|i| at(&format!("p{i}"))).collect();
        assert!(commit_of(many(MAX_BRANCHES)).is_ok());
        assert!(refused(commit_of(many(MAX_BRANCHES + 1))).contains("33"));
    }

    #[test]
    fn nothing_is_settled_by_hand_without_a_name_and_a_reason() {
        let request = v1::ResolveRequest {
            gid: "votum_acme_7_3f9ac2_1042_0_2".into(),
            participant: "bank".into(),
            action: v1::resolve_request::Action::Rollback.into(),
            ..Default::default()
        };
        assert!(!resolve(request.clone()).unwrap().commit);
        assert!(refused(resolve(v1::ResolveRequest { apply: true, ..request.clone() })).contains("who"));
        assert!(refused(resolve(v1::ResolveRequest { action: 0, ..request.clone() })).contains("commit or"));
        assert!(refused(resolve(v1::ResolveRequest { gid: "x".into(), ..request })).contains("gid"));
        let gtid = "acme-7-3f9ac2-1".to_owned();
        let request = v1::AcknowledgeRequest { gtid, operator: "ann".into(), ..Default::default() };
        assert_eq!(acknowledge(request.clone()).map(|request| request.participant), Ok(None));
        assert!(refused(acknowledge(v1::AcknowledgeRequest { apply: true, ..request })).contains("who"));
        let request =
            v1::AcknowledgeUnprovenRequest { participant: "bank".into(), timeline: 2, ..Default::default() };
        assert_eq!(acknowledge_unproven(request.clone()).unwrap().timeline, 2);
        let silent = v1::AcknowledgeUnprovenRequest { apply: true, ..request.clone() };
        assert!(refused(acknowledge_unproven(silent)).contains("who"));
        let nowhen = v1::AcknowledgeUnprovenRequest { timeline: 0, ..request };
        assert!(refused(acknowledge_unproven(nowhen)).contains("timeline"));
    }

    #[test]
    fn a_question_to_all_agents_waits_for_a_bounded_time() {
        let (participant, wait) = in_doubt(&v1::ListInDoubtRequest::default()).unwrap();
        assert_eq!((participant, wait), (None, Duration::from_secs(5)));
        let long = v1::ListInDoubtRequest { wait_ms: u64::MAX, ..Default::default() };
        assert_eq!(in_doubt(&long).unwrap().1, Duration::from_secs(60));
    }
}
