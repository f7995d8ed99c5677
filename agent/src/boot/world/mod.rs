//! Boot control in the settings of other people's boot loaders.
//!
//! ```text
//!   BootControl (port) ◄── WorldBoot ──► FileBoot            components without a world
//!                              │
//!                              └──► Loader, one of each world
//!                                     uboot, uboot_rauc ──► env_store ──► env
//!                                     grub, grub_rauc   ──► env_block
//!                                     gpt               ──► gpt_table
//!                                     systemd_boot, tryboot, command
//! ```
//!
//! Each world is spoken in its own bytes, so that the loader, its scripts and its tools go on
//! working. All of them keep the same promises:
//!
//! - One change of mind is one write, as the loader sees it: `arm`, `disarm` and `commit` each
//!   have one moment before which the old choice holds and after which the new one does. Where the
//!   medium asks for more than one write, the module's header says in which order and why.
//! - While nothing is armed the other slot is not bootable, as far as the world can say so: it may
//!   be half filled.
//! - A setting that already says what is wanted is not written.
//! - Variables, entries and lines that are not ours stay as they are.

mod command;
mod env;
mod env_block;
mod env_store;
mod error;
mod gpt;
mod gpt_table;
mod grub;
mod grub_rauc;
mod running;
mod systemd_boot;
mod tryboot;
mod uboot;
mod uboot_rauc;

use std::collections::BTreeMap;
use std::rc::Rc;

use ampoule_protocol::name::ComponentName;

pub use command::CommandSettings;
pub use env_store::EnvSettings;
pub use error::WorldError;
pub use gpt::GptSettings;
pub use grub::GrubSettings;
pub use grub_rauc::GrubRaucSettings;
pub use running::{PerSlot, Running};
pub use systemd_boot::SystemdBootSettings;
pub use tryboot::TrybootSettings;
pub use uboot::UbootSettings;
pub use uboot_rauc::UbootRaucSettings;

use super::file::Leader;
use super::{BootError, FileBoot};
use crate::install::VerifiedImage;
use crate::machine::{BootView, Slot};
use crate::ports::{BootControl, Storage};

/// Which boot loader chooses the slot of a component, and where its settings are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum World {
    /// U-Boot's environment, with variables of our own and U-Boot's boot counter.
    Uboot(UbootSettings),
    /// U-Boot's environment, with RAUC's variables.
    UbootRauc(UbootRaucSettings),
    /// GRUB's environment block, with variables of our own.
    Grub(GrubSettings),
    /// GRUB's environment block, with RAUC's variables.
    GrubRauc(GrubRaucSettings),
    /// Boot counting of systemd-boot.
    SystemdBoot(SystemdBootSettings),
    /// Attribute bits of GPT partitions.
    Gpt(GptSettings),
    /// The try-boot of Raspberry Pi firmware.
    Tryboot(TrybootSettings),
    /// A program that speaks RAUC's protocol for custom boot loaders.
    Command(CommandSettings),
}

impl World {
    /// As a recovery image sees it: neither slot runs.
    #[must_use]
    pub fn in_recovery(mut self) -> Self {
        match &mut self {
            Self::Uboot(settings) => settings.running = Running::Recovery,
            Self::UbootRauc(settings) => settings.running = Running::Recovery,
            Self::Grub(settings) => settings.running = Running::Recovery,
            Self::GrubRauc(settings) => settings.running = Running::Recovery,
            Self::SystemdBoot(settings) => settings.running = Running::Recovery,
            Self::Gpt(settings) => settings.running = Running::Recovery,
            Self::Tryboot(settings) => settings.running = Running::Recovery,
            // Its own program says what runs.
            Self::Command(_) => {}
        }
        self
    }

    fn loader(self, storage: &Rc<dyn Storage>) -> Box<dyn Loader> {
        let storage = Rc::clone(storage);
        match self {
            Self::Uboot(settings) => Box::new(uboot::Uboot::new(storage, settings)),
            Self::UbootRauc(settings) => Box::new(uboot_rauc::UbootRauc::new(storage, settings)),
            Self::Grub(settings) => Box::new(grub::Grub::new(storage, settings)),
            Self::GrubRauc(settings) => Box::new(grub_rauc::GrubRauc::new(storage, settings)),
            Self::SystemdBoot(settings) => {
                Box::new(systemd_boot::SystemdBoot::new(storage, settings))
            }
            Self::Gpt(settings) => Box::new(gpt::Gpt::new(storage, settings)),
            Self::Tryboot(settings) => Box::new(tryboot::Tryboot::new(storage, settings)),
            Self::Command(settings) => Box::new(command::Command::new(storage, settings)),
        }
    }
}

/// The settings of one boot loader for one pair of slots. All calls are idempotent.
trait Loader {
    /// What runs, what is the default, what is armed.
    fn view(&self) -> Result<BootView, WorldError>;

