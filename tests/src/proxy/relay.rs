//! One connection through the proxy: its two directions, and what a fault does to them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::{Either, join, select};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use votum_proto::runtime::Seams;

use super::fault::Fault;
use super::http2::{self, Method};
use super::message::{Direction, Link};
use super::piece::{Pending, Piece};
use super::postgres;
use super::wire::{Moment, Rule, Wire};

/// By how much [`Fault::Delay`] delays.
const DELAY: Duration = Duration::from_millis(300);
/// What [`Fault::Trickle`] lets through at once, and the pause after it.
const TRICKLE: (usize, Duration) = (16, Duration::from_millis(5));
/// How long an orderly close waits for the other side's.
const CLOSING: Duration = Duration::from_secs(5);

/// Either kind of socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

type Reader<'a> = Box<dyn AsyncRead + Send + Unpin + 'a>;
type Writer<'a> = Box<dyn AsyncWrite + Send + Unpin + 'a>;

impl Socket {
    fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Self::Tcp(stream) => {
                let (reader, writer) = stream.split();
                (Box::new(reader), Box::new(writer))
            }
            Self::Unix(stream) => {
                let (reader, writer) = stream.split();
                (Box::new(reader), Box::new(writer))
            }
        }
    }

    /// Dropping it then sends a reset. A Unix socket knows none: its peer meets an abrupt end.
    pub(super) fn reset(self) {
        if let Self::Tcp(stream) = &self {
            // It fails only where the connection is gone already.
            let _ = stream.set_zero_linger();
        }
    }

    /// Closes it in order: what is on its way to us is read, or the close would be a reset.
    async fn close(mut self) {
        let (mut reader, mut writer) = self.split();
        let _ = writer.shutdown().await;
        let mut buffer = vec![0; 4 << 10];
        let drain = async { while matches!(reader.read(&mut buffer).await, Ok(1..)) {} };
        let _ = Seams::production().clock.timeout(CLOSING, drain).await;
    }
}

/// What is spoken on a connection.
pub(super) enum Conversation {
    Grpc(http2::Conversation),
    Postgres(postgres::Conversation),
}

impl Conversation {
    fn cut(&mut self, direction: Direction, pending: &mut Pending) -> Option<Piece> {
        match (self, direction) {
            (Self::Grpc(conversation), _) => conversation.cut(direction, pending),
            (Self::Postgres(conversation), Direction::Onward) => conversation.onward(pending),
            (Self::Postgres(conversation), Direction::Back) => conversation.back(pending),
        }
    }
}

/// One connection.
pub(super) struct Relay {
    /// The wires that it may belong to, with the moment at which it was opened.
    wires: Vec<(Arc<Wire>, Link, Moment)>,
    /// Which of them it is: at an agent's address only the first call tells.
    wire: OnceLock<usize>,
    conversation: Mutex<Conversation>,
    changed: watch::Receiver<()>,
}

/// How a direction ended.
enum Ended {
    /// In order, and the other side knows.
    Closed,
    /// The connection is reset.
    Reset,
    /// The connection is closed in order, both ways.
    Close,
}

/// What a direction of a connection remembers.
#[derive(Default)]
struct Flow {
    /// The number of heals when it first lost something.
    lost: Option<u64>,
    /// What is held back, and since which number of heals.
    held: Option<(Vec<u8>, u64)>,
    /// Slow since this number of heals.
    slow: Option<u64>,
    /// Closed by us; what comes is thrown away.
    shut: bool,
    /// The sender has closed it.
    ended: bool,
}

impl Relay {
    pub(super) fn new(
        wires: Vec<(Arc<Wire>, Link)>,
        conversation: Conversation,
        changed: watch::Receiver<()>,
    ) -> Self {
        let wires: Vec<_> = wires
            .into_iter()
            .map(|(wire, link)| {
                let born = wire.moment();
                (wire, link, born)
            })
            .collect();
        let only = (wires.len() == 1).then_some(0);
        let wire = only.map(OnceLock::from).unwrap_or_default();
        Self { wires, wire, conversation: Mutex::new(conversation), changed }
    }

    /// Passes bytes both ways until the connection ends.
    pub(super) async fn run(self, mut dialler: Socket, mut accepter: Socket) {
        let ended = {
            let (from_dialler, to_dialler) = dialler.split();
            let (from_accepter, to_accepter) = accepter.split();
            let onward = Box::pin(self.pump(Direction::Onward, from_dialler, to_accepter));
            let back = Box::pin(self.pump(Direction::Back, from_accepter, to_dialler));
            match select(onward, back).await {
                Either::Left((Ended::Closed, back)) => back.await,
                Either::Right((Ended::Closed, onward)) => onward.await,
                Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
            }
        };
        match ended {
            Ended::Reset => {
                dialler.reset();
                accepter.reset();
            }
            Ended::Close | Ended::Closed => {
                join(dialler.close(), accepter.close()).await;
            }
        }
    }

