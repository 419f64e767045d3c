//! The programs as servers: health, reflection, configuration, and the way they stop.

use std::path::Path;

use tokio::process::Command;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use votum_client::{AbortKind, Error, Outcome, Status};
use votum_proto::address::Address;
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually};
use votum_tests::expect::refusal;
use votum_tests::process::{Build, program};
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::{Leg, work};
use votum_tests::world::World;

const LEGS: [Leg<'static>; 2] =
    [Leg { bank: A, account: 1, amount: -5 }, Leg { bank: B, account: 1, amount: 5 }];

async fn health(channel: &Channel, service: &str) -> Result<ServingStatus, tonic::Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    Ok(HealthClient::new(channel.clone()).check(request).await?.into_inner().status())
}

/// The services that a server names by reflection.
async fn services(channel: &Channel) -> anyhow::Result<Vec<String>> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut replies = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    match replies.message().await?.and_then(|reply| reply.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => anyhow::bail!("no list of services: {other:?}"),
    }
}

#[tokio::test]
async fn health_and_reflection_answer_at_coordinator_and_agents() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.plain("addresses", &[]).await?;
    let coordinator = scene.world.address().channel()?;
    for service in ["", "votum.v1.Coordinator", "votum.v1.Operator"] {
        // The coordinator's health is a picture of its driver, a moment old.
        eventually(&format!("{service:?} is serving"), async || {
            Ok(match health(&coordinator, service).await? {
                ServingStatus::Serving => Found::Yes(()),
                other @ (ServingStatus::Unknown
                | ServingStatus::NotServing
                | ServingStatus::ServiceUnknown) => Found::NotYet(format!("{other:?}")),
            })
        })
        .await?;
    }
    let unknown = health(&coordinator, "votum.v1.Nothing").await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let named = services(&coordinator).await?;
    for service in ["votum.v1.Coordinator", "votum.v1.Operator", "grpc.health.v1.Health"] {
        assert!(named.iter().any(|name| name == service), "{service} is not in {named:?}");
    }
    for at in &tx.begun.participants {
        let agent = at.address.parse::<Address>()?.channel()?;
        for service in ["", "votum.v1.Participant", "votum.v1.Agent"] {
            assert_eq!(health(&agent, service).await?, ServingStatus::Serving, "{service:?}");
        }
        let named = services(&agent).await?;
        assert!(named.iter().any(|name| name == "votum.v1.Participant"), "{named:?}");
    }
    tx.roll_back().await?;
    scene.close().await
}

/// Runs a program to its end with a configuration; its exit code and what it said.
async fn configured(binary: &str, toml: &str, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("config.toml");
    std::fs::write(&file, toml.replace("$DIR", &dir.path().display().to_string()))?;
    let mut command = Command::new(program(Build::CrashPoints, binary)?);
    command.arg("--config").arg(&file).args(arguments).env("NO_COLOR", "1").kill_on_drop(true);
    let output = command.output().await?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    Ok((output.status.code(), said))
}

const COORDINATOR: &str = r#"
    coordinator_id = "acme"
    listen = "127.0.0.1:0"
    [log]
    directory = "$DIR/log"
    half_bytes = 1048576
    [[participants]]
    name = "bank-a"
    agent = "127.0.0.1:7401"
"#;

const AGENT: &str = r#"
    listen = "127.0.0.1:0"
    [[participants]]
    name = "bank-a"
    connection = "host=127.0.0.1 user=votum dbname=bank"
"#;

/// Metrics for everybody, which nobody has allowed.
const EXPOSED: &str = "\n[metrics]\nlisten = \"0.0.0.0:9464\"\n";

