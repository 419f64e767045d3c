//! A branch that has offered to be committed in one phase: its transaction stays open until the coordinator's word,
//! or its end.

use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::vote::Kind as Vote;

use super::{Command, Host, Wake};
use crate::branch::{Ending, OnePhaseEnd};
use crate::crash::{self, CrashPoint};
use crate::database::{OnePhase, ServerFacts};
use crate::errors::ExecuteError;

impl Host {
    /// Offers it, and waits for the word.
    pub(super) async fn offer(&mut self, xid8: u64, facts: ServerFacts) {
        let ServerFacts { system_identifier, timeline, .. } = facts;
        tracing::debug!(xid8, "is ready to be committed in one phase");
        {
            let registry = self.agent.lock();
            self.branch.ready(Vote::Ready(v1::VoteReady { xid8, system_identifier, timeline }));
            registry.report_vote(&self.branch);
        }
        crash::here(CrashPoint::VoteSent);
        loop {
            match self.wait().await {
                Wake::End(ending) => return self.end(ending).await,
                Wake::Command(Command::CommitOnePhase) => return self.commit().await,
                // From Prepare on none is let through.
                Wake::Command(Command::Execute(execute)) => {
                    self.refuse(&execute.client, &ExecuteError::Preparing);
                }
                Wake::Command(Command::Prepare(_)) => {}
            }
        }
    }

    /// Nothing stops it half-way: whether it came to its end, the marker says.
    async fn commit(&mut self) {
        // Whoever asked for the end may settle it as aborted by now.
        if let Some(ending) = self.branch.ending() {
            return self.end(ending).await;
        }
        let Some(mut leased) = self.session.take() else { return };
        let committing = leased.session.commit_one_phase();
        match crash::during(CrashPoint::DuringCommitOnePhase, committing).await {
            OnePhase::Committed => {
                crash::here(CrashPoint::AfterCommitOnePhase);
                self.committed(Some(OnePhaseEnd::Committed));
                self.release(leased);
            }
            OnePhase::Refused(error) => {
                let reason = self.refusal(Cause::VotedNo, &error);
                tracing::info!(%error, "the database refused to commit");
                self.roll_back(leased).await;
                self.committed(Some(OnePhaseEnd::Refused(reason)));
            }
            OnePhase::Unknown(error) => {
                // The server may still be at it, and wait for a standby: it is not ended.
                tracing::warn!(%error, "nobody can say yet whether the branch was committed");
                drop(leased);
                self.committed(None);
            }
        }
        let reason =
            self.branch.standing().one_phase.map_or("its end is being found out", |_| "it has ended");
        self.turn_away(&Ending {
            reason: crate::branch::reason(Cause::RolledBack, &self.branch.participant, reason),
            report: false,
        });
    }

    pub(super) fn committed(&self, end: Option<OnePhaseEnd>) {
        let mut registry = self.agent.lock();
        self.branch.settle(|standing| standing.one_phase = end);
        registry.retire(&self.branch);
    }
}
