//! Opening a connection: the driver carries out TLS, passwords and start-up over a stream that it is only
//! lent, and is then let go without a word to the server. The stream goes on as ours.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::backend::{Header, READY_FOR_QUERY_TAG};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::Host;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use votum_proto::runtime::{BoxFuture, Clock};

use super::Socket;

/// TLS over a socket.
type TlsOver = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// What bytes travel over once the connection is open.
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsOver>),
}

/// The settings by which the server reads a literal, so far as it reports them.
const READING: [&str; 4] = ["DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings"];

/// Their names and values.
pub(super) type Reading = [(&'static str, String); READING.len()];

/// An open connection, on which the server has said that it is ready.
pub(in crate::postgres) struct Opened {
    pub(super) stream: Stream,
    pub(super) socket: Socket,
    /// Names the server process to itself.
    pub(in crate::postgres) token: CancelToken,
    /// As the server reports it at the start.
    pub(super) encoding: String,
    /// As the server reports them at the start.
    pub(super) reading: Reading,
    pub(in crate::postgres) server_version: String,
}

/// Why no connection was had.
pub(in crate::postgres) enum NotOpened {
    Socket(io::Error),
    Driver(tokio_postgres::Error),
    Tls(Box<dyn Error + Send + Sync>),
    /// The server went on speaking after it had said that it was ready, or the driver kept the stream.
    NotHandedOver,
}

/// Connects, and authenticates as `config` says.
pub(in crate::postgres) async fn open(
    config: &Config,
    tls: Option<&MakeRustlsConnect>,
    clock: &dyn Clock,
) -> Result<Opened, NotOpened> {
    let socket = Socket::dial(config, clock).await.map_err(NotOpened::Socket)?;
    match tls {
        None => {
            let lent = Lent::new(socket.clone());
            let keeper = lent.clone();
            let (client, connection) = config.connect_raw(lent, NoTls).await.map_err(NotOpened::Driver)?;
            let opened = Opened {
                stream: Stream::Plain(socket.clone()),
                socket,
                token: client.cancel_token(),
                encoding: parameter(&connection, "client_encoding"),
                reading: reading(&connection),
                server_version: parameter(&connection, "server_version"),
            };
            drop((client, connection));
            keeper.take_back().map(|_| opened)
        }
        Some(tls) => {
            let kept = Arc::new(Mutex::new(None));
            let lending = Lending { connect: connector(config, tls)?, kept: Arc::clone(&kept) };
            let connecting = config.connect_raw(socket.clone(), lending);
            let (client, connection) = Box::pin(connecting).await.map_err(NotOpened::Driver)?;
            let token = client.cancel_token();
            let encoding = parameter(&connection, "client_encoding");
            let reading = reading(&connection);
            let server_version = parameter(&connection, "server_version");
            drop((client, connection));
            let keeper = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
            let stream = Box::new(keeper.ok_or(NotOpened::NotHandedOver)?.take_back()?);
            Ok(Opened { stream: Stream::Tls(stream), socket, token, encoding, reading, server_version })
        }
    }
}

/// Sends a cancel request, which is a connection of its own.
pub(in crate::postgres) async fn cancel(
    config: &Config,
    tls: Option<&MakeRustlsConnect>,
    clock: &dyn Clock,
    token: &CancelToken,
) -> Result<(), NotOpened> {
    let socket = Socket::dial(config, clock).await.map_err(NotOpened::Socket)?;
    let sent = match tls {
        None => token.cancel_query_raw(socket, NoTls).await,
        Some(tls) => token.cancel_query_raw(socket, connector(config, tls)?).await,
    };
    sent.map_err(NotOpened::Driver)
}

/// What carries out TLS with the server under its name.
fn connector(
    config: &Config,
    tls: &MakeRustlsConnect,
) -> Result<<MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect, NotOpened> {
    let name = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.as_str(),
        Some(Host::Unix(_)) | None => "",
    };
    if name.is_empty() {
        return Err(NotOpened::Tls(
            "the connection string names no host whose certificate could be checked".into(),
        ));
    }
    <MakeRustlsConnect as MakeTlsConnect<Socket>>::make_tls_connect(&mut tls.clone(), name)
        .map_err(|error| NotOpened::Tls(error.into()))
}

fn parameter<S, T>(connection: &tokio_postgres::Connection<S, T>, name: &str) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    connection.parameter(name).unwrap_or_default().to_owned()
}

