//! The task of one hosted branch: the only one that touches its session. Statements come one by one through
//! its queue; an order to end it, its timeout and the loss of its connection come from the side and stop
//! whatever it is doing.

mod end;
mod last;
mod one_phase;
mod prepare;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::Instrument as _;
use votum_proto::canary::{Canary, sings};
use votum_proto::names::{Gid, SessionName};
use votum_proto::runtime::Monotonic;
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::agent_message::Kind as Message;

use crate::agent::{Inner, Participant};
use crate::branch::{Branch, Ending, no, reason};
use crate::control;
use crate::crash::{self, CrashPoint};
use crate::database::{Aftermath, BeginOptions, DatabaseError, Statement};
use crate::errors::ExecuteError;
use crate::reply::{Client, Kept, Reply};
use crate::sessions::{Leased, NoSession};

/// How long a cancel request, or the rollback after it, may take before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a branch is asked to do.
pub(crate) enum Command {
    /// Run a statement.
    Execute(Box<Execute>),
    /// Prepare, and vote.
    Prepare(PrepareOrder),
    /// Commit what was offered.
    CommitOnePhase,
}

/// A client's statement.
pub(crate) struct Execute {
    pub(crate) ordinal: u64,
    pub(crate) session: Option<SessionName>,
    pub(crate) statement: Statement,
    pub(crate) client: Client,
}

/// The coordinator's order to prepare.
pub(crate) struct PrepareOrder {
    pub(crate) gid: Gid,
    pub(crate) session: Option<SessionName>,
    pub(crate) last_ordinal: u64,
    /// It may be offered to be committed in one phase.
    pub(crate) one_phase: bool,
}

/// One hosted branch, as its own task holds it.
pub(crate) struct Host {
    pub(crate) agent: Arc<Inner>,
    pub(crate) participant: Arc<Participant>,
    pub(crate) branch: Arc<Branch>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) options: BeginOptions,
    pub(crate) deadline: Monotonic,
    session: Option<Leased>,
    /// A cancel request was sent: one that is late must not hit another branch.
    cancelled: bool,
    last: u64,
    kept: Option<Kept>,
}

/// What an idle branch wakes up for.
enum Wake {
    Command(Command),
    End(Ending),
}

impl Host {
    pub(crate) fn new(
        agent: Arc<Inner>,
        participant: Arc<Participant>,
        branch: Arc<Branch>,
        commands: mpsc::Receiver<Command>,
        options: BeginOptions,
    ) -> Self {
        let deadline = agent.seams.clock.now().after(options.timeout);
        Self {
            agent,
            participant,
            branch,
            commands,
            options,
            deadline,
            session: None,
            cancelled: false,
            last: 0,
            kept: None,
        }
    }

    /// Lives from the first statement to the end of the session.
    pub(crate) fn spawn(mut self, first: Box<Execute>) {
        let span =
            tracing::info_span!("branch", gtid = %self.branch.gtid, participant = %self.branch.participant);
        let seams = self.agent.seams.clone();
        seams.spawn(async move { self.live(first).await }.instrument(span));
    }

    async fn live(&mut self, first: Box<Execute>) {
        if let Err(error) = self.open().await {
            self.never_opened(Some(&first.client), &error);
            return;
        }
        let mut command = Command::Execute(first);
        loop {
            let step = match command {
                Command::Execute(execute) => self.execute(*execute).await,
                Command::Prepare(order) => return self.prepare(order).await,
                // Nothing was offered.
                Command::CommitOnePhase => Ok(()),
            };
            let wake = match step {
                Ok(()) => self.wait().await,
                Err(ending) => Wake::End(ending),
            };
            command = match wake {
                Wake::Command(command) => command,
                Wake::End(ending) => return self.end(ending).await,
            };
        }
    }

    /// A session for the branch; `shortly`: for one trip only.
    async fn lease(&self, shortly: bool) -> Result<Leased, ExecuteError> {
        let (name, sessions) = (self.participant.name(), &self.participant.sessions);
        let (limit, timeout) = (self.agent.config.session_queue(), self.options.timeout);
        let leasing = async {
            if shortly {
                sessions.lease_shortly(limit, timeout).await
            } else {
                sessions.lease(limit, timeout).await
            }
        };
        let leased = tokio::select! {
            biased;
            leased = leasing => leased,
            ending = interruption(&self.agent, &self.branch, self.deadline) => {
                return Err(ExecuteError::BranchLost { reason: ending.reason.message, retryable: true });
            }
        };
        leased.map_err(|error| match error {
            NoSession::AllInUse(wait) => ExecuteError::NoSession { participant: name.clone(), wait },
            NoSession::Unreachable(error) => {
                ExecuteError::Unreachable { participant: name.clone(), error: Box::new(error) }
            }
        })
    }

