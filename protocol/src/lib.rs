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
//! | [`enrol`] | how a device asks for its certificate |
//! | [`director`] | which release one device gets, and whether both repositories agree |
//! | [`error`], [`fault`] | who is to blame, and all that is wrong with a file |
//!
//! A payload is believed when a threshold of the right keys signed it, and used while it is fresh:
//!
//! ```
//! use ampoule_protocol::metadata::{Envelope, RoleKeys, RoleType, Root};
//! use ampoule_protocol::repo::Draft;
//! use ampoule_protocol::sign::{Ed25519Key, Sign};
//! use ampoule_protocol::time::UtcTime;
//! use ampoule_protocol::trust::{KeyRing, UpdateStart};
//!
//! let now = UtcTime::parse("2026-11-23T13:18:00Z")?;
//! let holder = Ed25519Key::from_seed(&[7; 32])?; // 32 bytes of randomness, elsewhere
//! let key = holder.public_key().to_key();
//!
//! let mut root = Root::new(now.plus_secs(365 * 86_400));
//! root.keys.insert(key.id(), key.clone());
//! root.roles.insert(RoleType::Root, RoleKeys::new(vec![key.id()], 1));
//!
//! let mut draft = Draft::new(&root);
//! draft.sign(&holder)?;
//! let file = draft.to_bytes();
//!
//! let envelope = Envelope::parse(&file)?;
//! let ring = KeyRing::of_root(&root, RoleType::Root);
//! let verified = ring.verify::<Root>("root", &envelope)?;
//! let fresh = verified.fresh("root", UpdateStart::new(Some(now), UtcTime::EPOCH))?;
//! assert_eq!(*fresh, root);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod client;
pub mod device;
pub mod digest;
pub mod director;
pub mod downgrade;
pub mod enrol;
pub mod error;
pub mod fault;
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
