//! Asks a server over mutual TLS as fast as it answers, and says what that cost *it*.
//!
//! The figure that survives a busy machine is the server's own CPU time, read from the kernel's
//! scheduler for each of its threads before and after. Loopback only, bounded in time.

use std::error::Error;
use std::io::Read;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::client::Resumption;
use serde_json::{Value, json};

use crate::h2;
use crate::peer::{After, Peer, Stream};
use crate::process::cpu_time;

/// The longest run, in seconds.
const SECONDS_MAX: u64 = 60;

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Connect, full handshake, one request, close.
    Full,
    /// Connect, resumed handshake, one request, close.
    Resumed,
    /// One connection, request after request.
    KeepAlive,
    /// One HTTP/2 connection, many requests at a time.
    Http2,
}

/// What to do.
pub(crate) struct Plan {
    mode: Mode,
    peer: Peer,
    connections: usize,
    length: Duration,
    server: u32,
}

/// What one connection came to.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    resumed: u64,
}

impl Plan {
    pub(crate) fn parse(words: &[String]) -> Result<Self, Box<dyn Error>> {
        let [mode, peer @ .., connections, seconds, server] = words else {
            return Err("load takes nine words".into());
        };
        let mode = match mode.as_str() {
            "full" => Mode::Full,
            "resumed" => Mode::Resumed,
            "keep-alive" => Mode::KeepAlive,
            "h2" => Mode::Http2,
            other => return Err(format!("\"{other}\" is no way to ask").into()),
        };
        let peer = peer.try_into().map_err(|_| "load takes nine words")?;
        Ok(Self {
            mode,
            peer: Peer::parse(peer)?,
            connections: connections.parse()?,
            length: Duration::from_secs(seconds.parse::<u64>()?.min(SECONDS_MAX)),
            server: server.parse()?,
        })
    }
}

/// Runs the plan.
pub(crate) fn run(plan: &Plan) -> Result<Value, Box<dyn Error>> {
    let before = cpu_time(plan.server)?;
    let start = Instant::now();
    let until = start + plan.length;
    let tallies = match plan.mode {
        Mode::Http2 => h2::ask_until(&plan.peer, plan.connections, until)?,
        _ => workers(plan, until)?,
    };
    let wall = start.elapsed();
    let server = cpu_time(plan.server)?.saturating_sub(before);
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let requests = sum(|tally| tally.requests);
    if requests == 0 {
        return Err("no request was answered".into());
    }
    Ok(json!({
        "requests": requests,
        "bytes": sum(|tally| tally.bytes),
        "resumed": sum(|tally| tally.resumed),
        "wall_secs": wall.as_secs_f64(),
        "server_cpu_secs": server.as_secs_f64(),
    }))
}

fn workers(plan: &Plan, until: Instant) -> Result<Vec<Tally>, Box<dyn Error>> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.connections)
            .map(|_| scope.spawn(|| worker(plan, until)))
            .collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| "a worker panicked"));
        done.map(|tally| Ok(tally??)).collect()
    })
}

fn worker(plan: &Plan, until: Instant) -> Result<Tally, String> {
    let told = |error: Box<dyn Error>| error.to_string();
    let (resumption, after) = match plan.mode {
        // Each worker resumes its own sessions, as each device does.
        Mode::Resumed => (Resumption::in_memory_sessions(64), After::Close),
        Mode::Full => (Resumption::disabled(), After::Close),
        Mode::KeepAlive | Mode::Http2 => (Resumption::disabled(), After::Keep),
    };
    let tls = plan.peer.tls(resumption, b"http/1.1").map_err(told)?;
    let mut tally = Tally::default();
    let mut buffer = vec![0; 256 << 10];
    let mut kept: Option<Stream> = None;
    while Instant::now() < until {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => plan.peer.connect(&tls).map_err(told)?,
        };
        let asked = plan.peer.ask(&mut stream, after, &mut buffer);
        tally.bytes += asked.map_err(|error| error.to_string())?;
        tally.requests += 1;
        if stream.conn.handshake_kind() == Some(HandshakeKind::Resumed) {
            tally.resumed += 1;
        }
        match after {
            After::Keep => kept = Some(stream),
            // Reading to the end also takes in the tickets that came after the handshake.
            After::Close => while stream.read(&mut buffer).is_ok_and(|read| read > 0) {},
        }
    }
    Ok(tally)
}
