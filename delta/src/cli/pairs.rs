//! `pairs`: the payload of the update module that rewrites an image in its place.
//!
//! A tar archive, flat: for each old image `N.forward`, the patch in place to the new one, and
//! `N.back`, the way back. Both are applied here before the archive is kept.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::files::{failed_to_write, read, write_whole};
use super::{Bars, Failure};
use crate::{
    Accept, DiffOptions, ImageError, JOURNAL_LEN, Medium, Store, apply_in_place, diff_in_place,
    in_place_header,
};

/// As many as the module takes.
const PAIRS_MAX: usize = 16;

pub(super) fn make(
    options: &DiffOptions,
    scratch_kib: u64,
    payload: &Path,
    new: &Path,
    olds: &[PathBuf],
) -> Result<(), Failure> {
    if olds.len() > PAIRS_MAX {
        let count = olds.len();
        return Err(Failure::new(format!(
            "{count} old images were given, a payload has room for {PAIRS_MAX}"
        )));
    }
    let new = read(new)?;
    let mut archive = tar::Builder::new(Vec::new());
    for (number, path) in olds.iter().enumerate() {
        let old = read(path)?;
        for (from, to, ending) in [(&old, &new, "forward"), (&new, &old, "back")] {
            let patch = proven(options, scratch_kib, from, to).map_err(|why| Failure {
                what: format!("\"{}\", {ending}: {}", path.display(), why.what),
                ..why
            })?;
            let name = format!("{number}.{ending}");
            let mut header = tar::Header::new_gnu();
            header.set_size(patch.len() as u64);
            header.set_mode(0o644);
            let added = archive.append_data(&mut header, name, patch.as_slice());
            added.map_err(|error| failed_to_write(payload, error))?;
        }
    }
    let bytes = archive.into_inner();
    let bytes = bytes.map_err(|error| failed_to_write(payload, error))?;
    write_whole(payload, |file| {
        let written = file.write_all(&bytes);
        written.map_err(|error| failed_to_write(payload, error))
    })
}

/// The patch, after it was applied once.
fn proven(
    options: &DiffOptions,
    scratch_kib: u64,
    old: &[u8],
    new: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut bars = Bars::new();
    let patch = diff_in_place(old, new, options, scratch_kib << 10, &mut |progress| {
        bars.show(progress.stage, progress.done, progress.total);
    });
    bars.clear();
    let patch = patch.map_err(|error| Failure::new(error.to_string()))?;
    let scratch_len = in_place_header(&patch)?.map_or(0, |header| header.scratch_len);
    let mut image = Ram(old.to_vec());
    image.0.resize(old.len().max(new.len()), 0);
    let mut medium = Medium {
        image: &mut image,
        scratch: &mut Ram(vec![0; usize::try_from(scratch_len).unwrap_or(usize::MAX)]),
        journal: &mut Ram(vec![0; usize::try_from(JOURNAL_LEN).unwrap_or(usize::MAX)]),
    };
    let accept = Accept {
        memory_max: options.memory_max,
        caps: options.caps,
        ..Accept::default()
    };
    apply_in_place(&mut &patch[..], &mut medium, &accept, &mut |_| {})?;
    if image.0[..new.len()] == *new {
        Ok(patch)
    } else {
        Err(crate::PatchError::WrongOutput.into())
    }
}

/// Storage that forgets nothing.
struct Ram(Vec<u8>);

impl Ram {
    fn part(&mut self, offset: u64, len: usize) -> Result<&mut [u8], ImageError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = self.0.get_mut(start..start.saturating_add(len));
        part.ok_or_else(|| ImageError::new("a place beyond the end"))
    }
}

impl Store for Ram {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        buf.copy_from_slice(self.part(offset, buf.len())?);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
        self.part(offset, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), ImageError> {
        Ok(())
    }

    fn capacity(&mut self) -> Result<u64, ImageError> {
        Ok(self.0.len() as u64)
    }
}
