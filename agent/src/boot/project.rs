//! Makes the loader's choice visible where programs look for it.
//!
//! A slot is visible as it is. A tree's `current` link is swapped by a rename. A single file is
//! copied beside and renamed over. Each can be repeated: the boot file is the truth.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_protocol::release::Install;

use crate::install::Place;
use crate::machine::Slot;
use crate::ports::{Access, Kind, Storage, StoredFile};

/// Bytes copied or compared at once.
const PIECE_LEN: usize = 64 << 10;

pub(super) fn project(storage: &dyn Storage, place: &Place, slot: Slot) -> io::Result<PathBuf> {
    match &place.install {
        Install::Slot | Install::Module(_) => Ok(place.slot_path(slot).to_owned()),
        Install::Tree => {
            swap_link(storage, place, slot)?;
            Ok(place.visible.clone())
        }
        Install::File => {
            keep_factory(storage, place, slot)?;
            if storage.kind(place.slot_path(slot))?.is_none() {
                take_away(storage, place, slot)?;
                return Ok(place.visible.clone());
            }
            copy_over(storage, place.slot_path(slot), &place.visible)?;
            Ok(place.visible.clone())
        }
    }
}

fn swap_link(storage: &dyn Storage, place: &Place, slot: Slot) -> io::Result<()> {
    let target = PathBuf::from(slot.as_str());
    let folder = place.visible.parent().unwrap_or(Path::new("."));
    let shown = storage.read_link(&place.visible)?;
    if shown.as_ref() == Some(&target) {
        return Ok(());
    }
    if storage.kind(&folder.join(&target))?.is_none() {
        // A device as it left the factory, with nothing there: so it is again after a revert.
        let other = Path::new(slot.other().as_str());
        if shown.as_deref() == Some(other) {
            storage.remove(&place.visible)?;
            storage.sync_dir(folder)?;
        }
        return Ok(());
    }
    let temporary = folder.join("current.new");
    storage.remove(&temporary)?;
    storage.symlink(&target, &temporary)?;
    storage.rename(&temporary, &place.visible)?;
    storage.sync_dir(folder)
}

/// A device as it left the factory has the file, and nothing in the slots yet. Before the first
/// update covers it, it goes into the slot that a revert leads back to.
fn keep_factory(storage: &dyn Storage, place: &Place, slot: Slot) -> io::Result<()> {
    let (own, other) = (place.slot_path(slot), place.slot_path(slot.other()));
    let is_first = storage.kind(own)?.is_some() && storage.kind(other)?.is_none();
    if !is_first || storage.kind(&place.visible)? != Some(Kind::File) {
        return Ok(());
    }
    let shown = storage.open(&place.visible, Access::Read)?;
    let new = storage.open(own, Access::Read)?;
    if is_same(shown.as_ref(), new.as_ref())? {
        return Ok(());
    }
    copy_over(storage, &place.visible, other)
}

/// Of a file that is in no slot: what the other slot shows in its place goes, since there was none.
fn take_away(storage: &dyn Storage, place: &Place, slot: Slot) -> io::Result<()> {
    let other = place.slot_path(slot.other());
    if storage.kind(other)?.is_none() || storage.kind(&place.visible)? != Some(Kind::File) {
        return Ok(());
    }
    let shown = storage.open(&place.visible, Access::Read)?;
    if is_same(shown.as_ref(), storage.open(other, Access::Read)?.as_ref())? {
        storage.remove(&place.visible)?;
        storage.sync_dir(place.visible.parent().unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

fn copy_over(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    let source = storage.open(from, Access::Read)?;
    if storage.kind(to)? == Some(Kind::File) {
        let there = storage.open(to, Access::Read)?;
        if is_same(source.as_ref(), there.as_ref())? {
            return Ok(());
        }
    }
    let mut name = to.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let temporary = to.with_file_name(name);
    let mut copy = storage.open(&temporary, Access::Create)?;
    let mut piece = vec![0; PIECE_LEN];
    let mut offset = 0;
    loop {
        let count = source.read_at(&mut piece, offset)?;
        if count == 0 {
            break;
        }
        copy.write_at(&piece[..count], offset)?;
        offset += count as u64;
    }
    copy.sync()?;
    drop(copy);
    storage.rename(&temporary, to)?;
    storage.sync_dir(to.parent().unwrap_or(Path::new(".")))
}

fn is_same(a: &dyn StoredFile, b: &dyn StoredFile) -> io::Result<bool> {
    let len = a.len()?;
    if len != b.len()? {
        return Ok(false);
    }
    let (mut piece_a, mut piece_b) = (vec![0; PIECE_LEN], vec![0; PIECE_LEN]);
    let mut offset = 0;
    while offset < len {
        let rest = usize::try_from(len - offset)
            .unwrap_or(PIECE_LEN)
            .min(PIECE_LEN);
        a.read_exact_at(&mut piece_a[..rest], offset)?;
        b.read_exact_at(&mut piece_b[..rest], offset)?;
        if piece_a[..rest] != piece_b[..rest] {
            return Ok(false);
        }
        offset += rest as u64;
    }
    Ok(true)
}
