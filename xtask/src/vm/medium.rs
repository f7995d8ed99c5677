//! A disk with a write cache that power takes away.
//!
//! What is written is seen by every later read, and is durable only after a flush. At a cut the
//! writes since the last flush are kept, lost, torn at sectors or reordered, as a seed says: all
//! that the interface of a disk allows, and more than most disks do. What was flushed is never
//! touched.
//!
//! Invariants:
//! - `durable` holds exactly what was flushed, or written with FUA.
//! - After a cut each sector holds what was durable or what one of the later writes put there.

use super::random::Random;

/// What a disk writes as one.
pub(super) const SECTOR_LEN: usize = 512;

/// A write that no flush followed yet.
#[derive(Debug, Clone)]
struct Write {
    offset: usize,
    data: Vec<u8>,
}

/// How the disk is wrong on purpose, to see the tests go red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    /// It is as good as it says.
    None,
    /// It answers a flush and does nothing.
    FlushesAreLies,
}

/// The disk.
#[derive(Debug, Clone)]
pub(super) struct Medium {
    /// What reads see.
    seen: Vec<u8>,
    /// What a cut leaves for sure.
    durable: Vec<u8>,
    /// Writes since the last flush, oldest first.
    since: Vec<Write>,
    mistake: Mistake,
}

/// What a cut did to the writes that were not flushed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lost {
    /// Writes since the last flush.
    pub(super) pending: usize,
    /// Sectors of them that were written to the medium all the same.
    pub(super) kept: usize,
    /// Sectors that were not.
    pub(super) gone: usize,
}

impl Medium {
    /// A disk that holds these bytes.
    pub(super) fn new(bytes: Vec<u8>, mistake: Mistake) -> Self {
        Self {
            seen: bytes.clone(),
            durable: bytes,
            since: Vec::new(),
            mistake,
        }
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// What reads see; `None` beyond its end.
    pub(super) fn read(&self, offset: usize, length: usize) -> Option<&[u8]> {
        self.seen.get(offset..offset.checked_add(length)?)
    }

    /// Takes a write into the cache; `None` beyond its end.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) -> Option<()> {
        let end = offset.checked_add(data.len())?;
        self.seen.get_mut(offset..end)?.copy_from_slice(data);
        self.since.push(Write {
            offset,
            data: data.to_vec(),
        });
        Some(())
    }

    /// A write that is durable when it returns, past all that waits in the cache.
    pub(super) fn write_through(&mut self, offset: usize, data: &[u8]) -> Option<()> {
        let end = offset.checked_add(data.len())?;
        self.seen.get_mut(offset..end)?.copy_from_slice(data);
        self.durable.get_mut(offset..end)?.copy_from_slice(data);
        // An older write that still waits must not undo it.
        for older in &mut self.since {
            let (from, to) = (
                offset.max(older.offset),
                end.min(older.offset + older.data.len()),
            );
            if from < to {
                older.data[from - older.offset..to - older.offset]
                    .copy_from_slice(&data[from - offset..to - offset]);
            }
        }
        Some(())
    }

    /// Makes all that was written durable.
    pub(super) fn flush(&mut self) {
        if self.mistake == Mistake::FlushesAreLies {
            return;
        }
        for Write { offset, data } in self.since.drain(..) {
            self.durable[offset..offset + data.len()].copy_from_slice(&data);
        }
    }

    /// Takes the power away.
    pub(super) fn cut(&mut self, random: &mut Random) -> Lost {
        let since = std::mem::take(&mut self.since);
        let mut lost = Lost {
            pending: since.len(),
            ..Lost::default()
        };
        for (write, from, to) in surviving(&since, random) {
            let Write { offset, data } = &since[write];
            self.durable[offset + from..offset + to].copy_from_slice(&data[from..to]);
            lost.kept += (to - from).div_ceil(SECTOR_LEN);
        }
        let all: usize = since
            .iter()
            .map(|write| write.data.len().div_ceil(SECTOR_LEN))
            .sum();
        lost.gone = all.saturating_sub(lost.kept);
        self.seen.clone_from(&self.durable);
        lost
    }
}

