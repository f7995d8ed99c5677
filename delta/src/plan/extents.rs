//! Compressed stretches: those of the old image that are read decoded, and those of the new image
//! that are made plain and encoded at the end.
//!
//! Covers see *logical* images. The logical old image is the old image followed by the decoded
//! bytes of its extents; the logical new image has the decoded bytes in the place of each extent.

use alloc::vec::Vec;

use crate::codec::numbers::Numbers;
use crate::codec::range::Decoder;
use crate::container::Codec;
use crate::plan::Bounds;

/// A stretch of the old image that is read decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OldExtent {
    /// Where it stands in the old image.
    pub(crate) at: u64,
    pub(crate) len: u32,
    /// Where its decoded bytes stand in the logical old image.
    pub(crate) raw_at: u64,
    pub(crate) raw_len: u32,
    pub(crate) codec: Codec,
}

/// A stretch of the logical new image that is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewExtent {
    /// Where it begins, counted from the region's start.
    pub(crate) at: u32,
    pub(crate) raw_len: u32,
    /// How long it is encoded, where its codec asks for that; else 0.
    pub(crate) len: u32,
    pub(crate) codec: Codec,
}

impl NewExtent {
    pub(crate) fn end(self) -> u32 {
        self.at + self.raw_len
    }
}

/// All extents of a region, both in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extents {
    pub(crate) old: Vec<OldExtent>,
    pub(crate) new: Vec<NewExtent>,
}

/// Different codecs in one region.
pub(crate) const CODECS_MAX: u64 = 64;
/// Bytes of memory for one extent.
const EXTENT: u64 = 48;

/// Longer extents of the old image are decoded in pages where that can be.
const WHOLE_MAX: u32 = 512 << 10;
/// Bytes of a page.
pub(crate) const PAGE: u32 = 64 << 10;
/// Packed bytes are read in such pieces.
pub(crate) const INPUT: usize = 16 << 10;
/// So many pages are held at least.
const PAGES_MIN: u64 = 4;

/// Memory of the reader of an extent that is decoded in pages; `None` for one that is held whole.
pub(crate) fn paged_cost(codec: Codec, raw_len: u32) -> Option<u64> {
    let reader = codec.reader_memory(raw_len, PAGE);
    let cost = reader.filter(|_| raw_len > WHOLE_MAX)?;
    Some(cost.saturating_add(INPUT as u64))
}

/// Memory to hold a decoded extent, or the least of its pages, and to decode it.
pub(crate) fn decode_cost(codec: Codec, len: u32, raw_len: u32) -> u64 {
    match paged_cost(codec, raw_len) {
        Some(reader) => reader.saturating_add(PAGES_MIN * u64::from(PAGE)),
        None => codec
            .decode_memory(raw_len)
            .saturating_add(u64::from(raw_len))
            .saturating_add(u64::from(len)),
    }
}

/// Memory to encode an extent, its buffers included.
pub(crate) fn encode_cost(codec: Codec, raw_len: u32) -> u64 {
    codec.encode_memory(raw_len)
}

impl Extents {
    /// Bytes of memory they take.
    pub(crate) fn memory(&self) -> u64 {
        (self.old.len() + self.new.len()) as u64 * EXTENT
    }

    /// Length of the logical old image.
    pub(crate) fn logical_len(&self, old_len: u64) -> u64 {
        self.old
            .last()
            .map_or(old_len, |last| last.raw_at + u64::from(last.raw_len))
    }

    /// Writes the lists, by the steps that read them.
    #[cfg(feature = "diff")]
    pub(crate) fn write(&self, bits: &mut impl crate::codec::range::Bits) {
        let mut numbers = Numbers::new(10);
        let mut codecs: Vec<Codec> = self
            .old
            .iter()
            .map(|e| e.codec)
            .chain(self.new.iter().map(|e| e.codec))
            .collect();
        codecs.sort_unstable();
        codecs.dedup();
        let index = |codec| {
            codecs
                .binary_search(&codec)
                .expect("it was collected above") as u64
        };
        numbers.code(bits, 0, codecs.len() as u64);
        for codec in &codecs {
            numbers.code(bits, 1, codec.to_number());
        }
        numbers.code(bits, 0, self.old.len() as u64);
        let mut end = 0;
        for extent in &self.old {
            numbers.code(bits, 2, extent.at - end);
            numbers.code(bits, 3, extent.len.into());
            numbers.code(bits, 4, extent.raw_len.into());
            numbers.code(bits, 5, index(extent.codec));
            end = extent.at + u64::from(extent.len);
        }
        numbers.code(bits, 0, self.new.len() as u64);
        let mut end = 0;
        for extent in &self.new {
            numbers.code(bits, 6, u64::from(extent.at - end));
            numbers.code(bits, 7, extent.raw_len.into());
            numbers.code(bits, 8, index(extent.codec));
            if extent.codec.asks_length() {
                numbers.code(bits, 9, extent.len.into());
            }
            end = extent.end();
        }
    }

    /// Reads the lists of a region of `region_len` bytes; `None` outside of the bounds.
    pub(crate) fn read(bits: &mut Decoder, region_len: u32, bounds: &Bounds) -> Option<Self> {
        let mut numbers = Numbers::new(10);
        let mut codecs = Vec::new();
        let count = numbers.code(bits, 0, 0);
        if count > CODECS_MAX {
            return None;
        }
        for _ in 0..count {
            codecs.push(Codec::from_number(numbers.code(bits, 1, 0))?);
        }
        let codec = |index| {
            usize::try_from(index)
                .ok()
                .and_then(|at| codecs.get(at))
                .copied()
        };
        let room = bounds.limits.tables_max / EXTENT;

        let old_count = numbers.code(bits, 0, 0);
        if old_count > room {
            return None;
        }
        let (mut old, mut end, mut raw_at) = (Vec::new(), 0u64, bounds.old_len);
        for _ in 0..old_count {
            let at = end.checked_add(numbers.code(bits, 2, 0))?;
            let len = u32::try_from(numbers.code(bits, 3, 0)).ok()?;
            let raw_len = u32::try_from(numbers.code(bits, 4, 0)).ok()?;
            let codec = codec(numbers.code(bits, 5, 0))?;
            end = at.checked_add(u64::from(len))?;
            let fits = end <= bounds.old_len
                && raw_len > 0
                && decode_cost(codec, len, raw_len) <= bounds.limits.cache_max
                && !bits.ran_dry();
            if !fits {
                return None;
            }
            old.push(OldExtent {
                at,
                len,
                raw_at,
                raw_len,
                codec,
            });
            raw_at = raw_at.checked_add(u64::from(raw_len))?;
        }

        let new_count = numbers.code(bits, 0, 0);
        if new_count > room - old_count {
            return None;
        }
        let (mut new, mut end) = (Vec::new(), 0u32);
        for _ in 0..new_count {
            let at = end.checked_add(u32::try_from(numbers.code(bits, 6, 0)).ok()?)?;
            let raw_len = u32::try_from(numbers.code(bits, 7, 0)).ok()?;
            let codec = codec(numbers.code(bits, 8, 0))?;
            let len = if codec.asks_length() {
                u32::try_from(numbers.code(bits, 9, 0)).ok()?
            } else {
                0
            };
            end = at.checked_add(raw_len)?;
            let fits = end <= region_len
                && raw_len > 0
                && encode_cost(codec, raw_len) <= bounds.limits.encode_max
                && !bits.ran_dry();
            if !fits {
                return None;
            }
            new.push(NewExtent {
                at,
                raw_len,
                len,
                codec,
            });
        }
        Some(Self { old, new })
    }
}
