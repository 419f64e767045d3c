//! The serving end of a stream of calls. One task owns a stream: it is polled by the HTTP server where that
//! can send, reads what came, starts it, and hands out what is ready. There is no queue between the parts of
//! it, so that a client which does not read is neither read from nor kept for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, Stream, StreamExt as _};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{FRAME_BYTES, MAX_REPLY, MAX_UNANSWERED};
use crate::runtime::BoxFuture;
use crate::v1;
use crate::v1::calls_server::Calls;
use crate::v1::{call, execute_response, reply};

/// How many parts of one reply are taken at once, so that replies of many calls take turns.
const PARTS: usize = 32;

/// Who answers calls: the same code that answers the methods of the same names.
pub trait Handler: Send + Sync + 'static {
    /// Starts one call. Whether anybody waits for the answer must not matter to the work.
    fn call(self: &Arc<Self>, request: call::Request) -> Answer;
}

/// Where an answer comes from.
pub enum Answer {
    /// One reply, once it is there.
    One(BoxFuture<Result<reply::Kind, Status>>),
    /// The parts of a statement's reply. It ends with `Finished` or an error.
    Parts(mpsc::Receiver<Part>),
}

impl Answer {
    /// A refusal.
    pub fn refused(status: Status) -> Self {
        Self::One(Box::pin(std::future::ready(Err(status))))
    }

    /// A call that this server does not serve.
    pub fn not_served(by_whom: &str) -> Self {
        Self::refused(Status::unimplemented(format!("this kind of call is served {by_whom}")))
    }
}

/// Service `votum.v1.Calls` over a handler.
pub struct CallsService<H> {
    handler: Arc<H>,
    stopping: watch::Receiver<bool>,
}

impl<H: Handler> CallsService<H> {
    /// A service whose streams end once `stopping` says true and what they have read is answered: a stream
    /// that stayed open would keep the server from its end.
    pub fn new(handler: Arc<H>, stopping: watch::Receiver<bool>) -> Self {
        Self { handler, stopping }
    }
}

#[async_trait]
impl<H: Handler> Calls for CallsService<H> {
    type OpenStream = Line<H>;

    async fn open(&self, request: Request<Streaming<v1::CallFrame>>) -> Result<Response<Line<H>>, Status> {
        let mut stopping = self.stopping.clone();
        let stopped = Box::pin(async move {
            if stopping.wait_for(|stopping| *stopping).await.is_err() {
                // Nobody can ask for a stop any more.
                std::future::pending::<()>().await;
            }
        });
        Ok(Response::new(Line {
            handler: Arc::clone(&self.handler),
            incoming: Some(request.into_inner()),
            stopped: Some(stopped),
            read: Vec::new().into_iter(),
            running: FuturesUnordered::new(),
            frame: Frame::default(),
        }))
    }
}

/// One stream of calls, as the stream of its replies.
pub struct Line<H> {
    handler: Arc<H>,
    /// `None` once nothing more is read: the client sends no more, or the server is to stop.
    incoming: Option<Streaming<v1::CallFrame>>,
    stopped: Option<BoxFuture<()>>,
    /// What came and is not started yet.
    read: vec::IntoIter<v1::Call>,
    running: FuturesUnordered<Running>,
    frame: Frame,
}