/// Which bytes of which writes reach the medium, in which order.
fn surviving(since: &[Write], random: &mut Random) -> Vec<(usize, usize, usize)> {
    let whole = |write: usize| (write, 0, since[write].data.len());
    match random.below(4) {
        // The cache was honest and lazy: nothing.
        0 => Vec::new(),
        // In order, up to a write that is torn.
        1 => {
            let count = random.index(since.len() + 1);
            let mut kept: Vec<_> = (0..count).map(whole).collect();
            if let Some(torn) = since.get(count) {
                let sectors = torn.data.len() / SECTOR_LEN;
                kept.push((count, 0, random.index(sectors + 1) * SECTOR_LEN));
            }
            kept
        }
        // Any of them, in any order, whole.
        2 => {
            let mut order: Vec<usize> = (0..since.len()).collect();
            shuffle(&mut order, random);
            let count = random.index(since.len() + 1);
            order.into_iter().take(count).map(whole).collect()
        }
        // Any sectors of any of them, in any order.
        _ => {
            let mut sectors: Vec<_> = (0..since.len())
                .flat_map(|write| {
                    let length = since[write].data.len();
                    (0..length)
                        .step_by(SECTOR_LEN)
                        .map(move |from| (write, from, length.min(from + SECTOR_LEN)))
                })
                .filter(|_| random.one_in(2))
                .collect();
            shuffle(&mut sectors, random);
            sectors
        }
    }
}

fn shuffle<T>(list: &mut [T], random: &mut Random) {
    for last in (1..list.len()).rev() {
        list.swap(last, random.index(last + 1));
    }
}

#[cfg(test)]
mod tests {
    //! Catches a disk that forgets what was flushed, and one that never loses anything: with
    //! either, the cuts in the emulator would prove nothing.

    use super::*;

    const LEN: usize = 16 * SECTOR_LEN;

    fn filled(value: u8) -> Vec<u8> {
        vec![value; SECTOR_LEN]
    }

    #[test]
    fn a_flush_is_kept_whatever_the_seed() {
        for seed in 0..200 {
            let mut medium = Medium::new(vec![0; LEN], Mistake::None);
            medium.write(0, &filled(1)).expect("fits");
            medium.flush();
            medium.write(SECTOR_LEN, &filled(2)).expect("fits");
            medium.cut(&mut Random::new(seed));
            assert_eq!(
                medium.read(0, SECTOR_LEN),
                Some(&filled(1)[..]),
                "seed {seed}"
            );
            let second = medium.read(SECTOR_LEN, 1).expect("fits")[0];
            assert!(second == 0 || second == 2, "seed {seed} made {second}");
        }
    }

    #[test]
    fn what_was_not_flushed_is_kept_by_some_seeds_and_lost_by_others_even_out_of_order() {
        let after = |seed| {
            let mut medium = Medium::new(vec![0; LEN], Mistake::None);
            for sector in 0..4 {
                let value = u8::try_from(sector + 1).expect("small");
                medium
                    .write(sector * SECTOR_LEN, &filled(value))
                    .expect("fits");
            }
            medium.cut(&mut Random::new(seed));
            [0, 1, 2, 3].map(|sector| medium.read(sector * SECTOR_LEN, 1).expect("fits")[0] != 0)
        };
        let outcomes: std::collections::BTreeSet<[bool; 4]> = (0..300).map(after).collect();
        assert!(outcomes.contains(&[false; 4]) && outcomes.contains(&[true; 4]));
        assert!(
            outcomes.contains(&[false, false, true, false]),
            "the later without the earlier"
        );
    }

    #[test]
    fn a_write_through_outlives_older_writes_to_its_place() {
        for seed in 0..200 {
            let mut medium = Medium::new(vec![0; LEN], Mistake::None);
            medium
                .write(0, &[filled(1), filled(1)].concat())
                .expect("fits");
            medium.write_through(0, &filled(9)).expect("fits");
            medium.cut(&mut Random::new(seed));
            assert_eq!(
                medium.read(0, SECTOR_LEN),
                Some(&filled(9)[..]),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn a_disk_that_lies_loses_what_was_flushed() {
        let loses = (0..50).any(|seed| {
            let mut medium = Medium::new(vec![0; LEN], Mistake::FlushesAreLies);
            medium.write(0, &filled(1)).expect("fits");
            medium.flush();
            medium.cut(&mut Random::new(seed));
            medium.read(0, 1) == Some(&[0][..])
        });
        assert!(loses);
    }
}
