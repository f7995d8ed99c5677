//! Predicting one bit by mixing what several contexts say (logistic mixing, as in M. Mahoney's PAQ).
//!
//! Each context has a counter in a hashed table; the counters' opinions are stretched into the
//! logistic domain, weighed, summed and squashed. Weights learn by how wrong the sum was. Integers
//! only: signer and device must agree to the bit.

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

/// Spreads the bits of a symbol over the counters.
const NODE: u32 = 0x9e37_79b1;

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

/// A predictor over `N` contexts at once.
#[derive(Debug)]
pub(crate) struct Mixer<const N: usize> {
    /// For each context 2^`bits` counters: 22 bits of chance of a one, 10 bits of how often seen.
    counters: Vec<u32>,
    bits: u32,
    /// How steady a counter becomes: the higher, the slower it forgets.
    seen_max: u32,
    weights: Vec<[i32; N]>,
}

impl<const N: usize> Mixer<N> {
    /// How quickly weights move.
    const RATE: i32 = 6;

    /// A mixer with 2^`bits` counters for each context, and `sets` sets of weights.
    pub(crate) fn new(bits: u32, sets: usize, seen_max: u32) -> Self {
        Self {
            counters: vec![1 << 31; N << bits],
            bits,
            seen_max,
            weights: vec![[(1 << 16) / (N as i32).min(4); N]; sets],
        }
    }

    /// Codes one bit: `contexts` are hashes that name the contexts, `node` says which bit of the
    /// symbol this is, `set` chooses the weights.
    #[inline]
    pub(crate) fn code(
        &mut self,
        coder: &mut impl Bits,
        stretch: &Stretch,
        contexts: &[u32; N],
        node: u32,
        set: usize,
        bit: u32,
    ) -> u32 {
        let mut places = [0usize; N];
        let mut opinions = [0i32; N];
        let weights = &mut self.weights[set];
        let mut sum = 0i64;
        for index in 0..N {
            let hash = contexts[index].wrapping_add(node.wrapping_mul(NODE));
            let place = (hash ^ hash >> 15).wrapping_mul(0x85eb_ca6b) >> (32 - self.bits);
            places[index] = index << self.bits | place as usize;
            opinions[index] = i32::from(stretch.0[(self.counters[places[index]] >> 20) as usize]);
            sum += i64::from(opinions[index]) * i64::from(weights[index]);
        }
        let one_chance = squash((sum >> 16).clamp(-2047, 2047) as i32).clamp(24, 65536 - 24);
        let bit = coder.code(65536 - one_chance, bit);

        let error = ((bit << 12) as i32) - (one_chance >> 4) as i32;
        for index in 0..N {
            weights[index] += (opinions[index] * error * Self::RATE + 0x200) >> 10;
            let counter = &mut self.counters[places[index]];
            let (chance, seen) = ((*counter >> 10) as i32, *counter & 1023);
            let target = if bit == 1 { (1 << 22) - 1 } else { 0 };
            let moved = chance + (target - chance) * 2 / (2 * seen as i32 + 3);
            *counter = (moved as u32) << 10 | (seen + 1).min(self.seen_max);
        }
        bit
    }
}

/// A context that is the same for every bit of a symbol.
#[inline]
pub(crate) fn unnamed(context: u32, node: u32) -> u32 {
    context.wrapping_sub(node.wrapping_mul(NODE))
}

/// Mixes two numbers into one that names a context.
#[inline]
pub(crate) fn hash(a: u32, b: u32) -> u32 {
    (a.wrapping_mul(0x2f0b_4f27) ^ b).wrapping_mul(0x9e37_79b1)
}
