//! Copies a folder as it is: files, folders, links, with owners and modes.

use std::io;
use std::path::Path;

use crate::ports::{Access, Kind, Storage};

/// Entries of a state: stops a folder that was meant for something else.
pub const FILES_MAX: usize = 1 << 16;
/// Bytes of a state. Settings, calibrations and logs fit; images and archives belong elsewhere.
pub const LEN_MAX: u64 = 1 << 30;
/// Folders within one another.
const DEPTH_MAX: usize = 64;
/// Bytes copied at once.
const PIECE_LEN: usize = 64 << 10;

/// What is left of the bounds.
struct Room {
    files: usize,
    bytes: u64,
}

/// Copies `from` to `to`, which is not there yet.
pub(super) fn copy(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    let mut room = Room {
        files: FILES_MAX,
        bytes: LEN_MAX,
    };
    copy_folder(storage, from, to, &mut room, DEPTH_MAX)
}

fn copy_folder(
    storage: &dyn Storage,
    from: &Path,
    to: &Path,
    room: &mut Room,
    depth: usize,
) -> io::Result<()> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| too_much("folders within one another"))?;
    storage.create_dir(to)?;
    storage.like(from, to)?;
    for name in storage.list(from)? {
        room.files = room.files.checked_sub(1).ok_or_else(|| too_much("files"))?;
        let (from, to) = (from.join(&name), to.join(&name));
        match storage.kind(&from)? {
            Some(Kind::Folder) => copy_folder(storage, &from, &to, room, depth)?,
            Some(Kind::File) => copy_file(storage, &from, &to, room)?,
            Some(Kind::Link) => {
                if let Some(target) = storage.read_link(&from)? {
                    storage.symlink(&target, &to)?;
                    storage.like(&from, &to)?;
                }
            }
            Some(Kind::Device) => {
                let what = format!("\"{}\" is a device", from.display());
                return Err(io::Error::other(what));
            }
            None => {}
        }
    }
    Ok(())
}

fn copy_file(storage: &dyn Storage, from: &Path, to: &Path, room: &mut Room) -> io::Result<()> {
    let old = storage.open(from, Access::Read)?;
    let mut new = storage.open(to, Access::Create)?;
    let mut piece = vec![0; PIECE_LEN];
    let mut offset = 0;
    loop {
        let count = old.read_at(&mut piece, offset)?;
        if count == 0 {
            break;
        }
        new.write_at(&piece[..count], offset)?;
        offset += count as u64;
        room.bytes = room
            .bytes
            .checked_sub(count as u64)
            .ok_or_else(|| too_much("bytes"))?;
    }
    storage.like(from, to)
}

fn too_much(what: &str) -> io::Error {
    io::Error::other(format!("it has too many {what} to be a state"))
}

/// Makes everything in a folder durable, its names last.
pub(super) fn sync(storage: &dyn Storage, folder: &Path) -> io::Result<()> {
    for name in storage.list(folder)? {
        let path = folder.join(&name);
        match storage.kind(&path)? {
            Some(Kind::Folder) => sync(storage, &path)?,
            Some(Kind::File) => storage.open(&path, Access::Read)?.sync()?,
            Some(Kind::Link | Kind::Device) | None => {}
        }
    }
    storage.sync_dir(folder)
}
