//! LZ4 blocks: after their length, as in the frames of LZ4 (legacy, of Linux kernels, and current),
//! or bare, as in squashfs.
//!
//! The length belongs to the extent, so that the plain bytes of one block follow those of the other
//! in the logical image, as they do in the kernel.

use alloc::vec;
use alloc::vec::Vec;

use lz4::block::{CompressionMode, compress_bound, compress_to_buffer, decompress_to_buffer};

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
}

impl Lz4 {
    /// The same block by all levels, the likely ones first.
    #[cfg(feature = "diff")]
    pub(crate) fn candidates(self) -> impl Iterator<Item = Self> {
        [9, 12, 1, 11, 10, 8, 7, 6, 5, 4, 3]
            .into_iter()
            .map(move |level| Self { level, ..self })
    }

    /// The same block as `other` is made.
    #[cfg(feature = "diff")]
    pub(crate) fn with_level_of(self, other: Self) -> Self {
        Self {
            level: other.level,
            ..self
        }
    }

    #[cfg(feature = "diff")]
    pub(super) fn to_number(self) -> u64 {
        u64::from(self.level) | u64::from(!self.with_length) << 8
    }

    pub(super) fn from_number(number: u64) -> Option<Self> {
        let this = Self {
            level: (number & 255) as u8,
            with_length: number >> 8 & 1 == 0,
        };
        (number >> 9 == 0 && this.level <= 12).then_some(this)
    }

    fn length(self) -> usize {
        if self.with_length { LENGTH } else { 0 }
    }

    pub(super) fn encode(self, raw: &[u8]) -> Option<Vec<u8>> {
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
        let data = encoded.get(self.length()..)?;
        let len = decompress_to_buffer(data, Some(room), &mut raw).ok()?;
        raw.truncate(len);
        Some(raw)
    }
}
