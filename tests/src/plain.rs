//! A transaction driven message by message, for tests of the wire contract itself: wrong ordinals, repeated
//! requests, lists that omit a branch. Everything that [`votum_client`] does right on its own.

use std::collections::BTreeMap;

use anyhow::Context as _;
use tonic::transport::Channel;
use tonic::{Code, Status};
use votum_proto::address::Address;
use votum_proto::error::detail;
use votum_proto::v1;
use votum_proto::v1::coordinator_client::CoordinatorClient;
use votum_proto::v1::execute_response::Part;
use votum_proto::v1::outcome::Kind;
use votum_proto::v1::participant_client::ParticipantClient;

use crate::ledger::{Ledger, Told};

/// A transaction, and what its client has seen of each branch.
#[derive(Debug, Clone)]
pub struct Plain {
    /// What Begin answered.
    pub begun: v1::BeginResponse,
    coordinator: Address,
    seen: BTreeMap<String, v1::BranchClaim>,
}

/// A statement's reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The session that `Started` named.
    pub session: v1::SessionName,
    /// Its columns.
    pub columns: Vec<v1::Column>,
    /// All of its rows.
    pub rows: Vec<v1::Row>,
    /// What `Finished` counted.
    pub count: u64,
}

/// A statement's error.
#[derive(Debug, Clone)]
pub struct Refused {
    /// As it came.
    pub status: Status,
    /// The session, where `Started` came first: then the ordinal is used up.
    pub started: Option<v1::SessionName>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}: {}", self.status.code(), self.code(), self.status.message())
    }
}

impl std::error::Error for Refused {}

impl Refused {
    /// The gRPC code and our own, such as `VOTUM-2014`.
    pub fn codes(&self) -> (Code, String) {
        (self.status.code(), self.code())
    }

    /// The SQLSTATE; empty where it was not the database that refused.
    pub fn sqlstate(&self) -> String {
        let sql = detail(&self.status).and_then(|detail| detail.sql);
        sql.map(|sql| sql.sqlstate).unwrap_or_default()
    }

    fn code(&self) -> String {
        code(&self.status)
    }
}

/// The code of ours that a status carries; empty where it carries none.
pub fn code(status: &Status) -> String {
    detail(status).map(|detail| detail.code).unwrap_or_default()
}

impl Plain {
    /// Begins one at the coordinator that listens at `coordinator`.
    ///
    /// # Errors
    /// As the coordinator answers.
    pub async fn begin(coordinator: &Address, request: v1::BeginRequest) -> anyhow::Result<Self> {
        let begun = CoordinatorClient::new(coordinator.channel()?).begin(request).await?.into_inner();
        Ok(Self::of(coordinator, begun))
    }

    /// One that was begun at the coordinator that listens at `coordinator`.
    pub fn of(coordinator: &Address, begun: v1::BeginResponse) -> Self {
        Self { begun, coordinator: coordinator.clone(), seen: BTreeMap::new() }
    }

    /// The request that runs `statement` as number `ordinal`, in the session that is known, if one is.
    pub fn request(&self, participant: &str, ordinal: u64, statement: &str) -> v1::ExecuteRequest {
        v1::ExecuteRequest {
            gtid: self.begun.gtid.clone(),
            secret: self.begun.secret.clone(),
            participant: participant.to_owned(),
            ordinal,
            session: self.seen.get(participant).and_then(|claim| claim.session),
            statement: statement.to_owned(),
            options: Some(v1::BranchOptions {
                timeout_ms: self.begun.timeout_ms,
                ..v1::BranchOptions::default()
            }),
            ..v1::ExecuteRequest::default()
        }
    }