    async fn pump(&self, direction: Direction, mut from: Reader<'_>, mut to: Writer<'_>) -> Ended {
        let mut changed = self.changed.clone();
        let mut flow = Flow::default();
        let mut pending = Pending::default();
        let mut buffer = vec![0; 16 << 10];
        loop {
            changed.borrow_and_update();
            let rule = self.rule(direction, &flow);
            if rule == Rule::Cut || self.release(&mut flow, &mut to).await.is_err() {
                return Ended::Reset;
            }
            if rule == Rule::Wait || (flow.ended && (rule == Rule::Lose || flow.held.is_some())) {
                let _ = changed.changed().await;
                continue;
            }
            if flow.ended {
                let _ = to.shutdown().await;
                return Ended::Closed;
            }
            let read = {
                let change = Box::pin(changed.changed());
                match select(change, Box::pin(from.read(&mut buffer))).await {
                    Either::Left(_) => continue,
                    Either::Right((read, _)) => read,
                }
            };
            match read {
                Ok(0) => flow.ended = true,
                Ok(length) => pending.add(buffer.get(..length).unwrap_or_default()),
                // Nobody is told of a reset either where everything is lost.
                Err(_) if self.rule(direction, &flow) == Rule::Lose => {
                    flow.lost.get_or_insert(self.heals());
                    flow.ended = true;
                }
                Err(_) => return Ended::Reset,
            }
            while let Some(piece) = self.next_piece(direction, &mut pending) {
                if let Err(ended) = self.pass(direction, &piece, &mut flow, &mut to, &mut changed).await {
                    return ended;
                }
            }
        }
    }

    /// One piece, and what happens at it.
    async fn pass(
        &self,
        direction: Direction,
        piece: &Piece,
        flow: &mut Flow,
        to: &mut Writer<'_>,
        changed: &mut watch::Receiver<()>,
    ) -> Result<(), Ended> {
        match self.meet(direction, piece) {
            None | Some(Fault::Stall) => {}
            Some(Fault::Reset | Fault::Sever) => return Err(Ended::Reset),
            Some(Fault::Close) => return Err(Ended::Close),
            Some(Fault::HalfClose) => {
                let _ = to.shutdown().await;
                flow.shut = true;
            }
            // The rule says the rest.
            Some(Fault::Vanish | Fault::HalfOpen) => {}
            Some(Fault::Delay) => Seams::production().clock.sleep(DELAY).await,
            Some(Fault::HoldBack) => flow.held = Some((Vec::new(), self.heals())),
            Some(Fault::Trickle) => flow.slow = Some(self.heals()),
        }
        loop {
            changed.borrow_and_update();
            match self.rule(direction, flow) {
                Rule::Cut => return Err(Ended::Reset),
                Rule::Wait => {
                    let _ = changed.changed().await;
                }
                Rule::Lose => {
                    flow.lost.get_or_insert(self.heals());
                    return Ok(());
                }
                Rule::Pass if flow.shut => return Ok(()),
                Rule::Pass => break,
            }
        }
        match &mut flow.held {
            Some((held, _)) if !piece.is_upkeep => {
                held.extend_from_slice(&piece.bytes);
                Ok(())
            }
            Some(_) | None => self.write(flow.slow, &piece.bytes, to).await.map_err(|_| Ended::Reset),
        }
    }

    /// Lets go what was held back, once it is healed.
    async fn release(&self, flow: &mut Flow, to: &mut Writer<'_>) -> std::io::Result<()> {
        match &flow.held {
            Some((held, since)) if self.heals() > *since => {
                to.write_all(held).await?;
                flow.held = None;
                to.flush().await
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn write(&self, slow: Option<u64>, bytes: &[u8], to: &mut Writer<'_>) -> std::io::Result<()> {
        let is_slow = || slow.is_some_and(|since| self.heals() == since);
        let (at_once, pause) = TRICKLE;
        for part in bytes.chunks(if is_slow() { at_once } else { bytes.len().max(1) }) {
            to.write_all(part).await?;
            to.flush().await?;
            if is_slow() {
                Seams::production().clock.sleep(pause).await;
            }
        }
        Ok(())
    }

    fn next_piece(&self, direction: Direction, pending: &mut Pending) -> Option<Piece> {
        let mut conversation = self.conversation.lock().unwrap_or_else(PoisonError::into_inner);
        let piece = conversation.cut(direction, pending)?;
        if let Conversation::Grpc(http2::Conversation { first: Some(method), .. }) = &*conversation {
            self.wire.get_or_init(|| self.place(*method));
        }
        Some(piece)
    }

    /// Who dialled, by what was called first.
    fn place(&self, method: Method) -> usize {
        let exchange = method == Method::Exchange;
        let fits = |link: &Link| (*link == Link::CoordinatorAgent) == exchange;
        self.wires.iter().position(|(_, link, _)| fits(link)).unwrap_or(0)
    }

    fn own(&self) -> Option<&(Arc<Wire>, Link, Moment)> {
        self.wires.get(*self.wire.get()?)
    }

    fn rule(&self, direction: Direction, flow: &Flow) -> Rule {
        self.own().map_or(Rule::Pass, |(wire, _, born)| wire.rule(direction, *born, flow.lost))
    }

    fn meet(&self, direction: Direction, piece: &Piece) -> Option<Fault> {
        self.own()?.0.meet(&piece.names, direction)
    }

    fn heals(&self) -> u64 {
        self.own().map_or(0, |(wire, ..)| wire.moment().heals)
    }
}
