//! The server on loopback, as a process of its own that ends with its guard.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Room, cannot, signer};
use crate::shell::{Fault, Outcome};

/// How long a server may take to say that it listens, or to end.
const PATIENCE: Duration = Duration::from_mins(2);

/// What differs between the servers of this world.
pub(crate) struct Settings<'a> {
    /// The tree that it serves, in the room.
    pub(crate) tree: &'a str,
    /// Its timestamp key; without one it serves the timestamp that lies in the tree.
    pub(crate) timestamp_key: Option<&'a str>,
    /// The port; 0 takes a free one.
    pub(crate) port: u16,
    /// How often a device is told to look, in seconds.
    pub(crate) poll_interval_secs: u32,
    /// Further lines of the configuration.
    pub(crate) more: &'a str,
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    address: String,
}

/// Makes the authority that devices and server trust.
pub(crate) fn make_ca(room: &Room) -> Outcome {
    room.run("ampoule-server", &["dev-ca", "--dir", "server/pki"])?;
    Ok(())
}

/// All that a server of the workspace's own tree needs, and one device that it knows.
pub(crate) fn ready(room: &Room, device: &str) -> Outcome {
    make_ca(room)?;
    let settings = Settings {
        tree: signer::TREE,
        timestamp_key: Some(signer::TIMESTAMP_KEY),
        port: 0,
        poll_interval_secs: 300,
        more: "",
    };
    configure(room, &settings)?;
    enroll(room, device)
}

/// Writes `server/server.toml`.
pub(crate) fn configure(room: &Room, settings: &Settings<'_>) -> Outcome {
    let Settings {
        tree,
        timestamp_key,
        port,
        poll_interval_secs,
        more,
    } = settings;
    let mut text = format!(
        r#"[devices]
listen = "127.0.0.1:{port}"
certificate = "pki/server.pem"
key = "pki/server.key"
client_ca = "pki/ca.pem"
poll_interval_secs = {poll_interval_secs}
{more}
[admin]
socket = "{}"

[tree]
path = "../{tree}"

[store]
path = "store"
"#,
        admin_socket(room)
    );
    if let Some(key) = timestamp_key {
        text += &["\n[timestamp]\nkey = \"../", key, "\"\n"].concat();
    }
    room.write("server/server.toml", text)?;
    Ok(())
}

/// A socket's name has little room, so it does not lie in a folder of any depth.
fn admin_socket(room: &Room) -> String {
    let near = room.path("server/admin.sock");
    if near.as_os_str().len() < 100 {
        return "admin.sock".into();
    }
    let far = std::env::temp_dir().join(format!("ampoule-{}.sock", std::process::id()));
    far.display().to_string()
}

/// Issues a device's certificate and enrols it.
pub(crate) fn enroll(room: &Room, device: &str) -> Outcome {
    room.run(
        "ampoule-server",
        &[
            "enroll",
            "--config",
            "server/server.toml",
            "--dir",
            "device/identity",
            device,
        ],
    )?;
    Ok(())
}

impl Server {
    /// Starts the server that is configured; `wrapper` may be a program that starts it, such as
    /// `taskset`, with its arguments.
    pub(crate) fn start(room: &Room, wrapper: &[&str]) -> Outcome<Self> {
        let plain = room.program("ampoule-server", &["run", "--config", "server/server.toml"]);
        let mut command = match wrapper.split_first() {
            None => plain,
            Some((program, arguments)) => wrapped(program, arguments, &plain),
        };
        let log = room.path("server/server.log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|e| cannot("write", &log, &e))?;
        room.say("$ ampoule-server run --config server/server.toml &");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| Fault::new("cannot start the server").because(e))?;
        match wait_for_address(&mut child) {
            Ok(address) => Ok(Self { child, address }),
            Err(fault) => {
                // It may be gone already.
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(room.path("server/server.log"));
                let last = log
                    .unwrap_or_default()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .to_owned();
                Err(fault.because(last).hint("see server/server.log"))
            }
        }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its port.
    pub(crate) fn port(&self) -> Outcome<u16> {
        let port = self
            .address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        port.ok_or_else(|| Fault::new(format!("\"{}\" has no port", self.address)))
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as an administrator would, and waits until its store is closed.
    pub(crate) fn stop(mut self) -> Outcome {
        let id = self.child.id().to_string();
        crate::shell::quietly(Command::new("kill").args(["-TERM", &id]))?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Fault::new("the server did not end when it was told to"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wrapped(program: &str, arguments: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(inner.get_program())
        .args(inner.get_args());
    if let Some(folder) = inner.get_current_dir() {
        command.current_dir::<&Path>(folder);
    }
    command
}

/// The server prints one line when it listens; scripts wait for it.
fn wait_for_address(child: &mut Child) -> Outcome<String> {
    let out = child
        .stdout
        .take()
        .ok_or_else(|| Fault::new("the server has no output"))?;
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // An end without a line is sent as an empty one.
        let _ = BufReader::new(out).read_line(&mut line);
        let _ = send.send(line);
    });
    let line = receive.recv_timeout(PATIENCE).unwrap_or_default();
    line.trim()
        .strip_prefix("listening on ")
        .map(str::to_owned)
        .ok_or_else(|| Fault::new("the server did not start"))
}
