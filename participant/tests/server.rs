//! The agent as a process serves it: gRPC over a Unix socket, health, an orderly end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use std::process::Command;

use support::{BANK, World, code};
use tokio_stream::wrappers::ReceiverStream;
use votum_participant::{AgentConfig, ParticipantConfig, run};
use votum_proto::address::Address;
use votum_proto::names::{Epoch, Gtid, Incarnation, Life};
use votum_proto::runtime::Seams;
use votum_proto::secret::IdentityKey;
use votum_proto::service::shutdown::Shutdown;
use votum_proto::v1;
use votum_proto::v1::agent_client::AgentClient;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::execute_response::Part;
use votum_proto::v1::participant_client::ParticipantClient;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::ROLE;

fn frame(kind: Order) -> v1::CoordinatorFrame {
    v1::CoordinatorFrame { witness: None, messages: vec![v1::CoordinatorMessage { kind: Some(kind) }] }
}

#[tokio::test]
async fn a_coordinator_and_a_client_reach_the_agent_over_a_socket_until_it_is_told_to_stop() {
    let world = World::new().await;
    let seams = Seams::production();
    let directory = tempfile::tempdir().unwrap();
    let address = Address::Unix(directory.path().join("agent.sock"));
    let connection = world.server.connection(&world.database, ROLE);
    let mut config = AgentConfig::embedded(vec![ParticipantConfig::new(support::name(), connection)]);
    config.listen = address.clone();
    config.drain_ms = 50;
    let (trigger, shutdown) = Shutdown::manual();
    let (told, ended) = tokio::sync::oneshot::channel();
    let running = run(config, shutdown, seams.clone());
    seams.spawn(async move { drop(told.send(running.await.map_err(|error| error.to_string()))) });
    let channel = eventually("the socket is there", async || {
        Ok(match address.endpoint()?.connect().await {
            Ok(channel) => Found::Yes(channel),
            Err(error) => Found::NotYet(error.to_string()),
        })
    })
    .await
    .unwrap();

    let life = Life { epoch: Epoch(1), incarnation: Incarnation::from_low_bits(7) };
    let key = IdentityKey([1; 32]).epoch_key(life);
    let (orders, receiver) = tokio::sync::mpsc::channel(4);
    let hello = v1::CoordinatorHello {
        coordinator_id: "sock".into(),
        epoch: 1,
        incarnation: 7,
        epoch_key: key.to_bytes(),
        participants: vec![BANK.into()],
    };
    orders.send(frame(Order::Hello(hello))).await.unwrap();
    let mut agent = AgentClient::new(channel.clone());
    let mut reports = agent.exchange(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let first = reports.message().await.unwrap().unwrap();
    assert!(matches!(&first.messages[..], [v1::AgentMessage { kind: Some(Report::Hello(_)) }]), "{first:?}");

    let gtid = Gtid { coordinator_id: "sock".parse().unwrap(), life, seq: 1 };
    let request = v1::ExecuteRequest {
        gtid: gtid.to_string(),
        secret: key.secret(&gtid),
        participant: BANK.into(),
        ordinal: 1,
        statement: "UPDATE account SET balance = 5 WHERE id = 1".into(),
        ..Default::default()
    };
    let mut client = ParticipantClient::new(channel.clone());
    let mut reply = client.execute(request.clone()).await.unwrap().into_inner();
    let mut last = None;
    while let Some(part) = reply.message().await.unwrap() {
        last = part.part;
    }
    assert_eq!(last, Some(Part::Finished(v1::Finished { rows: 1 })));
    let wrong = v1::ExecuteRequest { secret: vec![0; 32], ..request };
    assert_eq!(code(&client.execute(wrong).await.unwrap_err()).0, "VOTUM-2004");

    trigger.request();
    assert_eq!(ended.await.unwrap(), Ok(()));
    drop(orders);
    assert!(!directory.path().join("agent.sock").exists());
    assert_eq!(world.number("SELECT balance FROM account WHERE id = 1").await, 100);
}

#[test]
fn every_mistake_in_the_configuration_is_reported_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.toml");
    std::fs::write(
        &file,
        "listen = \"0.0.0.0:7411\"\nsessions = 0\nsurprise = 1\n\
         [[participants]]\nname = \"a\"\nconnection = \"host=h1,h2,h3 port=1,2 dbname=d password=secret-word\"\n\
         [[participants]]\nname = \"a\"\nconnection = \"host=h user=u dbname=d\"\ntls_ca_file = \"x\"\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_votum-participant"))
        .args(["--check-config", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    for part in [
        "surprise",
        "insecure = true",
        "sessions is 0",
        "two participants",
        "several hosts",
        "no user",
        "holds a password",
        "tls_ca_file",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(!text.contains("secret-word"), "{text}");
    std::fs::write(
        &file,
        "listen = \"127.0.0.1:7411\"\n[[participants]]\nname = \"a\"\nconnection = \"host=h user=u dbname=d\"\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_votum-participant"))
        .args(["--check-config", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), "configuration is fine\n"));
}
