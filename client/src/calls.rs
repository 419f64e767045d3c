//! The calls of this client to one server, many over one stream.
//!
//! Whoever calls puts the call into a queue and waits for its answer. The HTTP library takes what is there as
//! one frame, whenever it can send; a task reads the replies and gives each answer to its caller. The stream
//! is opened by the first call, and again by the first after it broke; what was on it then is answered by a
//! status that says so, and whoever called judges whether to repeat.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use tokio::sync::{SetOnce, mpsc, oneshot};
use tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use votum_proto::calls::{FRAME_BYTES, FRAME_MARGIN, MAX_REPLY};
use votum_proto::runtime::Spawn;
use votum_proto::v1;
use votum_proto::v1::call::Request;
use votum_proto::v1::calls_client::CallsClient;
use votum_proto::v1::execute_response::Part;
use votum_proto::v1::reply::Kind;

#[cfg(feature = "embedded")]
use crate::embedded::Here;
use crate::error::text;
use crate::retry::says_nothing_of_the_request;

/// The calls to one server. Clones share its stream.
#[derive(Clone)]
pub(crate) struct Calls(Way);

/// How they get there.
#[derive(Clone)]
enum Way {
    Stream(Arc<Server>),
    /// It is within this process.
    #[cfg(feature = "embedded")]
    Here(Arc<Here>),
}

struct Server {
    channel: Channel,
    /// The longest call that the server takes, in bytes.
    longest: usize,
    spawn: Arc<dyn Spawn>,
    /// The stream that stands or is being opened.
    line: Mutex<Option<Line>>,
}

/// A statement's reply, whole or as far as it came.
pub(crate) struct Execution {
    /// `Finished` is the last, where it ended well.
    pub(crate) parts: Vec<v1::ExecuteResponse>,
    /// The error that ended it.
    pub(crate) error: Option<Status>,
}

/// All that a call was answered with.
pub(crate) struct Answer {
    /// Before the last reply: only a statement's reply has parts.
    pub(crate) parts: Vec<v1::ExecuteResponse>,
    pub(crate) last: Result<Kind, Status>,
}

/// A call in the queue.
struct Asked {
    request: Request,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

/// One stream, as callers see it. Without it the stream is ended from this side.
struct Line {
    queue: mpsc::UnboundedSender<Asked>,
    state: Arc<LineState>,
}

/// What both directions of a stream share.
#[derive(Default)]
struct LineState {
    sent: Mutex<Sent>,
    /// Why the stream broke, once it did.
    broken: SetOnce<Status>,
}

impl LineState {
    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No replies come any more. Whoever waits is told why.
    fn over(&self, why: Status) {
        let _ = self.broken.set(why);
        let unanswered = {
            let mut sent = self.sent();
            sent.over = true;
            std::mem::take(&mut sent.calls)
        };
        drop(unanswered);
    }
}

/// The calls that were sent and are not answered, by their ids.
#[derive(Default)]
struct Sent {
    last_id: u64,
    calls: BTreeMap<u64, Caller>,
    /// No replies come any more: the HTTP library may go on asking for calls until it has noticed.
    over: bool,
}

struct Caller {
    answer: oneshot::Sender<Answer>,
    parts: Vec<v1::ExecuteResponse>,
}

impl Calls {
    /// Calls over `channel`, to a server that takes calls of at most `longest` bytes.
    pub(crate) fn new(channel: Channel, longest: usize, spawn: Arc<dyn Spawn>) -> Self {
        Self(Way::Stream(Arc::new(Server { channel, longest, spawn, line: Mutex::default() })))
    }

    /// Calls that are answered within this process.
    #[cfg(feature = "embedded")]
    pub(crate) fn here(here: Here) -> Self {
        Self(Way::Here(Arc::new(here)))
    }

    pub(crate) async fn begin(&self, request: v1::BeginRequest) -> Result<v1::BeginResponse, Status> {
        let reply = self.ask(Request::Begin(request)).await.last?;
        if let Kind::Begin(reply) = reply { Ok(reply) } else { Err(unfitting()) }
    }

