//! Where every place of the old image went, as the covers say.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use super::{Load, Module};
use crate::plan::Cover;

/// From places in the logical old image to places in the region.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    /// From where on, and by how much places move; in order.
    shifts: Vec<(u64, i64)>,
}

impl Mapping {
    /// Bytes of memory for one cover, while the mapping is made.
    pub(crate) const COVER: u64 = 2 * 16 + 16 + 16;

    /// The mapping of some covers: where they overlap in the old image, the longest counts.
    pub(crate) fn new(covers: &[Cover]) -> Self {
        let mut by_start: Vec<u32> = (0..covers.len() as u32).collect();
        by_start.sort_unstable_by_key(|index| (covers[*index as usize].old, *index));
        let mut waiting = by_start.into_iter().peekable();
        let mut open: BinaryHeap<(u32, u32)> = BinaryHeap::new();
        let mut shifts: Vec<(u64, i64)> = Vec::new();
        let mut at = 0u64;
        loop {
            // Those that begin here join, those that ended leave.
            while let Some(index) = waiting.next_if(|index| covers[*index as usize].old <= at) {
                open.push((covers[index as usize].len, index));
            }
            while open
                .peek()
                .is_some_and(|(_, index)| covers[*index as usize].old_end() <= at)
            {
                open.pop();
            }
            let next_start = waiting.peek().map(|index| covers[*index as usize].old);
            let longest = open.peek().map(|(_, index)| covers[*index as usize]);
            if let Some(cover) = longest {
                let shift = i64::from(cover.new).wrapping_sub(cover.old as i64);
                if shifts.last().is_none_or(|last| last.1 != shift) {
                    shifts.push((at, shift));
                }
            }
            at = match (next_start, longest) {
                (Some(start), Some(cover)) => start.min(cover.old_end()),
                (Some(start), None) => start,
                (None, Some(cover)) => cover.old_end(),
                (None, None) => return Self { shifts },
            };
        }
    }

    /// Where a place of the logical old image went; between covers it goes with the one before.
    fn place(&self, old: u64) -> Option<u64> {
        let index = self
            .shifts
            .partition_point(|(from, _)| *from <= old)
            .checked_sub(1)?;
        old.checked_add_signed(self.shifts[index].1)
    }

    /// The new address of what stood at an old one.
    pub(super) fn address(&self, module: &Module, address: u64) -> Option<u64> {
        let holds = |load: &Load| {
            address >= load.old.address && address - load.old.address <= load.old.memory_len
        };
        let index = module.loads.iter().position(holds)?;
        let load = &module.loads[index];
        let beyond = address - load.old.address;
        if beyond > load.old.len {
            // Memory without bytes in the file (.bss): its end moves with the file's.
            let base = load.new.address.wrapping_add(load.new.len);
            return Some(base.wrapping_add(beyond - load.old.len));
        }
        let place = self.place(
            module
                .old_at
                .checked_add(load.old.at)?
                .checked_add(beyond)?,
        )?;
        let at = place.checked_sub(module.new_at)?;
        let inside = |load: &&Load| at >= load.new.at && at - load.new.at <= load.new.len;
        let load = Some(load)
            .filter(inside)
            .or_else(|| module.loads.iter().find(inside))?;
        Some(load.new.address.wrapping_add(at - load.new.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_cover_says_where_a_place_went() {
        let cover = |old, new, len| Cover {
            old,
            new,
            len,
            exact: false,
        };
        let mapping = Mapping::new(&[cover(100, 0, 50), cover(10, 50, 200), cover(300, 400, 10)]);
        assert_eq!(mapping.place(5), None);
        assert_eq!(mapping.place(120), Some(160));
        assert_eq!(mapping.place(260), Some(300));
        assert_eq!(mapping.place(305), Some(405));
        let mapping = Mapping::new(&[cover(0, 7, 10), cover(4, 100, 3), cover(9, 200, 50)]);
        assert_eq!(
            [3, 5, 8, 9].map(|at| mapping.place(at)),
            [10, 12, 15, 200].map(Some)
        );
    }
}
