//! The services over a real socket, against a driver that the test plays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use votum_proto::error;
use votum_proto::names::Gtid;
use votum_proto::runtime::Seams;
use votum_proto::service::listen::listen;
use votum_proto::service::shutdown::Shutdown;
use votum_proto::v1;
use votum_proto::v1::coordinator_client::CoordinatorClient;

use super::{health, serve};
use crate::config::Config;
use crate::driver::request::{Begun, DriverHandle, Outcome, Request, RequestError, Wait};

const CONFIG: &str = r#"
    coordinator_id = "acme"
    listen = "127.0.0.1:0"
    [log]
    directory = "/unused"
    [[participants]]
    name = "bank"
    agent = "127.0.0.1:7401"
"#;
const DEADLINE: Duration = Duration::from_secs(30);

fn gtid() -> Gtid {
    "acme-7-3f9ac2-1042".parse().unwrap()
}

/// A server on a free port whose driver is the test.
struct World {
    channel: Channel,
    requests: mpsc::Receiver<Request>,
    driver: DriverHandle,
    stop: Option<oneshot::Sender<()>>,
    stopped: oneshot::Receiver<()>,
    health: tonic_health::server::HealthReporter,
}

impl World {
    async fn start() -> Self {
        let seams = Seams::production();
        let config: Config = toml::from_str(CONFIG).unwrap();
        let listening = listen(&config.listen, seams.clock.clone()).await.unwrap();
        let channel = listening.local().channel().unwrap();
        let (sender, requests) = mpsc::channel(8);
        let driver = DriverHandle::new(sender);
        let health = health::reporter().await;
        let (stop, told) = oneshot::channel::<()>();
        let (ended, stopped) = oneshot::channel();
        let (served_by, reporter) = (driver.clone(), health.clone());
        seams.spawn(async move {
            let told = async {
                let _ = told.await;
            };
            serve(listening, served_by, &config, reporter, told).await.unwrap();
            let _ = ended.send(());
        });
        Self { channel, requests, driver, stop: Some(stop), stopped, health }
    }

    fn coordinator(&self) -> CoordinatorClient<Channel> {
        CoordinatorClient::new(self.channel.clone())
    }

    /// Plays the driver for one request.
    async fn answer(&mut self, play: impl FnOnce(Request)) {
        play(self.requests.recv().await.unwrap());
    }

    async fn health_of(&self, service: &str) -> ServingStatus {
        let request = HealthCheckRequest { service: service.into() };
        HealthClient::new(self.channel.clone()).check(request).await.unwrap().into_inner().status()
    }
}

#[tokio::test]
async fn begin_tells_the_secret_the_timeout_that_applies_and_where_the_agents_are() {
    let mut world = World::start().await;
    let mut client = world.coordinator();
    let request = v1::BeginRequest { timeout_ms: u64::MAX, label: "transfer".into(), ..Default::default() };
    let (begun, ()) = futures::join!(
        client.begin(request),
        world.answer(|request| {
            let Request::Begin(begin, answer) = request else { panic!("not a Begin") };
            assert_eq!((begin.timeout, begin.label.as_str()), (Duration::from_secs(3600), "transfer"));
            answer.send(Ok(Begun { gtid: gtid(), secret: vec![7; 32], attached: Vec::new() })).unwrap();
        })
    );
    let begun = begun.unwrap().into_inner();
    assert_eq!((begun.gtid, begun.secret, begun.timeout_ms), (gtid().to_string(), vec![7; 32], 3_600_000));
    assert_eq!(begun.participants[0].participant, "bank");
    assert_eq!(begun.participants[0].address, "http://127.0.0.1:7401");
}

#[tokio::test]
async fn a_commit_is_answered_with_the_drivers_outcome_or_its_refusal() {
    let mut world = World::start().await;
    let mut client = world.coordinator();
    let request =
        v1::CommitRequest { gtid: gtid().to_string(), wait: 1, secret: vec![7], ..Default::default() };
    let (reply, ()) = futures::join!(
        client.commit(request.clone()),
        world.answer(|request| {
            let Request::Commit(commit, answer) = request else { panic!("not a Commit") };
            assert_eq!((commit.gtid, commit.wait, commit.secret), (gtid(), Wait::Decided, vec![7]));
            answer.send(Ok(Outcome::ReadOnly)).unwrap();
        })
    );
    let outcome = reply.unwrap().into_inner().outcome.unwrap();
    assert_eq!(outcome.kind, Some(v1::outcome::Kind::ReadOnly(v1::ReadOnly {})));

    let (reply, ()) = futures::join!(
        client.commit(request),
        world.answer(|request| {
            let Request::Commit(_, answer) = request else { panic!("not a Commit") };
            answer.send(Err(RequestError::Unavailable("the log is being counted".into()))).unwrap();
        })
    );
    let status = reply.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the log is being counted"));
    let detail = error::detail(&status).unwrap();
    assert_eq!((detail.gtid, detail.retryable), (gtid().to_string(), true));
}

