//! What of the decoded old image is read next: a map says it in advance, so that what is kept is what
//! is needed soonest (L. A. Belady, IBM Systems Journal 5, 1966).

use alloc::vec::Vec;

use super::Key;
use super::slices::SLICE;
use crate::plan::{Map, Segment};

/// Bytes of one read that is known.
const READ: u64 = size_of::<(u64, u64)>() as u64;
/// Reads that are looked ahead to, at most.
const READS_MAX: u64 = 8192;
/// So many segments are looked at, most of which may read nothing that is decoded.
const SEGMENTS_MAX: usize = 16_384;
/// The share of the room that they may take.
const SHARE: u64 = 16;

/// Which slices the next segments read.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Slices, each with the end of the segment that reads it; in order.
    reads: Vec<(u64, u64)>,
    /// From where on in the region that was looked up, and how far it reaches.
    from: u32,
    to: u32,
}

impl Ahead {
    pub(super) fn memory(&self) -> u64 {
        self.reads.capacity() as u64 * READ
    }

    /// What is taken of so much room.
    pub(super) fn memory_in(room: u64) -> u64 {
        (room / SHARE).min(READS_MAX * READ)
    }

    /// Looks ahead from `at`, unless enough is known from before.
    pub(super) fn look(&mut self, map: &Map, at: u32, image_len: u64, room: u64) {
        // Once half of it is past, the other half is too little.
        let half = self.from + (self.to - self.from) / 2;
        if (self.from..half).contains(&at) {
            return;
        }
        let most = (Self::memory_in(room) / READ) as usize;
        self.reads.clear();
        self.reads.reserve_exact(most);
        (self.from, self.to) = (at, at);
        for segment in map.segments(at, map.len).take(SEGMENTS_MAX) {
            self.to += segment.len();
            for key in slices_of(map, segment, image_len) {
                if self.reads.len() == most {
                    self.reads.sort_unstable();
                    return;
                }
                self.reads.push((word(key), self.to.into()));
            }
        }
        self.reads.sort_unstable();
    }

    /// When a slice is read next: the end of that segment, or the highest number where none is known.
    pub(super) fn next_read(&self, key: Key, at: u32) -> u64 {
        let key = word(key);
        let place = self.reads.partition_point(|read| *read <= (key, at.into()));
        let read = self.reads.get(place).filter(|(known, _)| *known == key);
        read.map_or(u64::MAX, |(_, end)| *end)
    }
}

/// A slice as one number, in the order of slices.
fn word((index, number): Key) -> u64 {
    (index as u64) << 32 | u64::from(number)
}

/// The slices that a segment reads, or that are hints to it.
fn slices_of(map: &Map, segment: Segment, image_len: u64) -> impl Iterator<Item = Key> + '_ {
    let extents = &map.extents.old;
    let from = match segment {
        Segment::Copy { cover, skip, .. } => cover.old() + u64::from(skip),
        Segment::Literal { hint, .. } => hint,
    };
    let end = from.saturating_add(segment.len().into());
    let mut from = from.max(image_len);
    core::iter::from_fn(move || {
        let behind = extents.partition_point(|extent| extent.raw_at <= from);
        let index = behind.checked_sub(1).filter(|_| from < end)?;
        let within = u32::try_from(from - extents[index].raw_at).ok()?;
        // Hints lead beyond the end.
        let left = extents[index]
            .raw_len
            .checked_sub(within)
            .filter(|left| *left > 0)?;
        from += u64::from(left.min(SLICE - within % SLICE));
        Some((index, within / SLICE))
    })
}
