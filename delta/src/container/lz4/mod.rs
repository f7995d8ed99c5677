//! LZ4 blocks: after their length, as in the frames of LZ4 (legacy, of Linux kernels, and current),
//! or bare, as in squashfs, or filling a length, as in erofs ([`filled`]).
//!
//! The length belongs to the extent, so that the plain bytes of one block follow those of the other
//! in the logical image, as they do in the kernel.
//!
//! What levels 3 to 9 write is made here as the plain bytes come, see [`chains`]; the library makes
//! the rest of blocks that are held whole.

mod chains;
pub(crate) mod filled;
mod held;
mod reader;
mod sequence;

use alloc::vec;
use alloc::vec::Vec;

use lz4::block::{CompressionMode, compress_bound, compress_to_buffer, decompress_to_buffer};

use chains::Chains;
pub(crate) use reader::Reader;

/// The legacy frame begins with this; then come blocks, each after its length.
#[cfg(feature = "diff")]
pub(crate) const LEGACY_MAGIC: &[u8; 4] = &[0x02, 0x21, 0x4c, 0x18];
/// A block of the legacy frame decodes to this much; only the last to less.
#[cfg(feature = "diff")]
pub(crate) const LEGACY_BLOCK: usize = 8 << 20;
/// The current frame (LZ4 Frame Format 1.6) begins with this.
#[cfg(feature = "diff")]
pub(crate) const FRAME_MAGIC: &[u8; 4] = &[0x04, 0x22, 0x4d, 0x18];

/// Bytes of a block's length.
const LENGTH: usize = 4;

/// What the bytes of a block depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lz4 {
    /// Level of the high compression encoder, at most 12; below 3 the fast one.
    pub(crate) level: u8,
    /// Whether the block stands after its length.
    pub(crate) with_length: bool,
    /// 0: the library makes it whole. Else it is made as its bytes come, and 2^(16 + this) of them
    /// are held at most.
    pub(crate) reach: u8,
    /// Whether it fills the length of its extent, see [`filled`]. The level is 0 or 1 for the fast
    /// encoder then, as it begins few bytes or many.
    pub(crate) filled: bool,
}

/// The levels that are made as plain bytes come.
const CHAINED: core::ops::RangeInclusive<u8> = 3..=9;
/// No more than a block may have are held.
const REACH_MAX: u8 = 14;

impl Lz4 {
    /// The same block by all levels, the likely ones first.
    #[cfg(feature = "diff")]
    pub(crate) fn candidates(self) -> impl Iterator<Item = Self> {
        [9, 12, 1, 11, 10, 8, 7, 6, 5, 4, 3]
            .into_iter()
            .flat_map(move |level| self.ways(level))
    }

    /// The block at a level, as its bytes come where that can be, and whole.
    #[cfg(feature = "diff")]
    fn ways(self, level: u8) -> impl Iterator<Item = Self> {
        let chained = CHAINED.contains(&level).then_some(REACH_MAX);
        let reaches = chained.into_iter().chain([0]);
        reaches.map(move |reach| Self {
            level,
            reach,
            ..self
        })
    }

    /// The same block as `other` is made.
    #[cfg(feature = "diff")]
    pub(crate) fn with_level_of(self, other: Self) -> impl Iterator<Item = Self> {
        self.ways(other.level)
    }

    /// The same block for a reader, to whom it is all one what made it.
    #[cfg(feature = "diff")]
    pub(super) fn to_read(self) -> Self {
        Self {
            level: 9,
            reach: 0,
            ..self
        }
    }

    #[cfg(feature = "diff")]
    pub(super) fn to_number(self) -> u64 {
        u64::from(self.level)
            | u64::from(!self.with_length) << 8
            | u64::from(self.reach) << 9
            | u64::from(self.filled) << 13
    }

    pub(super) fn from_number(number: u64) -> Option<Self> {
        let this = Self {
            level: (number & 255) as u8,
            with_length: number >> 8 & 1 == 0,
            reach: (number >> 9 & 15) as u8,
            filled: number >> 13 & 1 == 1,
        };
        let is_bare = !this.with_length && this.reach == 0;
        let is_made = this.reach == 0 || this.reach <= REACH_MAX && CHAINED.contains(&this.level);
        let is_known = number >> 14 == 0 && this.level <= 12;
        (is_known && is_made && (is_bare || !this.filled)).then_some(this)
    }

    /// Whether the length of the block has to be known before it is made.
    pub(crate) fn asks_length(self) -> bool {
        self.with_length && self.reach > 0 || self.filled
    }

    pub(super) fn encode_memory(self, raw_len: u64) -> u64 {
        match self.reach {
            _ if self.filled => (512 << 10) + filled::memory(raw_len),
            0 => (512 << 10) + 2 * raw_len + (raw_len >> 7) + 1024,
            reach => Chains::TABLES + (Chains::held_max(reach) as u64).min(raw_len),
        }
    }

