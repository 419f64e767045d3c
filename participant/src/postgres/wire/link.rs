//! The session's end of a connection: sends trips, and reads what comes back.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::backend::{
    CommandCompleteBody, DataRowBody, Header, Message, ParameterDescriptionBody, RowDescriptionBody,
};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::sync::oneshot;
use votum_proto::runtime::Seams;

use super::handover::{Opened, Reading, Stream};
use super::signs::{Signs, watch};
use super::{Refusal, Trip};

/// How much is read at once, in bytes.
const READ: usize = 8 << 10;
/// PostgreSQL's own bound on a message, in bytes. A longer one is none.
const LONGEST: i32 = 0x4000_0000;
/// The one encoding that the agent, and the contract, know.
pub(in crate::postgres) const ENCODING: &str = "UTF8";

/// The connection is gone, or was given up. The sentence says why.
#[derive(Debug, Clone)]
pub(in crate::postgres) struct Lost(pub(in crate::postgres) String);

/// Why a trip did not go to its end.
#[derive(Debug)]
pub(in crate::postgres) enum Failed {
    /// The server refused a command, skipped what stood behind it, and is ready again.
    Refused(Box<Refusal>),
    /// Nobody can say what it did.
    Lost(Lost),
}

impl From<Lost> for Failed {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// What the server says in answer to a trip. What carries nothing is left out: ParseComplete and the like.
pub(in crate::postgres) enum Reply {
    /// The parameters of a statement.
    Parameters(ParameterDescriptionBody),
    /// The columns of a statement, or of what is bound.
    Columns(RowDescriptionBody),
    /// It has none.
    NoColumns,
    Row(DataRowBody),
    /// A command is done.
    Done(Tag),
    /// A command was refused; all up to the end of the trip is skipped.
    Refused(Box<Refusal>),
    /// The server is about to send data outside of rows.
    Copy,
    /// The end of the trip.
    Ready,
}

/// What a command says of itself when it is done: its name, and how many rows it touched.
pub(in crate::postgres) struct Tag(Option<CommandCompleteBody>);

impl Tag {
    fn text(&self) -> &str {
        self.0.as_ref().and_then(|body| body.tag().ok()).unwrap_or_default()
    }

    /// Whether it was the command of that name.
    pub(in crate::postgres) fn is(&self, name: &str) -> bool {
        self.text() == name
    }

    /// Whether it was a command of that name, of those that say how many rows they touched.
    pub(in crate::postgres) fn begins(&self, name: &str) -> bool {
        self.text().split(' ').next() == Some(name)
    }

    /// How many rows it touched or returned; 0 for commands that do neither.
    pub(in crate::postgres) fn rows(&self) -> u64 {
        self.text().rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

/// Whether a transaction is open, as the server says at the end of each trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Transaction {
    None,
    Open,
    Failed,
}

/// One connection.
pub(in crate::postgres) struct Link {
    stream: Stream,
    /// What has arrived and is not yet read.
    input: BytesMut,
    /// What is not yet sent.
    output: BytesMut,
    flushed: bool,
    /// How many trips the server has not ended yet. More than none only after a wait for one was dropped.
    owed: usize,
    transaction: Transaction,
    encoding: String,
    /// By which settings the server read literals at the start.
    reading: Reading,
    /// It was told to read them otherwise since.
    reread: bool,
    unreplicated: u64,
    signs: Arc<Signs>,
    /// Why nothing is to be had from it any more.
    lost: Option<Lost>,
    /// Goes with the link, and so ends the watch over its socket.
    _watched: oneshot::Sender<()>,
}

impl Link {
    /// Takes an open connection, and has a task watch it: whether it breaks is noticed at once, also while
    /// nobody waits for an answer. The task sleeps as long as the connection stands.
    pub(in crate::postgres) fn new(opened: Opened, signs: Arc<Signs>, seams: &Seams) -> Self {
        let (watched, dropped) = oneshot::channel();
        let (socket, watcher) = (opened.socket, Arc::clone(&signs));
        seams.spawn(async move { watch(&socket, dropped, &watcher).await });
        Self {
            stream: opened.stream,
            input: BytesMut::with_capacity(READ),
            output: BytesMut::new(),
            flushed: true,
            owed: 0,
            transaction: Transaction::None,
            encoding: opened.encoding,
            reading: opened.reading,
            reread: false,
            unreplicated: 0,
            signs,
            lost: None,
            _watched: watched,
        }
    }

    /// What the server said of the transaction at the end of the last trip.
    pub(in crate::postgres) fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// In which encoding the server takes and gives text.
    pub(in crate::postgres) fn encoding(&self) -> &str {
        &self.encoding
    }

