//! What a poll with nothing new costs on the wire, in bytes of the TCP stream.
//!
//! Goal: the budgets of the design for a resumed session, 2 KiB where the device agrees on keys by
//! X25519 and 5 KiB where by the hybrid with ML-KEM-768. Method: a relay between device and server
//! counts both directions of one poll: handshake, the requests that the agent makes, their answers,
//! the end. Counted, not timed. Catches: tickets that carry the device's certificates, a timestamp
//! that is sent again though the device has it, talkative answers.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};

use crate::common::client::Client;
use crate::common::{Server, World};

const X25519_BYTES_MAX: u64 = 2 << 10;
const HYBRID_BYTES_MAX: u64 = 5 << 10;

/// Takes one connection and counts what goes through it.
struct Relay {
    address: SocketAddr,
    counting: JoinHandle<io::Result<[u64; 2]>>,
}

impl Relay {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counting = std::thread::spawn(move || {
            let (device, _) = listener.accept()?;
            let server = TcpStream::connect(server)?;
            let (from, to) = (device.try_clone()?, server.try_clone()?);
            let up = std::thread::spawn(move || pass(&from, &to));
            let down = pass(&server, &device);
            let up = up.join();
            let up = up.map_err(|_| io::Error::other("the relay panicked"))?;
            Ok([up, down])
        });
        Self { address, counting }
    }

    /// Bytes up and down, when both sides have ended.
    fn bytes(self) -> [u64; 2] {
        self.counting.join().unwrap().unwrap()
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) -> u64 {
    let mut count = 0;
    let mut buffer = [0; 16 << 10];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(len) => len,
        };
        count += len as u64;
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    count
}

/// One poll as the agent makes it: is there another root, and is the timestamp another?
fn poll(client: &Client, server: &Server, etag: &str) -> (u16, String, bool, [u64; 2]) {
    let relay = Relay::to(server.address);
    let client = Client {
        address: relay.address,
        ..client.clone()
    };
    let mut connection = client.connect().unwrap();
    let agent = [
        ("accept-encoding", "identity"),
        ("user-agent", "ampoule-agent/0.1.0"),
        ("accept", "*/*"),
    ];
    let root = connection
        .ask("GET", "/tuf/image/metadata/2.root.json", &agent, b"")
        .unwrap();
    assert_eq!(root.status, 404);
    let mut headers = agent.to_vec();
    if !etag.is_empty() {
        headers.push(("if-none-match", etag));
    }
    let timestamp = connection
        .ask("GET", "/tuf/image/metadata/timestamp.json", &headers, b"")
        .unwrap();
    let is_resumed = connection.is_resumed();
    connection.stream.conn.send_close_notify();
    connection.stream.flush().unwrap();
    connection.stream.sock.shutdown(Shutdown::Write).unwrap();
    assert!(connection.is_cut());
    let etag = timestamp.header("etag").to_owned();
    (timestamp.status, etag, is_resumed, relay.bytes())
}

fn costs(groups: Vec<&'static dyn SupportedKxGroup>) -> u64 {
    let world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = Client::with_groups(server.address, &device.dir, groups);
    let (status, etag, is_resumed, first) = poll(&client, &server, "");
    assert_eq!((status, is_resumed), (200, false));
    let (status, _, is_resumed, next) = poll(&client, &server, &etag);
    assert_eq!((status, is_resumed), (304, true));
    server.stop();
    println!("first poll: {first:?} bytes up and down; resumed, nothing new: {next:?}");
    next.iter().sum()
}

#[test]
fn a_poll_with_nothing_new_takes_2_kib_with_x25519() {
    let bytes = costs(vec![X25519]);
    assert!(bytes <= X25519_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn a_poll_with_nothing_new_takes_5_kib_with_the_hybrid() {
    let bytes = costs(vec![X25519MLKEM768, X25519]);
    assert!(bytes <= HYBRID_BYTES_MAX, "{bytes} bytes");
    assert!(bytes > 2000, "this was not the hybrid: {bytes} bytes");
}
