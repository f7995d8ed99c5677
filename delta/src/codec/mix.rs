//! Predicting one bit by mixing what several contexts say (logistic mixing, as in M. Mahoney's PAQ).
//!
//! Each context has a line of counters in a hashed table: all bits of half a byte find theirs
//! within one line of the processor's cache. The counters' opinions are stretched into the logistic
//! domain, weighed, summed and squashed. Weights learn by how wrong the sum was. Integers only:
//! signer and device must agree to the bit.

use alloc::vec;
use alloc::vec::Vec;

use super::range::Bits;

/// `65536 / (1 + exp(-x / 256))` at x = -2048, -1984, … 2048.
const SQUASH: [u16; 65] = [
    22, 28, 36, 47, 60, 77, 98, 126, 162, 208, 267, 342, 439, 562, 720, 922, 1179, 1506, 1921,
    2446, 3108, 3938, 4971, 6249, 7812, 9702, 11_955, 14_595, 17_625, 21_025, 24_743, 28_693,
    32_768, 36_843, 40_793, 44_511, 47_911, 50_941, 53_581, 55_834, 57_724, 59_287, 60_565, 61_598,
    62_428, 63_090, 63_615, 64_030, 64_357, 64_614, 64_816, 64_974, 65_097, 65_194, 65_269, 65_328,
    65_374, 65_410, 65_438, 65_459, 65_476, 65_489, 65_500, 65_508, 65_514,
];

/// Stretched probabilities stay within this.
const STRETCH_MAX: i32 = 2047;

/// The probability (of 65536) that a stretched one stands for.
#[inline]
fn squash(x: i32) -> u32 {
    let x = (x.clamp(-STRETCH_MAX, STRETCH_MAX) + 2048) as u32;
    let (knot, part) = ((x >> 6) as usize, x & 63);
    let (low, high) = (u32::from(SQUASH[knot]), u32::from(SQUASH[knot + 1]));
    low + (((high - low) * part) >> 6)
}

/// The inverse of [`squash`], of probabilities in 4096ths.
#[derive(Debug)]
pub(crate) struct Stretch(Vec<i16>);

impl Stretch {
    /// Bytes of memory it takes.
    pub(crate) const MEMORY: u64 = 4096 * 2;

    pub(crate) fn new() -> Self {
        let mut table = vec![STRETCH_MAX as i16; 4096];
        let mut next = 0;
        for x in -STRETCH_MAX..=STRETCH_MAX {
            let upto = (squash(x) >> 4) as usize;
            while next <= upto {
                table[next] = x as i16;
                next += 1;
            }
        }
        Self(table)
    }
}

/// Contexts that one predictor looks at together.
pub(crate) const CONTEXTS: usize = 8;
/// Counters in a line: the bits of half a byte need sixteen.
const LINE: u32 = 16;

/// The lowest bits of a counter count how often it was seen, the rest is the chance of a one.
const SEEN_BITS: u32 = 3;
const SEEN_MAX: usize = (1 << SEEN_BITS) - 1;
const CHANCE_MAX: u32 = (1 << (16 - SEEN_BITS)) - 1;

/// How far a counter moves towards what it saw, in 65536ths, by how often it was seen.
const fn rates(slowest: u32) -> [u32; SEEN_MAX + 1] {
    [43_690, 26_214, 18_724, 14_563, 11_915, 9362, 6553, slowest]
}

/// Where the counters of a symbol's contexts are.
pub(crate) type Places = [u32; CONTEXTS];

/// A predictor over some contexts at once.
#[derive(Debug)]
pub(crate) struct Mixer {
    /// Lines of all contexts together.
    counters: Vec<u16>,
    bits: u32,
    rates: [u32; SEEN_MAX + 1],
    /// 8192 is one.
    weights: Vec<[i16; CONTEXTS]>,
}

impl Mixer {
    /// A mixer with 2^`bits` counters and `sets` sets of weights; counters move by one in `steady`
    /// at their slowest.
    pub(crate) fn new(bits: u32, sets: usize, steady: u32) -> Self {
        Self {
            counters: vec![1 << 15; 1 << bits],
            bits,
            rates: rates(65536 / steady),
            weights: vec![[8192 / 4; CONTEXTS]; sets],
        }
    }

    /// Bytes of memory that such a mixer takes.
    pub(crate) const fn memory(bits: u32, sets: usize) -> u64 {
        (2 << bits) as u64 + (sets * CONTEXTS * 2) as u64
    }

    /// Finds the lines that these hashes name.
    #[inline]
    pub(crate) fn places(&self, contexts: &[u32; CONTEXTS]) -> Places {
        contexts.map(|context| {
            let mixed = (context ^ context >> 15).wrapping_mul(0x85eb_ca6b);
            mixed >> (32 - self.bits)
        })
    }

    /// Codes one bit: `node` (0..16) says which bit of the half byte this is, `set` chooses the
    /// weights.
    #[inline]
    pub(crate) fn code(
        &mut self,
        coder: &mut impl Bits,
        stretch: &Stretch,
        places: &Places,
        node: u32,
        set: usize,
        bit: u32,
    ) -> u32 {
        debug_assert!(node < LINE, "a node stays within its line");
        let mut opinions = [0i16; CONTEXTS];
        let mut counters = [0u16; CONTEXTS];
        for index in 0..CONTEXTS {
            counters[index] = self.counters[(places[index] ^ node) as usize];
            opinions[index] = stretch.0[usize::from(counters[index] >> 4)];
        }
        let weights = &mut self.weights[set];
        let sum: i32 = (0..CONTEXTS)
            .map(|index| i32::from(opinions[index]) * i32::from(weights[index]))
            .sum();
        let one_chance = squash(sum >> 13).clamp(24, 65536 - 24);
        let bit = coder.code(65536 - one_chance, bit);

        let error = (bit << 12) as i32 - (one_chance >> 4) as i32;
        for index in 0..CONTEXTS {
            let step = (i32::from(opinions[index]) * error + (1 << 12)) >> 13;
            weights[index] = weights[index].saturating_add(step as i16);
        }
        for index in 0..CONTEXTS {
            let counter = counters[index];
            let seen = usize::from(counter) & SEEN_MAX;
            let chance = u32::from(counter >> SEEN_BITS);
            let rate = self.rates[seen];
            let moved = if bit == 1 {
                chance + (((CHANCE_MAX - chance) * rate) >> 16)
            } else {
                chance - ((chance * rate) >> 16)
            };
            let seen = (seen + 1).min(SEEN_MAX);
            self.counters[(places[index] ^ node) as usize] =
                (moved << SEEN_BITS) as u16 | seen as u16;
        }
        bit
    }
}

/// Mixes two numbers into one that names a context.
#[inline]
pub(crate) fn hash(a: u32, b: u32) -> u32 {
    (a.wrapping_mul(0x2f0b_4f27) ^ b).wrapping_mul(0x9e37_79b1)
}
