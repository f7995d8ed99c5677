//! A binary range coder with adaptive probabilities, in the manner of LZMA.
//!
//! Probabilities are 16-bit chances of a zero bit. The decoder never fails: past the end of its
//! input it reads zeros, counts them, and says so at the end.

#[cfg(feature = "diff")]
use alloc::vec::Vec;

/// Ranges below this are widened by a byte.
const TOP: u32 = 1 << 24;
/// The decoder makes up so many zeros after its input; more mean that the input was cut.
const SLACK: usize = 8;
/// Resolution of a probability.
pub(crate) const PROB_BITS: u32 = 16;

/// Writes bits.
#[cfg(feature = "diff")]
#[derive(Debug)]
pub(crate) struct Encoder {
    low: u64,
    range: u32,
    cache: u8,
    pending: u64,
    out: Vec<u8>,
}

#[cfg(feature = "diff")]
impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            low: 0,
            range: u32::MAX,
            cache: 0,
            pending: 0,
            out: Vec::new(),
        }
    }

    /// Codes `bit`, of which `zero_chance` (out of 2^16, never 0) is the chance to be 0.
    #[inline]
    pub(crate) fn bit(&mut self, zero_chance: u32, bit: u32) {
        let bound = (self.range >> PROB_BITS) * zero_chance;
        if bit == 0 {
            self.range = bound;
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
        }
        while self.range < TOP {
            self.range <<= 8;
            self.shift_low();
        }
    }

    fn shift_low(&mut self) {
        if self.low < 0xff00_0000 || self.low > 0xffff_ffff {
            let carry = (self.low >> 32) as u8;
            self.out.push(self.cache.wrapping_add(carry));
            for _ in 0..self.pending {
                self.out.push(0xff_u8.wrapping_add(carry));
            }
            self.pending = 0;
            self.cache = (self.low >> 24) as u8;
        } else {
            self.pending += 1;
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    /// Bytes that are written, or nearly.
    pub(crate) fn len(&self) -> usize {
        self.out.len() + self.pending as usize
    }

    /// The coded bytes. A few zeros at the end are left out: the decoder makes them up.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift_low();
        }
        // The first byte is the carry of an empty cache and always zero.
        let mut out = self.out.split_off(1);
        let zeros = out
            .iter()
            .rev()
            .take(SLACK)
            .take_while(|byte| **byte == 0)
            .count();
        out.truncate(out.len() - zeros);
        out
    }
}

/// Reads bits.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    code: u32,
    range: u32,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut this = Self {
            code: 0,
            range: u32::MAX,
            bytes,
            position: 0,
        };
        for _ in 0..4 {
            this.code = this.code << 8 | this.next();
        }
        this
    }

    #[inline]
    fn next(&mut self) -> u32 {
        let byte = self.bytes.get(self.position).copied().unwrap_or(0);
        self.position += 1;
        u32::from(byte)
    }

    /// Decodes a bit, of which `zero_chance` (out of 2^16, never 0) is the chance to be 0.
    #[inline]
    pub(crate) fn bit(&mut self, zero_chance: u32) -> u32 {
        let bound = (self.range >> PROB_BITS) * zero_chance;
        // Without a branch: bits that are worth coding are those that cannot be foreseen.
        let bit = u32::from(self.code >= bound);
        let one = bit.wrapping_neg();
        self.code -= bound & one;
        self.range = (self.range - bound) & one | bound & !one;
        while self.range < TOP {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
        bit
    }

    /// Whether all of the input was used and not much more than it.
    pub(crate) fn used_exactly(&self) -> bool {
        self.position >= self.bytes.len() && !self.ran_dry()
    }

    /// Whether more was asked for than is there: a loop over decoded counts stops here.
    #[inline]
    pub(crate) fn ran_dry(&self) -> bool {
        self.position > self.bytes.len() + SLACK
    }
}

/// One direction of coding, so that a model is written once for both.
pub(crate) trait Bits {
    /// Codes `bit` (encoder) or ignores it and returns the decoded one (decoder).
    fn code(&mut self, zero_chance: u32, bit: u32) -> u32;
}

#[cfg(feature = "diff")]
impl Bits for Encoder {
    #[inline]
    fn code(&mut self, zero_chance: u32, bit: u32) -> u32 {
        self.bit(zero_chance, bit);
        bit
    }
}

impl Bits for Decoder<'_> {
    #[inline]
    fn code(&mut self, zero_chance: u32, _: u32) -> u32 {
        self.bit(zero_chance)
    }
}

/// Codes nothing: what is coded is known to both sides, which learn from it.
pub(crate) struct Known;

impl Bits for Known {
    #[inline]
    fn code(&mut self, _: u32, bit: u32) -> u32 {
        bit
    }
}

/// How far a probability moves, in 32768ths, by how often it was seen.
const RATES: [i32; Prob::SEEN_MAX as usize + 1] = {
    let mut rates = [0; Prob::SEEN_MAX as usize + 1];
    let mut seen = 0;
    while seen < rates.len() {
        rates[seen] = 65536 / (2 * seen as i32 + 3);
        seen += 1;
    }
    rates
};

/// An adaptive probability: quick at first, steady later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prob {
    zero: u16,
    seen: u8,
}

impl Prob {
    /// Observations after which a probability moves at its slowest.
    const SEEN_MAX: u8 = 30;

    pub(crate) const fn new() -> Self {
        Self {
            zero: 1 << 15,
            seen: 0,
        }
    }

    /// Codes one bit and learns from it.
    #[inline]
    pub(crate) fn code(&mut self, bits: &mut impl Bits, bit: u32) -> u32 {
        let zero_chance = u32::from(self.zero).clamp(32, 65535 - 32);
        let bit = bits.code(zero_chance, bit);
        let target = 65535 & (bit as i32 - 1);
        let step = ((target - i32::from(self.zero)) * RATES[usize::from(self.seen)]) >> 15;
        self.zero = (i32::from(self.zero) + step) as u16;
        self.seen = (self.seen + 1).min(Self::SEEN_MAX);
        bit
    }
}

#[cfg(all(test, feature = "diff"))]
mod tests {
    use super::*;

    /// Catches leaving out more zeros at the end than the decoder makes up.
    #[test]
    fn a_long_dull_end_is_decoded() {
        let bits: Vec<u32> = (0..100_000)
            .map(|at| u32::from(at % 7 == 0 && at < 50))
            .collect();
        let mut coder = Encoder::new();
        for bit in &bits {
            coder.bit(65_000, *bit);
        }
        let coded = coder.finish();
        let mut decoder = Decoder::new(&coded);
        assert!(bits.iter().all(|bit| decoder.bit(65_000) == *bit));
        assert!(decoder.used_exactly());
    }
}
