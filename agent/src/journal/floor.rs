//! The floor, once more: what must not be lost with the journal.
//!
//! ```text
//!   floor.json:   <sha256 of the rest, 64 hex digits>\n{"floor":17,"downgrades":0}
//! ```
//!
//! A device whose journal is gone knows neither what it was doing nor what it refused, and can
//! find both out again. It cannot find out how far it had come: with a floor of 0 every release
//! that was ever signed would be new to it. So the floor has a file of its own, written only when
//! it changes, and *before* the journal that has the new one. The newer of the two holds: the one
//! with the higher serial of a downgrade record, and among equals the one with the higher floor.
//!
//! Where both journals and this file are lost on a device that has lived, nobody may guess: the
//! agent stops and asks for a person ([`JournalError::FloorLost`]).

use std::io;
use std::path::{Path, PathBuf};

use ampoule_protocol::version::RollbackIndex;
use serde::{Deserialize, Serialize};

use super::{JournalError, is_set_aside, line_of, parse_line, set_aside};
use crate::machine::Facts;
use crate::ports::{Storage, replace};

/// Bytes of the floor file that are read at most.
const FLOOR_LEN_MAX: u64 = 64 << 10;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Floor {
    floor: RollbackIndex,
    /// The highest serial of a downgrade record that was used.
    #[serde(default)]
    downgrades: u64,
}

impl Floor {
    pub(super) fn of(facts: &Facts) -> Self {
        Self {
            floor: facts.floor,
            downgrades: facts.downgrades,
        }
    }

    /// Takes over what the file knows better.
    pub(super) fn raise(&self, facts: &mut Facts) {
        // The floor falls only together with a serial that rises.
        let file = (self.downgrades, self.floor);
        let journal = (facts.downgrades, facts.floor);
        (facts.downgrades, facts.floor) = file.max(journal);
    }
}

/// What became of the file.
pub(super) enum Found {
    /// It is there and whole.
    Known(Floor),
    /// It was never written, or its name is lost.
    Missing,
    /// It was there, and was set aside.
    Broken,
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("floor.json")
}

/// Reads the file; one that cannot be read is set aside.
pub(super) fn read(storage: &dyn Storage, folder: &Path) -> io::Result<Found> {
    let path = path(folder);
    let Ok(bytes) = storage.read(&path, FLOOR_LEN_MAX) else {
        set_aside(storage, &path)?;
        return Ok(Found::Broken);
    };
    let Some(bytes) = bytes else {
        return Ok(Found::Missing);
    };
    if let Some(floor) = parse_line(&bytes) {
        return Ok(Found::Known(floor));
    }
    set_aside(storage, &path)?;
    Ok(Found::Broken)
}

/// As [`read`], and touches nothing.
pub(super) fn peek(storage: &dyn Storage, folder: &Path) -> io::Result<Option<Floor>> {
    let bytes = storage.read(&path(folder), FLOOR_LEN_MAX)?;
    Ok(bytes.as_deref().and_then(parse_line))
}

pub(super) fn write(storage: &dyn Storage, folder: &Path, floor: &Floor) -> io::Result<()> {
    replace(storage, &path(folder), &line_of(floor)?)
}

/// Whether this device has lived: then a floor that nobody knows is a lost one.
pub(super) fn has_lived(storage: &dyn Storage, folder: &Path) -> io::Result<bool> {
    let traces = ["journal-0.json", "journal-1.json", "floor.json"];
    for trace in traces {
        if is_set_aside(storage, &folder.join(trace))? {
            return Ok(true);
        }
    }
    Ok(storage.kind(&folder.join("metadata/root.json"))?.is_some())
}

/// Gives a device the floor that it lost, on the word of a person in front of it.
///
/// # Errors
/// [`JournalError::FloorKnown`] where nothing is lost: a known floor is never changed so.
pub(super) fn restore(
    storage: &dyn Storage,
    folder: &Path,
    floor: RollbackIndex,
) -> Result<(), JournalError> {
    if let Found::Known(known) = read(storage, folder)? {
        return Err(JournalError::FloorKnown(known.floor));
    }
    let floor = Floor {
        floor,
        downgrades: 0,
    };
    Ok(write(storage, folder, &floor)?)
}
