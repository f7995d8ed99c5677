//! The logical old image: the old image, followed by the decoded bytes of its extents.
//!
//! Decoded extents are kept while there is room, the least recently read going first.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Damage, PatchError};
use crate::image::OldImage;
use crate::plan::extents::{OldExtent, decode_cost};

/// Decoded extents, the most recently read last.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: Vec<(usize, Vec<u8>)>,
}

impl Cache {
    /// Forgets everything: extents are numbered anew in each region.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Makes room so that what is kept and `cost` more stay within `cache_max`.
    fn make_room(&mut self, cost: u64, cache_max: u64) {
        let mut held: u64 = self.kept.iter().map(|(_, raw)| raw.len() as u64).sum();
        let mut gone = 0;
        while gone < self.kept.len() && held.saturating_add(cost) > cache_max {
            held -= self.kept[gone].1.len() as u64;
            gone += 1;
        }
        self.kept.drain(..gone);
    }
}

/// The old image as covers see it.
pub(super) struct OldView<'a> {
    pub(super) image: &'a mut dyn OldImage,
    pub(super) image_len: u64,
    pub(super) extents: &'a [OldExtent],
    pub(super) cache: &'a mut Cache,
    pub(super) cache_max: u64,
    /// Where in the patch the window begins that asks, for errors.
    pub(super) asked_at: u64,
}

impl OldView<'_> {
    /// Fills `buf` from logical `offset` on. The map has bounded both.
    pub(super) fn read_at(
        &mut self,
        mut offset: u64,
        mut buf: &mut [u8],
    ) -> Result<(), PatchError> {
        while !buf.is_empty() {
            let len = if offset < self.image_len {
                let len = buf
                    .len()
                    .min(usize::try_from(self.image_len - offset).unwrap_or(usize::MAX));
                self.image
                    .read_at(offset, &mut buf[..len])
                    .map_err(PatchError::Old)?;
                len
            } else {
                self.read_decoded(offset, buf)?
            };
            offset += len as u64;
            buf = &mut buf[len..];
        }
        Ok(())
    }

    /// Like [`read_at`](Self::read_at), but what is beyond the end reads as zeros.
    pub(super) fn hint_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), PatchError> {
        let end = self
            .extents
            .last()
            .map_or(self.image_len, |e| e.raw_at + u64::from(e.raw_len));
        let known = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (known, beyond) = buf.split_at_mut(known.min(buf.len()));
        beyond.fill(0);
        self.read_at(offset, known)
    }

    fn read_decoded(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, PatchError> {
        let index = self
            .extents
            .partition_point(|extent| extent.raw_at <= offset)
            - 1;
        let from = (offset - self.extents[index].raw_at) as usize;
        let damaged = PatchError::damaged(self.asked_at, Damage::Map);
        let raw = self.decoded(index)?;
        let Some(raw) = raw.get(from..).filter(|raw| !raw.is_empty()) else {
            return Err(damaged);
        };
        let len = raw.len().min(buf.len());
        buf[..len].copy_from_slice(&raw[..len]);
        Ok(len)
    }

    fn decoded(&mut self, index: usize) -> Result<&[u8], PatchError> {
        let kept = &mut self.cache.kept;
        if let Some(at) = kept.iter().rposition(|(known, _)| *known == index) {
            let last = kept.len() - 1;
            kept[at..].rotate_left(1);
            return Ok(&self.cache.kept[last].1);
        }
        let extent = &self.extents[index];
        self.cache.make_room(
            decode_cost(extent.codec, extent.len, extent.raw_len),
            self.cache_max,
        );
        let mut encoded = vec![0; extent.len as usize];
        self.image
            .read_at(extent.at, &mut encoded)
            .map_err(PatchError::Old)?;
        let raw = extent
            .codec
            .decode(&encoded, extent.raw_len as usize)
            .ok_or(PatchError::damaged(self.asked_at, Damage::Map))?;
        self.cache.kept.push((index, raw));
        Ok(&self.cache.kept[self.cache.kept.len() - 1].1)
    }
}
