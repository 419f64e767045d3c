//! A connection's socket, dialled with the options of the connection string, and shared by who speaks over it
//! and who only watches whether it still stands.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use votum_proto::runtime::Clock;

/// What the connection string means when it names no port.
const DEFAULT_PORT: u16 = 5432;

/// Wakes whoever waits for it when the peer is gone, and not when it has sent something: the kernel reports
/// a hang-up with every interest, and PostgreSQL sends no urgent data.
#[cfg(any(target_os = "linux", target_os = "android"))]
const GONE: Interest = Interest::PRIORITY;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const GONE: Interest = Interest::ERROR;

/// A socket. Clones are the same one, which is closed when the last of them goes.
#[derive(Clone)]
pub(in crate::postgres) struct Socket(Arc<Kind>);

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to the one server that the connection string names.
    pub(super) async fn dial(config: &Config, clock: &dyn Clock) -> io::Result<Self> {
        let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
        let name = match (config.get_hostaddrs().first(), config.get_hosts().first()) {
            (Some(address), _) => address.to_string(),
            (None, Some(Host::Tcp(name))) => name.clone(),
            (None, Some(Host::Unix(directory))) => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                let stream = within_limit(config, clock, UnixStream::connect(path)).await?;
                return Ok(Self(Arc::new(Kind::Unix(stream))));
            }
            (None, None) => return Err(io::Error::other("the connection string names no host")),
        };
        let mut last = io::Error::other(format!("the host name {name} has no address"));
        for address in tokio::net::lookup_host((name, port)).await? {
            match within_limit(config, clock, TcpStream::connect(address)).await {
                Ok(stream) => {
                    set_options(&stream, config)?;
                    return Ok(Self(Arc::new(Kind::Tcp(stream))));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Resolves when the peer has closed the connection, or the system has given it up. Costs nothing while
    /// it stands, whatever is sent over it.
    pub(super) async fn closed(&self) {
        // Whatever comes of this wait, an error too, there is nothing more to be had from the socket.
        let _ = match &*self.0 {
            Kind::Tcp(stream) => stream.ready(GONE).await,
            Kind::Unix(stream) => stream.ready(GONE).await,
        };
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.0 {
            Kind::Tcp(stream) => stream.poll_read_ready(context),
            Kind::Unix(stream) => stream.poll_read_ready(context),
        }
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.0 {
            Kind::Tcp(stream) => stream.poll_write_ready(context),
            Kind::Unix(stream) => stream.poll_write_ready(context),
        }
    }

    /// Takes what has arrived. When that was less than there was room for, the socket is empty, and is
    /// waited for next without being asked once more.
    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut part = None;
        let size = room.len();
        let mut receive = |socket: BorrowedFd<'_>| {
            let (_, received) = recv(socket, &mut *room, RecvFlags::empty())?;
            if received == 0 || received == size {
                return Ok(received);
            }
            part = Some(received);
            Err(io::ErrorKind::WouldBlock.into())
        };
        let all = match &*self.0 {
            Kind::Tcp(stream) => stream.try_io(Interest::READABLE, || receive(stream.as_fd())),
            Kind::Unix(stream) => stream.try_io(Interest::READABLE, || receive(stream.as_fd())),
        };
        part.map_or(all, Ok)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &*self.0 {
            Kind::Tcp(stream) => stream.try_write(bytes),
            Kind::Unix(stream) => stream.try_write(bytes),
        }
    }
}

async fn within_limit<S>(
    config: &Config,
    clock: &dyn Clock,
    connecting: impl Future<Output = io::Result<S>>,
) -> io::Result<S> {
    let Some(limit) = config.get_connect_timeout() else { return connecting.await };
    match clock.timeout(*limit, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the server could not be connected to within {} s", limit.as_secs()),
        )),
    }
}

fn set_options(stream: &TcpStream, config: &Config) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(timeout) = config.get_tcp_user_timeout() {
        sockopt::set_tcp_user_timeout(stream, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))?;
    }
    if config.get_keepalives() {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, config.get_keepalives_idle())?;
        if let Some(interval) = config.get_keepalives_interval() {
            sockopt::set_tcp_keepintvl(stream, interval)?;
        }
        if let Some(retries) = config.get_keepalives_retries() {
            sockopt::set_tcp_keepcnt(stream, retries)?;
        }
    }
    Ok(())
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_readable(context))?;
            match self.receive(into.initialize_unfilled()) {
                Ok(received) => {
                    into.advance(received);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_writable(context))?;
            match self.send(bytes) {
                Err(error) if is_transient(&error) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A socket is closed by dropping all its clones.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
