//! File names in a published tree (TUF 1.0.34 section 6.2, consistent snapshots).
//!
//! ```text
//! metadata/1.root.json   metadata/timestamp.json   metadata/7.snapshot.json
//! metadata/3.targets.json   metadata/5.infusion-pump.json
//! targets/infusion-pump/<sha256>.rootfs-2.4.1.img
//! ```

use alloc::format;
use alloc::string::{String, ToString};

use crate::digest::Hashes;
use crate::name::{RoleName, TargetPath};
use crate::version::MetaVersion;

/// The folder of metadata in a published tree.
pub const METADATA_DIR: &str = "metadata";
/// The folder of targets in a published tree.
pub const TARGETS_DIR: &str = "targets";
/// The one metadata file whose name never changes.
pub const TIMESTAMP_FILE: &str = "timestamp.json";
/// The name of a bundle's statement; only bundles hold one.
pub const BUNDLE_FILE: &str = "bundle.json";

/// `N.root.json`.
pub fn root_file(version: MetaVersion) -> String {
    format!("{version}.root.json")
}

/// `N.snapshot.json`, or `snapshot.json` where no version is given (no consistent snapshots).
pub fn snapshot_file(version: Option<MetaVersion>) -> String {
    versioned("snapshot", version)
}

/// `N.ROLE.json` for `targets` and delegated roles, percent-encoded.
pub fn role_file(role: &RoleName, version: Option<MetaVersion>) -> String {
    versioned(&role.file_stem(), version)
}

/// `dir/HASH.name` below [`TARGETS_DIR`]; the path itself without consistent snapshots.
pub fn target_file(path: &TargetPath, hashes: Option<&Hashes>) -> String {
    let Some(prefix) = hashes.and_then(Hashes::prefix) else {
        return path.to_string();
    };
    match path.as_str().rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{prefix}.{name}"),
        None => format!("{prefix}.{path}"),
    }
}

fn versioned(stem: &str, version: Option<MetaVersion>) -> String {
    version.map_or_else(
        || format!("{stem}.json"),
        |version| format!("{version}.{stem}.json"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn the_hash_prefixes_the_last_segment() {
        let path = TargetPath::parse("infusion-pump/rootfs.img").expect("a path");
        let hashes = Hashes::sha256(Digest::of(b""));
        let name = target_file(&path, Some(&hashes));
        assert!(name.starts_with("infusion-pump/e3b0c442"), "{name}");
        assert!(name.ends_with(".rootfs.img"));
        assert_eq!(target_file(&path, None), "infusion-pump/rootfs.img");
    }
}
