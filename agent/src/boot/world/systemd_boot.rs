//! Boot counting of systemd-boot (the UAPI group's Boot Loader Specification, and "Automatic Boot
//! Assessment" of systemd).
//!
//! Each slot has one entry in `loader/entries`; its *name* says what it is good for:
//!
//! | name | meaning |
//! |---|---|
//! | `pump-b.conf` | good: no counting |
//! | `pump-b+3.conf`, `pump-b+1-2.conf` | a trial: boots left, boots begun; the loader renames |
//! | `pump-b+0-3.conf` | used up: sorted behind all others |
//! | `pump-b.conf.off` | ours: not an entry at all, so the loader never sees it |
//!
//! Of good entries and trials the loader takes the one with the highest `version` (with the same
//! `sort-key`). So arming gives the hidden entry a version above the default's, which nobody sees,
//! and then shows it: one rename. Disarming hides it: one rename. Committing takes the counter
//! out of the name: one rename; the old default is hidden behind it, and if a cut falls between,
//! the new one has the higher version anyway.
//!
//! Two entries of one slot, with and without counter, let systemd bless the wrong one
//! (systemd/systemd#33504). Here the commit renames the counted one *over* the plain one, and
//! arming removes strays before it shows anything.
//!
//! Medium: the ESP is FAT. Its renames are one directory entry in the kernel's cache, but the
//! medium may see it as two writes; nothing here can help that. That the entry still knows its bytes
//! is the storage's to see to ([`crate::disk::Disk`]).

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Loader, PerSlot, Running, WorldError};
use crate::machine::{BootView, Slot};
use crate::ports::{Storage, replace};

/// Bytes of an entry that are read at most.
const ENTRY_LEN_MAX: u64 = 64 << 10;
const ENDING: &str = ".conf";
const HIDDEN: &str = ".conf.off";

/// Entries of systemd-boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdBootSettings {
    /// `/boot/loader/entries` or `/efi/loader/entries`.
    pub folder: PathBuf,
    /// The entry of each slot, without counter and ending.
    pub entries: PerSlot<String>,
    /// Who says which slot runs.
    pub running: Running,
}

pub(super) struct SystemdBoot {
    storage: Rc<dyn Storage>,
    settings: SystemdBootSettings,
}

/// How an entry stands in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Hidden,
    Plain,
    Counted { left: u32 },
}

/// One file that is an entry of a slot.
#[derive(Debug, Clone)]
struct Entry {
    file: String,
    form: Form,
}

/// The entry that a name means, without counter and ending.
pub(super) fn id_of(file: &str) -> &str {
    split(file).map_or(file.strip_suffix(ENDING).unwrap_or(file), |(id, _)| id)
}

/// Takes `pump-b+1-2.conf` apart; `None` for what is no entry.
fn split(file: &str) -> Option<(&str, Form)> {
    if let Some(id) = file.strip_suffix(HIDDEN) {
        return Some((id, Form::Hidden));
    }
    let stem = file.strip_suffix(ENDING)?;
    let counted = stem.rsplit_once('+').and_then(|(id, counter)| {
        let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
        let _done: u32 = done.parse().ok()?;
        Some((
            id,
            Form::Counted {
                left: left.parse().ok()?,
            },
        ))
    });
    Some(counted.unwrap_or((stem, Form::Plain)))
}

