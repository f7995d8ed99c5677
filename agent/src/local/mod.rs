//! The local interface: a Unix socket for the device's own screen and for whoever serves it.
//!
//! ```text
//!   {"do":"status"}                        → {"ok":{"phase":"waiting","update":{…},"gates":[…],…}}
//!   {"do":"history","last":10}             → {"ok":{"updates":[…]}}
//!   {"do":"consent","update":"<digest>"}   → {"ok":{}}
//!   {"do":"postpone","update":"…","secs":3600} → {"ok":{"until":"…"}}
//!   {"do":"subscribe"}                     → {"ok":{}}, then {"event":"phase",…} and so on
//!   anything that is not taken             → {"error":{"code":"…","text":"…"}}
//! ```
//!
//! One JSON object to a line. Who speaks is known from the kernel (`SO_PEERCRED`), never from what
//! is said. The words are told in `docs/FORMAT.md`.
//!
//! Invariants:
//! - Nothing here can open a gate but a person's agreement, and that one alone.
//! - One thread: sockets never block, and every length, count and time has a bound.
//! - A reader that is slow loses progress lines, then its connection; the update goes on.

mod client;
mod desk;
mod notify;
mod server;

use std::path::PathBuf;

pub use client::{Spoken, speak};
pub use desk::{Caller, Desk, Records, Request, Rights};
pub use notify::Notifier;
pub use server::{Interface, Woken};

/// Bytes of a line that is read.
pub const LINE_LEN_MAX: usize = 4096;
/// Connections at a time.
pub const CLIENTS_MAX: usize = 16;
/// Bytes that wait for a reader; a whole status fits many times.
pub const UNREAD_LEN_MAX: usize = 512 << 10;
/// Updates in one answer to `history`.
pub const HISTORY_MAX: usize = 100;

/// Where the socket is, and who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConfig {
    /// The socket.
    pub socket: PathBuf,
    /// A group whose members' processes may act, beside root and the agent's own user.
    pub group_id: Option<u32>,
    /// What everybody else may do.
    pub others: Rights,
}
