//! Devices in the order in which a rollout asks them.
//!
//! A step lets a number of them be asked, so the line knows which device has the n-th place without
//! counting from the first: places are spread evenly ([`super::cohort`]), and it keeps how many fall
//! into each of 4,096 equal parts.

use std::collections::BTreeSet;

/// Parts of the range of places.
const PARTS: usize = 4096;

/// A device with what it is ordered by: a place, or a time.
pub(super) type Entry = (u64, u32);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Line {
    all: BTreeSet<Entry>,
    /// Devices in each part of the range; empty where the line never had any.
    counts: Vec<usize>,
    /// Those that no cap is known to stand in the way of.
    untried: BTreeSet<Entry>,
}

fn part(entry: Entry) -> usize {
    // The 12 bits above these are below 4,096.
    (entry.0 >> 52) as usize
}

impl Line {
    /// Adds a device that was not tried.
    pub(super) fn join(&mut self, entry: Entry) {
        self.counts.resize(PARTS, 0);
        if self.all.insert(entry) {
            self.counts[part(entry)] += 1;
        }
        self.untried.insert(entry);
    }

    /// Takes a device out.
    pub(super) fn leave(&mut self, entry: Entry) {
        if self.all.remove(&entry) {
            self.counts[part(entry)] -= 1;
        }
        self.untried.remove(&entry);
    }

    /// A cap stands in the way of a device; nothing does any more, if `may`.
    pub(super) fn may_try(&mut self, entry: Entry, may: bool) {
        if may {
            self.untried.insert(entry);
        } else {
            self.untried.remove(&entry);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> {
        self.all.iter().copied()
    }

    /// Those of the first `room` that were not tried, in order.
    pub(super) fn untried(&self, room: usize) -> impl Iterator<Item = Entry> {
        let last = self.last_of(room);
        let some = last.map(|last| self.untried.range(..=last).copied());
        some.into_iter().flatten()
    }

    /// Whether a device is among the first `room`.
    pub(super) fn has(&self, entry: Entry, room: usize) -> bool {
        self.all.contains(&entry) && self.last_of(room).is_some_and(|last| entry <= last)
    }

    /// How many come before everybody of this place.
    pub(super) fn before(&self, place: u64) -> usize {
        let part = part((place, 0));
        let whole: usize = self.counts.iter().take(part).sum();
        let start = (place >> 52) << 52;
        whole + self.all.range((start, 0)..(place, 0)).count()
    }

    /// The last of the first `room`; none where there is nobody, or room for nobody.
    fn last_of(&self, room: usize) -> Option<Entry> {
        if room >= self.all.len() {
            return self.all.last().copied();
        }
        let mut left = room.checked_sub(1)?;
        for (part, count) in self.counts.iter().enumerate() {
            if left < *count {
                let start = (part as u64) << 52;
                return self.all.range((start, 0)..).nth(left).copied();
            }
            left -= count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever came and went, the line tells what a sorted list of those that are there tells.
        #[test]
        fn it_counts_as_a_list_does(
            comings in prop::collection::vec((any::<u64>(), 0_u32..30, any::<bool>()), 0..80),
            room in 0_usize..40,
        ) {
            let (mut line, mut list) = (Line::default(), Vec::new());
            let places: Vec<u64> = (0..30).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            for (place, device, comes) in comings {
                // Some share a place, most do not.
                let place = if place % 4 == 0 { 7 } else { places[device as usize] };
                let entry = (place, device);
                list.retain(|other| *other != entry);
                line.leave(entry);
                if comes {
                    list.push(entry);
                    line.join(entry);
                    line.may_try(entry, device % 3 > 0);
                }
            }
            list.sort_unstable();
            prop_assert_eq!(line.iter().collect::<Vec<_>>(), list.clone());
            prop_assert_eq!(line.len(), list.len());
            let first: Vec<_> = list.iter().take(room).copied().collect();
            for entry in &list {
                prop_assert_eq!(line.has(*entry, room), first.contains(entry));
                let before = list.iter().filter(|other| other.0 < entry.0).count();
                prop_assert_eq!(line.before(entry.0), before);
            }
            let untried: Vec<_> = first.into_iter().filter(|entry| entry.1 % 3 > 0).collect();
            prop_assert_eq!(line.untried(room).collect::<Vec<_>>(), untried);
        }
    }
}
