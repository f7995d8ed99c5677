//! A server over mutual TLS that serves a tree, takes reports, and misbehaves on demand.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ampoule_protocol::digest::Digest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientCertVerifierBuilder, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::repo::Tree;

/// What the server does wrong, to targets alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Ends after so many bytes of the body.
    Truncates(usize),
    /// Sends a byte at a time, with this pause between them.
    Drips(Duration),
    /// Sends so many bytes, then nothing more.
    Stalls(usize),
    /// Answers ranges with another range.
    WrongRange,
    /// Answers ranges with the whole.
    IgnoresRanges,
    /// Answers 429 with Retry-After.
    TooBusy(u64),
    /// Sends a length that is not the signed one.
    WrongLength,
    /// Flips a bit of the body.
    Flips,
}

/// What the server has and has seen.
pub(crate) struct World {
    pub(crate) tree: Tree,
    pub(crate) fault: Fault,
    /// Receipts that were acknowledged, as they were sent.
    pub(crate) receipts: Vec<Vec<u8>>,
    /// What it answers to an inventory.
    pub(crate) inventory: String,
    /// Headers that it adds to every answer but files.
    pub(crate) headers: String,
    /// What it answers to everything, byte for byte; then it breaks off.
    pub(crate) raw: Option<Vec<u8>>,
    /// `path range` of each request.
    pub(crate) requests: Vec<String>,
    /// Where it sends whoever asks for a target by a link.
    pub(crate) link: Option<String>,
    /// What nobody but this server may be shown: certificates, cookies, passwords.
    pub(crate) shown: Vec<String>,
}

/// A running server; its thread ends with the process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) world: Arc<Mutex<World>>,
}

/// Writes `ca.pem`, `device.pem` and `device.key` into `folder`, and starts a server that trusts
/// them.
pub(crate) fn start(folder: &Path, tree: Tree) -> Server {
    start_with(folder, tree, |verifier| verifier)
}

/// Starts a server with an authority of its own, which does not ask who comes and gives what lies
/// below `/fleet/`.
pub(crate) fn start_bucket(folder: &Path, tree: Tree) -> Server {
    start_with(
        folder,
        tree,
        ClientCertVerifierBuilder::allow_unauthenticated,
    )
}

fn start_with(
    folder: &Path,
    tree: Tree,
    asking: impl FnOnce(ClientCertVerifierBuilder) -> ClientCertVerifierBuilder,
) -> Server {
    let (certificates, key, ca) = identities(folder);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca).expect("our own authority");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider's own")
        .with_client_cert_verifier(asking(verifier).build().expect("one root"))
        .with_single_cert(certificates, key)
        .expect("our own certificate");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let world = World {
        tree,
        fault: Fault::None,
        receipts: Vec::new(),
        inventory: "{\"seq\":1}".to_owned(),
        headers: String::new(),
        raw: None,
        requests: Vec::new(),
        link: None,
        shown: Vec::new(),
    };
    let world = Arc::new(Mutex::new(world));
    let shared = world.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, world) = (config.clone(), shared.clone());
            std::thread::spawn(move || {
                // A device that is killed leaves its connection in any state.
                let _ = serve(stream, config, &world);
            });
        }
    });
    Server { address, world }
}

type Chain = (
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
    CertificateDer<'static>,
);

fn identities(folder: &Path) -> Chain {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("signed");
    let issuer = Issuer::new(ca, ca_key);
    let leaf = |names: Vec<SanType>| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        (certificate, key)
    };
    let uri = "urn:ampoule:device:pump-7".try_into().expect("ascii");
    let (device, device_key) = leaf(vec![SanType::URI(uri)]);
    let (server, server_key) = leaf(vec![SanType::IpAddress([127, 0, 0, 1].into())]);
    std::fs::write(folder.join("ca.pem"), ca_certificate.pem()).expect("writes");
    std::fs::write(folder.join("device.pem"), device.pem()).expect("writes");
    std::fs::write(folder.join("device.key"), device_key.serialize_pem()).expect("writes");
    let key = PrivateKeyDer::from_pem_slice(server_key.serialize_pem().as_bytes());
    (
        vec![server.der().clone()],
        key.expect("a key"),
        ca_certificate.der().clone(),
    )
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    world: &Mutex<World>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let Some(request) = read_request(&mut stream)? else {
            return Ok(());
        };
        if stream.get_ref().conn.peer_certificates().is_some() {
            let mut world = world.lock().expect("nobody panics with it");
            world.shown.push("certificate".to_owned());
        }
        answer(stream.get_mut(), &request, world)?;
    }
}

struct Request {
    path: String,
    range_from: Option<usize>,
    if_none_match: Option<String>,
    asks_for_link: bool,
    /// Headers that tell who is asking.
    telling: Vec<String>,
    body: Vec<u8>,
}

