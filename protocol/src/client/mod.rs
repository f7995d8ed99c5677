//! One refresh, and lookups after it, as a conversation without IO.
//!
//! ```text
//!   loop:  match refresh.step() {
//!            Load(name)        -> answer with the stored bytes, or NotFound
//!            Fetch(wanted)     -> answer with the repository's bytes, or NotFound
//!            Store(name,bytes) -> make them durable, answer Stored
//!            Done              -> refresh.finish() gives Trusted
//!          }
//! ```
//!
//! Contract: `step` may be asked any number of times and changes nothing; each `answer` moves on.
//! After an error the conversation is over. What is to be stored must be durable before it is
//! answered: the next request must not leave before.
//!
//! Order of requests: roots one after the other until there is no next, timestamp, snapshot,
//! targets; then, for a lookup, delegated roles in the order of the walk. A file that is stored
//! and still named is not fetched again.

mod refresh;
mod search;

use alloc::string::String;
use alloc::vec::Vec;

pub use refresh::{Refresh, Source};
pub use search::{Find, Releases, Search};

use crate::limits::Lengths;
use crate::name::RoleName;
use crate::trust::{Complete, TrustedSet};
use crate::version::MetaVersion;

/// A file of the client's own store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalName {
    /// Root, with the version that is to be kept as history beside the current one.
    Root(MetaVersion),
    /// The timestamp.
    Timestamp,
    /// The statement of the last bundle. It is never read as trusted again: it tells what time it
    /// was when it was signed.
    Bundle,
    /// The snapshot.
    Snapshot,
    /// Targets or a delegated role.
    Targets(RoleName),
}

/// A file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name below `metadata/`.
    pub file: String,
    /// Bytes after which reading must stop: more is refused (endless data).
    pub max_len: u64,
}

/// What the conversation needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Stored bytes, if there are any.
    Load(LocalName),
    /// The repository's bytes.
    Fetch(Wanted),
    /// These bytes made durable under this name, replacing what was there.
    Store(LocalName, Vec<u8>),
    /// Nothing.
    Done,
}

/// The caller's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// To [`Step::Load`] and [`Step::Fetch`].
    Bytes(&'a [u8]),
    /// To [`Step::Load`] and [`Step::Fetch`]: there is no such file.
    NotFound,
    /// To [`Step::Store`].
    Stored,
}

/// A finished refresh: targets can be looked up.
#[derive(Debug, Clone)]
pub struct Trusted {
    set: TrustedSet<Complete>,
    lengths: Lengths,
}

impl Trusted {
    /// The trusted metadata.
    pub fn set(&self) -> &TrustedSet<Complete> {
        &self.set
    }
}
