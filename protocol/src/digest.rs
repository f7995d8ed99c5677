//! SHA-256, and the hashes and length that metadata gives for a file.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::hex;
use crate::json::{Map, Value};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest is written as 64 hex digits")]
pub struct DigestError;

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From 32 bytes that are a digest already.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 hex digits.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        hex::decode_array(text).map(Self).ok_or(DigestError)
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The digests that metadata gives for one file.
///
/// SHA-256 and SHA-512 are checked, both where both are given; other algorithms are carried and
/// not trusted. A file for which only unknown ones are given cannot be verified at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hashes {
    /// The `sha256` member.
    pub sha256: Option<Digest>,
    /// The `sha512` member. Few files have one, so it does not make all the others larger.
    pub sha512: Option<Box<[u8; 64]>>,
    /// Members with other names, kept as they were.
    pub other: Map,
}

impl Hashes {
    /// SHA-256 alone, as we write it.
    pub fn sha256(digest: Digest) -> Self {
        Self {
            sha256: Some(digest),
            ..Self::default()
        }
    }

    /// Whether there is a digest that we can check.
    pub fn is_checkable(&self) -> bool {
        self.sha256.is_some() || self.sha512.is_some()
    }

    /// Whether `bytes` have all the digests that we can check, and at least one.
    pub fn verify(&self, bytes: &[u8]) -> bool {
        let mut check = HashCheck::new(self);
        check.update(bytes);
        check.finish()
    }

    /// The hex digest that prefixes file names under consistent snapshots: SHA-256 where it is
    /// given, else SHA-512.
    pub fn prefix(&self) -> Option<String> {
        match (&self.sha256, &self.sha512) {
            (Some(digest), _) => Some(hex::encode(digest.as_bytes())),
            (None, Some(digest)) => Some(hex::encode(&**digest)),
            (None, None) => None,
        }
    }

    pub(crate) fn from_map(map: &Map) -> Option<Self> {
        let mut hashes = Self::default();
        for (name, value) in map {
            match name.as_str() {
                "sha256" => hashes.sha256 = Some(Digest::parse(value.as_str()?).ok()?),
                "sha512" => hashes.sha512 = Some(Box::new(hex::decode_array(value.as_str()?)?)),
                _ => {
                    hashes.other.insert(name.clone(), value.clone());
                }
            }
        }
        Some(hashes)
    }

    pub(crate) fn to_map(&self) -> Map {
        let mut map = self.other.clone();
        if let Some(digest) = &self.sha256 {
            map.insert(
                "sha256".into(),
                Value::String(hex::encode(digest.as_bytes())),
            );
        }
        if let Some(digest) = &self.sha512 {
            map.insert("sha512".into(), Value::String(hex::encode(&**digest)));
        }
        map
    }
}

/// A running check of bytes that come in pieces against [`Hashes`].
#[derive(Clone)]
pub struct HashCheck {
    want: Hashes,
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl HashCheck {
    /// Against `want`.
    pub fn new(want: &Hashes) -> Self {
        let sha512 = want.sha512.as_ref().map(|_| Sha512::new());
        Self {
            want: want.clone(),
            sha256: Sha256::new(),
            sha512,
        }
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        if self.want.sha256.is_some() {
            self.sha256.update(bytes);
        }
        if let Some(hasher) = &mut self.sha512 {
            hasher.update(bytes);
        }
    }

    /// Whether every digest that we can check was met, and there was one.
    pub fn finish(self) -> bool {
        let sha256: [u8; 32] = self.sha256.finalize().into();
        let met256 = self.want.sha256.is_none_or(|want| want.0 == sha256);
        let met512 = match (&self.want.sha512, self.sha512) {
            (Some(want), Some(hasher)) => <[u8; 64]>::from(hasher.finalize()) == **want,
            _ => true,
        };
        self.want.is_checkable() && met256 && met512
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn digest_of_the_empty_string() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), hex);
        assert_eq!(Digest::parse(hex), Ok(Digest::of(b"")));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn both_hashes_must_hold_where_both_are_given() {
        let good = Hashes {
            sha256: Some(Digest::of(b"x")),
            sha512: Some(Box::new(Sha512::digest(b"x").into())),
            other: Map::new(),
        };
        assert!(good.verify(b"x"));
        assert!(
            !Hashes {
                sha512: Some(Box::new([0; 64])),
                ..good.clone()
            }
            .verify(b"x")
        );
        assert!(
            !Hashes {
                sha256: Some(Digest::of(b"y")),
                ..good
            }
            .verify(b"x")
        );
    }

    #[test]
    fn unknown_algorithms_alone_verify_nothing() {
        let mut hashes = Hashes::default();
        hashes.other.insert("blake3".into(), "00".into());
        assert!(!hashes.verify(b""));
    }
}
