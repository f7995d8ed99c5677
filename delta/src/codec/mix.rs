//! Predicting one bit by mixing what several contexts say (logistic mixing, as in M. Mahoney's PAQ).
//!
//! Each context has a line of counters in a hashed table: all bits of half a byte find theirs
//! within one line of the processor's cache. The counters' opinions are stretched into the logistic
//! domain, weighed, summed and squashed. Weights learn by how wrong the sum was. Integers only:
//! signer and device must agree to the bit. The eight opinions of a bit stand in one vector: compilers
//! do not find that by themselves (docs/adr/0047).

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use wide::{i16x8, u16x8};

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
pub(crate) struct Stretch(Box<[i16; 4096]>);

impl Stretch {
    /// Bytes of memory it takes.
    pub(crate) const MEMORY: u64 = 4096 * 2;

    pub(crate) fn new() -> Self {
        let mut table = Box::new([STRETCH_MAX as i16; 4096]);
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
const LINE: usize = 16;

/// The lowest bits of a counter count how often it was seen, the rest is the chance of a one.
const SEEN_BITS: u32 = 3;
const SEEN_MAX: usize = (1 << SEEN_BITS) - 1;
const CHANCE_MAX: u16 = (1 << (16 - SEEN_BITS)) - 1;

/// How far a counter moves towards what it saw, in 65536ths, by how often it was seen.
const fn rates(slowest: u16) -> [u16; SEEN_MAX + 1] {
    [43_690, 26_214, 18_724, 14_563, 11_915, 9362, 6553, slowest]
}

/// A line of counters; two fill a line of the processor's cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Line([u16; LINE]);

/// A predictor over some contexts at once.
#[derive(Debug)]
pub(crate) struct Mixer {
    /// Lines of all contexts together.
    lines: Vec<Line>,
    bits: u32,
    learning: Learning,
}

/// How much each context is worth, and how fast counters move.
#[derive(Debug)]
struct Learning {
    rates: [u16x8; SEEN_MAX + 1],
    /// 8192 is one.
    weights: Vec<i16x8>,
}

/// The counters of half a byte, taken out of their lines: looked for at once, so that the waits for
/// memory are one.
#[derive(Debug)]
pub(crate) struct Half {
    places: [usize; CONTEXTS],
    lines: [Line; CONTEXTS],
}

impl Mixer {
    /// A mixer with 2^`bits` counters and `sets` sets of weights; counters move by one in `steady`
    /// at their slowest.
    pub(crate) fn new(bits: u32, sets: usize, steady: u16) -> Self {
        Self {
            lines: vec![Line([1 << 15; LINE]); (1 << bits) / LINE],
            bits,
            learning: Learning {
                rates: rates(u16::MAX / steady).map(u16x8::splat),
                weights: vec![i16x8::splat(8192 / 4); sets],
            },
        }
    }

    /// Bytes of memory that such a mixer takes.
    pub(crate) const fn memory(bits: u32, sets: usize) -> u64 {
        (2 << bits) as u64 + (sets * CONTEXTS * 2) as u64
    }

    /// Where the counters that these hashes name are.
    #[inline]
    fn places(&self, contexts: &[u32; CONTEXTS]) -> [u32; CONTEXTS] {
        contexts.map(|context| {
            let mixed = (context ^ context >> 15).wrapping_mul(0x85eb_ca6b);
            mixed >> (32 - self.bits)
        })
    }

    /// Codes one bit that is a symbol of its own; `set` chooses the weights.
    #[inline]
    pub(crate) fn code(
        &mut self,
        coder: &mut impl Bits,
        stretch: &Stretch,
        contexts: &[u32; CONTEXTS],
        set: usize,
        bit: u32,
    ) -> u32 {
        let places = self.places(contexts).map(|place| place as usize);
        let mut counters = places.map(|place| self.lines[place / LINE].0[place % LINE]);
        let bit = self.learning.code(coder, stretch, &mut counters, set, bit);
        for (place, counter) in places.iter().zip(counters) {
            self.lines[place / LINE].0[place % LINE] = counter;
        }
        bit
    }

    /// Takes out the counters of half a byte.
    #[inline]
    pub(crate) fn open(&self, contexts: &[u32; CONTEXTS]) -> Half {
        let places = self.places(contexts).map(|place| place as usize);
        Half {
            places,
            lines: places.map(|place| self.lines[place / LINE]),
        }
    }

    /// Codes a bit of half a byte: `node` (1..16) says which.
    #[inline]
    pub(crate) fn code_in(
        &mut self,
        half: &mut Half,
        coder: &mut impl Bits,
        stretch: &Stretch,
        (node, set): (usize, usize),
        bit: u32,
    ) -> u32 {
        // Contexts that share a line begin in different places of it.
        let places = half.places.map(|place| (place ^ node) % LINE);
        let mut counters = [0; CONTEXTS];
        for ((counter, line), place) in counters.iter_mut().zip(&half.lines).zip(places) {
            *counter = line.0[place];
        }
        let bit = self.learning.code(coder, stretch, &mut counters, set, bit);
        for ((counter, line), place) in counters.iter().zip(&mut half.lines).zip(places) {
            line.0[place] = *counter;
        }
        bit
    }

    /// Puts the counters of half a byte back. Of two contexts with the same line the later counts.
    #[inline]
    pub(crate) fn close(&mut self, half: &Half) {
        for (place, line) in half.places.iter().zip(&half.lines) {
            self.lines[*place / LINE] = *line;
        }
    }
}

impl Learning {
    /// Codes a bit that these counters tell of, and learns from it.
    #[inline]
    fn code(
        &mut self,
        coder: &mut impl Bits,
        stretch: &Stretch,
        counters: &mut [u16; CONTEXTS],
        set: usize,
        bit: u32,
    ) -> u32 {
        let opinions = i16x8::new(counters.map(|counter| stretch.0[usize::from(counter >> 4)]));
        let weights = &mut self.weights[set];
        let sum = opinions.dot(*weights).reduce_add();
        let one_chance = squash(sum >> 13).clamp(24, 65536 - 24);
        let bit = coder.code(65536 - one_chance, bit);

        // In 8192ths, rounded: the product's upper half and the highest bit of its lower one.
        let error = i16x8::splat((bit << 12) as i16 - (one_chance >> 4) as i16);
        let scaled: i16x8 = opinions << 3_i32;
        let step = scaled.mul_keep_high(error) - ((scaled * error) >> 15_i32);
        *weights = weights.saturating_add(step);
        // The chance of what was seen grows: that of a zero is the rest.
        let flip = u16x8::splat((bit as u16).wrapping_neg() & CHANCE_MAX);
        let before = u16x8::new(*counters);
        let seen = before & u16x8::splat(SEEN_MAX as u16);
        let mut rates = u16x8::splat(0);
        for (number, rate) in (0..).zip(self.rates) {
            rates |= seen.simd_eq(u16x8::splat(number)) & rate;
        }
        let other = (before >> SEEN_BITS) ^ flip;
        let gone = other.mul_keep_high(rates);
        let seen = (seen + u16x8::splat(1)).min(u16x8::splat(SEEN_MAX as u16));
        *counters = ((((other - gone) ^ flip) << SEEN_BITS) | seen).to_array();
        bit
    }
}

/// Mixes two numbers into one that names a context.
#[inline]
pub(crate) fn hash(a: u32, b: u32) -> u32 {
    (a.wrapping_mul(0x2f0b_4f27) ^ b).wrapping_mul(0x9e37_79b1)
}