    /// Decodes it as its bytes come.
    pub(super) fn reader(self) -> Reader {
        Reader::new(self.with_length)
    }

    fn length(self) -> usize {
        if self.with_length { LENGTH } else { 0 }
    }

    /// The logical bytes of a block that fills its length, and what made it: by what is known of its
    /// neighbours, else by all levels, whichever takes the fewest corrections.
    #[cfg(feature = "diff")]
    pub(crate) fn explain(
        self,
        encoded: &[u8],
        raw_len: usize,
        hint: Option<Self>,
    ) -> Option<(Vec<u8>, Self)> {
        /// More than a quarter of the block is not worth it.
        const SHARE_MAX: usize = 4;
        let plain = self.decode(encoded, raw_len)?;
        let levels: &[u8] = match hint.map(|known| known.level) {
            None => &[9, 1, 0, 12, 11, 10, 8, 7, 6, 5, 4, 3],
            Some(0..=1) => &[1, 0],
            Some(level) => &[level],
        };
        let ways = levels.iter().filter_map(|level| {
            let way = Self {
                level: *level,
                ..self
            };
            Some((filled::explain(way, encoded, &plain)?, way))
        });
        let (logical, way) = ways.min_by_key(|(logical, _)| logical.len())?;
        let corrections = logical.len() - plain.len();
        (corrections <= encoded.len() / SHARE_MAX).then_some((logical, way))
    }

    fn encode(self, raw: &[u8]) -> Option<Vec<u8>> {
        let mode = match self.level {
            0..3 => CompressionMode::DEFAULT,
            level => CompressionMode::HIGHCOMPRESSION(i32::from(level)),
        };
        let before = self.length();
        let mut out = vec![0; before + compress_bound(raw.len()).ok()?];
        let (length, data) = out.split_at_mut(before);
        let len = compress_to_buffer(raw, Some(mode), false, data).ok()?;
        if self.with_length {
            length.copy_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
        }
        out.truncate(before + len);
        Some(out)
    }

    /// Decodes a block of at most `raw_len` bytes.
    pub(crate) fn decode(self, encoded: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let mut raw = vec![0; raw_len];
        let room = i32::try_from(raw_len).ok()?;
        let data = if self.filled {
            filled::block(encoded)?
        } else {
            encoded.get(self.length()..)?
        };
        let len = decompress_to_buffer(data, Some(room), &mut raw).ok()?;
        raw.truncate(len);
        Some(raw)
    }
}

/// Encodes a block.
pub(crate) enum Encoder {
    /// When all of it is there; how long it has to become.
    Whole(Lz4, Vec<u8>, u32),
    /// As it comes: also how long it has to become, and how long it is.
    Chained(alloc::boxed::Box<Chains>, Option<u64>, u64),
}

impl Encoder {
    /// For `raw_len` plain bytes that become `len`, where that is asked for.
    pub(super) fn new(lz4: Lz4, raw_len: u32, len: u32) -> Self {
        if lz4.reach == 0 {
            return Self::Whole(lz4, Vec::with_capacity(raw_len as usize), len);
        }
        let chains = Chains::new(lz4.level, raw_len, Chains::held_max(lz4.reach));
        let wanted = lz4.with_length.then_some(u64::from(len));
        Self::Chained(alloc::boxed::Box::new(chains), wanted, 0)
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Whole(_, raw, _) => raw.extend_from_slice(bytes),
            Self::Chained(chains, wanted, made) => {
                let before = out.len();
                begin(*wanted, *made, out)?;
                chains.push(bytes, out)?;
                *made += (out.len() - before) as u64;
            }
        }
        Some(())
    }

    pub(super) fn finish(self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Whole(lz4, raw, len) if lz4.filled => {
                out.append(&mut filled::encode(lz4, &raw, len as usize)?);
            }
            Self::Whole(lz4, raw, _) => out.append(&mut lz4.encode(&raw)?),
            Self::Chained(chains, wanted, made) => {
                let before = out.len();
                begin(wanted, made, out)?;
                chains.finish(out)?;
                let made = made + (out.len() - before) as u64;
                if wanted.is_some_and(|wanted| wanted != made) {
                    return None;
                }
            }
        }
        Some(())
    }

    /// The codec of this block with just the reach that it took.
    #[cfg(feature = "diff")]
    pub(super) fn settled(&self, lz4: Lz4) -> Lz4 {
        match self {
            Self::Whole(..) => lz4,
            Self::Chained(chains, ..) => Lz4 {
                reach: chains.reach().min(REACH_MAX),
                ..lz4
            },
        }
    }
}

/// Writes the length of a block, before its first byte.
fn begin(wanted: Option<u64>, made: u64, out: &mut Vec<u8>) -> Option<()> {
    if let (Some(wanted), 0) = (wanted, made) {
        let len = wanted.checked_sub(LENGTH as u64)?;
        out.extend_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
    }
    Some(())
}

