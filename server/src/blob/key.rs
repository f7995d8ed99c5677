//! Names of blobs: what stands below the folder of a published tree.

use std::fmt;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::paths::{METADATA_DIR, TARGETS_DIR, TIMESTAMP_FILE};

/// Bytes of a name; S3 takes 1,024, prefix included.
const LEN_MAX: usize = 900;

/// A name of the tree: `metadata/2.root.json`, `targets/pump/<sha256>.rootfs.img`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// What a name is of, in the order in which a tree is published: whatever comes later leads to
/// what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An artifact, a patch, a release description.
    Target,
    /// The metadata of targets, top-level or delegated.
    Role,
    /// Fixes which of these belong together.
    Snapshot,
    /// Names the keys: it comes late, since from then on nothing that old keys signed is trusted.
    Root,
    /// Says what is newest.
    Timestamp,
}

impl Key {
    /// A name, if it is one of a tree: `metadata/` and one segment, or `targets/` and some; no
    /// segment is empty, begins with a dot, or holds a separator or a control character.
    pub fn parse(name: &str) -> Option<Self> {
        let (folder, rest) = name.split_once('/')?;
        let is_segment = |segment: &str| {
            let is_bad = |c: char| c == '\\' || c.is_control();
            !segment.is_empty() && !segment.starts_with('.') && !segment.contains(is_bad)
        };
        let is_placed = match folder {
            METADATA_DIR => !rest.contains('/'),
            TARGETS_DIR => true,
            _ => false,
        };
        let is_good = is_placed && name.len() <= LEN_MAX && rest.split('/').all(is_segment);
        is_good.then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// What it is of.
    pub fn kind(&self) -> Kind {
        let name = self.file_name();
        if self.0.starts_with(TARGETS_DIR) {
            return Kind::Target;
        }
        match name.split_once('.') {
            _ if name == TIMESTAMP_FILE => Kind::Timestamp,
            Some((_, "snapshot.json")) => Kind::Snapshot,
            Some((_, "root.json")) => Kind::Root,
            _ => Kind::Role,
        }
    }

    /// The digest that the name of a target begins with.
    pub fn digest(&self) -> Option<Digest> {
        let (hash, _) = self.file_name().split_once('.')?;
        Digest::parse(hash)
            .ok()
            .filter(|_| self.kind() == Kind::Target)
    }

    /// Whether its bytes never change: the name holds their digest, or a version.
    pub fn is_immutable(&self) -> bool {
        match self.kind() {
            Kind::Target => self.digest().is_some(),
            Kind::Timestamp => false,
            Kind::Role | Kind::Snapshot | Kind::Root => {
                let version = self.file_name().split_once('.').map_or("", |(v, _)| v);
                !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
            }
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_tree_are_taken_and_others_are_not() {
        for (name, kind) in [
            ("metadata/1.root.json", Kind::Root),
            ("metadata/timestamp.json", Kind::Timestamp),
            ("metadata/7.snapshot.json", Kind::Snapshot),
            ("metadata/7.targets.json", Kind::Role),
            ("metadata/7.a%2Fb.json", Kind::Role),
            ("targets/pump/x.img", Kind::Target),
        ] {
            assert_eq!(Key::parse(name).map(|key| key.kind()), Some(kind), "{name}");
        }
        for name in [
            "",
            "metadata",
            "metadata/",
            "metadata/a/b",
            "targets/../metadata/1.root.json",
            "targets//x",
            "targets/.hidden",
            "targets/a\\b",
            "targets/a\nb",
            "secret/x",
        ] {
            assert_eq!(Key::parse(name), None, "{name:?}");
        }
        assert!(Key::parse(&format!("targets/{}", "x".repeat(LEN_MAX))).is_none());
    }

    #[test]
    fn only_names_with_digest_or_version_never_change() {
        let digest = Digest::of(b"image");
        let is_immutable = |name: &str| Key::parse(name).unwrap().is_immutable();
        assert!(is_immutable(&format!("targets/pump/{digest}.img")));
        assert!(is_immutable("metadata/1.root.json"));
        assert!(!is_immutable("targets/pump/image.img"));
        assert!(!is_immutable("metadata/timestamp.json"));
        assert!(!is_immutable("metadata/root.json"));
    }
}
