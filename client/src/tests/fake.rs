//! A coordinator and an agent that do as they are told: for the client's own logic only. What real servers
//! do is tested against real servers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify, mpsc, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Status};
use votum_proto::calls::{Answer, CallsService, Handler};
use votum_proto::runtime::Seams;
use votum_proto::v1::calls_server::CallsServer;
use votum_proto::v1::execute_response::Part;
use votum_proto::v1::outcome::Kind;
use votum_proto::v1::{self, SessionName, call, reply};

use crate::{Options, Votum};

/// What the agent does with the next statement.
pub(super) enum Act {
    /// Runs it and answers.
    Answer,
    /// Runs it, and breaks the stream before the reply is whole.
    LoseReply,
    /// Answers with an SQL error.
    Sql(&'static str),
    /// Refuses it before its ordinal is used up.
    Refuse(Code),
    /// Refuses it as its reply: the ordinal is used up.
    RefuseInReply(Code),
    /// The branch has ended.
    End,
    /// Is another life of itself from now on, and answers.
    Restart,
    /// Answers once as many statements wait here as the barrier counts.
    Meet(Arc<Barrier>),
    /// Runs it, and never answers.
    Withhold,
    /// Never answers.
    Hang,
}

/// What both services saw, and what they shall do.
#[derive(Default)]
pub(super) struct Script {
    /// `participant ordinal statement`, each time one was run.
    pub(super) ran: Mutex<Vec<String>>,
    pub(super) acts: Mutex<VecDeque<Act>>,
    pub(super) begins: Mutex<VecDeque<Status>>,
    /// How many calls of Begin came.
    pub(super) begin_calls: AtomicU64,
    /// The timeout of every transaction.
    pub(super) timeout_ms: AtomicU64,
    /// The answers to Commit, in order; then COMMITTED.
    pub(super) commits: Mutex<VecDeque<Result<Kind, Status>>>,
    pub(super) commit_requests: Mutex<Vec<v1::CommitRequest>>,
    /// The answers to Transact, in order; then COMMITTED.
    pub(super) transacts: Mutex<VecDeque<Result<Kind, Status>>>,
    pub(super) transact_requests: Mutex<Vec<v1::TransactRequest>>,
    pub(super) rolled_back: Mutex<Vec<String>>,
    pub(super) rollback_seen: Notify,
    cuts: watch::Sender<u64>,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    instance: u64,
    counter: u64,
    open: BTreeMap<String, SessionName>,
    /// The last ordinal of each branch.
    ordinals: BTreeMap<String, u64>,
    transactions: u64,
}

impl Script {
    pub(super) fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().clone()
    }

    pub(super) fn act(&self, acts: impl IntoIterator<Item = Act>) {
        self.acts.lock().unwrap().extend(acts);
    }

    pub(super) fn answer_commits(&self, answers: impl IntoIterator<Item = Result<Kind, Status>>) {
        self.commits.lock().unwrap().extend(answers);
    }

    /// Cuts every connection; new ones may be made.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Waits until as many statements have run.
    pub(super) async fn has_run(&self, statements: usize) {
        let run = async {
            while self.ran().len() < statements {
                tokio::task::yield_now().await;
            }
        };
        let clock = Seams::production().clock;
        clock.timeout(Duration::from_secs(30), run).await.expect("too few statements ran within 30 s");
    }

    /// Waits until `gtid` was rolled back.
    pub(super) async fn rolled_back(&self, gtid: &str) {
        loop {
            let seen = self.rollback_seen.notified();
            if self.rolled_back.lock().unwrap().iter().any(|found| found == gtid) {
                return;
            }
            let clock = Seams::production().clock;
            clock.timeout(Duration::from_secs(30), seen).await.expect("no rollback within 30 s");
        }
    }
}

/// A client connected to both services, and their script.
pub(super) async fn start() -> (Votum, Arc<Script>) {
    start_with(Votum::options()).await
}

