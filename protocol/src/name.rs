//! Names, parsed at the edge: inside there is nothing left to validate.
//!
//! Names are compared byte by byte: no case folding, no Unicode normalisation. A name in NFD is
//! another name than the same word in NFC, as it is for python-tuf.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt::{self, Write as _};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::NAME_LEN_MAX;

/// A text that cannot be such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a {kind}: {rule}")]
pub struct NameError {
    /// What it was read as.
    pub kind: &'static str,
    /// The rule that it breaks.
    pub rule: &'static str,
    /// Its beginning.
    pub text: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Reads it from text.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(rule) => {
                        let text = text.chars().take(64).collect();
                        Err(NameError { kind: $kind, rule, text })
                    }
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl core::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The path of a target, as metadata names it: relative, segments joined by `/`.
    TargetPath,
    "target path",
    target_path
);
name!(
    /// The name of a role. Any text but the empty one; it becomes a file name by
    /// [`RoleName::file_stem`].
    RoleName,
    "role name",
    role_name
);
name!(
    /// Who a device is: from its client certificate and nowhere else.
    DeviceId,
    "device id",
    plain
);
name!(
    /// What an image fits.
    HardwareId,
    "hardware id",
    plain
);
name!(
    /// A product; also the name of its role and the first segment of its target paths.
    ProductName,
    "product name",
    product
);
name!(
    /// An updatable part of a device.
    ComponentName,
    "component name",
    plain
);

impl RoleName {
    /// The role `targets` itself.
    pub fn targets() -> Self {
        Self("targets".into())
    }

    /// The name percent-encoded, safe as a file name and URL segment on every system: letters,
    /// digits and `-_.~` stand as they are, all else as `%XX`; a name of dots alone is encoded.
    pub fn file_stem(&self) -> String {
        percent_encode(&self.0)
    }
}

impl TargetPath {
    /// The last segment.
    pub fn base_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

pub(crate) fn percent_encode(text: &str) -> String {
    let all_dots = text.bytes().all(|byte| byte == b'.');
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'~')
            || (byte == b'.' && !all_dots);
        if plain {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

type Check = Result<(), &'static str>;

fn bounded(text: &str) -> Check {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > NAME_LEN_MAX {
        return Err("it is longer than 1024 bytes");
    }
    Ok(())
}

fn role_name(text: &str) -> Check {
    bounded(text)
}

/// Other repositories may use odd paths, and a path is only ever looked up, hashed or joined
/// below a folder or a URL: what must not happen is that it leads out of there, or that a URL, a
/// terminal or another system's file names read it as something else than it says.
fn target_path(text: &str) -> Check {
    bounded(text)?;
    if !text.bytes().all(is_harmless) {
        target_path_characters(text)?;
    }
    if text.starts_with('/') {
        return Err("it begins with a slash");
    }
    if text
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return Err("it has an empty segment or one of dots");
    }
    Ok(())
}

/// The rules of [`target_path`] on single characters.
fn target_path_characters(text: &str) -> Check {
    if text.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    if text.contains('\\') {
        return Err("it has a backslash");
    }
    if text.contains(['?', '#', '%', ':']) {
        return Err("it has one of '?', '#', '%' and ':', which URLs read as something else");
    }
    Ok(())
}

/// What nearly all paths are made of; [`target_path_characters`] has nothing against these.
fn is_harmless(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.')
}

fn plain(text: &str) -> Check {
    bounded(text)?;
    if text.len() > 128 {
        return Err("it is longer than 128 bytes");
    }
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.bytes().all(fine) {
        return Err("only letters, digits, '-', '_' and '.' may stand in it");
    }
    if text.starts_with(['.', '-']) {
        return Err("it begins with '.' or '-'");
    }
    Ok(())
}

fn product(text: &str) -> Check {
    plain(text)?;
    if matches!(text, "root" | "targets" | "snapshot" | "timestamp") {
        return Err("it is the name of a top-level role");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_path_stays_below_its_folder() {
        for bad in [
            "", "/a", "a//b", "../a", "a/../b", "a/.", "a\\b", "a\0", "a/",
        ] {
            assert!(TargetPath::parse(bad).is_err(), "{bad}");
        }
        for good in ["a", "dir/f", "a b/ü", "..a/b..", "a+b~1@x"] {
            assert!(TargetPath::parse(good).is_ok(), "{good}");
        }
        assert!(TargetPath::parse(&"a".repeat(1025)).is_err());
    }

    /// Planted: without the rule on '%', `a%2e` and `a.` are one file behind most servers.
    #[test]
    fn a_target_path_has_one_reading() {
        for bad in [
            "a?b", "a#b", "a%2e", "a%2fb", "C:/a", "a\nb", "a\x1b[2J", "a\x7f", "a\u{85}b",
        ] {
            assert!(TargetPath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn role_names_become_safe_file_names() {
        for (name, stem) in [
            ("infusion-pump", "infusion-pump"),
            ("../x", "..%2Fx"),
            ("..", "%2E%2E"),
            ("?#ü", "%3F%23%C3%BC"),
        ] {
            assert_eq!(RoleName::parse(name).expect("a name").file_stem(), stem);
        }
    }

    #[test]
    fn a_product_is_no_top_level_role() {
        assert!(ProductName::parse("root").is_err());
        assert!(ProductName::parse("infusion-pump").is_ok());
        assert!(DeviceId::parse("pump/7").is_err());
    }
}
