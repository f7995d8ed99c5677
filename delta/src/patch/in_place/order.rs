//! The order of the windows, and what has to be kept.
//!
//! A window that is written destroys old bytes that another may still read: the reader goes first.
//! Where readers go in a circle, the window whose writing destroys the least goes first, and what
//! it destroys is kept in the scratch until its last reader is done.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::plan::Kept;

/// What a window writes and reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// Where its bytes go.
    pub(super) place: Range<u64>,
    /// What it reads of the old image, in order and apart.
    pub(super) reads: Vec<Range<u64>>,
}

/// A window's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) window: usize,
    pub(super) kept: Vec<Kept>,
}

/// Kept pieces that are closer than this are kept as one.
const GAP: u64 = 64;

/// Orders windows, which are in order of their places; the error is the scratch that it would take.
pub(super) fn arrange(
    windows: &[Asked],
    staged_max: u64,
    scratch_len: u64,
) -> Result<Vec<Turn>, u64> {
    let clashes = Clashes::find(windows);
    let order = clashes.order();
    let mut step_of = vec![0u64; windows.len()];
    for (step, window) in order.iter().enumerate() {
        step_of[*window] = step as u64;
    }
    let mut scratch = Scratch {
        from: staged_max,
        len: scratch_len,
        taken: Vec::new(),
    };
    let (mut turns, mut needed) = (Vec::new(), staged_max);
    for (step, &window) in order.iter().enumerate() {
        let step = step as u64;
        let pieces = clashes.needed_after(window, step, &step_of);
        let kept = scratch.keep(step, &pieces);
        needed = needed.max(staged_max + scratch.held());
        turns.push(Turn {
            window,
            kept: kept.unwrap_or_default(),
        });
        if scratch.overflowed() {
            needed = needed.max(scratch_len + 1);
        }
    }
    if needed > scratch_len {
        Err(needed)
    } else {
        Ok(turns)
    }
}

/// Who reads what of whom.
struct Clashes {
    /// For each window: what others read of its place.
    on: Vec<Vec<(usize, Range<u64>)>>,
    /// For each window: of whom it reads.
    by: Vec<BTreeSet<usize>>,
}

impl Clashes {
    fn find(windows: &[Asked]) -> Self {
        let mut on = vec![Vec::new(); windows.len()];
        let mut by = vec![BTreeSet::new(); windows.len()];
        for (reader, window) in windows.iter().enumerate() {
            for read in &window.reads {
                let first = windows.partition_point(|other| other.place.end <= read.start);
                let hit = windows[first..]
                    .iter()
                    .take_while(|other| other.place.start < read.end);
                for (at, other) in hit.enumerate().filter(|(at, _)| first + at != reader) {
                    let start = read.start.max(other.place.start);
                    on[first + at].push((reader, start..read.end.min(other.place.end)));
                    by[reader].insert(first + at);
                }
            }
        }
        Self { on, by }
    }

    fn order(&self) -> Vec<usize> {
        let mut readers: Vec<BTreeSet<usize>> = self
            .on
            .iter()
            .map(|clashes| clashes.iter().map(|(reader, _)| *reader).collect())
            .collect();
        let mut pending: BTreeSet<usize> = (0..self.on.len()).collect();
        let mut free: BTreeSet<usize> = pending
            .iter()
            .copied()
            .filter(|at| readers[*at].is_empty())
            .collect();
        let mut order = Vec::new();
        while !pending.is_empty() {
            let next = free.pop_first().unwrap_or_else(|| {
                let cost = |window: &&usize| self.cost(**window, &pending);
                *pending.iter().min_by_key(cost).expect("some are pending")
            });
            pending.remove(&next);
            order.push(next);
            for &other in &self.by[next] {
                readers[other].remove(&next);
                if readers[other].is_empty() && pending.contains(&other) {
                    free.insert(other);
                }
            }
        }
        order
    }

    /// Bytes that writing `window` now destroys for others.
    fn cost(&self, window: usize, pending: &BTreeSet<usize>) -> u64 {
        let read = self.on[window]
            .iter()
            .filter(|(reader, _)| pending.contains(reader));
        let pieces = joined(read.map(|(_, range)| (range.clone(), 0)).collect());
        pieces
            .iter()
            .map(|(range, _)| range.end - range.start)
            .sum()
    }

    /// What of `window` is read after `step`, and by which step at last.
    fn needed_after(&self, window: usize, step: u64, step_of: &[u64]) -> Vec<(Range<u64>, u64)> {
        let later = self.on[window]
            .iter()
            .filter(|(reader, _)| step_of[*reader] > step);
        joined(
            later
                .map(|(reader, range)| (range.clone(), step_of[*reader]))
                .collect(),
        )
    }
}

