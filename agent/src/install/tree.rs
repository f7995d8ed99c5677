//! Unpacks the archive of a tree into the folder of its slot.
//!
//! The archive (tar: ustar, GNU long names or pax) was verified as a whole before. It is unpacked
//! beside, synced file by file and folder by folder, and moved into place by one rename; so the
//! folder is either whole or not there. Owners and times are not kept.
//!
//! Refused: paths that lead out of the tree, links that do, devices and other special files.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::{InstallError, Place};
use crate::machine::Slot;
use crate::ports::{Access, Storage, StoredFile};

/// Entries of an archive: stops one that fills the disk with names.
const ENTRIES_MAX: usize = 1 << 20;
/// Bytes copied at once.
const PIECE_LEN: usize = 64 << 10;

pub(super) fn unpack(storage: &dyn Storage, place: &Place, slot: Slot) -> Result<(), InstallError> {
    let archive = place.slot_path(slot);
    let target = place.tree_path(slot);
    let fail = |source: io::Error| InstallError::Unpack {
        path: archive.to_owned(),
        what: source.to_string(),
    };
    let beside = target.with_extension("new");
    storage.remove(&target).map_err(fail)?;
    storage.remove(&beside).map_err(fail)?;
    unpack_into(storage, archive, &beside).map_err(fail)?;
    storage.rename(&beside, &target).map_err(fail)?;
    storage
        .sync_dir(target.parent().unwrap_or(Path::new(".")))
        .map_err(fail)
}

fn unpack_into(storage: &dyn Storage, archive: &Path, root: &Path) -> io::Result<()> {
    storage.create_dir(root)?;
    let mut folders = vec![root.to_owned()];
    let file = storage.open(archive, Access::Read)?;
    let mut archive = tar::Archive::new(Cursor::new(file));
    for (count, entry) in archive.entries()?.enumerate() {
        if count >= ENTRIES_MAX {
            return Err(io::Error::other("it has too many entries"));
        }
        let mut entry = entry?;
        let inside = inside(&entry.path()?)?;
        if inside.as_os_str().is_empty() {
            continue;
        }
        let path = root.join(&inside);
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            make_folders(storage, root, &inside, &mut folders)?;
        } else {
            let parent = inside.parent().unwrap_or(Path::new(""));
            make_folders(storage, root, parent, &mut folders)?;
            if kind.is_file() {
                let mode = entry.header().mode()?;
                write_file(storage, &path, &mut entry, mode & 0o777)?;
            } else if kind.is_symlink() {
                let target = entry
                    .link_name()?
                    .ok_or_else(|| io::Error::other("a link leads nowhere"))?;
                stays_inside(parent, &target)?;
                storage.symlink(&target, &path)?;
            } else {
                return Err(io::Error::other(format!(
                    "\"{}\" is no file, folder or link",
                    inside.display()
                )));
            }
        }
    }
    // Names last: a folder is durable when everything in it is.
    for folder in folders.iter().rev() {
        storage.sync_dir(folder)?;
    }
    Ok(())
}

fn write_file(
    storage: &dyn Storage,
    path: &Path,
    from: &mut dyn Read,
    mode: u32,
) -> io::Result<()> {
    // A second entry under one name would write through what the first one made.
    if storage.kind(path)?.is_some() {
        return Err(io::Error::other(format!(
            "\"{}\" stands twice",
            path.display()
        )));
    }
    let mut file = storage.open(path, Access::Create)?;
    let mut piece = vec![0; PIECE_LEN];
    let mut offset = 0;
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            break;
        }
        file.write_at(&piece[..count], offset)?;
        offset += count as u64;
    }
    storage.set_mode(path, mode)?;
    file.sync()
}

fn make_folders(
    storage: &dyn Storage,
    root: &Path,
    inside: &Path,
    folders: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let mut path = root.to_owned();
    for segment in inside.components() {
        path.push(segment);
        match storage.kind(&path)? {
            Some(crate::ports::Kind::Folder) => {}
            None => {
                storage.create_dir(&path)?;
                folders.push(path.clone());
            }
            Some(_) => {
                return Err(io::Error::other(format!(
                    "\"{}\" is no folder",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}

/// The path without `.`; nothing that leads out.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut inside = PathBuf::new();
    for segment in path.components() {
        match segment {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(io::Error::other(format!(
                    "\"{}\" leads out of the tree",
                    path.display()
                )));
            }
        }
    }
    Ok(inside)
}

fn stays_inside(folder: &Path, target: &Path) -> io::Result<()> {
    let mut depth = folder.components().count();
    for segment in target.components() {
        match segment {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(io::Error::other(format!(
                    "a link leads out of the tree, to \"{}\"",
                    target.display()
                )));
            }
        }
    }
    Ok(())
}

/// A stored file, read from its beginning.
pub(crate) struct Cursor {
    file: Box<dyn StoredFile>,
    offset: u64,
}

impl Cursor {
    pub(crate) fn new(file: Box<dyn StoredFile>) -> Self {
        Self { file, offset: 0 }
    }
}

impl Read for Cursor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buf, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