impl SystemdBoot {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: SystemdBootSettings) -> Self {
        Self { storage, settings }
    }

    fn folder(&self) -> &Path {
        &self.settings.folder
    }

    fn entries(&self, slot: Slot) -> Result<Vec<Entry>, WorldError> {
        let files = self.storage.list(self.folder());
        let files = files.map_err(WorldError::io("read", self.folder()))?;
        let id = self.settings.entries.of(slot);
        let ours = files.iter().filter_map(|file| {
            let (found, form) = split(file)?;
            (found == id).then(|| Entry {
                file: file.clone(),
                form,
            })
        });
        Ok(ours.collect())
    }

    fn read(&self, file: &str) -> Result<String, WorldError> {
        let path = self.folder().join(file);
        let bytes = self.storage.read(&path, ENTRY_LEN_MAX);
        let bytes = bytes
            .map_err(WorldError::io("read", &path))?
            .unwrap_or_default();
        String::from_utf8(bytes).map_err(|_| WorldError::malformed(&path, "are not text"))
    }

    /// The `version` of an entry: the order of the entries, so a whole number; 0 where none is.
    fn version(&self, file: &str) -> Result<u64, WorldError> {
        let text = self.read(file)?;
        let Some(version) = text.lines().find_map(version_of) else {
            return Ok(0);
        };
        version.parse().map_err(|_| {
            let what = format!("have the version \"{version}\", expected a whole number");
            WorldError::unprepared(&self.folder().join(file), what)
        })
    }

    /// The default: the good entry with the highest version.
    fn default(&self, running: Slot) -> Result<Slot, WorldError> {
        let mut best: Option<(u64, Slot)> = None;
        for slot in [Slot::A, Slot::B] {
            for entry in self
                .entries(slot)?
                .iter()
                .filter(|entry| entry.form == Form::Plain)
            {
                let version = self.version(&entry.file)?;
                if best.is_none_or(|(highest, _)| version > highest) {
                    best = Some((version, slot));
                }
            }
        }
        // A device may leave the factory with a counted entry: then what runs is what there is.
        Ok(best.map_or(running, |(_, slot)| slot))
    }

    fn counted(&self, slot: Slot) -> Result<Option<(Entry, u32)>, WorldError> {
        Ok(self
            .entries(slot)?
            .into_iter()
            .find_map(|entry| match entry.form {
                Form::Counted { left } => Some((entry, left)),
                Form::Hidden | Form::Plain => None,
            }))
    }

    fn armed(&self, default: Slot) -> Result<Option<(Slot, u32)>, WorldError> {
        let slot = default.other();
        Ok(self.counted(slot)?.map(|(_, left)| (slot, left)))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), WorldError> {
        if from == to {
            return Ok(());
        }
        let (from, to) = (self.folder().join(from), self.folder().join(to));
        self.storage
            .rename(&from, &to)
            .map_err(WorldError::io("write", &to))?;
        self.storage
            .sync_dir(self.folder())
            .map_err(WorldError::io("write", &to))
    }

    /// Takes every entry of a slot out of the loader's sight: the last one by a rename.
    fn hide(&self, slot: Slot) -> Result<(), WorldError> {
        let hidden = format!("{}{HIDDEN}", self.settings.entries.of(slot));
        for entry in self.entries(slot)? {
            if entry.form != Form::Hidden {
                self.rename(&entry.file, &hidden)?;
            }
        }
        Ok(())
    }

    fn running(&self) -> Result<Slot, WorldError> {
        self.settings.running.slot(self.storage.as_ref())
    }
}

impl Loader for SystemdBoot {
    fn view(&self) -> Result<BootView, WorldError> {
        let running = self.running()?;
        let default = self.default(running)?;
        Ok(BootView {
            running,
            default,
            armed: self.armed(default)?,
        })
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        let view = self.view()?;
        if view.armed.is_none() && view.running == view.default {
            return self.hide(view.default.other());
        }
        Ok(())
    }

