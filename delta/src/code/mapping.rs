//! Where every place of the old image went, as the covers say.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use super::{Load, Module};
use crate::plan::Cover;
use crate::plan::covers::Covers;

/// From places in the logical old image to places in the region.
///
/// Addresses are asked for millions of times: places are found through an index of equal stretches
/// of the old image, each with a few shifts at most on average. Numbers are the low 32 bits: places
/// of one stretch differ in no others, and a region is shorter than they count.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    /// From where on, and by how much places move; in order.
    shifts: Vec<(u32, u32)>,
    /// For each stretch the first shift that does not begin before it; and the end.
    index: Vec<u32>,
    /// A stretch has 2^this bytes.
    stretch_bits: u32,
}

impl Mapping {
    /// The mapping of some covers: where they overlap in the old image, the longest counts.
    /// `None` when it would take more than `memory_max` bytes, [`ordered`](Self::ordered) covers
    /// not counted.
    pub(crate) fn new(covers: &Covers, memory_max: u64) -> Option<Self> {
        let ordered = Self::ordered(covers);
        // Counted first, so that nothing is allocated that is not needed.
        let size = Size::of(&ordered);
        if size.memory() > memory_max {
            return None;
        }
        let mut this = Self {
            shifts: Vec::with_capacity(size.count),
            index: Vec::with_capacity(size.stretches() + 1),
            stretch_bits: size.stretch_bits(),
        };
        sweep(&ordered, |at, shift| {
            while this.index.len() as u64 <= at >> this.stretch_bits {
                this.index.push(this.shifts.len() as u32);
            }
            this.shifts.push((at as u32, shift as u32));
        });
        this.index.push(this.shifts.len() as u32);
        Some(this)
    }

    /// Bytes of memory of the mapping of some covers, and of what is open while it is made.
    #[cfg(feature = "diff")]
    pub(crate) fn memory(covers: &Covers) -> u64 {
        Size::of(&Self::ordered(covers)).memory()
    }

    /// Covers by where they begin in the old image: held while a mapping is made.
    fn ordered(covers: &Covers) -> Vec<Cover> {
        let mut ordered = Vec::with_capacity(covers.len());
        ordered.extend(covers.iter());
        ordered.sort_unstable_by_key(|cover| (cover.old(), cover.new));
        ordered
    }

    /// Where a place of the logical old image went; between covers it goes with the one before.
    #[inline]
    fn place(&self, old: u64) -> Option<u64> {
        let stretch = usize::try_from(old >> self.stretch_bits).ok()?;
        let last = self.index.len().checked_sub(2)?;
        let known = if stretch > last {
            self.shifts.len()
        } else {
            let (from, to) = (
                self.index[stretch] as usize,
                self.index[stretch + 1] as usize,
            );
            let within = &self.shifts[from..to];
            from + within.partition_point(|(from, _)| *from <= old as u32)
        };
        let (_, shift) = self.shifts[known.checked_sub(1)?];
        Some((old as u32).wrapping_add(shift).into())
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

/// What a mapping takes.
struct Size {
    /// How many shifts.
    count: usize,
    /// How many covers are open at once at most.
    open_max: usize,
    /// Where the last shift begins.
    last: u64,
}

impl Size {
    fn of(ordered: &[Cover]) -> Self {
        let (mut count, mut last) = (0, 0);
        let open_max = sweep(ordered, |at, _| {
            count += 1;
            last = at;
        });
        Self {
            count,
            open_max,
            last,
        }
    }

    /// Half as many stretches as shifts, or a few more; none is longer than 32 bits can count.
    fn stretch_bits(&self) -> u32 {
        let wanted = (self.count as u64 / 2).max(1);
        let bits = u64::BITS - (self.last / wanted).leading_zeros();
        bits.min(u32::BITS)
    }

    fn stretches(&self) -> usize {
        (self.last >> self.stretch_bits()) as usize + 1
    }

    /// Of the shifts, their index, and of the heap of open covers, which doubles as it grows.
    fn memory(&self) -> u64 {
        let shifts = self.count * size_of::<(u32, u32)>();
        let index = (self.stretches() + 1) * size_of::<u32>();
        let open = 2 * self.open_max.max(4) * size_of::<Open>();
        (shifts + index + open) as u64
    }
}

/// A cover that has begun: its length, then where it is in the new image, then its number.
type Open = (u32, u32, u32);

/// Goes over covers in order of the old image and tells from where on, and by how much, places
/// move; returns how many covers were open at once at most.
fn sweep(ordered: &[Cover], mut tell: impl FnMut(u64, i64)) -> usize {
    let mut waiting = ordered.iter().zip(0u32..).peekable();
    let mut open: BinaryHeap<Open> = BinaryHeap::new();
    let (mut open_max, mut last) = (0, None);
    let mut at = 0u64;
    loop {
        // Those that begin here join, those that ended leave.
        while let Some((cover, index)) = waiting.next_if(|(cover, _)| cover.old() <= at) {
            open.push((cover.len, cover.new, index));
        }
        open_max = open_max.max(open.len());
        while open
            .peek()
            .is_some_and(|(_, _, index)| ordered[*index as usize].old_end() <= at)
        {
            open.pop();
        }
        let next_start = waiting.peek().map(|(cover, _)| cover.old());
        let longest = open.peek().map(|(_, _, index)| ordered[*index as usize]);
        if let Some(cover) = longest {
            let shift = i64::from(cover.new).wrapping_sub(cover.old() as i64);
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
        let cover = |old, new, len| Cover::new(old, new, len, false);
        let mapping = |covers: &[Cover]| {
            let covers = covers.iter().copied().collect();
            Mapping::new(&covers, 1 << 20).expect("there is room")
        };
        let first = mapping(&[cover(100, 0, 50), cover(10, 50, 200), cover(300, 400, 10)]);
        assert_eq!(first.place(5), None);
        assert_eq!(first.place(120), Some(160));
        assert_eq!(first.place(260), Some(300));
        assert_eq!(first.place(305), Some(405));
        assert_eq!(first.place(5000), Some(5100));
        let second = mapping(&[cover(0, 7, 10), cover(4, 100, 3), cover(9, 200, 50)]);
        assert_eq!(
            [3, 5, 8, 9].map(|at| second.place(at)),
            [10, 12, 15, 200].map(Some)
        );
    }

    /// Catches a shift that is looked for in a stretch before or after its own.
    #[test]
    fn every_place_is_found_as_by_looking_at_all() {
        let far = 5u64 << 32;
        let covers: Covers = (0..300u32)
            .map(|n| {
                let old = far + u64::from(n * n % 977) * 13 + u64::from(n % 3) * (1 << 30);
                Cover::new(old, n * 40, 1 + n * 7 % 40, false)
            })
            .collect();
        let mapping = Mapping::new(&covers, 1 << 20).expect("there is room");
        let mut shifts = Vec::new();
        sweep(&Mapping::ordered(&covers), |at, shift| {
            shifts.push((at, shift));
        });
        for old in (far - 10..far + 20_000).chain(far + (1 << 30)..far + (1 << 30) + 20_000) {
            let all = shifts.iter().rev().find(|(from, _)| *from <= old);
            let wanted = all.map(|(_, shift)| u64::from(old.wrapping_add_signed(*shift) as u32));
            assert_eq!(mapping.place(old), wanted, "{old}");
        }
    }
}
