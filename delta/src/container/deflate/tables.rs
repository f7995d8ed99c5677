//! The codes of deflate (RFC 1951, 3.2): lengths, distances, and prefix codes.

use super::bits::BitReader;

/// Literals, the end of a block, and lengths.
pub(super) const LITERALS: usize = 286;
/// Distances.
pub(super) const DISTANCES: usize = 30;
/// Codes that code lengths are written in.
pub(super) const LENGTHS: usize = 19;
/// The end of a block.
pub(super) const END: usize = 256;
/// Longest code.
pub(super) const CODE_LEN_MAX: usize = 15;

const LENGTH_EXTRA: [u8; 29] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const DISTANCE_EXTRA: [u8; DISTANCES] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];
/// The order in which lengths of the length codes stand.
pub(super) const LENGTH_ORDER: [usize; LENGTHS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

const LENGTH_BASE: [u16; 29] = {
    let (mut base, mut at, mut next) = ([0; 29], 0, 3);
    while at < 28 {
        base[at] = next;
        next += 1 << LENGTH_EXTRA[at];
        at += 1;
    }
    base[28] = 258;
    base
};
const DISTANCE_BASE: [u16; DISTANCES] = {
    let (mut base, mut at, mut next) = ([0; DISTANCES], 0, 1);
    while at < DISTANCES {
        base[at] = next as u16;
        next += 1u32 << DISTANCE_EXTRA[at];
        at += 1;
    }
    base
};

/// A code with the bits that follow it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coded {
    pub(super) code: usize,
    pub(super) extra: u32,
    pub(super) extra_bits: u32,
}

/// The code of a length, 3 to 258, counted from [`END`] + 1.
pub(super) fn length(len: u16) -> Coded {
    let code = LENGTH_BASE.partition_point(|base| *base <= len) - 1;
    Coded {
        code,
        extra: u32::from(len - LENGTH_BASE[code]),
        extra_bits: u32::from(LENGTH_EXTRA[code]),
    }
}

/// The code of a distance, 1 to 32768.
pub(super) fn distance(distance: u16) -> Coded {
    let code = DISTANCE_BASE.partition_point(|base| *base <= distance) - 1;
    Coded {
        code,
        extra: u32::from(distance - DISTANCE_BASE[code]),
        extra_bits: u32::from(DISTANCE_EXTRA[code]),
    }
}

/// Bits that follow a literal or length code.
pub(super) fn literal_extra(code: usize) -> u32 {
    match code.checked_sub(END + 1) {
        Some(at) => u32::from(LENGTH_EXTRA[at]),
        None => 0,
    }
}

/// Bits that follow a distance code.
pub(super) fn distance_extra(code: usize) -> u32 {
    u32::from(DISTANCE_EXTRA[code])
}

/// Base and extra bits of the length code `at` after [`END`].
pub(super) fn length_of(at: usize) -> Option<(u16, u32)> {
    Some((*LENGTH_BASE.get(at)?, u32::from(LENGTH_EXTRA[at])))
}

/// Base and extra bits of a distance code.
pub(super) fn distance_of(code: usize) -> Option<(u16, u32)> {
    Some((*DISTANCE_BASE.get(code)?, u32::from(DISTANCE_EXTRA[code])))
}

/// Lengths of the fixed codes for literals.
pub(super) fn fixed_literals() -> [u8; 288] {
    core::array::from_fn(|symbol| match symbol {
        144..256 => 9,
        256..280 => 7,
        _ => 8,
    })
}

/// Codes by their lengths, each turned so that its first bit is the lowest.
pub(super) fn codes<const N: usize>(lens: &[u8; N]) -> [u16; N] {
    let mut count = [0u16; CODE_LEN_MAX + 1];
    for len in lens.iter().filter(|len| **len > 0) {
        count[usize::from(*len)] += 1;
    }
    let (mut next, mut code) = ([0u16; CODE_LEN_MAX + 1], 0u16);
    for len in 1..=CODE_LEN_MAX {
        code = code.wrapping_add(count[len - 1]) << 1;
        next[len] = code;
    }
    let mut out = [0; N];
    for (symbol, len) in lens.iter().enumerate().filter(|(_, len)| **len > 0) {
        let code = &mut next[usize::from(*len)];
        out[symbol] = code.reverse_bits() >> (16 - u32::from(*len));
        *code = code.wrapping_add(1);
    }
    out
}

/// Bits that are looked up at once.
const FAST: u32 = 10;

/// Reads symbols by their codes.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Symbol and length by the next [`FAST`] bits; length 0 when the code is longer.
    fast: [(u16, u8); 1 << FAST],
    /// Symbols in order of their codes.
    symbols: [u16; 288],
    count: [u16; CODE_LEN_MAX + 1],
}

impl Decoder {
    /// A reader of the code with these lengths; `None` when more codes are used than there are, or
    /// when some are missing, but for a code of one symbol or none.
    pub(super) fn new(lens: &[u8]) -> Option<Self> {
        let mut count = [0u16; CODE_LEN_MAX + 1];
        for len in lens {
            count[usize::from(*len)] += 1;
        }
        count[0] = 0;
        let mut left = 1i32;
        for count in &count[1..] {
            left = (left << 1) - i32::from(*count);
            if left < 0 {
                return None;
            }
        }
        let used: u16 = count.iter().sum();
        if left > 0 && used > 1 {
            return None;
        }
        let mut place = [0u16; CODE_LEN_MAX + 2];
        for len in 1..=CODE_LEN_MAX {
            place[len + 1] = place[len] + count[len];
        }
        let mut this = Self {
            fast: [(0, 0); 1 << FAST],
            symbols: [0; 288],
            count,
        };
        let (mut code, mut first) = (0u32, [0u32; CODE_LEN_MAX + 1]);
        for len in 1..=CODE_LEN_MAX {
            code = (code + u32::from(if len > 1 { count[len - 1] } else { 0 })) << 1;
            first[len] = code;
        }
        for (symbol, len) in lens.iter().enumerate().filter(|(_, len)| **len > 0) {
            let len = usize::from(*len);
            this.symbols[usize::from(place[len])] = symbol as u16;
            place[len] += 1;
            if len as u32 <= FAST {
                let turned = first[len].reverse_bits() >> (32 - len);
                let mut at = turned as usize;
                while at < 1 << FAST {
                    this.fast[at] = (symbol as u16, len as u8);
                    at += 1 << len;
                }
            }
            first[len] += 1;
        }
        Some(this)
    }

    /// The next symbol.
    pub(super) fn read(&self, bits: &mut BitReader) -> Option<usize> {
        let next = bits.peek(CODE_LEN_MAX as u32);
        let (symbol, len) = self.fast[(next & ((1 << FAST) - 1)) as usize];
        if len > 0 {
            bits.skip(u32::from(len))?;
            return Some(usize::from(symbol));
        }
        let (mut code, mut first, mut place) = (0u32, 0u32, 0u32);
        for len in 1..=CODE_LEN_MAX {
            code |= next >> (len - 1) & 1;
            let count = u32::from(self.count[len]);
            if code < first + count {
                bits.skip(len as u32)?;
                return Some(usize::from(self.symbols[(place + code - first) as usize]));
            }
            place += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}