#[cfg(all(test, feature = "diff"))]
mod tests {
    use super::*;

    /// Text that repeats itself near and far, runs of a byte longer than what is held ahead, noise.
    fn block(seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ seed;
            (state >> 20) % below
        };
        let mut raw: Vec<u8> = Vec::new();
        while raw.len() < 900_000 {
            match next(9) {
                0 => raw.extend((0..next(900)).map(|n| (n * 37) as u8)),
                1 => raw.resize(raw.len() + next(40_000) as usize, next(3) as u8),
                // Far longer than what is held.
                2 if raw.len() > 300_000 => {
                    raw.resize(
                        raw.len() + 250_000 + next(1_500_000) as usize,
                        next(2) as u8,
                    );
                }
                2 => raw.resize(raw.len() + next(60) as usize, 0),
                3 if !raw.is_empty() => {
                    let from = next(raw.len() as u64) as usize;
                    let to = raw.len().min(from + next(3000) as usize);
                    raw.extend_from_within(from..to);
                }
                4..=6 if raw.len() > 100 => {
                    let from = raw.len() - 1 - next(99) as usize;
                    let to = raw.len().min(from + 4 + next(70) as usize);
                    raw.extend_from_within(from..to);
                    raw.push(next(256) as u8);
                }
                _ => {
                    for _ in 0..next(70) {
                        let below = 1 << next(9);
                        raw.push(next(below) as u8);
                    }
                }
            }
        }
        raw
    }

    fn chained(lz4: Lz4, raw: &[u8], len: usize, piece: usize) -> Option<(Vec<u8>, Lz4)> {
        let mut encoder = Encoder::new(lz4, raw.len() as u32, len as u32);
        let mut out = Vec::new();
        for piece in raw.chunks(piece) {
            encoder.push(piece, &mut out)?;
        }
        let settled = encoder.settled(lz4);
        encoder.finish(&mut out)?;
        Some((out, settled))
    }

    /// Catches any choice that differs from the library's, an end that is not that of the block, and
    /// one that depends on the pieces in which bytes come.
    #[test]
    fn what_is_made_as_it_comes_is_what_the_library_makes() {
        for seed in 1..4 {
            let raw = block(seed);
            for level in CHAINED {
                let whole = Lz4 {
                    level,
                    with_length: level % 2 == 0,
                    reach: 0,
                    filled: false,
                };
                let part = &raw[..raw.len() >> (level % 3)];
                let wanted = whole.encode(part).expect("it encodes");
                let chained_as = Lz4 {
                    reach: REACH_MAX,
                    ..whole
                };
                let made = chained(chained_as, part, wanted.len(), 1 << 20);
                let (made, settled) = made.expect("it is made");
                assert!(made == wanted, "level {level}, seed {seed}");
                assert_eq!(Lz4::from_number(settled.to_number()), Some(settled));
                assert!(
                    Chains::held_max(settled.reach) <= 1 << 20,
                    "level {level} holds much"
                );
                let again = chained(settled, part, wanted.len(), 777).map(|(made, _)| made);
                assert!(again == Some(wanted), "level {level} in its reach");
            }
        }
        for len in 0..40 {
            let raw = vec![7; len];
            let whole = Lz4 {
                level: 9,
                with_length: false,
                reach: 0,
                filled: false,
            };
            let wanted = whole.encode(&raw);
            let made = chained(Lz4 { reach: 1, ..whole }, &raw, 0, 3).map(|(made, _)| made);
            assert_eq!(made, wanted, "{len} bytes");
        }
    }

    /// Catches a reader that loses its place between two pieces, or what copies reach back to.
    #[test]
    fn a_block_is_read_in_pieces_and_from_a_mark() {
        let raw = block(5);
        for with_length in [false, true] {
            let lz4 = Lz4 {
                level: 9,
                with_length,
                reach: 0,
                filled: false,
            };
            let encoded = lz4.encode(&raw).expect("it encodes");
            let mut reader = lz4.reader();
            let (mut used, mut read) = (0, Vec::new());
            let mut mark = None;
            for (number, piece) in raw.chunks(10_000).enumerate() {
                reader.begin(piece.len());
                if number == 20 {
                    mark = Some((reader.clone(), used));
                }
                let mut wanted = piece.len();
                while wanted > 0 {
                    let input = &encoded[used..encoded.len().min(used + 333)];
                    used += reader.read(input, &mut wanted).expect("it is a block");
                }
                read.extend_from_slice(reader.last(piece.len()));
            }
            assert!(read == raw && used == encoded.len());
            let (mut reader, used) = mark.expect("it was passed");
            let mut wanted = 10_000;
            reader
                .read(&encoded[used..], &mut wanted)
                .expect("it goes on");
            assert_eq!(reader.last(10_000), &raw[200_000..210_000]);
        }
    }
}
