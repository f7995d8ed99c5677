//! Why a slot was not filled, or not believed.

use std::io;
use std::path::PathBuf;

use ampoule_delta::PatchError;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::tree::TreeError;

use crate::machine::Slot;
use crate::net::NetError;

/// Why a slot was not filled, or not believed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Repository: a leaf list, block or shape that is not what was signed.
    #[error("\"{path}\" is not what was signed")]
    Tree {
        /// The target.
        path: String,
        /// What is wrong.
        source: TreeError,
    },
    /// Repository: an image that has too many blocks for this device's memory.
    #[error("leaf list of {found} bytes is longer than the {max} that this device holds")]
    LeavesTooLong {
        /// Bytes found.
        found: u64,
        /// Bytes that are held at most.
        max: u64,
    },
    /// Network.
    #[error("failed to download \"{path}\"")]
    Network {
        /// The target.
        path: String,
        /// Why.
        source: NetError,
    },
    /// The patch, its base, or ourselves; see [`PatchError`].
    #[error("failed to apply \"{path}\"")]
    Patch {
        /// The target.
        path: String,
        /// Why.
        source: PatchError,
    },
    /// Device: storage.
    #[error("failed to {act} \"{path}\"")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file or device.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Device: a slot that is too small.
    #[error("slot \"{path}\" has {found} bytes, the image needs {needed}")]
    TooSmall {
        /// The device.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        needed: u64,
    },
    /// Device: a file system that is too full.
    #[error(
        "\"{path}\" has {found} bytes of space left, the update needs {needed}; free some, it is \
         tried again at the next check"
    )]
    NoSpace {
        /// What is to be written there.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        needed: u64,
    },
    /// Nobody: the process was asked to end, and the fill goes on from its checkpoint.
    #[error("the fill was stopped at a checkpoint")]
    Stopped,
    /// Device: what was read back differs from what was written.
    #[error("slot \"{slot}\" of \"{component}\" reads back as {found}, expected {expected}")]
    ReadBack {
        /// The component.
        component: String,
        /// The slot.
        slot: Slot,
        /// The digest found, short.
        found: String,
        /// The digest expected, short.
        expected: String,
    },
    /// Device: a tree that cannot be unpacked, or unpacks to something else.
    #[error("failed to unpack \"{path}\": {what}")]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// Operator: a component that is installed in another way than the release says.
    #[error("component \"{0}\" is not installed on this device as the release says")]
    Mismatch(String),
    /// Ourselves: a fill of the running or armed slot was asked for.
    #[error("slot \"{slot}\" of \"{component}\" is in use and is not written")]
    InUse {
        /// The component.
        component: String,
        /// The slot.
        slot: Slot,
    },
}

impl InstallError {
    pub(super) fn read_back(
        component: &str,
        slot: Slot,
        found: &Digest,
        expected: &Digest,
    ) -> Self {
        Self::ReadBack {
            component: component.to_owned(),
            slot,
            found: found.short(),
            expected: expected.short(),
        }
    }

    /// Seconds that the server asked to wait.
    pub fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::Network { source, .. } => source.retry_after_secs,
            _ => None,
        }
    }
}

impl Coded for InstallError {
    fn code(&self) -> &'static str {
        match self {
            Self::Tree { .. } => "blocks-mismatch",
            Self::LeavesTooLong { .. } => "leaves-too-long",
            Self::Network { source, .. } => source.code(),
            Self::Patch { source, .. } => source.code(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "no-space",
            Self::NoSpace { .. } => "no-space",
            Self::Stopped => "stopped",
            Self::Io { .. } => "storage-io",
            Self::TooSmall { .. } => "slot-too-small",
            Self::ReadBack { .. } => "read-back-mismatch",
            Self::Unpack { .. } => "unpack-failed",
            Self::Mismatch(_) => "component-mismatch",
            Self::InUse { .. } => "slot-in-use",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Tree { .. } | Self::LeavesTooLong { .. } => Guilty::Repository,
            Self::Network { source, .. } => source.guilty(),
            Self::Patch { source, .. } => patch_guilt(source),
            Self::Io { .. }
            | Self::TooSmall { .. }
            | Self::NoSpace { .. }
            | Self::Stopped
            | Self::ReadBack { .. }
            | Self::Unpack { .. } => Guilty::Device,
            Self::Mismatch(_) => Guilty::Operator,
            Self::InUse { .. } => Guilty::Ourselves,
        }
    }
}

fn patch_guilt(error: &PatchError) -> Guilty {
    match error {
        PatchError::Damaged { .. } => Guilty::Repository,
        PatchError::WrongOutput => Guilty::Ourselves,
        _ => Guilty::Device,
    }
}