pub(super) async fn start_with(options: Options) -> (Votum, Arc<Script>) {
    let script = Arc::new(Script { timeout_ms: AtomicU64::new(30_000), ..Script::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", front.local_addr().unwrap());
    Seams::production().spawn(pass_on(front, listener.local_addr().unwrap(), script.cuts.subscribe()));
    let fake = Fake { script: script.clone(), address: address.clone() };
    let (stop, told) = watch::channel(false);
    let served = tonic::transport::Server::builder()
        .add_service(CallsServer::new(CallsService::new(Arc::new(fake), told)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    Seams::production().spawn(async move {
        served.await.unwrap();
        drop(stop);
    });
    (options.connect(&address).await.unwrap(), script)
}

/// Passes connections on to the server, until they are cut.
async fn pass_on(front: TcpListener, server: std::net::SocketAddr, cuts: watch::Receiver<u64>) {
    while let Ok((mut client, _)) = front.accept().await {
        let mut cuts = cuts.clone();
        cuts.mark_unchanged();
        Seams::production().spawn(async move {
            let mut server = TcpStream::connect(server).await.unwrap();
            let both = std::pin::pin!(tokio::io::copy_bidirectional(&mut client, &mut server));
            futures::future::select(both, std::pin::pin!(cuts.changed())).await;
        });
    }
}

#[derive(Clone)]
struct Fake {
    script: Arc<Script>,
    address: String,
}

pub(super) fn committed() -> Kind {
    Kind::Committed(v1::Committed { completed: true, ..Default::default() })
}

pub(super) fn aborted(retryable: bool) -> Kind {
    let reason = v1::AbortReason { retryable, ..Default::default() };
    Kind::Aborted(v1::Aborted { reason: Some(reason), heuristics: Vec::new() })
}

impl Handler for Fake {
    fn call(self: &Arc<Self>, request: call::Request) -> Answer {
        let fake = self.clone();
        let one = |reply| Answer::One(Box::pin(std::future::ready(reply)));
        match request {
            call::Request::Begin(request) => {
                self.script.begin_calls.fetch_add(1, Ordering::Relaxed);
                one(self.begin(&request).map(reply::Kind::Begin))
            }
            call::Request::Commit(request) => one(self.commit(request).map(reply::Kind::Commit)),
            call::Request::Rollback(request) => one(Ok(reply::Kind::Rollback(self.rollback(request)))),
            call::Request::Transact(request) => one(self.transact(request).map(reply::Kind::Transact)),
            call::Request::GetTransaction(_) => one(Ok(reply::Kind::GetTransaction(found()))),
            call::Request::Execute(request) => {
                let (client, reply) = mpsc::channel(8);
                Seams::production().spawn(async move { fake.execute(request, client).await });
                Answer::Parts(reply)
            }
        }
    }
}

fn found() -> v1::GetTransactionResponse {
    let outcome = Some(v1::Outcome { kind: Some(Kind::Expired(v1::Expired {})) });
    v1::GetTransactionResponse { gtid: "fake-1-000000-1".into(), outcome }
}

impl Fake {
    fn begin(&self, request: &v1::BeginRequest) -> Result<v1::BeginResponse, Status> {
        if let Some(status) = self.script.begins.lock().unwrap().pop_front() {
            return Err(status);
        }
        let mut sessions = self.script.sessions.lock().unwrap();
        sessions.transactions += 1;
        let participants = ["bank_a", "bank_b"].map(|participant| v1::ParticipantAddress {
            participant: participant.to_owned(),
            address: self.address.clone(),
        });
        let attached = (0..).zip(&request.attached).map(|(place, participant)| v1::AttachedBranch {
            participant: participant.clone(),
            gid: format!("votum_fake_1_000000_1_{place}_0"),
        });
        Ok(v1::BeginResponse {
            gtid: format!("fake-1-000000-{}", sessions.transactions),
            secret: vec![7; 32],
            participants: participants.into(),
            timeout_ms: self.script.timeout_ms.load(Ordering::Relaxed),
            attached: attached.collect(),
        })
    }

    fn commit(&self, request: v1::CommitRequest) -> Result<v1::CommitResponse, Status> {
        let next = request.next.clone();
        self.script.commit_requests.lock().unwrap().push(request);
        let kind = self.script.commits.lock().unwrap().pop_front().unwrap_or_else(|| Ok(committed()))?;
        let next = next.and_then(|next| self.begin(&next).ok());
        Ok(v1::CommitResponse { outcome: Some(v1::Outcome { kind: Some(kind) }), next })
    }

    /// Requests of which nothing is scripted are carried out.
    fn transact(&self, request: v1::TransactRequest) -> Result<v1::TransactResponse, Status> {
        self.script.transact_requests.lock().unwrap().push(request);
        let scripted = self.script.transacts.lock().unwrap().pop_front();
        let kind = scripted.unwrap_or_else(|| Ok(committed()))?;
        let outcome = Some(v1::Outcome { kind: Some(kind) });
        Ok(v1::TransactResponse { gtid: "fake-1-000000-9".into(), outcome, ..Default::default() })
    }

    fn rollback(&self, request: v1::RollbackRequest) -> v1::RollbackResponse {
        self.script.rolled_back.lock().unwrap().push(request.gtid);
        self.script.rollback_seen.notify_waiters();
        v1::RollbackResponse { outcome: Some(v1::Outcome { kind: Some(aborted(false)) }) }
    }

    async fn execute(&self, request: v1::ExecuteRequest, client: mpsc::Sender<votum_proto::calls::Part>) {
        let act = self.script.acts.lock().unwrap().pop_front().unwrap_or(Act::Answer);
        let refused = |code| votum_proto::error::status(code, "refused", &v1::ErrorDetail::default());
        let mut broken = None;
        match act {
            Act::Answer => {}
            Act::LoseReply => broken = Some(Status::unknown("transport error")),
            Act::Sql(sqlstate) => {
                let sql = v1::SqlError { sqlstate: sqlstate.into(), ..Default::default() };
                let detail = v1::ErrorDetail { sql: Some(sql), ..Default::default() };
                broken = Some(votum_proto::error::status(Code::Aborted, "SQL error", &detail));
            }
            Act::Refuse(code) => {
                client.send(Err(refused(code))).await.unwrap();
                return;
            }
            Act::RefuseInReply(code) => broken = Some(refused(code)),
            Act::End => {
                let detail = v1::ErrorDetail { retryable: true, ..Default::default() };
                let ended = votum_proto::error::status(Code::Aborted, "the session broke", &detail);
                client.send(Err(ended)).await.unwrap();
                return;
            }
            Act::Restart => {
                let mut sessions = self.script.sessions.lock().unwrap();
                sessions.instance += 1;
                sessions.open.clear();
                sessions.ordinals.clear();
            }
            Act::Meet(barrier) => {
                barrier.wait().await;
            }
            Act::Withhold => {
                self.run(&request);
                std::future::pending::<()>().await;
            }
            Act::Hang => std::future::pending().await,
        }
        let session = self.run(&request);
        let column = v1::Column { name: "balance".into(), type_oid: 20, type_name: "int8".into() };
        let value = v1::Value { kind: Some(v1::value::Kind::Int64(7)) };
        let parts = [
            Ok(Part::Started(v1::Started { session: Some(session), columns: vec![column] })),
            Ok(Part::Row(v1::Row { values: vec![value] })),
            broken.map_or(Ok(Part::Finished(v1::Finished { rows: 1 })), Err),
        ];
        for part in parts {
            let _ = client.send(part.map(|part| v1::ExecuteResponse { part: Some(part) })).await;
        }
    }

    /// Runs an ordinal once, in a session that its first one opens.
    fn run(&self, request: &v1::ExecuteRequest) -> SessionName {
        let mut sessions = self.script.sessions.lock().unwrap();
        let branch = format!("{} {}", request.gtid, request.participant);
        let session = match sessions.open.get(&branch) {
            Some(session) => *session,
            None => {
                sessions.counter += 1;
                let session = SessionName { agent_instance: sessions.instance, counter: sessions.counter };
                sessions.open.insert(branch.clone(), session);
                session
            }
        };
        let last = sessions.ordinals.entry(branch).or_default();
        if request.ordinal != *last {
            *last = request.ordinal;
            let line = format!("{} {} {}", request.participant, request.ordinal, request.statement);
            self.script.ran.lock().unwrap().push(line);
        }
        session
    }
}