    /// Whether a setting by which the server reads literals was another one since this was last asked: what
    /// it has read since, it may keep in the plans of functions.
    pub(in crate::postgres) fn take_reread(&mut self) -> bool {
        std::mem::take(&mut self.reread)
    }

    /// Notes by which settings the server reads literals, as it says when it is asked: in the order in which it
    /// reports them.
    pub(in crate::postgres) fn note_reading(&mut self, found: &[Option<&str>]) {
        let first = self.reading.iter().map(|(_, first)| Some(first.as_str()));
        self.reread |= !first.eq(found.iter().copied());
    }

    /// Whether the server has answered all that was sent.
    pub(in crate::postgres) fn is_settled(&self) -> bool {
        self.owed == 0
    }

    /// How often a wait for a synchronous standby was cancelled on this connection.
    pub(in crate::postgres) fn unreplicated(&self) -> u64 {
        self.unreplicated
    }

    /// Sends a trip, once the answers to what was sent before have been passed over. It is on its way when
    /// the first answer is waited for.
    pub(in crate::postgres) async fn send(&mut self, trip: Trip) -> Result<(), Lost> {
        self.settle().await?;
        if self.output.is_empty() {
            self.output = trip.bytes;
        } else {
            self.output.extend_from_slice(&trip.bytes);
        }
        frontend::sync(&mut self.output);
        self.owed += 1;
        Ok(())
    }

    /// Runs statements without parameters one after another, of which nothing but their success is wanted.
    pub(in crate::postgres) async fn batch(&mut self, statements: &str) -> Result<(), Failed> {
        self.settle().await?;
        frontend::query(statements, &mut self.output).map_err(|error| Lost(error.to_string()))?;
        self.owed += 1;
        self.finish().await
    }

    /// Asks one question, and returns the last row of the answer, in texts.
    pub(in crate::postgres) async fn ask(&mut self, question: &str) -> Result<Option<DataRowBody>, Failed> {
        self.settle().await?;
        frontend::query(question, &mut self.output).map_err(|error| Lost(error.to_string()))?;
        self.owed += 1;
        let (_, row) = self.done().await?;
        self.finish().await?;
        Ok(row)
    }

    /// Passes over the answers to trips whose wait was dropped.
    pub(in crate::postgres) async fn settle(&mut self) -> Result<(), Lost> {
        while self.owed > 0 {
            self.next().await?;
        }
        Ok(())
    }

    /// Reads to the end of the trip.
    pub(in crate::postgres) async fn finish(&mut self) -> Result<(), Failed> {
        loop {
            match self.next().await? {
                Reply::Ready => return Ok(()),
                Reply::Refused(refusal) => return Err(self.skip(refusal).await),
                Reply::Parameters(_)
                | Reply::Columns(_)
                | Reply::NoColumns
                | Reply::Row(_)
                | Reply::Done(_)
                | Reply::Copy => {}
            }
        }
    }

    /// Reads to the end of a trip in which a command was refused. An end that does not come leaves more
    /// questions than the refusal answers, unless that had announced it.
    pub(in crate::postgres) async fn skip(&mut self, refusal: Box<Refusal>) -> Failed {
        match self.settle().await {
            Err(lost) if !refusal.fatal => Failed::Lost(lost),
            Ok(()) | Err(_) => Failed::Refused(refusal),
        }
    }

    /// Reads to the end of one command, and returns its last row, if it had any.
    pub(in crate::postgres) async fn done(&mut self) -> Result<(Tag, Option<DataRowBody>), Failed> {
        let mut last = None;
        loop {
            match self.next().await? {
                Reply::Row(row) => last = Some(row),
                Reply::Done(tag) => return Ok((tag, last)),
                Reply::Refused(refusal) => return Err(self.skip(refusal).await),
                Reply::Parameters(_) | Reply::Columns(_) | Reply::NoColumns => {}
                Reply::Copy | Reply::Ready => {
                    return Err(self.give_up("a command ended without an answer").into());
                }
            }
        }
    }

    /// The server's next words on the trip.
    pub(in crate::postgres) async fn next(&mut self) -> Result<Reply, Lost> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        loop {
            let message = poll_fn(|context| self.poll_message(context)).await;
            let message = message.map_err(|error| self.broken(&error))?;
            if let Some(reply) = self.take(message).map_err(|error| self.broken(&error))? {
                return Ok(reply);
            }
        }
    }

    /// The connection is of no use any more: what follows on it cannot be told from what was meant before.
    pub(in crate::postgres) fn give_up(&mut self, what: &str) -> Lost {
        self.signs.broke(what);
        self.lose(format!(
            "the server gave an answer that the agent cannot read ({what}); the connection was given up"
        ))
    }

