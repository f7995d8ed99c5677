//! GRUB's environment block with variables of our own.
//!
//! | variable | meaning |
//! |---|---|
//! | `ampoule_default` | `a` or `b`: the default |
//! | `ampoule_trial` | the slot that is armed |
//! | `ampoule_left` | boots that are left to it, one digit: GRUB's script language cannot subtract |
//!
//! The script that obeys them stands in docs/guide/boot.md: it counts one off and saves before it
//! starts the trial, and takes the default at 0.

use std::path::PathBuf;
use std::rc::Rc;

use super::env_block::{Block, BlockStore};
use super::uboot::{DEFAULT, slot_of};
use super::{Loader, Running, WorldError};
use crate::machine::{BootView, Slot};
use crate::ports::Storage;

const TRIAL: &str = "ampoule_trial";
const LEFT: &str = "ampoule_left";
/// The most that the script counts down from.
const LEFT_MAX: u32 = 9;

/// GRUB's environment block with variables of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrubSettings {
    /// `/boot/grub/grubenv`.
    pub block: PathBuf,
    /// Who says which slot runs.
    pub running: Running,
}

pub(super) struct Grub {
    storage: Rc<dyn Storage>,
    store: BlockStore,
    running: Running,
}

impl Grub {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: GrubSettings) -> Self {
        let store = BlockStore::new(Rc::clone(&storage), settings.block);
        Self {
            storage,
            store,
            running: settings.running,
        }
    }
}

fn default_of(block: &Block) -> Slot {
    slot_of(block.value(DEFAULT)).unwrap_or(Slot::A)
}

fn armed(block: &Block, default: Slot) -> Option<(Slot, u32)> {
    let slot = slot_of(block.value(TRIAL)).filter(|slot| *slot != default)?;
    let left = block.value(LEFT).and_then(|left| left.parse().ok());
    Some((slot, left.unwrap_or(0)))
}

fn rest(block: &mut Block, default: Slot) {
    block.set(DEFAULT, default.as_str());
    block.unset(TRIAL);
    block.unset(LEFT);
}

impl Loader for Grub {
    fn view(&self) -> Result<BootView, WorldError> {
        let block = self.store.read()?;
        let default = default_of(&block);
        let running = self.running.slot(self.storage.as_ref())?;
        Ok(BootView {
            running,
            default,
            armed: armed(&block, default),
        })
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        // Makes a block that is missing or damaged whole; otherwise changes nothing.
        self.store
            .edit(|block| block.set(DEFAULT, default_of(block).as_str()))
    }

    fn arm(&mut self, slot: Slot, attempts: u32) -> Result<(), WorldError> {
        self.store.edit(|block| {
            block.set(DEFAULT, default_of(block).as_str());
            block.set(TRIAL, slot.as_str());
            block.set(LEFT, &attempts.min(LEFT_MAX).to_string());
        })
    }

    fn disarm(&mut self) -> Result<(), WorldError> {
        self.store.edit(|block| rest(block, default_of(block)))
    }

    fn commit(&mut self, slot: Slot) -> Result<(), WorldError> {
        self.store.edit(|block| rest(block, slot))
    }
}
