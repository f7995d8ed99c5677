//! The socket: connections, lines and events, without ever blocking.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use serde_json::Value;

use super::desk::{Caller, Desk, Request, Rights, gates};
use super::{CLIENTS_MAX, LINE_LEN_MAX, LocalConfig, UNREAD_LEN_MAX};
use crate::gate::Asked;

/// Lines of one client that are answered before the others have their turn.
const LINES_PER_TURN: usize = 8;

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The time is over.
    Time,
    /// Somebody agreed, withdrew or put off: the gates are worth asking.
    Act,
}

/// The listening socket and its connections.
pub struct Interface {
    listener: UnixListener,
    path: PathBuf,
    config: LocalConfig,
    desk: Desk,
    clients: Vec<Client>,
    asked: Vec<Asked>,
    has_acted: bool,
}

struct Client {
    stream: UnixStream,
    caller: Caller,
    input: Vec<u8>,
    output: Vec<u8>,
    is_subscribed: bool,
    is_gone: bool,
}

impl Interface {
    /// Listens. A socket that a former life left behind is replaced: the caller holds the lock of
    /// the agent's folder, so nobody listens on it.
    ///
    /// # Errors
    /// As the system says.
    pub fn bind(config: LocalConfig, desk: Desk) -> io::Result<Self> {
        let path = config.socket.clone();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        // Who may connect is the first line; what they may do is decided by who they are.
        let is_open = config.group_id.is_some() || config.others != Rights::Nothing;
        let mode = if is_open { 0o666 } else { 0o600 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path,
            config,
            desk,
            clients: Vec::new(),
            asked: Vec::new(),
            has_acted: false,
        })
    }

    /// Serves until `time` is over, or somebody acts.
    pub fn wait(&mut self, time: Duration) -> Woken {
        let deadline = Instant::now() + time;
        loop {
            self.pump();
            if std::mem::take(&mut self.has_acted) {
                return Woken::Act;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::Time;
            }
            if self.poll(left).is_err() {
                // A poll that fails must not become a loop that burns.
                std::thread::sleep(left.min(Duration::from_secs(1)));
            }
        }
    }

    fn poll(&self, time: Duration) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        for client in &self.clients {
            let mut flags = PollFlags::IN;
            if !client.output.is_empty() {
                flags |= PollFlags::OUT;
            }
            fds.push(PollFd::from_borrowed_fd(client.stream.as_fd(), flags));
        }
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what is there and goes on; called between pieces of long work too.
    pub fn pump(&mut self) {
        self.accept();
        let mut clients = std::mem::take(&mut self.clients);
        for client in &mut clients {
            client.read();
            for _ in 0..LINES_PER_TURN {
                let Some(line) = client.line() else { break };
                self.answer(client, &line);
            }
            client.write();
        }
        clients.retain(|client| !client.is_gone);
        self.clients = clients;
    }

    fn answer(&mut self, client: &mut Client, line: &[u8]) {
        let (answer, request) = self.desk.answer_line(line, &client.caller, &self.asked);
        let is_done = answer.get("ok").is_some();
        if let (true, Some(request)) = (is_done, &request) {
            client.is_subscribed |= matches!(request, Request::Subscribe {});
            self.has_acted |= request.is_act();
        }
        client.send(&answer);
    }

    fn accept(&mut self) {
        // As many in one turn as there may be in all.
        for _ in 0..CLIENTS_MAX {
            let Ok((stream, _)) = self.listener.accept() else {
                return;
            };
            let Some(caller) = self.caller(&stream) else {
                continue;
            };
            if caller.rights == Rights::Nothing || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if !self.has_room_for(caller.rights) {
                continue;
            }
            self.clients.push(Client {
                stream,
                caller,
                input: Vec::new(),
                output: Vec::new(),
                is_subscribed: false,
                is_gone: false,
            });
        }
    }

    /// Who has hung up makes room first; then readers give way to those who may act, so that
    /// nobody is shut out by onlookers.
    fn has_room_for(&mut self, rights: Rights) -> bool {
        if self.clients.len() < CLIENTS_MAX {
            return true;
        }
        self.clients.retain_mut(|client| {
            client.read();
            client.write();
            !client.is_gone
        });
        if self.clients.len() < CLIENTS_MAX {
            return true;
        }
        let lesser = |client: &Client| client.caller.rights < rights;
        match self.clients.iter().position(lesser) {
            Some(index) => {
                self.clients.remove(index);
                true
            }
            None => false,
        }
    }

    fn caller(&self, stream: &UnixStream) -> Option<Caller> {
        let peer = socket_peercred(stream).ok()?;
        let (user, group) = (peer.uid.as_raw(), peer.gid.as_raw());
        let own = rustix::process::geteuid().as_raw();
        let may_act = user == 0 || user == own || self.config.group_id == Some(group);
        Some(Caller {
            name: format!("uid {user}"),
            rights: if may_act {
                Rights::Act
            } else {
                self.config.others
            },
        })
    }

    /// Keeps what the gates said, and tells it.
    pub fn gates(&mut self, asked: &[Asked]) {
        if self.asked == asked {
            return;
        }
        self.asked = asked.to_vec();
        self.tell("gates", serde_json::json!({ "gates": gates(asked) }));
    }

    /// Tells subscribers what happened. Progress is left out for those who do not keep up.
    pub fn tell(&mut self, event: &str, mut what: Value) {
        what["event"] = event.into();
        let is_progress = event == "progress";
        for client in &mut self.clients {
            let keeps_up = client.output.is_empty() || !is_progress;
            if client.is_subscribed && keeps_up {
                client.send(&what);
                client.write();
            }
        }
        self.clients.retain(|client| !client.is_gone);
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Client {
    fn read(&mut self) {
        let mut piece = [0; 1024];
        while self.input.len() <= LINE_LEN_MAX {
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    // Half closed: what was asked is still answered.
                    self.is_gone = !self.input.contains(&b'\n') && self.output.is_empty();
                    return;
                }
                Ok(count) => self.input.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_gone = true;
                    return;
                }
            }
        }
    }

    /// The next whole line; a line that is too long ends the connection.
    fn line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else {
            self.is_gone |= self.input.len() > LINE_LEN_MAX;
            return None;
        };
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        Some(line)
    }

    fn send(&mut self, value: &Value) {
        let line = value.to_string();
        if self.output.len() + line.len() >= UNREAD_LEN_MAX {
            self.is_gone = true;
            return;
        }
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
    }

    fn write(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_gone = true;
                    return;
                }
            }
        }
    }
}
