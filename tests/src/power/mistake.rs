//! Mistakes, planted: each is one that somebody made in the field, or might make here.

use std::path::Path;

/// What goes wrong, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Files whose path begins so are not synced.
    NoFileSync(&'static str),
    /// This folder is not synced.
    NoFolderSync(&'static str),
    /// Files whose path begins so are written in place, not beside and renamed.
    InPlace(&'static str),
    /// What is in this folder becomes durable only after something elsewhere was made durable: the
    /// journal is written after the act.
    Late(&'static str),
    /// A medium that keeps one bit wrong in files whose path begins so; the cache does not show it.
    /// That is no mistake of ours, and nothing bad may come of it.
    BadMedium(&'static str),
    /// The same, and the read-back looks at the cache: that is.
    BlindReadBack(&'static str),
    /// Arming makes the new slot the default at once.
    ArmIsCommit,
    /// Arming is forgotten, and said to be done.
    ArmNothing,
    /// Committing is put off to the next boot, and said to be done.
    CommitLater,
    /// Disarming is forgotten, and said to be done.
    DisarmNothing,
    /// The boot settings name the other slot as running.
    WrongSlotRuns,
    /// The loader does not count boots.
    LoaderCountsNothing,
    /// Gates are not asked a second time: the second answer is the first.
    GatesAskedOnce,
    /// The agent's folder is made anew at each start.
    ForgetsAll,
}

impl Mistake {
    pub(super) fn skips_file(self, path: &Path) -> bool {
        matches!(self, Self::NoFileSync(prefix) if starts(path, prefix))
    }

    pub(super) fn skips_folder(self, path: &Path) -> bool {
        matches!(self, Self::NoFolderSync(folder) if path == Path::new(folder))
    }

    pub(super) fn is_in_place(self, path: &Path) -> bool {
        matches!(self, Self::InPlace(prefix) if starts(path, prefix))
    }

    pub(super) fn is_late(self, path: &Path) -> bool {
        matches!(self, Self::Late(folder) if path == Path::new(folder))
    }

    pub(super) fn spoils(self, path: &Path) -> bool {
        matches!(self, Self::BadMedium(prefix) | Self::BlindReadBack(prefix) if starts(path, prefix))
    }

    /// Whether what is cached stays cached.
    pub(super) fn is_blind(self, path: &Path) -> bool {
        matches!(self, Self::NoFileSync(prefix) | Self::BlindReadBack(prefix) if starts(path, prefix))
    }
}

fn starts(path: &Path, prefix: &str) -> bool {
    path.to_string_lossy().starts_with(prefix)
}
