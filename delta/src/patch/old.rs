//! The logical old image: the old image, followed by the decoded bytes of its extents.
//!
//! Decoded extents are kept while there is room, the least recently read going first: short ones
//! whole, long ones in pages, see [`pages`]. Plain bytes come through [`lines`].

mod lines;
mod pages;

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Damage, PatchError};
use crate::image::OldImage;
use crate::plan::extents::{OldExtent, PAGE, decode_cost, paged_cost};
pub(crate) use lines::LINES_MEMORY;
use lines::Lines;
use pages::{Live, Mark};

/// Decoded bytes of an extent: its number, and that of the page, 0 for all.
type Key = (usize, u32);

/// Decoded bytes, the most recently read last, and what decodes more of them.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: Vec<(Key, Vec<u8>)>,
    /// The reader that read last.
    live: Option<Live>,
    marks: Vec<Mark>,
    lines: Lines,
}

impl Cache {
    /// One that reads no more than it is asked for: where the old image is being overwritten, old
    /// bytes are not to be kept, and where it is noted what is read, nothing else is to be read.
    pub(super) fn exact() -> Self {
        let mut this = Self::default();
        this.lines.off = true;
        this
    }

    /// Forgets what is decoded: extents are numbered anew in each region.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.live = None;
        self.marks.clear();
    }

    /// Where what is kept under `key` stands, now that it was read last.
    fn touch(&mut self, key: Key) -> Option<usize> {
        let at = self.kept.iter().rposition(|(known, _)| *known == key)?;
        self.kept[at..].rotate_left(1);
        Some(self.kept.len() - 1)
    }

    /// Makes room so that what is held and `cost` more stay within `cache_max`.
    fn make_room(&mut self, cost: u64, cache_max: u64) {
        let fits = |held: u64| held.saturating_add(cost) <= cache_max;
        let mut beside = self.marks_memory();
        beside += self.live.as_ref().map_or(0, Live::memory);
        let mut held = self.kept_memory();
        let mut gone = 0;
        while gone < self.kept.len() && !fits(held.saturating_add(beside)) {
            held -= self.kept[gone].1.len() as u64;
            gone += 1;
        }
        self.kept.drain(..gone);
        if !fits(held.saturating_add(beside)) {
            self.live = None;
            self.marks.clear();
        }
    }

    fn kept_memory(&self) -> u64 {
        self.kept.iter().map(|(_, raw)| raw.len() as u64).sum()
    }

    fn marks_memory(&self) -> u64 {
        self.marks.iter().map(Mark::memory).sum()
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
                let lines = &mut self.cache.lines;
                lines.read_at(self.image, self.image_len, offset, &mut buf[..len])?;
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
        let extent = &self.extents[index];
        let mut from = (offset - extent.raw_at) as u32;
        let damaged = PatchError::damaged(self.asked_at, Damage::Map);
        let raw = if paged_cost(extent.codec, extent.raw_len).is_some() {
            let number = from / PAGE;
            from %= PAGE;
            self.page(index, number)?
        } else {
            self.decoded(index)?
        };
        let Some(raw) = raw.get(from as usize..).filter(|raw| !raw.is_empty()) else {
            return Err(damaged);
        };
        let len = raw.len().min(buf.len());
        buf[..len].copy_from_slice(&raw[..len]);
        Ok(len)
    }

    /// An extent as a whole.
    fn decoded(&mut self, index: usize) -> Result<&[u8], PatchError> {
        if let Some(at) = self.cache.touch((index, 0)) {
            return Ok(&self.cache.kept[at].1);
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
        self.cache.kept.push(((index, 0), raw));
        Ok(&self.cache.kept[self.cache.kept.len() - 1].1)
    }
}
