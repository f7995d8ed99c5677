//! The folder of entries: what stands in it, and how it is changed. Nothing here renames a file, or
//! writes over one.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::entry::{Entry, Form, KEPT, Marks, split, with_version};
use crate::boot::world::{PerSlot, WorldError};
use crate::machine::Slot;
use crate::ports::{Access, Storage};

/// Bytes of an entry that are read at most.
const ENTRY_LEN_MAX: u64 = 64 << 10;

/// `loader/entries`.
pub(super) struct Folder {
    pub(super) storage: Rc<dyn Storage>,
    pub(super) path: PathBuf,
    /// The entry of each slot, without counter and ending.
    pub(super) names: PerSlot<String>,
    pub(super) marks: Marks,
    /// Whether names may stand otherwise on the medium than they seem to.
    pub(super) is_unsynced: Cell<bool>,
}

impl Folder {
    /// All files that are named after a slot.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, WorldError> {
        let files = self.storage.list(&self.path);
        let files = files.map_err(WorldError::io("read", &self.path))?;
        let mut entries = Vec::new();
        for file in files {
            let Some((id, form)) = split(&file) else {
                continue;
            };
            let Some(named) = self.names.find(|entry| entry == id) else {
                continue;
            };
            let path = self.path.join(&file);
            let bytes = self.storage.read(&path, ENTRY_LEN_MAX);
            let bytes = bytes.map_err(WorldError::io("read", &path))?;
            // What is no text starts nothing.
            let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
            let starts = self.marks.started_by(&text, named);
            entries.push(Entry {
                file,
                form,
                named,
                text,
                starts,
            });
        }
        Ok(entries)
    }

    pub(super) fn version(&self, entry: &Entry) -> Result<u64, WorldError> {
        entry.version().map_err(|version| {
            let what = format!("have the version \"{version}\", expected a whole number");
            WorldError::unprepared(&self.path.join(&entry.file), what)
        })
    }

    /// The highest version of those; 0 where there is none.
    pub(super) fn highest<'e>(
        &self,
        entries: impl Iterator<Item = &'e Entry>,
    ) -> Result<u64, WorldError> {
        entries
            .map(|entry| self.version(entry))
            .try_fold(0, |highest, version| Ok(version?.max(highest)))
    }

    /// The text of a slot: that of the entry that was tried, else of the good one, else what is kept;
    /// and if there is none of them, that of an entry which bears another name.
    pub(super) fn text(&self, entries: &[Entry], slot: Slot) -> Result<String, WorldError> {
        let starting = entries.iter().filter(|entry| entry.starts == Some(slot));
        let best = starting.max_by_key(|entry| (entry.is_right(), entry.form));
        best.map(|entry| entry.text.clone()).ok_or_else(|| {
            let id = self.names.of(slot);
            let what = format!("have no entry \"{id}\" that starts slot \"{slot}\"");
            WorldError::unprepared(&self.path, what)
        })
    }

    /// Makes a file under a name that nobody has, durable.
    pub(super) fn make(&self, file: &str, text: &str) -> Result<(), WorldError> {
        let path = self.path.join(file);
        let made = self.made(&path, text.as_bytes());
        if made.is_err() {
            // Nobody knows what of it is on the medium: it is to be made again.
            let _ = self.storage.remove(&path);
        }
        made.map_err(WorldError::io("write", &path))
    }

    fn made(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.is_unsynced.set(true);
        let mut file = self.storage.open(path, Access::Create)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        drop(file);
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        self.storage.sync_dir(&self.path)?;
        self.is_unsynced.set(false);
        Ok(())
    }

    /// Removes these files, for good.
    pub(super) fn remove<'e>(
        &self,
        entries: impl Iterator<Item = &'e Entry>,
    ) -> Result<(), WorldError> {
        for entry in entries {
            let path = self.path.join(&entry.file);
            self.is_unsynced.set(true);
            let removed = self.storage.remove(&path);
            removed.map_err(WorldError::io("write", &path))?;
        }
        if !self.is_unsynced.get() {
            return Ok(());
        }
        self.sync().map_err(WorldError::io("write", &self.path))
    }

    /// Keeps the text of a slot out of the loader's sight.
    pub(super) fn keep(&self, entries: &[Entry], slot: Slot, text: &str) -> Result<(), WorldError> {
        let kept = || of(entries, slot).filter(|entry| entry.form == Form::Kept);
        let is_kept = |entry: &Entry| with_version(&entry.text, 0) == with_version(text, 0);
        if kept().any(is_kept) {
            return Ok(());
        }
        self.remove(kept())?;
        let file = format!("{}{KEPT}", self.names.of(slot));
        self.make(&file, &with_version(text, 0))
    }

    /// Leaves one entry of a slot in the loader's sight, made from its text: first the new one, then
    /// the others go.
    pub(super) fn show(
        &self,
        entries: &[Entry],
        slot: Slot,
        file: &str,
        text: &str,
    ) -> Result<(), WorldError> {
        let shown = || of(entries, slot).filter(|entry| entry.is_shown());
        let is_it = |entry: &&Entry| entry.file == file && entry.text == text;
        if !shown().any(|entry| is_it(&entry)) {
            self.remove(shown().filter(|entry| entry.file == file))?;
            self.make(file, text)?;
        }
        self.remove(shown().filter(|entry| entry.file != file))
    }

    /// Takes every entry of a slot out of the loader's sight; its text stays.
    pub(super) fn hide(&self, entries: &[Entry], slot: Slot) -> Result<(), WorldError> {
        let shown = || of(entries, slot).filter(|entry| entry.is_shown());
        // What has no text of this slot is of no use to anybody.
        if shown().next().is_some()
            && let Ok(text) = self.text(entries, slot)
        {
            self.keep(entries, slot, &text)?;
        }
        self.remove(shown())
    }

    /// Keeps the text of each slot that has one.
    pub(super) fn keep_all(&self, entries: &[Entry]) -> Result<(), WorldError> {
        for slot in [Slot::A, Slot::B] {
            if let Ok(text) = self.text(entries, slot) {
                self.keep(entries, slot, &text)?;
            }
        }
        Ok(())
    }
}

/// Those that are named after this slot.
pub(super) fn of(entries: &[Entry], slot: Slot) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(move |entry| entry.named == slot)
}
