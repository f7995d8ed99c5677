//! A plain HTTP/1.1 file server on loopback that can misbehave on demand.
//!
//! It answers GET from a closure, one thread per connection, one request per connection. A fault
//! is chosen per request path, so that one file of a tree drips while the others flow. Ends with
//! the value: dropping it closes the listener and joins its thread.
//!
//! It exists for peers that insist on a real socket (python-tuf, the agent's HTTP client, for which
//! each connection is wrapped in TLS); our own tests hand bytes over in memory.

use std::io::{self, BufRead, BufReader, Read, Write};
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

/// A connection, plain or wrapped.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// What makes a [`Stream`] of an accepted connection.
pub type Wrap = dyn Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + Sync;

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
        let wrap = |stream| Ok(Box::new(stream) as Box<dyn Stream>);
        Self::start_with(source, |_| Fault::None, wrap)
    }

    /// The same, going wrong as `faults` says for each path, over connections that `wrap` makes.
    ///
    /// # Panics
    /// Where loopback has no free port.
    pub fn start_with(
        source: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
        faults: impl Fn(&str) -> Fault + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Shared {
            source: Arc::new(source),
            faults: Arc::new(faults),
            wrap: Arc::new(wrap),
            stop: Arc::new(AtomicBool::new(false)),
            requests: Arc::default(),
        };
        let (stop, requests) = (Arc::clone(&shared.stop), Arc::clone(&shared.requests));
        let thread = std::thread::spawn(move || accept(&listener, &shared));
        Self {
            address,
            stop,
            requests,
            thread: Some(thread),
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> SocketAddr {
        self.address
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
    wrap: Arc<Wrap>,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, shared: &Shared) {
    for stream in listener.incoming() {
        if shared.is_over() {
            return;
        }
        let (Ok(stream), shared) = (stream, shared.clone()) else {
            continue;
        };
        // A reader that goes away in the middle is the reader's business.
        std::thread::spawn(move || {
            drop(stream.set_nodelay(true));
            drop((shared.wrap)(stream).and_then(|mut stream| serve(&mut *stream, &shared)));
        });
    }
}

fn serve(stream: &mut dyn Stream, shared: &Shared) -> io::Result<()> {
    let Some(path) = read_request(stream)? else {
        return Ok(());
    };
    shared
        .requests
        .lock()
        .expect("no serving thread panicked")
        .push(path.clone());
    let Some(body) = (shared.source)(&path) else {
        return send(stream, &head(404, Some(0)));
    };
    let whole = head(200, Some(body.len()));
    match (shared.faults)(&path) {
        Fault::None => send(stream, &[whole, body].concat()),
        Fault::Torn => send(stream, &[&whole, &body[..body.len() / 2]].concat()),
        Fault::Status(status) => send(stream, &head(status, Some(0))),
        Fault::Drip { pause } => {
            send(stream, &whole)?;
            for byte in &body {
                if shared.is_over() {
                    break;
                }
                send(stream, &[*byte])?;
                std::thread::sleep(pause);
            }
            Ok(())
        }
        Fault::Stall => {
            send(stream, &[&whole, &body[..1.min(body.len())]].concat())?;
            while !shared.is_over() {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        }
        Fault::Endless => {
            send(stream, &head(200, None))?;
            while !shared.is_over() {
                send(stream, &[b' '; 4096])?;
            }
            Ok(())
        }
    }
}

fn send(stream: &mut dyn Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

/// The path of the request line, once the head is read to its end.
fn read_request(stream: &mut dyn Stream) -> io::Result<Option<String>> {
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
