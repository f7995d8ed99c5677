//! Numbers under an adaptive model: the count of bits by a tree, the highest bits below it by
//! context, the rest nearly raw.

use alloc::vec;
use alloc::vec::Vec;

use super::range::{Bits, Prob};

/// A number's bit count takes 0..=64.
const CLASSES: usize = 65;
/// Bits below the leading one that have a context of their own.
const MODELLED: u32 = 3;

/// Codes `u64`s that are alike, given a small context.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    classes: Vec<Prob>,
    mantissa: Vec<Prob>,
    tail: Vec<Prob>,
}

impl Numbers {
    /// A model with `contexts` contexts.
    pub(crate) fn new(contexts: usize) -> Self {
        Self {
            classes: vec![Prob::new(); contexts * 128],
            mantissa: vec![Prob::new(); CLASSES << MODELLED],
            tail: vec![Prob::new(); CLASSES * 64],
        }
    }

    /// Codes `number`, or decodes one.
    pub(crate) fn code(&mut self, bits: &mut impl Bits, context: usize, number: u64) -> u64 {
        let class = self.code_class(bits, context, 64 - number.leading_zeros());
        if class <= 1 {
            return u64::from(class);
        }
        let mut result = 1u64;
        for below in (0..class - 1).rev() {
            let bit = (number >> below & 1) as u32;
            let done = class - 2 - below;
            let prob = if done < MODELLED {
                let seen = (result & ((1 << done) - 1)) as usize | 1 << done;
                &mut self.mantissa[(class as usize) << MODELLED | seen]
            } else {
                &mut self.tail[class as usize * 64 + below as usize]
            };
            result = result << 1 | u64::from(prob.code(bits, bit));
        }
        result
    }

    fn code_class(&mut self, bits: &mut impl Bits, context: usize, class: u32) -> u32 {
        let probs = &mut self.classes[context * 128..][..128];
        // Most numbers are short: they take five steps, long ones seven.
        let is_long = probs[0].code(bits, u32::from(class >= 16));
        let levels = if is_long == 0 { 4 } else { 6 };
        let known = class.wrapping_sub(16 * is_long);
        let mut node = 1usize;
        for level in (0..levels).rev() {
            let at = node + 64 * is_long as usize;
            let bit = probs[at].code(bits, known >> level & 1);
            node = node << 1 | bit as usize;
        }
        // A damaged input may name a class above 64; it then reads as 64 bits.
        ((node as u32 & ((1 << levels) - 1)) + 16 * is_long).min(64)
    }
}

/// Folds a signed number so that small ones of either sign stay small.
pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(all(test, feature = "diff"))]
mod tests {
    use super::super::range::{Decoder, Encoder};
    use super::*;

    /// Meant to catch: a count of bits that is told in too few steps, where short and long numbers part.
    #[test]
    fn numbers_of_every_length_come_back() {
        let numbers: Vec<u64> = (0..64)
            .flat_map(|bits| [1u64 << bits, (1 << bits) - 1, u64::MAX >> bits])
            .collect();
        let (mut coder, mut model) = (Encoder::new(), Numbers::new(1));
        for number in &numbers {
            model.code(&mut coder, 0, *number);
        }
        let coded = coder.finish();
        let (mut decoder, mut model) = (Decoder::new(&coded), Numbers::new(1));
        for number in &numbers {
            assert_eq!(model.code(&mut decoder, 0, 0), *number);
        }
        assert!(decoder.used_exactly());
    }
}
