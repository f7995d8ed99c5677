//! What systemd wants to hear (`sd_notify(3)`): ready, status, stopping, and the watchdog.
//!
//! A datagram to the socket that `NOTIFY_SOCKET` names; without one, silence. The watchdog is
//! pinged from the loop itself and between pieces of long work, so that a loop that hangs is seen.

use std::cell::Cell;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// Speaks to the service manager, if there is one.
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Half of what the watchdog allows.
    interval: Option<Duration>,
    last: Cell<Instant>,
}

impl Notifier {
    /// As the environment of this process says.
    pub fn from_environment() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|path| {
            let bytes = path.as_bytes();
            match bytes.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name).ok(),
                None => SocketAddr::from_pathname(&path).ok(),
            }
        });
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let micros = std::env::var("WATCHDOG_USEC").ok();
        let micros = micros.and_then(|micros| micros.parse::<u64>().ok());
        let pid = std::env::var("WATCHDOG_PID").ok();
        let is_ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
        Self {
            socket,
            interval: micros
                .filter(|_| is_ours)
                .map(|micros| Duration::from_micros(micros / 2)),
            last: Cell::new(Instant::now()),
        }
    }

    /// The daemon serves.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// The daemon ends by itself.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Pings the watchdog where it is time.
    pub fn alive(&self) {
        if let Some(interval) = self.interval
            && self.last.get().elapsed() >= interval / 2
        {
            self.last.set(Instant::now());
            self.send("WATCHDOG=1");
        }
    }

    /// How long a wait may be, so that the watchdog is pinged in time.
    pub fn wait_max(&self) -> Duration {
        self.interval
            .map_or(Duration::MAX, |interval| interval / 2)
            .max(Duration::from_millis(10))
    }

    fn send(&self, words: &str) {
        if let Some((socket, address)) = &self.socket {
            // A service manager that does not listen stops no update.
            let _ = socket.send_to_addr(words.as_bytes(), address);
        }
    }
}