impl<H: Handler> Stream for Line<H> {
    type Item = Result<v1::ReplyFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.stop_if_told(context);
        if let Err(broken) = this.start_what_came(context) {
            return Poll::Ready(Some(Err(broken)));
        }
        this.gather(context);
        if !this.frame.replies.is_empty() {
            return Poll::Ready(Some(Ok(this.frame.take())));
        }
        // Nothing runs, so nothing that was read waits for room.
        let over = this.incoming.is_none() && this.running.is_empty();
        if over { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl<H: Handler> Line<H> {
    fn stop_if_told(&mut self, context: &mut Context<'_>) {
        if let Some(stopped) = &mut self.stopped
            && stopped.poll_unpin(context).is_ready()
        {
            // What was read is answered; what was not, its client repeats elsewhere or later.
            self.stopped = None;
            self.incoming = None;
            self.read = Vec::new().into_iter();
        }
    }

    /// Reads and starts calls while there is room for their answers.
    fn start_what_came(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        loop {
            while self.running.len() < MAX_UNANSWERED
                && let Some(v1::Call { id, request }) = self.read.next()
            {
                let answer = match request {
                    Some(request) => self.handler.call(request),
                    None => Answer::not_served("by a newer version"),
                };
                self.running.push(Running::new(id, answer));
            }
            if self.running.len() >= MAX_UNANSWERED {
                return Ok(());
            }
            let Some(incoming) = &mut self.incoming else { return Ok(()) };
            match incoming.poll_next_unpin(context) {
                Poll::Ready(Some(frame)) => self.read = frame?.calls.into_iter(),
                Poll::Ready(None) => self.incoming = None,
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Puts what is ready into the frame, until it is full or nothing else is.
    fn gather(&mut self, context: &mut Context<'_>) {
        while self.frame.has_room()
            && let Poll::Ready(Some(ready)) = self.running.poll_next_unpin(context)
        {
            if let Some(more) = self.frame.put(ready) {
                self.running.push(more);
            }
        }
    }
}

/// One part of a statement's reply, or its error.
pub type Part = Result<v1::ExecuteResponse, Status>;

/// A call that was started: resolves when something of its answer is there.
struct Running {
    id: u64,
    /// `None` once it has resolved.
    answer: Option<Answer>,
    /// Parts that a full frame has left behind.
    left: vec::IntoIter<Part>,
}

/// What is there of an answer.
enum Ready {
    One(u64, Result<reply::Kind, Status>),
    /// Without a part: it ended before its last one.
    Parts(u64, vec::IntoIter<Part>, mpsc::Receiver<Part>),
}

impl Running {
    fn new(id: u64, answer: Answer) -> Self {
        Self { id, answer: Some(answer), left: Vec::new().into_iter() }
    }
}

impl Future for Running {
    type Output = Ready;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ready> {
        let this = &mut *self;
        let ready = match this.answer.take() {
            Some(Answer::One(mut reply)) => match reply.as_mut().poll(context) {
                Poll::Ready(reply) => Some(Ready::One(this.id, reply)),
                Poll::Pending => {
                    this.answer = Some(Answer::One(reply));
                    None
                }
            },
            Some(Answer::Parts(receiver)) if this.left.len() > 0 => {
                let left = std::mem::replace(&mut this.left, Vec::new().into_iter());
                Some(Ready::Parts(this.id, left, receiver))
            }
            Some(Answer::Parts(mut receiver)) => {
                let mut parts = Vec::new();
                match receiver.poll_recv_many(context, &mut parts, PARTS) {
                    Poll::Ready(_) => Some(Ready::Parts(this.id, parts.into_iter(), receiver)),
                    Poll::Pending => {
                        this.answer = Some(Answer::Parts(receiver));
                        None
                    }
                }
            }
            None => None,
        };
        ready.map_or(Poll::Pending, Poll::Ready)
    }
}

/// A frame in the making.
#[derive(Default)]
struct Frame {
    replies: Vec<v1::Reply>,
    bytes: usize,
}

impl Frame {
    fn has_room(&self) -> bool {
        self.bytes < FRAME_BYTES
    }

    fn take(&mut self) -> v1::ReplyFrame {
        self.bytes = 0;
        v1::ReplyFrame { replies: std::mem::take(&mut self.replies) }
    }

    /// Takes in what is there of an answer; gives back what is still to come of it.
    fn put(&mut self, ready: Ready) -> Option<Running> {
        match ready {
            Ready::One(id, reply) => {
                self.reply(id, reply);
                None
            }
            Ready::Parts(id, parts, _) if parts.len() == 0 => {
                self.reply(id, Err(Status::unavailable("the agent ended before it answered")));
                None
            }
            Ready::Parts(id, mut parts, receiver) => {
                while self.has_room()
                    && let Some(part) = parts.next()
                {
                    let last = match &part {
                        Ok(part) => matches!(part.part, Some(execute_response::Part::Finished(_))),
                        Err(_) => true,
                    };
                    let went = self.reply(id, part.map(reply::Kind::Execute));
                    if last || !went {
                        return None;
                    }
                }
                Some(Running { id, answer: Some(Answer::Parts(receiver)), left: parts })
            }
        }
    }

    /// False where the reply is too long to be sent: that was said instead, and is the last word.
    fn reply(&mut self, id: u64, reply: Result<reply::Kind, Status>) -> bool {
        let kind = reply.unwrap_or_else(|status| reply::Kind::Error(Box::new(v1::CallError::of(&status))));
        let mut reply = v1::Reply { id, kind: Some(kind) };
        let mut bytes = reply.encoded_len();
        let fits = bytes <= MAX_REPLY;
        if !fits {
            let error = Status::out_of_range(format!(
                "a part of the reply has {bytes} bytes; at most {MAX_REPLY} are sent at once"
            ));
            reply.kind = Some(reply::Kind::Error(Box::new(v1::CallError::of(&error))));
            bytes = reply.encoded_len();
        }
        self.bytes += bytes;
        self.replies.push(reply);
        fits
    }
}
