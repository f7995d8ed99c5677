//! The writer's end: the network port, answered by the network half.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use ampoule_protocol::time::UtcTime;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::handshake::Signing;
use super::words::{Answered, Asked, Begin, Elsewhere, Failed, ask, take};
use crate::config::Server;
use crate::disk::Disk;
use crate::key::DeviceKey;
use crate::net::est::Answered as Answer;
use crate::net::{IdentityError, NetError, Renewal};
use crate::ports::{Fetch, Network};

/// The user and group of the network half, where the agent is started as root: nobody.
const NOBODY: u32 = 65_534;
/// How much longer than its own time-outs the network half may take: it resolves names, too.
const GRACE: Duration = Duration::from_mins(1);
/// Bytes of an answer to what is posted.
const ANSWER_LEN_MAX: u64 = 256 << 10;

/// The network port, in a process of its own.
pub struct NetworkHalf {
    server: Server,
    begin: Begin,
    renewal: Renewal,
    /// The device's key, which stays on this side.
    key: DeviceKey,
    running: Option<Running>,
    /// Whether one ever ran.
    has_run: bool,
}

struct Running {
    child: Child,
    pipe: UnixStream,
    signing: Signing,
}

impl Running {
    fn ask(&mut self, asked: &Asked) -> io::Result<()> {
        self.signing.begin();
        ask(&mut self.pipe, asked)
    }

    /// Takes an answer; what the half has to have signed for it is signed on the way.
    fn take(&mut self) -> io::Result<Answered> {
        loop {
            match take(&mut self.pipe)? {
                Answered::ToSign(message) => {
                    let signature = self.signing.sign(&message)?;
                    ask(&mut self.pipe, &Asked::Signed { signature })?;
                }
                answered => return Ok(answered),
            }
        }
    }

    /// What the half says failed; the key did, where it did.
    fn fault(&mut self, failed: Failed) -> NetError {
        self.signing.fault().unwrap_or_else(|| failed.into_error())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It ends when its socket is closed; one that does not is ended, where that may be done.
        let _ = self.pipe.shutdown(Shutdown::Both);
        if self.child.kill().is_ok() {
            let _ = self.child.wait();
        }
    }
}

impl NetworkHalf {
    /// For this server. It is started by [`NetworkHalf::start`], or with the first question.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn new(server: &Server, key: DeviceKey) -> Result<Self, IdentityError> {
        Ok(Self {
            begin: begin(server)?,
            key,
            renewal: Renewal::new(
                Rc::new(Disk),
                server.certificate.clone(),
                server.key.clone(),
                server.ca.clone(),
            ),
            server: server.clone(),
            running: None,
            has_run: false,
        })
    }

    /// Starts it, before the writer seals itself; gives what is missing of its walls, in words.
    ///
    /// # Errors
    /// A process that cannot be started, or does not begin as it should.
    pub fn start(&mut self) -> Result<String, NetError> {
        self.running = None;
        let (running, gaps) = self.try_spawn().map_err(|error| lost(&error))?;
        self.running = Some(running);
        self.has_run = true;
        Ok(gaps)
    }

    fn try_spawn(&self) -> io::Result<(Running, String)> {
        let (pipe, other) = UnixStream::pair()?;
        let patience = self.begin.connect_timeout + self.begin.stall_timeout + GRACE;
        pipe.set_read_timeout(Some(patience))?;
        pipe.set_write_timeout(Some(patience))?;
        let child = start(other)?;
        let mut running = Running {
            child,
            pipe,
            signing: Signing::new(self.key.clone()),
        };
        running.ask(&Asked::Begin(Box::new(self.begin.clone())))?;
        match running.take()? {
            Answered::Told(gaps) => Ok((running, gaps)),
            _ => Err(io::Error::other("it does not begin as it should")),
        }
    }

    /// Asks, after starting the half anew where it is gone.
    fn ask(&mut self, asked: &Asked) -> Result<&mut Running, NetError> {
        if self.running.is_none()
            && let Err(error) = self.start()
        {
            if self.has_run {
                // What is sealed starts no other half: this process ends at its next good place,
                // and whoever watches over it starts both.
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::TERM,
                );
            }
            return Err(error);
        }
        let Some(running) = &mut self.running else {
            return Err(lost(&io::ErrorKind::NotConnected.into()));
        };
        match running.ask(asked) {
            Ok(()) => {}
            Err(error) => {
                self.running = None;
                return Err(lost(&error));
            }
        }
        match &mut self.running {
            Some(running) => Ok(running),
            None => Err(lost(&io::ErrorKind::NotConnected.into())),
        }
    }

    /// A whole answer of at most `max_len` bytes.
    fn whole(&mut self, asked: &Asked, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        let running = self.ask(asked)?;
        let read = read_whole(running, max_len);
        read.unwrap_or_else(|error| {
            // It said what it must not, or nothing: there is no going on with it.
            self.running = None;
            Err(lost(&error))
        })
    }
}

/// What the half is told of this device.
fn begin(server: &Server) -> Result<Begin, IdentityError> {
    let text = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| IdentityError {
            path: path.to_owned(),
            what: format!("cannot be read: {error}"),
        })
    };
    let links = server.links.as_ref().map(|links| {
        Ok(Elsewhere {
            hosts: links.hosts.iter().map(ToString::to_string).collect(),
            authorities: text(&links.ca)?,
        })
    });
    Ok(Begin {
        url: server.url.clone(),
        connect_timeout: server.connect_timeout,
        stall_timeout: server.stall_timeout,
        bytes_per_sec_min: server.pace.bytes_per_sec_min,
        window: server.pace.window,
        bytes_per_sec_max: server.bytes_per_sec_max,
        certificate: text(&server.certificate)?,
        authorities: text(&server.ca)?,
        links: links.transpose()?,
    })
}