fn read_request(stream: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request {
        path,
        range_from: None,
        if_none_match: None,
        asks_for_link: false,
        telling: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(range) = header.strip_prefix("range: bytes=") {
            request.range_from = range.trim_end_matches('-').parse().ok();
        }
        request.asks_for_link |= header.starts_with("ampoule-links:");
        if ["cookie", "authorization", "referer"]
            .iter()
            .any(|name| header.starts_with(name))
        {
            request.telling.push(header.clone());
        }
        if let Some(etag) = header.strip_prefix("if-none-match: ") {
            request.if_none_match = Some(etag.to_owned());
        }
        if let Some(length) = header.strip_prefix("content-length: ") {
            request.body = vec![0; length.parse().unwrap_or(0)];
        }
    }
    stream.read_exact(&mut request.body)?;
    Ok(Some(request))
}

fn answer(stream: &mut impl Write, request: &Request, world: &Mutex<World>) -> std::io::Result<()> {
    let mut world = world.lock().expect("nobody panics with it");
    let range = request
        .range_from
        .map_or_else(String::new, |from| format!(" {from}-"));
    let known = if request.asks_for_link {
        " by a link"
    } else if request.if_none_match.is_some() {
        " if another"
    } else {
        ""
    };
    world
        .requests
        .push(format!("{}{range}{known}", request.path));
    if let Some(raw) = world.raw.clone() {
        drop(world);
        stream.write_all(&raw)?;
        stream.flush()?;
        return Err(std::io::ErrorKind::BrokenPipe.into());
    }
    world.shown.extend(request.telling.iter().cloned());
    let is_target = request.path.starts_with("/tuf/image/targets/");
    if let (Some(link), true) = (&world.link, is_target && request.asks_for_link) {
        let header = format!("location: {link}\r\n");
        drop(world);
        return send(stream, "307 Temporary Redirect", &header, b"");
    }
    if let Some(path) = request.path.strip_prefix("/fleet/") {
        let name = path.split('?').next().unwrap_or(path);
        let (file, fault) = (world.tree.get(name).cloned(), world.fault);
        drop(world);
        return match file {
            Some(file) => send_file(stream, &file, request.range_from, fault),
            None => send(stream, "403 Forbidden", "", b"<Error/>"),
        };
    }
    if let Some(path) = request.path.strip_prefix("/tuf/image/") {
        let (file, fault) = (world.tree.get(path).cloned(), world.fault);
        drop(world);
        let fault = if path.contains(".img") {
            fault
        } else {
            Fault::None
        };
        return match file {
            Some(file) if path.ends_with("/timestamp.json") => {
                let etag = format!("\"{}\"", Digest::of(&file));
                let header = format!("etag: {etag}\r\n");
                if request.if_none_match == Some(etag) {
                    write!(stream, "HTTP/1.1 304 Not Modified\r\n{header}\r\n")?;
                    return stream.flush();
                }
                send(stream, "200 OK", &header, &file)
            }
            Some(file) => send_file(stream, &file, request.range_from, fault),
            None => send(stream, "404 Not Found", "", b"{}"),
        };
    }
    let body = if request.path.ends_with("/receipts") {
        world.receipts.push(request.body.clone());
        format!("{{\"acknowledged\":[\"{}\"]}}", Digest::of(&request.body))
    } else {
        world.inventory.clone()
    };
    let headers = world.headers.clone();
    drop(world);
    send(stream, "200 OK", &headers, body.as_bytes())
}

fn send(stream: &mut impl Write, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n"
    )?;
    stream.write_all(body)?;
    stream.flush()
}

fn send_file(
    stream: &mut impl Write,
    file: &[u8],
    range_from: Option<usize>,
    fault: Fault,
) -> std::io::Result<()> {
    let range_from = range_from.filter(|_| fault != Fault::IgnoresRanges);
    let from = range_from.unwrap_or(0).min(file.len());
    let mut body = file[from..].to_vec();
    let shift = usize::from(fault == Fault::WrongRange);
    let (status, range) = match range_from {
        Some(from) => {
            let (first, last, total) = (from - shift, file.len() - 1 - shift, file.len());
            (
                "206 Partial Content",
                format!("content-range: bytes {first}-{last}/{total}\r\n"),
            )
        }
        None => ("200 OK", String::new()),
    };
    match fault {
        Fault::TooBusy(secs) => {
            let headers = format!("retry-after: {secs}\r\n");
            let body = br#"{"title":"too many requests","status":429}"#;
            return send(stream, "429 Too Many Requests", &headers, body);
        }
        Fault::Flips => body[0] ^= 1,
        Fault::WrongLength => body.push(0),
        _ => {}
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{range}\r\n"
    )?;
    match fault {
        Fault::Truncates(count) => {
            stream.write_all(&body[..count])?;
            stream.flush()?;
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        Fault::Stalls(count) => {
            stream.write_all(&body[..count])?;
            stream.flush()?;
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        }
        Fault::Drips(pause) => body.iter().try_for_each(|byte| {
            std::thread::sleep(pause);
            stream.write_all(&[*byte])?;
            stream.flush()
        }),
        _ => {
            stream.write_all(&body)?;
            stream.flush()
        }
    }
}
