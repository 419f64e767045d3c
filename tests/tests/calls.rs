//! The stream of calls at real servers: the same answers as by the methods, a client that does not read, and
//! servers that stop while it is open.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use votum_proto::address::Address;
use votum_proto::error::detail;
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::call::Request;
use votum_proto::v1::calls_client::CallsClient;
use votum_proto::v1::coordinator_client::CoordinatorClient;
use votum_proto::v1::get_transaction_request::By;
use votum_proto::v1::outcome::Kind as Outcome;
use votum_proto::v1::reply::Kind;
use votum_tests::eventually::DEADLINE;
use votum_tests::plain::Plain;
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::Leg;

/// A client's end of a stream of calls.
struct Line {
    calls: mpsc::Sender<v1::CallFrame>,
    replies: Streaming<v1::ReplyFrame>,
}

impl Line {
    async fn open(address: &Address) -> anyhow::Result<Self> {
        let (calls, frames) = mpsc::channel(4);
        let mut client = CallsClient::new(address.channel()?);
        let replies = client.open(ReceiverStream::new(frames)).await?.into_inner();
        Ok(Self { calls, replies })
    }

    async fn call(&self, id: u64, request: Request) -> anyhow::Result<()> {
        let calls = vec![v1::Call { id, request: Some(request) }];
        Ok(self.calls.send(v1::CallFrame { calls }).await?)
    }

    /// The error that ends a call, past the parts before it.
    async fn error(&mut self) -> anyhow::Result<Status> {
        within(async {
            loop {
                let frame = self.replies.message().await?;
                let replies = frame.ok_or_else(|| anyhow::anyhow!("the stream ended"))?.replies;
                for reply in replies {
                    if let Some(Kind::Error(error)) = reply.kind {
                        return anyhow::Ok(error.into_status());
                    }
                }
            }
        })
        .await
    }

    /// Waits until the server has ended the stream, in order.
    async fn ended(&mut self) -> anyhow::Result<()> {
        within(async {
            while self.replies.message().await?.is_some() {}
            anyhow::Ok(())
        })
        .await
    }
}

/// Waits for `work`, at most for [`DEADLINE`].
async fn within<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    Seams::production().clock.timeout(DEADLINE, work).await?
}

/// Where the agent of a bank listens.
fn agent(tx: &Plain, bank: &str) -> anyhow::Result<Address> {
    let at = tx.begun.participants.iter().find(|at| at.participant == bank);
    Ok(at.ok_or_else(|| anyhow::anyhow!("{bank} has no agent"))?.address.parse()?)
}

#[tokio::test]
async fn an_error_says_the_same_by_a_method_and_in_a_stream() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.plain("errors", &[]).await?;
    let twins = [scene.plain("by method", &[]).await?, scene.plain("in a stream", &[]).await?];
    let mut line = Line::open(&agent(&tx, A)?).await?;
    let [of_a_method, of_a_stream] = &twins;
    let wrong = |of: &Plain, statement: &str| of.request(A, 1, statement);
    let unknown = |of: &Plain| v1::ExecuteRequest { secret: vec![1], ..of.request(A, 1, "SELECT 1") };
    for (by_method, in_stream) in [
        (unknown(of_a_method), unknown(of_a_stream)),
        (
            wrong(of_a_method, "INSERT INTO accounts VALUES (1, 1), (1, 1)"),
            wrong(of_a_stream, "INSERT INTO accounts VALUES (1, 1), (1, 1)"),
        ),
    ] {
        let Err(refused) = tx.send(by_method).await else { anyhow::bail!("it was not refused") };
        line.call(1, Request::Execute(in_stream)).await?;
        same(&refused.status, &line.error().await?, [of_a_method, of_a_stream]);
    }

    let mut line = Line::open(scene.world.address()).await?;
    let mut coordinator = CoordinatorClient::new(scene.world.address().channel()?);
    let wrong = |of: &Plain| v1::CommitRequest { gtid: of.begun.gtid.clone(), ..Default::default() };
    let Err(refused) = coordinator.commit(wrong(of_a_method)).await else { anyhow::bail!("not refused") };
    line.call(1, Request::Commit(wrong(of_a_stream))).await?;
    same(&refused, &line.error().await?, [of_a_method, of_a_stream]);
    let nobodys = v1::GetTransactionRequest { by: Some(By::Gtid("nonsense".into())) };
    let Err(refused) = coordinator.get_transaction(nobodys.clone()).await else { anyhow::bail!("found") };
    line.call(2, Request::GetTransaction(nobodys)).await?;
    same(&refused, &line.error().await?, [of_a_method, of_a_stream]);

    for tx in [&tx, of_a_method, of_a_stream] {
        tx.roll_back().await?;
    }
    scene.close().await
}

