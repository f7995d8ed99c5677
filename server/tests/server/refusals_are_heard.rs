//! A refusal reaches who sends a body: it is not answered over their head.
//!
//! Goal: clients in the field hear 403, 413 and 429 over HTTP/2 and see no broken stream. Method:
//! frames written by hand, so that the body ends only after the server had every chance to answer.
//! Catches: a refusal that is sent, with a reset of the stream, while the body is on its way.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::common::client::{Client, Connection};
use crate::common::{Device, Server, World};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// An indexed field of HPACK's static table: `:status 200`.
const STATUS_200: u8 = 0x88;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A connection that speaks HTTP/2 by hand.
struct ByHand(Connection);

impl ByHand {
    fn new(device: &Device, server: &Server) -> Self {
        let client = device.client(server);
        let mut config = (*client.config).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let client = Client {
            config: Arc::new(config),
            ..client
        };
        let mut by_hand = Self(client.connect().unwrap());
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        by_hand.0.stream.write_all(preface).unwrap();
        by_hand.send(SETTINGS, 0, 0, &[]);
        by_hand
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = len[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.stream.write_all(&frame).unwrap();
        self.0.stream.flush().unwrap();
    }

    fn receive(&mut self) -> Frame {
        let mut head = [0; 9];
        self.0.stream.read_exact(&mut head).unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.0.stream.read_exact(&mut payload).unwrap();
        Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        }
    }

    /// All frames until the server has answered a ping, and with it heard all before.
    fn until_pong(&mut self) -> Vec<Frame> {
        self.send(PING, 0, 0, &[7; 8]);
        let mut frames = Vec::new();
        loop {
            let frame = self.receive();
            if frame.kind == PING && frame.flags & 1 == 1 {
                return frames;
            }
            frames.push(frame);
        }
    }

    /// Posts `pieces` to `path`; the head block and the body of the answer.
    fn post(&mut self, path: &str, pieces: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
        // `:method POST`, `:scheme https`, then path and authority as they are.
        let mut head = vec![0x83, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
        head.extend(path.as_bytes());
        head.extend([0x01, 9]);
        head.extend(b"localhost");
        self.send(HEADERS, END_HEADERS, 1, &head);
        let of_stream = |frames: Vec<Frame>| {
            let spoken = [DATA, HEADERS, RST_STREAM];
            let mut kinds = frames.into_iter().filter(|frame| frame.stream == 1);
            kinds.find(|frame| spoken.contains(&frame.kind))
        };
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            self.send(DATA, 0, 1, piece);
            let early = of_stream(self.until_pong()).map(|frame| frame.kind);
            assert_eq!(early, None, "an answer before the body's end");
        }
        self.send(DATA, END_STREAM, 1, last);
        let (mut head, mut body) = (Vec::new(), Vec::new());
        loop {
            let frame = self.receive();
            if frame.stream != 1 {
                continue;
            }
            match frame.kind {
                HEADERS => head = frame.payload,
                DATA => body.extend(frame.payload),
                RST_STREAM => panic!("the stream is reset"),
                _ => continue,
            }
            if frame.flags & END_STREAM == END_STREAM {
                break;
            }
        }
        let late = of_stream(self.until_pong()).map(|frame| frame.kind);
        assert_eq!(late, None, "something after the answer's end");
        (head, body)
    }
}

fn code(body: &[u8]) -> String {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_body_that_is_too_long_hears_it() {
    let mut world = World::new();
    world.limits = "body_len_max = 2048".into();
    let device = world.enroll("pump-1");
    let server = world.start();
    let piece = [b' '; 8192];
    let pieces = [&piece[..], &piece, &piece];
    let mut by_hand = ByHand::new(&device, &server);
    let (_, body) = by_hand.post("/device/v1/inventory", &pieces);
    assert_eq!(code(&body), "body-too-large");
    server.stop();
}

#[test]
fn who_asks_too_often_hears_it() {
    let mut world = World::new();
    world.limits = "requests_per_minute = 1\nrequests_burst = 1".into();
    let device = world.enroll("pump-1");
    let server = world.start();
    let inventory = device.inventory(1);
    let (first, last) = inventory.split_at(10);
    let post = || ByHand::new(&device, &server).post("/device/v1/inventory", &[first, last]);
    let (head, _) = post();
    assert_eq!(head.first(), Some(&STATUS_200));
    assert_eq!(code(&post().1), "too-many-requests");
    server.stop();
}

#[test]
fn who_is_revoked_or_posts_where_nothing_is_hears_it() {
    let world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let post = |path| ByHand::new(&device, &server).post(path, &[b"{", b"}"]);
    assert_eq!(code(&post("/device/v1/self").1), "method-not-allowed");
    assert_eq!(code(&post("/nowhere").1), "not-found");
    server.stop();
}
