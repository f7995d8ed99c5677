//! Small named records for whoever needs them: accounts, sessions, approvals.
//!
//! A record is found by its [`Kind`] and [`Key`] and carries a version. A write names the version
//! that it saw, and is refused ([`super::Written::Conflict`]) where the record has another one:
//! two who change the same record never lose one of the two changes. Versions come from one
//! counter of the store and are never used twice, so that a record that was removed and made anew
//! is not taken for the old one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of one record.
pub const RECORD_LEN_MAX: usize = 64 * 1024;
/// Records that are written as one.
pub const TOGETHER_MAX: usize = 64;
/// Bytes of a kind's name.
const KIND_LEN_MAX: usize = 32;
/// Bytes of a key.
const KEY_LEN_MAX: usize = 200;

/// What a record is: `account`, `session`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kind(String);

/// Which of its kind it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// Why a name is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// See [`Kind::parse`].
    #[error("the kind {0:?} is not 1 to 32 small letters, digits and hyphens")]
    Kind(String),
    /// See [`Key::parse`].
    #[error("the key {0:?} is not 1 to 200 bytes of text without control characters")]
    Key(String),
}

impl Kind {
    /// 1 to 32 small letters, digits and hyphens.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=KIND_LEN_MAX).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Kind(text.to_owned()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Key {
    /// 1 to 200 bytes of text without control characters.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if (1..=KEY_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Key(text.to_owned()))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Kind {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl TryFrom<String> for Key {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.0
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which of its kind.
    pub key: Key,
    /// Its version, at least 1.
    pub version: u64,
    /// What it holds. Secrets in it are sealed before ([`crate::secrets`]).
    pub bytes: Vec<u8>,
}

/// What a writer thinks is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is.
    Any,
    /// No record.
    Absent,
    /// The record of this version.
    Version(u64),
}

impl Expected {
    /// Whether `found`, a version or none, is what was expected.
    pub fn is(self, found: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Version(version) => found == Some(version),
        }
    }
}

/// The names of locks that devices hold ([`crate::rollout::lock`]). They are the one kind of record of
/// which servers tell each other ([`super::News::Lock`]).
pub mod lock {
    use super::{Key, Kind};

    const KIND: &str = "lock";

    /// What they are.
    pub fn kind() -> Kind {
        Kind(KIND.to_owned())
    }

    /// The one of the device of this number; as wide as the largest, so in order.
    pub fn key(device: u32) -> Key {
        Key(format!("{device:010}"))
    }

    /// The number of the device whose lock it is, if it is one.
    pub fn device_of(kind: &Kind, key: &Key) -> Option<u32> {
        (kind.0 == KIND).then(|| key.0.parse().ok()).flatten()
    }
}

/// One change of one record.
#[derive(Debug, Clone)]
pub struct RecordWrite {
    /// What it is.
    pub kind: Kind,
    /// Which one.
    pub key: Key,
    /// What should be there.
    pub expected: Expected,
    /// What is there then, at most [`RECORD_LEN_MAX`] bytes; nothing removes the record.
    pub bytes: Option<Vec<u8>>,
}
