//! The sealed process: what listens to the network cannot touch the device, and what touches the
//! device cannot speak to the network.
//!
//! ```text
//!   writer (this process)                      network half (a child)
//!   machine, journal, slots, boot control      TLS, HTTP, names
//!   the device's key: handshakes, receipts
//!        NetworkHalf ──── a socket pair ──── serve ──── the server
//!        requests, 64 KiB pieces              no files but those that resolve names, no program,
//!        (`words`, every length bounded)      one port, no privileges, another user
//! ```
//!
//! - The network half is this program, started anew with nothing but one end of a socket pair, and
//!   told over it what it needs: address and certificates. It never sees a path of the device, and not its
//!   key: the writer signs its handshakes, and signs nothing else for it (`handshake`).
//! - It is started before the writer seals itself, since what is sealed cannot start a child that
//!   is less so. Where it ends, the writer's network fails; a writer that cannot start another one
//!   says so, and whoever watches over it starts both again.
//! - What the kernel cannot do is told ([`Walls::gaps`]), and nothing fails for it: an old kernel must
//!   not keep a device from its updates.
//!
//! Invariants:
//! - The writer believes nothing of the network half: lengths are checked while reading, and what
//!   it hands over is verified like bytes from the network, which it is.
//! - The core stays one thread.
//!
//! Gap: a writer that runs programs of its configuration (health, gates, restart, boot control, modules,
//! a key behind a command) keeps what those may need: it may start programs and open sockets, and is not
//! confined to its folders.

mod half;
mod handshake;
mod pipe;
mod walls;
mod words;
mod writer;

pub use half::run;
pub use pipe::NetworkHalf;
pub use walls::{Walls, network, writer_alone, writer_with_programs};
pub use writer::seal;