/// Starts this program anew, with `other` as its stdin; as nobody, where that may be done.
fn start(other: UnixStream) -> io::Result<Child> {
    let command = |other: UnixStream| {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("network")
            .stdin(Stdio::from(OwnedFd::from(other)))
            .stdout(Stdio::null())
            .env_clear()
            .current_dir("/");
        command
    };
    if rustix::process::geteuid().is_root() {
        let spawned = command(other.try_clone()?).uid(NOBODY).gid(NOBODY).spawn();
        match spawned {
            Ok(child) => return Ok(child),
            // Root without the capability, or a program that others may not read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    command(other).spawn()
}

type Whole = Result<Option<Vec<u8>>, NetError>;

fn read_whole(running: &mut Running, max_len: u64) -> io::Result<Whole> {
    let mut bytes = Vec::new();
    loop {
        match running.take()? {
            Answered::Data(piece) => bytes.extend_from_slice(&piece),
            Answered::End => return Ok(Ok(Some(bytes))),
            Answered::NotFound if bytes.is_empty() => return Ok(Ok(None)),
            Answered::Failed(failed) => return Ok(Err(running.fault(failed))),
            Answered::Told(_) | Answered::NotFound | Answered::ToSign(_) => {
                return Err(out_of_turn());
            }
        }
        if bytes.len() as u64 > max_len {
            return Err(io::Error::other("it hands over more than was asked for"));
        }
    }
}

/// The answer to what has nothing to hand over yet.
fn read_end(running: &mut Running) -> io::Result<Result<(), NetError>> {
    match running.take()? {
        Answered::End => Ok(Ok(())),
        Answered::Failed(failed) => Ok(Err(running.fault(failed))),
        _ => Err(out_of_turn()),
    }
}

fn out_of_turn() -> io::Error {
    io::Error::other("it answers out of turn")
}

fn lost(error: &io::Error) -> NetError {
    NetError::new("network-half", format!("the network half failed: {error}"))
}

impl Fetch for NetworkHalf {
    fn fetch(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        let name = name.to_owned();
        self.whole(&Asked::Fetch { name, max_len }, max_len)
    }
}

impl Network for NetworkHalf {
    fn target(
        &mut self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Box<dyn Read + '_>, NetError> {
        let asked = Asked::Target {
            name: name.to_owned(),
            offset,
            length,
        };
        let running = self.ask(&asked)?;
        match read_end(running) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(error) => {
                self.running = None;
                return Err(lost(&error));
            }
        }
        Ok(Box::new(Body {
            half: self,
            piece: Vec::new(),
            at: 0,
            rest: length.saturating_sub(offset),
        }))
    }

    fn tend(&mut self, now: UtcTime) -> Result<bool, NetError> {
        // The key, the certificate and their folder are the writer's; the half carries words.
        let mut renewal = self.renewal.clone();
        let renewed = renewal.tend(now, &mut |_, request| {
            let request = STANDARD.encode(request);
            let answer = self.whole(&Asked::Certify { request }, ANSWER_LEN_MAX)?;
            let answer = answer.ok_or_else(|| lost(&out_of_turn()))?;
            Ok(Answer::Certificates(answer))
        });
        self.renewal = renewal;
        if !renewed? {
            return Ok(false);
        }
        let failed = |error: IdentityError| NetError::new("renewal-failed", error.to_string());
        self.begin = begin(&self.server).map_err(failed)?;
        let begin = Box::new(self.begin.clone());
        self.whole(&Asked::Begin(begin), 0)?;
        Ok(true)
    }

    fn director(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        let name = name.to_owned();
        self.whole(&Asked::Director { name, max_len }, max_len)
    }

    fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, NetError> {
        let asked = Asked::Post {
            path: path.to_owned(),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        let answer = self.whole(&asked, ANSWER_LEN_MAX)?;
        answer.ok_or_else(|| lost(&out_of_turn()))
    }
}

/// A target, piece by piece.
struct Body<'a> {
    half: &'a mut NetworkHalf,
    piece: Vec<u8>,
    at: usize,
    /// Bytes that may still come.
    rest: u64,
}

impl Body<'_> {
    fn next(&mut self) -> io::Result<Answered> {
        let running = self
            .half
            .running
            .as_mut()
            .ok_or(io::ErrorKind::NotConnected)?;
        running.ask(&Asked::More)?;
        running.take()
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let next = self.next().and_then(|next| match next {
                Answered::Data(piece) if piece.len() as u64 <= self.rest => Ok(Some(piece)),
                Answered::End => Ok(None),
                Answered::Failed(failed) => Err(io::Error::other(failed.into_error())),
                _ => Err(out_of_turn()),
            });
            match next {
                Ok(Some(piece)) => {
                    self.rest -= piece.len() as u64;
                    (self.piece, self.at) = (piece, 0);
                }
                Ok(None) => return Ok(0),
                Err(error) => {
                    let error = NetError::from(error);
                    if !error.is_heard() {
                        self.half.running = None;
                    }
                    return Err(io::Error::other(error));
                }
            }
        }
        let count = buf.len().min(self.piece.len() - self.at);
        buf[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
