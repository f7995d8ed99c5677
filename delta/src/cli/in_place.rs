//! `diff --in-place` and `apply --in-place`.
//!
//! One file holds the journal and, behind it, the scratch. It stays after the update: whoever
//! called decides when it is not needed any more.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::files::{OldFile, StoreFile, failed_to_write, read, write_whole};
use super::{Bars, Failure};
use crate::{
    Accept, DiffOptions, JOURNAL_LEN, Medium, apply_in_place, diff_in_place, in_place_header,
};

/// Where the scratch begins in the journal's file: a page behind its start.
const SCRATCH_AT: u64 = 4096;
const _: () = assert!(
    JOURNAL_LEN <= SCRATCH_AT,
    "the journal fits before the scratch"
);

pub(super) fn diff(
    options: &DiffOptions,
    scratch_kib: u64,
    old: &Path,
    new: &Path,
    patch: &Path,
) -> Result<(), Failure> {
    let (old, new) = (read(old)?, read(new)?);
    let mut bars = Bars::new();
    let bytes = diff_in_place(&old, &new, options, scratch_kib << 10, &mut |progress| {
        bars.show(progress.stage, progress.done, progress.total);
    })
    .map_err(|error| Failure::new(error.to_string()))?;
    bars.clear();
    write_whole(patch, |file| {
        file.write_all(&bytes)
            .map_err(|error| failed_to_write(patch, error))
    })
}

pub(super) fn apply(
    memory_max: u64,
    image_path: &Path,
    patch_path: &Path,
    journal_path: &Path,
) -> Result<(), Failure> {
    let first = read_first(patch_path)?;
    let Some(header) = in_place_header(&first)? else {
        let what = format!("\"{}\" is not a patch in place", patch_path.display());
        return Err(Failure::new(what));
    };
    let failed =
        |path: &Path, error| Failure::with(format!("failed to open \"{}\"", path.display()), error);
    let patch = File::open(patch_path).map_err(|error| failed(patch_path, error))?;
    let mut rewritten = OpenOptions::new();
    rewritten.read(true).write(true);
    let image = rewritten
        .open(image_path)
        .map_err(|error| failed(image_path, error))?;
    let journal = rewritten
        .create(true)
        .truncate(false)
        .open(journal_path)
        .map_err(|error| failed(journal_path, error))?;
    let end = SCRATCH_AT.saturating_add(header.scratch_len);
    if journal.metadata().is_ok_and(|found| found.len() < end) {
        journal
            .set_len(end)
            .map_err(|error| failed_to_write(journal_path, error))?;
        sync_folder(journal_path)?;
    }
    let mut bars = Bars::new();
    let mut medium = Medium {
        image: &mut StoreFile {
            file: &image,
            from: 0,
            capacity: room_of(&image),
        },
        scratch: &mut StoreFile {
            file: &journal,
            from: SCRATCH_AT,
            capacity: header.scratch_len,
        },
        journal: &mut StoreFile {
            file: &journal,
            from: 0,
            capacity: SCRATCH_AT,
        },
    };
    let accept = Accept {
        memory_max,
        ..Accept::default()
    };
    let done = apply_in_place(&mut OldFile(patch), &mut medium, &accept, &mut |progress| {
        bars.show_line("rewriting", progress.steps_done, progress.steps);
    })?;
    bars.clear();
    // A file ends where the new image ends; a block device stays as long as it is.
    if image
        .metadata()
        .is_ok_and(|found| found.is_file() && found.len() > done.new_len)
    {
        image
            .set_len(done.new_len)
            .and_then(|()| image.sync_all())
            .map_err(|error| failed_to_write(image_path, error))?;
    }
    Ok(())
}

/// A file grows as it is written; a block device has its length.
fn room_of(image: &File) -> u64 {
    if image.metadata().is_ok_and(|found| found.is_file()) {
        return u64::MAX;
    }
    let mut image = image;
    image.seek(SeekFrom::End(0)).unwrap_or(0)
}

fn read_first(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let mut first = Vec::new();
    File::open(path)
        .and_then(|file| {
            file.take(crate::IN_PLACE_HEADER_LEN_MAX as u64)
                .read_to_end(&mut first)
        })
        .map_err(|error| Failure::with(format!("failed to read \"{}\"", path.display()), error))?;
    Ok(first)
}

/// The journal's name is durable before the image is touched.
fn sync_folder(path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        let folder = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| failed_to_write(path, error))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
