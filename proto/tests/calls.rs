//! A stream of calls over a real socket, against a handler that the test plays.

#![cfg(test)] // clippy then lets helpers fail as tests do

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use votum_proto::address::Address;
use votum_proto::calls::{
    Answer, CallsService, FRAME_BYTES, FRAME_MARGIN, Handler, MAX_REPLY, MAX_UNANSWERED, Part,
};
use votum_proto::runtime::{Elapsed, Seams};
use votum_proto::v1;
use votum_proto::v1::call::Request;
use votum_proto::v1::calls_client::CallsClient;
use votum_proto::v1::calls_server::CallsServer;
use votum_proto::v1::execute_response::Part as Piece;
use votum_proto::v1::reply::Kind;

const DEADLINE: Duration = Duration::from_secs(30);

/// A call that the test has to answer.
enum Asked {
    Begin(String, oneshot::Sender<Result<Kind, Status>>),
    Execute(mpsc::Sender<Part>),
}

struct Played {
    asked: mpsc::UnboundedSender<Asked>,
}

impl Handler for Played {
    fn call(self: &Arc<Self>, request: Request) -> Answer {
        match request {
            Request::Begin(begin) => {
                let (answer, answered) = oneshot::channel();
                self.asked.send(Asked::Begin(begin.label, answer)).unwrap();
                Answer::One(Box::pin(async { answered.await.unwrap() }))
            }
            Request::Execute(_) => {
                let (parts, reply) = mpsc::channel(32);
                self.asked.send(Asked::Execute(parts)).unwrap();
                Answer::Parts(reply)
            }
            Request::Commit(_) | Request::Rollback(_) | Request::Transact(_) | Request::GetTransaction(_) => {
                Answer::not_served("by nobody")
            }
        }
    }
}

/// A server whose handler is the test.
struct World {
    channel: Channel,
    asked: mpsc::UnboundedReceiver<Asked>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
    seams: Seams,
}

/// A client's end of a stream.
struct Line {
    calls: mpsc::Sender<v1::CallFrame>,
    replies: Streaming<v1::ReplyFrame>,
}

impl World {
    async fn start() -> Self {
        let seams = Seams::production();
        let (sender, asked) = mpsc::unbounded_channel();
        let (stop, told) = watch::channel(false);
        let service = CallsService::new(Arc::new(Played { asked: sender }), told.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (tell, ended) = oneshot::channel();
        let mut stopping = told;
        let serving = Server::builder().add_service(CallsServer::new(service)).serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            async move {
                stopping.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
            },
        );
        seams.spawn(async move {
            serving.await.unwrap();
            let _ = tell.send(());
        });
        Self { channel: address.channel().unwrap(), asked, stop, ended, seams }
    }

    async fn open(&self) -> Line {
        let (calls, frames) = mpsc::channel(4);
        let mut client =
            CallsClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY + FRAME_MARGIN);
        let replies = client.open(ReceiverStream::new(frames)).await.unwrap().into_inner();
        Line { calls, replies }
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> T {
        self.seams.clock.timeout(DEADLINE, work).await.expect("nothing within 30 s")
    }

    async fn asked_to_begin(&mut self) -> (String, oneshot::Sender<Result<Kind, Status>>) {
        let clock = self.seams.clock.clone();
        match clock.timeout(DEADLINE, self.asked.recv()).await.expect("nothing was asked within 30 s") {
            Some(Asked::Begin(label, answer)) => (label, answer),
            Some(Asked::Execute(_)) | None => panic!("not asked to begin"),
        }
    }

    async fn asked_to_execute(&mut self) -> mpsc::Sender<Part> {
        let clock = self.seams.clock.clone();
        match clock.timeout(DEADLINE, self.asked.recv()).await.expect("nothing was asked within 30 s") {
            Some(Asked::Execute(parts)) => parts,
            Some(Asked::Begin(..)) | None => panic!("not asked to execute"),
        }
    }

    /// As many replies as are expected, in however many frames.
    async fn replies(&self, line: &mut Line, count: usize) -> Vec<v1::Reply> {
        let mut replies = Vec::new();
        while replies.len() < count {
            replies.extend(self.frame(line).await);
        }
        assert_eq!(replies.len(), count);
        replies
    }

    async fn frame(&self, line: &mut Line) -> Vec<v1::Reply> {
        self.within(line.replies.message()).await.unwrap().expect("the stream ended").replies
    }
}

impl Line {
    async fn call(&self, calls: impl IntoIterator<Item = (u64, Request)>) {
        let calls = calls.into_iter().map(|(id, request)| v1::Call { id, request: Some(request) });
        self.calls.send(v1::CallFrame { calls: calls.collect() }).await.unwrap();
    }
}

fn begin(label: &str) -> Request {
    Request::Begin(v1::BeginRequest { label: label.to_owned(), ..Default::default() })
}

fn execute() -> Request {
    Request::Execute(v1::ExecuteRequest::default())
}

