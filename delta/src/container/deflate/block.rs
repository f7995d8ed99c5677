//! One block: how zlib would code it, and its bits.

use alloc::vec::Vec;

use super::bits::{BitReader, BitWriter};
use super::inflate::{Kind, Lens};
use super::matcher::{Held, Token};
use super::tables::{
    DISTANCES, END, LENGTH_ORDER, LENGTHS, LITERALS, codes, distance, distance_extra,
    fixed_literals, length, literal_extra,
};
use super::trees;

/// The tokens of a block, and how often each symbol occurs in them.
pub(super) struct Block {
    /// A literal has its byte for a length.
    tokens: Vec<Token>,
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    /// Where its bytes begin.
    pub(super) start: u32,
    /// How many bytes it makes.
    pub(super) len: u32,
    pub(super) copies: u32,
}

/// How a block is coded, with its head in bits (kind included, but for the first bit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coding {
    pub(super) kind: Kind,
    /// The head of a dynamic block behind its kind, and its length in bits.
    pub(super) head: (Vec<u8>, usize),
}

/// A run of code lengths, as it is written.
struct Run {
    symbol: usize,
    extra: u32,
    extra_bits: u32,
}

impl Block {
    pub(super) fn new(start: u32) -> Self {
        let mut literals = [0; LITERALS];
        literals[END] = 1;
        Self {
            tokens: Vec::new(),
            literals,
            distances: [0; DISTANCES],
            start,
            len: 0,
            copies: 0,
        }
    }

    /// Takes a token; `byte` is where it stands.
    pub(super) fn push(&mut self, mut token: Token, byte: u8) {
        self.len += u32::from(token.len);
        if token.distance == 0 {
            self.literals[usize::from(byte)] += 1;
            token.len = byte.into();
        } else {
            self.literals[END + 1 + length(token.len).code] += 1;
            self.distances[distance(token.distance).code] += 1;
            self.copies += 1;
        }
        self.tokens.push(token);
    }

    /// How many tokens it has.
    pub(super) fn count(&self) -> usize {
        self.tokens.len()
    }

    /// Whether gzip's guess says that a block of `len` bytes which ends now is small.
    pub(super) fn is_worth_ending(&self, len: u32) -> bool {
        let bits = self
            .distances
            .iter()
            .enumerate()
            .map(|(code, count)| u64::from(*count) * (5 + u64::from(distance_extra(code))));
        let out = (self.tokens.len() as u64 * 8 + bits.sum::<u64>()) >> 3;
        (self.copies as usize) < self.tokens.len() / 2 && out < u64::from(len) / 2
    }

    /// How zlib would code it. A block whose bytes are gone cannot be stored.
    pub(super) fn coding(&self, may_store: bool) -> Coding {
        let literals = trees::lens(&self.literals, 15);
        let distances = trees::lens(&self.distances, 15);
        let runs = [runs(&literals), runs(&distances)];
        let mut counts = [0u32; LENGTHS];
        for run in runs.iter().flatten() {
            counts[run.symbol] += 1;
        }
        let lens = trees::lens(&counts, 7);
        let used = LENGTH_ORDER
            .iter()
            .rposition(|place| lens[*place] > 0)
            .map_or(0, |at| at + 1)
            .max(4);

        let fixed = fixed_literals();
        let mut fixed_lens = [0; LITERALS];
        fixed_lens.copy_from_slice(&fixed[..LITERALS]);
        let head_bits: u64 = runs
            .iter()
            .flatten()
            .map(|run| u64::from(lens[run.symbol]) + u64::from(run.extra_bits))
            .sum::<u64>()
            + 3 * used as u64
            + 14;
        let dynamic = (head_bits + self.bits(&literals, &distances) + 3 + 7) >> 3;
        let fixed = (self.bits(&fixed_lens, &[5; DISTANCES]) + 3 + 7) >> 3;
        let kind = if u64::from(self.len) + 4 <= dynamic.min(fixed) && may_store {
            Kind::Stored
        } else if fixed <= dynamic {
            Kind::Fixed
        } else {
            Kind::Dynamic
        };
        let head = match kind {
            Kind::Dynamic => head(&literals, &distances, &lens, used, &runs),
            _ => (Vec::new(), 0),
        };
        Coding { kind, head }
    }

