//! The metadata model (TUF 1.0.34 section 4): what the files say, before anybody believes it.
//!
//! ```json
//! {"signatures":[{"keyid":"4f2a…","sig":"30…"}],
//!  "signed":{"_type":"timestamp","spec_version":"1.0.34","version":3,
//!            "expires":"2026-12-01T00:00:00Z","meta":{"snapshot.json":{"version":3}}}}
//! ```
//!
//! Invariants:
//! - A payload is parsed from the very value whose canonical form was verified.
//! - Unknown members are kept and written back, so that a file survives a reader older than its
//!   writer.
//! - What we write, python-tuf reads: no nulls, no floats, no empty hash lists, whole seconds.

mod bundle;
mod delegations;
mod envelope;
mod fields;
mod root;
mod snapshot;
mod targets;
mod timestamp;

use core::fmt;

use alloc::string::String;

pub use bundle::{Bundle, NotFor};
pub use delegations::{DelegatedRole, Delegations, Listing, SuccinctBins, Trusts};
pub use envelope::{Envelope, EnvelopeError, Signature};
pub use root::{RoleKeys, Root};
pub use snapshot::{MetaFile, Snapshot};
pub use targets::{TargetFile, Targets};
pub use timestamp::Timestamp;

use crate::json::{Map, Value};
use crate::time::UtcTime;
use crate::version::MetaVersion;

/// The four kinds of metadata; delegated roles are of the kind targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleType {
    /// Names the keys of every role.
    Root,
    /// Says, for a short while, what is newest.
    Timestamp,
    /// Fixes which targets versions belong together.
    Snapshot,
    /// Describes files.
    Targets,
}

impl RoleType {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets];

    /// The `_type` in metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }
}

impl fmt::Display for RoleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A payload that is signed as metadata is.
pub trait Payload: Sized {
    /// The role whose keys sign it where root names them.
    const TYPE: RoleType;
    /// Its `_type`. No two payloads share one: what was signed as one is never read as another.
    const NAME: &'static str = Self::TYPE.as_str();

    /// Reads the `signed` member.
    ///
    /// # Errors
    /// Whatever breaks the format of section 4, with the place.
    fn from_signed(signed: &Value) -> Result<Self, FormatError>;

    /// The `signed` member as we write it.
    fn to_signed(&self) -> Value;

    /// Its version.
    fn version(&self) -> MetaVersion;

    /// From when on it is expired.
    fn expires(&self) -> UtcTime;
}

/// Metadata that breaks the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct FormatError {
    /// Where, as members joined by dots.
    pub place: String,
    /// What was found, or expected.
    pub what: String,
}

impl FormatError {
    pub(crate) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }
}

/// What every payload has beside its own members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// Its version, from 1.
    pub version: MetaVersion,
    /// From when on it is expired.
    pub expires: UtcTime,
    /// The specification that it follows, `1.x` or `1.x.y`.
    pub spec_version: String,
    /// Members that we do not know, kept.
    pub extra: Map,
}

impl Common {
    /// A first version by our specification.
    pub fn new(expires: UtcTime) -> Self {
        Self {
            version: MetaVersion::FIRST,
            expires,
            spec_version: crate::SPEC_VERSION.into(),
            extra: Map::new(),
        }
    }

    /// The next version, with a new expiry.
    ///
    /// # Errors
    /// At the end of the numbers.
    pub fn bump(&mut self, expires: UtcTime) -> Result<(), FormatError> {
        let next = self.version.next();
        self.version = next.ok_or_else(|| FormatError::new("version", "no number is left"))?;
        self.expires = expires;
        Ok(())
    }
}