/// Two errors that say the same, each of its own transaction.
fn same(by_method: &Status, in_stream: &Status, of: [&Plain; 2]) {
    let [a, b] = of.map(|tx| tx.begun.gtid.as_str());
    assert_eq!(in_stream.code(), by_method.code());
    assert_eq!(in_stream.message().replace(b, a), by_method.message());
    let theirs =
        detail(in_stream).map(|detail| v1::ErrorDetail { gtid: detail.gtid.replace(b, a), ..detail });
    assert_eq!(theirs, detail(by_method));
    assert!(theirs.is_some());
}

#[tokio::test]
async fn i6_a_client_that_does_not_read_its_stream_keeps_no_session_beyond_its_branchs_time()
-> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.plain("unread", &[]).await?;
    let line = Line::open(&agent(&tx, A)?).await?;
    let mut request = tx.request(A, 1, "SELECT repeat('x', 10000) FROM generate_series(1, 100000)");
    request.options = Some(v1::BranchOptions { timeout_ms: 3_000, ..Default::default() });
    line.call(1, Request::Execute(request)).await?;
    scene.open_sessions(A, 1).await?;
    scene.open_sessions(A, 0).await?;
    // Nobody else is in its way.
    let legs = [Leg { bank: A, account: 1, amount: -5 }, Leg { bank: B, account: 1, amount: 5 }];
    assert!(scene.teller.transfer("meanwhile", &legs).await?.is_committed());
    drop(line);
    tx.roll_back().await?;
    scene.close().await
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_ends_the_streams_that_are_open() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.plain("addresses", &[]).await?;
    let agent_of_b = agent(&tx, B)?;
    tx.roll_back().await?;
    let agent = &scene.bank(B)?.agent;
    for (process, address) in [(agent, &agent_of_b), (&scene.world.coordinator, scene.world.address())] {
        let mut idle = Line::open(address).await?;
        process.terminate()?;
        idle.ended().await?;
        assert_eq!(process.wait_exit().await?.code(), Some(0), "{}", process.log_tail());
        assert!(!process.log_tail().contains("cut"), "{}", process.log_tail());
    }
    scene.world.start_all().await?;
    scene.close().await
}

#[tokio::test]
async fn the_next_transaction_is_begun_with_the_outcome_of_the_last() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let mut coordinator = CoordinatorClient::new(scene.world.address().channel()?);
    let mut commit = async |tx: &Plain, secret: &[u8], label: String| {
        let (gtid, secret) = (tx.begun.gtid.clone(), secret.to_vec());
        let next = Some(v1::BeginRequest { timeout_ms: 5_000, label, ..Default::default() });
        coordinator.commit(v1::CommitRequest { gtid, secret, next, ..Default::default() }).await
    };
    let tx = scene.plain("first", &[]).await?;
    assert!(commit(&tx, b"wrong", "second".into()).await.is_err());
    let reply = commit(&tx, &tx.begun.secret, "second".into()).await?.into_inner();
    let begun = reply.next.ok_or_else(|| anyhow::anyhow!("no transaction was begun"))?;
    assert!(matches!(reply.outcome.and_then(|outcome| outcome.kind), Some(Outcome::ReadOnly(_))));
    assert_eq!(begun.timeout_ms, 5_000);
    let mut second = Plain::of(scene.world.address(), begun);
    second.run(A, "SELECT 1").await.map_err(|refused| refused.status)?;
    let kind = second.commit().await?;
    assert!(matches!(kind, Outcome::ReadOnly(_)), "{kind:?}");

    let tx = scene.plain("last", &[]).await?;
    let reply = commit(&tx, &tx.begun.secret, "x".repeat(65)).await?.into_inner();
    assert!(reply.outcome.is_some());
    assert_eq!(reply.next, None, "what cannot be begun costs nobody the outcome");
    scene.close().await
}
