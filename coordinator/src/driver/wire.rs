//! Between the protocol's words and the exchange's messages. What an agent says is checked here: a message
//! that cannot be read is dropped with a line in the log, and never a panic.

use std::time::Duration;

use votum_proto::names::{Epoch, Gid, Gtid, Incarnation, Life, ParticipantName, SessionName};
use votum_proto::v1;
use votum_proto::v1::coordinator_message::Kind;

use crate::protocol::event::{Prepared, Report, Vote};
use crate::protocol::gone::{Gone, Marker, XidStatus};
use crate::protocol::lives::Witness;
use crate::protocol::record::{AbortKind, AbortReason, MAX_TEXT, cut};

fn message(kind: Kind) -> v1::CoordinatorMessage {
    v1::CoordinatorMessage { kind: Some(kind) }
}

pub(super) fn prepare(
    participant: &ParticipantName,
    gid: &Gid,
    session: SessionName,
    last_ordinal: u64,
    one_phase: bool,
    work: Option<v1::Work>,
) -> v1::CoordinatorMessage {
    message(Kind::Prepare(v1::Prepare {
        gtid: gid.gtid.to_string(),
        participant: participant.to_string(),
        gid: gid.to_string(),
        session: Some(session.into()),
        last_ordinal,
        one_phase,
        work,
    }))
}

pub(super) fn verify_attached(participant: &ParticipantName, gid: &Gid) -> v1::CoordinatorMessage {
    message(Kind::VerifyAttached(v1::VerifyAttached {
        gtid: gid.gtid.to_string(),
        participant: participant.to_string(),
        gid: gid.to_string(),
    }))
}

pub(super) fn commit_one_phase(participant: &ParticipantName, gid: &Gid) -> v1::CoordinatorMessage {
    message(Kind::CommitOnePhase(one_phase(participant, gid)))
}

/// Has the last branch do its work, and decide.
pub(super) fn decide(participant: &ParticipantName, gid: &Gid, task: LastTask) -> v1::CoordinatorMessage {
    let LastTask { session, work, system_identifier, timeline } = task;
    message(Kind::CommitOnePhase(v1::CommitOnePhase {
        work: Some(work),
        session: Some(session.into()),
        system_identifier,
        timeline,
        ..one_phase(participant, gid)
    }))
}

/// What the last branch is to do, in which life of its agent, and on which server.
pub(super) struct LastTask {
    pub(super) session: SessionName,
    pub(super) work: v1::Work,
    pub(super) system_identifier: u64,
    pub(super) timeline: u32,
}

fn one_phase(participant: &ParticipantName, gid: &Gid) -> v1::CommitOnePhase {
    v1::CommitOnePhase {
        gtid: gid.gtid.to_string(),
        participant: participant.to_string(),
        gid: gid.to_string(),
        ..Default::default()
    }
}

/// The first order to commit a branch, on the stream on which its vote came. Where `nobody_waits` for its
/// acknowledgement, that takes its time.
pub(super) fn commit_first(
    participant: &ParticipantName,
    gid: &Gid,
    xid8: u64,
    nobody_waits: bool,
) -> v1::CoordinatorMessage {
    message(Kind::Commit(v1::CommitBranch { nobody_waits, ..commit(participant, gid, xid8) }))
}

/// Any later order to commit it: the agent compares what is prepared first, with the id that a listing showed
/// where the vote's is not known.
pub(super) fn commit_again(
    participant: &ParticipantName,
    gid: &Gid,
    xid8: u64,
    listed_xid: u32,
) -> v1::CoordinatorMessage {
    let order = commit(participant, gid, xid8);
    message(Kind::Commit(v1::CommitBranch { listed_xid, compare_first: true, ..order }))
}

fn commit(participant: &ParticipantName, gid: &Gid, xid8: u64) -> v1::CommitBranch {
    v1::CommitBranch {
        gtid: gid.gtid.to_string(),
        participant: participant.to_string(),
        gid: gid.to_string(),
        xid8,
        ..Default::default()
    }
}

pub(super) fn rollback_branch(
    gtid: &Gtid,
    participant: &ParticipantName,
    gid: Option<&Gid>,
    xid8: u64,
    listed_xid: u32,
) -> v1::CoordinatorMessage {
    message(Kind::Rollback(v1::RollbackBranch {
        gtid: gtid.to_string(),
        participant: participant.to_string(),
        gid: gid.map(Gid::to_string).unwrap_or_default(),
        xid8,
        listed_xid,
    }))
}

pub(super) fn hold(
    participant: &ParticipantName,
    gid: &Gid,
    request: u64,
    patience: Duration,
) -> v1::CoordinatorMessage {
    message(Kind::Hold(v1::HoldBranch {
        gtid: gid.gtid.to_string(),
        participant: participant.to_string(),
        gid: gid.to_string(),
        request,
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
    }))
}

pub(super) fn end_session(gtid: &Gtid, participant: &ParticipantName) -> v1::CoordinatorMessage {
    message(Kind::EndSession(v1::EndSession { gtid: gtid.to_string(), participant: participant.to_string() }))
}