fn begun(gtid: &str) -> Result<Kind, Status> {
    Ok(Kind::Begin(v1::BeginResponse { gtid: gtid.to_owned(), ..Default::default() }))
}

fn part(piece: Piece) -> Part {
    Ok(v1::ExecuteResponse { part: Some(piece) })
}

fn started() -> Part {
    part(Piece::Started(v1::Started::default()))
}

fn row(bytes: usize) -> Part {
    let text = v1::value::Kind::Text("x".repeat(bytes));
    part(Piece::Row(v1::Row { values: vec![v1::Value { kind: Some(text) }] }))
}

fn finished(rows: u64) -> Part {
    part(Piece::Finished(v1::Finished { rows }))
}

fn error_of(reply: &v1::Reply) -> Status {
    match &reply.kind {
        Some(Kind::Error(error)) => (**error).clone().into_status(),
        other => panic!("no error: {other:?}"),
    }
}

#[tokio::test]
async fn calls_are_answered_as_their_answers_come_and_not_as_they_were_sent() {
    let mut world = World::start().await;
    let mut line = world.open().await;
    line.call([(7, begin("one")), (8, begin("two")), (9, begin("three"))]).await;
    let mut answers = Vec::new();
    for label in ["one", "two", "three"] {
        let (asked, answer) = world.asked_to_begin().await;
        assert_eq!(asked, label);
        answers.push(answer);
    }
    for id in [9, 7, 8] {
        let answer = answers.remove(if id == 9 { 2 } else { 0 });
        answer.send(begun(&id.to_string())).unwrap();
        let replies = world.frame(&mut line).await;
        let expected = v1::Reply { id, kind: begun(&id.to_string()).ok() };
        assert_eq!(replies, [expected]);
    }
}

#[tokio::test]
async fn all_that_is_ready_travels_in_one_frame() {
    let mut world = World::start().await;
    let mut line = world.open().await;
    line.call((1..=3).map(|id| (id, execute()))).await;
    let mut asked = Vec::new();
    for _ in 1..=3 {
        asked.push(world.asked_to_execute().await);
    }
    // Nothing is awaited in between: on this runtime of one thread the server finds all of it.
    for parts in asked {
        parts.try_send(started()).unwrap();
        parts.try_send(finished(1)).unwrap();
    }
    let ids: Vec<u64> = world.frame(&mut line).await.iter().map(|reply| reply.id).collect();
    assert_eq!(ids, [1, 1, 2, 2, 3, 3], "in one frame, and the parts of one call together");
}

#[tokio::test]
async fn a_reply_larger_than_a_frame_comes_whole_and_in_order() {
    let mut world = World::start().await;
    let mut line = world.open().await;
    line.call([(1, execute())]).await;
    let parts = world.asked_to_execute().await;
    let sizes: Vec<usize> = (0..300).map(|n| if n == 150 { 3 * FRAME_BYTES } else { 4000 + n }).collect();
    let sent = sizes.clone();
    world.seams.spawn(async move {
        for size in sent {
            parts.send(row(size)).await.unwrap();
        }
        parts.send(finished(300)).await.unwrap();
    });
    let mut seen = Vec::new();
    'reply: loop {
        let frame = world.frame(&mut line).await;
        let before_the_last: usize = frame.iter().rev().skip(1).map(v1::Reply::encoded_len).sum();
        assert!(before_the_last < FRAME_BYTES, "more was put into a frame of {before_the_last} bytes");
        for reply in frame {
            match reply.kind {
                Some(Kind::Execute(v1::ExecuteResponse { part: Some(Piece::Row(row)) })) => {
                    let Some(v1::value::Kind::Text(text)) = &row.values[0].kind else { panic!("no text") };
                    seen.push(text.len());
                }
                other => {
                    assert_eq!(other, finished(300).ok().map(Kind::Execute));
                    break 'reply;
                }
            }
        }
    }
    assert_eq!(seen, sizes);
}

#[tokio::test]
async fn a_part_that_is_too_long_fails_its_own_call_and_no_other() {
    let mut world = World::start().await;
    let mut line = world.open().await;
    line.call([(1, execute()), (2, begin("other"))]).await;
    let parts = world.asked_to_execute().await;
    parts.send(row(MAX_REPLY)).await.unwrap();
    let replies = world.frame(&mut line).await;
    assert_eq!((replies.len(), replies[0].id), (1, 1));
    assert_eq!(error_of(&replies[0]).code(), Code::OutOfRange);
    world.within(parts.closed()).await;
    world.asked_to_begin().await.1.send(begun("other")).unwrap();
    assert_eq!(world.frame(&mut line).await[0].id, 2);
}

