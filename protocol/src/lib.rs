//! What is true: the metadata of The Update Framework, the rules by which a client comes to
//! trust it, and the words that signer, server and agent speak.
//!
//! Follows the TUF specification 1.0.34 (<https://theupdateframework.github.io/specification/>).
//!
//! ```text
//!   bytes -> Envelope -> Verified<T> -> Fresh<T> -> TrustedTarget -> Release
//!            (format)    (KeyRing)     (UpdateStart)  (delegations)    (custom)
//! ```
//!
//! What this crate will never do: open a file or a socket, read a clock, start a thread, or trust
//! a byte that a threshold of keys did not sign. Time is an argument, bytes come in, decisions go
//! out; the crates around it act.
//!
//! | module | subject |
//! |---|---|
//! | [`json`] | JSON that can be read in one way only, and its canonical form |
//! | [`digest`], [`tree`] | SHA-256, the hashes of a target, the block hash tree |
//! | [`key`], [`sign`] | public keys that verify, secret keys that sign |
//! | [`metadata`] | the four roles and delegations as data |
//! | [`trust`] | what a client may believe, as typestate |
//! | [`client`] | one refresh as a conversation without IO |
//! | [`release`] | what a target means to us |
//! | [`repo`] | the repository side: draft, sign partially, merge |
//! | [`device`] | the words between device and server |
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod client;
pub mod device;
pub mod digest;
pub mod error;
pub mod hex;
pub mod json;
pub mod key;
pub mod limits;
pub mod metadata;
pub mod name;
pub mod paths;
pub mod release;
pub mod repo;
pub mod sign;
pub mod time;
pub mod tree;
pub mod trust;
pub mod version;

/// The version of the TUF specification that we follow and write, as `spec_version`.
pub const SPEC_VERSION: &str = "1.0.34";
