//! Names and texts of entries: what a name is good for, and which slot a text starts.

use std::path::{Path, PathBuf};

use crate::boot::world::PerSlot;
use crate::machine::Slot;

pub(super) const ENDING: &str = ".conf";
pub(super) const KEPT: &str = ".conf.off";

/// How an entry stands in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// The text of a slot, out of the loader's sight.
    Kept,
    Plain,
    Counted {
        left: u32,
    },
}

/// One file that is named after a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) file: String,
    pub(super) form: Form,
    /// The slot of its name.
    pub(super) named: Slot,
    /// What it says; nothing where it cannot be read as text.
    pub(super) text: String,
    /// The slot that the loader starts by it; `None` where it would start nothing of ours.
    pub(super) starts: Option<Slot>,
}

impl Entry {
    /// Whether the loader sees it.
    pub(super) fn is_shown(&self) -> bool {
        self.form != Form::Kept
    }

    /// Whether its text starts the slot that it is named after.
    pub(super) fn is_right(&self) -> bool {
        self.starts == Some(self.named)
    }

    /// Its `version`, the order of the entries: 0 where there is none.
    ///
    /// # Errors
    /// The version, where it is no whole number.
    pub(super) fn version(&self) -> Result<u64, &str> {
        match self.text.lines().find_map(|line| value_of(line, "version")) {
            None => Ok(0),
            Some(version) => version.parse().map_err(|_| version),
        }
    }
}

/// What tells the slots apart in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    /// A word of the options.
    pub(super) words: PerSlot<String>,
    /// The file that is the slot, where slots are files that the loader starts.
    pub(super) slots: PerSlot<PathBuf>,
}

impl Marks {
    /// The slot that the loader starts by this text, in an entry that is named after `named`.
    ///
    /// All that the text says of a slot has to be of one; a text that says nothing of slots is
    /// believed to be what its name says.
    pub(super) fn started_by(&self, text: &str, named: Slot) -> Option<Slot> {
        let kernel = kernel_of(text)?;
        let says = |slot: Slot| {
            let word = self.words.of(slot);
            let mut options = text.lines().filter_map(|line| value_of(line, "options"));
            options.any(|line| line.split_ascii_whitespace().any(|other| other == word))
                || is_below(self.slots.of(slot), kernel)
        };
        match (says(Slot::A), says(Slot::B)) {
            (true, true) => None,
            (true, false) => Some(Slot::A),
            (false, true) => Some(Slot::B),
            (false, false) => Some(named),
        }
    }
}

/// Whether a file of the device is this one of the loader's partition.
fn is_below(file: &Path, kernel: &str) -> bool {
    let kernel = kernel.replace('\\', "/");
    let kernel = kernel.trim_start_matches('/');
    !kernel.is_empty() && file.ends_with(kernel)
}

/// The entry that a name means, without counter and ending.
pub(in crate::boot::world) fn id_of(file: &str) -> &str {
    split(file).map_or(file.strip_suffix(ENDING).unwrap_or(file), |(id, _)| id)
}

/// Takes `pump-b+1-2.conf` apart; `None` for what is no entry.
pub(super) fn split(file: &str) -> Option<(&str, Form)> {
    if let Some(id) = file.strip_suffix(KEPT) {
        return Some((id, Form::Kept));
    }
    let stem = file.strip_suffix(ENDING)?;
    let counted = stem.rsplit_once('+').and_then(|(id, counter)| {
        let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
        let _done: u32 = done.parse().ok()?;
        let left = left.parse().ok()?;
        Some((id, Form::Counted { left }))
    });
    Some(counted.unwrap_or((stem, Form::Plain)))
}

/// The value of a line with this key.
fn value_of<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let rest = line.trim_start().strip_prefix(key)?;
    rest.starts_with(char::is_whitespace).then(|| rest.trim())
}

/// What a line has the loader start.
fn kernel_in(line: &str) -> Option<&str> {
    ["linux", "efi"]
        .into_iter()
        .find_map(|key| value_of(line, key))
}