    fn lose(&mut self, why: String) -> Lost {
        self.lost.get_or_insert(Lost(why)).clone()
    }

    fn broken(&mut self, error: &io::Error) -> Lost {
        if error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::InvalidInput {
            return self.give_up(&error.to_string());
        }
        let why = error.to_string();
        self.signs.broke(&why);
        self.lose(format!("the connection to the database broke: {why}"))
    }

    /// What a message means for the trip; `None` when it is beside it.
    #[allow(clippy::wildcard_enum_match_arm)] // foreign, and not exhaustive
    fn take(&mut self, message: Message) -> io::Result<Option<Reply>> {
        Ok(Some(match message {
            Message::DataRow(row) => Reply::Row(row),
            Message::CommandComplete(body) => {
                body.tag()?;
                Reply::Done(Tag(Some(body)))
            }
            Message::EmptyQueryResponse => Reply::Done(Tag(None)),
            Message::ReadyForQuery(body) => {
                self.transaction = match body.status() {
                    b'I' => Transaction::None,
                    b'T' => Transaction::Open,
                    b'E' => Transaction::Failed,
                    other => return Err(invalid(&format!("ReadyForQuery with status {other}"))),
                };
                self.owed = self.owed.checked_sub(1).ok_or_else(|| invalid("ReadyForQuery unasked"))?;
                Reply::Ready
            }
            Message::RowDescription(body) => Reply::Columns(body),
            Message::NoData => Reply::NoColumns,
            Message::ParameterDescription(body) => Reply::Parameters(body),
            Message::ErrorResponse(body) => Reply::Refused(Box::new(Refusal::read(body.fields())?)),
            // It would take the rest of the trip for data, and end the session over it.
            Message::CopyInResponse(_) => return Err(invalid("it asks for data to copy")),
            Message::CopyOutResponse(_) => Reply::Copy,
            Message::NoticeResponse(body) => {
                let notice = Refusal::read(body.fields())?;
                let message = &notice.sql.message;
                if notice.is_unreplicated() {
                    self.unreplicated += 1;
                    tracing::warn!(message, "the wait for a synchronous standby was cancelled");
                } else {
                    tracing::debug!(severity = notice.sql.severity, message, "notice");
                }
                return Ok(None);
            }
            Message::ParameterStatus(body) => {
                let (name, value) = (body.name()?, body.value()?);
                if name == "client_encoding" {
                    self.encoding = value.to_owned();
                }
                self.reread |= self.reading.iter().any(|(known, first)| *known == name && first != value);
                return Ok(None);
            }
            Message::ParseComplete
            | Message::BindComplete
            | Message::CloseComplete
            | Message::CopyData(_)
            | Message::CopyDone
            | Message::NotificationResponse(_) => return Ok(None),
            _ => return Err(invalid("a message that has no place in a session")),
        }))
    }

    /// Sends what is to be sent, and reads the next message: in one step, so that a server that does not
    /// read on before it has been heard does not wait for us while we wait for it.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Message>> {
        if let Some(message) = self.parse()? {
            return Poll::Ready(Ok(message));
        }
        let sent = self.poll_send(context);
        loop {
            match (self.poll_receive(context), &sent) {
                (Poll::Ready(received), _) => {
                    if received? == 0 {
                        let why = "the server closed it";
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
                    }
                }
                // A server that goes says why, and that is read first.
                (Poll::Pending, Poll::Ready(Err(error))) => return Poll::Ready(Err(error.kind().into())),
                (Poll::Pending, Poll::Ready(Ok(())) | Poll::Pending) => return Poll::Pending,
            }
            if let Some(message) = self.parse()? {
                return Poll::Ready(Ok(message));
            }
        }
    }

    fn parse(&mut self) -> io::Result<Option<Message>> {
        if Header::parse(&self.input)?.is_some_and(|header| header.len() > LONGEST) {
            return Err(invalid("a message longer than 1 GiB"));
        }
        Message::parse(&mut self.input)
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.output))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(sent);
            self.flushed = false;
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let filled = self.input.len();
        self.input.resize(filled + READ, 0);
        let mut room = ReadBuf::new(self.input.get_mut(filled..).unwrap_or_default());
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut room);
        let received = room.filled().len();
        self.input.truncate(filled + received);
        polled.map_ok(|()| received)
    }
}

impl Drop for Link {
    /// Says goodbye, so that the server does not log a client that vanished; as far as that goes without
    /// waiting, and never into the middle of something.
    fn drop(&mut self) {
        if self.owed > 0 || !self.output.is_empty() || self.signs.is_closed() {
            return;
        }
        frontend::terminate(&mut self.output);
        let _ = self.poll_send(&mut Context::from_waker(Waker::noop()));
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
