//! Numbers that a seed repeats.

/// SplitMix64, by Sebastiano Vigna's published constants: enough for choosing where to cut.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `bound`, which is not 0.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index of a list of this length, which is not 0.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// True in one of `many` cases.
    pub(super) const fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// This many bytes.
    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next()).take(length.div_ceil(8));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(length);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself() {
        assert_eq!(Random::new(7).bytes(20), Random::new(7).bytes(20));
        assert_ne!(Random::new(7).bytes(20), Random::new(8).bytes(20));
        // The first number of seed 0, as the reference program prints it.
        assert_eq!(Random::new(0).next(), 0xe220_a839_7b1d_cdaf);
    }
}
