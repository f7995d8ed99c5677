//! What is remembered of a product's deltas while its release is drafted: how many devices run
//! which version, and which deltas do not pay.
//!
//! A file in `staging/`, of this workspace alone: nothing of it is signed or published. It begins
//! anew with each drafted release.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::ProductName;
use ampoule_protocol::release::ReleaseVersion;
use serde::{Deserialize, Serialize};

use crate::durable::{self, Access, Disk};
use crate::error::{DiskError, SignerError};
use crate::layout::Layout;

/// A fleet of that many versions is listed in less.
const FLEET_LEN_MAX: u64 = 1 << 20;
/// Notes of a release with as many components and bases as there may be.
const NOTES_LEN_MAX: u64 = 4 << 20;

/// Devices by the version that they run: the file that `fleet` of `[component.delta]` names.
pub type Fleet = BTreeMap<String, u64>;

/// Reads a fleet's version counts, `{"2.4.0": 812, "2.3.9": 40}`.
///
/// # Errors
/// A sentence that goes on after the file's name.
pub fn read_fleet(path: &Path) -> Result<Fleet, String> {
    let bytes = durable::read(path, FLEET_LEN_MAX).map_err(|e| format!("cannot be read: {e}"))?;
    let fleet: Fleet = serde_json::from_slice(&bytes)
        .map_err(|e| format!("is no object of versions and numbers of devices: {e}"))?;
    let unknown = fleet
        .keys()
        .find(|version| ReleaseVersion::parse(version).is_err());
    match unknown {
        Some(version) => Err(format!(
            "counts devices of \"{version}\", which is no version"
        )),
        None => Ok(fleet),
    }
}

/// A delta that is longer than it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The artifact that it starts from.
    pub base: Digest,
    /// The artifact that it makes.
    pub artifact: Digest,
    /// Memory that it was allowed, in bytes: with more it may come out shorter.
    pub memory_max: u64,
}

/// The notes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Notes {
    /// By component, where its deltas follow the fleet.
    pub fleets: BTreeMap<String, Fleet>,
    /// Deltas that are not built again.
    pub skipped: Vec<Skipped>,
}

impl Notes {
    fn path(layout: &Layout, product: &ProductName) -> PathBuf {
        layout.staging().join(format!("{product}.deltas.json"))
    }

    /// The notes on the drafted release of a product; none where there is no file.
    pub fn read(layout: &Layout, product: &ProductName) -> Result<Self, SignerError> {
        let path = Self::path(layout, product);
        let Some(bytes) = durable::read_if_there(&path, NOTES_LEN_MAX)? else {
            return Ok(Self::default());
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
            DiskError::at("understand", &path)(error).into()
        })
    }

    /// Keeps them.
    pub fn write(
        &self,
        disk: &dyn Disk,
        layout: &Layout,
        product: &ProductName,
    ) -> Result<(), SignerError> {
        let bytes = serde_json::to_vec(self).map_err(|e| SignerError::Ourselves(e.to_string()))?;
        let path = Self::path(layout, product);
        Ok(durable::put(disk, &path, &bytes, Access::Shared)?)
    }

    /// Whether a delta was found not to pay.
    pub fn skips(&self, base: &Digest, artifact: &Digest) -> bool {
        let same = |skipped: &Skipped| skipped.base == *base && skipped.artifact == *artifact;
        self.skipped.iter().any(same)
    }
}
