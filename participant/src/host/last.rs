//! The last branch of a transaction: its siblings are prepared, and its commit decides. It is opened, run and committed at
//! the coordinator's word; nothing of it has happened before.

use std::pin::pin;

use tracing::Instrument as _;
use votum_proto::runtime::Elapsed;
use votum_proto::v1::abort_reason::Kind as Cause;

use super::work::{MOST, no_answer};
use super::{Command, Host, PATIENCE, Wake, interruption};
use crate::branch::{Beside, Ending, OnePhaseEnd, reason};
use crate::control;
use crate::crash::{self, CrashPoint};
use crate::database::OnePhase;
use crate::errors::ExecuteError;
use crate::sessions::Leased;
use crate::work::{Decided, Deciding, Results};

impl Host {
    /// Does the work of a branch that is noted as waiting for the word.
    pub(crate) fn spawn_last(mut self, deciding: Deciding) {
        let span =
            tracing::info_span!("branch", gtid = %self.branch.gtid, participant = %self.branch.participant);
        let seams = self.agent.seams.clone();
        seams.spawn(async move { self.last(deciding).await }.instrument(span));
    }

    async fn last(&mut self, deciding: Deciding) {
        loop {
            match self.wait().await {
                Wake::End(ending) => return self.end(ending).await,
                Wake::Command(Command::CommitOnePhase) => break,
                // Nobody runs statements in it, nor prepares it.
                Wake::Command(Command::Execute(execute)) => {
                    self.refuse(&execute.client, &ExecuteError::Preparing);
                }
                Wake::Command(Command::Prepare(_)) => {}
            }
        }
        let end = self.decide(&deciding).await;
        self.settle_last(end);
    }

    /// How it ended, where this process knows; what came of its work is noted beside.
    async fn decide(&mut self, deciding: &Deciding) -> Option<OnePhaseEnd> {
        for (number, statement) in deciding.work.statements.iter().enumerate() {
            if let Some(refused) = control::refuse(&statement.text) {
                let error = ExecuteError::Refused(refused).to_string();
                let Ending { reason, .. } = self.failed_at(number, &error, String::new(), None, false);
                return Some(OnePhaseEnd::Refused(reason));
            }
        }
        let mut leased = match self.lease(true).await {
            Ok(leased) => leased,
            Err(error) => {
                tracing::warn!(%error, "the branch could not be opened");
                let mut lost = reason(Cause::BranchLost, &self.branch.participant, error.to_string());
                lost.retryable = true;
                return Some(OnePhaseEnd::Refused(lost));
            }
        };
        crash::here(CrashPoint::BeforeBegin);
        let mut results = Results::new(self.agent.config.stored_reply_bytes.min(MOST));
        match self.decide_session(&mut leased, deciding, &mut results).await {
            Decided::Ended(OnePhase::Committed) => {
                crash::here(CrashPoint::AfterCommitOnePhase);
                let results = results.into_statements();
                self.branch.put_beside(Beside { results, failed: None });
                self.release(leased);
                Some(OnePhaseEnd::Committed)
            }
            Decided::Ended(OnePhase::Refused(error)) => {
                tracing::info!(%error, "the database refused to commit");
                let reason = self.refusal(Cause::VotedNo, &error);
                self.roll_back(leased).await;
                Some(OnePhaseEnd::Refused(reason))
            }
            Decided::Ended(OnePhase::Unknown(error)) => {
                // The server may still be at it, and wait for a standby: it is not ended.
                tracing::warn!(%error, "nobody can say yet whether the branch was committed");
                None
            }
            Decided::Failed { statement, error } => {
                let Ending { reason, .. } = self.statement_failed(statement, &error);
                self.roll_back(leased).await;
                Some(OnePhaseEnd::Refused(reason))
            }
        }
    }

    /// Works; once somebody wants the branch to end, or its time is over, cancels until that has ended one way or
    /// the other.
    async fn decide_session(
        &mut self,
        leased: &mut Leased,
        deciding: &Deciding,
        results: &mut Results,
    ) -> Decided {
        let canceller = leased.session.canceller();
        let working = leased.session.decide(deciding, results);
        let mut working = pin!(crash::during(CrashPoint::DuringCommitOnePhase, working));
        tokio::select! {
            biased;
            done = &mut working => return done,
            _ = interruption(&self.agent, &self.branch, self.deadline) => {}
        }
        self.cancelled = true;
        let clock = &self.agent.seams.clock;
        match clock.timeout(PATIENCE, self.cancel_until(working, &*canceller)).await {
            Ok(done) => done,
            Err(Elapsed) => Decided::Ended(OnePhase::Unknown(no_answer())),
        }
    }

    fn settle_last(&mut self, end: Option<OnePhaseEnd>) {
        let what = end.as_ref().map_or("its end is being found out", |_| "it has ended");
        self.committed(end);
        let reason = reason(Cause::RolledBack, &self.branch.participant, what);
        self.turn_away(&Ending { reason, report: false });
    }
}
