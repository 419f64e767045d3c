//! A server that says what a test tells it to, whatever it is asked.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use votum_proto::runtime::Seams;

/// A message of a server.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], &length[..], body].concat()
}

pub fn done(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"].concat())
}

pub fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

pub fn row(values: &[&[u8]]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    let values = values
        .iter()
        .flat_map(|value| [&u32::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat());
    message(b'D', &count.into_iter().chain(values).collect::<Vec<_>>())
}

/// What a session asks of a server once it is let in: who serves it, with which settings, and which server it is.
pub fn opened() -> Vec<u8> {
    let process: [&[u8]; 7] = [b"7", b"1", b"off", b"votum", b"votum", b"0", b"f"];
    let server: [&[u8]; 3] = [b"77", b"f", b"000000010000000000000001"];
    row(&[&process[..], &server[..]].concat())
}

/// What a server says that lets a client in.
pub fn accepted(after_start: &[u8]) -> Vec<u8> {
    let start = [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\x0015.4\0"),
        message(b'S', b"client_encoding\0UTF8\0"),
        message(b'K', &[0, 0, 0, 7, 0, 0, 0, 9]),
        ready(b'I'),
    ];
    [&start.concat(), after_start].concat()
}

/// A server, or what stands before it, that lets nobody in who brings settings, and then one who brings none.
pub async fn without_settings(refusal: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    Seams::production().spawn(async move {
        let opening = [opened(), done("SELECT 1"), ready(b'I')].concat();
        for _ in 0..3 {
            let (mut client, _) = listener.accept().await.unwrap();
            let length = client.read_u32().await.unwrap();
            let mut start = vec![0; length as usize - 4];
            client.read_exact(&mut start).await.unwrap();
            if start.windows(8).any(|name| name == b"options\0") {
                client.write_all(&message(b'E', refusal)).await.unwrap();
                continue;
            }
            client.write_all(&accepted(&[])).await.unwrap();
            if trip_ended(&mut client).await {
                client.write_all(&opening).await.unwrap();
            }
        }
    });
    format!("host=127.0.0.1 port={port} user=u dbname=d")
}

/// A server that answers each trip with the next of `answers`, whatever it says, and then hangs up.
pub async fn scripted(after_start: Vec<u8>, answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    Seams::production().spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let length = client.read_u32().await.unwrap();
        client.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
        client.write_all(&accepted(&after_start)).await.unwrap();
        for answer in answers {
            if !trip_ended(&mut client).await {
                return;
            }
            client.write_all(&answer).await.unwrap();
        }
    });
    format!("host=127.0.0.1 port={port} user=u dbname=d")
}

/// Reads to the next Sync or simple query; false at the end.
async fn trip_ended(client: &mut TcpStream) -> bool {
    loop {
        let Ok(tag) = client.read_u8().await else { return false };
        let length = client.read_u32().await.unwrap();
        client.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
        if matches!(tag, b'S' | b'Q') {
            return true;
        }
    }
}
