//! HTTP/2 and gRPC, as far as it is needed to name what passes.

use std::collections::BTreeMap;

use fluke_hpack::Decoder;
use prost::Message as _;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as FromAgent;
use votum_proto::v1::call::Request;
use votum_proto::v1::coordinator_message::Kind as ToAgent;
use votum_proto::v1::execute_response::Part;
use votum_proto::v1::reply::Kind as Replied;

use super::message::{Direction, Message};
use super::piece::{Pending, Piece, number};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

// Flags of frames.
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The methods of this project that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Begin,
    Commit,
    Rollback,
    GetTransaction,
    Transact,
    Execute,
    Calls,
    Exchange,
    Other,
}

impl Method {
    fn of(path: &[u8]) -> Self {
        match path {
            b"/votum.v1.Coordinator/Begin" => Self::Begin,
            b"/votum.v1.Coordinator/Commit" => Self::Commit,
            b"/votum.v1.Coordinator/Rollback" => Self::Rollback,
            b"/votum.v1.Coordinator/GetTransaction" => Self::GetTransaction,
            b"/votum.v1.Coordinator/Transact" => Self::Transact,
            b"/votum.v1.Participant/Execute" => Self::Execute,
            b"/votum.v1.Calls/Open" => Self::Calls,
            b"/votum.v1.Agent/Exchange" => Self::Exchange,
            _ => Self::Other,
        }
    }
}

/// What one connection has said, both ways.
#[derive(Default)]
pub(super) struct Conversation {
    greeted: bool,
    headers: Decoder<'static>,
    block: Vec<u8>,
    methods: BTreeMap<usize, Method>,
    bodies: BTreeMap<(Direction, usize), Pending>,
    /// The method that was called first: it says who dialled.
    pub(super) first: Option<Method>,
}

impl Conversation {
    /// Cuts the next frame out of what came in a direction.
    pub(super) fn cut(&mut self, direction: Direction, pending: &mut Pending) -> Option<Piece> {
        if direction == Direction::Onward && !self.greeted {
            let bytes = pending.take(PREFACE.len())?;
            self.greeted = true;
            return Some(Piece { is_upkeep: true, ..Piece::new(bytes, None) });
        }
        let length = number(pending.bytes(), 0..3)?;
        let bytes = pending.take(HEAD + length)?;
        let kind = bytes.get(3).copied().unwrap_or_default();
        let flags = bytes.get(4).copied().unwrap_or_default();
        let stream = number(&bytes, 5..HEAD).unwrap_or_default() & 0x7fff_ffff;
        let body = bytes.get(HEAD..).unwrap_or_default();
        let names = match kind {
            DATA => self.data(direction, stream, unpadded(body, flags)),
            HEADERS | CONTINUATION if direction == Direction::Onward => {
                self.headers(kind, flags, stream, body);
                Vec::new()
            }
            _ => Vec::new(),
        };
        // A header block must not be overtaken by another: their compression depends on their order.
        let is_upkeep = !matches!(kind, DATA | HEADERS | CONTINUATION | PUSH_PROMISE | RST_STREAM);
        Some(Piece { bytes, names, is_upkeep })
    }

    fn headers(&mut self, kind: u8, flags: u8, stream: usize, body: &[u8]) {
        let block = if kind == HEADERS {
            let body = unpadded(body, flags);
            let skipped = if flags & PRIORITY == 0 { 0 } else { 5 };
            body.get(skipped..).unwrap_or_default()
        } else {
            body
        };
        self.block.extend_from_slice(block);
        if flags & END_HEADERS == 0 {
            return;
        }
        let block = std::mem::take(&mut self.block);
        let fields = self.headers.decode(&block).unwrap_or_default();
        if let Some((_, path)) = fields.iter().find(|(name, _)| name == b":path") {
            let method = Method::of(path);
            self.methods.insert(stream, method);
            self.first.get_or_insert(method);
        }
    }

    /// The messages that end in these bytes of a stream.
    fn data(&mut self, direction: Direction, stream: usize, body: &[u8]) -> Vec<Message> {
        let Some(method) = self.methods.get(&stream).copied() else { return Vec::new() };
        let pending = self.bodies.entry((direction, stream)).or_default();
        pending.add(body);
        let mut found = Vec::new();
        while let Some(length) = number(pending.bytes(), 1..5)
            && let Some(message) = pending.take(5 + length)
        {
            found.extend(names(method, direction, message.get(5..).unwrap_or_default()));
        }
        found
    }
}

fn unpadded(body: &[u8], flags: u8) -> &[u8] {
    if flags & PADDED == 0 {
        return body;
    }
    let padding = body.first().copied().map_or(0, usize::from);
    body.get(1..body.len().saturating_sub(padding)).unwrap_or_default()
}

