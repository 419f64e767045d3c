//! One branch: its session, its ordinals, and its statements one at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tonic::Status;
use votum_proto::names::SessionName;
use votum_proto::runtime::{Elapsed, Monotonic};
use votum_proto::v1;
use votum_proto::v1::execute_response::Part;

use crate::calls::{Calls, Execution};
use crate::error::text;
use crate::outcome::{Abort, AbortKind};
use crate::retry::{Patience, StatementVerdict, statement_verdict};
use crate::votum::Options;
use crate::{Column, Error, Row, Value};

/// How long after the transaction's timeout a statement's answer is still awaited: the agent ends it at the
/// timeout, and says so.
const GRACE: Duration = Duration::from_secs(5);

/// What every branch of one transaction shares.
pub(crate) struct Context {
    pub(crate) gtid: String,
    pub(crate) secret: Vec<u8>,
    pub(crate) isolation: v1::Isolation,
    pub(crate) read_only: bool,
    pub(crate) deadline: Monotonic,
}

/// A statement's reply.
pub(crate) struct Reply {
    pub(crate) rows: Vec<Row>,
    /// How many rows the statement touched or returned.
    pub(crate) count: u64,
}

/// A branch at one participant.
pub(crate) struct Branch {
    participant: String,
    agent: Calls,
    state: Mutex<State>,
}

/// What Commit says of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) session: SessionName,
    pub(crate) last_ordinal: u64,
}

/// A branch as this client knows it. `session` is `None` until the first reply.
#[derive(Default)]
struct State {
    session: Option<SessionName>,
    /// The last statement whose reply was seen.
    last_ordinal: u64,
    /// A statement was sent and its reply has not been seen. It stays so where the caller dropped the
    /// statement's future: whether it ran is then not known, and the branch cannot go on (I15).
    unanswered: bool,
    lost: Option<Abort>,
}

/// How an attempt at a statement failed.
enum Failure {
    /// With a status; and the session, where `Started` had come before it.
    Status(Status, Option<SessionName>),
    /// No answer in time.
    Late,
    /// An answer that breaks the contract.
    Contract(String),
}

/// A statement's end that is no reply.
struct Ended {
    failure: Failure,
    /// Whether an earlier attempt may have reached the agent.
    asked_before: bool,
}

impl Branch {
    pub(crate) fn new(participant: String, agent: Calls, claim: Option<Claim>) -> Self {
        let state = State {
            session: claim.map(|claim| claim.session),
            last_ordinal: claim.map_or(0, |claim| claim.last_ordinal),
            ..State::default()
        };
        Self { participant, agent, state: Mutex::new(state) }
    }

    /// What Commit has to say of this branch; `None` where no statement ever ran.
    ///
    /// # Errors
    /// Why it cannot be committed.
    pub(crate) fn claim(&self) -> Result<Option<Claim>, Abort> {
        let Ok(state) = self.state.try_lock() else { return Err(self.lost("a statement is still running")) };
        self.usable(&state)?;
        Ok(state.session.map(|session| Claim { session, last_ordinal: state.last_ordinal }))
    }

