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
    /// The mapping of some covers: where they overlap in the old image, the longest counts.
    /// `None` when it would take more than `memory_max` bytes.
    pub(crate) fn new(covers: &[Cover], memory_max: u64) -> Option<Self> {
        if Self::order_memory(covers) > memory_max {
            return None;
        }
        let order = Self::order(covers);
        // Counted first, so that nothing is allocated that is not needed.
        let mut count = 0;
        let open_max = sweep(covers, &order, |_, _| count += 1);
        if Self::order_memory(covers) + Self::memory_of(count, open_max) > memory_max {
            return None;
        }
        let mut shifts = Vec::with_capacity(count);
        sweep(covers, &order, |at, shift| shifts.push((at, shift)));
        Some(Self { shifts })
    }

    /// Bytes of memory while the mapping of some covers is made.
    #[cfg(feature = "diff")]
    pub(crate) fn memory(covers: &[Cover]) -> u64 {
        let mut count = 0;
        let open_max = sweep(covers, &Self::order(covers), |_, _| count += 1);
        Self::order_memory(covers) + Self::memory_of(count, open_max)
    }

    /// Covers by where they begin in the old image.
    fn order(covers: &[Cover]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..covers.len() as u32).collect();
        order.sort_unstable_by_key(|index| (covers[*index as usize].old, *index));
        order
    }

    fn order_memory(covers: &[Cover]) -> u64 {
        size_of_val(covers) as u64 / size_of::<Cover>() as u64 * size_of::<u32>() as u64
    }

    /// Of the shifts, and of the heap of open covers, which doubles as it grows.
    fn memory_of(count: usize, open_max: usize) -> u64 {
        (count * size_of::<(u64, i64)>() + 2 * open_max.max(4) * size_of::<(u32, u32)>()) as u64
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

/// Goes over the covers in `order` and tells from where on, and by how much, places move; returns
/// how many covers were open at once at most.
fn sweep(covers: &[Cover], order: &[u32], mut tell: impl FnMut(u64, i64)) -> usize {
    let mut waiting = order.iter().copied().peekable();
    let mut open: BinaryHeap<(u32, u32)> = BinaryHeap::new();
    let (mut open_max, mut last) = (0, None);
    let mut at = 0u64;
    loop {
        // Those that begin here join, those that ended leave.
        while let Some(index) = waiting.next_if(|index| covers[*index as usize].old <= at) {
            open.push((covers[index as usize].len, index));
        }
        open_max = open_max.max(open.len());
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
            if last != Some(shift) {
                tell(at, shift);
                last = Some(shift);
            }
        }
        at = match (next_start, longest) {
            (Some(start), Some(cover)) => start.min(cover.old_end()),
            (Some(start), None) => start,
            (None, Some(cover)) => cover.old_end(),
            (None, None) => return open_max,
        };
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
        let mapping = |covers: &[Cover]| Mapping::new(covers, 1 << 20).expect("there is room");
        let first = mapping(&[cover(100, 0, 50), cover(10, 50, 200), cover(300, 400, 10)]);
        assert_eq!(first.place(5), None);
        assert_eq!(first.place(120), Some(160));
        assert_eq!(first.place(260), Some(300));
        assert_eq!(first.place(305), Some(405));
        let second = mapping(&[cover(0, 7, 10), cover(4, 100, 3), cover(9, 200, 50)]);
        assert_eq!(
            [3, 5, 8, 9].map(|at| second.place(at)),
            [10, 12, 15, 200].map(Some)
        );
    }
}