/// A transaction that was decided is told so, whatever becomes of the next.
#[tokio::test]
async fn the_next_transaction_goes_with_the_outcome_and_only_the_outcome_where_it_cannot_be_begun() {
    let next_gtid: Gtid = "acme-7-3f9ac2-1043".parse().unwrap();
    let begun = || Begun { gtid: next_gtid.clone(), secret: vec![8; 32], attached: Vec::new() };
    let later = || RequestError::Unavailable("the coordinator is stopping".into());
    for (begins, expected) in
        [(Ok(begun()), Some((next_gtid.to_string(), vec![8; 32]))), (Err(later()), None)]
    {
        let mut world = World::start().await;
        let mut client = world.coordinator();
        let next = v1::BeginRequest { label: "next".into(), ..Default::default() };
        let request = v1::CommitRequest { gtid: gtid().to_string(), next: Some(next), ..Default::default() };
        let (reply, ()) = futures::join!(client.commit(request), async {
            world
                .answer(|request| {
                    let Request::Commit(_, answer) = request else { panic!("not a Commit") };
                    answer.send(Ok(Outcome::ReadOnly)).unwrap();
                })
                .await;
            world
                .answer(|request| {
                    let Request::Begin(begin, answer) = request else { panic!("not a Begin") };
                    assert_eq!(begin.label, "next");
                    answer.send(begins).unwrap();
                })
                .await;
        });
        let reply = reply.unwrap().into_inner();
        let kind = reply.outcome.unwrap().kind;
        assert_eq!(kind, Some(v1::outcome::Kind::ReadOnly(v1::ReadOnly {})));
        assert_eq!(reply.next.map(|next| (next.gtid, next.secret)), expected);
    }
}

#[tokio::test]
async fn a_malformed_request_never_reaches_the_driver() {
    let mut world = World::start().await;
    let refused = world.coordinator().rollback(v1::RollbackRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = world.coordinator().get_transaction(v1::GetTransactionRequest { by: None }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    assert!(world.requests.try_recv().is_err());
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_nothing_at_the_driver() {
    let mut world = World::start().await;
    let mut client = world.coordinator();
    let request = v1::CommitRequest { gtid: gtid().to_string(), ..Default::default() };
    let mut request = tonic::Request::new(request);
    request.set_timeout(Duration::from_millis(100));
    let (reply, asked) = futures::join!(client.commit(request), world.requests.recv());
    assert!(reply.is_err(), "its deadline passes, for nobody answers");
    // What the driver was asked stays asked; only the answer finds nobody.
    let Some(Request::Commit(_, answer)) = asked else { panic!("not a Commit") };
    let _ = answer.send(Ok(Outcome::ReadOnly));
}

#[tokio::test]
async fn health_follows_the_driver_and_then_the_log() {
    let mut world = World::start().await;
    assert_eq!(world.health_of("").await, ServingStatus::NotServing);
    let seams = Seams::production();
    let (_trigger, shutdown) = Shutdown::manual();
    let ready = Arc::new(AtomicBool::new(false));
    seams.spawn(health::watch(world.health.clone(), world.driver.clone(), shutdown, seams.clone()));
    let (mut requests, log_is_ready) =
        (std::mem::replace(&mut world.requests, mpsc::channel(1).1), ready.clone());
    seams.spawn(async move {
        while let Some(request) = requests.recv().await {
            let Request::Status(answer) = request else { panic!("not a Status") };
            let log_state = if log_is_ready.load(Ordering::Relaxed) { "ready" } else { "counting" };
            let _ =
                answer.send(Ok(v1::GetStatusResponse { log_state: log_state.into(), ..Default::default() }));
        }
    });
    let serving = |service: &'static str| {
        let world = &world;
        let clock = seams.clock.clone();
        async move {
            let poll = async {
                while world.health_of(service).await != ServingStatus::Serving {
                    tokio::task::yield_now().await;
                }
            };
            clock.timeout(DEADLINE, poll).await.unwrap();
        }
    };
    serving("").await;
    assert_eq!(world.health_of("votum.v1.Coordinator").await, ServingStatus::NotServing);
    ready.store(true, Ordering::Relaxed);
    serving("votum.v1.Coordinator").await;
}

#[tokio::test]
async fn reflection_names_every_service() {
    let world = World::start().await;
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(world.channel.clone());
    let mut replies = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        replies.next().await.unwrap().unwrap().message_response
    else {
        panic!("not a list of services")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["votum.v1.Coordinator", "votum.v1.Operator", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
}

#[tokio::test]
async fn a_server_told_to_stop_answers_what_is_open_and_then_ends() {
    let mut world = World::start().await;
    let mut client = world.coordinator();
    let request = v1::CommitRequest { gtid: gtid().to_string(), ..Default::default() };
    let stop = world.stop.take().unwrap();
    let (reply, ()) = futures::join!(
        client.commit(request),
        world.answer(|request| {
            let Request::Commit(_, answer) = request else { panic!("not a Commit") };
            stop.send(()).unwrap();
            answer.send(Ok(Outcome::ReadOnly)).unwrap();
        })
    );
    assert!(reply.is_ok());
    Seams::production().clock.timeout(DEADLINE, world.stopped).await.unwrap().unwrap();
}