#[tokio::test]
async fn check_config_reports_every_mistake_at_once() -> anyhow::Result<()> {
    for (binary, good) in [("votum-coordinator", COORDINATOR), ("votum-participant", AGENT)] {
        let (code, said) = configured(binary, good, &["--check-config"]).await?;
        assert_eq!(code, Some(0), "{binary}: {said}");
    }
    let wrong = COORDINATOR
        .replace("127.0.0.1:0", "0.0.0.0:7400")
        .replace("half_bytes = 1048576", "half_bytes = 1\nlease = 0\nwatch_dog = 1")
        + "[[participants]]\nname = \"bank-a\"\nagent = \"127.0.0.1:7402\"\n"
        + EXPOSED;
    let (code, said) = configured("votum-coordinator", &wrong, &["--check-config"]).await?;
    assert_eq!(code, Some(2), "{said}");
    for mistake in ["insecure = true", "log.half_bytes", "log.lease", "watch_dog", "bank-a", "metrics.listen"]
    {
        assert!(said.contains(mistake), "{mistake} is not in:\n{said}");
    }
    let wrong = AGENT.replace("127.0.0.1:0", "0.0.0.0:7411").replace("dbname=bank", "password=secret-word")
        + "tls_ca_file = \"/nowhere\"\n[[participants]]\nname = \"bank-a\"\nconnection = \"host=a,b port=1,2,3 user=u \
           dbname=d\"\n";
    let wrong = format!("sessions = 0\n{wrong}{EXPOSED}");
    let (code, said) = configured("votum-participant", &wrong, &["--check-config"]).await?;
    assert_eq!(code, Some(2), "{said}");
    for mistake in [
        "insecure = true",
        "sessions is 0",
        "password_file",
        "no dbname",
        "tls_ca_file",
        "several hosts",
        "two",
        "metrics.listen",
    ] {
        assert!(said.contains(mistake), "{mistake} is not in:\n{said}");
    }
    assert!(!said.contains("secret-word"), "a password was repeated:\n{said}");
    Ok(())
}

#[tokio::test]
async fn nobody_listens_beyond_this_machine_unless_insecure_is_spelled_out() -> anyhow::Result<()> {
    for (binary, good) in [("votum-coordinator", COORDINATOR), ("votum-participant", AGENT)] {
        let open = good.replacen("127.0.0.1:0", "0.0.0.0:0", 1);
        let (code, said) = configured(binary, &open, &[]).await?;
        assert_eq!(code, Some(2), "{binary}: {said}");
        assert!(said.contains("insecure = true"), "{binary}: {said}");
        let spelled_out = format!("insecure = true\n{open}");
        let (code, said) = configured(binary, &spelled_out, &["--check-config"]).await?;
        assert_eq!(code, Some(0), "{binary}: {said}");
        let exposed = format!("{good}{EXPOSED}");
        let (code, said) = configured(binary, &exposed, &[]).await?;
        assert_eq!(code, Some(2), "{binary}: {said}");
        let spelled_out = format!("{exposed}insecure = true\n");
        let (code, said) = configured(binary, &spelled_out, &["--check-config"]).await?;
        assert_eq!(code, Some(0), "{binary}: {said}");
    }
    Ok(())
}

/// Waits until a line of a process's output contains `text`.
async fn says(log: &Path, text: &str) -> anyhow::Result<()> {
    eventually(&format!("{} says {text:?}", log.display()), async || {
        let said = std::fs::read_to_string(log)?;
        Ok(if said.contains(text) { Found::Yes(()) } else { Found::NotYet(said) })
    })
    .await
}

#[tokio::test]
async fn a_coordinator_that_is_told_to_stop_decides_what_is_open_and_begins_nothing() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let coordinator = &scene.world.coordinator;
    let tx = scene.begin("in flight", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "in flight", &LEGS).await?;
    coordinator.terminate()?;
    says(coordinator.log(), "stopping").await?;
    let late = v1::BeginRequest::default();
    let refused = votum_tests::plain::Plain::begin(scene.world.address(), late).await;
    assert!(refused.is_err(), "a transaction was begun by a coordinator that is stopping");
    assert!(scene.teller.commit(tx, "in flight").await?.is_committed());
    assert_eq!(coordinator.wait_exit().await?.code(), Some(0), "{}", coordinator.log_tail());
    scene.world.start_all().await?;
    scene.close().await
}