    async fn open(&mut self) -> Result<(), ExecuteError> {
        let mut leased = self.lease(false).await?;
        self.agent.lock().report_by_the_way(
            &self.branch.gtid,
            Message::Enlisted(v1::Enlisted {
                gtid: self.branch.gtid.to_string(),
                participant: self.branch.participant.to_string(),
                session: Some(self.branch.session.into()),
            }),
        );
        crash::here(CrashPoint::BeforeBegin);
        let begun = leased.session.begin(&self.options).await;
        self.session = Some(leased);
        begun.map_err(ExecuteError::of_statement)
    }

    /// Turns everybody away: nothing of this branch has happened, and its first statement may be sent again.
    fn never_opened(&mut self, first: Option<&Client>, error: &ExecuteError) {
        tracing::warn!(%error, "the branch could not be opened");
        self.commands.close();
        let lost = reason(Cause::BranchLost, &self.branch.participant, error.to_string());
        {
            // In one step with the removal: a message that comes later finds no branch, or a new one.
            let mut registry = self.agent.lock();
            self.branch.settle(|standing| standing.vote = Some(no(lost)));
            // Once it was to be prepared nothing comes of it any more; and who has it rolled back is told from memory
            // that there is nothing.
            if self.branch.standing().gid.is_some() {
                registry.retire(&self.branch);
            } else {
                registry.remove(&self.branch);
            }
        }
        let standing = self.branch.standing();
        if let (Some(_), Some(vote)) = (&standing.gid, &standing.vote) {
            self.participant.counts.voted(vote);
            self.agent.send_vote(&self.branch);
        }
        if let Some(first) = first {
            self.refuse(first, error);
        }
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Execute(execute) => self.refuse(&execute.client, error),
                Command::Prepare(_) | Command::CommitOnePhase => {}
            }
        }
    }

    fn refuse(&self, client: &Client, error: &ExecuteError) {
        let status = error.to_status(&self.branch.gtid.to_string(), self.branch.participant.as_str());
        let _ = client.try_send(Err(status));
    }

    async fn wait(&mut self) -> Wake {
        let lost = match &self.session {
            Some(leased) if !sings(Canary::ReopenLostSession) => leased.session.lost(),
            Some(_) | None => Box::pin(std::future::pending()),
        };
        let participant = &self.branch.participant;
        tokio::select! {
            biased;
            ending = interruption(&self.agent, &self.branch, self.deadline) => Wake::End(ending),
            () = lost => Wake::End(Ending {
                reason: retryable(reason(
                    Cause::BranchLost,
                    participant,
                    "the connection to the database broke, or the database ended the session",
                )),
                report: true,
            }),
            command = self.commands.recv() => match command {
                Some(command) => Wake::Command(command),
                // The registry holds the other end as long as the branch lives.
                None => std::future::pending().await,
            },
        }
    }

    /// Takes one statement in. An error ends the branch.
    async fn execute(&mut self, execute: Execute) -> Result<(), Ending> {
        let Execute { ordinal, session, statement, client } = execute;
        if session.is_some_and(|session| session != self.branch.session)
            || (session.is_none() && ordinal != 1)
        {
            self.refuse(&client, &ExecuteError::OtherSession(self.branch.session));
            return Ok(());
        }
        if ordinal == self.last && ordinal != 0 && !sings(Canary::RunRepeatedStatement) {
            return self.repeat(ordinal, &statement, &client).await;
        }
        let repeated = ordinal == self.last && sings(Canary::RunRepeatedStatement);
        if ordinal != self.last + 1 && !repeated {
            return self.broken_order(&client, &ExecuteError::Ordinal { found: ordinal, last: self.last });
        }
        self.last = ordinal;
        let reply = Reply::new(client, self.branch.session, self.agent.config.stored_reply_bytes);
        if let Some(refused) = control::refuse(&statement.text) {
            let status = self.status(&ExecuteError::Refused(refused));
            self.kept = Some(self.unless_ended(reply.fail(status, statement)).await?);
            return Ok(());
        }
        if sings(Canary::ReopenLostSession)
            && self.session.as_ref().is_some_and(|leased| leased.session.is_lost())
        {
            self.session = None;
            let _ = self.open().await;
        }
        self.run(statement, reply).await
    }

    /// Gives a reply to its client. One that stops reading keeps neither the session nor its locks beyond
    /// the branch's time, or an order to end it (I6).
    async fn unless_ended<T>(&self, reply: impl Future<Output = T>) -> Result<T, Ending> {
        tokio::select! {
            biased;
            given = reply => Ok(given),
            ending = interruption(&self.agent, &self.branch, self.deadline) => Err(ending),
        }
    }

    async fn repeat(&self, ordinal: u64, statement: &Statement, client: &Client) -> Result<(), Ending> {
        match &self.kept {
            Some(kept) if kept.statement != *statement => {
                self.broken_order(client, &ExecuteError::OrdinalReused(ordinal))
            }
            Some(kept) if self.unless_ended(kept.replay(client)).await? => Ok(()),
            Some(_) | None => self.broken_order(client, &ExecuteError::ReplyNotKept(ordinal)),
        }
    }

    fn broken_order(&self, client: &Client, error: &ExecuteError) -> Result<(), Ending> {
        self.refuse(client, error);
        Err(Ending {
            reason: reason(Cause::BranchLost, &self.branch.participant, error.to_string()),
            report: true,
        })
    }

    fn status(&self, error: &ExecuteError) -> tonic::Status {
        error.to_status(&self.branch.gtid.to_string(), self.branch.participant.as_str())
    }

    async fn run(&mut self, statement: Statement, mut reply: Reply) -> Result<(), Ending> {
        let Some(leased) = &mut self.session else { return Ok(()) };
        let canceller = leased.session.canceller();
        crash::here(CrashPoint::BeforeStatement);
        // The first brings BEGIN along.
        let during = if self.last == 1 { CrashPoint::DuringBegin } else { CrashPoint::DuringStatement };
        let ran = tokio::select! {
            biased;
            ran = crash::during(during, leased.session.run(&statement, &mut reply)) => Ok(ran),
            ending = interruption(&self.agent, &self.branch, self.deadline) => Err(ending),
        };
        match ran {
            Ok(Ok(rows)) => {
                if self.last == 1 {
                    crash::here(CrashPoint::AfterBegin);
                }
                crash::here(CrashPoint::StatementRun);
                self.kept = Some(self.unless_ended(reply.finish(rows, statement)).await?);
                Ok(())
            }
            Ok(Err(error)) => self.failed(error, statement, reply).await,
            Err(ending) => {
                self.cancelled = true;
                // A statement that is not cancelled runs into the rollback's deadline.
                if let Ok(Err(error)) = self.agent.seams.clock.timeout(PATIENCE, canceller.cancel()).await {
                    tracing::warn!(%error, "the running statement could not be cancelled");
                }
                reply.abandon(self.status(&ExecuteError::BranchLost {
                    reason: ending.reason.message.clone(),
                    retryable: ending.reason.retryable,
                }));
                Err(ending)
            }
        }
    }

    async fn failed(
        &mut self,
        error: DatabaseError,
        statement: Statement,
        reply: Reply,
    ) -> Result<(), Ending> {
        let aftermath = error.aftermath;
        let retryable = error.retryable;
        let error = ExecuteError::of_statement(error);
        let status = self.status(&error);
        match aftermath {
            // As in PostgreSQL: the transaction has failed until a ROLLBACK TO, and PREPARE would be
            // refused; the branch stays.
            Aftermath::Answered => {
                self.kept = Some(self.unless_ended(reply.fail(status, statement)).await?);
                Ok(())
            }
            Aftermath::Broken | Aftermath::Replaced => {
                // A session whose transaction was replaced is not used again.
                self.cancelled |= aftermath == Aftermath::Replaced;
                reply.abandon(status);
                let mut reason = reason(Cause::BranchLost, &self.branch.participant, error.to_string());
                reason.retryable = retryable;
                Err(Ending { reason, report: true })
            }
        }
    }
}

/// Resolves when the branch is to end: by order, or because its time is over.
async fn interruption(agent: &Inner, branch: &Branch, deadline: Monotonic) -> Ending {
    tokio::select! {
        biased;
        ending = branch.asked_to_end() => ending,
        () = agent.seams.clock.sleep_until(deadline) => Ending {
            reason: reason(Cause::Timeout, &branch.participant, "the branch's timeout has passed"),
            report: true,
        },
    }
}

fn retryable(reason: v1::AbortReason) -> v1::AbortReason {
    v1::AbortReason { retryable: true, ..reason }
}
