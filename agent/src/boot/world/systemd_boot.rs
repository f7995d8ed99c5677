//! Boot counting of systemd-boot (the UAPI group's Boot Loader Specification, and "Automatic Boot
//! Assessment" of systemd).
//!
//! Each slot has entries in `loader/entries`; a *name* says what an entry is good for:
//!
//! | name | meaning |
//! |---|---|
//! | `pump-b.conf` | good: no counting |
//! | `pump-b+3.conf`, `pump-b+1-2.conf` | a trial: boots left, boots begun; the loader renames |
//! | `pump-b+0-3.conf` | used up: sorted behind all others |
//! | `pump-b.conf.off` | ours: the text of the slot, which the loader never sees |
//!
//! Of good entries and trials the loader takes the one with the highest `version` (with the same
//! `sort-key`). So arming makes a counted entry with a version above the default's; disarming
//! removes it; committing makes a plain one, and then removes the counted one and the old default's.
//! The text from which they are made stays where it is, so that an entry is never the only copy.
//!
//! Medium: the ESP is FAT, where the clusters of a file are kept apart from its name. A rename over
//! another file, or from one name to another, is several writes there: a cut between them leaves a
//! name whose bytes belong to nobody, and the next file's become its own. So:
//!
//! - Nothing is renamed and nothing is written over. The new file is made under its own name and
//!   durable, and then the old one is removed. Between the two both stand, and either will do.
//! - The line that names what is started is the last of an entry: half an entry starts nothing.
//! - What an entry starts is read in its text and not in its name. One that starts another slot
//!   than it is named after counts for that slot, and at the next start of the agent it goes.
//! - Two entries of one slot, with and without counter, let systemd bless the wrong one
//!   (systemd/systemd#33504): every act ends with one.

mod entry;
mod folder;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

pub(super) use entry::id_of;
use entry::{ENDING, Entry, Form, Marks, with_version};
use folder::{Folder, of};

use super::{Loader, PerSlot, Running, WorldError};
use crate::machine::{BootView, Slot};
use crate::ports::Storage;

/// Entries of systemd-boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdBootSettings {
    /// `/boot/loader/entries` or `/efi/loader/entries`.
    pub folder: PathBuf,
    /// The entry of each slot, without counter and ending.
    pub entries: PerSlot<String>,
    /// A word of each slot's kernel command line, by which the texts of entries are told apart.
    pub words: PerSlot<String>,
    /// Where each slot is; where it is a file that entries start, they are told apart by it too.
    pub slots: PerSlot<PathBuf>,
    /// Who says which slot runs.
    pub running: Running,
}

pub(super) struct SystemdBoot {
    folder: Folder,
    running: Running,
    /// What was found out of order.
    noticed: Vec<String>,
}

