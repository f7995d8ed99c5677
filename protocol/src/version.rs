//! Numbers that must never fall.

use core::fmt;
use core::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// The version of a metadata file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MetaVersion(NonZeroU64);

impl MetaVersion {
    /// The first version of any file.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// `None` for zero.
    pub const fn new(version: u64) -> Option<Self> {
        match NonZeroU64::new(version) {
            Some(version) => Some(Self(version)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The version after this one; `None` at the end of the numbers (fast-forward attack).
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for MetaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The rollback index of a release: for machines, it never falls below a device's floor.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RollbackIndex(pub u64);

impl fmt::Display for RollbackIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
