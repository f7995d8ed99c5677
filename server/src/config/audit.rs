//! `[audit]`.

use std::path::{Path, PathBuf};

use super::reader::Section;
use crate::audit::cosigned::WITNESSES_MAX;
use crate::audit::note::{Kind, Verifier};

/// `[audit]`: the log of what happened.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The folder of tiles; by default `audit` in the store's folder.
    pub path: PathBuf,
    /// The key that signs its checkpoints, PKCS#8 PEM; by default `audit.key` in the store's
    /// folder. It is made where it is not there.
    pub key: PathBuf,
    /// Whether the configuration names the key.
    pub has_key: bool,
    /// Whether this server has a log of its own even where servers share a store.
    pub is_own: bool,
    /// The log's name, by which readers know it.
    pub origin: String,
    /// The second parties whose cosignatures it takes.
    pub witnesses: Vec<Verifier>,
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
        let is_own = match from.has("place").then(|| from.string("place")).flatten() {
            None | Some("store") => false,
            Some("folder") => true,
            Some(_) => {
                from.fault("place", "is neither \"store\" nor \"folder\"");
                false
            }
        };
        Self {
            has_key: from.has("key"),
            is_own,
            witnesses: witnesses(from),
            path: path_or(from, "path", "audit"),
            key: path_or(from, "key", "audit.key"),
            origin,
        }
    }
}

fn witnesses(from: &mut Section<'_, '_>) -> Vec<Verifier> {
    let mut found: Vec<Verifier> = Vec::new();
    for text in from.strings("witnesses") {
        match Verifier::parse(&text) {
            Ok(key) if key.kind() != Kind::Cosignature => {
                from.fault("witnesses", "has the key of a log, not of a witness");
            }
            Ok(key) if found.iter().any(|known| known.id() == key.id()) => {
                from.fault("witnesses", "has a key twice");
            }
            Ok(key) => found.push(key),
            Err(error) => from.fault("witnesses", &error.to_string()),
        }
    }
    if found.len() > WITNESSES_MAX {
        from.fault("witnesses", "has more than 16 keys");
    }
    found
}