impl SystemdBoot {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: SystemdBootSettings) -> Self {
        let folder = Folder {
            storage,
            path: settings.folder,
            names: settings.entries,
            marks: Marks {
                words: settings.words,
                slots: settings.slots,
            },
            is_unsynced: Cell::new(false),
        };
        Self {
            folder,
            running: settings.running,
            noticed: Vec::new(),
        }
    }

    /// The default: what the good entry with the highest version starts.
    fn default(&self, entries: &[Entry], running: Slot) -> Result<Slot, WorldError> {
        let mut best: Option<(u64, Slot)> = None;
        let plain = || entries.iter().filter(|entry| entry.form == Form::Plain);
        for entry in plain() {
            let Some(slot) = entry.starts else { continue };
            let version = self.folder.version(entry)?;
            if best.is_none_or(|(highest, _)| version > highest) {
                best = Some((version, slot));
            }
        }
        if let Some((_, slot)) = best {
            return Ok(slot);
        }
        // A device may leave the factory with a counted entry: then what runs is what there is. In a
        // trial it is the other one, whose entry starts nothing any more.
        let other = running.other();
        let is_lost = plain().any(|entry| entry.named == other);
        Ok(if is_lost && is_counted(entries, running) {
            other
        } else {
            running
        })
    }

    fn look(&self) -> Result<(Vec<Entry>, BootView), WorldError> {
        let running = self.running.slot(self.folder.storage.as_ref())?;
        let entries = self.folder.entries()?;
        let default = self.default(&entries, running)?;
        // What stands below the default is not what was armed: the loader passes it by.
        let good = |entry: &&Entry| entry.form == Form::Plain && entry.starts == Some(default);
        let below = self.folder.highest(entries.iter().filter(good))?;
        let has_good = entries.iter().any(|entry| good(&entry));
        let mut armed = None;
        for entry in &entries {
            if let Form::Counted { left } = entry.form
                && entry.starts == Some(default.other())
                && (!has_good || self.folder.version(entry)? > below)
            {
                armed = Some((default.other(), left));
            }
        }
        let view = BootView {
            running,
            default,
            armed,
        };
        Ok((entries, view))
    }

    /// Sees to it that the default is started by an entry of its own, and that no entry starts
    /// another slot than it is named after.
    fn mend(&mut self, entries: &[Entry], default: Slot) -> Result<(), WorldError> {
        let own = format!("{}{ENDING}", self.folder.names.of(default));
        let mut plain = entries.iter().filter(|entry| entry.form == Form::Plain);
        let starting = plain.clone().any(|entry| entry.starts == Some(default));
        let has_own = plain.any(|entry| entry.file == own && entry.is_right());
        // What a counted entry alone starts is on trial, or was not started by the agent yet.
        if !has_own && (starting || !is_counted(entries, default)) {
            let Ok(text) = self.folder.text(entries, default) else {
                return Ok(());
            };
            let shown = entries.iter().filter(|entry| entry.is_shown());
            let versions = shown.filter_map(|entry| entry.version().ok());
            let version = versions.max().unwrap_or(0).saturating_add(1);
            self.folder
                .remove(entries.iter().filter(|entry| entry.file == own))?;
            self.folder.make(&own, &with_version(&text, version))?;
            self.noticed
                .push(format!("the entry \"{own}\" was made anew"));
        }
        let is_wrong = |entry: &&Entry| entry.is_shown() && !entry.is_right();
        let gone = |entry: &&Entry| is_wrong(entry) && (has_own || entry.file != own);
        for entry in entries.iter().filter(is_wrong) {
            let does = match entry.starts {
                Some(slot) => format!("starts slot \"{slot}\""),
                None => "starts nothing".to_owned(),
            };
            let what = format!("the entry \"{}\" {does}, and is not believed", entry.file);
            self.noticed.push(what);
        }
        self.folder.remove(entries.iter().filter(gone))
    }
}

/// Whether a counted entry starts this slot.
fn is_counted(entries: &[Entry], slot: Slot) -> bool {
    let mut starting = entries.iter().filter(|entry| entry.starts == Some(slot));
    starting.any(|entry| matches!(entry.form, Form::Counted { .. }))
}

impl Loader for SystemdBoot {
    fn view(&self) -> Result<BootView, WorldError> {
        Ok(self.look()?.1)
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        self.noticed = Vec::from_iter(self.running.doubt(self.folder.storage.as_ref()));
        let (entries, view) = self.look()?;
        self.folder.keep_all(&entries)?;
        self.mend(&entries, view.default)?;
        let (entries, view) = self.look()?;
        if view.armed.is_none() && view.running == view.default {
            return self.folder.hide(&entries, view.default.other());
        }
        Ok(())
    }

    fn arm(&mut self, slot: Slot, attempts: u32) -> Result<(), WorldError> {
        let entries = self.folder.entries()?;
        let text = self.folder.text(&entries, slot)?;
        let others = of(&entries, slot.other()).filter(|entry| entry.is_shown());
        let version = self.folder.highest(others)?.saturating_add(1);
        let file = format!("{}+{attempts}{ENDING}", self.folder.names.of(slot));
        let text = with_version(&text, version);
        self.folder.keep(&entries, slot, &text)?;
        // Nothing starts this slot before it is counted: what stands there goes first.
        let is_it = |entry: &Entry| entry.file == file && entry.text == text;
        let strays = of(&entries, slot).filter(|entry| entry.is_shown() && !is_it(entry));
        self.folder.remove(strays)?;
        self.folder
            .show(&self.folder.entries()?, slot, &file, &text)
    }

    fn disarm(&mut self) -> Result<(), WorldError> {
        let (entries, view) = self.look()?;
        self.folder.hide(&entries, view.default.other())
    }

    fn commit(&mut self, slot: Slot) -> Result<(), WorldError> {
        let entries = self.folder.entries()?;
        let text = self.folder.text(&entries, slot)?;
        let shown = |slot| of(&entries, slot).filter(|entry| entry.is_shown());
        let before = self.folder.highest(shown(slot.other()))?;
        // That of its trial, unless there was none.
        let tried = shown(slot).filter(|entry| entry.is_right());
        let version = self.folder.highest(tried)?.max(before.saturating_add(1));
        let file = format!("{}{ENDING}", self.folder.names.of(slot));
        self.folder.keep(&entries, slot, &text)?;
        self.folder
            .show(&entries, slot, &file, &with_version(&text, version))?;
        self.folder.hide(&self.folder.entries()?, slot.other())
    }

    fn noticed(&self) -> Vec<String> {
        self.noticed.clone()
    }
}
