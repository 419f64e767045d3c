//! Streams of calls from anybody: every call of a stream is answered to its end, however the frames are cut.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::Stream;
use http_body_util::Full;
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tonic::codec::{Codec as _, Streaming};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use votum_proto::calls::{Answer, CallsService, FRAME_MARGIN, Handler, MAX_REQUEST};
use votum_proto::v1;
use votum_proto::v1::call::Request as Call;
use votum_proto::v1::calls_server::Calls as _;
use votum_proto::v1::execute_response::Part;
use votum_proto::v1::reply::Kind;

/// The body of a request, as HTTP carries it: its calls are all answered to their ends, and where it breaks
/// off the stream ends with an error.
pub(crate) fn calls(body: &[u8]) {
    let (asked, expected_end) = asked(body);
    let mut expected = BTreeMap::<u64, usize>::new();
    for call in &asked {
        *expected.entry(call.id).or_default() += replies_to(call);
    }
    let mut replied = BTreeMap::<u64, usize>::new();
    let ended = answered(body, |frame| {
        let last = frame.replies.last().map_or(0, prost::Message::encoded_len);
        assert!(frame.encoded_len() - last <= FRAME_MARGIN);
        for reply in frame.replies {
            assert!(reply.kind.is_some());
            *replied.entry(reply.id).or_default() += 1;
        }
    });
    match expected_end {
        End::Whole => assert!(ended.is_ok(), "{ended:?}"),
        End::Broken => assert!(ended.is_err(), "a broken stream was taken for a whole one"),
        End::AfterHead => {}
    }
    if ended.is_ok() {
        assert_eq!(replied, expected);
    } else {
        // What was not out yet when the stream broke is asked for again on another one.
        assert!(replied.iter().all(|(id, count)| expected.get(id).is_some_and(|most| count <= most)));
    }
}

/// What comes after the last whole frame.
enum End {
    Whole,
    Broken,
    /// A frame's head and nothing of the frame, which the transport takes for the end.
    AfterHead,
}

/// The calls of all whole frames, read by other means.
fn asked(mut body: &[u8]) -> (Vec<v1::Call>, End) {
    let mut calls = Vec::new();
    while let [compressed, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if *compressed != 0 || rest.len() < length {
            let cut = *compressed == 0 && rest.is_empty() && length <= MAX_REQUEST;
            return (calls, if cut { End::AfterHead } else { End::Broken });
        }
        let (frame, after) = rest.split_at(length);
        let Ok(frame) = v1::CallFrame::decode(frame) else { return (calls, End::Broken) };
        calls.extend(frame.calls);
        body = after;
    }
    (calls, if body.is_empty() { End::Whole } else { End::Broken })
}

