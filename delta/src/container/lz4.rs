//! LZ4 blocks, as they stand in the legacy frame of Linux kernels: each after its length.
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

/// Bytes of a block's length.
const LENGTH: usize = 4;

/// What the bytes of a block depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lz4 {
    /// Level of the high compression encoder; below 3 the fast one.
    pub(crate) level: u8,
}

impl Lz4 {
    /// All levels, the likely ones first.
    #[cfg(feature = "diff")]
    pub(crate) fn candidates() -> impl Iterator<Item = Self> {
        [9, 12, 1, 11, 10, 8, 7, 6, 5, 4, 3]
            .into_iter()
            .map(|level| Self { level })
    }

    pub(super) fn encode(self, raw: &[u8]) -> Option<Vec<u8>> {
        let mode = match self.level {
            0..3 => CompressionMode::DEFAULT,
            level => CompressionMode::HIGHCOMPRESSION(i32::from(level)),
        };
        let mut out = vec![0; LENGTH + compress_bound(raw.len()).ok()?];
        let (length, data) = out.split_at_mut(LENGTH);
        let len = compress_to_buffer(raw, Some(mode), false, data).ok()?;
        length.copy_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
        out.truncate(LENGTH + len);
        Some(out)
    }
}

/// Decodes a block, after its length, of at most `raw_len` bytes.
pub(crate) fn decode(encoded: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    let mut raw = vec![0; raw_len];
    let room = i32::try_from(raw_len).ok()?;
    let len = decompress_to_buffer(encoded.get(LENGTH..)?, Some(room), &mut raw).ok()?;
    raw.truncate(len);
    Some(raw)
}
