//! A plain HTTP/1.1 file server on loopback that can misbehave on demand.
//!
//! It answers GET from a closure, one thread per connection, one request per connection. A fault
//! is chosen per request path, so that one file of a tree drips while the others flow. Ends with
//! the value: dropping it closes the listener and joins its thread.
//!
//! It exists for peers that insist on a real socket (python-tuf, the agent's HTTP client); our
//! own tests hand bytes over in memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is served under a path (percent-encoded as requested, without the leading slash).
pub type Source = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// How an answer goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not.
    None,
    /// One byte, then a pause, for as long as the reader stays (slow retrieval).
    Drip {
        /// Between two bytes.
        pause: Duration,
    },
    /// The head, the first byte, then silence until the reader goes.
    Stall,
    /// No Content-Length, and bytes without end (endless data).
    Endless,
    /// A Content-Length, and half of the bytes.
    Torn,
    /// This status and no body.
    Status(u16),
}

type Faults = dyn Fn(&str) -> Fault + Send + Sync;

/// A running server.
pub struct HttpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Serves `source` on a free port of loopback.
    pub fn start(source: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::start_with_faults(source, |_| Fault::None)
    }

    /// The same, going wrong as `faults` says for each path.
    pub fn start_with_faults(
        source: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
        faults: impl Fn(&str) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared {
            source: Arc::new(source),
            faults: Arc::new(faults),
            stop: Arc::clone(&stop),
            requests: Arc::clone(&requests),
        };
        let thread = std::thread::spawn(move || accept(&listener, &shared));
        Self {
            address,
            stop,
            requests,
            thread: Some(thread),
        }
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The paths asked for so far, in order.
    ///
    /// # Panics
    /// Only after a panic in a serving thread.
    pub fn requests(&self) -> Vec<String> {
        self.requests
            .lock()
            .expect("no serving thread panicked")
            .clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // A last connection wakes the accepting thread, which then sees the flag.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[derive(Clone)]
struct Shared {
    source: Arc<Source>,
    faults: Arc<Faults>,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

fn accept(listener: &TcpListener, shared: &Shared) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(stream), shared) = (stream, shared.clone()) else {
            continue;
        };
        // A reader that goes away in the middle is the reader's business.
        std::thread::spawn(move || drop(serve(&stream, &shared)));
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(path) = read_request(stream)? else {
        return Ok(());
    };
    shared
        .requests
        .lock()
        .expect("no serving thread panicked")
        .push(path.clone());
    let mut out = stream;
    let Some(body) = (shared.source)(&path) else {
        return out.write_all(&head(404, Some(0)));
    };
    match (shared.faults)(&path) {
        Fault::None => {
            out.write_all(&head(200, Some(body.len())))?;
            out.write_all(&body)
        }
        Fault::Torn => {
            out.write_all(&head(200, Some(body.len())))?;
            out.write_all(&body[..body.len() / 2])
        }
        Fault::Status(status) => out.write_all(&head(status, Some(0))),
        Fault::Drip { pause } => {
            out.write_all(&head(200, Some(body.len())))?;
            drip(out, &body, pause, &shared.stop)
        }
        Fault::Stall => {
            out.write_all(&head(200, Some(body.len())))?;
            out.write_all(&body[..1.min(body.len())])?;
            wait_until_gone(stream, &shared.stop)
        }
        Fault::Endless => {
            out.write_all(&head(200, None))?;
            while !shared.stop.load(Ordering::SeqCst) {
                out.write_all(&[b' '; 4096])?;
            }
            Ok(())
        }
    }
}

/// The path of the request line, once the head is read to its end.
fn read_request(stream: &TcpStream) -> std::io::Result<Option<String>> {
    // More than any client here sends; a longer head is no request.
    let mut lines = BufReader::new(stream.take(64 * 1024)).lines();
    let Some(first) = lines.next().transpose()? else {
        return Ok(None);
    };
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    Ok(first
        .split(' ')
        .nth(1)
        .map(|path| path.trim_start_matches('/').to_owned()))
}

fn head(status: u16, length: Option<usize>) -> Vec<u8> {
    let length = length.map_or_else(String::new, |n| format!("Content-Length: {n}\r\n"));
    format!("HTTP/1.1 {status} Test\r\n{length}Connection: close\r\n\r\n").into_bytes()
}

fn drip(
    mut out: &TcpStream,
    body: &[u8],
    pause: Duration,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    for byte in body {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        out.write_all(&[*byte])?;
        std::thread::sleep(pause);
    }
    Ok(())
}

fn wait_until_gone(stream: &TcpStream, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut byte = [0];
    while !stop.load(Ordering::SeqCst) {
        match (&*stream).read(&mut byte) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