/// Ranges joined where they touch or nearly do, each with the highest of its numbers.
fn joined(mut ranges: Vec<(Range<u64>, u64)>) -> Vec<(Range<u64>, u64)> {
    ranges.sort_by_key(|(range, _)| range.start);
    let mut joined: Vec<(Range<u64>, u64)> = Vec::new();
    for (range, last) in ranges {
        match joined.last_mut() {
            Some((open, latest)) if range.start <= open.end + GAP => {
                open.end = open.end.max(range.end);
                *latest = (*latest).max(last);
            }
            _ => joined.push((range, last)),
        }
    }
    joined
}

/// The part of the scratch that is behind the staged window.
struct Scratch {
    from: u64,
    len: u64,
    /// In order of place: where, and until which step.
    taken: Vec<(Range<u64>, u64)>,
}

impl Scratch {
    /// Places pieces of the old image, cut where the room is; those that nobody needs any more
    /// have gone. Room beyond the end is taken too, so that what is needed can be told.
    fn keep(&mut self, step: u64, pieces: &[(Range<u64>, u64)]) -> Option<Vec<Kept>> {
        self.taken.retain(|(_, last)| *last >= step);
        let mut kept = Vec::new();
        for (piece, last) in pieces {
            let mut old = piece.start;
            while old < piece.end {
                let room = self.first_room();
                let len = (piece.end - old)
                    .min(room.end - room.start)
                    .min(u32::MAX.into());
                self.taken.push((room.start..room.start + len, *last));
                self.taken.sort_by_key(|(range, _)| range.start);
                kept.push(Kept {
                    old,
                    len: len as u32,
                    at: room.start,
                    last: *last,
                });
                old += len;
            }
        }
        (!self.overflowed()).then_some(kept)
    }

    fn first_room(&self) -> Range<u64> {
        let mut at = self.from;
        for (taken, _) in &self.taken {
            if taken.start > at {
                return at..taken.start;
            }
            at = at.max(taken.end);
        }
        at..u64::MAX
    }

    fn held(&self) -> u64 {
        self.taken
            .iter()
            .map(|(range, _)| range.end - range.start)
            .sum()
    }

    fn overflowed(&self) -> bool {
        self.taken
            .last()
            .is_some_and(|(range, _)| range.end > self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place, and what is read of the old image: from and to.
    type Written<'a> = (Range<u64>, &'a [(u64, u64)]);

    fn asked(places: &[Written<'_>]) -> Vec<Asked> {
        let one = |(place, reads): &Written<'_>| Asked {
            place: place.clone(),
            reads: reads.iter().map(|(from, to)| *from..*to).collect(),
        };
        places.iter().map(one).collect()
    }

    fn order(turns: &[Turn]) -> Vec<usize> {
        turns.iter().map(|turn| turn.window).collect()
    }

    #[test]
    fn what_moves_up_is_written_from_the_end_and_keeps_nothing() {
        let windows = asked(&[
            (0..10, &[(0, 10)]),
            (10..20, &[(5, 15)]),
            (20..30, &[(15, 25)]),
        ]);
        let turns = arrange(&windows, 10, 10).expect("there is no circle");
        assert_eq!(order(&turns), [2, 1, 0]);
        assert!(turns.iter().all(|turn| turn.kept.is_empty()));
    }

    #[test]
    fn what_moves_down_is_written_from_the_start() {
        let windows = asked(&[
            (0..10, &[(5, 15)]),
            (10..20, &[(15, 25)]),
            (20..30, &[(25, 30)]),
        ]);
        assert_eq!(
            order(&arrange(&windows, 10, 10).expect("no circle")),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_circle_is_broken_where_it_costs_least() {
        // 0 and 1 swap, but 1 reads only two bytes of 0.
        let windows = asked(&[(0..100, &[(100, 200)]), (100..200, &[(3, 5)])]);
        assert_eq!(arrange(&windows, 100, 101), Err(102));
        let turns = arrange(&windows, 100, 102).expect("two bytes are kept");
        assert_eq!(order(&turns), [0, 1]);
        assert_eq!(
            turns[0].kept,
            [Kept {
                old: 3,
                len: 2,
                at: 100,
                last: 1
            }]
        );
    }

    /// Catches room that is given away while the same step still reads it.
    #[test]
    fn room_is_free_only_after_the_last_reader_is_done() {
        let mut scratch = Scratch {
            from: 10,
            len: 30,
            taken: Vec::new(),
        };
        assert_eq!(scratch.keep(0, &[(0..5, 2)]).expect("room")[0].at, 10);
        assert_eq!(scratch.keep(2, &[(100..105, 3)]).expect("room")[0].at, 15);
        assert_eq!(scratch.keep(3, &[(200..205, 4)]).expect("room")[0].at, 10);
        assert!(scratch.keep(3, &[(300..320, 4)]).is_none());
    }
}