    /// Puts the settings in order after a start: a copy that a cut damaged is written again, the
    /// default gets its boots back, and the other slot loses its own unless it is armed.
    fn settle(&mut self) -> Result<(), WorldError>;

    /// Chooses a slot for the next `attempts` boots, or as many as this world can count to.
    fn arm(&mut self, slot: Slot, attempts: u32) -> Result<(), WorldError>;

    /// Takes the arming back.
    fn disarm(&mut self) -> Result<(), WorldError>;

    /// Makes a slot the default.
    fn commit(&mut self, slot: Slot) -> Result<(), WorldError>;

    /// What was out of order when the settings were put in order, in sentences for people.
    fn noticed(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Boot control of a device: a world for some components, boot files for the rest.
pub struct WorldBoot {
    files: FileBoot,
    loaders: BTreeMap<ComponentName, Box<dyn Loader>>,
}

impl WorldBoot {
    /// Of these settings, which are not touched yet: enough to look at them.
    pub fn new(
        storage: &Rc<dyn Storage>,
        files: FileBoot,
        worlds: impl IntoIterator<Item = (ComponentName, World)>,
    ) -> Self {
        let loader = |(component, world): (_, World)| (component, world.loader(storage));
        let loaders = worlds.into_iter().map(loader).collect();
        Self { files, loaders }
    }

    /// Puts the settings of each world in order: to be called once, at the start of the agent.
    ///
    /// # Errors
    /// Settings that cannot be read or put in order.
    pub fn settle(mut self) -> Result<Self, BootError> {
        for loader in self.loaders.values_mut() {
            loader.settle()?;
        }
        Ok(self)
    }
}

impl WorldBoot {
    /// Who leads comes first.
    fn turn(&self, component: &ComponentName) -> u8 {
        if self.loaders.contains_key(component) {
            0
        } else {
            1 + u8::from(self.files.is_follower(component))
        }
    }
}

impl BootControl for WorldBoot {
    fn view(&self, component: &ComponentName) -> Result<BootView, BootError> {
        match self.loaders.get(component) {
            Some(loader) => Ok(loader.view()?),
            None => self.files.view(component),
        }
    }

    fn arm(&mut self, image: &VerifiedImage, attempts: u32) -> Result<(), BootError> {
        let Some(loader) = self.loaders.get_mut(image.component()) else {
            return self.files.arm(image, attempts);
        };
        let view = loader.view()?;
        if view.running == image.slot() || view.default == image.slot() {
            return Err(BootError::Running {
                component: image.component().to_string(),
                slot: image.slot(),
            });
        }
        Ok(loader.arm(image.slot(), attempts.max(1))?)
    }

    /// The first image with a boot loader leads, else the first.
    fn arm_all(&mut self, images: &[VerifiedImage], attempts: u32) -> Result<(), BootError> {
        let has_loader = |image: &&VerifiedImage| self.loaders.contains_key(image.component());
        let Some(leader) = images.iter().find(has_loader).or(images.first()) else {
            return Ok(());
        };
        let followers = images
            .iter()
            .filter(|image| image.component() != leader.component());
        for image in followers {
            if self.loaders.contains_key(image.component()) {
                self.arm(image, attempts)?;
            } else {
                let leader = Some(Leader::of(leader));
                self.files.follow(image, attempts, leader)?;
            }
        }
        self.arm(leader, attempts)
    }

    fn disarm_all(&mut self, components: &[ComponentName]) -> Result<(), BootError> {
        let mut components = components.to_vec();
        components.sort_by_key(|component| self.turn(component));
        components
            .iter()
            .try_for_each(|component| self.disarm(component))
    }

    fn commit_all(&mut self, slots: &[(ComponentName, Slot)]) -> Result<(), BootError> {
        let mut slots = slots.to_vec();
        slots.sort_by_key(|(component, _)| self.turn(component));
        slots
            .iter()
            .try_for_each(|(component, slot)| self.commit(component, *slot))
    }

    fn disarm(&mut self, component: &ComponentName) -> Result<(), BootError> {
        match self.loaders.get_mut(component) {
            Some(loader) => Ok(loader.disarm()?),
            None => self.files.disarm(component),
        }
    }

    fn load_now(&mut self, components: &[ComponentName]) -> Result<(), BootError> {
        self.files.load_now(components)
    }

    fn noticed(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (component, loader) in &self.loaders {
            let told = loader.noticed().into_iter();
            all.extend(told.map(|what| format!("{component}: {what}")));
        }
        all
    }

    fn commit(&mut self, component: &ComponentName, slot: Slot) -> Result<(), BootError> {
        match self.loaders.get_mut(component) {
            Some(loader) => Ok(loader.commit(slot)?),
            None => self.files.commit(component, slot),
        }
    }
}
