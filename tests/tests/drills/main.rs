//! Recovery drills against live devices: for each key that may be stolen, the theft, what the thief
//! comes to (docs/THREATS.md, "Recovery"), the commands that end it, and the device, which follows
//! and takes the next release.
//!
//! Method: the real programs in one folder, as on the day when it happens. The holders use the
//! signer's commands; the server runs, and ends, and runs again with other keys; the agent asks over
//! mutual TLS and keeps what it trusts on its disk. The thief has copies of the stolen keys and of
//! everything public, forges what these sign, and stands in the server's place with the real server
//! program, its TLS key and all: there the thief wins or is refused by the keys alone.
//!
//! After each recovery the thief tries again with what was stolen, and the device is asked what it
//! runs.

#[path = "../airgap/site.rs"]
#[allow(dead_code, reason = "these sites have a network")]
mod site;

mod device;
mod director;
mod online;
mod product;
mod root;
mod stage;
mod thief;
mod tls;
