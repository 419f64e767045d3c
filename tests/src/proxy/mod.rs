//! A network of the tests' own: a proxy between each two parts, which knows the messages that pass by their
//! names, and can do to them what networks do.
//!
//! A [`Network`] has one [`Wire`] for each link: clients and coordinator, and for each bank clients and agent,
//! coordinator and agent, agent and database. On each a [`Fault`] can be armed at a [`Message`]. Whoever dials
//! does so by TCP, so that it meets real resets; from the proxy to the coordinator and the agents it goes by
//! their Unix sockets, on which a reset is an abrupt end.
//!
//! An agent has one address for clients and for its coordinator: the first call on a connection says who it is.

mod fault;
mod http2;
mod message;
mod piece;
mod postgres;
mod relay;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use votum_proto::address::Address;
use votum_proto::runtime::Seams;

pub use fault::Fault;
pub use message::{Direction, Link, Message};
pub use wire::Wire;

use relay::{Conversation, Relay, Socket};

/// The proxies of one installation. Its tasks run as long as the runtime on which it was made.
#[derive(Debug)]
pub struct Network {
    wires: BTreeMap<(Link, usize), Arc<Wire>>,
    changed: watch::Sender<()>,
    coordinator: Option<Address>,
}

/// What a proxy's connections lead to.
#[derive(Debug, Clone)]
enum Upstream {
    Grpc(Address),
    Postgres(u16),
}

impl Network {
    /// One for `banks` banks, with nothing behind it yet.
    pub(crate) fn new(banks: usize) -> Self {
        let changed = watch::Sender::new(());
        let links = Link::ALL.into_iter().flat_map(|link| (0..banks).map(move |bank| (link, bank)));
        let wires = links.map(|key| (key, Arc::new(Wire::new(key.0, changed.clone())))).collect();
        Self { wires, changed, coordinator: None }
    }

    /// The wire of a link at bank number `bank`. That of clients and coordinator is the same for all.
    ///
    /// # Errors
    /// When there is no such bank.
    pub fn wire(&self, link: Link, bank: usize) -> anyhow::Result<&Wire> {
        self.shared_wire(link, bank).map(AsRef::as_ref)
    }

    fn shared_wire(&self, link: Link, bank: usize) -> anyhow::Result<&Arc<Wire>> {
        let bank = if link == Link::ClientCoordinator { 0 } else { bank };
        self.wires.get(&(link, bank)).with_context(|| format!("there is no bank {bank}"))
    }

    /// Ends every fault on every wire, also those to come.
    pub fn heal(&self) {
        for wire in self.wires.values() {
            wire.disarm();
            wire.heal();
        }
    }

    /// Forgets the faults that have happened.
    pub fn forget(&self) {
        self.wires.values().for_each(|wire| wire.forget());
    }

    /// Where clients reach the coordinator through the network.
    ///
    /// # Errors
    /// When no coordinator is behind it.
    pub fn coordinator(&self) -> anyhow::Result<&Address> {
        self.coordinator.as_ref().context("no coordinator is behind this network")
    }

    /// Puts a proxy before the coordinator.
    pub(crate) async fn add_coordinator(&mut self, listen: &Address) -> anyhow::Result<()> {
        let wires = vec![Link::ClientCoordinator];
        let port = self.listen(0, wires, Upstream::Grpc(listen.clone())).await?;
        self.coordinator = Some(Address::Tcp(format!("127.0.0.1:{port}")));
        Ok(())
    }

    /// Puts a proxy before an agent, and says where it is.
    pub(crate) async fn add_agent(&self, bank: usize, listen: &Address) -> anyhow::Result<Address> {
        let wires = vec![Link::ClientAgent, Link::CoordinatorAgent];
        let port = self.listen(bank, wires, Upstream::Grpc(listen.clone())).await?;
        Ok(Address::Tcp(format!("127.0.0.1:{port}")))
    }

    /// Puts a proxy before a database server on a port of this machine, and says on which port it is.
    pub(crate) async fn add_database(&self, bank: usize, port: u16) -> anyhow::Result<u16> {
        self.listen(bank, vec![Link::AgentDatabase], Upstream::Postgres(port)).await
    }

    async fn listen(&self, bank: usize, links: Vec<Link>, upstream: Upstream) -> anyhow::Result<u16> {
        let wires = links.into_iter().map(|link| Ok((self.shared_wire(link, bank)?.clone(), link)));
        let wires = wires.collect::<anyhow::Result<Vec<_>>>()?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening as a proxy")?;
        let port = listener.local_addr()?.port();
        let changed = self.changed.subscribe();
        Seams::production().spawn(async move {
            // It fails only where this process has no descriptors left: then tests fail by themselves.
            while let Ok((stream, _)) = listener.accept().await {
                let (wires, upstream, changed) = (wires.clone(), upstream.clone(), changed.clone());
                Seams::production().spawn(serve(stream, wires, upstream, changed));
            }
        });
        Ok(port)
    }
}

/// One connection, from its beginning to its end.
async fn serve(
    stream: TcpStream,
    wires: Vec<(Arc<Wire>, Link)>,
    upstream: Upstream,
    changed: watch::Receiver<()>,
) {
    // It fails only where the connection is gone already, which shows at once.
    let _ = stream.set_nodelay(true);
    let conversation = match upstream {
        Upstream::Grpc(_) => Conversation::Grpc(http2::Conversation::default()),
        Upstream::Postgres(_) => Conversation::Postgres(postgres::Conversation::default()),
    };
    let relay = Relay::new(wires, conversation, changed);
    match dial(&upstream).await {
        Ok(accepter) => relay.run(Socket::Tcp(stream), accepter).await,
        Err(_) => Socket::Tcp(stream).reset(),
    }
}

async fn dial(upstream: &Upstream) -> std::io::Result<Socket> {
    let tcp = async |address: String| {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Socket::Tcp(stream))
    };
    match upstream {
        Upstream::Grpc(Address::Unix(path)) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        Upstream::Grpc(Address::Tcp(address)) => tcp(address.clone()).await,
        Upstream::Grpc(Address::InProcess) => Err(std::io::ErrorKind::Unsupported.into()),
        Upstream::Postgres(port) => tcp(format!("127.0.0.1:{port}")).await,
    }
}
