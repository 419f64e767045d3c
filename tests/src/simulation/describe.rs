//! What goes over the wires, for a person who reads a trace.

use votum_proto::v1::Listing;
use votum_proto::v1::agent_message::Kind as FromAgent;
use votum_proto::v1::coordinator_message::Kind as ToAgent;
use votum_proto::v1::vote::Kind as Vote;

pub(super) fn describe(kind: Option<&ToAgent>) -> String {
    match kind {
        Some(ToAgent::Hello(hello)) => format!("hello of {}-{:06x}", hello.epoch, hello.incarnation),
        Some(ToAgent::Prepare(order)) => format!("prepare {}", order.gid),
        Some(ToAgent::Commit(order)) => format!("commit {} (xid {})", order.gid, order.xid8),
        Some(ToAgent::Rollback(order)) => format!("roll back {} {}", order.gtid, order.gid),
        Some(ToAgent::CommitOnePhase(order)) if order.work.is_some() => {
            format!("do the work of {}, and decide", order.gid)
        }
        Some(ToAgent::CommitOnePhase(order)) => format!("commit {} in one phase", order.gid),
        Some(ToAgent::Hold(order)) => format!("let go of {}", order.gid),
        Some(ToAgent::EndSession(order)) => format!("end session of {}", order.gtid),
        Some(ToAgent::List(ask)) => format!("list {}", ask.participant),
        Some(ToAgent::VerifyBranches(ask)) => {
            format!("verify {} branches at {}", ask.branches.len(), ask.participant)
        }
        Some(ToAgent::PruneMarkers(order)) => format!("prune markers at {}", order.participant),
        Some(ToAgent::VerifyAttached(ask)) => format!("verify {}", ask.gid),
        None => "?".into(),
    }
}

pub(super) fn describe_report(kind: Option<&FromAgent>) -> String {
    match kind {
        Some(FromAgent::Hello(hello)) => {
            let prepared: Vec<_> = hello
                .listings
                .iter()
                .map(|listing| format!("{}: {}", listing.participant, describe_listing(listing)))
                .collect();
            let witness = hello.witness.map(|w| format!("{} at {}", w.epoch, w.position)).unwrap_or_default();
            format!("hello, witness {witness}; {}", prepared.join("; "))
        }
        Some(FromAgent::Refusal(refusal)) => format!("refuses: {}", refusal.detail),
        Some(FromAgent::Enlisted(enlisted)) => {
            format!("enlisted {} at {}", enlisted.gtid, enlisted.participant)
        }
        Some(FromAgent::Vote(vote)) => match &vote.kind {
            Some(Vote::Yes(yes)) => format!("votes yes on {} (xid {})", vote.gid, yes.xid8),
            Some(Vote::ReadOnly(_)) => format!("votes read-only on {}", vote.gid),
            Some(Vote::Ready(_)) => format!("is ready to commit {} in one phase", vote.gid),
            Some(Vote::No(no)) => {
                let why = no.reason.as_ref().map(|reason| reason.message.as_str()).unwrap_or_default();
                format!("votes no on {}: {why}", vote.gid)
            }
            None => "votes?".into(),
        },
        Some(FromAgent::BranchEnd(end)) => format!("{} ended: {:?}", end.gid, end.kind),
        Some(FromAgent::SessionLost(lost)) => {
            let why = lost.reason.as_ref().map(|reason| reason.message.as_str()).unwrap_or_default();
            format!("lost the session of {} at {}: {why}", lost.gtid, lost.participant)
        }
        Some(FromAgent::Listing(listing)) => {
            format!("lists {}: {}", listing.participant, describe_listing(listing))
        }
        Some(FromAgent::Held(held)) => format!("{} held: {:?}", held.gid, held.kind),
        Some(FromAgent::Trouble(trouble)) => format!("trouble with {}: {}", trouble.gid, trouble.message),
        Some(FromAgent::BranchesVerified(verified)) => {
            let said = verified.branches.iter().map(|gone| format!("{:?}", gone.status()));
            format!("verified at {}: {} {:?}", verified.participant, verified.failure, Vec::from_iter(said))
        }
        None => "?".into(),
    }
}

fn describe_listing(listing: &Listing) -> String {
    if !listing.failure.is_empty() {
        return format!("failed ({})", listing.failure);
    }
    let prepared: Vec<&str> = listing.prepared.iter().map(|row| row.gid.as_str()).collect();
    format!("[{}] busy [{}]", prepared.join(" "), listing.busy.join(" "))
}
