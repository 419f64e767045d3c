//! Listening for connections, on TCP or on a Unix socket, in the form that tonic's server takes.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tonic::transport::server::Connected;

use crate::address::Address;
use crate::runtime::{BoxFuture, Clock};

/// How long to wait before accepting again after an error that would repeat at once (no file descriptors).
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Binds `address`. Port 0 takes any free one: [`Listening::local`] says which.
///
/// A Unix socket is made for its owner alone (mode 0600). A socket file on which nothing answers is what a
/// killed process left, and is replaced.
///
/// # Errors
/// When the address cannot be bound: in use, not ours, or no directory for the socket.
pub async fn listen(address: &Address, clock: Arc<dyn Clock>) -> io::Result<Listening> {
    let (socket, local) = match address {
        Address::Tcp(host_port) => {
            let listener = TcpListener::bind(host_port.as_str()).await?;
            let local = Address::Tcp(listener.local_addr()?.to_string());
            (Socket::Tcp(listener), local)
        }
        Address::Unix(path) => {
            remove_stale(path).await?;
            let listener = UnixListener::bind(path)?;
            let file = SocketFile::of(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            (Socket::Unix(listener, file), address.clone())
        }
        Address::InProcess => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "nobody outside of this process can reach it",
            ));
        }
    };
    Ok(Listening { local, socket, clock, pause: None })
}

/// Removes a socket file on which nothing answers.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let text = format!("{} exists and is not a socket: remove it or listen elsewhere", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match UnixStream::connect(path).await {
        Ok(_) => {
            let text = format!("another process is listening on {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// A bound address, and the stream of its connections. It never ends and never yields an error: a server
/// that is out of file descriptors for a moment must not stop listening for good.
pub struct Listening {
    local: Address,
    socket: Socket,
    clock: Arc<dyn Clock>,
    pause: Option<BoxFuture<()>>,
}

impl Listening {
    /// Where it really listens: with the real port where 0 was asked for.
    pub fn local(&self) -> &Address {
        &self.local
    }
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, #[allow(dead_code)] SocketFile), // kept for its drop
}

impl Socket {
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Conn>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(context).map(|accepted| {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                Ok(Conn::Tcp(stream))
            }),
            Self::Unix(listener, _) => {
                listener.poll_accept(context).map(|accepted| Ok(Conn::Unix(accepted?.0)))
            }
        }
    }
}

impl Stream for Listening {
    type Item = io::Result<Conn>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match std::task::ready!(self.socket.poll_accept(context)) {
                Ok(connection) => return Poll::Ready(Some(Ok(connection))),
                Err(error) => {
                    tracing::warn!(address = %self.local, %error, "a connection could not be accepted");
                    self.pause = Some(self.clock.sleep(PAUSE_AFTER_ERROR));
                }
            }
        }
    }
}

/// A socket's file, removed on drop unless another socket has taken its place.
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let inode = Self::inode(path)?;
        Ok(Self { path: path.to_owned(), inode })
    }

    fn inode(path: &Path) -> io::Result<(u64, u64)> {
        std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// One accepted connection.
#[derive(Debug)]
pub enum Conn {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// Who is at the other end of a connection; a request carries it in its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Its address, unless it was gone before it was asked for.
    Tcp(Option<std::net::SocketAddr>),
    /// The user id of its process, unless the system does not say.
    Unix(Option<u32>),
}

impl Connected for Conn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        match self {
            Self::Tcp(stream) => Peer::Tcp(stream.peer_addr().ok()),
            Self::Unix(stream) => Peer::Unix(stream.peer_cred().ok().map(|credentials| credentials.uid())),
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::runtime::Seams;

    async fn listening(address: &Address) -> io::Result<Listening> {
        listen(address, Seams::production().clock).await
    }

    #[tokio::test]
    async fn port_0_becomes_a_real_port_that_accepts() {
        let mut listening = listening(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let Address::Tcp(host_port) = listening.local().clone() else { panic!("not TCP") };
        assert!(!host_port.ends_with(":0"));
        let client = TcpStream::connect(&host_port).await.unwrap();
        let accepted = listening.next().await.unwrap().unwrap();
        assert_eq!(accepted.connect_info(), Peer::Tcp(client.local_addr().ok()));
    }

    #[tokio::test]
    async fn a_unix_socket_is_private_and_its_file_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("votum.sock");
        let address = Address::Unix(path.clone());
        let mut first = listening(&address).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let _client = UnixStream::connect(&path).await.unwrap();
        assert!(matches!(first.next().await.unwrap().unwrap().connect_info(), Peer::Unix(Some(_))));
        drop(first);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_in_use_is_refused_and_a_stale_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("votum.sock");
        let address = Address::Unix(path.clone());
        let live = listening(&address).await.unwrap();
        assert_eq!(listening(&address).await.err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        // std's listener leaves its file behind, as a killed process does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let replaced = listening(&address).await.unwrap();
        drop(replaced);
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(listening(&address).await.err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_took_the_place_of_ours_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("votum.sock");
        let first = listening(&Address::Unix(path.clone())).await.unwrap();
        std::fs::rename(&path, directory.path().join("moved.sock")).unwrap();
        let second = listening(&Address::Unix(path.clone())).await.unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