#[tokio::test]
async fn what_nobody_decides_is_rolled_back_when_the_grace_is_over() -> anyhow::Result<()> {
    let scene = Scene::open(World::builder().coordinator_tables("[limits]\ndrain_ms = 500")).await?;
    let coordinator = &scene.world.coordinator;
    let tx = scene.begin("left open", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "left open", &LEGS).await?;
    let gtid = tx.gtid().to_owned();
    coordinator.terminate()?;
    assert_eq!(coordinator.wait_exit().await?.code(), Some(0), "{}", coordinator.log_tail());
    for bank in [A, B] {
        scene.open_sessions(bank, 0).await?;
    }
    scene.world.start_all().await?;
    assert!(matches!(scene.ended(&gtid).await?, Status::Aborted(_)));
    assert!(matches!(scene.teller.commit(tx, "left open").await?, Outcome::Aborted(_)));
    scene.close().await
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_lets_open_branches_be_prepared_and_opens_none() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let agent = &scene.bank(B)?.agent;
    let tx = scene.begin("in flight", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "in flight", &LEGS).await?;
    agent.terminate()?;
    says(agent.log(), "stopping").await?;
    let late = scene.plain("late", &[]).await?;
    let refused = late.send(late.request(B, 1, "SELECT 1")).await.unwrap_err();
    assert_eq!(refused.codes().1, "VOTUM-2015", "{refused}");
    late.roll_back().await?;
    let outcome = scene.teller.commit(tx, "in flight").await?;
    assert!(outcome.is_committed(), "{outcome}\n{}", agent.log_tail());
    assert_eq!(agent.wait_exit().await?.code(), Some(0), "{}", agent.log_tail());
    scene.world.start_all().await?;
    scene.close().await
}

#[tokio::test]
async fn an_agent_rolls_back_what_is_left_when_its_grace_is_over() -> anyhow::Result<()> {
    let scene = Scene::open(World::builder().agent_setting("drain_ms", "300")).await?;
    let agent = &scene.bank(B)?.agent;
    let tx = scene.begin("left open", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "left open", &LEGS).await?;
    agent.terminate()?;
    assert_eq!(agent.wait_exit().await?.code(), Some(0), "{}", agent.log_tail());
    for bank in [A, B] {
        scene.open_sessions(bank, 0).await?;
    }
    scene.world.start_all().await?;
    let Outcome::Aborted(abort) = scene.teller.commit(tx, "left open").await? else { panic!("it committed") };
    assert_eq!(abort.kind, AbortKind::BranchLost, "{abort}");
    scene.close().await
}

#[tokio::test]
async fn a_second_signal_ends_a_process_at_once() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("cut off", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "cut off", &LEGS).await?;
    for process in [&scene.bank(B)?.agent, &scene.world.coordinator] {
        process.terminate()?;
        says(process.log(), "a second signal").await?;
        process.terminate()?;
        assert_eq!(process.wait_exit().await?.code(), Some(143), "{}", process.log_tail());
    }
    scene.world.start_all().await?;
    assert!(matches!(scene.teller.commit(tx, "cut off").await?, Outcome::Aborted(_)));
    scene.close().await
}

#[tokio::test]
async fn too_many_transactions_at_once_are_refused_and_leave_room_when_they_end() -> anyhow::Result<()> {
    let scene = Scene::open(World::builder().coordinator_tables("[limits]\nmax_transactions = 3")).await?;
    let votum = scene.teller.votum();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(votum.begin().await?);
    }
    let refused = refusal(votum.begin().await)?;
    assert_eq!((refused.grpc, refused.code.as_str()), (tonic::Code::ResourceExhausted, "VOTUM-1208"));
    for tx in open {
        tx.rollback().await?;
    }
    assert!(scene.teller.transfer("room again", &LEGS).await?.is_committed());
    scene.close().await
}

#[tokio::test]
async fn over_tcp_it_is_the_same() -> anyhow::Result<()> {
    let scene = Scene::open(World::builder().tcp()).await?;
    assert!(scene.teller.transfer("tcp", &LEGS).await?.is_committed());
    let refused = scene.teller.transfer("overdraft", &[Leg { bank: A, account: 1, amount: -9_999 }]).await;
    assert!(matches!(refused, Err(Error::Sql(_))), "{refused:?}");
    scene.close().await
}
