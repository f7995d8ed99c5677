//! The small words of a release description.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::name::ComponentName;

/// A text that is not such a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not {expected}")]
pub struct WordError {
    /// Its beginning.
    pub text: String,
    /// What was expected.
    pub expected: &'static str,
}

impl WordError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(64).collect(),
            expected,
        }
    }
}

/// Why a release is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// It closes a vulnerability.
    Security,
    /// It changes what the device does.
    Functional,
    /// It does both.
    Both,
}

impl Class {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::Functional => "functional",
            Self::Both => "both",
        }
    }
}

/// When programs see a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// After the next start of the device.
    #[default]
    Restart,
    /// At once, where the device's own configuration allows it: configuration, drug libraries,
    /// content. A device that does not allow it restarts.
    Live,
}

impl Activation {
    /// Whether it is what it is unless a release says otherwise.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    pub(crate) const fn is_restart(&self) -> bool {
        matches!(self, Self::Restart)
    }

    /// Reads `restart` or `live`.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        match text {
            "restart" => Ok(Self::Restart),
            "live" => Ok(Self::Live),
            _ => Err(WordError::new(text, "restart or live")),
        }
    }
}

/// How a component is installed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Install {
    /// Into the inactive one of two slots.
    Slot,
    /// As a directory, activated by a symlink.
    Tree,
    /// By replacing one file.
    File,
    /// By a program that speaks the Update Modules v3 protocol.
    Module(ComponentName),
}

impl Install {
    /// Reads `slot`, `tree`, `file` or `module:<name>`.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        match text {
            "slot" => Ok(Self::Slot),
            "tree" => Ok(Self::Tree),
            "file" => Ok(Self::File),
            _ => text
                .strip_prefix("module:")
                .and_then(|name| ComponentName::parse(name).ok())
                .map(Self::Module)
                .ok_or_else(|| WordError::new(text, "slot, tree, file or module:<name>")),
        }
    }
}

impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot => f.write_str("slot"),
            Self::Tree => f.write_str("tree"),
            Self::File => f.write_str("file"),
            Self::Module(name) => write!(f, "module:{name}"),
        }
    }
}

/// The version of a release, for people: SemVer 2.0.0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseVersion(semver::Version);

impl ReleaseVersion {
    /// Reads `MAJOR.MINOR.PATCH` with optional pre-release and build parts.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        if text.len() > 64 {
            return Err(WordError::new(text, "a version of at most 64 bytes"));
        }
        semver::Version::parse(text)
            .map(Self)
            .map_err(|_| WordError::new(text, "a version like 2.4.1 (SemVer)"))
    }
}

impl fmt::Display for ReleaseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a version must be: `>=2024.01, <2025`.
///
/// Boot loaders and operating systems do not number by SemVer, so versions here are numbers joined
/// by dots, compared one by one; a missing one counts as zero, leading zeros do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    text: String,
    bounds: Vec<(Relation, Vec<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
}

const REQUIREMENT: &str = "a requirement like >=2024.01, <2025";

impl Requirement {
    /// Reads one or more bounds, joined by commas.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let wrong = || WordError::new(text, REQUIREMENT);
        if text.len() > 128 {
            return Err(wrong());
        }
        let bound = |part: &str| {
            let part = part.trim();
            let (relation, version) = [
                (">=", Relation::AtLeast),
                ("<=", Relation::AtMost),
                ("==", Relation::Equal),
                (">", Relation::Greater),
                ("<", Relation::Less),
                ("=", Relation::Equal),
            ]
            .iter()
            .find_map(|(sign, relation)| Some((*relation, part.strip_prefix(sign)?)))
            .ok_or_else(wrong)?;
            Ok((relation, numbers(version.trim()).ok_or_else(wrong)?))
        };
        let bounds = text
            .split(',')
            .map(bound)
            .collect::<Result<_, WordError>>()?;
        Ok(Self {
            text: text.to_owned(),
            bounds,
        })
    }

    /// Whether `version` meets every bound; a version that is not numbers and dots meets none.
    pub fn is_met_by(&self, version: &str) -> bool {
        let Some(version) = numbers(version) else {
            return false;
        };
        self.bounds.iter().all(|(relation, bound)| {
            let order = compare(&version, bound);
            match relation {
                Relation::Less => order == Ordering::Less,
                Relation::AtMost => order != Ordering::Greater,
                Relation::Equal => order == Ordering::Equal,
                Relation::AtLeast => order != Ordering::Less,
                Relation::Greater => order == Ordering::Greater,
            }
        })
    }
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok())?
    };
    text.split('.').map(number).collect()
}

fn compare(a: &[u64], b: &[u64]) -> Ordering {
    let number = |list: &[u64], index| list.get(index).copied().unwrap_or(0);
    (0..a.len().max(b.len()))
        .map(|index| number(a, index).cmp(&number(b, index)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

macro_rules! as_text {
    ($($name:ident),*) => { $(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_string())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )* };
}

as_text!(Install, ReleaseVersion, Requirement);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_compare_numbers() {
        let met = |requirement: &str, version: &str| {
            Requirement::parse(requirement)
                .expect("a requirement")
                .is_met_by(version)
        };
        assert!(met(">=2024.01", "2024.1"));
        assert!(met(">=2024.01", "2024.07"));
        assert!(!met(">=2024.01", "2023.10"));
        assert!(met(">=2024.01, <2025", "2024.10.3"));
        assert!(!met(">=2024.01, <2025", "2025.0"));
        assert!(met("=1.0", "1"));
        assert!(!met(">1", "1.0.0"));
        assert!(!met(">=1", "1.0-rc1"));
        assert!(!met(">=1", ""));
        for wrong in ["", "1.0", ">=", ">=x", ">=1,", "~1"] {
            assert!(Requirement::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn install_words() {
        for word in ["slot", "tree", "file", "module:deb"] {
            assert_eq!(Install::parse(word).expect("a word").to_string(), word);
        }
        for wrong in ["", "Slot", "module:", "module:a/b"] {
            assert!(Install::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn versions_are_semver() {
        let v = |text: &str| ReleaseVersion::parse(text).expect("a version");
        assert!(v("2.4.1-rc.1") < v("2.4.1"));
        assert!(v("2.10.0") > v("2.9.9"));
        assert!(ReleaseVersion::parse("2.4").is_err());
        assert!(ReleaseVersion::parse("02.4.1").is_err());
    }
}