/// What one gRPC message carries.
fn names(method: Method, direction: Direction, message: &[u8]) -> Vec<Message> {
    use Direction::{Back, Onward};
    match (method, direction) {
        (Method::Begin, Onward) => vec![Message::Begin],
        (Method::Begin, Back) => vec![Message::BeginReply],
        (Method::Commit, Onward) => vec![Message::Commit],
        (Method::Commit, Back) => vec![Message::CommitReply],
        (Method::Rollback, Onward) => vec![Message::Rollback],
        (Method::Rollback, Back) => vec![Message::RollbackReply],
        (Method::GetTransaction, Onward) => vec![Message::GetTransaction],
        (Method::GetTransaction, Back) => vec![Message::GetTransactionReply],
        (Method::Transact, Onward) => vec![Message::Transact],
        (Method::Transact, Back) => vec![Message::TransactReply],
        (Method::Execute, Onward) => vec![Message::Execute],
        (Method::Execute, Back) => {
            let part = v1::ExecuteResponse::decode(message).ok().and_then(|response| response.part);
            part.iter().map(of_part).collect()
        }
        (Method::Calls, Onward) => {
            let calls = v1::CallFrame::decode(message).unwrap_or_default().calls;
            calls.iter().filter_map(|call| call.request.as_ref()).map(of_call).collect()
        }
        (Method::Calls, Back) => {
            let replies = v1::ReplyFrame::decode(message).unwrap_or_default().replies;
            replies.iter().filter_map(|reply| reply.kind.as_ref()).filter_map(of_reply).collect()
        }
        (Method::Exchange, Onward) => {
            let messages = v1::CoordinatorFrame::decode(message).unwrap_or_default().messages;
            messages.iter().filter_map(|message| message.kind.as_ref()).filter_map(to_agent).collect()
        }
        (Method::Exchange, Back) => {
            let messages = v1::AgentFrame::decode(message).unwrap_or_default().messages;
            messages.iter().filter_map(|message| message.kind.as_ref()).map(from_agent).collect()
        }
        (Method::Other, Onward | Back) => Vec::new(),
    }
}

fn of_part(part: &Part) -> Message {
    match part {
        Part::Started(_) => Message::Started,
        Part::Row(_) => Message::Row,
        Part::Finished(_) => Message::Finished,
    }
}

fn of_call(request: &Request) -> Message {
    match request {
        Request::Begin(_) => Message::Begin,
        Request::Commit(_) => Message::Commit,
        Request::Rollback(_) => Message::Rollback,
        Request::GetTransaction(_) => Message::GetTransaction,
        Request::Transact(_) => Message::Transact,
        Request::Execute(_) => Message::Execute,
    }
}

fn of_reply(reply: &Replied) -> Option<Message> {
    match reply {
        Replied::Begin(_) => Some(Message::BeginReply),
        Replied::Commit(_) => Some(Message::CommitReply),
        Replied::Rollback(_) => Some(Message::RollbackReply),
        Replied::GetTransaction(_) => Some(Message::GetTransactionReply),
        Replied::Transact(_) => Some(Message::TransactReply),
        Replied::Execute(response) => response.part.as_ref().map(of_part),
        Replied::Error(_) => Some(Message::CallError),
    }
}

fn to_agent(kind: &ToAgent) -> Option<Message> {
    match kind {
        ToAgent::Hello(_) => Some(Message::CoordinatorHello),
        ToAgent::Prepare(_) => Some(Message::Prepare),
        ToAgent::Commit(_) => Some(Message::CommitBranch),
        ToAgent::Rollback(_) => Some(Message::RollbackBranch),
        ToAgent::EndSession(_) => Some(Message::EndSession),
        ToAgent::List(_) => Some(Message::ListParticipant),
        ToAgent::CommitOnePhase(order) if order.work.is_some() => Some(Message::Decide),
        ToAgent::CommitOnePhase(_) => Some(Message::CommitOnePhase),
        ToAgent::VerifyBranches(_) => Some(Message::VerifyBranches),
        ToAgent::PruneMarkers(_) => Some(Message::PruneMarkers),
        ToAgent::Hold(_) => Some(Message::HoldBranch),
        ToAgent::VerifyAttached(_) => Some(Message::VerifyAttached),
    }
}

fn from_agent(kind: &FromAgent) -> Message {
    match kind {
        FromAgent::Hello(_) => Message::AgentHello,
        FromAgent::Refusal(_) => Message::Refusal,
        FromAgent::Enlisted(_) => Message::Enlisted,
        FromAgent::Vote(_) => Message::Vote,
        FromAgent::BranchEnd(end) if !end.results.is_empty() || end.failed.is_some() => Message::Decided,
        FromAgent::BranchEnd(_) => Message::BranchEnd,
        FromAgent::SessionLost(_) => Message::SessionLost,
        FromAgent::Listing(_) => Message::Listing,
        FromAgent::Trouble(_) => Message::PhaseTwoTrouble,
        FromAgent::BranchesVerified(_) => Message::BranchesVerified,
        FromAgent::Held(_) => Message::BranchHeld,
    }
}
