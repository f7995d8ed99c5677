//! Asks a server over mutual TLS as fast as it answers, and says what that cost *it*.
//!
//! The figure that survives a busy machine is the server's own CPU time, read from the kernel's
//! scheduler for each of its threads before and after. Loopback only, bounded in time.

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Connect, full handshake, one request, close.
    Full,
    /// Connect, resumed handshake, one request, close.
    Resumed,
    /// One connection, request after request.
    KeepAlive,
}

/// What to do.
pub(crate) struct Plan {
    mode: Mode,
    address: SocketAddr,
    path: String,
    files: [String; 3],
    connections: usize,
    length: Duration,
    server: u32,
}

/// What one connection came to.
#[derive(Default)]
struct Tally {
    requests: u64,
    bytes: u64,
    resumed: u64,
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Plan {
    pub(crate) fn parse(words: &[String]) -> Result<Self, Box<dyn Error>> {
        let [
            mode,
            address,
            path,
            ca,
            certificate,
            key,
            connections,
            seconds,
            server,
        ] = words
        else {
            return Err("load takes nine words".into());
        };
        let mode = match mode.as_str() {
            "full" => Mode::Full,
            "resumed" => Mode::Resumed,
            "keep-alive" => Mode::KeepAlive,
            other => return Err(format!("\"{other}\" is not full, resumed or keep-alive").into()),
        };
        let address: SocketAddr = address.parse()?;
        if !address.ip().is_loopback() {
            return Err(format!("{address} is not a loopback address").into());
        }
        Ok(Self {
            mode,
            address,
            path: path.clone(),
            files: [ca.clone(), certificate.clone(), key.clone()],
            connections: connections.parse()?,
            length: Duration::from_secs(seconds.parse::<u64>()?.min(60)),
            server: server.parse()?,
        })
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
        let [ca, certificate, key] = &self.files;
        let mut roots = RootCertStore::empty();
        for found in CertificateDer::pem_file_iter(ca)? {
            roots.add(found?)?;
        }
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // As the agent offers it; a group that only one side prefers would cost a round more.
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
        config.resumption = match self.mode {
            Mode::Resumed => Resumption::in_memory_sessions(64),
            Mode::Full | Mode::KeepAlive => Resumption::disabled(),
        };
        Ok(Arc::new(config))
    }
}

/// Runs the plan.
pub(crate) fn run(plan: &Plan) -> Result<Value, Box<dyn Error>> {
    let before = cpu_time(plan.server)?;
    let start = Instant::now();
    let until = start + plan.length;
    let tallies = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.connections)
            .map(|_| scope.spawn(|| worker(plan, until)))
            .collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| "a worker panicked"));
        done.map(|tally| Ok(tally??))
            .collect::<Result<Vec<Tally>, Box<dyn Error>>>()
    })?;
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

fn worker(plan: &Plan, until: Instant) -> Result<Tally, String> {
    let told = |error: Box<dyn Error>| error.to_string();
    // Each worker resumes its own sessions, as each device does.
    let tls = plan.tls().map_err(told)?;
    let mut tally = Tally::default();
    let mut buffer = vec![0; 256 << 10];
    let mut kept: Option<Stream> = None;
    while Instant::now() < until {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => connect(plan.address, &tls).map_err(told)?,
        };
        tally.bytes += ask(&mut stream, plan, &mut buffer).map_err(|error| error.to_string())?;
        tally.requests += 1;
        if stream.conn.handshake_kind() == Some(HandshakeKind::Resumed) {
            tally.resumed += 1;
        }
        match plan.mode {
            Mode::KeepAlive => kept = Some(stream),
            Mode::Full | Mode::Resumed => {
                // Reading to the end also takes in the tickets that came after the handshake.
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
            }
        }
    }
    Ok(tally)
}

fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Stream, Box<dyn Error>> {
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let name = ServerName::try_from("localhost")?;
    Ok(StreamOwned::new(
        ClientConnection::new(tls.clone(), name)?,
        socket,
    ))
}

/// One request; the bytes of its body.
fn ask(stream: &mut Stream, plan: &Plan, buffer: &mut [u8]) -> io::Result<u64> {
    let close = if plan.mode == Mode::KeepAlive {
        ""
    } else {
        "Connection: close\r\n"
    };
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n",
        plan.path
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let body_start = loop {
        let read = stream.read(buffer)?;
        if read == 0 || head.len() > 64 << 10 {
            return Err(io::Error::other("the answer has no head"));
        }
        head.extend_from_slice(&buffer[..read]);
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let length = body_length(&head[..body_start])?;
    let mut got = (head.len() - body_start) as u64;
    while got < length {
        let read = stream.read(buffer)?;
        if read == 0 {
            return Err(io::Error::other("the answer ends early"));
        }
        got += read as u64;
    }
    Ok(length)
}

fn body_length(head: &[u8]) -> io::Result<u64> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("http/1.1 200") {
        return Err(io::Error::other(format!(
            "the server answered \"{status}\""
        )));
    }
    lines
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("the answer has no length"))
}

/// The CPU time of a process and its children so far, all their threads.
fn cpu_time(process: u32) -> io::Result<Duration> {
    let mut nanos = 0_u64;
    for id in with_children(process)? {
        // A child may end while we look.
        let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let told = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let first = told
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<u64>().ok());
            nanos += first.unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanos))
}

fn with_children(process: u32) -> io::Result<Vec<u32>> {
    let mut found = vec![process];
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the name in parentheses: state, then the parent.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent.and_then(|word| word.parse::<u32>().ok()) == Some(process) {
            found.push(id);
        }
    }
    Ok(found)
}
