//! The logical old image: the old image, followed by the decoded bytes of its extents.
//!
//! Decoded extents are kept while there is room, the least recently read going first: short ones
//! whole, long ones in pages, see [`pages`]. Plain bytes come through [`lines`].

mod lines;
mod pages;

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::error::{Damage, PatchError};
use crate::image::OldImage;
use crate::plan::Map;
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

    /// Makes room so that what is held and `cost` more stay within `cache_max`: what is read again
    /// last, or never, goes first.
    fn make_room(
        &mut self,
        cost: u64,
        cache_max: u64,
        next_read: impl FnOnce(&mut [(Key, usize)]),
    ) {
        let fits = |held: u64| held.saturating_add(cost) <= cache_max;
        let mut beside = self.marks_memory();
        beside += self.live.as_ref().map_or(0, Live::memory);
        let mut held = self.kept_memory();
        let mut gone = 0;
        if !self.kept.is_empty() && !fits(held.saturating_add(beside)) {
            let mut reads: Vec<(Key, usize)> = self
                .kept
                .iter()
                .map(|(key, _)| (*key, usize::MAX))
                .collect();
            next_read(&mut reads);
            let read = |key: &Key| {
                reads
                    .iter()
                    .find(|(known, _)| known == key)
                    .map_or(0, |r| r.1)
            };
            self.kept.sort_by_cached_key(|(key, _)| Reverse(read(key)));
        }
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
    pub(super) map: &'a Map,
    /// How far the region is made.
    pub(super) at: u32,
    pub(super) cache: &'a mut Cache,
    pub(super) cache_max: u64,
    /// Where in the patch the window begins that asks, for errors.
    pub(super) asked_at: u64,
}

impl<'a> OldView<'a> {
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
        let end = self.map.extents.logical_len(self.image_len);
        let known = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (known, beyond) = buf.split_at_mut(known.min(buf.len()));
        beyond.fill(0);
        self.read_at(offset, known)
    }

    fn extents(&self) -> &'a [OldExtent] {
        &self.map.extents.old
    }

    /// Makes room in the cache.
    fn make_room(&mut self, cost: u64) {
        let (map, at, image_len) = (self.map, self.at, self.image_len);
        self.cache.make_room(cost, self.cache_max, |reads| {
            note_reads(map, at, image_len, reads);
        });
    }

    fn read_decoded(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, PatchError> {
        let extents = self.extents();
        let index = extents.partition_point(|extent| extent.raw_at <= offset) - 1;
        let extent = &extents[index];
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
        let extent = &self.extents()[index];
        self.make_room(decode_cost(extent.codec, extent.len, extent.raw_len));
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

/// So many reads are looked ahead to.
const AHEAD: usize = 4096;

/// Notes which of the covers from `at` on is the first to read each of some extents or pages.
fn note_reads(map: &Map, at: u32, image_len: u64, reads: &mut [(Key, usize)]) {
    let extents = &map.extents.old;
    let (mut left, mut number) = (reads.len(), 0);
    for cover in map.covers.after(at).take(AHEAD) {
        let done = at.saturating_sub(cover.new);
        let (mut from, end) = (cover.old() + u64::from(done), cover.old_end());
        from = from.max(image_len);
        while from < end {
            let index = extents.partition_point(|extent| extent.raw_at <= from) - 1;
            let extent = &extents[index];
            let within = (from - extent.raw_at) as u32;
            let (page, len) = if paged_cost(extent.codec, extent.raw_len).is_some() {
                (within / PAGE, PAGE - within % PAGE)
            } else {
                (0, extent.raw_len - within)
            };
            for (key, read) in &mut *reads {
                if *key == (index, page) && *read == usize::MAX {
                    *read = number;
                    left -= 1;
                }
            }
            number += 1;
            if left == 0 || number == AHEAD {
                return;
            }
            from += u64::from(len.max(1));
        }
    }
}
