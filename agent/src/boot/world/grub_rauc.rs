//! RAUC's variables in GRUB's environment block, so that RAUC's `grub.cfg` goes on working.
//!
//! `ORDER="B A"`, `B_OK`, `B_TRY`. The script takes the first of the order with OK = 1 and TRY = 0
//! and saves TRY = 1 before it starts it: one boot, no more. When it finds none it starts its
//! first menu entry (a rescue system) and clears TRY of those that are OK.
//!
//! | | `ORDER` | of the default | of the other |
//! |---|---|---|---|
//! | at rest | default first | OK 1, TRY 0 | OK 0, TRY 0: it may be half filled |
//! | armed | the other first | OK 1, TRY 0 | OK 1, TRY 0 |
//!
//! The default's boot sets its TRY too, so each start of the agent clears it, as RAUC's mark-good
//! does.

use std::path::PathBuf;
use std::rc::Rc;

use super::env_block::{Block, BlockStore};
use super::uboot::{DEFAULT, slot_of};
use super::uboot_rauc::{first_of, order_of};
use super::{Loader, PerSlot, Running, WorldError};
use crate::machine::{BootView, Slot};
use crate::ports::Storage;

const ORDER: &str = "ORDER";

/// GRUB's environment block with RAUC's variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrubRaucSettings {
    /// `/boot/grub/grubenv`.
    pub block: PathBuf,
    /// Who says which slot runs.
    pub running: Running,
    /// RAUC's `bootname` of each slot, mostly `A` and `B`.
    pub names: PerSlot<String>,
}

pub(super) struct GrubRauc {
    storage: Rc<dyn Storage>,
    store: BlockStore,
    running: Running,
    names: PerSlot<String>,
}

/// What the script is told of one slot.
#[derive(Clone, Copy)]
enum Mark {
    Bootable,
    Barred,
}

impl GrubRauc {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: GrubRaucSettings) -> Self {
        let store = BlockStore::new(Rc::clone(&storage), settings.block);
        Self {
            storage,
            store,
            running: settings.running,
            names: settings.names,
        }
    }

    fn choice(&self, block: &Block) -> (Slot, Option<(Slot, u32)>) {
        let first = first_of(block.value(ORDER).unwrap_or(""), &self.names);
        let default = slot_of(block.value(DEFAULT)).or(first).unwrap_or(Slot::A);
        let left = |slot| {
            let name = self.names.of(slot);
            let is_ok = block.value(&format!("{name}_OK")) == Some("1");
            let is_tried = block
                .value(&format!("{name}_TRY"))
                .is_some_and(|tried| tried != "0");
            u32::from(is_ok && !is_tried)
        };
        let armed = first.filter(|slot| *slot != default);
        (default, armed.map(|slot| (slot, left(slot))))
    }

    fn mark(&self, block: &mut Block, slot: Slot, mark: Mark) {
        let name = self.names.of(slot);
        let ok = match mark {
            Mark::Bootable => "1",
            Mark::Barred => "0",
        };
        block.set(&format!("{name}_OK"), ok);
        block.set(&format!("{name}_TRY"), "0");
    }

    fn choose(&self, block: &mut Block, first: Slot, other: Mark) {
        let order = order_of(block.value(ORDER).unwrap_or(""), &self.names, first);
        block.set(ORDER, &order);
        self.mark(block, first, Mark::Bootable);
        self.mark(block, first.other(), other);
    }

    fn rest(&self, block: &mut Block, default: Slot) {
        block.set(DEFAULT, default.as_str());
        self.choose(block, default, Mark::Barred);
    }
}

impl Loader for GrubRauc {
    fn view(&self) -> Result<BootView, WorldError> {
        let (default, armed) = self.choice(&self.store.read()?);
        let running = self.running.slot(self.storage.as_ref())?;
        Ok(BootView {
            running,
            default,
            armed,
        })
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        let view = self.view()?;
        // As in the other RAUC world: a default that was given up keeps the one that runs.
        if view.armed.is_none() && view.running == view.default {
            self.store.edit(|block| self.rest(block, view.default))?;
        }
        Ok(())
    }

    /// This world can count to one.
    fn arm(&mut self, slot: Slot, _attempts: u32) -> Result<(), WorldError> {
        self.store.edit(|block| {
            let (default, _) = self.choice(block);
            block.set(DEFAULT, default.as_str());
            self.choose(block, slot, Mark::Bootable);
        })
    }

    fn disarm(&mut self) -> Result<(), WorldError> {
        self.store.edit(|block| {
            let (default, _) = self.choice(block);
            self.rest(block, default);
        })
    }

    fn commit(&mut self, slot: Slot) -> Result<(), WorldError> {
        self.store.edit(|block| self.rest(block, slot))
    }
}
