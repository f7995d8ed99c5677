//! HTTP answers of a server that means harm, or is broken.
//!
//! Goal: whatever comes over the wire, the client ends, gives no more bytes than were asked for, and
//! goes on when the server means well again. Method: a good answer with each byte changed in
//! several ways and cut at each place, and answers that have more than one reading. Catches: a
//! panic, a hang, a body that is longer than asked for, a redirect that is followed.

use std::path::Path;
use std::time::Duration;

use ampoule_agent::net::{HttpNetwork, HttpSettings, Identity, Pace};
use ampoule_agent::ports::Fetch as _;

use crate::repo::Tree;
use crate::server::{self, Server};

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\netag: \"e\"\r\n\r\nhello";
const LEN_MAX: u64 = 64;

pub(crate) fn network(folder: &Path, server: &Server) -> HttpNetwork {
    let path = |name| folder.join(name);
    let identity = Identity::load(&path("device.pem"), &path("device.key"), &path("ca.pem"));
    let settings = HttpSettings {
        url: format!("https://{}", server.address),
        connect_timeout: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(20),
        bytes_per_sec_max: None,
        pace: Pace {
            bytes_per_sec_min: 1,
            window: Duration::from_secs(20),
        },
    };
    HttpNetwork::new(settings, &identity.expect("our own"))
}

fn bent() -> Vec<Vec<u8>> {
    let flipped = (0..GOOD.len()).flat_map(|at| {
        [0x01, 0x20, 0x80].map(|bit| {
            let mut answer = GOOD.to_vec();
            answer[at] ^= bit;
            answer
        })
    });
    flipped
        .chain((0..GOOD.len()).map(|len| GOOD[..len].to_vec()))
        .collect()
}

fn strange() -> Vec<Vec<u8>> {
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nhello").into_bytes();
    let long = "x".repeat(64 << 10);
    vec![
        head("content-length: 99999999999999999999"),
        head("content-length: -1"),
        head("content-length: 5\r\ncontent-length: 4"),
        head("content-length: 0x5"),
        head("content-length: 1000000"),
        head("transfer-encoding: chunked"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nhello".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n".to_vec(),
        [
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10000\r\n",
            long.as_bytes(),
        ]
        .concat(),
        head(&format!("x: {long}")),
        head(&"x: y\r\n".repeat(5_000)),
        [b"HTTP/1.1 200 OK\r\n\r\n", long.as_bytes()].concat(),
        b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000),
        b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
        b"HTTP/1.1 301 Moved\r\nlocation: https://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
            .to_vec(),
        b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"HTTP/0.9 200 OK\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_vec(),
        vec![0; 1_000],
        Vec::new(),
    ]
}

#[test]
fn no_answer_harms_the_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = Tree::from([("metadata/1.root.json".to_owned(), b"sound".to_vec())]);
    let server = server::start(folder.path(), tree);
    let answers: Vec<_> = bent().into_iter().chain(strange()).collect();
    let (count, mut refused) = (answers.len(), 0);
    for answer in answers {
        let told = String::from_utf8_lossy(&answer[..answer.len().min(80)]).into_owned();
        server.world.lock().expect("alive").raw = Some(answer);
        // A client of its own: one that was answered well asks the next time on a connection that
        // is gone, and would not see the next answer.
        match network(folder.path(), &server).fetch("timestamp.json", LEN_MAX) {
            Ok(found) => {
                let len = found.map_or(0, |bytes| bytes.len() as u64);
                assert!(len <= LEN_MAX, "{len} bytes of {told:?}");
            }
            Err(_) => refused += 1,
        }
    }
    let asked = server.world.lock().expect("alive").requests.len();
    assert_eq!(asked, count, "an answer was not read");
    assert!(refused > 100, "only {refused} answers were refused");
}

#[test]
fn a_client_that_was_answered_badly_asks_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = Tree::from([("metadata/1.root.json".to_owned(), b"sound".to_vec())]);
    let server = server::start(folder.path(), tree);
    let mut network = network(folder.path(), &server);
    for bad in [&b"HTTP/9"[..], &GOOD[..GOOD.len() - 1], b""] {
        server.world.lock().expect("alive").raw = Some(bad.to_vec());
        let refused = network.fetch("1.root.json", LEN_MAX);
        assert!(refused.is_err(), "{refused:?}");
        server.world.lock().expect("alive").raw = None;
        let sound = network.fetch("1.root.json", LEN_MAX);
        let sound = sound.expect("the server means well again");
        assert_eq!(sound.as_deref(), Some(&b"sound"[..]));
    }
}
