//! `[audit]`.

use std::path::{Path, PathBuf};

use super::reader::Section;

/// `[audit]`: the log of what happened.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The folder of tiles; by default `audit` in the store's folder.
    pub path: PathBuf,
    /// The key that signs its checkpoints, PKCS#8 PEM; by default `audit.key` in the store's
    /// folder. It is made where it is not there.
    pub key: PathBuf,
    /// The log's name, by which readers know it.
    pub origin: String,
}

impl Audit {
    pub(super) fn read(from: &mut Section<'_, '_>, store: &Path) -> Self {
        let path_or = |from: &mut Section<'_, '_>, member, other| {
            if from.has(member) {
                from.path(member)
            } else {
                store.join(other)
            }
        };
        let origin = if from.has("origin") {
            from.string("origin").unwrap_or_default().to_owned()
        } else {
            "ampoule.local/audit".to_owned()
        };
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if origin.len() > 255 || origin.contains(bad) {
            from.fault(
                "origin",
                "has a blank or a plus, or is longer than 255 bytes",
            );
        }
        Self {
            path: path_or(from, "path", "audit"),
            key: path_or(from, "key", "audit.key"),
            origin,
        }
    }
}
