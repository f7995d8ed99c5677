//! The name of a member.
//!
//! A file of thousands of targets says the same few names thousands of times: those of the
//! specification are told apart once and take no memory of their own.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Deref;

use serde::de::{self, DeserializeSeed, Visitor};

/// The name of a member of an object, kept code point by code point.
#[derive(Clone)]
pub struct Name(Text);

#[derive(Clone)]
enum Text {
    Known(&'static str),
    Other(String),
}

/// The name as the program has it, where it is one that files say often.
fn known(name: &str) -> Option<&'static str> {
    Some(match name {
        "custom" => "custom",
        "hashes" => "hashes",
        "keyid" => "keyid",
        "keytype" => "keytype",
        "keyval" => "keyval",
        "length" => "length",
        "name" => "name",
        "paths" => "paths",
        "public" => "public",
        "scheme" => "scheme",
        "sha256" => "sha256",
        "sha512" => "sha512",
        "sig" => "sig",
        "threshold" => "threshold",
        "version" => "version",
        _ => return None,
    })
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Known(name) => name,
            Text::Other(name) => name,
        }
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(known(name).map_or_else(|| Text::Other(name.to_owned()), Text::Known))
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(match known(&name) {
            Some(name) => Text::Known(name),
            None => Text::Other(name),
        })
    }
}

impl From<&String> for Name {
    fn from(name: &String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        match name.0 {
            Text::Known(name) => name.to_owned(),
            Text::Other(name) => name,
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Name {}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    /// By UTF-8 bytes, which is by code point.
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// Reads a name.
pub(super) struct Seed;

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Name;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Seed {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(name.into())
    }

    fn visit_string<E>(self, name: String) -> Result<Name, E> {
        Ok(name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    /// Catches a known name that stands for another one.
    #[test]
    fn a_name_is_what_it_was_made_of() {
        for text in [
            "custom", "hashes", "length", "sha256", "sig", "version", "", "Length", "x",
        ] {
            let (borrowed, owned) = (Name::from(text), Name::from(text.to_string()));
            assert_eq!(borrowed.as_str(), text);
            assert_eq!(borrowed, owned);
            assert_eq!(String::from(owned), text);
            if let Some(known) = known(text) {
                assert_eq!(known, text);
            }
        }
        let mut names = ["sig", "hashes2", "a", "hashes"].map(Name::from);
        names.sort();
        assert_eq!(names, ["a", "hashes", "hashes2", "sig"]);
    }
}
