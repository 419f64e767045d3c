//! Attached branches: the application has prepared them on connections of its own, and the agent looks whether they
//! are there, and votes. Those that are asked about in one frame, or while another question is at the database, are
//! looked up by one question.
//!
//! A yes rests on nothing that the agent did: phase 2 compares what is prepared before it acts, always, and ends it as
//! the role that prepared it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;
use votum_proto::names::{Gid, ParticipantName, SessionName};
use votum_proto::runtime::Backoff;
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::vote::Kind as Vote;

use crate::agent::{Inner, Participant};
use crate::branch::{Branch, no, reason};
use crate::crash::{self, CrashPoint};
use crate::database::{DatabaseError, FoundAttached, MayEnd, Policy, PreparedAttached};
use crate::registry::{Key, Registry};

/// For how long a database that does not answer is asked again before the vote is no.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is to be looked up at one participant, under the registry's lock. There while a task looks after it.
pub(crate) type Asked = BTreeMap<Key, Gid>;

/// Takes a question in, under the lock; one that was answered gets its answer again.
pub(crate) fn verify(
    agent: &Arc<Inner>,
    registry: &mut Registry,
    participant: &Arc<Participant>,
    key: Key,
    gid: Gid,
) {
    if let Some(known) = registry.branch(&key) {
        let standing = known.standing();
        if standing.gid.as_ref() == Some(&gid) {
            registry.report_vote(&known);
        } else {
            let why =
                "statements of the transaction ran here through the agent: it has no attached branch here";
            let vote = no(reason(Cause::VotedNo, &key.1, why));
            registry.report_one_vote(&known, &gid, vote);
        }
        return;
    }
    let name = participant.name().clone();
    if let Some(asked) = registry.attached.get_mut(&name) {
        asked.insert(key, gid);
        return;
    }
    registry.attached.insert(name, Asked::from([(key, gid)]));
    let span = tracing::info_span!("verification", participant = %participant.name());
    let (task, participant) = (Arc::clone(agent), Arc::clone(participant));
    agent.seams.spawn(async move { answer_all(&task, &participant).await }.instrument(span));
}

/// Until nothing more is asked.
async fn answer_all(agent: &Inner, participant: &Participant) {
    loop {
        let asked = {
            // Whoever reads a frame holds it until the whole frame is taken in.
            let mut registry = agent.lock();
            let waiting =
                registry.attached.get_mut(participant.name()).map(std::mem::take).unwrap_or_default();
            if waiting.is_empty() {
                registry.attached.remove(participant.name());
                return;
            }
            waiting
        };
        let found = look(agent, participant, &asked).await;
        crash::here(CrashPoint::AttachedVerified);
        for (key, gid) in asked {
            let vote = match &found {
                Ok(found) => judge(&gid, participant.name(), found),
                Err(reason) => no(reason.clone()),
            };
            give(agent, participant, key, gid, vote);
        }
    }
}

/// Asks the database, again while it does not answer. What it shows is as safe as what the agent prepares.
async fn look(
    agent: &Inner,
    participant: &Participant,
    asked: &Asked,
) -> Result<FoundAttached, v1::AbortReason> {
    let gids: Vec<Gid> = asked.values().cloned().collect();
    let clock = &agent.seams.clock;
    let until = clock.now().after(PATIENCE);
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let refuse = |why: String| v1::AbortReason {
        retryable: true,
        ..reason(Cause::BranchLost, participant.name(), why)
    };
    loop {
        let asking = async {
            let found = participant.database.find_attached(&gids).await?;
            if found.may_be_ahead_of_standbys && !found.prepared.is_empty() {
                participant.database.confirm().await?;
            }
            Ok::<_, DatabaseError>(found)
        };
        let left = until.since(clock.now());
        let error = match clock.timeout(left, asking).await {
            Err(_) => return Err(refuse("the database did not say in time what is prepared".into())),
            Ok(Ok(found)) => {
                participant.note_answer(true);
                participant.identify(&found.facts).map_err(refuse)?;
                if found.facts.in_recovery {
                    return Err(refuse("the server is a standby (in recovery)".into()));
                }
                return Ok(found);
            }
            Ok(Err(error)) => error,
        };
        participant.note_answer(!error.broken());
        let pause = backoff.delay(&*agent.seams.entropy);
        if error.policy != Policy::Retry || pause >= until.since(clock.now()) {
            return Err(refuse(format!("the database does not say what is prepared: {error}")));
        }
        clock.sleep(pause).await;
    }
}

