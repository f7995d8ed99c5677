//! Boot control: which slot the next boot takes.
//!
//! [`FileBoot`] is the backend for slots in plain files, trees and single files: a boot file per
//! component, replaced as one act, and [`load`], which plays the boot loader. [`world`] speaks to
//! the boot loaders of real boards.

mod file;
mod project;
mod recovery;
pub mod world;

use std::path::PathBuf;

use ampoule_protocol::error::{Coded, Guilty};

pub use file::{FileBoot, Loaded, load, load_all};
pub use recovery::RecoveryBoot;
pub use world::{World, WorldBoot, WorldError};

use crate::machine::Slot;

/// Boot settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// They cannot be read or written.
    #[error("failed to {act} boot settings \"{path}\"")]
    Io {
        /// `read` or `write`.
        act: &'static str,
        /// Where they are.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// They are not in the form that we write.
    #[error("boot settings \"{path}\" are malformed")]
    Malformed {
        /// Where they are.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A component that the configuration does not name.
    #[error("component \"{0}\" is not in the configuration")]
    Unknown(String),
    /// Arming the slot that runs.
    #[error("slot \"{slot}\" of \"{component}\" is running and cannot be armed")]
    Running {
        /// The component.
        component: String,
        /// The slot.
        slot: Slot,
    },
    /// The settings of a boot loader.
    #[error(transparent)]
    World(#[from] WorldError),
}

impl Coded for BootError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "boot-control-io",
            Self::Malformed { .. } => "boot-control-malformed",
            Self::Unknown(_) => "boot-control-unknown",
            Self::Running { .. } => "boot-control-running-slot",
            Self::World(error) => error.code(),
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Io { .. } | Self::Malformed { .. } => Guilty::Device,
            Self::Unknown(_) | Self::Running { .. } => Guilty::Ourselves,
            Self::World(error) => error.guilty(),
        }
    }
}