    fn arm(&mut self, slot: Slot, attempts: u32) -> Result<(), WorldError> {
        let id = self.settings.entries.of(slot);
        let shown = format!("{id}+{attempts}{ENDING}");
        let entries = self.entries(slot)?;
        if let [entry] = &entries[..]
            && entry.file == shown
        {
            return Ok(());
        }
        let Some(newest) = entries.iter().max_by_key(|entry| entry.form) else {
            let what = format!("have no entry \"{id}\"");
            return Err(WorldError::unprepared(self.folder(), what));
        };
        let text = self.read(&newest.file)?;
        if with_version(&text, 0).trim().lines().count() < 2 {
            // Armed as it is, it would be an entry that starts nothing.
            let path = self.folder().join(&newest.file);
            return Err(WorldError::unprepared(&path, "say nothing but a version"));
        }
        let version = match self.plain(slot.other())? {
            Some(entry) => self.version(&entry.file)?,
            None => 0,
        };
        let hidden = format!("{id}{HIDDEN}");
        let path = self.folder().join(&hidden);
        let text = with_version(&text, version.saturating_add(1));
        replace(self.storage.as_ref(), &path, text.as_bytes())
            .map_err(WorldError::io("write", &path))?;
        for stray in entries.iter().filter(|entry| entry.form != Form::Hidden) {
            let path = self.folder().join(&stray.file);
            self.storage
                .remove(&path)
                .map_err(WorldError::io("write", &path))?;
        }
        self.storage
            .sync_dir(self.folder())
            .map_err(WorldError::io("write", self.folder()))?;
        self.rename(&hidden, &shown)
    }

    fn disarm(&mut self) -> Result<(), WorldError> {
        let default = self.default(self.running()?)?;
        self.hide(default.other())
    }

    fn commit(&mut self, slot: Slot) -> Result<(), WorldError> {
        let id = self.settings.entries.of(slot);
        let entries = self.entries(slot)?;
        // The counted entry is the one that was tried; a plain one beside it goes under it.
        let Some(tried) = entries.iter().max_by_key(|entry| entry.form) else {
            let what = format!("have no entry \"{id}\"");
            return Err(WorldError::unprepared(self.folder(), what));
        };
        self.rename(&tried.file, &format!("{id}{ENDING}"))?;
        for stray in entries.iter().filter(|entry| entry.form > Form::Plain) {
            let path = self.folder().join(&stray.file);
            self.storage
                .remove(&path)
                .map_err(WorldError::io("write", &path))?;
        }
        self.hide(slot.other())
    }
}

impl SystemdBoot {
    fn plain(&self, slot: Slot) -> Result<Option<Entry>, WorldError> {
        Ok(self
            .entries(slot)?
            .into_iter()
            .find(|entry| entry.form == Form::Plain))
    }
}

fn version_of(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("version")?;
    rest.starts_with(char::is_whitespace).then(|| rest.trim())
}

/// The text with another version; all other lines as they are.
fn with_version(text: &str, version: u64) -> String {
    let mut out = format!("version {version}\n");
    for line in text.lines().filter(|line| version_of(line).is_none()) {
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_the_loader_does() {
        assert_eq!(split("os.conf"), Some(("os", Form::Plain)));
        assert_eq!(split("os+3.conf"), Some(("os", Form::Counted { left: 3 })));
        assert_eq!(
            split("os+1-2.conf"),
            Some(("os", Form::Counted { left: 1 }))
        );
        assert_eq!(
            split("os+0-3.conf"),
            Some(("os", Form::Counted { left: 0 }))
        );
        assert_eq!(split("os+x.conf"), Some(("os+x", Form::Plain)));
        assert_eq!(split("os.conf.off"), Some(("os", Form::Hidden)));
        assert_eq!(split("os.txt"), None);
        assert_eq!(id_of("os+2-1.conf"), "os");
        assert_eq!(id_of("os"), "os");
    }

    #[test]
    fn an_entry_without_words_is_seen() {
        for text in ["", "version 2\n", "\nversion 2"] {
            assert!(with_version(text, 0).trim().lines().count() < 2, "{text:?}");
        }
        assert_eq!(with_version("efi /b.efi\n", 0).lines().count(), 2);
    }

    #[test]
    fn only_the_version_changes() {
        let text = "title Pump\nversion 4\nlinux /b/linux\n";
        assert_eq!(
            with_version(text, 7),
            "version 7\ntitle Pump\nlinux /b/linux\n"
        );
    }
}