/// Has a service answer `body`, hands out its frames, and returns how the stream ended.
fn answered(body: &[u8], mut frame: impl FnMut(v1::ReplyFrame)) -> Result<(), Status> {
    let decoder = ProstCodec::<v1::ReplyFrame, v1::CallFrame>::default().decoder();
    let incoming =
        Streaming::new_request(decoder, Full::new(Bytes::copy_from_slice(body)), None, Some(MAX_REQUEST));
    let (_stop, told) = watch::channel(false);
    let service = CallsService::new(Arc::new(Answers), told);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut opening = service.open(Request::new(incoming));
    let Poll::Ready(opened) = opening.as_mut().poll(&mut context) else { panic!("opening waits") };
    let mut line = opened.unwrap().into_inner();
    loop {
        match Pin::new(&mut line).poll_next(&mut context) {
            Poll::Ready(Some(next)) => frame(next?),
            Poll::Ready(None) => return Ok(()),
            Poll::Pending => assert!(woken.0.swap(false, Ordering::Relaxed), "it waits for nothing"),
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers everything at once.
struct Answers;

impl Handler for Answers {
    fn call(self: &Arc<Self>, request: Call) -> Answer {
        match request {
            Call::Begin(begin) => {
                let gtid = begin.label;
                let begun = Kind::Begin(v1::BeginResponse { gtid, ..Default::default() });
                Answer::One(Box::pin(std::future::ready(Ok(begun))))
            }
            Call::Execute(execute) => {
                let (parts, reply) = mpsc::channel(MOST_ROWS + 2);
                let send = |part| parts.try_send(Ok(v1::ExecuteResponse { part: Some(part) })).unwrap();
                send(Part::Started(v1::Started::default()));
                for _ in 0..rows(&execute) {
                    send(Part::Row(v1::Row::default()));
                }
                // Without its end the reply is one of an agent that has died.
                if !execute.raw_binary {
                    send(Part::Finished(v1::Finished::default()));
                }
                Answer::Parts(reply)
            }
            Call::Commit(_) | Call::Rollback(_) | Call::Transact(_) | Call::GetTransaction(_) => {
                Answer::not_served("by nobody")
            }
        }
    }
}

/// More than are taken from a reply at once.
const MOST_ROWS: usize = 100;

fn rows(execute: &v1::ExecuteRequest) -> usize {
    usize::try_from(execute.ordinal).unwrap_or(0) % MOST_ROWS
}

/// How many replies and parts of replies a call has.
fn replies_to(call: &v1::Call) -> usize {
    match &call.request {
        // Its start, its rows, and its end or the news of its death.
        Some(Call::Execute(execute)) => rows(execute) + 2,
        Some(
            Call::Begin(_)
            | Call::Commit(_)
            | Call::Rollback(_)
            | Call::Transact(_)
            | Call::GetTransaction(_),
        )
        | None => 1,
    }
}

/// What a server replies reaches the client's code: errors are the same as the methods' own.
pub(crate) fn replies(bytes: &[u8]) {
    let Ok(frame) = v1::ReplyFrame::decode(bytes) else { return };
    for reply in frame.replies {
        let Some(Kind::Error(error)) = reply.kind else { continue };
        let status = error.clone().into_status();
        let again = v1::CallError::of(&status);
        assert_eq!(again.code, i32::from(tonic::Code::from(error.code)));
        assert_eq!((again.message, again.detail), (error.message, error.detail));
    }
}

/// Examples of calls to begin with.
pub(crate) fn examples() -> Vec<Vec<u8>> {
    let begin = Call::Begin(v1::BeginRequest { label: "transfer".into(), ..Default::default() });
    let execute = |ordinal, raw_binary| {
        let statement = "select 1".into();
        Call::Execute(v1::ExecuteRequest { ordinal, raw_binary, statement, ..Default::default() })
    };
    let commit = Call::Commit(v1::CommitRequest { gtid: "acme-7-3f9ac2-1042".into(), ..Default::default() });
    let requests = [begin, execute(3, false), execute(70, false), execute(2, true), commit];
    let call = |(id, request)| v1::Call { id, request: Some(request) };
    let calls: Vec<_> = (1..).zip(requests).map(call).collect();
    let framed = |calls: &[v1::Call]| {
        let frame = v1::CallFrame { calls: calls.to_vec() }.encode_to_vec();
        [&[0][..], &u32::try_from(frame.len()).unwrap().to_be_bytes(), &frame].concat()
    };
    let each: Vec<_> = calls.chunks(1).map(framed).collect();
    vec![each.concat(), framed(&calls), framed(&[]), framed(&vec![calls[3].clone(); 200]), Vec::new()]
}

/// Examples of replies to begin with.
pub(crate) fn reply_examples() -> Vec<Vec<u8>> {
    let sql = v1::SqlError { sqlstate: "40001".into(), position: 7, ..Default::default() };
    let detail = v1::ErrorDetail { code: "VOTUM-2013".into(), sql: Some(sql), ..Default::default() };
    let error = |detail| v1::CallError { code: 10, message: "once more: é".into(), detail };
    let kinds = [
        Kind::Begin(v1::BeginResponse { gtid: "acme-7-3f9ac2-1042".into(), ..Default::default() }),
        Kind::Error(Box::new(error(Some(detail)))),
        Kind::Error(Box::new(error(None))),
    ];
    let replies = (1..).zip(kinds).map(|(id, kind)| v1::Reply { id, kind: Some(kind) }).collect();
    vec![v1::ReplyFrame { replies }.encode_to_vec()]
}
