//! Long equal stretches, found by a rolling hash before anything is sorted: in most updates they
//! are most of the image, and what they cover need not be sorted at all.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::scan::joined;
use super::suffix::common_prefix;
use super::threads::on_threads;

/// A stretch of the new image that equals one of the old.
pub(super) use super::scan::Alike as Anchor;

/// Length of the blocks that are looked up; no shorter anchor is found.
const BLOCK: usize = 1024;
/// Images below this are quicker to sort than to look through.
const IMAGE_MIN: usize = 1 << 20;
/// Stretches that are looked through apart, so that several threads can: anchors do not depend on how many
/// there are.
const STRETCH: usize = 8 << 20;
const _: () = assert!(STRETCH.is_multiple_of(BLOCK));
/// Multiplier of the rolling hash.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of an anchor this long the ends are looked up all the same: what is new beside one is often made
/// of what stands there.
const LONG: usize = 12 << 10;
/// Length of such an end.
const END: usize = 4 << 10;

impl Anchor {
    /// What of the old image need not be looked up, since this says where it went.
    pub(super) fn left_out(&self) -> Range<usize> {
        let end = if self.len < LONG { 0 } else { END };
        self.old + end..self.old + self.len - end
    }
}

/// Finds anchors in order of the new image, not overlapping there.
pub(super) fn find(old: &[u8], new: &[u8], threads: usize) -> Vec<Anchor> {
    in_stretches(old, new, (STRETCH, threads))
}

fn in_stretches(old: &[u8], new: &[u8], (stretch, threads): (usize, usize)) -> Vec<Anchor> {
    if old.len() < IMAGE_MIN || new.len() < BLOCK {
        return Vec::new();
    }
    let table = table_of(old, (stretch, threads));
    let found = on_threads(new.len().div_ceil(stretch), threads, &|number| {
        let to = new.len().min((number + 1) * stretch);
        find_from(&table, old, &new[..to], number * stretch)
    });
    joined(found.into_iter().flatten())
}

/// The whole blocks of an image.
fn table_of(image: &[u8], (stretch, threads): (usize, usize)) -> Table {
    let hashes = on_threads(image.len().div_ceil(stretch), threads, &|number| {
        let end = image.len().min((number + 1) * stretch);
        let blocks = image[number * stretch..end].chunks_exact(BLOCK);
        blocks.map(hash_of).collect::<Vec<_>>()
    });
    let mut table = Table::new(image.len() / BLOCK);
    for (hash, number) in hashes.into_iter().flatten().zip(0..) {
        table.insert(hash, number);
    }
    table
}

/// Finds anchors of `new` from `start` on.
fn find_from(table: &Table, old: &[u8], new: &[u8], start: usize) -> Vec<Anchor> {
    let leaving = leaving(BLOCK);
    let mut anchors: Vec<Anchor> = Vec::new();
    let (mut at, mut hash, mut fresh) = (start, 0u64, true);
    while at + BLOCK <= new.len() {
        if fresh {
            hash = hash_of(&new[at..at + BLOCK]);
            fresh = false;
        }
        let floor = anchors.last().map_or(start, |last| last.new + last.len);
        let found = table.candidate(hash).and_then(|number| {
            let candidate = number as usize * BLOCK;
            let along = anchors.last().map(|last| last.old + (at - last.new));
            let here =
                |place: &usize| old.get(*place..*place + BLOCK) == Some(&new[at..at + BLOCK]);
            along.filter(here).or(Some(candidate).filter(here))
        });
        if let Some(place) = found {
            let forwards = common_prefix(&old[place..], &new[at..]);
            let backwards = old[..place].iter().rev().zip(new[floor..at].iter().rev());
            let backwards = backwards.take_while(|(a, b)| a == b).count();
            anchors.push(Anchor {
                old: place - backwards,
                new: at - backwards,
                len: backwards + forwards,
            });
            at += forwards;
            fresh = true;
            continue;
        }
        if let Some(next) = new.get(at + BLOCK) {
            hash = rolled(hash, leaving, new[at], *next);
        }
        at += 1;
    }
    anchors
}

