//! Where a component lives on the device.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ampoule_protocol::name::ComponentName;
use ampoule_protocol::release::Install;

use crate::machine::Slot;
use crate::system::CommandLine;

/// A component of this device, from its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub component: ComponentName,
    /// How it is installed.
    pub install: Install,
    /// Where whole artifacts go: block devices or files.
    pub slots: [PathBuf; 2],
    /// What programs look at: the link `current` of a tree, the file; unused for slots.
    pub visible: PathBuf,
    /// The boot file.
    pub boot_file: PathBuf,
    /// What else its table says.
    pub options: Options,
}

/// What a component's table may say beside where it lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Whether the rest of a block device, behind the image, is given back to the medium.
    pub discard: bool,
    /// Whether a release may make it visible without a restart of the device.
    pub live: bool,
    /// What is run then, so that programs take it up; nothing where it is empty.
    pub reload: CommandLine,
    /// The update module's program, of a component that has one.
    pub program: PathBuf,
    /// For how long one call of that module, or the reload, may run.
    pub timeout: Duration,
}

impl Place {
    /// Whether an update module installs it.
    pub const fn is_module(&self) -> bool {
        matches!(self.install, Install::Module(_))
    }

    /// The device or file of a slot.
    pub fn slot_path(&self, slot: Slot) -> &Path {
        match slot {
            Slot::A => &self.slots[0],
            Slot::B => &self.slots[1],
        }
    }

    /// The folder that a slot of a tree is unpacked to.
    pub fn tree_path(&self, slot: Slot) -> PathBuf {
        self.visible.with_file_name(slot.as_str())
    }
}
