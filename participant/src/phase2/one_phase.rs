//! The word about a branch that offered to be committed in one phase: its session commits it; where there is none
//! that waits for that, its marker says how it ended, or is made to say so.

use std::sync::Arc;

use votum_proto::canary::{Canary, sings};
use votum_proto::names::Gid;
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::gone::Marker;

use super::attempts::{Attempts, Stopped};
use crate::branch::{Branch, Ending, OnePhaseEnd, reason};
use crate::crash::{self, CrashPoint};
use crate::host::Command;

impl Attempts<'_> {
    pub(super) async fn one_phase(&mut self, gid: &Gid) -> Result<End, Stopped> {
        crash::here(CrashPoint::BeforeCommitPrepared);
        let branch = self.task.agent.lock().branch(&self.task.key);
        let branch = branch.filter(|branch| branch.standing().gid.as_ref() == Some(gid));
        if let Some(branch) = branch {
            let handed = begin(&branch);
            let standing = self.unless_stopped(branch.settled()).await?;
            match standing.one_phase {
                Some(OnePhaseEnd::Committed) if handed => return Ok(End::Done(v1::Done {})),
                // By an order of before. A failover may have lost it since: its marker is looked at.
                Some(OnePhaseEnd::Committed) => {}
                Some(OnePhaseEnd::Refused(reason)) => {
                    return Ok(End::Refused(v1::Refused { reason: Some(reason) }));
                }
                None if sings(Canary::GuessLostAnswer) => {
                    let reason = reason(Cause::BranchLost, &branch.participant, "its answer was lost");
                    return Ok(End::Refused(v1::Refused { reason: Some(reason) }));
                }
                // It ended before, or its answer was lost.
                None => {}
            }
        }
        self.settle(gid).await
    }

    /// Has the marker say how it ended. From then on it cannot commit any more, where it has not.
    async fn settle(&mut self, gid: &Gid) -> Result<End, Stopped> {
        let participant = Arc::clone(&self.task.participant);
        loop {
            // Nothing is written into a database that is not the participant.
            self.find(gid).await?;
            let settling = async {
                let outcome = participant.database.settle(gid).await?;
                self.judge(&outcome.facts)?;
                if outcome.marker == Marker::Committed {
                    // It may be committed and not yet at the standby.
                    participant.database.confirm().await?;
                }
                Ok(outcome)
            };
            match self.unless_stopped(settling).await? {
                Ok(outcome) => {
                    crash::here(CrashPoint::BranchSettled);
                    tracing::info!(%gid, marker = ?outcome.marker, "settled how a branch ended, by its marker");
                    return Ok(End::Gone(outcome.into_wire()));
                }
                Err(error) => self.trouble(gid, &error).await?,
            }
        }
    }
}

/// Has the session commit, where it waits for that; true where it does. One that does not is to end: it will not be
/// waited for.
fn begin(branch: &Branch) -> bool {
    let handed = branch.start_committing() && branch.command(Command::CommitOnePhase).is_ok();
    if !handed {
        branch.end(Ending {
            reason: reason(
                Cause::BranchLost,
                &branch.participant,
                "its commit is settled without its session",
            ),
            report: false,
        });
    }
    handed
}