/// The hash of a block.
pub(super) fn hash_of(block: &[u8]) -> u64 {
    block.iter().fold(0, |hash, byte| {
        hash.wrapping_mul(BASE).wrapping_add(u64::from(*byte))
    })
}

/// What the first byte of a block of `len` bytes is multiplied by.
pub(super) fn leaving(len: usize) -> u64 {
    (1..len).fold(1, |power, _| power.wrapping_mul(BASE))
}

/// The hash of the block one byte further on.
#[inline]
pub(super) fn rolled(hash: u64, leaving: u64, first: u8, next: u8) -> u64 {
    hash.wrapping_sub(u64::from(first).wrapping_mul(leaving))
        .wrapping_mul(BASE)
        .wrapping_add(u64::from(next))
}

/// Blocks by their hash.
pub(super) struct Table {
    /// Hash tags and block numbers; a slot of `u32::MAX` is empty.
    slots: Vec<(u32, u32)>,
    shift: u32,
}

impl Table {
    /// Slots looked at before giving up: crowded places are repetitive ones.
    const PROBES: usize = 8;

    /// A table for so many blocks.
    pub(super) fn new(blocks: usize) -> Self {
        let bits = (blocks * 2).next_power_of_two().trailing_zeros().max(4);
        Self {
            slots: vec![(0, u32::MAX); 1 << bits],
            shift: 64 - bits,
        }
    }

    fn places(&self, hash: u64) -> (impl Iterator<Item = usize> + use<>, u32) {
        let mixed = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let (first, mask) = ((mixed >> self.shift) as usize, self.slots.len() - 1);
        (
            (0..Self::PROBES).map(move |step| (first + step) & mask),
            mixed as u32,
        )
    }

    /// Adds a block; of equal ones the first stays.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let (places, tag) = self.places(hash);
        for place in places {
            let slot = self.slots[place];
            if slot.1 == u32::MAX {
                self.slots[place] = (tag, number);
                return;
            }
            if slot.0 == tag {
                return;
            }
        }
    }

    /// The number of a block that seems to have this hash.
    #[inline]
    pub(super) fn candidate(&self, hash: u64) -> Option<u32> {
        let (mut places, tag) = self.places(hash);
        places
            .find_map(|place| {
                let slot = self.slots[place];
                (slot.1 == u32::MAX || slot.0 == tag).then_some(slot)
            })
            .filter(|slot| slot.1 != u32::MAX)
            .map(|slot| slot.1)
    }
}

/// What is left of `0..len` without `taken` (in any order, may overlap).
pub(super) fn without(len: usize, mut taken: Vec<Range<usize>>) -> Vec<Range<usize>> {
    taken.sort_unstable_by_key(|range| range.start);
    let (mut left, mut at) = (Vec::new(), 0);
    for range in taken {
        if range.start > at {
            left.push(at..range.start);
        }
        at = at.max(range.end);
    }
    if at < len {
        left.push(at..len);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_blocks_are_found_whole() {
        let old: Vec<u8> = (0..2u64 << 20)
            .map(|n| (n.wrapping_mul(BASE).rotate_left(29).wrapping_mul(BASE) >> 51) as u8)
            .collect();
        let new = [
            b"head",
            &old[500_000..900_000],
            b"middle",
            &old[10_000..300_000],
        ]
        .concat();
        let wanted = [
            Anchor {
                old: 500_000,
                new: 4,
                len: 400_000,
            },
            Anchor {
                old: 10_000,
                new: 400_010,
                len: 290_000,
            },
        ];
        assert_eq!(find(&old, &new, 1), wanted);
        // Catches an anchor that stays cut, or is longer than it is equal, where stretches meet.
        let short = 3 << 16;
        for threads in [1, 3] {
            assert_eq!(in_stretches(&old, &new, (short, threads)), wanted);
        }
    }

    #[test]
    fn what_is_left_has_no_overlap() {
        assert_eq!(without(10, vec![3..5, 0..1, 4..7]), [1..3, 7..10]);
        assert_eq!(without(3, vec![0..2, 1..3]), []);
    }
}