    pub(crate) async fn commit(&self, request: v1::CommitRequest) -> Result<v1::CommitResponse, Status> {
        let reply = self.ask(Request::Commit(request)).await.last?;
        if let Kind::Commit(reply) = reply { Ok(reply) } else { Err(unfitting()) }
    }

    pub(crate) async fn transact(
        &self,
        request: v1::TransactRequest,
    ) -> Result<v1::TransactResponse, Status> {
        let reply = self.ask(Request::Transact(request)).await.last?;
        if let Kind::Transact(reply) = reply { Ok(reply) } else { Err(unfitting()) }
    }

    pub(crate) async fn rollback(
        &self,
        request: v1::RollbackRequest,
    ) -> Result<v1::RollbackResponse, Status> {
        let reply = self.ask(Request::Rollback(request)).await.last?;
        if let Kind::Rollback(reply) = reply { Ok(reply) } else { Err(unfitting()) }
    }

    pub(crate) async fn get_transaction(
        &self,
        request: v1::GetTransactionRequest,
    ) -> Result<v1::GetTransactionResponse, Status> {
        let reply = self.ask(Request::GetTransaction(request)).await.last?;
        if let Kind::GetTransaction(reply) = reply { Ok(reply) } else { Err(unfitting()) }
    }

    /// Runs a statement and gathers its reply.
    pub(crate) async fn execute(&self, request: v1::ExecuteRequest) -> Execution {
        let Answer { mut parts, last } = self.ask(Request::Execute(request)).await;
        let error = last.and_then(|last| {
            let Kind::Execute(part) = last else { return Err(unfitting()) };
            parts.push(part);
            Ok(())
        });
        Execution { parts, error: error.err() }
    }

    async fn ask(&self, request: Request) -> Answer {
        match &self.0 {
            Way::Stream(server) => server.ask(request).await,
            #[cfg(feature = "embedded")]
            Way::Here(here) => here.ask(request).await,
        }
    }
}

fn unfitting() -> Status {
    Status::unimplemented("a call was answered with a reply to another kind of call")
}

impl Server {
    async fn ask(self: &Arc<Self>, request: Request) -> Answer {
        let bytes = request.encoded_len();
        let longest = self.longest;
        if bytes > longest {
            // Sent, it would end the stream for all.
            let why = format!("the request has {bytes} bytes; at most {longest} are taken");
            return Answer { parts: Vec::new(), last: Err(Status::out_of_range(why)) };
        }
        let (answer, answered) = oneshot::channel();
        let line = self.send(Asked { request, bytes, answer });
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Answer { parts: Vec::new(), last: Err(line.broken.wait().await.clone()) },
        }
    }

    /// Sends a call over the stream that stands, or over a new one.
    fn send(self: &Arc<Self>, mut asked: Asked) -> Arc<LineState> {
        let mut line = self.line();
        if let Some(Line { queue, state }) = &*line {
            match queue.send(asked) {
                Ok(()) => return Arc::clone(state),
                Err(mpsc::error::SendError(unsent)) => asked = unsent,
            }
        }
        let (queue, queued) = mpsc::unbounded_channel();
        // Its receiver is there.
        let _ = queue.send(asked);
        let state = Arc::new(LineState::default());
        *line = Some(Line { queue, state: Arc::clone(&state) });
        let calls = Outgoing { queued, state: Arc::clone(&state) };
        let talk = converse(self.channel.clone(), calls, Arc::clone(&state), Arc::downgrade(self));
        self.spawn.spawn(Box::pin(talk));
        state
    }

