//! The last step of a branch: it is prepared, or committed as read-only, and votes.

use std::pin::{Pin, pin};
use std::time::Duration;

use votum_proto::canary::{Canary, sings};
use votum_proto::names::Gid;
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::vote::Kind as Vote;

use super::{Host, PATIENCE, PrepareOrder};
use crate::branch::{Ending, no, reason};
use crate::crash::{self, CrashPoint};
use crate::database::{Canceller, DatabaseError, Preparation};
use crate::sessions::Leased;

/// How often a cancel request is repeated while PREPARE does not end: one may come too early or get lost.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

impl Host {
    pub(super) async fn prepare(&mut self, order: PrepareOrder) {
        let participant = &self.branch.participant;
        let other_count = order.last_ordinal != self.last && !sings(Canary::IgnoreLastOrdinal);
        if order.session != Some(self.branch.session) || other_count {
            let found = order.session.map_or_else(|| "none".to_owned(), |session| session.to_string());
            let message = format!(
                "Commit names session {found} after {} statements, but session {} has run {}",
                order.last_ordinal, self.branch.session, self.last
            );
            let reason = reason(Cause::BranchLost, participant, message);
            return self.end(Ending { reason, report: false }).await;
        }
        // Whoever asked for the end may have been told already that this life prepares nothing any more (I12).
        if let Some(ending) = self.branch.ending() {
            return self.end(ending).await;
        }
        crash::here(CrashPoint::BeforePrepare);
        let Some(mut leased) = self.session.take() else { return };
        let begun = self.agent.seams.clock.now();
        let preparation = self.prepare_session(&mut leased, &order.gid, order.one_phase).await;
        self.participant.counts.prepared(self.agent.seams.clock.now().since(begun));
        crash::here(CrashPoint::AfterPrepare);
        self.conclude(leased, preparation).await;
    }

    /// Gives the vote that a preparation comes to, and leaves its session as it must be left.
    pub(super) async fn conclude(&mut self, leased: Leased, preparation: Preparation) {
        let participant = self.branch.participant.clone();
        let participant = &participant;
        match preparation {
            Preparation::Prepared { xid8, facts, marker } => match self.participant.identify(&facts) {
                Ok(()) => {
                    let yes = Vote::Yes(v1::VoteYes {
                        xid8,
                        system_identifier: facts.system_identifier,
                        timeline: facts.timeline,
                        marker,
                    });
                    self.vote(yes, |standing| standing.prepared = Some(xid8));
                    self.release(leased);
                }
                Err(why) => {
                    let reason = reason(Cause::VotedNo, participant, why);
                    self.vote(no(reason), |standing| standing.perhaps_prepared = true);
                }
            },
            Preparation::ReadOnly => {
                self.vote(Vote::ReadOnly(v1::VoteReadOnly {}), |_| {});
                self.release(leased);
            }
            Preparation::Ready { xid8, facts } => {
                self.session = Some(leased);
                match self.participant.identify(&facts) {
                    Ok(()) => self.offer(xid8, facts).await,
                    Err(why) => {
                        let reason = reason(Cause::VotedNo, participant, why);
                        self.end(Ending { reason, report: false }).await;
                    }
                }
            }
            Preparation::Refused(error) => {
                self.session = Some(leased);
                let reason = self.refusal(Cause::VotedNo, &error);
                self.end(Ending { reason, report: false }).await;
            }
            Preparation::Unsound(error) => {
                // Rolling it back is the coordinator's order, who hears no: here it would wait for the same
                // standby.
                let reason = self.refusal(Cause::VotedNo, &error);
                self.vote(no(reason), |standing| standing.perhaps_prepared = true);
                self.participant.sweep_now();
            }
            Preparation::Unknown(error) => {
                let backend = leased.session.backend();
                drop(leased);
                let reason = self.refusal(Cause::BranchLost, &error);
                tracing::warn!(%error, "the connection broke during PREPARE");
                self.participant.counts.voted(&no(reason.clone()));
                self.branch.unsettle(reason);
                self.agent.send_vote(&self.branch);
                self.end_backend(&backend).await;
                self.close();
            }
        }
    }

    /// Prepares; once somebody wants the branch to end, cancels until PREPARE has ended one way or the other.
    async fn prepare_session(&mut self, leased: &mut Leased, gid: &Gid, one_phase: bool) -> Preparation {
        let canceller = leased.session.canceller();
        let preparing = leased.session.prepare(gid, one_phase);
        let mut preparing = pin!(crash::during(CrashPoint::DuringPrepare, preparing));
        tokio::select! {
            biased;
            done = &mut preparing => return done,
            _ = self.branch.asked_to_end() => {}
        }
        self.cancelled = true;
        self.cancel_until(preparing, &*canceller).await
    }

    /// Cancels until what runs in a session has ended one way or the other.
    pub(super) async fn cancel_until<T>(
        &self,
        mut preparing: Pin<&mut impl Future<Output = T>>,
        canceller: &dyn Canceller,
    ) -> T {
        let clock = &self.agent.seams.clock;
        loop {
            let cancelling = async {
                let _ = clock.timeout(PATIENCE, canceller.cancel()).await;
                clock.sleep(CANCEL_AGAIN).await;
            };
            tokio::select! {
                biased;
                done = &mut preparing => return done,
                () = cancelling => {}
            }
        }
    }

    pub(super) fn refusal(&self, cause: Cause, error: &DatabaseError) -> v1::AbortReason {
        v1::AbortReason {
            sqlstate: error.sqlstate.clone(),
            retryable: error.retryable,
            ..reason(cause, &self.branch.participant, error.to_string())
        }
    }

    /// Settles the branch with its vote, and gives the vote.
    fn vote(&self, vote: Vote, change: impl FnOnce(&mut crate::branch::Standing)) {
        match &vote {
            Vote::Yes(yes) => tracing::debug!(xid8 = yes.xid8, "votes yes"),
            Vote::ReadOnly(_) => tracing::debug!("votes read-only"),
            Vote::No(no) => tracing::info!(reason = ?no.reason.as_ref().map(|r| &r.message), "votes no"),
            Vote::Ready(_) => {}
        }
        self.participant.counts.voted(&vote);
        let prepared = {
            let mut registry = self.agent.lock();
            self.branch.settle(|standing| {
                standing.vote = Some(vote);
                change(standing);
            });
            let prepared = self.branch.standing().prepared.is_some();
            if !prepared {
                registry.retire(&self.branch);
            }
            registry.report_vote(&self.branch);
            prepared
        };
        tracing::trace!(prepared, "settled");
        crash::here(CrashPoint::VoteSent);
    }
}
