//! gRPC in: statements from clients, streams from coordinators, health and reflection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::{Ready, ready};
use futures::stream::{self, Chain, Once};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use votum_proto::calls::{Answer, CallsService, FRAME_MARGIN, Handler, MAX_STATEMENT};
use votum_proto::exchange::{AgentEnd, Broken, DEPTH};
use votum_proto::service::listen::Listening;
use votum_proto::v1;
use votum_proto::v1::agent_server::{Agent as AgentService, AgentServer};
use votum_proto::v1::call;
use votum_proto::v1::calls_server::CallsServer;
use votum_proto::v1::participant_server::{Participant as ParticipantService, ParticipantServer};

use crate::agent::Agent;

/// The most requests that one connection may have open. A statement is open until it has run, and clients
/// share connections: behind the HTTP library's default of 200 the others would wait for locks of theirs.
const MAX_STREAMS: u32 = 16_384;
/// How often a peer that says nothing is asked whether it is still there, and how long it may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The largest frame taken from a coordinator, in bytes.
const MAX_FRAME: usize = 64 * 1024 * 1024;

/// The services' names, by which health is asked for.
pub(crate) const STATEMENTS: &str = <ParticipantServer<Service> as NamedService>::NAME;
pub(crate) const EXCHANGE: &str = <AgentServer<Service> as NamedService>::NAME;

/// Serves `listening` until `stop` resolves and every open request is answered.
///
/// # Errors
/// When the HTTP server cannot go on.
pub fn serve<Stop: Future<Output = ()> + Send>(
    listening: Listening,
    agent: Agent,
    health: HealthReporter,
    stop: Stop,
) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<Stop> {
    let service = Arc::new(Service(agent));
    let (stopping, told) = watch::channel(false);
    let statements =
        ParticipantServer::from_arc(Arc::clone(&service)).max_decoding_message_size(MAX_STATEMENT);
    let calls = CallsServer::new(CallsService::new(Arc::clone(&service), told))
        .max_decoding_message_size(MAX_STATEMENT + FRAME_MARGIN);
    let exchange = AgentServer::from_arc(service).max_decoding_message_size(MAX_FRAME);
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)))
        .add_optional_service(reflection())
        .add_service(statements)
        .add_service(calls)
        .add_service(exchange)
        .serve_with_incoming_shutdown(listening, async move {
            stop.await;
            stopping.send_replace(true);
        })
}

/// Tools such as grpcurl ask for the contract; a server that cannot tell it serves all the same.
fn reflection() -> Option<ServerReflectionServer<impl ServerReflection>> {
    let built = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    built.inspect_err(|error| tracing::error!(%error, "gRPC reflection is not served")).ok()
}

/// Answers the calls of clients that live in the agent's own process.
pub fn handler(agent: Agent) -> Arc<impl Handler> {
    Arc::new(Service(agent))
}

/// An agent as tonic serves it.
pub(crate) struct Service(Agent);

#[async_trait]
impl ParticipantService for Service {
    type ExecuteStream = Chain<
        Once<Ready<Result<v1::ExecuteResponse, Status>>>,
        ReceiverStream<Result<v1::ExecuteResponse, Status>>,
    >;

    async fn execute(
        &self,
        request: Request<v1::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        // The statement runs in the branch's own task: a client that hangs up stops nothing half-way.
        let mut reply = self.0.execute(request.into_inner())?;
        // The headers wait for the first part: alone they would be a write, and a wake-up, that says nothing.
        let nothing = || Err(Status::unavailable("the agent ended before it answered"));
        let first = reply.recv().await.unwrap_or_else(nothing);
        Ok(Response::new(stream::once(ready(first)).chain(ReceiverStream::new(reply))))
    }
}

impl Handler for Service {
    fn call(self: &Arc<Self>, request: call::Request) -> Answer {
        match request {
            call::Request::Execute(request) => match self.0.execute(request) {
                Ok(reply) => Answer::Parts(reply),
                Err(refused) => Answer::refused(refused),
            },
            call::Request::Begin(_)
            | call::Request::Commit(_)
            | call::Request::Rollback(_)
            | call::Request::Transact(_)
            | call::Request::GetTransaction(_) => Answer::not_served("by the coordinator"),
        }
    }
}

#[async_trait]
impl AgentService for Service {
    type ExchangeStream = futures::stream::Map<
        ReceiverStream<v1::AgentFrame>,
        fn(v1::AgentFrame) -> Result<v1::AgentFrame, Status>,
    >;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::CoordinatorFrame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (outgoing, frames) = mpsc::channel(DEPTH);
        let broken = |status: Status| Broken(format!("{:?}: {}", status.code(), status.message()));
        let incoming = request.into_inner().map(move |frame| frame.map_err(broken)).boxed();
        let agent = self.0.clone();
        let seams = self.0.inner.seams.clone();
        seams.spawn(async move { agent.serve_exchange(AgentEnd { outgoing, incoming }).await });
        Ok(Response::new(ReceiverStream::new(frames).map(Ok)))
    }
}