/// The vote on one branch.
fn judge(gid: &Gid, participant: &ParticipantName, found: &FoundAttached) -> Vote {
    let refuse = |why: String| no(reason(Cause::VotedNo, participant, why));
    let Some(prepared) = found.prepared.iter().find(|prepared| prepared.gid == *gid) else {
        return refuse(format!(
            "the application has not prepared {gid}: PREPARE TRANSACTION has to succeed before Commit is asked for"
        ));
    };
    let PreparedAttached { gid: _, xid8, owner, database, may_end } = prepared;
    if *database != found.database {
        return refuse(format!(
            "{gid} is prepared in database {database:?}, and the participant is {:?}",
            found.database
        ));
    }
    match may_end {
        MayEnd::Undeclared => refuse(format!(
            "{gid} was prepared by role {owner:?}, which is not the agent's, nor declared in attached_roles"
        )),
        MayEnd::No => refuse(format!(
            "{gid} was prepared by role {owner:?}, and the agent's may not end what that prepared: GRANT {owner} to it"
        )),
        MayEnd::Yes => Vote::Yes(v1::VoteYes {
            xid8: *xid8,
            system_identifier: found.facts.system_identifier,
            timeline: found.facts.timeline,
            marker: false,
        }),
    }
}

/// Remembers the vote, and gives it.
fn give(agent: &Inner, participant: &Participant, key: Key, gid: Gid, vote: Vote) {
    tracing::debug!(%gid, ?vote, "votes on an attached branch");
    participant.counts.voted(&vote);
    {
        let mut registry = agent.lock();
        // It has no session; none is ever numbered 0.
        let unnamed = SessionName { agent_instance: agent.instance, counter: 0 };
        let (branch, _) = Branch::new(key.0.clone(), key.1.clone(), unnamed);
        branch.settle(|standing| {
            standing.gid = Some(gid);
            standing.vote = Some(vote);
            // Not by this process: whatever ends it compares first.
            standing.perhaps_prepared = true;
        });
        let branch = Arc::new(branch);
        registry.report_vote(&branch);
        // A statement may have opened a branch here in the meantime. It is the one to be remembered.
        if registry.branch(&key).is_none() {
            registry.branches.insert(key, Arc::clone(&branch));
            registry.retire(&branch);
        }
    }
    crash::here(CrashPoint::VoteSent);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::ServerFacts;

    const GID: &str = "votum_acme_7_3f9ac2_1042_0_0";

    fn prepared() -> PreparedAttached {
        let (owner, database) = ("app".to_owned(), "bank".to_owned());
        PreparedAttached { gid: GID.parse().unwrap(), xid8: 700, owner, database, may_end: MayEnd::Yes }
    }

    fn vote_on(prepared: Vec<PreparedAttached>) -> Result<v1::VoteYes, String> {
        let facts = ServerFacts { system_identifier: 11, timeline: 3, in_recovery: false };
        let found =
            FoundAttached { facts, database: "bank".into(), may_be_ahead_of_standbys: false, prepared };
        match judge(&GID.parse().unwrap(), &"bank".parse().unwrap(), &found) {
            Vote::Yes(yes) => Ok(yes),
            Vote::No(no) => Err(no.reason.unwrap().message),
            other @ (Vote::ReadOnly(_) | Vote::Ready(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_prepared_here_by_a_declared_role_is_a_yes_without_a_marker() {
        let yes = v1::VoteYes { xid8: 700, system_identifier: 11, timeline: 3, marker: false };
        assert_eq!(vote_on(vec![prepared()]), Ok(yes));
    }

    #[test]
    fn what_is_absent_elsewhere_or_a_strangers_is_a_no() {
        assert!(vote_on(Vec::new()).unwrap_err().contains("has not prepared"));
        let elsewhere = PreparedAttached { database: "shop".into(), ..prepared() };
        assert!(vote_on(vec![elsewhere]).unwrap_err().contains("\"shop\""));
        let stranger = PreparedAttached { may_end: MayEnd::Undeclared, ..prepared() };
        assert!(vote_on(vec![stranger]).unwrap_err().contains("attached_roles"));
        let distant = PreparedAttached { may_end: MayEnd::No, ..prepared() };
        assert!(vote_on(vec![distant]).unwrap_err().contains("GRANT"));
    }
}
