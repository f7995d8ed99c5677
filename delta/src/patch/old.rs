//! The logical old image: the old image, followed by the decoded bytes of its extents.
//!
//! Decoded bytes are kept in [`slices`] while there is room, what is read again last going first
//! ([`ahead`]). Long extents are decoded in [`pages`]; plain bytes come through [`lines`].

mod ahead;
mod lines;
mod pages;
mod slices;
#[cfg(all(test, feature = "diff"))]
mod tests;

use alloc::vec::Vec;

use crate::error::{Damage, PatchError};
use crate::image::OldImage;
use crate::plan::Map;
use crate::plan::extents::OldExtent;
use ahead::Ahead;
pub(crate) use lines::LINES_MEMORY;
use lines::Lines;
use pages::{Live, Mark};
use slices::SLICE;
pub(crate) use slices::SLICE_COST;

/// Decoded bytes of an extent: its number, and that of the slice.
type Key = (usize, u32);

/// Decoded bytes, the most recently read last, and what decodes more of them.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: Vec<(Key, Vec<u8>)>,
    /// The reader that read last.
    live: Option<Live>,
    marks: Vec<Mark>,
    ahead: Ahead,
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
        self.ahead = Ahead::default();
    }

    /// Where what is kept under `key` stands, now that it was read last.
    fn touch(&mut self, key: Key) -> Option<usize> {
        let at = self.kept.iter().rposition(|(known, _)| *known == key)?;
        self.kept[at..].rotate_left(1);
        Some(self.kept.len() - 1)
    }

    /// Makes room so that what is held and `cost` more stay within `cache_max`: what is read again
    /// last, or never, goes first.
    fn make_room(&mut self, cost: u64, cache_max: u64, at: u32) {
        let left = cache_max.checked_sub(cost.saturating_add(self.beside()));
        let room = left.unwrap_or(0);
        if self.kept_memory() > room {
            let last = last_to_stay(self.ranks(at, 0).collect(), room);
            self.let_go(last, at, 0);
        }
        if left.is_none() {
            self.live = None;
            self.marks.clear();
            self.ahead = Ahead::default();
        }
    }

    /// The ranks of what is kept, that of the last first; ages count from `age` on.
    fn ranks(&self, at: u32, age: u64) -> impl Iterator<Item = Rank> + '_ {
        let aged = self.kept.iter().rev().zip(age..);
        aged.map(move |((key, _), age)| (self.ahead.next_read(*key, at), age))
    }

    /// Lets go what is behind `last`; ages as in [`Self::ranks`].
    fn let_go(&mut self, last: Option<Rank>, at: u32, age: u64) {
        let mut age = age + self.kept.len() as u64;
        let ahead = &self.ahead;
        self.kept.retain(|(key, _)| {
            age -= 1;
            Some((ahead.next_read(*key, at), age)) <= last
        });
    }

    fn kept_memory(&self) -> u64 {
        self.kept.len() as u64 * SLICE_COST
    }

    /// What the reader, the marks and the look ahead take.
    fn beside(&self) -> u64 {
        self.ahead.memory() + self.marks_memory() + self.live.as_ref().map_or(0, Live::memory)
    }

    fn marks_memory(&self) -> u64 {
        self.marks.iter().map(Mark::memory).sum()
    }
}

/// When a slice is read next, and how many were read since it was: what is lower stays longer.
type Rank = (u64, u64);

/// The last of the slices that stay, where there is so much room.
fn last_to_stay(mut ranks: Vec<Rank>, room: u64) -> Option<Rank> {
    let stay = usize::try_from(room / SLICE_COST).unwrap_or(usize::MAX);
    if stay >= ranks.len() {
        return Some((u64::MAX, u64::MAX));
    }
    ranks.sort_unstable();
    ranks.get(stay.checked_sub(1)?).copied()
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
        self.look_ahead();
        self.cache.make_room(cost, self.cache_max, self.at);
    }

    fn look_ahead(&mut self) {
        let room = self.cache_max;
        if self.cache.ahead.memory() == 0 {
            self.cache.make_room(Ahead::memory_in(room), room, self.at);
        }
        self.cache
            .ahead
            .look(self.map, self.at, self.image_len, room);
    }

    fn read_decoded(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, PatchError> {
        let extents = self.extents();
        let index = extents.partition_point(|extent| extent.raw_at <= offset) - 1;
        let extent = &extents[index];
        let from = (offset - extent.raw_at) as u32;
        let damaged = PatchError::damaged(self.asked_at, Damage::Map);
        let raw = self.slice((index, from / SLICE))?;
        let Some(raw) = raw
            .get((from % SLICE) as usize..)
            .filter(|raw| !raw.is_empty())
        else {
            return Err(damaged);
        };
        let len = raw.len().min(buf.len());
        buf[..len].copy_from_slice(&raw[..len]);
        Ok(len)
    }
}
