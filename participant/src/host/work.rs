//! A branch whose work came with the order to prepare it: opened, run and prepared without another word, then it
//! votes, and its results go with the vote.

use std::pin::pin;

use tracing::Instrument as _;
use votum_proto::names::Gid;
use votum_proto::runtime::Elapsed;
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;

use super::{Host, PATIENCE, interruption};
use crate::agent::{Inner, begin_options};
use crate::branch::{Beside, Ending};
use crate::control;
use crate::crash::{self, CrashPoint};
use crate::database::{Aftermath, DatabaseError, Policy, Preparation, Statement};
use crate::errors::ExecuteError;
use crate::sessions::Leased;
use crate::work::{Results, Work, Worked};

impl Work {
    /// As the coordinator sends it.
    pub(crate) fn read(agent: &Inner, work: v1::Work) -> Result<Self, String> {
        let options = begin_options(agent, work.options.as_ref()).map_err(|error| error.to_string())?;
        let statement = |statement: v1::WorkStatement| Statement {
            text: statement.statement,
            parameters: statement.parameters,
            raw_binary: statement.raw_binary,
        };
        let statements: Vec<_> = work.statements.into_iter().map(statement).collect();
        if statements.is_empty() {
            return Err("the branch's work names no statement".into());
        }
        let mut parameters = statements.iter().flat_map(|statement| &statement.parameters);
        if parameters.any(|parameter| parameter.kind.is_none()) {
            return Err("a parameter holds no value: NULL is written null: true".into());
        }
        Ok(Self { options, statements })
    }
}

pub(super) fn no_answer() -> DatabaseError {
    DatabaseError {
        policy: Policy::Verify,
        aftermath: Aftermath::Broken,
        sqlstate: String::new(),
        message: format!(
            "the server answered neither the work nor its cancellation for {} s",
            PATIENCE.as_secs()
        ),
        retryable: true,
        sql: None,
    }
}

/// The longest text of an error that goes with a vote, in bytes.
const LONGEST: usize = 4 << 10;
/// The most that the results of a branch may take in a vote, in bytes, whatever is configured: all branches' go into one
/// answer.
pub(super) const MOST: usize = 1 << 20;

fn shortened(text: &str) -> String {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=LONGEST.min(text.len())).rev().find(fits).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

impl Host {
    /// Does the work of a branch that is noted as preparing.
    pub(crate) fn spawn_work(mut self, work: Work, gid: Gid, one_phase: bool) {
        let span =
            tracing::info_span!("branch", gtid = %self.branch.gtid, participant = %self.branch.participant);
        let seams = self.agent.seams.clone();
        seams.spawn(async move { self.work(work, gid, one_phase).await }.instrument(span));
    }

    async fn work(&mut self, work: Work, gid: Gid, one_phase: bool) {
        for (number, statement) in work.statements.iter().enumerate() {
            if let Some(refused) = control::refuse(&statement.text) {
                let error = ExecuteError::Refused(refused).to_string();
                let ending = self.failed_at(number, &error, String::new(), None, false);
                return self.end(ending).await;
            }
        }
        let mut leased = match self.lease(true).await {
            Ok(leased) => leased,
            Err(error) => return self.never_opened(None, &error),
        };
        crash::here(CrashPoint::BeforeBegin);
        tracing::debug!("begins with the work");
        let begun = self.agent.seams.clock.now();
        let mut results = Results::new(self.agent.config.stored_reply_bytes.min(MOST));
        let worked = self.work_session(&mut leased, &work, &gid, one_phase, &mut results).await;
        match worked {
            Worked::Ended(preparation) => {
                self.participant.counts.prepared(self.agent.seams.clock.now().since(begun));
                crash::here(CrashPoint::AfterPrepare);
                let results = results.into_statements();
                self.branch.put_beside(Beside { results, failed: None });
                self.conclude(leased, preparation).await;
            }
            Worked::Failed { statement, error } => {
                self.session = Some(leased);
                let ending = self.statement_failed(statement, &error);
                self.end(ending).await;
            }
        }
    }

    /// Works; once somebody wants the branch to end, or its time is over, cancels until that has ended one way or
    /// the other.
    async fn work_session(
        &mut self,
        leased: &mut Leased,
        work: &Work,
        gid: &Gid,
        one_phase: bool,
        results: &mut Results,
    ) -> Worked {
        let canceller = leased.session.canceller();
        let working = leased.session.work(work, gid, one_phase, results);
        let mut working = pin!(crash::during(CrashPoint::DuringWork, working));
        tokio::select! {
            biased;
            done = &mut working => return done,
            _ = interruption(&self.agent, &self.branch, self.deadline) => {}
        }
        self.cancelled = true;
        let clock = &self.agent.seams.clock;
        match clock.timeout(PATIENCE, self.cancel_until(working, &*canceller)).await {
            Ok(done) => done,
            // Its server process is ended, and until that is certain nobody says that nothing is prepared.
            Err(Elapsed) => Worked::Ended(Preparation::Unknown(no_answer())),
        }
    }

    pub(super) fn statement_failed(&mut self, statement: usize, error: &DatabaseError) -> Ending {
        // A session whose transaction was replaced is not used again.
        self.cancelled |= error.aftermath == Aftermath::Replaced;
        if error.broken() {
            let reason = self.refusal(Cause::BranchLost, error);
            return Ending { reason, report: false };
        }
        let retryable = error.retryable;
        let sqlstate = error.sqlstate.clone();
        let sql = error.sql.as_deref().cloned();
        self.failed_at(statement, &error.to_string(), sqlstate, sql, retryable)
    }

    pub(super) fn failed_at(
        &self,
        statement: usize,
        error: &str,
        sqlstate: String,
        sql: Option<v1::SqlError>,
        retryable: bool,
    ) -> Ending {
        let number = u32::try_from(statement).unwrap_or(u32::MAX).saturating_add(1);
        let participant = self.branch.participant.to_string();
        let message = format!("statement {number}: {}", shortened(error));
        let sql = sql.map(|sql| v1::SqlError {
            message: shortened(&sql.message),
            detail: shortened(&sql.detail),
            hint: shortened(&sql.hint),
            ..sql
        });
        let failed = v1::FailedStatement { participant: participant.clone(), statement: number, sql };
        self.branch.put_beside(Beside { results: Vec::new(), failed: Some(Box::new(failed)) });
        let reason =
            v1::AbortReason { kind: Cause::VotedNo.into(), participant, sqlstate, message, retryable };
        Ending { reason, report: false }
    }
}
