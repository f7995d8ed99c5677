//! The old image while it is being overwritten, and the window that is being made.

use core::cell::RefCell;

use alloc::vec;

use sha2::{Digest as _, Sha256};

use super::plan::{Digest, Plan};
use super::{PIECE, Store};
use crate::error::PatchError;
use crate::image::{ImageError, NewImage, OldImage};

/// The scratch, shared between what is read from it and what is written to it.
pub(super) type Scratch<'a, 'b> = &'a RefCell<&'b mut dyn Store>;

/// The old image as step `step` can still read it: in its place, or kept in the scratch.
pub(super) struct Old<'a, 'b> {
    pub(super) plan: &'a Plan,
    pub(super) step: u64,
    pub(super) image: &'a mut dyn Store,
    pub(super) scratch: Scratch<'a, 'b>,
}

impl OldImage for Old<'_, '_> {
    fn read_at(&mut self, mut offset: u64, mut buf: &mut [u8]) -> Result<(), ImageError> {
        while !buf.is_empty() {
            let (kept, len) = self.plan.kept_at(self.step, offset, buf.len() as u64);
            let (piece, rest) = buf.split_at_mut(len as usize);
            match kept {
                Some(at) => self.scratch.borrow_mut().read_at(at, piece)?,
                None => self.image.read_at(offset, piece)?,
            }
            offset += len;
            buf = rest;
        }
        Ok(())
    }
}

/// The window on its way into the scratch.
pub(super) struct Staged<'a, 'b> {
    scratch: Scratch<'a, 'b>,
    hasher: Sha256,
    written: u64,
    /// Bytes that the step makes.
    len: u64,
}

impl<'a, 'b> Staged<'a, 'b> {
    pub(super) fn new(scratch: Scratch<'a, 'b>, len: u64) -> Self {
        Self {
            scratch,
            hasher: Sha256::new(),
            written: 0,
            len,
        }
    }

    /// The digest, when the window is whole.
    pub(super) fn digest(self) -> Option<Digest> {
        (self.written == self.len).then(|| short(self.hasher))
    }
}

impl NewImage for Staged<'_, '_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        if bytes.len() as u64 > self.len - self.written {
            return Err(ImageError::new("the window is longer than its step"));
        }
        self.hasher.update(bytes);
        self.scratch.borrow_mut().write_at(self.written, bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn short(hasher: Sha256) -> Digest {
    let whole = hasher.finalize();
    let mut digest = Digest::default();
    let len = digest.len();
    digest.copy_from_slice(&whole[..len]);
    digest
}

/// The digest of the first `len` bytes of a store.
pub(super) fn digest_of(store: &mut dyn Store, len: u64) -> Result<Digest, PatchError> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < len {
        let size = usize::try_from(len - at).map_or(PIECE, |left| left.min(PIECE));
        store
            .read_at(at, &mut piece[..size])
            .map_err(PatchError::Medium)?;
        hasher.update(&piece[..size]);
        at += size as u64;
    }
    Ok(short(hasher))
}

/// The digest of bytes.
#[cfg(feature = "diff")]
pub(super) fn digest(bytes: &[u8]) -> Digest {
    short(Sha256::new_with_prefix(bytes))
}
