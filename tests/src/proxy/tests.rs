//! The proxy does to a connection what the names of its faults say: a matrix over one that does nothing would
//! prove nothing.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use votum_proto::runtime::Seams;

use super::{Fault, Link, Message, Network};

/// How long it is watched that nothing comes.
const QUIET: Duration = Duration::from_millis(100);

/// A client and a server, with a network between them.
struct Pair {
    network: Network,
    client: TcpStream,
    server: TcpStream,
}

/// `COMMIT PREPARED 'x'` as a simple query.
fn order() -> Vec<u8> {
    let text = b"COMMIT PREPARED 'x'\0";
    [b"Q", &u32::try_from(text.len() + 4).unwrap().to_be_bytes()[..], text].concat()
}

impl Pair {
    /// The startup has passed.
    async fn meet() -> Self {
        let network = Network::new(1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = network.add_database(0, listener.local_addr().unwrap().port()).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let startup = [&8_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes()].concat();
        client.write_all(&startup).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut met = [0; 8];
        server.read_exact(&mut met).await.unwrap();
        assert_eq!(met, *startup);
        Self { network, client, server }
    }

    /// The fault happens at an order that the client sends.
    async fn with(fault: Fault) -> Self {
        let mut pair = Self::meet().await;
        let wire = pair.network.wire(Link::AgentDatabase, 0).unwrap();
        wire.arm(Message::SqlCommitPrepared, fault);
        pair.client.write_all(&order()).await.unwrap();
        wire.until_sprung(Message::SqlCommitPrepared).await.unwrap();
        pair
    }

    async fn order_arrives(&mut self) {
        let mut arrived = vec![0; order().len()];
        self.server.read_exact(&mut arrived).await.unwrap();
        assert_eq!(arrived, order());
    }
}

/// What a read meets: so many bytes, 0 at an orderly end, or an error.
async fn meets(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0; 64]).await.map_err(|error| error.kind())
}

async fn meets_nothing(stream: &mut TcpStream) {
    let quiet = Seams::production().clock.timeout(QUIET, meets(stream)).await;
    assert!(quiet.is_err(), "something came: {quiet:?}");
}

#[tokio::test]
async fn what_is_reset_is_reset_on_both_sides_and_what_is_closed_ends_in_order() {
    for fault in [Fault::Reset, Fault::Sever] {
        let Pair { network: _network, mut client, mut server } = Pair::with(fault).await;
        assert_eq!(meets(&mut client).await, Err(ErrorKind::ConnectionReset), "{fault}");
        assert_eq!(meets(&mut server).await, Err(ErrorKind::ConnectionReset), "{fault}");
    }
    let Pair { network: _network, mut client, mut server } = Pair::with(Fault::Close).await;
    assert_eq!(meets(&mut client).await, Ok(0));
    assert_eq!(meets(&mut server).await, Ok(0));
}

#[tokio::test]
async fn a_half_closed_direction_ends_and_the_other_goes_on() {
    let mut pair = Pair::with(Fault::HalfClose).await;
    assert_eq!(meets(&mut pair.server).await, Ok(0));
    pair.server.write_all(b"Z\0\0\0\x05I").await.unwrap();
    assert_eq!(meets(&mut pair.client).await, Ok(6));
}

#[tokio::test]
async fn what_is_stalled_or_held_back_arrives_when_it_is_healed() {
    for fault in [Fault::Stall, Fault::HoldBack] {
        let mut pair = Pair::with(fault).await;
        meets_nothing(&mut pair.server).await;
        pair.network.heal();
        pair.order_arrives().await;
    }
    for fault in [Fault::Delay, Fault::Trickle] {
        Pair::with(fault).await.order_arrives().await;
    }
}

#[tokio::test]
async fn what_has_vanished_is_lost_and_its_connection_is_reset_when_it_is_healed() {
    for fault in [Fault::Vanish, Fault::HalfOpen] {
        let mut pair = Pair::with(fault).await;
        meets_nothing(&mut pair.server).await;
        pair.server.write_all(b"Z\0\0\0\x05I").await.unwrap();
        if fault == Fault::Vanish {
            assert_eq!(meets(&mut pair.client).await, Ok(6), "the other direction goes on");
        } else {
            meets_nothing(&mut pair.client).await;
        }
        pair.network.heal();
        assert_eq!(meets(&mut pair.client).await, Err(ErrorKind::ConnectionReset), "{fault}");
        assert_eq!(meets(&mut pair.server).await, Err(ErrorKind::ConnectionReset), "{fault}");
    }
}
