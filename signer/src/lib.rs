//! The offline tool of the release engineer.
//!
//! It turns a build and its `release.toml` into a published tree that devices trust: the key
//! ceremony, drafts, deltas, signatures by several holders on machines that never meet, and the
//! publication that a crash cannot halve.
//!
//! ```text
//! release.toml -> Release -> draft in staging/ -> signatures, one by one -> published/
//! ```
//!
//! What it will never do: open a socket. There is no network code in its dependency tree, and
//! `tests/no_network.rs` says so.
//!
//! ```
//! use ampoule_signer::release_toml::ReleaseFile;
//! use ampoule_signer::toml_doc::Document;
//!
//! let text = "product = \"infusion-pump\"\nversion = \"2.4\"\n";
//! let document = Document::parse("release.toml", text).unwrap();
//! assert!(ReleaseFile::read(&document).is_none());
//! let faults = document.check().unwrap_err();
//! assert!(faults.iter().any(|fault| fault.line == Some(2) && fault.what.starts_with("version")));
//! assert!(faults.iter().any(|fault| fault.what == "[sbom] is missing"));
//! ```
//!
//! How one uses it is told in `docs/guide/signing.md`. Each command is a module below
//! [`cli`], thin; what it does is a library function with no terminal in it.

pub mod add;
pub mod blob;
pub mod bundle;
pub mod ceremony;
pub mod cli;
pub mod delta_notes;
pub mod deltas;
pub mod director;
pub mod discard;
pub mod doubt;
pub mod downgrade;
pub mod durable;
pub mod error;
pub mod init;
pub mod keys;
pub mod layout;
pub mod lock;
pub mod progress;
pub mod publish;
pub mod release_toml;
pub mod releases;
pub mod renew;
pub mod request;
pub mod rotate;
pub mod settings;
pub mod sign;
pub mod terminal;
pub mod toml_doc;
pub mod tree;
pub mod verify;
pub mod words;
pub mod workspace;

pub use error::SignerError;