fn reading<S, T>(connection: &tokio_postgres::Connection<S, T>) -> Reading
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    READING.map(|name| (name, parameter(connection, name)))
}

/// A stream that somebody else may use until we take it back. Clones are the same one.
struct Lent<S>(Arc<Mutex<Watched<S>>>);

/// A stream, and how far the one who uses it has read.
struct Watched<S> {
    stream: S,
    read: Messages,
}

impl<S> Clone for Lent<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Lent<S> {
    fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Watched { stream, read: Messages::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, Watched<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream, when nobody else has it any more, and no byte was read beyond the server's last word.
    fn take_back(self) -> Result<S, NotOpened> {
        let watched = Arc::into_inner(self.0).ok_or(NotOpened::NotHandedOver)?;
        let Watched { stream, read } = watched.into_inner().unwrap_or_else(PoisonError::into_inner);
        if read.end_with(READY_FOR_QUERY_TAG) { Ok(stream) } else { Err(NotOpened::NotHandedOver) }
    }
}

/// Where in the server's messages a reader stands.
#[derive(Default)]
struct Messages {
    head: BytesMut,
    /// How much of the present message is still to come behind its head.
    rest: usize,
    last: Option<u8>,
    unreadable: bool,
}

impl Messages {
    fn note(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.unreadable {
            let body = self.rest.min(bytes.len());
            bytes.advance(body);
            self.rest -= body;
            let head = bytes.len().min(5 - self.head.len());
            if self.rest > 0 || head == 0 {
                return;
            }
            self.head.extend_from_slice(bytes.get(..head).unwrap_or_default());
            bytes.advance(head);
            match Header::parse(&self.head) {
                Ok(None) => {}
                Ok(Some(header)) => {
                    self.last = Some(header.tag());
                    self.rest = usize::try_from(header.len() - 4).unwrap_or(0);
                    self.head.clear();
                }
                Err(_) => self.unreadable = true,
            }
        }
    }

    /// Whether exactly whole messages were read, of which the last one had this tag.
    fn end_with(&self, tag: u8) -> bool {
        !self.unreadable && self.head.is_empty() && self.rest == 0 && self.last == Some(tag)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut lent = self.lock();
        let before = into.filled().len();
        let read = Pin::new(&mut lent.stream).poll_read(context, into);
        lent.read.note(into.filled().get(before..).unwrap_or_default());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_flush(context)
    }

    /// It is not the borrower's to close.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl<S: TlsStream + Unpin> TlsStream for Lent<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.lock().stream.channel_binding()
    }
}

/// Carries out TLS, lends the stream on, and keeps another hold of it.
struct Lending<T: TlsConnect<Socket>> {
    connect: T,
    kept: Arc<Mutex<Option<Lent<T::Stream>>>>,
}

impl<T> TlsConnect<Socket> for Lending<T>
where
    T: TlsConnect<Socket>,
    T::Stream: Send + 'static,
    T::Future: Send + 'static,
    T::Error: 'static,
{
    type Stream = Lent<T::Stream>;
    type Error = T::Error;
    type Future = BoxFuture<Result<Self::Stream, Self::Error>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let (connecting, kept) = (self.connect.connect(socket), self.kept);
        Box::pin(async move {
            let lent = Lent::new(connecting.await?);
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(lent.clone());
            Ok(lent)
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ParameterStatus "a" = "b", then ReadyForQuery.
    const READY: &[u8] = b"S\0\0\0\x08a\0b\0Z\0\0\0\x05I";

    fn ends_ready(parts: &[&[u8]]) -> bool {
        let mut messages = Messages::default();
        for part in parts {
            messages.note(part);
        }
        messages.end_with(READY_FOR_QUERY_TAG)
    }

    #[test]
    fn a_reader_that_stopped_anywhere_but_behind_ready_for_query_is_found_out() {
        for cut in 0..=READY.len() {
            let (before, after) = READY.split_at(cut);
            assert!(ends_ready(&[before, after]), "in two parts, cut at {cut}");
            assert_eq!(ends_ready(&[before]), cut == READY.len(), "cut at {cut}");
        }
        assert!(!ends_ready(&[READY, b"N"]), "a head has begun");
        assert!(!ends_ready(&[READY, b"N\0\0\0\x05\0"]), "another message came");
        assert!(ends_ready(&[READY, READY]));
        assert!(!ends_ready(&[b"Z\0\0\0\x03", READY]), "a length that cannot be");
    }
}
