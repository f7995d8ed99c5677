//! Reading deflate (RFC 1951): the plain bytes, and for the signer how they were written.

use alloc::vec::Vec;

use super::bits::BitReader;
use super::tables::{
    CODE_LEN_MAX, DISTANCES, Decoder, END, LENGTH_ORDER, LENGTHS, distance_of, fixed_literals,
    length_of,
};

/// What a stream is made of, in order.
pub(super) trait Visitor {
    /// A block begins; its head is `head.1` bits long and begins at bit `head.0`.
    fn block(&mut self, kind: Kind, last: bool, head: (usize, usize));
    /// One literal.
    fn literal(&mut self);
    /// A copy.
    fn copy(&mut self, len: u16, distance: u16);
    /// So many bytes as they are.
    fn stored(&mut self, len: usize);
}

/// How a block is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Stored,
    Fixed,
    Dynamic,
}

/// For whoever wants the plain bytes alone.
pub(super) struct Plain;

impl Visitor for Plain {
    fn block(&mut self, _: Kind, _: bool, _: (usize, usize)) {}
    fn literal(&mut self) {}
    fn copy(&mut self, _: u16, _: u16) {}
    fn stored(&mut self, _: usize) {}
}

/// Code lengths of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lens {
    pub(super) literals: [u8; 288],
    pub(super) distances: [u8; 32],
}

impl Lens {
    /// Those of a block with fixed codes.
    pub(super) fn fixed() -> Self {
        Self {
            literals: fixed_literals(),
            distances: [5; 32],
        }
    }

    /// Reads the head of a dynamic block, after its kind.
    pub(super) fn read(bits: &mut BitReader) -> Option<Self> {
        let literals = bits.take(5)? as usize + END + 1;
        let distances = bits.take(5)? as usize + 1;
        let count = bits.take(4)? as usize + 4;
        if literals > END + 30 || distances > DISTANCES {
            return None;
        }
        let mut lens = [0; LENGTHS];
        for place in &LENGTH_ORDER[..count] {
            lens[*place] = bits.take(3)? as u8;
        }
        let decoder = Decoder::new(&lens)?;
        let mut all = [0u8; 288 + 32];
        let mut at = 0;
        let total = literals + distances;
        while at < total {
            let (value, times) = match decoder.read(bits)? {
                16 => (*all.get(at.checked_sub(1)?)?, 3 + bits.take(2)?),
                17 => (0, 3 + bits.take(3)?),
                18 => (0, 11 + bits.take(7)?),
                len => (u8::try_from(len).ok()?, 1),
            };
            let end = at + times as usize;
            if end > total {
                return None;
            }
            all[at..end].fill(value);
            at = end;
        }
        let mut this = Self {
            literals: [0; 288],
            distances: [0; 32],
        };
        this.literals[..literals].copy_from_slice(&all[..literals]);
        this.distances[..distances].copy_from_slice(&all[literals..total]);
        (this.literals[END] > 0).then_some(this)
    }
}

/// Reads one stream to its end, at most `raw_max` plain bytes; the plain bytes and the length of the
/// stream in bytes. `None` when it is damaged or longer.
pub(super) fn inflate(
    encoded: &[u8],
    raw_max: usize,
    visitor: &mut impl Visitor,
) -> Option<(Vec<u8>, usize)> {
    let mut bits = BitReader::new(encoded);
    let mut out = Vec::new();
    loop {
        let start = bits.position();
        let last = bits.take(1)? == 1;
        let kind = match bits.take(2)? {
            0 => Kind::Stored,
            1 => Kind::Fixed,
            2 => Kind::Dynamic,
            _ => return None,
        };
        let lens = match kind {
            Kind::Stored => {
                stored(&mut bits, &mut out, raw_max, (start, last), visitor)?;
                None
            }
            Kind::Fixed => Some(Lens::fixed()),
            Kind::Dynamic => Some(Lens::read(&mut bits)?),
        };
        if let Some(lens) = lens {
            visitor.block(kind, last, (start, bits.position() - start));
            coded(&mut bits, &lens, &mut out, raw_max, visitor)?;
        }
        if last {
            bits.align()?;
            return Some((out, bits.position() / 8));
        }
    }
}

fn stored(
    bits: &mut BitReader,
    out: &mut Vec<u8>,
    raw_max: usize,
    (start, last): (usize, bool),
    visitor: &mut impl Visitor,
) -> Option<()> {
    bits.align()?;
    let (len, not) = (bits.take(16)?, bits.take(16)?);
    if len != !not & 0xffff || len as usize > raw_max - out.len() {
        return None;
    }
    visitor.block(Kind::Stored, last, (start, bits.position() - start));
    visitor.stored(len as usize);
    out.extend_from_slice(bits.bytes(len as usize)?);
    Some(())
}

/// The symbols of a block.
fn coded(
    bits: &mut BitReader,
    lens: &Lens,
    out: &mut Vec<u8>,
    raw_max: usize,
    visitor: &mut impl Visitor,
) -> Option<()> {
    const { assert!(CODE_LEN_MAX + 13 <= 32) };
    let literals = Decoder::new(&lens.literals)?;
    let distances = Decoder::new(&lens.distances)?;
    loop {
        let symbol = literals.read(bits)?;
        let Some(at) = symbol.checked_sub(END + 1) else {
            if symbol == END {
                return Some(());
            }
            if out.len() >= raw_max {
                return None;
            }
            out.push(symbol as u8);
            visitor.literal();
            continue;
        };
        let (base, extra) = length_of(at)?;
        let len = usize::from(base) + bits.take(extra)? as usize;
        let (base, extra) = distance_of(distances.read(bits)?)?;
        let distance = usize::from(base) + bits.take(extra)? as usize;
        let from = out.len().checked_sub(distance)?;
        if len > raw_max - out.len() {
            return None;
        }
        if distance >= len {
            out.extend_from_within(from..from + len);
        } else {
            for at in from..from + len {
                out.push(out[at]);
            }
        }
        visitor.copy(len as u16, distance as u16);
    }
}
