//! A statement's reply: streamed to the client while it arrives, and kept, up to a bound, for a client that
//! lost it and asks again.

use async_trait::async_trait;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::Status;
use votum_proto::names::SessionName;
use votum_proto::v1;
use votum_proto::v1::execute_response::Part;

use crate::database::{RowSink, Statement};

/// Where the parts of a reply go. The client may be gone: that stops nothing.
pub(crate) type Client = mpsc::Sender<Result<v1::ExecuteResponse, Status>>;

/// What is kept of the last reply.
pub(crate) struct Kept {
    pub(crate) statement: Statement,
    /// `None`: it was larger than the bound.
    parts: Option<Vec<v1::ExecuteResponse>>,
    error: Option<Status>,
}

impl Kept {
    /// Sends the reply again; false when it was not kept.
    pub(crate) async fn replay(&self, client: &Client) -> bool {
        let Some(parts) = &self.parts else { return false };
        for part in parts {
            if client.send(Ok(part.clone())).await.is_err() {
                return true;
            }
        }
        if let Some(error) = &self.error {
            let _ = client.send(Err(error.clone())).await;
        }
        true
    }
}

/// A reply in the making.
pub(crate) struct Reply {
    client: Option<Client>,
    /// A place kept for the last word to a client that does not read: see `abandon`.
    last: Option<mpsc::OwnedPermit<Result<v1::ExecuteResponse, Status>>>,
    session: SessionName,
    started: bool,
    /// `Started`, until something follows it: most replies then leave as one write, and wake their client
    /// once.
    held: Option<v1::ExecuteResponse>,
    kept: Option<Vec<v1::ExecuteResponse>>,
    room: usize,
}

impl Reply {
    /// A reply to `client`, of which at most `room` bytes are kept.
    pub(crate) fn new(client: Client, session: SessionName, room: usize) -> Self {
        let last = client.clone().try_reserve_owned().ok();
        Self { client: Some(client), last, session, started: false, held: None, kept: Some(Vec::new()), room }
    }

    async fn part(&mut self, part: Part) {
        let part = self.keep(part);
        self.let_go().await;
        self.send(part).await;
    }

    fn keep(&mut self, part: Part) -> v1::ExecuteResponse {
        let part = v1::ExecuteResponse { part: Some(part) };
        if let Some(kept) = &mut self.kept {
            let size = part.encoded_len();
            if size <= self.room {
                self.room -= size;
                kept.push(part.clone());
            } else {
                self.kept = None;
            }
        }
        part
    }

    async fn send(&mut self, part: v1::ExecuteResponse) {
        let gone = match &self.client {
            Some(client) => client.send(Ok(part)).await.is_err(),
            None => false,
        };
        if gone {
            self.client = None;
        }
    }

    async fn let_go(&mut self) {
        if let Some(held) = self.held.take() {
            self.send(held).await;
        }
    }

    /// `Started` comes first in every reply whose ordinal is used up.
    fn start(&mut self, columns: Vec<v1::Column>) {
        if !self.started {
            self.started = true;
            let started = v1::Started { session: Some(self.session.into()), columns };
            self.held = Some(self.keep(Part::Started(started)));
        }
    }

    /// Ends the reply well.
    pub(crate) async fn finish(mut self, rows: u64, statement: Statement) -> Kept {
        self.start(Vec::new());
        self.part(Part::Finished(v1::Finished { rows })).await;
        Kept { statement, parts: self.kept, error: None }
    }

    /// Ends the reply with an error that leaves the branch alive.
    pub(crate) async fn fail(mut self, error: Status, statement: Statement) -> Kept {
        self.start(Vec::new());
        self.let_go().await;
        if let Some(client) = &self.client {
            let _ = client.send(Err(error.clone())).await;
        }
        Kept { statement, parts: self.kept, error: Some(error) }
    }

    /// Ends the reply of a branch that is ending. Waits for nobody.
    pub(crate) fn abandon(self, error: Status) {
        if let (Some(client), Some(held)) = (self.client, self.held) {
            let _ = client.try_send(Ok(held));
        }
        if let Some(last) = self.last {
            last.send(Err(error));
        }
    }
}

#[async_trait]
impl RowSink for Reply {
    async fn columns(&mut self, columns: Vec<v1::Column>) {
        self.start(columns);
    }

    async fn row(&mut self, row: v1::Row) {
        self.part(Part::Row(row)).await;
    }
}