#[tokio::test]
async fn an_error_ends_its_call_and_is_the_status_that_it_was() {
    let mut world = World::start().await;
    let mut line = world.open().await;
    let sql = v1::SqlError { sqlstate: "23505".into(), position: 7, ..Default::default() };
    let detail = v1::ErrorDetail { code: "VOTUM-2013".into(), sql: Some(sql), ..Default::default() };
    let detailed = votum_proto::error::status(Code::AlreadyExists, "said twice: ü", &detail);
    for status in [detailed, Status::unavailable("no detail")] {
        line.call([(1, execute())]).await;
        let parts = world.asked_to_execute().await;
        parts.try_send(started()).unwrap();
        parts.try_send(Err(status.clone())).unwrap();
        let replies = world.replies(&mut line, 2).await;
        let came = error_of(&replies[1]);
        assert_eq!((came.code(), came.message()), (status.code(), status.message()));
        // Its entries are a map, which is encoded in any order.
        let info = |status: &Status| status.get_details_error_info().map(|info| (info.reason, info.metadata));
        assert_eq!(info(&came), info(&status));
        assert_eq!(came.metadata().clone().into_headers(), status.metadata().clone().into_headers());
    }
}

#[tokio::test]
async fn what_is_not_served_is_said_and_the_stream_goes_on() {
    let mut world = World::start().await;
    let mut line = world.open().await;
    line.calls.send(v1::CallFrame { calls: vec![v1::Call { id: 1, request: None }] }).await.unwrap();
    line.call([(2, Request::Commit(v1::CommitRequest::default()))]).await;
    for reply in world.replies(&mut line, 2).await {
        assert_eq!(error_of(&reply).code(), Code::Unimplemented);
    }
    line.call([(3, execute())]).await;
    drop(world.asked_to_execute().await);
    let replies = world.frame(&mut line).await;
    assert_eq!(error_of(&replies[0]).code(), Code::Unavailable, "a reply that ends without a last part");
}

#[tokio::test]
async fn a_client_that_stops_reading_is_neither_kept_for_nor_in_the_way_of_others() {
    let mut world = World::start().await;
    let mut slow = world.open().await;
    slow.call([(1, execute())]).await;
    let parts = world.asked_to_execute().await;
    let clock = world.seams.clock.clone();
    let mut sent = 0;
    while sent < 200 {
        match clock.timeout(Duration::from_millis(500), parts.send(row(1 << 20))).await {
            Ok(taken) => taken.unwrap(),
            Err(Elapsed) => break,
        }
        sent += 1;
    }
    assert!(sent < 100, "{sent} MiB were taken from a statement whose client does not read");

    let mut quick = world.open().await;
    quick.call([(1, begin("quick"))]).await;
    world.asked_to_begin().await.1.send(begun("quick")).unwrap();
    assert_eq!(world.frame(&mut quick).await[0].id, 1);

    world.seams.spawn(async move { parts.send(finished(0)).await.unwrap() });
    let mut seen = 0;
    while seen <= sent {
        seen += world.frame(&mut slow).await.len();
    }
}

#[tokio::test]
async fn a_stream_with_too_many_unanswered_calls_is_not_read_until_some_are_answered() {
    let mut world = World::start().await;
    let mut line = world.open().await;
    let many = MAX_UNANSWERED as u64;
    for first in (0..many).step_by(1024) {
        // The last frame has one more.
        let last = first + 1024 == many;
        let beyond = last.then(|| (many, begin("beyond")));
        line.call((first..first + 1024).map(|id| (id, begin(""))).chain(beyond)).await;
    }
    let mut answers = Vec::new();
    for _ in 0..many {
        answers.push(world.asked_to_begin().await);
    }
    assert!(world.asked.try_recv().is_err(), "more than {many} calls were started");
    let (_, first) = answers.swap_remove(0);
    first.send(begun("")).unwrap();
    assert_eq!(world.frame(&mut line).await[0].id, 0);
    assert_eq!(world.asked_to_begin().await.0, "beyond");
}

#[tokio::test]
async fn a_stream_ends_when_its_client_sends_no_more_and_all_is_answered() {
    let mut world = World::start().await;
    let mut line = world.open().await;
    line.call([(1, begin(""))]).await;
    let (_, answer) = world.asked_to_begin().await;
    drop(line.calls);
    let replies = &mut line.replies;
    let early = world.seams.clock.timeout(Duration::from_millis(200), replies.message()).await;
    assert!(matches!(early, Err(Elapsed)), "it ended before all was answered");
    answer.send(begun("")).unwrap();
    assert_eq!(world.within(replies.message()).await.unwrap().unwrap().replies[0].id, 1);
    assert!(world.within(replies.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_answers_what_it_has_read_and_ends_every_stream() {
    let mut world = World::start().await;
    let (mut busy, mut idle) = (world.open().await, world.open().await);
    busy.call([(1, begin(""))]).await;
    let (_, answer) = world.asked_to_begin().await;
    world.stop.send_replace(true);
    assert!(world.within(idle.replies.message()).await.unwrap().is_none());
    answer.send(begun("")).unwrap();
    assert_eq!(world.frame(&mut busy).await[0].id, 1);
    assert!(world.within(busy.replies.message()).await.unwrap().is_none());
    let ended = world.seams.clock.timeout(DEADLINE, world.ended).await;
    ended.expect("open streams keep the server from its end").unwrap();
}