fn kernel_of(text: &str) -> Option<&str> {
    text.lines().rev().find_map(kernel_in)
}

/// The text with another version; all other lines as they are, and last the one that names what is
/// started: half an entry starts nothing.
pub(super) fn with_version(text: &str, version: u64) -> String {
    let others = text
        .lines()
        .filter(|line| value_of(line, "version").is_none());
    let (last, first): (Vec<_>, Vec<_>) = others.partition(|line| kernel_in(line).is_some());
    let mut out = format!("version {version}\n");
    for line in first.into_iter().chain(last) {
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Marks {
        Marks {
            words: PerSlot {
                a: "ampoule.slot=a".to_owned(),
                b: "ampoule.slot=b".to_owned(),
            },
            slots: PerSlot {
                a: "/esp/pump-a.efi".into(),
                b: "/esp/pump-b.efi".into(),
            },
        }
    }

    #[test]
    fn names_are_taken_apart_as_the_loader_does() {
        let counted = |left| Form::Counted { left };
        assert_eq!(split("os.conf"), Some(("os", Form::Plain)));
        assert_eq!(split("os+3.conf"), Some(("os", counted(3))));
        assert_eq!(split("os+1-2.conf"), Some(("os", counted(1))));
        assert_eq!(split("os+0-3.conf"), Some(("os", counted(0))));
        assert_eq!(split("os+x.conf"), Some(("os+x", Form::Plain)));
        assert_eq!(split("os.conf.off"), Some(("os", Form::Kept)));
        assert_eq!(split("os.txt"), None);
        assert_eq!(id_of("os+2-1.conf"), "os");
        assert_eq!(id_of("os"), "os");
    }

    #[test]
    fn a_text_says_which_slot_it_starts() {
        let of = |text: &str| marks().started_by(text, Slot::B);
        let (a, b) = (Some(Slot::A), Some(Slot::B));
        assert_eq!(of("options quiet ampoule.slot=b\nlinux /b/linux\n"), b);
        assert_eq!(of("linux /b/linux\noptions\tampoule.slot=a"), a);
        assert_eq!(of("efi /pump-a.efi\n"), a);
        assert_eq!(of("efi \\pump-b.efi\n"), b);
        assert_eq!(of("efi /EFI/Linux/pump-a.efi\n"), b, "another file");
        assert_eq!(of("title Pump\nlinux /linux\n"), b, "by its name alone");
    }

    #[test]
    fn a_text_that_starts_nothing_or_two_slots_is_nobodys() {
        for text in [
            "",
            "version 2\n",
            "version 2\noptions ampoule.slot=b\n",
            "linuxx /b/linux\noptions ampoule.slot=b\n",
            "# linux /b/linux\noptions ampoule.slot=b\n",
            "options ampoule.slot=b\nefi /pump-a.efi\n",
            "options ampoule.slot=a\noptions ampoule.slot=b\nlinux /linux\n",
        ] {
            assert_eq!(marks().started_by(text, Slot::B), None, "{text:?}");
        }
    }

    #[test]
    fn only_the_version_changes_and_what_is_started_comes_last() {
        let text = "title Pump\nversion 4\nlinux /b/linux\noptions quiet\n";
        let wanted = "version 7\ntitle Pump\noptions quiet\nlinux /b/linux\n";
        assert_eq!(with_version(text, 7), wanted);
        assert_eq!(with_version(wanted, 7), wanted);
    }

    /// Catches a text whose beginning would be an entry already.
    #[test]
    fn no_beginning_of_an_entry_starts_a_slot_of_its_own_name() {
        let text = "options ampoule.slot=b quiet\nefi /pump-b.efi\nsort-key pump\n";
        let whole = with_version(text, 3);
        for len in 0..whole.trim_end().len() {
            let kernel = kernel_of(&whole[..len]).unwrap_or_default();
            assert_ne!(kernel, "/pump-b.efi", "{len}");
        }
    }
}