    /// Runs one statement after those before it.
    pub(crate) async fn run(
        &self,
        context: &Context,
        options: &Options,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Reply, Error> {
        let mut state = self.state.lock().await;
        self.usable(&state).map_err(|abort| self.lost_error(abort.message, abort.retryable))?;
        let request = v1::ExecuteRequest {
            gtid: context.gtid.clone(),
            secret: context.secret.clone(),
            participant: self.participant.clone(),
            ordinal: state.last_ordinal + 1,
            session: state.session.map(Into::into),
            statement: statement.to_owned(),
            parameters: parameters.iter().cloned().map(Into::into).collect(),
            options: None,
            raw_binary: false,
        };
        state.unanswered = true;
        let ended = self.ask(context, options, request).await;
        state.unanswered = false;
        match ended {
            Ok((session, reply)) => {
                self.count(&mut state, session)?;
                Ok(reply)
            }
            Err(ended) => Err(self.failed(&mut state, ended)),
        }
    }

    /// Notes that the reply to the next ordinal was seen.
    fn count(&self, state: &mut State, session: SessionName) -> Result<(), Error> {
        if state.session.is_some_and(|known| known != session) {
            return Err(self.lose(
                state,
                "another session answered: the agent was restarted".to_owned(),
                true,
            ));
        }
        state.session = Some(session);
        state.last_ordinal += 1;
        Ok(())
    }

    /// Judges what a failed statement leaves behind.
    fn failed(&self, state: &mut State, Ended { failure, asked_before }: Ended) -> Error {
        let (status, started) = match failure {
            Failure::Status(status, started) => (status, started),
            Failure::Late => return self.lose(state, "no answer came before the timeout".to_owned(), false),
            Failure::Contract(detail) => {
                self.lose(state, detail.clone(), false);
                return Error::Contract(detail);
            }
        };
        let retryable = votum_proto::error::detail(&status).is_some_and(|detail| detail.retryable);
        match (statement_verdict(&status, started.is_some(), state.session.is_some()), started) {
            (StatementVerdict::Again, _) => {
                self.lose(state, format!("its agent cannot be reached: {}", text(&status)), retryable)
            }
            (StatementVerdict::Reply, Some(session)) => match self.count(state, session) {
                Ok(()) => Error::from_status(&status, &self.participant),
                Err(lost) => lost,
            },
            (StatementVerdict::NotRun, _) if !asked_before => Error::from_status(&status, &self.participant),
            (StatementVerdict::NotRun | StatementVerdict::Reply | StatementVerdict::Lost, _) => {
                self.lose(state, text(&status), retryable)
            }
        }
    }

    /// Sends the request until there is an answer. It is always the same request: the agent runs an ordinal
    /// once, and repeats its reply.
    async fn ask(
        &self,
        context: &Context,
        options: &Options,
        mut request: v1::ExecuteRequest,
    ) -> Result<(SessionName, Reply), Ended> {
        let seams = &options.seams;
        // Counted from the first failure: a statement may itself run for longer than the budget.
        let mut patience: Option<Patience<'_>> = None;
        loop {
            let left = context.deadline.since(seams.clock.now());
            let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
            let isolation = context.isolation.into();
            request.options = Some(v1::BranchOptions { isolation, read_only: context.read_only, timeout_ms });
            let attempt = attempt(&self.agent, request.clone());
            let failure = match seams.clock.timeout(left + GRACE, attempt).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(failure)) => failure,
                Err(Elapsed) => Failure::Late,
            };
            let asked_before = patience.is_some();
            let again = match &failure {
                Failure::Status(status, started) => {
                    let opened = request.session.is_some();
                    statement_verdict(status, started.is_some(), opened) == StatementVerdict::Again
                }
                Failure::Late | Failure::Contract(_) => false,
            };
            let patience = patience.get_or_insert_with(|| Patience::new(seams, options.retry_budget));
            if !again || !patience.again().await {
                return Err(Ended { failure, asked_before });
            }
        }
    }

    fn usable(&self, state: &State) -> Result<(), Abort> {
        match &state.lost {
            Some(lost) => Err(lost.clone()),
            None if state.unanswered => {
                Err(self.lost("a statement was given up before its answer came: nobody knows whether it ran"))
            }
            None => Ok(()),
        }
    }

    /// Marks the branch as lost.
    fn lose(&self, state: &mut State, detail: String, retryable: bool) -> Error {
        state.lost = Some(Abort { retryable, ..self.lost(&detail) });
        self.lost_error(detail, retryable)
    }

    fn lost_error(&self, detail: String, retryable: bool) -> Error {
        Error::BranchLost { participant: self.participant.clone(), detail, retryable }
    }

    fn lost(&self, detail: &str) -> Abort {
        Abort {
            kind: AbortKind::BranchLost,
            participant: Some(self.participant.clone()),
            sqlstate: None,
            message: detail.to_owned(),
            retryable: false,
            heuristics: Vec::new(),
        }
    }
}

/// One attempt: sends the request and reads the whole reply.
async fn attempt(agent: &Calls, request: v1::ExecuteRequest) -> Result<(SessionName, Reply), Failure> {
    let Execution { parts, error } = agent.execute(request).await;
    let mut parts = parts.into_iter().map(|part| part.part);
    let Some(first) = parts.next() else {
        let nothing = || Status::unavailable("the reply ended before it began");
        return Err(Failure::Status(error.unwrap_or_else(nothing), None));
    };
    let Some(Part::Started(v1::Started { session, columns })) = first else {
        return Err(Failure::Contract("a reply did not begin with Started".to_owned()));
    };
    let Some(session) = session.map(SessionName::from) else {
        return Err(Failure::Contract("a reply names no session".to_owned()));
    };
    if let Some(error) = error {
        return Err(Failure::Status(error, Some(session)));
    }
    let columns: Arc<[Column]> = columns.into_iter().map(Column::from).collect();
    let mut rows = Vec::new();
    for part in parts {
        match part {
            Some(Part::Row(row)) => {
                let row =
                    Row::new(columns.clone(), row).map_err(|error| Failure::Contract(error.to_string()))?;
                rows.push(row);
            }
            Some(Part::Finished(finished)) => return Ok((session, Reply { rows, count: finished.rows })),
            Some(Part::Started(_)) => return Err(Failure::Contract("a reply began twice".to_owned())),
            None => return Err(Failure::Contract("a reply has a part of an unknown kind".to_owned())),
        }
    }
    Err(Failure::Status(Status::unavailable("the reply ended before Finished"), Some(session)))
}
