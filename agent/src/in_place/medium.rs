//! What the patcher rewrites, through the storage port.

use std::path::{Path, PathBuf};

use ampoule_delta::{ImageError, JOURNAL_LEN, Medium, OldImage, Store, apply_in_place};
use ring::digest::{Context, SHA256};

use super::InPlaceError;
use super::pair::accept;
use crate::ports::{Access, Storage, StoredFile};

/// Bytes read at once.
const PIECE_LEN: usize = 64 << 10;

/// A file or device that is read and rewritten.
pub(super) struct Stored {
    file: Box<dyn StoredFile>,
    /// Bytes that it may hold; `None` for as many as it has.
    room: Option<u64>,
}

impl Stored {
    pub(super) fn of(file: Box<dyn StoredFile>) -> Self {
        Self { file, room: None }
    }
}

impl OldImage for Stored {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(ImageError::new)
    }
}

impl Store for Stored {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(ImageError::new)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
        self.file.write_at(bytes, offset).map_err(ImageError::new)
    }

    fn sync(&mut self) -> Result<(), ImageError> {
        self.file.sync().map_err(ImageError::new)
    }

    fn capacity(&mut self) -> Result<u64, ImageError> {
        match self.room {
            Some(room) => Ok(room),
            None => self.file.len().map_err(ImageError::new),
        }
    }
}

/// What is to be rewritten, and by what.
pub(super) struct Task<'a> {
    pub(super) patch: &'a Path,
    /// The image, and whether it may grow.
    pub(super) image: &'a (PathBuf, bool),
    pub(super) journal: &'a Path,
    pub(super) scratch: &'a Path,
    pub(super) scratch_len: u64,
    pub(super) memory_max: u64,
}

/// Rewrites the image, or goes on with what was cut.
pub(super) fn apply(storage: &dyn Storage, task: &Task<'_>) -> Result<(), InPlaceError> {
    let open = |path: &Path, access| {
        let file = storage.open(path, access);
        file.map_err(InPlaceError::io("open", path))
    };
    let (path, may_grow) = task.image;
    let mut patch = Stored::of(open(task.patch, Access::Read)?);
    let mut image = Stored {
        file: open(path, Access::Write)?,
        room: may_grow.then_some(u64::MAX),
    };
    let mut journal = room(storage, task.journal, JOURNAL_LEN)?;
    let mut scratch = room(storage, task.scratch, task.scratch_len)?;
    let folder = super::above(task.journal);
    // The names are durable before the image is touched.
    let synced = storage.sync_dir(folder);
    synced.map_err(InPlaceError::io("sync", folder))?;
    let mut medium = Medium {
        image: &mut image,
        scratch: &mut scratch,
        journal: &mut journal,
    };
    let accept = accept(task.memory_max);
    let done = apply_in_place(&mut patch, &mut medium, &accept, &mut |_| {});
    let header = done.map_err(InPlaceError::patch(task.patch))?;
    end_at(storage, task.image, header.new_len)
}

/// A file ends where its image ends; a block device stays as long as it is.
pub(super) fn end_at(
    storage: &dyn Storage,
    (path, is_file): &(PathBuf, bool),
    len: u64,
) -> Result<(), InPlaceError> {
    if !is_file {
        return Ok(());
    }
    let cut = storage.open(path, Access::Write).and_then(|mut file| {
        if file.len()? > len {
            file.set_len(len)?;
            file.sync()?;
        }
        Ok(())
    });
    cut.map_err(InPlaceError::io("cut", path))
}

/// A file of this many bytes; what is in it already stays.
fn room(storage: &dyn Storage, path: &Path, len: u64) -> Result<Stored, InPlaceError> {
    let made = storage.open(path, Access::Make).and_then(|mut file| {
        if file.len()? < len {
            file.set_len(len)?;
            file.sync()?;
        }
        Ok(file)
    });
    made.map(Stored::of).map_err(InPlaceError::io("make", path))
}

/// Whether the first `len` bytes have this SHA-256.
pub(super) fn is_image(
    storage: &dyn Storage,
    path: &Path,
    len: u64,
    digest: &[u8; 32],
) -> std::io::Result<bool> {
    let file = storage.open_medium(path)?;
    if file.len()? < len {
        return Ok(false);
    }
    let mut hasher = Context::new(&SHA256);
    let mut piece = vec![0; PIECE_LEN];
    let mut at = 0;
    while at < len {
        let size = usize::try_from(len - at).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
        file.read_exact_at(&mut piece[..size], at)?;
        hasher.update(&piece[..size]);
        at += size as u64;
    }
    Ok(hasher.finish().as_ref() == digest)
}