pub(super) fn list(participant: &ParticipantName, request: u64, details: bool) -> v1::CoordinatorMessage {
    message(Kind::List(v1::ListParticipant { participant: participant.to_string(), request, details }))
}

pub(super) fn verify_branches<'a>(
    participant: &ParticipantName,
    request: u64,
    branches: impl Iterator<Item = (&'a Gid, u64, bool)>,
) -> v1::CoordinatorMessage {
    let asked =
        |(gid, xid8, settle): (&Gid, u64, bool)| v1::CommittedBranch { gid: gid.to_string(), xid8, settle };
    let branches = branches.map(asked).collect();
    message(Kind::VerifyBranches(v1::VerifyBranches {
        participant: participant.to_string(),
        request,
        branches,
    }))
}

pub(super) fn prune_markers(
    participant: &ParticipantName,
    above: Epoch,
    below: &Gtid,
) -> v1::CoordinatorMessage {
    message(Kind::PruneMarkers(v1::PruneMarkers {
        participant: participant.to_string(),
        above_epoch: above.0,
        below_epoch: below.life.epoch.0,
        below_seq: below.seq,
    }))
}

pub(super) fn witness(witness: v1::Witness) -> Witness {
    Witness {
        life: Life {
            epoch: Epoch(witness.epoch),
            incarnation: Incarnation::from_low_bits(witness.incarnation),
        },
        position: witness.position,
    }
}

/// An agent's vote; one without a kind is malformed.
pub(super) fn vote(kind: v1::vote::Kind) -> Vote {
    match kind {
        v1::vote::Kind::Yes(yes) => Vote::Yes(Prepared {
            xid8: yes.xid8,
            system_identifier: yes.system_identifier,
            timeline: yes.timeline,
            marker: yes.marker,
        }),
        v1::vote::Kind::ReadOnly(v1::VoteReadOnly {}) => Vote::ReadOnly,
        v1::vote::Kind::Ready(ready) => Vote::Ready(Prepared {
            xid8: ready.xid8,
            system_identifier: ready.system_identifier,
            timeline: ready.timeline,
            marker: true,
        }),
        v1::vote::Kind::No(no) => Vote::No(abort_reason(&no.reason.unwrap_or_default())),
    }
}

pub(super) fn report(kind: v1::branch_end::Kind) -> Report {
    match kind {
        v1::branch_end::Kind::Done(v1::Done {}) => Report::Done,
        v1::branch_end::Kind::NeverPrepared(v1::NeverPrepared {}) => Report::NeverPrepared,
        v1::branch_end::Kind::Gone(said) => Report::Gone(gone(&said)),
        v1::branch_end::Kind::OtherXid(other) => Report::OtherXid(other.xid),
        v1::branch_end::Kind::Refused(refused) => {
            Report::Refused(abort_reason(&refused.reason.unwrap_or_default()))
        }
    }
}

pub(super) fn gone(gone: &v1::Gone) -> Gone {
    Gone {
        system_identifier: gone.system_identifier,
        timeline: gone.timeline,
        in_recovery: gone.in_recovery,
        status: xid_status(gone.status()),
        marker: marker(gone.marker()),
    }
}

fn xid_status(status: v1::gone::XidStatus) -> XidStatus {
    match status {
        v1::gone::XidStatus::Committed => XidStatus::Committed,
        v1::gone::XidStatus::Aborted => XidStatus::Aborted,
        v1::gone::XidStatus::InProgress => XidStatus::InProgress,
        v1::gone::XidStatus::Forgotten => XidStatus::Forgotten,
        v1::gone::XidStatus::NotReached => XidStatus::NotReached,
        // A status of a newer agent that this coordinator does not know proves nothing.
        v1::gone::XidStatus::NotAsked | v1::gone::XidStatus::Unspecified => XidStatus::NotAsked,
    }
}

fn marker(marker: v1::gone::Marker) -> Marker {
    match marker {
        v1::gone::Marker::Absent => Marker::Absent,
        v1::gone::Marker::Committed => Marker::Committed,
        v1::gone::Marker::Aborted => Marker::Aborted,
        v1::gone::Marker::Unspecified => Marker::Unknown,
    }
}

/// A reason as an agent gives it, cut to what a record holds.
pub(super) fn abort_reason(reason: &v1::AbortReason) -> AbortReason {
    let kind = match reason.kind() {
        v1::abort_reason::Kind::RolledBack => AbortKind::RolledBack,
        v1::abort_reason::Kind::Timeout => AbortKind::Timeout,
        v1::abort_reason::Kind::BranchLost => AbortKind::BranchLost,
        v1::abort_reason::Kind::Coordinator | v1::abort_reason::Kind::Presumed => AbortKind::Coordinator,
        v1::abort_reason::Kind::VotedNo | v1::abort_reason::Kind::Unspecified => AbortKind::VotedNo,
    };
    AbortReason {
        kind,
        participant: reason.participant.parse().ok(),
        sqlstate: cut(&reason.sqlstate, 5),
        message: cut(&reason.message, MAX_TEXT),
    }
}