    fn bits(&self, literals: &[u8; LITERALS], distances: &[u8; DISTANCES]) -> u64 {
        let one =
            |len: u8, extra: u32, count: u32| u64::from(count) * u64::from(u32::from(len) + extra);
        let counts = self.literals.iter().zip(literals).enumerate();
        let literals = counts.map(|(code, (count, len))| one(*len, literal_extra(code), *count));
        let counts = self.distances.iter().zip(distances).enumerate();
        let distances = counts.map(|(code, (count, len))| one(*len, distance_extra(code), *count));
        literals.sum::<u64>() + distances.sum::<u64>()
    }

    /// Writes it; `held` still has its bytes. `None` when the coding cannot express it.
    pub(super) fn write(
        &self,
        coding: &Coding,
        last: bool,
        held: Held,
        out: &mut BitWriter,
    ) -> Option<()> {
        out.put(last.into(), 1);
        let lens = match coding.kind {
            Kind::Stored => {
                out.put(0, 2);
                out.align();
                let len = u32::from(u16::try_from(self.len).ok()?);
                out.put(len | !len << 16, 32);
                let from = self.start.checked_sub(held.start)? as usize;
                out.bytes
                    .extend_from_slice(held.bytes.get(from..from + self.len as usize)?);
                return Some(());
            }
            Kind::Fixed => {
                out.put(1, 2);
                Lens::fixed()
            }
            Kind::Dynamic => {
                out.put(2, 2);
                let (head, bits) = &coding.head;
                let mut reader = BitReader::new(head);
                for _ in 0..bits / 16 {
                    out.put(reader.take(16)?, 16);
                }
                let rest = (bits % 16) as u32;
                out.put(reader.take(rest)?, rest);
                Lens::read(&mut BitReader::new(head))?
            }
        };
        self.write_tokens(&lens, out)
    }

    fn write_tokens(&self, lens: &Lens, out: &mut BitWriter) -> Option<()> {
        let literals = codes(&lens.literals);
        let distances = codes(&lens.distances);
        let put = |out: &mut BitWriter, code: u16, len: u8| {
            out.put(code.into(), len.into());
            (len > 0).then_some(())
        };
        for token in &self.tokens {
            if token.distance == 0 {
                let byte = usize::from(token.len);
                put(out, literals[byte], lens.literals[byte])?;
                continue;
            }
            let coded = length(token.len);
            let symbol = END + 1 + coded.code;
            put(out, literals[symbol], lens.literals[symbol])?;
            out.put(coded.extra, coded.extra_bits);
            let coded = distance(token.distance);
            put(out, distances[coded.code], lens.distances[coded.code])?;
            out.put(coded.extra, coded.extra_bits);
        }
        put(out, literals[END], lens.literals[END])
    }
}

/// Code lengths, up to the last that is used, as runs.
fn runs(lens: &[u8]) -> Vec<Run> {
    let used = lens.iter().rposition(|len| *len > 0).map_or(0, |at| at + 1);
    let mut runs = Vec::new();
    let (mut at, mut before) = (0, None);
    while at < used {
        let len = lens[at];
        let same = lens[at..used]
            .iter()
            .take_while(|other| **other == len)
            .count();
        let mut left = same;
        while left > 0 {
            let (symbol, times, extra_bits, least) = match (len, before) {
                (0, _) if left >= 11 => (18, left.min(138), 7, 11),
                (0, _) if left >= 3 => (17, left.min(10), 3, 3),
                (1.., Some(before)) if before == len && left >= 3 => (16, left.min(6), 2, 3),
                _ => (usize::from(len), 1, 0, 1),
            };
            runs.push(Run {
                symbol,
                extra: (times - least) as u32,
                extra_bits,
            });
            before = Some(len);
            left -= times;
        }
        at += same;
    }
    runs
}

/// The head of a dynamic block.
fn head(
    literals: &[u8; LITERALS],
    distances: &[u8; DISTANCES],
    lens: &[u8; LENGTHS],
    used: usize,
    runs: &[Vec<Run>; 2],
) -> (Vec<u8>, usize) {
    let count = |lens: &[u8]| lens.iter().rposition(|len| *len > 0).map_or(0, |at| at + 1) as u32;
    let mut out = BitWriter::default();
    out.put(count(literals) - (END as u32 + 1), 5);
    out.put(count(distances) - 1, 5);
    out.put(used as u32 - 4, 4);
    let mut bits = 14 + 3 * used;
    for place in &LENGTH_ORDER[..used] {
        out.put(lens[*place].into(), 3);
    }
    let codes = codes(lens);
    for run in runs.iter().flatten() {
        out.put(codes[run.symbol].into(), lens[run.symbol].into());
        out.put(run.extra, run.extra_bits);
        bits += usize::from(lens[run.symbol]) + run.extra_bits as usize;
    }
    out.align();
    (out.bytes, bits)
}