    fn line(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a stream that broke, unless another has taken its place.
    fn forget(&self, broken: &Arc<LineState>) {
        let mut line = self.line();
        if line.as_ref().is_some_and(|line| Arc::ptr_eq(&line.state, broken)) {
            *line = None;
        }
    }
}

/// Opens a stream and hands out its replies until it ends.
async fn converse(channel: Channel, calls: Outgoing, state: Arc<LineState>, server: Weak<Server>) {
    let mut client = CallsClient::new(channel).max_decoding_message_size(MAX_REPLY + FRAME_MARGIN);
    let broken = match client.open(calls).await {
        Ok(replies) => hand_out(replies.into_inner(), &state).await,
        // Nothing was read, so that a refusal to serve the stream judges each call on it.
        Err(refused) if !says_nothing_of_the_request(refused.code()) => refused,
        Err(unreachable) => Status::unavailable(text(&unreachable)),
    };
    if let Some(server) = server.upgrade() {
        server.forget(&state);
    }
    state.over(broken);
}

/// Gives each answer to its caller; says in the end why there are no more.
async fn hand_out(mut replies: Streaming<v1::ReplyFrame>, state: &LineState) -> Status {
    loop {
        match replies.message().await {
            Ok(Some(frame)) => {
                let mut sent = state.sent();
                for reply in frame.replies {
                    sent.take_in(reply);
                }
            }
            Ok(None) => return Status::unavailable("the other side ended the stream: it is stopping"),
            // Whatever the code, it is the stream's and judges no call.
            Err(status) => return Status::unavailable(text(&status)),
        }
    }
}

impl Sent {
    fn take_in(&mut self, v1::Reply { id, kind }: v1::Reply) {
        let last = match kind {
            Some(Kind::Execute(part)) if !matches!(part.part, Some(Part::Finished(_))) => {
                if let Some(caller) = self.calls.get_mut(&id) {
                    caller.parts.push(part);
                    if caller.answer.is_closed() {
                        // Nobody waits any more.
                        caller.parts.clear();
                    }
                }
                return;
            }
            Some(Kind::Error(error)) => Err(error.into_status()),
            Some(reply) => Ok(reply),
            None => Err(Status::unimplemented("a call was answered with a reply of an unknown kind")),
        };
        if let Some(Caller { answer, parts }) = self.calls.remove(&id) {
            let _ = answer.send(Answer { parts, last });
        }
    }
}

/// What the HTTP library sends: frames of whatever is in the queue.
struct Outgoing {
    queued: mpsc::UnboundedReceiver<Asked>,
    state: Arc<LineState>,
}

impl Stream for Outgoing {
    type Item = v1::CallFrame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<v1::CallFrame>> {
        let Self { queued, state } = &mut *self;
        loop {
            let Some(first) = ready!(queued.poll_recv(context)) else { return Poll::Ready(None) };
            let mut sent = state.sent();
            if sent.over {
                // Sent now, it would never be answered: dropped, its caller is told.
                return Poll::Ready(None);
            }
            let (mut calls, mut bytes) = (Vec::new(), 0);
            let mut next = Some(first);
            while let Some(Asked { request, bytes: more, answer }) = next {
                // A call that was given up before it was sent is never sent.
                if !answer.is_closed() {
                    bytes += more;
                    sent.last_id += 1;
                    let id = sent.last_id;
                    sent.calls.insert(id, Caller { answer, parts: Vec::new() });
                    calls.push(v1::Call { id, request: Some(request) });
                }
                next = if bytes < FRAME_BYTES { queued.try_recv().ok() } else { None };
            }
            if !calls.is_empty() {
                return Poll::Ready(Some(v1::CallFrame { calls }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    fn rollback() -> Request {
        Request::Rollback(v1::RollbackRequest { gtid: "acme-7-3f9ac2-1".into(), ..Default::default() })
    }

    /// The replies may end before the HTTP library has stopped asking for calls.
    #[tokio::test]
    async fn a_call_in_the_queue_when_the_replies_end_is_not_left_without_an_answer() {
        let (queue, queued) = mpsc::unbounded_channel();
        let state = Arc::new(LineState::default());
        let mut outgoing = Outgoing { queued, state: Arc::clone(&state) };
        let (answer, mut answered) = oneshot::channel();
        assert!(queue.send(Asked { request: rollback(), bytes: 1, answer }).is_ok());
        state.over(Status::unavailable("the other side ended the stream"));
        drop(queue);
        assert_eq!(outgoing.next().await, None, "nobody reads it any more");
        drop(outgoing);
        assert!(answered.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
    }
}
