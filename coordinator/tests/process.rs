//! The coordinator as a real process: made, started, asked, told to stop.

#![allow(clippy::unwrap_used, clippy::panic)] // all of this file is tests

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use votum_proto::address::Address;
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::coordinator_client::CoordinatorClient;
use votum_proto::v1::operator_client::OperatorClient;
use votum_proto::v1::outcome::Kind;

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A directory with a configuration, whose one participant is not there.
struct World {
    directory: tempfile::TempDir,
}

/// A coordinator that is killed with the test.
struct Coordinator(Child);

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    fn new(drain_ms: u64) -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap() };
        let config = format!(
            r#"
            coordinator_id = "acme"
            listen = "unix:{socket}"
            [log]
            directory = "log"
            half_bytes = 1048576
            [limits]
            drain_ms = {drain_ms}
            [[participants]]
            name = "bank"
            agent = "unix:{agent}"
            "#,
            socket = world.socket().display(),
            agent = world.directory.path().join("nobody.sock").display(),
        );
        std::fs::write(world.config(), config).unwrap();
        world
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("coordinator.toml")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("coordinator.sock")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_votum-coordinator"));
        command.arg("--config").arg(self.config()).args(arguments);
        command.env_remove("VOTUM_LOG").env("NO_COLOR", "1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn initialized(drain_ms: u64) -> Self {
        let world = Self::new(drain_ms);
        let made = world.run(&["init"]);
        assert!(made.status.success(), "{made:?}");
        world
    }

    /// Starts it, and waits until it takes new transactions.
    async fn start(&self) -> (Coordinator, Channel) {
        let child = self.command(&[]).stderr(Stdio::null()).spawn().unwrap();
        let channel = Address::Unix(self.socket()).channel().unwrap();
        until("it serves", async || {
            (health(&channel, "votum.v1.Coordinator").await == Some(ServingStatus::Serving)).then_some(())
        })
        .await;
        (Coordinator(child), channel)
    }
}

impl Coordinator {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn exit(&mut self) -> ExitStatus {
        until("the process has ended", async || self.0.try_wait().unwrap()).await
    }
}

/// Waits for an event, at most [`DEADLINE`].
async fn until<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let clock = Seams::production().clock;
    let poll = async {
        loop {
            if let Some(answer) = ready().await {
                return answer;
            }
            clock.sleep(POLL).await;
        }
    };
    clock.timeout(DEADLINE, poll).await.unwrap_or_else(|_| panic!("never: {what}"))
}

async fn health(channel: &Channel, service: &str) -> Option<ServingStatus> {
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(channel.clone()).check(request).await.ok().map(|answer| answer.into_inner().status())
}

async fn begin(channel: &Channel) -> v1::BeginResponse {
    let request = v1::BeginRequest { timeout_ms: 600_000, ..Default::default() };
    CoordinatorClient::new(channel.clone()).begin(request).await.unwrap().into_inner()
}

async fn epoch(channel: &Channel) -> u64 {
    let status = OperatorClient::new(channel.clone()).get_status(v1::GetStatusRequest {}).await;
    status.unwrap().into_inner().epoch
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_configuration_can_be_checked_without_running_anything() {
    let world = World::new(0);
    let checked = world.run(&["--check-config"]);
    assert_eq!((checked.status.code(), text(&checked.stdout).as_str()), (Some(0), "configuration is fine\n"));
    let wrong = world
        .command(&["--check-config"])
        .env("VOTUM_COORDINATOR__LISTEN", "0.0.0.0:1")
        .env("VOTUM_COORDINATOR__LOG__LEASE", "0")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let said = text(&wrong.stderr);
    assert!(said.contains("2 mistakes") && said.contains("insecure") && said.contains("log.lease"), "{said}");
    assert!(!world.directory.path().join("log").exists());
}

#[test]
fn a_log_is_made_once_and_never_begun_by_mistake() {
    let world = World::new(0);
    let refused = world.run(&[]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("votum-coordinator init"), "{}", text(&refused.stderr));
    assert!(world.run(&["init"]).status.success());
    assert_eq!(world.run(&["init"]).status.code(), Some(3));
}

#[test]
fn nobody_else_may_read_the_log_which_holds_the_key_of_all_secrets() {
    use std::os::unix::fs::PermissionsExt as _;
    fn check(path: &Path) {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|entry| check(&entry.unwrap().path()));
        }
    }
    check(&World::initialized(0).directory.path().join("log"));
}

#[tokio::test]
async fn a_transaction_begins_and_a_stop_ends_it_within_the_grace() {
    let world = World::initialized(100);
    let (mut coordinator, channel) = world.start().await;
    let begun = begin(&channel).await;
    assert!(begun.gtid.starts_with("acme-1-"), "{}", begun.gtid);
    assert_eq!(begun.participants[0].participant, "bank");
    let by = v1::get_transaction_request::By::Gtid(begun.gtid);
    let mut client = CoordinatorClient::new(channel.clone());
    let found = client.get_transaction(v1::GetTransactionRequest { by: Some(by) }).await.unwrap();
    let outcome = found.into_inner().outcome.unwrap().kind;
    assert!(matches!(&outcome, Some(Kind::InProgress(in_progress)) if in_progress.state == "active"));
    assert_eq!(epoch(&channel).await, 1);

    coordinator.signal(Signal::TERM);
    assert_eq!(coordinator.exit().await.code(), Some(0));
    assert!(!world.socket().exists(), "the socket's file goes with the process");

    let (mut coordinator, channel) = world.start().await;
    assert_eq!(epoch(&channel).await, 2);
    coordinator.signal(Signal::INT);
    assert_eq!(coordinator.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_stop_waits_for_what_is_open_and_a_second_signal_does_not() {
    let world = World::initialized(600_000);
    let (mut coordinator, channel) = world.start().await;
    begin(&channel).await;
    coordinator.signal(Signal::TERM);
    until("it says that it is stopping", async || {
        (health(&channel, "").await == Some(ServingStatus::NotServing)).then_some(())
    })
    .await;
    let refused = CoordinatorClient::new(channel.clone()).begin(v1::BeginRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unavailable);
    assert!(coordinator.0.try_wait().unwrap().is_none());
    coordinator.signal(Signal::TERM);
    assert_eq!(coordinator.exit().await.code(), Some(143));
    // Nothing is locked or left behind that would keep the next start from running.
    world.start().await;
}

#[tokio::test]
async fn a_second_coordinator_on_the_same_log_is_refused_and_the_first_goes_on() {
    let world = World::initialized(0);
    let (_coordinator, channel) = world.start().await;
    let elsewhere = Address::Unix(world.directory.path().join("other.sock")).to_string();
    let second = world.command(&[]).env("VOTUM_COORDINATOR__LISTEN", elsewhere).output().unwrap();
    assert_eq!(second.status.code(), Some(3));
    assert!(text(&second.stderr).contains("VOTUM-1103"), "{}", text(&second.stderr));
    let third = world.run(&[]);
    assert_eq!(third.status.code(), Some(1), "{}", text(&third.stderr));
    begin(&channel).await;
}