    /// Sends a request to its participant's agent, on a connection of its own, and gathers the reply.
    /// Nothing is remembered of it.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn send(&self, request: v1::ExecuteRequest) -> Result<Reply, Refused> {
        let refused = |status| Refused { status, started: None };
        let mut agent = ParticipantClient::new(self.agent(&request.participant).map_err(refused)?);
        let mut stream = agent.execute(request).await.map_err(refused)?.into_inner();
        let mut reply: Option<Reply> = None;
        loop {
            let started = reply.as_ref().map(|reply| reply.session);
            let refused = |status| Refused { status, started };
            let part = stream.message().await.map_err(refused)?.and_then(|message| message.part);
            match (part, &mut reply) {
                (Some(Part::Started(v1::Started { session: Some(session), columns })), None) => {
                    reply = Some(Reply { session, columns, rows: Vec::new(), count: 0 });
                }
                (Some(Part::Row(row)), Some(reply)) => reply.rows.push(row),
                (Some(Part::Finished(finished)), Some(_)) => {
                    return reply
                        .map(|reply| Reply { count: finished.rows, ..reply })
                        .ok_or_else(|| refused(Status::internal("no reply")));
                }
                (other, _) => return Err(refused(Status::internal(format!("out of place: {other:?}")))),
            }
        }
    }

    /// Runs the next statement at `participant`, and remembers that its reply was seen; so it is with an
    /// error that used up the ordinal.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn run(&mut self, participant: &str, statement: &str) -> Result<Reply, Refused> {
        let ordinal = self.last_ordinal(participant) + 1;
        let reply = self.send(self.request(participant, ordinal, statement)).await;
        let session = match &reply {
            Ok(reply) => Some(reply.session),
            Err(refused) => refused.started,
        };
        if session.is_some() {
            let participant = participant.to_owned();
            let claim = v1::BranchClaim { participant, session, last_ordinal: ordinal };
            self.seen.insert(claim.participant.clone(), claim);
        }
        reply
    }

    /// The last statement at `participant` whose reply was seen; 0 before the first.
    pub fn last_ordinal(&self, participant: &str) -> u64 {
        self.seen.get(participant).map_or(0, |claim| claim.last_ordinal)
    }

    /// Every branch, as Commit names it.
    pub fn claims(&self) -> Vec<v1::BranchClaim> {
        self.seen.values().cloned().collect()
    }

    /// Asks for the decision, naming every branch, on a connection of its own.
    ///
    /// # Errors
    /// As the coordinator answers.
    pub async fn commit(&self) -> Result<Kind, Status> {
        self.commit_with(self.claims()).await
    }

    /// Asks for the decision, naming `branches`, on a connection of its own.
    ///
    /// # Errors
    /// As the coordinator answers.
    pub async fn commit_with(&self, branches: Vec<v1::BranchClaim>) -> Result<Kind, Status> {
        let request = v1::CommitRequest {
            gtid: self.begun.gtid.clone(),
            secret: self.begun.secret.clone(),
            branches,
            wait: v1::commit_request::Wait::Completed.into(),
            next: None,
        };
        outcome(self.coordinator()?.commit(request).await?.into_inner().outcome)
    }

    /// Asks for the end without effect, on a connection of its own.
    ///
    /// # Errors
    /// As the coordinator answers.
    pub async fn roll_back(&self) -> Result<Kind, Status> {
        let request = v1::RollbackRequest {
            gtid: self.begun.gtid.clone(),
            secret: self.begun.secret.clone(),
            reason: "a test wants it".into(),
        };
        outcome(self.coordinator()?.rollback(request).await?.into_inner().outcome)
    }

    fn coordinator(&self) -> Result<CoordinatorClient<Channel>, Status> {
        let channel = self.coordinator.channel().map_err(|error| Status::internal(error.to_string()))?;
        Ok(CoordinatorClient::new(channel))
    }

    fn agent(&self, participant: &str) -> Result<Channel, Status> {
        let address = self.begun.participants.iter().find(|at| at.participant == participant);
        // A participant that nobody knows is asked of the first agent.
        let address = address.or(self.begun.participants.first()).context("there are no participants");
        let channel = address.and_then(|at| Ok(at.address.parse::<Address>()?.channel()?));
        channel.map_err(|error| Status::internal(format!("{error:#}")))
    }
}

fn outcome(outcome: Option<v1::Outcome>) -> Result<Kind, Status> {
    outcome.and_then(|outcome| outcome.kind).ok_or_else(|| Status::internal("an answer without an outcome"))
}

/// An outcome on the wire, as the ledger keeps it.
pub fn told(kind: Option<&Kind>) -> Told {
    match kind {
        Some(Kind::Committed(_)) => Told::Committed,
        Some(Kind::ReadOnly(_)) => Told::ReadOnly,
        Some(Kind::Aborted(_)) => Told::Aborted,
        Some(Kind::InProgress(_) | Kind::Unknown(_) | Kind::Expired(_)) | None => Told::Unknown,
    }
}

/// The statement that leaves a transfer's one row in a bank's journal.
pub fn note(transfer: &str) -> String {
    format!("INSERT INTO journal (transfer, amount) VALUES ('{transfer}', 0)")
}

/// Notes in the ledger what an answer said.
pub fn tell(ledger: &Ledger, transfer: &str, answer: &Result<Kind, Status>) {
    ledger.told(transfer, told(answer.as_ref().ok()));
}
