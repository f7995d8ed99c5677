//! Other people's clients read what we publish, and our client reads what they publish.
//!
//! One binary, since the peers are costly to link: python-tuf over real HTTP, the crates
//! `sigstore-tuf`, `tough` and `tuf` in process. Where a peer cannot read something, the test says
//! why and fails on the day it can.

mod differential;
mod peers;
mod python;
mod rust_tuf;
#[cfg(feature = "parts")]
mod signer;
mod sigstore;
mod tough;
