//! Is there room? Asked before the first byte of an update is fetched.
//!
//! A file system that is full halfway costs an hour of download and, on some media, more. What is
//! asked for is what the fill and the unpacking will take, and something for the journal; whatever
//! is full all the same ends as an error of the device, with the running slot as it was.

use std::io;
use std::path::Path;

use ampoule_protocol::release::Install;

use super::{InstallError, Place};
use crate::machine::Part;
use crate::ports::{Kind, Storage};

/// Bytes that the agent's own folder must have left: journals, metadata, history.
const RESERVE_LEN: u64 = 1 << 20;

/// Checks that a part of an update fits, and that the agent can go on writing its journal.
///
/// # Errors
/// [`InstallError::NoSpace`], and as the storage says. A storage that does not know has room.
pub fn check_space(
    storage: &dyn Storage,
    place: &Place,
    part: &Part,
    data_dir: &Path,
) -> Result<(), InstallError> {
    let slot = place.slot_path(part.slot);
    let is_device = kind(storage, slot)? == Some(Kind::Device);
    if !is_device {
        let held = room(storage, slot)?.map_or(0, |(_, held)| held);
        let length = part.artifact.length;
        let unpacked = unpacked_len(storage, place, part)?;
        needs(
            storage,
            slot,
            length.saturating_sub(held).saturating_add(unpacked),
        )?;
    }
    needs(storage, data_dir, RESERVE_LEN)
}

/// What is written beside the slot: a tree is unpacked, a file is copied under its name, a module is given a copy. What
/// stands there already is about as long, and goes first.
fn unpacked_len(storage: &dyn Storage, place: &Place, part: &Part) -> Result<u64, InstallError> {
    Ok(match &place.install {
        Install::Tree if kind(storage, &place.tree_path(part.slot))?.is_none() => {
            part.artifact.length
        }
        Install::File | Install::Module(_) => part.artifact.length,
        Install::Slot | Install::Tree => 0,
    })
}

fn needs(storage: &dyn Storage, path: &Path, needed: u64) -> Result<(), InstallError> {
    match room(storage, path)? {
        Some((free, _)) if free < needed => Err(InstallError::NoSpace {
            path: path.to_owned(),
            found: free,
            needed,
        }),
        Some(_) | None => Ok(()),
    }
}

fn room(storage: &dyn Storage, path: &Path) -> Result<Option<(u64, u64)>, InstallError> {
    storage.room(path).map_err(|source| failed(path, source))
}

fn kind(storage: &dyn Storage, path: &Path) -> Result<Option<Kind>, InstallError> {
    storage.kind(path).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> InstallError {
    InstallError::Io {
        act: "look at the space of",
        path: path.to_owned(),
        source,
    }
}
