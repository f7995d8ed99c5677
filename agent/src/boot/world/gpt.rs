//! Priority, tries and success in the attributes of GPT partitions, as ChromeOS's loaders, GRUB's
//! `gptprio` (Flatcar, Bottlerocket) and U-Boot's ChromeOS boot method read them.
//!
//! | bits | | |
//! |---|---|---|
//! | 48 to 51 | priority | the highest that is bootable is taken; 0 never |
//! | 52 to 55 | tries | counted down by the loader before it starts the partition |
//! | 56 | successful | bootable without tries |
//!
//! | | default (P, T, S) | other |
//! |---|---|---|
//! | at rest | 2, 0, 1 | 0, 0, 0: it may be half filled |
//! | armed | 1, 0, 1 | 2, as many as asked for, 0 |
//!
//! Both partitions change in one table, and how a table is written stands in `gpt_table`.
//!
//! Gap: a loader that takes priority away, too, when the tries are used up (ChromeOS does in some
//! cases) leaves no trace of the trial: the update is then armed again and not counted as fallen
//! back.

use std::path::PathBuf;
use std::rc::Rc;

use super::gpt_table::{Table, TableStore};
use super::{Loader, PerSlot, Running, WorldError};
use crate::machine::{BootView, Slot};
use crate::ports::Storage;

const PRIORITY_AT: u32 = 48;
const TRIES_AT: u32 = 52;
const SUCCESSFUL_AT: u32 = 56;
/// The largest number in four bits.
const NIBBLE: u64 = 15;

/// GPT attributes of two partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptSettings {
    /// The whole disk.
    pub disk: PathBuf,
    /// The partition of each slot, counted from 1.
    pub partitions: PerSlot<u32>,
    /// Who says which slot runs.
    pub running: Running,
}

pub(super) struct Gpt {
    storage: Rc<dyn Storage>,
    store: TableStore,
    settings: GptSettings,
}

/// The three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bits {
    priority: u64,
    tries: u64,
    successful: bool,
}

impl Bits {
    const BARRED: Self = Self {
        priority: 0,
        tries: 0,
        successful: false,
    };
    const DEFAULT: Self = Self {
        priority: 2,
        tries: 0,
        successful: true,
    };
    const BESIDE_TRIAL: Self = Self {
        priority: 1,
        tries: 0,
        successful: true,
    };

    fn of(attributes: u64) -> Self {
        Self {
            priority: attributes >> PRIORITY_AT & NIBBLE,
            tries: attributes >> TRIES_AT & NIBBLE,
            successful: attributes >> SUCCESSFUL_AT & 1 == 1,
        }
    }

    /// Other attributes stay as they are.
    fn put(self, attributes: u64) -> u64 {
        let mask = NIBBLE << PRIORITY_AT | NIBBLE << TRIES_AT | 1 << SUCCESSFUL_AT;
        attributes & !mask
            | self.priority << PRIORITY_AT
            | self.tries << TRIES_AT
            | u64::from(self.successful) << SUCCESSFUL_AT
    }
}

impl Gpt {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: GptSettings) -> Self {
        let store = TableStore::new(Rc::clone(&storage), settings.disk.clone());
        Self {
            storage,
            store,
            settings,
        }
    }

    fn bits(&self, table: &Table, slot: Slot) -> Result<Bits, WorldError> {
        let partition = *self.settings.partitions.of(slot);
        let what = || format!("have no partition {partition}");
        let attributes = table.attributes(partition);
        attributes
            .map(Bits::of)
            .ok_or_else(|| WorldError::unprepared(self.store.path(), what()))
    }

    fn choice(&self, table: &Table) -> Result<(Slot, Option<(Slot, u32)>), WorldError> {
        let bits = PerSlot {
            a: self.bits(table, Slot::A)?,
            b: self.bits(table, Slot::B)?,
        };
        let rank = |bits: &Bits| (bits.successful, bits.priority);
        let default = if rank(&bits.b) > rank(&bits.a) {
            Slot::B
        } else {
            Slot::A
        };
        let (own, other) = (bits.of(default), bits.of(default.other()));
        let is_armed = !other.successful && other.priority > own.priority;
        let tries = u32::try_from(other.tries).unwrap_or(0);
        Ok((default, is_armed.then_some((default.other(), tries))))
    }

    fn edit(&self, default: Slot, own: Bits, other: Bits) -> Result<(), WorldError> {
        self.store.edit(|table| {
            for (slot, bits) in [(default, own), (default.other(), other)] {
                let partition = *self.settings.partitions.of(slot);
                let attributes = table.attributes(partition).unwrap_or(0);
                table.set_attributes(partition, bits.put(attributes));
            }
        })
    }
}

impl Loader for Gpt {
    fn view(&self) -> Result<BootView, WorldError> {
        let (default, armed) = self.choice(&self.store.read()?)?;
        let running = self.settings.running.slot(self.storage.as_ref())?;
        Ok(BootView {
            running,
            default,
            armed,
        })
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        let view = self.view()?;
        if view.armed.is_none() && view.running == view.default {
            return self.edit(view.default, Bits::DEFAULT, Bits::BARRED);
        }
        // A copy that is damaged or behind is written again, the choice stays.
        self.store.edit(|_| {})
    }

    fn arm(&mut self, slot: Slot, attempts: u32) -> Result<(), WorldError> {
        let tries = u64::from(attempts).min(NIBBLE);
        let trial = Bits {
            priority: 2,
            tries,
            successful: false,
        };
        self.edit(slot.other(), Bits::BESIDE_TRIAL, trial)
    }

    fn disarm(&mut self) -> Result<(), WorldError> {
        let (default, _) = self.choice(&self.store.read()?)?;
        self.edit(default, Bits::DEFAULT, Bits::BARRED)
    }

    fn commit(&mut self, slot: Slot) -> Result<(), WorldError> {
        self.edit(slot, Bits::DEFAULT, Bits::BARRED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stand_where_cgpt_puts_them() {
        let trial = Bits {
            priority: 2,
            tries: 1,
            successful: false,
        };
        assert_eq!(trial.put(0), 0x0012_0000_0000_0000);
        assert_eq!(Bits::BESIDE_TRIAL.put(0), 0x0101_0000_0000_0000);
        let others = 0xfe00_ffff_ffff_ffff;
        assert_eq!(
            Bits::BARRED.put(u64::MAX),
            others,
            "no other attribute changes"
        );
        assert_eq!(Bits::of(trial.put(others)), trial);
    }
}
